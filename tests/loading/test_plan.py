"""The memory plan against sizes that were counted or published elsewhere, and against what loaded models hold."""

import json
import math
import re
import shutil
from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, FluxTransformer2DModel
from diffusers.models.attention_dispatch import attention_backend
from measures import held_bytes

from x2i_app import load_pipeline
from x2i_app.cli import main
from x2i_app.encoders import load_encoder
from x2i_app.errors import InvalidRequestError, UnknownPresetError
from x2i_app.loading.memory import choose_placement, parts_of
from x2i_app.loading.plan import GIB, OVERHEAD, TEXT_TOKENS, Planner, card_bytes
from x2i_app.loading.quantization import quantize, scratch_bytes, stored_bytes
from x2i_app.loading.report import plan_memory, show_plan, show_plans
from x2i_app.loading.sizes import FusedAttention, LiveBytes, build_skeleton, skeleton_of
from x2i_app.models import LightControl, controlled
from x2i_app.presets import MEMORY_PROFILES, PRESETS
from x2i_app.settings import ASSETS

# Numbers of weights without a head, from the hub or the headers of the released files.
PARAMETERS = {
    "qwen2.5-vl-3b": 3_754_622_976,
    "qwen2.5-vl-7b": 7_747_169_280,
    "internvl2.5-1b": 802_293_120,
    "internvl2.5-4b": 3_402_009_600,
    "minicpm-o-2.6": 7_864_225_184,
    "qwen2.5-omni-3b": 4_703_464_448 - 151_936 * 2048,
}
FLUX_PARAMETERS = {"shuttle-3-diffusion": 11_891_178_560, "flux.1-dev": 11_901_408_320}
VAE_PARAMETERS = 83_819_683


@pytest.fixture(scope="module")
def planners():
    """One planner for each preset, which keeps its results."""
    made = {}

    def planner(preset):
        if preset not in made:
            made[preset] = Planner(build_skeleton(preset))
        return made[preset]

    return planner


def near(gib, tolerance=0.03):
    return pytest.approx(gib * GIB, rel=tolerance)


@pytest.mark.parametrize("preset", PRESETS)
def test_released_sizes(preset):
    parts = build_skeleton(preset)
    counts = {name: sum(p.numel() for p in module.parameters()) for name, module in parts.present.items()}
    if preset in PARAMETERS:
        assert counts["mllm"] == PARAMETERS[preset]
    if preset != "x2i-tiny":
        assert counts["transformer"] == FLUX_PARAMETERS["shuttle-3-diffusion"]
        assert counts["vae"] == VAE_PARAMETERS
    for name, module in parts.present.items():
        numbers = counts[name] + sum(buffer.numel() for buffer in module.buffers())
        assert stored_bytes(module) == pytest.approx(2 * numbers, rel=0.03)
        assert not any(parameter.device.type != "meta" for parameter in module.parameters())


# GiB that were counted on the meta device, independently of this code.
@pytest.mark.parametrize(
    ("preset", "part", "precision", "gib"),
    [
        ("qwen2.5-vl-7b", "mllm", "nf4", 4.48),
        ("qwen2.5-vl-3b", "mllm", "nf4", 2.24),
        ("internvl2.5-1b", "mllm", "nf4", 0.58),
        ("internvl2.5-4b", "mllm", "nf4", 2.07),
        ("qwen2.5-vl-7b", "transformer", "nf4", 5.72),
        ("qwen2.5-vl-7b", "transformer", "int8", 11.1),
    ],
)
def test_quantized_bytes(planners, preset, part, precision, gib):
    assert stored_bytes(getattr(planners(preset).parts, part), precision) == near(gib)


@pytest.mark.parametrize(
    ("preset", "profile", "offload", "gib"),
    [
        ("qwen2.5-vl-7b", "16gb", "none", 10.97),
        ("qwen2.5-vl-3b", "12gb", "none", 8.72),
        ("qwen2.5-vl-7b", "8gb", "model", 6.27),
    ],
)
def test_peaks(planners, preset, profile, offload, gib):
    assert max(planners(preset).plan(MEMORY_PROFILES[profile], offload).peaks.values()) == near(gib)


