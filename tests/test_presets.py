"""The registry: the facts of the release, pinned and frozen, and AlignNets of exactly the released shapes."""

import dataclasses
import json
import re
from pathlib import Path

import pytest
import torch

from x2i_app.errors import UnknownPresetError
from x2i_app.models import AlignNet
from x2i_app.presets import FAMILIES, FLUX_MODELS, PRESETS, get_family, get_preset, presets_that_take
from x2i_app.specs import MODALITIES, EncodingSpec

# Names and shapes of every weight of the released files.
SHAPES = json.loads((Path(__file__).parent / "fixtures" / "alignnet_shapes.json").read_text(encoding="utf-8"))

# MLLM, L, H, kind of fusion, and the names of the released file, that of X2I's ComfyUI nodes first.
COMFYUI = "qwen2.5-vl"
RELEASED = {
    "internvl2.5-1b": ("OpenGVLab/InternVL2_5-1B", 25, 896, "scale", ("X2I-InternVL2.5-1B.bin",)),
    "internvl2.5-4b": ("OpenGVLab/InternVL2_5-4B", 37, 2048, "conv", ("X2I-InternVL2.5-4B.bin",)),
    "qwen2.5-vl-3b": (
        "Qwen/Qwen2.5-VL-3B-Instruct",
        37,
        2048,
        "conv",
        ("qwen2.5-vl-3b_proj.pt", "X2I-Qwen2.5VL-3B.bin"),
    ),
    "qwen2.5-vl-7b": (
        "Qwen/Qwen2.5-VL-7B-Instruct",
        29,
        3584,
        "conv",
        ("qwen2.5-vl-7b_proj.pt", "X2I-Qwen2.5VL-7B.bin"),
    ),
    "minicpm-o-2.6": ("openbmb/MiniCPM-o-2_6", 29, 3584, "conv", ("X2I-MiniCPM2-o-2.6.bin",)),
}

# What the reference gives each family; a family may take more if its MLLM can.
MODALITIES_OF_REFERENCE = {
    "qwen2.5-vl": {"text", "image", "video"},
    "internvl2.5": {"text", "image"},
    "minicpm-o": {"text", "image", "video", "audio"},
    "qwen2.5-omni": {"text", "image", "video", "audio"},
}

COMMIT = re.compile(r"[0-9a-f]{40}")


@pytest.mark.parametrize("name", RELEASED)
def test_released_presets(name):
    preset = get_preset(name)
    spec = preset.align_net
    mllm = preset.mllm
    assert (mllm.repo_id, mllm.num_states, mllm.hidden_size, spec.fusion, spec.filenames) == RELEASED[name]
    assert (spec.repo_id, spec.kernel_size, spec.joint_dim, spec.pooled_dim) == ("OPPOer/X2I", 5, 4096, 768)
    assert preset.directory is None


def test_released_alignnets():
    """Every released AlignNet has a preset, and no other preset claims one."""
    assert {name for name, preset in PRESETS.items() if preset.align_net.repo_id} == set(RELEASED) == set(SHAPES)


@pytest.mark.parametrize("name", SHAPES)
def test_alignnet_shapes(name):
    preset = get_preset(name)
    spec = preset.align_net
    with torch.device("meta"):
        align_net = AlignNet(
            preset.mllm.num_states,
            preset.mllm.hidden_size,
            fusion=spec.fusion,
            kernel_size=spec.kernel_size,
            joint_dim=spec.joint_dim,
            pooled_dim=spec.pooled_dim,
        )
    assert {key: list(value.shape) for key, value in align_net.state_dict().items()} == SHAPES[name]


@pytest.mark.parametrize("preset", PRESETS.values(), ids=PRESETS)
def test_references(preset):
    assert preset.flux in FLUX_MODELS
    assert get_family(preset.mllm.family) is FAMILIES[preset.mllm.family]


@pytest.mark.parametrize("registry", [PRESETS, FLUX_MODELS], ids=["presets", "flux"])
def test_names(registry):
    assert [spec.name for spec in registry.values()] == list(registry)


@pytest.mark.parametrize("preset", PRESETS.values(), ids=PRESETS)
def test_mllm_revision(preset):
    if preset.directory:
        assert preset.mllm.revision == "bundled"
    else:
        assert COMMIT.fullmatch(preset.mllm.revision)


@pytest.mark.parametrize("flux", FLUX_MODELS.values(), ids=FLUX_MODELS)
def test_flux_revision(flux):
    bundled = {preset.flux for preset in PRESETS.values() if preset.directory}
    if flux.name in bundled:
        assert flux.revision is None
    elif flux.name == "shuttle-3-diffusion":
        assert flux.revision == "refs/pr/1"  # which has the diffusers layout
    elif flux.name == "flux.1-krea-dev":
        assert flux.revision is None  # its commits are not known
    else:
        assert COMMIT.fullmatch(flux.revision)


