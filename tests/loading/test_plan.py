"""The memory plan against sizes that others counted or published, and against what loaded models really hold."""

import json
import math

import pytest
import torch
from diffusers import FluxTransformer2DModel

from x2i_app import load_pipeline
from x2i_app.cli import main
from x2i_app.encoders import load_encoder
from x2i_app.errors import InvalidRequestError, UnknownPresetError
from x2i_app.loading.footprint import FusedAttention, LiveBytes
from x2i_app.loading.memory import parts_of
from x2i_app.loading.plan import GIB, OVERHEAD, TEXT_TOKENS, Planner, card_bytes
from x2i_app.loading.quantization import held_bytes, quantize, scratch_bytes, stored_bytes
from x2i_app.loading.report import plan_memory
from x2i_app.loading.skeletons import build_skeleton, skeleton_of
from x2i_app.presets import MEMORY_PROFILES, PRESETS
from x2i_app.settings import ASSETS

# Weights without a head, as the hub or the released files' headers count them.
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
    """One planner a preset, so that nothing is run twice."""
    made = {}

    def planner(preset):
        if preset not in made:
            made[preset] = Planner(build_skeleton(preset))
        return made[preset]

    return planner


def near(gib, tolerance=0.03):
    return pytest.approx(gib * GIB, rel=tolerance)


@pytest.mark.parametrize("preset", PRESETS)
def test_parts_have_the_released_sizes_and_bytes(preset):
    parts = build_skeleton(preset)
    counts = {name: sum(p.numel() for p in module.parameters()) for name, module in parts._asdict().items()}
    if preset in PARAMETERS:
        assert counts["mllm"] == PARAMETERS[preset]
    if preset != "x2i-tiny":
        assert counts["transformer"] == FLUX_PARAMETERS["shuttle-3-diffusion"]
        assert counts["vae"] == VAE_PARAMETERS
    for name, module in parts._asdict().items():
        numbers = counts[name] + sum(buffer.numel() for buffer in module.buffers())
        assert stored_bytes(module) == pytest.approx(2 * numbers, rel=0.03)
        assert not any(parameter.device.type != "meta" for parameter in module.parameters())


# GiB as counted for the project on the meta device, independently of this code.
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
def test_quantised_parts_have_the_bytes_that_were_counted(planners, preset, part, precision, gib):
    assert stored_bytes(getattr(planners(preset).parts, part), precision) == near(gib)


@pytest.mark.parametrize(
    ("preset", "profile", "offload", "gib"),
    [
        ("qwen2.5-vl-7b", "16gb", "none", 10.97),
        ("qwen2.5-vl-3b", "12gb", "none", 8.72),
        ("qwen2.5-vl-7b", "8gb", "model", 6.27),
    ],
)
def test_peaks_are_those_that_were_counted(planners, preset, profile, offload, gib):
    assert max(planners(preset).plan(MEMORY_PROFILES[profile], offload).peaks.values()) == near(gib)


def test_one_forward_of_flux_is_what_was_published(planners):
    planner = planners("qwen2.5-vl-7b")
    flux = planner.parts.transformer
    whole = planner.plan(MEMORY_PROFILES["8gb"], "model").peaks["denoise"]
    work = whole - stored_bytes(flux, "nf4") - scratch_bytes(flux, "nf4")
    assert work == near(0.457)
    assert stored_bytes(flux) + work == near(22.64, 0.05)
    # Published without double quantisation: one float32 scale for 64 weights, where we have 8 bits and a little.
    linear = [m.weight.numel() for m in flux.modules() if isinstance(m, torch.nn.Linear)]
    assert whole + sum(linear) / 64 * (4 - 1 - 4 / 256) == near(6.72, 0.05)


def test_a_vae_in_tiles_holds_what_was_counted(planners):
    planner = planners("qwen2.5-vl-7b")
    assert planner._decoding(1024) == near(1.50)
    assert planner._decoding(512) == near(0.381)