def test_group_offload(planners):
    """Block by block, two blocks of FLUX are on the card at a time, beside AlignNet (0.064) and the VAE (0.156)."""
    plan = planners("qwen2.5-vl-7b").plan(MEMORY_PROFILES["full"], "group")
    assert plan.peaks["denoise"] == near(1.85 + 0.064 + 0.156)


def test_flux_forward(planners):
    """One forward pass of FLUX at 1024 x 1024 takes the memory that was published: 22.64 GB in bf16, 6.72 in NF4."""
    planner = planners("qwen2.5-vl-7b")
    flux = planner.parts.transformer
    whole = planner.plan(MEMORY_PROFILES["8gb"], "model").peaks["denoise"]
    work = whole - stored_bytes(flux, "nf4") - scratch_bytes(flux, "nf4") - stored_bytes(planner.parts.vae)
    assert work == near(0.457)
    assert stored_bytes(flux) + work == near(22.64, 0.05)
    # Published without double quantization, with one float32 scale for 64 weights instead of about 8 bits.
    linear = [m.weight.numel() for m in flux.modules() if isinstance(m, torch.nn.Linear)]
    assert whole + sum(linear) / 64 * (4 - 1 - 4 / 256) == near(6.72, 0.05)


def test_light_control(planners, tmp_path):
    """A LightControl stays on the card and counts with its stems and residuals."""
    without = planners("qwen2.5-vl-7b")
    published = build_skeleton("x2i-tiny", light_control="owner/name/control.bin").light_control
    planner = Planner(without.parts._replace(light_control=published))
    planner._found |= {key: found for key, found in without._found.items() if key != "denoise"}
    profile = MEMORY_PROFILES["8gb"]
    bare, plan = without.plan(profile, "model"), planner.plan(profile, "model")
    (part,) = (part for part in plan.parts if part.name == "light_control")
    assert (part.parameters, part.bytes) == (125_266_240, near(0.233))
    assert len(plan.parts) == len(bare.parts) + 1
    assert plan.peaks["encode"] - bare.peaks["encode"] == plan.peaks["decode"] - bare.peaks["decode"] == part.bytes
    # 19 stems of 128 channels at half the image's sides, 19 times 4096 tokens of 3072 numbers, in 16 bit.
    kept = 19 * 2 * (128 * 512 * 512 + 4096 * 3072)
    assert plan.peaks["denoise"] - bare.peaks["denoise"] == part.bytes + kept
    assert plan.waiting == bare.waiting
    assert planner.choose("8gb", card_bytes(profile)).offload == "group"
    LightControl(num_blocks=2, dim=24, widths=[6, 8, 16], time_embed_dim=6).save_pretrained(tmp_path)
    assert build_skeleton("x2i-tiny", light_control=tmp_path).light_control.config.dim == 24
    assert build_skeleton("x2i-tiny").light_control.config.dim == 192
    assert build_skeleton("x2i-tiny", flux=ASSETS / "x2i-tiny").light_control is None


def test_vae_tiles(planners):
    planner = planners("qwen2.5-vl-7b")
    assert planner._decoding(1024) == near(1.50)
    assert planner._decoding(512) == near(0.381)