def test_flux_models():
    facts = {
        name: (flux.repo_id, flux.num_inference_steps, flux.guidance_scale, flux.resolution, flux.guidance_embeds)
        for name, flux in FLUX_MODELS.items()
        if name != "x2i-tiny"
    }
    assert facts == {
        "shuttle-3-diffusion": ("shuttleai/shuttle-3-diffusion", 4, 3.5, 1024, False),
        "flux.1-schnell": ("black-forest-labs/FLUX.1-schnell", 4, 3.5, 1024, False),
        "flux.1-dev": ("black-forest-labs/FLUX.1-dev", 28, 3.5, 1024, True),
        "flux.1-krea-dev": ("black-forest-labs/FLUX.1-Krea-dev", 28, 4.5, 1024, True),
        "flux.1-kontext-dev": ("black-forest-labs/FLUX.1-Kontext-dev", 28, 2.5, 1024, True),
        "flux.1-fill-dev": ("black-forest-labs/FLUX.1-Fill-dev", 50, 30.0, 1024, True),
    }
    assert {preset.flux for preset in PRESETS.values() if not preset.directory} == {"shuttle-3-diffusion"}


def test_families():
    assert set(FAMILIES) == set(MODALITIES_OF_REFERENCE) | {"qwen3-vl", "qwen3-omni", "internvl3"}
    assert all(taken <= set(FAMILIES[name].modalities) for name, taken in MODALITIES_OF_REFERENCE.items())
    assert {name: spec.template for name, spec in FAMILIES.items() if spec.template != "plain"} == {
        "internvl2.5": "short-instruction"
    }
    assert {name for name, spec in FAMILIES.items() if spec.padding == "padded"} == {"qwen2.5-vl", "internvl2.5"}
    assert {spec.pad_length for spec in FAMILIES.values()} == {512}


def test_audio_rates():
    rates = {"minicpm-o": 16_000, "qwen2.5-omni": 16_000, "qwen3-omni": 16_000}
    assert {name: spec.audio_rate for name, spec in FAMILIES.items() if spec.audio_rate} == rates
    assert {name for name, spec in FAMILIES.items() if "audio" in spec.modalities} == set(rates)


def test_x2i_tiny():
    preset = get_preset("x2i-tiny")
    assert set(preset.encoding.modalities) == set(MODALITIES)
    assert (preset.directory, preset.encoding.states) == ("x2i-tiny", "answer")


@pytest.mark.parametrize("modality", MODALITIES)
def test_presets_that_take(modality):
    assert presets_that_take(modality) == [
        name for name, preset in PRESETS.items() if modality in FAMILIES[preset.mllm.family].modalities
    ]


def test_presets_in_order():
    assert presets_that_take("audio") == ["x2i-tiny", "minicpm-o-2.6", "qwen2.5-omni-3b", "qwen2.5-omni-7b"]


def _parts():
    for preset in PRESETS.values():
        yield from (preset, preset.mllm, preset.align_net, preset.encoding, FLUX_MODELS[preset.flux])


def test_frozen():
    for part in _parts():
        for fact in dataclasses.fields(part):
            with pytest.raises(dataclasses.FrozenInstanceError):
                setattr(part, fact.name, None)


def test_hashable():
    """Everything can be hashed, so that nothing inside can change either."""
    assert len({hash(part) for part in _parts()}) > len(PRESETS)


@pytest.mark.parametrize("name", [*FAMILIES, *PRESETS])
def test_encoding_as_json(name):
    encoding = FAMILIES[name] if name in FAMILIES else get_preset(name).encoding
    stored = json.dumps(dataclasses.asdict(encoding))
    assert EncodingSpec.from_dict(json.loads(stored)) == encoding


def test_unknown_field():
    with pytest.raises(TypeError, match="loudness"):
        EncodingSpec.from_dict({"modalities": ["text"], "loudness": 3})


@pytest.mark.parametrize(
    ("look_up", "registry"),
    [(get_preset, PRESETS), (get_family, FAMILIES)],
    ids=["preset", "family"],
)
@pytest.mark.parametrize(
    "name", ["gpt-9", "", "X2I-TINY", None, 3, [], {}, "a\nb", "x" * 100_000], ids=lambda name: f"{str(name)[:9]!r}"
)
def test_unknown_name(look_up, registry, name):
    """The error lists the known names, in one short line."""
    with pytest.raises(UnknownPresetError) as caught:
        look_up(name)
    message = str(caught.value)
    assert all(known in message for known in registry)
    assert message.isprintable()
    assert message.endswith(".")
    assert len(message) < 400
