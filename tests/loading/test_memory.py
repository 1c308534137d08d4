"""What each memory profile does, on a CPU: quantized weights, tiles, parts that wait, and which profile is chosen."""

import functools
import sys
from pathlib import Path

import bitsandbytes as bnb
import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, DiffusionPipeline
from PIL import Image

from x2i_app import load_pipeline
from x2i_app.errors import InvalidRequestError
from x2i_app.loading import build, memory, report
from x2i_app.loading.build import load_encoder_and_alignnet
from x2i_app.loading.flux import load_flux
from x2i_app.loading.memory import (
    Placement,
    choose_computer_profile,
    choose_placement,
    memory_use,
    offload,
    place,
    place_part,
    plan_of,
    present_plan,
    tile_vae,
)
from x2i_app.loading.mllm_configs import FLUX_VAE
from x2i_app.loading.plan import CONTEXT, GIB, Planner
from x2i_app.loading.quantization import Linear4bit, Linear8bit
from x2i_app.loading.sizes import build_skeleton
from x2i_app.presets import MEMORY_PROFILES
from x2i_app.settings import ASSETS

CPU = torch.device("cpu")
SMALL = {"width": 64, "height": 64, "num_inference_steps": 2}
KINDS = {"full": torch.nn.Linear, "nf4": Linear4bit, "int8": Linear8bit}


def load(profile="cpu"):
    return load_pipeline("x2i-tiny", profile=profile, device="cpu")


def draw(pipeline, **given):
    given = {"prompt": "a red house on snow", **SMALL} | given
    return np.asarray(pipeline(**given, generator=torch.Generator().manual_seed(0)).images[0]).astype(int)


@pytest.fixture(scope="module")
def drawn():
    return draw(load())


@functools.cache
def tiny_plans():
    return Planner(build_skeleton("x2i-tiny"))


@functools.cache
def full_size_plans():
    return Planner(build_skeleton("qwen2.5-vl-7b", dtype=torch.float32))


def linear_kinds(module, but=()):
    return {type(m) for name, m in module.named_modules() if isinstance(m, torch.nn.Linear) and name not in but}


@pytest.mark.parametrize("name", MEMORY_PROFILES)
def test_profile(name, drawn):
    """Each profile does what it says, and the image is nearly the same."""
    profile = MEMORY_PROFILES[name]
    pipeline = load(name)
    assert (pipeline.placement.profile, pipeline.placement.offload) == (profile, "none")
    image = draw(pipeline)
    assert linear_kinds(pipeline.transformer) == {KINDS[profile.transformer]}
    assert linear_kinds(pipeline.mllm, but=("lm_head",)) == {KINDS[profile.mllm]}
    assert type(pipeline.mllm.lm_head) is torch.nn.Linear
    assert linear_kinds(pipeline.align_net) == {torch.nn.Linear}
    assert pipeline.vae.use_tiling
    assert pipeline.vae.tile_sample_min_size == profile.tile
    difference = np.abs(image - drawn).mean()
    assert difference == 0 if profile.transformer == "full" else 0 < difference < 12


def test_vae_tiles():
    """A 1024 x 1024 image is decoded in 9 tiles of at most 512 x 512."""
    torch.manual_seed(0)
    vae = AutoencoderKL(**FLUX_VAE | {"block_out_channels": (4, 4, 4, 4), "norm_num_groups": 2}).eval()
    tiles = []
    vae.decoder.register_forward_hook(lambda _, args, output: tiles.append(output.shape[-1]))
    tile_vae(vae, 512)
    with torch.no_grad():
        assert vae.decode(torch.randn(1, 16, 128, 128)).sample.shape == (1, 3, 1024, 1024)
    assert len(tiles) == 9
    assert max(tiles) == 512


@pytest.mark.parametrize(("profile", "how"), [("cpu", "model"), ("8gb", "group")])
def test_offload(profile, how):
    """Parts that wait give the same image to the bit, each time. On a CPU nothing moves, but every hook runs."""
    pipeline = load(profile)
    expected = draw(pipeline)
    offload(pipeline, how, CPU)
    assert np.array_equal(draw(pipeline), expected)
    assert np.array_equal(draw(pipeline), expected)
    if how == "group":
        assert pipeline.transformer.transformer_blocks[0]._diffusers_hook.get_hook("group_offloading")
    else:
        assert pipeline._all_hooks


