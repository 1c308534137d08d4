"""The kinds of facts that a preset is made of, as frozen values."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Modality = Literal["text", "image", "video", "audio"]
Fusion = Literal["conv", "scale"]
Padding = Literal["padded", "compact"]
States = Literal["prompt", "answer", "prompt+answer"]
Template = Literal["plain", "instruction", "short-instruction"]
Precision = Literal["full", "int8", "nf4"]
Offload = Literal["none", "model", "group"]

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
    unknown_mark: how an answer ends if a part of the prompt is unknown to the MLLM; empty if it has no such mark.
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
    unknown_mark: str = ""

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "EncodingSpec":
        """From `dataclasses.asdict`, also after a trip through JSON, which knows no tuples."""
        return cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})


@dataclass(frozen=True)
class FluxSpec:
    """A FLUX.1 model: its home, and the settings that suit it.

    `directory` is set for a model that is bundled with the app, in that folder of `assets/`; it has no `repo_id`.
    """

    name: str
    repo_id: str
    revision: str | None
    num_inference_steps: int
    guidance_scale: float
    resolution: int
    license: str
    guidance_embeds: bool
    gated: bool = False
    directory: str | None = None


@dataclass(frozen=True)
class Preset:
    """One X2I variant: an MLLM, the AlignNet trained for it, how to feed both, and the FLUX model it draws with.

    `directory` is set for a variant that is bundled with the app; its parts are read from that folder of `assets/`.
    `light_control` is the folder in it of a LightControl; None where none is trained.
    `about` tells the user in one line what to expect.
    """

    name: str
    mllm: MLLMSpec
    align_net: AlignNetSpec
    encoding: EncodingSpec
    flux: str
    about: str
    directory: str | None = None
    light_control: str | None = None


@dataclass(frozen=True)
class MemoryProfile:
    """How a kind of card is used; `loading/memory.py` does it.

    card: the GiB in the card's name; None where it does not matter.
    mllm, transformer: what the weights of linear layers are kept in: "full" as loaded, "int8" (LLM.int8()), or "nf4"
    (4 bit, double quantisation). offload: where parts wait while they do not work, in the order in which it is tried:
    "none": on the card; "model": in the computer's memory, one whole part on the card at a time; "group": the same, and
    the FLUX transformer comes block by block. tile: pixels of a side that the VAE decodes at once.
    """

    name: str
    card: int | None
    mllm: Precision
    transformer: Precision
    offload: tuple[Offload, ...]
    tile: int
    about: str
