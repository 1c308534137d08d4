"""Frozen facts of every MLLM, AlignNet and FLUX model that X2I knows, each said once.

Layer counts, widths, fusion kinds and file names are the released ones (arXiv 2503.06134, weights at OPPOer/X2I).
An encoder checks `num_layers` and `hidden_size` against the model that it loads, so a preset cannot lie in silence.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from x2i_app.errors import UnknownPresetError

Modality = Literal["text", "image", "video", "audio"]
Fusion = Literal["conv", "scale"]
Padding = Literal["padded", "compact"]
States = Literal["prompt", "answer", "prompt+answer"]
Template = Literal["plain", "instruction"]

MODALITIES: tuple[Modality, ...] = ("text", "image", "video", "audio")


@dataclass(frozen=True)
class MLLMSpec:
    """A multimodal LLM: where it lives and what it must look like."""

    family: str
    repo_id: str
    revision: str
    num_layers: int
    hidden_size: int

    @property
    def num_states(self) -> int:
        """Hidden states a token: one per layer and the embedding output."""
        return self.num_layers + 1


@dataclass(frozen=True)
class AlignNetSpec:
    """A trained AlignNet: where it lives and how it merges the layers. `filename` is None where none is released."""

    repo_id: str | None
    filename: str | None
    fusion: Fusion
    revision: str | None = None
    kernel_size: int = 5
    joint_dim: int = 4096
    pooled_dim: int = 768


@dataclass(frozen=True)
class EncodingSpec:
    """How a conversation is shown to an MLLM and which of its hidden states feed AlignNet.

    image_size: (width, height) every image is squashed to, or None to keep its shape under `max_image_pixels`.
    video_fps: frames sampled a second; max_video_frames caps their number; max_video_pixels caps one frame's area.
    audio_rate: samples a second that the MLLM hears, or None if it cannot hear.
    pad_length: tokens that `padding="padded"` fills up to.
    max_new_tokens: longest answer when the MLLM is asked to reason.
    """

    modalities: tuple[Modality, ...]
    template: Template = "plain"
    padding: Padding = "compact"
    states: States = "prompt"
    pad_length: int = 512
    image_size: tuple[int, int] | None = (128, 128)
    max_image_pixels: int = 224 * 224
    video_fps: float = 1.0
    max_video_frames: int = 32
    max_video_pixels: int = 128 * 128
    audio_rate: int | None = None
    max_new_tokens: int = 128

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "EncodingSpec":
        """From `dataclasses.asdict`, also after a trip through JSON, which knows no tuples."""
        return cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})


@dataclass(frozen=True)
class FluxSpec:
    """A FLUX.1 model: its home, and the settings that suit it."""

    name: str
    repo_id: str
    revision: str | None
    num_inference_steps: int
    guidance_scale: float
    resolution: int
    license: str
    guidance_embeds: bool
    gated: bool = False


@dataclass(frozen=True)
class Preset:
    """One X2I variant: an MLLM, the AlignNet trained for it, how to feed both, and the FLUX model it draws with.

    `directory` is set for a variant that is bundled with the app; its parts are read from that folder of `assets/`.
    `about` tells the user in one line what to expect. An untrained variant draws noise, and the page says so.
    """

    name: str
    mllm: MLLMSpec
    align_net: AlignNetSpec
    encoding: EncodingSpec
    flux: str
    about: str
    directory: str | None = None
    trained: bool = True


# What each family takes and how the reference feeds it (infer/inference_*.py of the public code).
FAMILIES: dict[str, EncodingSpec] = {
    "qwen2.5-vl": EncodingSpec(modalities=("text", "image", "video"), padding="padded"),
    "qwen2.5-omni": EncodingSpec(modalities=MODALITIES, audio_rate=16_000),
    "internvl2.5": EncodingSpec(modalities=("text", "image"), padding="padded", template="instruction"),
    "minicpm-o": EncodingSpec(
        modalities=MODALITIES,
        image_size=None,
        max_image_pixels=448 * 448,
        max_video_frames=32,  # the reference takes 64; the app's cap on untrusted films is lower
        max_video_pixels=448 * 448,
        audio_rate=16_000,
    ),
}

FLUX_MODELS: dict[str, FluxSpec] = {
    spec.name: spec
    for spec in (
        FluxSpec(
            name="shuttle-3-diffusion",
            repo_id="shuttleai/shuttle-3-diffusion",
            revision="refs/pr/1",  # the diffusers layout lives there
            num_inference_steps=4,
            guidance_scale=3.5,
            resolution=1024,
            license="Apache-2.0",
            guidance_embeds=False,
        ),
        FluxSpec(
            name="flux.1-schnell",
            repo_id="black-forest-labs/FLUX.1-schnell",
            revision="741f7c3ce8b383c54771c7003378a50191e9efe9",
            num_inference_steps=4,
            guidance_scale=3.5,
            resolution=1024,
            license="Apache-2.0",
            guidance_embeds=False,
            gated=True,
        ),
        FluxSpec(
            name="flux.1-dev",
            repo_id="black-forest-labs/FLUX.1-dev",
            revision="3de623fc3c33e44ffbe2bad470d0f45bccf2eb21",
            num_inference_steps=28,
            guidance_scale=3.5,
            resolution=1024,
            license="FLUX.1 [dev] Non-Commercial License",
            guidance_embeds=True,
            gated=True,
        ),
        FluxSpec(
            name="x2i-tiny",
            repo_id="x2i-tiny",
            revision=None,
            num_inference_steps=8,
            guidance_scale=3.5,
            resolution=128,
            license="Apache-2.0",
            guidance_embeds=False,
        ),
    )
}

_X2I_WEIGHTS = "OPPOer/X2I"


def _released(filename: str, fusion: Fusion = "conv") -> AlignNetSpec:
    return AlignNetSpec(repo_id=_X2I_WEIGHTS, filename=filename, fusion=fusion)


_NOT_RELEASED = AlignNetSpec(repo_id=None, filename=None, fusion="conv")
_DEFAULT_FLUX = "shuttle-3-diffusion"

PRESETS: dict[str, Preset] = {
    preset.name: preset
    for preset in (
        Preset(
            name="x2i-tiny",
            mllm=MLLMSpec("qwen2.5-omni", "x2i-tiny", "bundled", num_layers=6, hidden_size=192),
            align_net=AlignNetSpec(
                repo_id=None,
                filename="align_net/diffusion_pytorch_model.safetensors",
                fusion="conv",
                joint_dim=128,
                pooled_dim=128,
            ),
            # Its AlignNet is made for the states of the sentence with which the MLLM answers any input.
            encoding=replace(FAMILIES["qwen2.5-omni"], states="answer", max_new_tokens=64, max_video_frames=8),
            flux="x2i-tiny",
            about="A bundled miniature for any CPU; its weights are not trained yet, so the picture is noise.",
            directory="x2i-tiny",
            trained=False,
        ),
        Preset(
            name="qwen2.5-vl-3b",
            mllm=MLLMSpec(
                "qwen2.5-vl",
                "Qwen/Qwen2.5-VL-3B-Instruct",
                "66285546d2b821cf421d4f5eb2576359d3770cd3",
                num_layers=36,
                hidden_size=2048,
            ),
            align_net=_released("X2I-Qwen2.5VL-3B.bin"),
            encoding=FAMILIES["qwen2.5-vl"],
            flux=_DEFAULT_FLUX,
            about="Text, images and video; the lightest Qwen.",
        ),
        Preset(
            name="qwen2.5-vl-7b",
            mllm=MLLMSpec(
                "qwen2.5-vl",
                "Qwen/Qwen2.5-VL-7B-Instruct",
                "cc594898137f460bfe9f0759e9844b3ce807cfb5",
                num_layers=28,
                hidden_size=3584,
            ),
            align_net=_released("X2I-Qwen2.5VL-7B.bin"),
            encoding=FAMILIES["qwen2.5-vl"],
            flux=_DEFAULT_FLUX,
            about="Text, images and video.",
        ),
        Preset(
            name="internvl2.5-1b",
            mllm=MLLMSpec(
                "internvl2.5",
                "OpenGVLab/InternVL2_5-1B",
                "9d423ea1ae9f893897ee3f7493141073f5afcf22",
                num_layers=24,
                hidden_size=896,
            ),
            align_net=_released("X2I-InternVL2.5-1B.bin", fusion="scale"),
            encoding=FAMILIES["internvl2.5"],
            flux=_DEFAULT_FLUX,
            about="Text and images; the smallest of the released variants.",
        ),
        Preset(
            name="internvl2.5-4b",
            mllm=MLLMSpec(
                "internvl2.5",
                "OpenGVLab/InternVL2_5-4B",
                "2cf4a8158bbc40d35015e7c63b527890de4d27b3",
                num_layers=36,
                hidden_size=2048,
            ),
            align_net=_released("X2I-InternVL2.5-4B.bin"),
            encoding=FAMILIES["internvl2.5"],
            flux=_DEFAULT_FLUX,
            about="Text and images.",
        ),
        Preset(
            name="minicpm-o-2.6",
            mllm=MLLMSpec(
                "minicpm-o",
                "openbmb/MiniCPM-o-2_6",
                "509805e84db1c84f154034d71a21c4f2331e6e11",
                num_layers=28,
                hidden_size=3584,
            ),
            align_net=_released("X2I-MiniCPM2-o-2.6.bin"),
            encoding=FAMILIES["minicpm-o"],
            flux=_DEFAULT_FLUX,
            about="Text, images, video and sound.",
        ),
        Preset(
            name="qwen2.5-omni-3b",
            mllm=MLLMSpec(
                "qwen2.5-omni",
                "Qwen/Qwen2.5-Omni-3B",
                "f75b40e3da2003cdd6e1829b1f420ca70797c34e",
                num_layers=36,
                hidden_size=2048,
            ),
            align_net=_NOT_RELEASED,
            encoding=FAMILIES["qwen2.5-omni"],
            flux=_DEFAULT_FLUX,
            about="Text, images, video and sound; no AlignNet is released for it, so bring your own.",
        ),
        Preset(
            name="qwen2.5-omni-7b",
            mllm=MLLMSpec(
                "qwen2.5-omni",
                "Qwen/Qwen2.5-Omni-7B",
                "ae9e1690543ffd5c0221dc27f79834d0294cba00",
                num_layers=28,
                hidden_size=3584,
            ),
            align_net=_NOT_RELEASED,
            encoding=FAMILIES["qwen2.5-omni"],
            flux=_DEFAULT_FLUX,
            about="Text, images, video and sound; no AlignNet is released for it, so bring your own.",
        ),
    )
}


def get_preset(name: str) -> Preset:
    """The preset of that name. Raises UnknownPresetError, which lists the names there are."""
    return _look_up(PRESETS, name, "preset")


def get_flux(name: str) -> FluxSpec:
    """The FLUX model of that name. Raises UnknownPresetError, which lists the names there are."""
    return _look_up(FLUX_MODELS, name, "FLUX model")


def get_family(name: str) -> EncodingSpec:
    """How an MLLM family is fed. Raises UnknownPresetError, which lists the names there are."""
    return _look_up(FAMILIES, name, "MLLM family")


def presets_that_take(modality: Modality) -> list[str]:
    """Names of the presets whose MLLM takes that modality, in the registry's order."""
    return [preset.name for preset in PRESETS.values() if modality in preset.encoding.modalities]


def _look_up(registry, name, kind):
    try:
        return registry[name]
    except (KeyError, TypeError):
        raise UnknownPresetError(
            f"There is no {kind} called {str(name)[:80]!r}; choose one of {', '.join(registry)}."
        ) from None