def test_flux_moves_once():
    """A job with several images brings FLUX to the device once, and takes it away at its end."""
    pipeline = load()
    offload(pipeline, "model", CPU)
    conditioning = pipeline.encode(prompt="a red house")
    expected = draw(pipeline, conditioning=conditioning)
    freed, free = [], DiffusionPipeline.maybe_free_model_hooks
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(DiffusionPipeline, "maybe_free_model_hooks", lambda self: freed.append(self) or free(self))
        draw(pipeline, conditioning=conditioning)
        assert freed.count(pipeline) == 1
        freed.clear()
        with pipeline.kept_parts():
            for _ in range(3):
                assert np.array_equal(draw(pipeline, conditioning=conditioning), expected)
            assert pipeline not in freed
        assert freed.count(pipeline) == 1
    assert not hasattr(pipeline.vae, "_hf_hook")  # decoding sends nothing away


class FakeCards:
    """A device module with two cards, of which the second is used."""

    @staticmethod
    def current_device():
        return 1

    @staticmethod
    def mem_get_info(device):
        return 7 * GIB, 8 * GIB

    @staticmethod
    def memory_reserved(device):
        return 0


def test_device_has_an_index(monkeypatch):
    """Group offload compares devices with their index."""
    monkeypatch.setattr(torch, "get_device_module", lambda device: FakeCards)
    monkeypatch.setattr(build, "_try", lambda device: None)
    assert build._device("cuda") == torch.device("cuda:1")
    assert build._device("cuda:0") == torch.device("cuda:0")
    assert build._device("cpu") == CPU


def test_context_counts_once(monkeypatch):
    """What is free on a card is asked once, and the context that asking makes is not counted twice."""
    monkeypatch.setattr(torch, "get_device_module", lambda device: FakeCards)
    budgets, planner = [], tiny_plans()

    class Plans:
        def choose(self, name, budget):
            budgets.append(budget)
            return planner.choose(name, budget)

    choose_placement("auto", torch.device("cuda:1"), Plans)
    assert budgets == [7 * GIB + CONTEXT]


@pytest.mark.parametrize(("how", "moves"), [("none", ["cpu"]), ("model", ["cpu", "cpu"])])
def test_four_bit_weights_stay(monkeypatch, how, moves):
    """A 4-bit weight goes to the device to be quantized; it only comes back if its part is to wait elsewhere."""
    layer, went = torch.nn.Sequential(torch.nn.Linear(64, 64)), []
    move = bnb.nn.Params4bit.to

    def moved(self, *args, **given):
        went.append(str(args[0]))
        return move(self, *args, **given)

    monkeypatch.setattr(bnb.nn.Params4bit, "to", moved)
    monkeypatch.setattr(layer, "to", lambda device: None)
    place_part(layer, "nf4", Placement(MEMORY_PROFILES["8gb"], CPU, how))
    assert went == moves


@pytest.mark.parametrize("how", ["model", "group"])
def test_offloaded_mllm(how):
    """The MLLM is brought to the device whole, before any part of it runs.

    An encoder calls parts, such as the vision tower, that have no hook of their own.
    """
    pipeline = load()
    offload(pipeline, how, CPU)
    events, hook = [], pipeline.mllm._hf_hook
    fetch = hook.pre_forward
    hook.pre_forward = lambda *args, **kwargs: events.append("fetch") or fetch(*args, **kwargs)
    for module in list(pipeline.mllm.modules())[1:]:
        module.register_forward_pre_hook(lambda *_: events.append("run"))
    pipeline.encode(prompt="make it red", images=[Image.new("RGB", (64, 64))])
    assert events[0] == "fetch"
    assert "run" in events


@pytest.mark.parametrize("how", ["model", "group"])
def test_head_moves(how):
    """A head that is put on the MLLM for its first answer moves with it."""
    pipeline = load()
    expected = draw(load())
    offload(pipeline, how, CPU)
    base = pipeline.mllm
    assert np.array_equal(draw(pipeline), expected)
    assert pipeline.mllm is not base
    assert pipeline.mllm.model is base
    assert pipeline.align_net._hf_hook.prev_module_hook.model is pipeline.mllm
    assert not hasattr(base, "_hf_hook")
    assert np.array_equal(draw(pipeline), expected)


