"""The request that describes an image and the result that comes back, as plain values.

The page, the HTTP endpoints, the command line and Python callers all fill the same GenerationRequest, which is
validated here and nowhere else. This module knows no torch, no files and no user interface.
"""

import unicodedata
from collections.abc import Iterable, Mapping
from copy import copy
from dataclasses import dataclass, field, fields
from pathlib import PurePath
from typing import Any

from x2i_app.errors import InvalidRequestError
from x2i_app.limits import LIMITS, MAX_SEED, show_value, validate_integer, validate_number
from x2i_app.specs import FluxSpec, Modality

NO_LIGHT_CONTROL = (
    "This model has no LightControl, so it cannot follow the original image; set control_strength to 0, or load a "
    "LightControl with light_control."
)
NOTHING = "The request is empty; write a prompt, or add an image, a video or an audio file."


# The settings of a request: the name in flags, endpoints and JSONL rows -> the field.
SETTINGS = {
    "width": "width",
    "height": "height",
    "steps": "num_inference_steps",
    "guidance": "guidance_scale",
    "seed": "seed",
    "count": "num_images_per_prompt",
    "reason": "reason",
}

# The same for editing an image: with LightControl, from a noisy copy, or by inpainting and outpainting.
IMAGE_SETTINGS = {
    "control": "control_strength",
    "source": "source_image",
    "strength": "strength",
    "mask": "mask",
    "outpaint": "outpaint",
}

_MEDIA: tuple[tuple[str, Modality], ...] = (
    ("images", "image"),
    ("videos", "video"),
    ("audios", "audio"),
)


@dataclass(frozen=True)
class Turn:
    """One turn of a conversation: what the user sent, and what the MLLM answered.

    images, videos, audios: as in GenerationRequest. answer: empty if the MLLM was not asked for one.
    """

    prompt: str = ""
    images: tuple[Any, ...] = ()
    videos: tuple[Any, ...] = ()
    audios: tuple[Any, ...] = ()
    answer: str = ""

    def __post_init__(self):
        _clean_contents(self)
        object.__setattr__(self, "answer", validate_text("answer", self.answer))

    def with_images(self, images: Iterable[Any]) -> "Turn":
        """A copy with other images, which must be valid."""
        other = copy(self)
        _set(other, {"images": tuple(images)})
        return other

    @property
    def modalities(self) -> tuple[Modality, ...]:
        """The modalities that this turn contains."""
        text: tuple[Modality, ...] = ("text",) if self.prompt.strip() else ()
        return text + tuple(modality for name, modality in _MEDIA if getattr(self, name))


