"""The frozen dataclasses that presets are made of."""

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

UNKNOWN_MARK = "; ?"  # how x2i-tiny's answers end if a part of the prompt is unknown to it
MODALITIES: tuple[Modality, ...] = ("text", "image", "video", "audio")


@dataclass(frozen=True)
class MLLMSpec:
    """A multimodal LLM: its repository, pinned to a revision, and the sizes that its files must have."""

    family: str
    repo_id: str
    revision: str
    num_layers: int
    hidden_size: int

    @property
    def num_states(self) -> int:
        """Hidden states of a token: the embedding output and one of each layer."""
        return self.num_layers + 1


@dataclass(frozen=True)
class AlignNetSpec:
    """A trained AlignNet: its repository and how it merges the layers.

    filenames: all names that the file is known by, tried in this order; empty if no AlignNet is released.
    """

    repo_id: str | None
    filenames: tuple[str, ...]
    fusion: Fusion
    revision: str | None = None
    kernel_size: int = 5
    joint_dim: int = 4096
    pooled_dim: int = 768


@dataclass(frozen=True)
class EncodingSpec:
    """How a conversation is given to an MLLM, and which of its hidden states AlignNet reads.

    image_size: (width, height) that every image is resized to; None keeps its shape, with at most `max_image_pixels`.
    video_fps: frames sampled per second; max_video_frames limits their number, max_video_pixels the area of one.
    audio_rate: samples per second of the MLLM's audio input; None if it takes no audio.
    pad_length: number of tokens that `padding="padded"` pads to.
    trims_media: whether bars beside images and videos and silence before audio are cut off, and audio gets one level.
    max_new_tokens: the longest answer, in tokens, when the MLLM is asked to reason.
    unknown_mark: how an answer ends if a part of the prompt is unknown to the MLLM; empty if it has no such mark.
    least_confidence: an answer to media with a lower mean logarithm of its tokens' probabilities is a guess, which a
    note says; None if that is not measured.
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
    trims_media: bool = False
    max_new_tokens: int = 128
    unknown_mark: str = ""
    least_confidence: float | None = None

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "EncodingSpec":
        """From `dataclasses.asdict`, also if stored as JSON, which turns tuples into lists."""
        return cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})


@dataclass(frozen=True)
class FluxSpec:
    """A FLUX.1 model: its repository and the settings that suit it.

    resolution: default width and height in pixels. directory: the folder of `assets/` of a model that is bundled with
    the app, which has no `repo_id`. takes_reference: whether it reads an image that the result keeps to (Kontext).
    true_cfg: whether a negative prompt works; models that are distilled to few steps cannot follow two prompts.
    needs_mask: whether it can only fill the masked part of an image (Fill).
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
    takes_reference: bool = False
    true_cfg: bool = False
    needs_mask: bool = False


@dataclass(frozen=True)
class Preset:
    """One X2I variant: an MLLM, the AlignNet trained for it, how inputs are encoded, and its FLUX model.

    about: one sentence that tells the user what to expect. directory: the folder of `assets/` of a variant that is
    bundled with the app. light_control: the folder in it of a LightControl; None if none is trained.
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
    """How to use the memory of a kind of card; `loading/memory.py` applies it.

    card: GiB of the card; None if it is for no particular card.
    mllm, transformer: precision of the linear layers' weights: "full" as loaded, "int8" (LLM.int8()), or "nf4" (4 bit,
    double quantization). offload: where parts wait while they do not run, in the order in which it is tried: "none": on
    the card; "model": in the computer's memory, one part on the card at a time; "group": the same, with the FLUX
    transformer block by block. tile: side in pixels of the tiles that the VAE decodes.
    """

    name: str
    card: int | None
    mllm: Precision
    transformer: Precision
    offload: tuple[Offload, ...]
    tile: int
    about: str