@pytest.mark.parametrize(
    ("name", "free", "profile", "how"),
    [
        ("auto", 40, "full", "none"),
        ("auto", 0.95, "16gb", "none"),
        ("16gb", 15, "16gb", "none"),
        ("8gb", 40, "8gb", "model"),
    ],
)
def test_card_profile(name, free, profile, how):
    placement = choose_placement(name, torch.device("cuda"), tiny_plans, round(free * GIB))
    assert (placement.profile.name, placement.offload) == (profile, how)


def test_card_too_small():
    with pytest.raises(InvalidRequestError, match=r"'24gb', which needs 1\.\d GiB, and 0\.5 GiB are free on cuda; "):
        choose_placement("24gb", torch.device("cuda"), tiny_plans, GIB // 2)


@pytest.mark.parametrize(
    ("name", "free", "profile"), [("auto", 90, "cpu"), ("auto", 60, "8gb"), ("8gb", 60, "8gb"), ("cpu", 90, "cpu")]
)
def test_computer_profile(name, free, profile):
    """Qwen2.5-VL-7B and FLUX have files of 37 GiB: twice as much in 32 bit, or 44 beside a 4-bit MLLM of 4.5 GiB."""
    assert choose_computer_profile(name, full_size_plans, 37 * GIB, free * GIB) == profile
    plan = full_size_plans().choose_for_computer(name, free * GIB)
    assert (plan.profile, plan.where, plan.offload) == (profile, "computer", "none")
    assert max(plan.peaks.values()) >= plan.peaks["load"] > 37 * GIB


def test_computer_too_small():
    said = r"'cpu', for which loading takes 73\.\d GiB .* 60\.0 are free; take the profile 8gb, which needs 4[89]\.\d, "
    with pytest.raises(InvalidRequestError, match=said):
        choose_computer_profile("cpu", full_size_plans, 37 * GIB, 60 * GIB)
    with pytest.raises(InvalidRequestError, match=r"'auto', for which loading takes 4[89]\.\d GiB .* are free; close"):
        choose_computer_profile("auto", full_size_plans, 37 * GIB, 20 * GIB)
    plan = full_size_plans().choose_for_computer("auto", 20 * GIB)
    assert (plan.profile, plan.fits) == ("8gb", False)
    assert choose_computer_profile("auto", None, GIB, 5 * GIB) == "cpu"  # plenty: no plan is made


def test_device_without_quantization():
    with pytest.raises(InvalidRequestError, match="needs a CUDA or XPU card, or a CPU, and device is 'mps'"):
        choose_placement("8gb", torch.device("mps"), tiny_plans)
    assert choose_placement("auto", torch.device("mps"), tiny_plans).profile.name == "full"


def test_loading_order(monkeypatch):
    """The MLLM is quantized before FLUX is read, which bounds the peak; bench_loading measures how much that saves."""
    encoders, kinds = [], []

    def load_first(sources, dtype, fill):
        encoders.append(load_encoder_and_alignnet(sources, dtype, fill))
        return encoders[0]

    def load_second(source, dtype, **how):
        kinds.append(linear_kinds(encoders[0][0].model, but=("lm_head",)))
        return load_flux(source, dtype, **how)

    monkeypatch.setattr(build, "load_encoder_and_alignnet", load_first)
    monkeypatch.setattr(build, "load_flux", load_second)
    load("8gb")
    assert kinds == [{Linear4bit}]


def test_memory_use():
    use = memory_use(CPU)
    block = torch.ones(2**26)  # 256 MiB
    assert memory_use(CPU).own - use.own > 0.9 * block.nbytes
    assert 0 < use.own < use.used < use.total
    assert use.free == use.total - use.used


def test_container_limit(tmp_path, monkeypatch):
    """In a container the smallest limit of its groups counts, of which pages of files are free."""
    (tmp_path / "own").write_text("1:name=systemd:/old\n0::/pod/container\n")
    limits = {"pod": "4294967296", "pod/container": str(2**62), ".": "max"}
    for name, limit in limits.items():
        folder = tmp_path / "cgroup" / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "memory.max").write_text(f"{limit}\n")
        (folder / "memory.current").write_text("2147483648\n")
        (folder / "memory.stat").write_text("anon 1\ninactive_file 536870912\nactive_file 536870912\n")
    found = memory._container_limits(tmp_path / "own", tmp_path / "cgroup")
    assert sorted(found) == [(GIB, 4 * GIB), (GIB, 2**62)]
    assert memory._container_limits(tmp_path / "none", tmp_path / "cgroup") == []
    before = memory_use(CPU)
    monkeypatch.setattr(memory, "_container_limits", lambda: [(GIB, GIB + 1000)])
    assert memory_use(CPU).free == 1000 < before.free