@dataclass(frozen=True)
class GenerationRequest:
    """Everything that decides an image.

    prompt: any language, up to 8 KB of UTF-8.
    images: paths, PIL images or arrays (H, W, 3). videos: paths, or pairs (frames (T, H, W, 3) uint8, frames/s).
    audios: paths, or pairs (samples (N,) or (N, channels), Hz).
    history: earlier turns of the conversation, oldest first.
    reason: the MLLM answers first, and its answer conditions the image.
    width, height: pixels, multiples of 16. num_inference_steps, guidance_scale: None takes the FLUX model's own.
    num_images_per_prompt: how many images; image i uses seed + i.
    seed: None lets the engine choose one; the result contains it.
    control_strength: how closely LightControl follows the source; 0 is off, 1 is as trained.
    strength: image-to-image: the part of the denoising that is run, up to 1; 1 starts from noise alone.
    mask: an image like those in `images`; white is inpainted, black keeps the source's pixels.
    outpaint: pixels to add to the source (left, top, right, bottom) and to fill.
    source_image: the image that these four edit; None takes the one in `images`, which must then be the only one.
        An edited image keeps its size if width and height are None.
    loras: pairs (safetensors file, weight); weight 1 is as trained; up to four.

    Raises InvalidRequestError with one sentence about the first value that is not allowed.
    """

    prompt: str = ""
    images: tuple[Any, ...] = ()
    videos: tuple[Any, ...] = ()
    audios: tuple[Any, ...] = ()
    history: tuple[Turn, ...] = ()
    reason: bool = False
    width: int | None = None
    height: int | None = None
    num_inference_steps: int | None = None
    guidance_scale: float | None = None
    num_images_per_prompt: int = 1
    seed: int | None = None
    control_strength: float = 0.0
    strength: float | None = None
    mask: Any = None
    outpaint: tuple[int, int, int, int] = (0, 0, 0, 0)
    source_image: Any = None
    loras: tuple[tuple[Any, float], ...] = ()

    def __post_init__(self):
        _clean_contents(self)
        history = _as_tuple("history", self.history, LIMITS.turns)
        clean = {"history": tuple(as_turn(turn) for turn in history)}
        if not isinstance(self.reason, bool):
            raise InvalidRequestError(f"reason is {show_value(self.reason)}; it must be true or false.")
        for name in ("width", "height", "num_inference_steps", "num_images_per_prompt", "seed"):
            value = getattr(self, name)
            if value is not None or name == "num_images_per_prompt":
                clean[name] = validate_integer(name, value, getattr(LIMITS, name))
        if self.guidance_scale is not None:
            clean["guidance_scale"] = validate_number("guidance_scale", self.guidance_scale, LIMITS.guidance_scale)
        clean |= _clean_edit(self)
        clean["loras"] = tuple(map(_as_lora, _as_tuple("loras", self.loras, LIMITS.loras)))
        _set(self, clean)
        if not self.modalities:
            raise InvalidRequestError(NOTHING)

    @property
    def source(self) -> Any:
        """The image that is edited or followed; None if `images` does not contain exactly one and none is named."""
        return self.images[0] if self.source_image is None and len(self.images) == 1 else self.source_image

    @property
    def paints(self) -> bool:
        """Whether it edits the source (image-to-image, inpainting or outpainting) instead of starting from nothing."""
        return self.strength is not None or self.mask is not None or any(self.outpaint)

    @property
    def lora_weights(self) -> dict[str, float]:
        """The weight of each LoRA by the name of its file, without the folder."""
        return {PurePath(str(file)).name: weight for file, weight in self.loras}

    @property
    def steps_run(self) -> int:
        """How many of `num_inference_steps`, which must be set, are run: strength below 1 skips the first ones."""
        steps = self.num_inference_steps
        return steps - int(steps - steps * (1 if self.strength is None else self.strength))

    @property
    def turn(self) -> Turn:
        """The current turn of the conversation, without an answer yet."""
        return Turn(self.prompt, self.images, self.videos, self.audios)

    @property
    def modalities(self) -> tuple[Modality, ...]:
        """Every modality in the current turn and the history, each once."""
        found = [m for turn in (*self.history, self.turn) for m in turn.modalities]
        return tuple(dict.fromkeys(found))

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seed of each image, from `seed`, which must be set; after the largest seed comes 0."""
        return tuple((self.seed + i) % (MAX_SEED + 1) for i in range(self.num_images_per_prompt))

    def with_values(self, **values: Any) -> "GenerationRequest":
        """A copy with other values for some fields. They must be valid: nothing is validated again."""
        other = copy(self)
        _set(other, values)
        return other

    def with_defaults(self, flux: FluxSpec, seed: int) -> "GenerationRequest":
        """A copy with every setting filled in: the FLUX model's own and `seed` in place of None."""
        defaults = {
            "width": flux.resolution,
            "height": flux.resolution,
            "num_inference_steps": flux.num_inference_steps,
            "guidance_scale": flux.guidance_scale,
            "seed": seed,
        }
        return self.with_values(**{name: value for name, value in defaults.items() if getattr(self, name) is None})


@dataclass(frozen=True)
class InputRecord:
    """What the metadata of an image say about the files that it was made from.

    hashes: SHA-256 in hexadecimal by the path in the request. mask_png: the mask as base64 of a PNG; None if there is
    no mask, or if it is too large to be stored.
    """

    hashes: Mapping[str, str] = field(default_factory=dict)
    mask_png: str | None = None