@pytest.mark.parametrize(("size", "control"), [(64, False), (160, False), (160, True)])
def test_denoising_on_cpu(size, control, image):
    """The planned bytes are those of all tensors alive at once when the same modules run on a CPU."""
    torch.manual_seed(0)
    parts = build_skeleton("x2i-tiny", dtype=torch.float32)
    planner = Planner(parts if control else parts._replace(light_control=None), size, size)
    flux = FluxTransformer2DModel.from_config(planner.parts.transformer.config).eval()
    config, tokens = flux.config, (size // 2 // planner._shrink) ** 2
    net = LightControl.from_config(parts.light_control.config).eval()
    block = controlled(flux, FlowMatchEulerDiscreteScheduler(), net, image) if control else nullcontext()
    side = torch.arange(size // 2 // planner._shrink)
    ids = torch.stack([torch.zeros(tokens), *(each.flatten() for each in torch.meshgrid(side, side, indexing="ij"))], 1)
    # The plan counts the usual attention; diffusers keeps the backend that a training job chose for the whole process.
    with torch.no_grad(), attention_backend("native"), LiveBytes([flux, net]) as live, block:
        flux(
            hidden_states=torch.randn(1, tokens, config.in_channels),
            timestep=torch.ones(1),
            pooled_projections=torch.randn(1, config.pooled_projection_dim),
            encoder_hidden_states=torch.randn(1, TEXT_TOKENS, config.joint_attention_dim),
            txt_ids=torch.zeros(TEXT_TOKENS, 3),
            img_ids=ids,
        )
    assert planner._denoising() == pytest.approx(live.peak, rel=0.03)


def test_live_bytes():
    with LiveBytes([]) as live:
        first = torch.ones(1024)
        view = first[10:]
        assert (live.now, live.peak) == (4096, 4096)
        del first
        assert live.now == 4096  # the view holds it
        del view
        assert (live.now, live.peak) == (0, 4096)


def test_fused_attention():
    """Attention counts as its output alone, and has a backward pass."""
    query = torch.empty(1, 2, 1000, 8, device="meta", requires_grad=True)
    with FusedAttention(), LiveBytes([]) as live:
        output = torch.nn.functional.scaled_dot_product_attention(query, key=query, value=query)
    assert output.shape == query.shape
    assert live.peak == output.nbytes
    output.sum().backward()
    assert query.grad.shape == query.shape


@pytest.mark.parametrize("precision", ["nf4", "int8"])
def test_loaded_bytes(precision):
    parts = parts_of(load_pipeline("x2i-tiny", profile="cpu"))
    skeleton = skeleton_of(parts)
    for name in ("mllm", "transformer"):
        planned = stored_bytes(getattr(skeleton, name), precision)
        quantize(getattr(parts, name), precision, torch.device("cpu"))
        assert held_bytes(getattr(parts, name)) == pytest.approx(planned, rel=0.03)
        assert planned < 0.5 * stored_bytes(getattr(skeleton, name))


@pytest.mark.parametrize(
    ("preset", "gib", "profile", "offload"),
    [
        ("qwen2.5-vl-7b", 80, "full", "none"),
        ("qwen2.5-vl-7b", 22.5, "24gb", "none"),
        ("qwen2.5-vl-7b", 15, "16gb", "none"),
        ("qwen2.5-vl-7b", 11.4, "8gb", "model"),
        ("qwen2.5-vl-3b", 11.4, "16gb", "none"),
        ("qwen2.5-vl-3b", 7.6, "8gb", "model"),
        ("qwen2.5-vl-3b", 5.5, "8gb", "group"),
        ("x2i-tiny", 2, "full", "none"),
    ],
)
def test_auto(planners, preset, gib, profile, offload):
    plan = planners(preset).choose("auto", round(gib * GIB))
    assert (plan.profile, plan.offload, plan.fits) == (profile, offload, True)


def test_auto_without_a_fit(planners):
    plan = planners("qwen2.5-vl-7b").choose("auto", GIB)
    assert (plan.profile, plan.offload, plan.fits) == ("8gb", "group", False)


@pytest.mark.parametrize("preset", ["qwen2.5-vl-3b", "qwen2.5-vl-7b"])
@pytest.mark.parametrize("name", [name for name, profile in MEMORY_PROFILES.items() if profile.card])
def test_profile_fits_card(planners, preset, name):
    plan = planners(preset).choose(name, card_bytes(MEMORY_PROFILES[name]))
    assert plan.fits
    assert plan.needed == max(plan.peaks.values()) + OVERHEAD
    expected = {"8gb": "model", "12gb": "model" if preset == "qwen2.5-vl-7b" else "none"}.get(name, "none")
    assert plan.offload == expected


def test_profile_on_larger_card(planners):
    """A profile takes no more than its kind of card has, on whatever card it runs."""
    planner = planners("qwen2.5-vl-7b")
    placement = choose_placement("12gb", torch.device("cuda"), lambda: planner, 40 * GIB)
    assert (placement.profile.name, placement.offload) == ("12gb", "model")
    placement = choose_placement("16gb", torch.device("cuda"), lambda: planner, 40 * GIB)
    assert (placement.profile.name, placement.offload) == ("16gb", "none")


def test_own_parts(qwen_vl_directory):
    given = {"mllm": qwen_vl_directory, "flux": ASSETS / "x2i-tiny", "width": 256, "height": 128}
    (plan,) = plan_memory("custom:qwen2.5-vl", ["8gb"], **given)
    parts = {part.name: part.parameters for part in plan.parts}
    assert parts["mllm"] == sum(p.numel() for p in load_encoder("qwen2.5-vl", qwen_vl_directory).model.parameters())
    assert parts["transformer"] == 5_158_720
    assert (plan.width, plan.height) == (256, 128)


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"preset": "nothing"}, UnknownPresetError, "no preset called 'nothing'"),
        ({"preset": "qwen2.5-vl-3b", "flux": "somebody/else"}, InvalidRequestError, "flux is 'somebody/else'"),
        ({"preset": "custom:qwen2.5-vl", "flux": "flux.1-dev"}, InvalidRequestError, "came without mllm"),
        ({"preset": "x2i-tiny", "width": 100}, InvalidRequestError, "width is 100"),
        ({"preset": "x2i-tiny", "gib": math.nan}, InvalidRequestError, "gib is nan"),
    ],
)
def test_bad_arguments(given, error, message):
    with pytest.raises(error, match=message):
        plan_memory(given.pop("preset"), ["8gb"], **given)