@pytest.mark.parametrize("size", [64, 160])
def test_what_the_meta_device_says_is_what_a_cpu_holds(size):
    """The same modules, run for real: the bytes of all tensors that live at once."""
    torch.manual_seed(0)
    planner = Planner(build_skeleton("x2i-tiny", dtype=torch.float32), size, size)
    flux = FluxTransformer2DModel.from_config(planner.parts.transformer.config).eval()
    config, tokens = flux.config, (size // 2 // planner._shrink) ** 2
    with torch.no_grad(), LiveBytes([flux]) as live:
        flux(
            hidden_states=torch.randn(1, tokens, config.in_channels),
            timestep=torch.ones(1),
            pooled_projections=torch.randn(1, config.pooled_projection_dim),
            encoder_hidden_states=torch.randn(1, TEXT_TOKENS, config.joint_attention_dim),
            txt_ids=torch.zeros(TEXT_TOKENS, 3),
            img_ids=torch.zeros(tokens, 3),
        )
    assert planner._denoising() == pytest.approx(live.peak, rel=0.03)


def test_what_is_freed_is_no_longer_counted():
    with LiveBytes([]) as live:
        first = torch.ones(1024)
        view = first[10:]
        assert (live.now, live.peak) == (4096, 4096)
        del first
        assert live.now == 4096  # the view holds it
        del view
        assert (live.now, live.peak) == (0, 4096)


def test_attention_is_counted_without_its_matrix_and_has_a_way_back():
    query = torch.empty(1, 2, 1000, 8, device="meta", requires_grad=True)
    with FusedAttention(), LiveBytes([]) as live:
        output = torch.nn.functional.scaled_dot_product_attention(query, key=query, value=query)
    assert output.shape == query.shape
    assert live.peak == output.nbytes
    output.sum().backward()
    assert query.grad.shape == query.shape


@pytest.mark.parametrize("precision", ["nf4", "int8"])
def test_a_loaded_model_holds_what_was_planned(precision):
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
def test_auto_takes_the_best_that_fits(planners, preset, gib, profile, offload):
    plan = planners(preset).choose("auto", round(gib * GIB))
    assert (plan.profile, plan.offload, plan.fits) == (profile, offload, True)


def test_auto_takes_the_thriftiest_where_nothing_fits_and_says_so(planners):
    plan = planners("qwen2.5-vl-7b").choose("auto", GIB)
    assert (plan.profile, plan.offload, plan.fits) == ("8gb", "group", False)


@pytest.mark.parametrize("preset", ["qwen2.5-vl-3b", "qwen2.5-vl-7b"])
@pytest.mark.parametrize("name", [name for name, profile in MEMORY_PROFILES.items() if profile.card])
def test_every_profile_fits_its_card(planners, preset, name):
    plan = planners(preset).choose(name, card_bytes(MEMORY_PROFILES[name]))
    assert plan.fits
    assert plan.needed == max(plan.peaks.values()) + OVERHEAD
    expected = {"8gb": "model", "12gb": "model" if preset == "qwen2.5-vl-7b" else "none"}.get(name, "none")
    assert plan.offload == expected


def test_parts_of_ones_own_are_read_from_their_folders(qwen_vl_directory):
    given = {"mllm": qwen_vl_directory, "flux": ASSETS / "x2i-tiny", "width": 256, "height": 128}
    (plan,) = plan_memory("custom:qwen2.5-vl", ["8gb"], **given)
    parts = {part.name: part.parameters for part in plan.parts}
    assert parts["mllm"] == sum(p.numel() for p in load_encoder("qwen2.5-vl", qwen_vl_directory).model.parameters())
    assert parts["transformer"] == 5_158_720
    assert (plan.width, plan.height) == (256, 128)


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        ({"preset": "nothing"}, UnknownPresetError, "no preset called 'nothing'"),
        ({"preset": "qwen2.5-vl-3b", "flux": "somebody/else"}, InvalidRequestError, "flux is 'somebody/else'"),
        ({"preset": "custom:qwen2.5-vl", "flux": "flux.1-dev"}, InvalidRequestError, "came without mllm"),
        ({"preset": "x2i-tiny", "width": 100}, InvalidRequestError, "width is 100"),
        ({"preset": "x2i-tiny", "gib": math.nan}, InvalidRequestError, "gib is nan"),
    ],
)
def test_what_cannot_be_planned_is_said(given, error, words):
    with pytest.raises(error, match=words):
        plan_memory(given.pop("preset"), ["8gb"], **given)


def test_the_command_prints_tables_and_json(capsys):
    assert main(["plan", "--profile", "16gb"]) == 0
    table = capsys.readouterr().out
    assert "Profile 16gb at 128 x 128: all parts stay on the card." in table
    assert "| transformer | 5,158,720 | 4 bit | 0.00 |" in table
    assert "| fits | yes |" in table
    assert main(["plan", "--profile", "16gb", "--gib", "0.5", "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert (plan["profile"], plan["offload"], plan["fits"]) == ("16gb", "group", False)
    assert plan["needed"] == max(plan["peaks"].values()) + plan["overhead"]


def test_the_readme_shows_what_its_command_prints(capsys):
    readme = (ASSETS.parent / "README.md").read_text(encoding="utf-8")
    command = "plan --preset qwen2.5-vl-7b --all"
    assert f"-m x2i_app {command}\n" in readme
    assert main(command.split()) == 0
    assert capsys.readouterr().out in readme