def mapped_files():
    return {row.split()[-1] for row in Path("/proc/self/maps").read_text().splitlines() if row.endswith(".safetensors")}


def test_mapped(monkeypatch, drawn):
    """On a CPU with fast bfloat16, "auto" leaves the weights of a large model in their files and casts none of them."""
    monkeypatch.setattr(memory, "_LEAST_MAPPED", 1)
    monkeypatch.setattr(memory, "has_fast_bfloat16", lambda: True)
    pipeline = load("auto")
    assert pipeline.placement.is_mapped
    assert {pipeline.transformer.dtype, pipeline.mllm.dtype, pipeline.vae.dtype} == {torch.bfloat16}
    if sys.platform == "linux":
        tiny = ASSETS / "x2i-tiny"
        wanted = {tiny / "transformer/diffusion_pytorch_model.safetensors", tiny / "mllm/model.safetensors"}
        assert set(map(str, wanted)) <= mapped_files()
    assert 0 < np.abs(draw(pipeline) - drawn).mean() < 12
    plan = present_plan(pipeline, 128, 128)
    weights = {part.name: part.bytes for part in plan.parts}
    assert plan.mapped == weights["mllm"] + weights["transformer"] > plan.peaks["load"]
    assert max(plan.peaks.values()) < plan.mapped
    assert not load("8gb").placement.is_mapped


@pytest.mark.parametrize(
    ("changes", "is_mapped"),
    [
        ({}, True),
        ({"has_fast_bfloat16": lambda: False}, False),
    ],
    ids=["large", "no fast bfloat16"],
)
def test_mapped_plan(monkeypatch, changes, is_mapped):
    """The plan makes the same choice: 16 bit from the files needs only what runs, 32 bit all of it."""
    for name, value in ({"has_fast_bfloat16": lambda: True} | changes).items():
        monkeypatch.setattr(memory, name, value)
        if name == "has_fast_bfloat16":
            monkeypatch.setattr(report, name, value)
    (plan,) = report.plan_memory("qwen2.5-vl-3b", ["cpu"], width=512, height=512)
    assert (plan.mapped > 0) == is_mapped
    if is_mapped:
        assert 28 * GIB < plan.mapped < 30 * GIB
        assert plan.needed < 3 * GIB
        assert "of weights stay in their files, mapped" in report.show_plan(plan)
        assert "32 bit" not in report.show_plan(plan)
        monkeypatch.setattr(report, "memory_use", lambda _: memory.MemoryUse(0, 0, GIB))
        (tight,) = report.plan_memory("qwen2.5-vl-3b", ["cpu"], width=512, height=512)
        assert not tight.fits
        assert tight.advice == "choose a smaller image, or close other programs"
    else:
        assert plan.needed > 50 * GIB


def test_auto_on_cpu():
    """ "auto" on a CPU keeps the weights as they are; the plan of a placed pipeline is computed once."""
    pipeline = load()
    placement = choose_placement("auto", CPU, lambda: plan_of(pipeline))
    place(pipeline, placement)
    assert placement.profile.name == "cpu"
    plan = present_plan(pipeline, 64, 64)
    assert (plan.profile, plan.offload, plan.width) == ("cpu", "none", 64)
    assert present_plan(pipeline, 64, 64) is plan
    assert present_plan(pipeline, 128, 64).width == 128