def test_command(capsys):
    """`plan` prints aligned tables, or JSON."""
    assert main(["plan", "--profile", "16gb"]) == 0
    printed = capsys.readouterr().out
    assert re.match(
        r"Fits: needs 0\.8\d GiB, and [\d.]+ GiB are available\.\n\nProfile 16gb at 128 x 128: all parts stay", printed
    )
    assert re.search(r"\| transformer +\|  *5,158,720 \| 4 bit +\| +[2-4]\.\d \|\n", printed)
    tables = [block.splitlines() for block in printed.split("\n\n")[2:]]
    assert [len(rows) for rows in tables] == [2 + 3, 2 + 5]
    assert all(len({len(row) for row in rows}) == 1 for rows in tables)  # aligned
    assert main(["plan", "--profile", "16gb", "--gib", "0.5", "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert (plan["profile"], plan["offload"], plan["fits"]) == ("16gb", "group", False)
    assert plan["advice"].startswith("no profile needs less than 8gb with 0.8 GiB; choose a smaller image")
    assert plan["needed"] == max(plan["peaks"].values()) + plan["overhead"]


def test_command_auto(capsys):
    """`plan` without a profile plans what `load_pipeline` does on this machine."""
    assert main(["plan", "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    placement = load_pipeline("x2i-tiny").placement
    assert (plan["profile"], plan["offload"]) == (placement.profile.name, placement.offload)
    assert (plan["where"] == "computer") == ("load" in plan["peaks"]) == (placement.device.type == "cpu")


def test_advice(planners):
    """A plan that does not fit says first what would fit."""
    planner = planners("qwen2.5-vl-7b")
    plan = planner.choose("16gb", round(0.5 * GIB))
    assert show_plan(replace(plan, advice=planner.advise(plan))).startswith(
        "Does not fit: needs 5.82 GiB, and 0.50 GiB are available. Advice: no profile needs less than 8gb with 5.8 GiB;"
    )
    plan = planner.choose("24gb", 16 * GIB)
    assert planner.advise(plan) == "take the profile 16gb, which needs 11.8 GiB"
    plans = [planner.choose(name, 8 * GIB) for name in MEMORY_PROFILES if name != "cpu"]
    assert show_plans(plans).startswith("The best profile for 8.00 GiB is 16gb, which needs 7.24 GiB.\n\n| profile")


def test_single_file(tmp_path):
    """A single file of FLUX is planned like its folder."""
    weights = ASSETS / "x2i-tiny/transformer/diffusion_pytorch_model.safetensors"
    file = shutil.copy(weights, tmp_path / "tuned.safetensors")
    (plan,) = plan_memory("x2i-tiny", ["8gb"], flux=file)
    assert {part.name: part.parameters for part in plan.parts}["transformer"] == 5_158_720
    assert plan.parts[1:] == plan_memory("x2i-tiny", ["8gb"], flux=ASSETS / "x2i-tiny")[0].parts[1:]


def test_docs(capsys):
    """docs/MODELS.md shows exactly what its command prints."""
    page = (ASSETS.parent / "docs/MODELS.md").read_text(encoding="utf-8")
    command = "plan --preset qwen2.5-vl-7b --all"
    assert f"-m x2i_app {command}\n" in page
    assert main(command.split()) == 0
    assert capsys.readouterr().out in page
