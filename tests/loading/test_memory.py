"""What memory profiles do, step by step, for real on a CPU: smaller weights, tiles, parts that wait."""

import functools
from types import SimpleNamespace

import bitsandbytes as bnb
import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL

from x2i_app import load_pipeline
from x2i_app.encoders import load_encoder
from x2i_app.errors import InvalidRequestError
from x2i_app.loading import build
from x2i_app.loading.build import load_reader
from x2i_app.loading.flux import load_flux
from x2i_app.loading.four_bit import Linear4bit
from x2i_app.loading.memory import apply_profile, choose_for_computer, choose_placement, memory_use, offload, tile_vae
from x2i_app.loading.plan import GIB, Planner
from x2i_app.loading.quantization import held_bytes, let_statistics_follow, quantize
from x2i_app.loading.released import FLUX_VAE
from x2i_app.loading.skeletons import build_skeleton
from x2i_app.presets import MEMORY_PROFILES

CPU = torch.device("cpu")
SMALL = {"width": 64, "height": 64, "num_inference_steps": 2}
KINDS = {"full": torch.nn.Linear, "nf4": Linear4bit, "int8": bnb.nn.Linear8bitLt}


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
def test_each_profile_is_done_and_draws_nearly_the_same(name, drawn):
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
    apart = np.abs(image - drawn).mean()
    assert apart == 0 if profile.transformer == "full" else 0 < apart < 12


@pytest.mark.parametrize(("precision", "likeness"), [("nf4", 0.9), ("int8", 0.99)])
def test_a_quantised_mllm_says_nearly_the_same_on_a_cpu(qwen_vl_directory, image, precision, likeness):
    encoder = load_encoder("qwen2.5-vl", qwen_vl_directory, dtype=torch.float32)
    given = {"prompt": "a red house", "images": [image]}
    before, size = encoder.encode(**given).hidden_states, held_bytes(encoder.model)
    quantize(encoder.model, precision, CPU)
    after = encoder.encode(**given).hidden_states
    assert held_bytes(encoder.model) < 0.65 * size
    assert linear_kinds(encoder.model) == {KINDS[precision]}
    likenesses = torch.cosine_similarity(before[:, 1:], after[:, 1:], dim=-1)
    assert likeness < likenesses.mean() < 1
    assert type(encoder.model.get_input_embeddings()) is torch.nn.Embedding
    assert encoder.encode(prompt="a red house", reason=True).answer is not None


@pytest.mark.parametrize("width", [64, 96, 48, 33, 3420])  # of Qwen2.5-VL's vision tower the last one
def test_4_bit_means_the_same_for_rows_that_are_no_whole_number_of_blocks(width):
    torch.manual_seed(0)
    layer = torch.nn.Sequential(torch.nn.Linear(width, 20))
    given, expected = torch.eye(width), layer[0].weight.T + layer[0].bias
    quantize(layer, "nf4", CPU)
    given.requires_grad_()
    found = layer(given)
    assert 0.08 < (found - expected).norm() / (expected - layer[0].bias).norm() < 0.1  # what NF4 costs uniform numbers
    found.sum().backward()
    torch.testing.assert_close(given.grad[0], (found - layer[0].bias).sum(dim=1))  # the rows of the same weights


def test_4_bit_stays_the_same_whoever_asks_for_its_state_dict():
    layer = torch.nn.Sequential(torch.nn.Linear(256, 96)).eval()
    quantize(layer, "nf4", CPU)
    before = {name: value.clone() for name, value in layer.state_dict().items()}
    given = torch.randn(8, 256)
    found = layer(given)  # where the CPU has AVX512-BF16, the weight is another way round from now on
    after = layer.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert torch.equal(layer(given), found)


@pytest.mark.parametrize(("precision", "error"), [("nf4", 0.13), ("int8", 0.01)])
def test_a_quantised_layer_is_as_exact_as_its_bits(precision, error):
    torch.manual_seed(0)
    layer = torch.nn.Sequential(torch.nn.Linear(256, 96), torch.nn.GELU(), torch.nn.Linear(96, 64, bias=False))
    given = torch.randn(8, 256)
    expected = layer(given)
    quantize(layer, precision, CPU)
    quantize(layer, precision, CPU)  # what is small already stays as it is
    assert 0 < (layer(given) - expected).norm() / expected.norm() < error
    assert layer[2].bias is None
    assert not any(parameter.requires_grad for parameter in layer.parameters())


def test_nf4_scales_are_quantised_too():
    layer = torch.nn.Sequential(torch.nn.Linear(256, 64))
    quantize(layer, "nf4", CPU)
    state = layer[0].weight.quant_state
    assert (state.quant_type, state.nested, state.absmax.dtype) == ("nf4", True, torch.uint8)


def test_scales_go_where_the_input_is():
    layer = torch.nn.Sequential(torch.nn.Linear(64, 32))
    quantize(layer, "nf4", CPU)
    went = []
    state = layer[0].weight.quant_state
    layer[0].weight.quant_state = SimpleNamespace(to=went.append)
    let_statistics_follow(layer)
    with pytest.raises(AttributeError):  # it went there, and is no real one
        layer(torch.ones(1, 64))
    assert went == [CPU]
    assert isinstance(state.absmax, torch.Tensor)