@dataclass(frozen=True)
class GenerationResult:
    """Images and how they were made.

    images: PIL images, RGB. seeds: one for each image. request: with every setting filled in. answer: what the MLLM
    answered, if it was asked. notes: sentences that the user should read. seconds: wall time of each phase.
    inputs: hashes of the request's files.
    """

    images: tuple[Any, ...]
    seeds: tuple[int, ...]
    request: GenerationRequest
    answer: str | None = None
    notes: tuple[str, ...] = ()
    seconds: dict[str, float] = field(default_factory=dict)
    inputs: InputRecord = InputRecord()

    def report(self) -> dict[str, Any]:
        """How the images were made, as values that JSON can hold."""
        request = self.request
        return {
            "seeds": list(self.seeds),
            "width": request.width,
            "height": request.height,
            "steps": request.num_inference_steps,
            "guidance": request.guidance_scale,
            "control": request.control_strength,
            "loras": request.lora_weights,
            "answer": self.answer,
            "notes": list(self.notes),
            "seconds": {phase: round(seconds, 3) for phase, seconds in self.seconds.items()},
        }


def validate_text(name: str, value: Any) -> str:
    """`value` as text that can be stored and shown anywhere; raises InvalidRequestError for anything else."""
    if not isinstance(value, str):
        raise InvalidRequestError(f"{name} is {show_value(value)}; it must be text.")
    try:
        size = len(value.encode("utf-8"))
    except UnicodeEncodeError:
        raise InvalidRequestError(
            f"{name} contains an incomplete character (a lone surrogate); paste the text again."
        ) from None
    if size > LIMITS.prompt_bytes:
        raise InvalidRequestError(
            f"{name} is {size:,} bytes long; at most {LIMITS.prompt_bytes:,} are allowed. Shorten it."
        )
    if any(unicodedata.category(c) == "Cc" and c not in "\t\n\r" for c in value):
        raise InvalidRequestError(f"{name} contains a control character; remove it. Tabs and line breaks are allowed.")
    return value


def _clean_contents(turn):
    clean = {"prompt": validate_text("prompt", turn.prompt)}
    for name, _ in _MEDIA:
        clean[name] = _as_tuple(name, getattr(turn, name), getattr(LIMITS, name))
    _set(turn, clean)


def _clean_edit(request):
    clean = {"control_strength": validate_number("control_strength", request.control_strength, LIMITS.control_strength)}
    if request.strength is not None:
        clean["strength"] = validate_number("strength", request.strength, LIMITS.strength)
    margins = request.outpaint
    if not isinstance(margins, (list, tuple)) or len(margins) != 4:
        raise InvalidRequestError(
            f"outpaint is {show_value(margins)}; it must be four numbers of pixels: left, top, right, bottom."
        )
    sides = zip(("left", "top", "right", "bottom"), margins, strict=True)
    clean["outpaint"] = tuple(validate_integer(f"outpaint ({side})", size, LIMITS.margin) for side, size in sides)
    if request.source is None and (clean["control_strength"] or request.paints):
        raise InvalidRequestError(
            f"Editing needs one image, and {len(request.images)} were given; give one, or set source_image."
        )
    return clean


def _as_lora(value):
    if not isinstance(value, (list, tuple)) or len(value) != 2:
        raise InvalidRequestError(f"loras contains {show_value(value)}; each entry must be a file and a weight.")
    return value[0], validate_number("The weight of a LoRA", value[1], LIMITS.lora_weight)


def _as_tuple(name, value, limit):
    if not isinstance(value, (list, tuple)):
        raise InvalidRequestError(f"{name} is {show_value(value)}; it must be a list.")
    if len(value) > limit:
        raise InvalidRequestError(f"{len(value)} {name} were given; at most {limit} are allowed. Remove some.")
    if any(item is None for item in value):
        raise InvalidRequestError(f"{name} contains an empty entry; remove it.")
    return tuple(value)


def as_turn(turn: Any) -> Turn:
    """A Turn as it is, or built from a mapping of its fields. Raises InvalidRequestError for anything else."""
    if isinstance(turn, Turn):
        return turn
    names = {f.name for f in fields(Turn)}
    if isinstance(turn, Mapping) and set(turn) <= names:
        return Turn(**turn)
    raise InvalidRequestError(
        f"history contains {show_value(turn)}; each turn must be a Turn, or an object with only these fields: "
        f"{', '.join(sorted(names))}."
    )


def _set(frozen, values):
    for name, value in values.items():
        object.__setattr__(frozen, name, value)