def test_the_vae_is_really_tiled_at_1024():
    torch.manual_seed(0)
    vae = AutoencoderKL(**FLUX_VAE | {"block_out_channels": (4, 4, 4, 4), "norm_num_groups": 2}).eval()
    tiles = []
    vae.decoder.register_forward_hook(lambda _, args, output: tiles.append(output.shape[-1]))
    tile_vae(vae, 512)
    with torch.no_grad():
        assert vae.decode(torch.randn(1, 16, 128, 128)).sample.shape == (1, 3, 1024, 1024)
    assert len(tiles) == 9
    assert max(tiles) == 512


@pytest.mark.parametrize("how", ["model", "group"])
@pytest.mark.parametrize("profile", ["cpu", "8gb"])
def test_parts_that_wait_draw_the_same_to_the_bit(how, profile):
    """On a CPU nothing moves, but every hook is there and runs."""
    pipeline = load(profile)
    expected = draw(pipeline)
    offload(pipeline, how, CPU)
    came, hook = [], pipeline.mllm._hf_hook
    fetch = hook.pre_forward
    hook.pre_forward = lambda *args, **kwargs: came.append(1) or fetch(*args, **kwargs)
    assert np.array_equal(draw(pipeline), expected)
    assert came  # it was called for when it was its turn
    assert np.array_equal(draw(pipeline), expected)
    if how == "group":
        assert pipeline.transformer.transformer_blocks[0]._diffusers_hook.get_hook("group_offloading")
    else:
        assert pipeline._all_hooks


@pytest.mark.parametrize("how", ["model", "group"])
def test_a_head_that_comes_later_moves_with_its_mllm(how):
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
def test_a_card_gets_what_fits_its_free_memory(name, free, profile, how):
    placement = choose_placement(name, torch.device("cuda"), tiny_plans, round(free * GIB))
    assert (placement.profile.name, placement.offload) == (profile, how)


def test_a_profile_that_does_not_fit_is_refused_in_a_sentence():
    with pytest.raises(InvalidRequestError, match=r"'24gb', which needs 1\.\d GiB, and 0\.5 GiB are free on cuda; "):
        choose_placement("24gb", torch.device("cuda"), tiny_plans, GIB // 2)


@pytest.mark.parametrize(
    ("name", "free", "profile"), [("auto", 90, "cpu"), ("auto", 60, "8gb"), ("8gb", 60, "8gb"), ("cpu", 90, "cpu")]
)
def test_a_computer_without_a_card_takes_what_can_be_loaded(name, free, profile):
    """Qwen2.5-VL-7B and FLUX: 37 GiB of files, twice as much in 32 bit; or 44 of FLUX beside 4.5 of a small MLLM."""
    assert choose_for_computer(name, full_size_plans, 37 * GIB, free * GIB) == profile
    plan = full_size_plans().choose_for_computer(name, free * GIB)
    assert (plan.profile, plan.where, plan.offload) == (profile, "computer", "none")
    assert max(plan.peaks.values()) >= plan.peaks["load"] > 37 * GIB


def test_a_computer_with_too_little_memory_refuses_before_it_begins():
    said = r"'cpu', for which loading takes 73\.\d GiB .* 60\.0 are free; take the profile 8gb, which needs 4[89]\.\d, "
    with pytest.raises(InvalidRequestError, match=said):
        choose_for_computer("cpu", full_size_plans, 37 * GIB, 60 * GIB)
    with pytest.raises(InvalidRequestError, match=r"'auto', for which loading takes 4[89]\.\d GiB .* are free; close"):
        choose_for_computer("auto", full_size_plans, 37 * GIB, 20 * GIB)
    plan = full_size_plans().choose_for_computer("auto", 20 * GIB)
    assert (plan.profile, plan.fits) == ("8gb", False)
    assert choose_for_computer("auto", None, GIB, 5 * GIB) == "cpu"  # nobody looks closer where that is plenty


def test_a_device_that_cannot_quantise_says_so():
    with pytest.raises(InvalidRequestError, match="'8gb', which needs a CUDA card or a CPU, and device is 'mps'"):
        choose_placement("8gb", torch.device("mps"), tiny_plans)
    assert choose_placement("auto", torch.device("mps"), tiny_plans).profile.name == "full"


def test_the_mllm_is_small_and_placed_before_flux_is_read(monkeypatch):
    """The order is all that bounds the computer's memory; how much it saves, bench_memory measures."""
    read, seen = [], []

    def read_mllm(sources, dtype):
        read.append(load_reader(sources, dtype))
        return read[0]

    def read_flux(source, dtype):
        seen.append(linear_kinds(read[0][0].model, but=("lm_head",)))
        return load_flux(source, dtype)

    monkeypatch.setattr(build, "load_reader", read_mllm)
    monkeypatch.setattr(build, "load_flux", read_flux)
    load("8gb")
    assert seen == [{Linear4bit}]


def test_memory_in_use_is_the_computers():
    use = memory_use(CPU)
    block = torch.ones(2**26)  # 256 MiB
    assert memory_use(CPU).own - use.own > 0.9 * block.nbytes
    assert 0 < use.own < use.used < use.total
    assert use.free == use.total - use.used


def test_auto_on_a_cpu_leaves_weights_alone():
    assert apply_profile(load(), "auto", CPU).profile.name == "cpu"
