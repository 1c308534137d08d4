"""What a user asks for and what comes back, as plain values, validated in this one place.

The page, the HTTP endpoints, the command line and Python callers all fill the same GenerationRequest. Nothing here
knows torch, files or a user interface.
"""

import unicodedata
from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass, field, fields
from pathlib import PurePath
from typing import Any

from x2i_app.errors import InvalidRequestError
from x2i_app.limits import LIMITS, show_value, validate_integer, validate_number
from x2i_app.specs import FluxSpec, Modality

NO_LIGHT_CONTROL = (
    "This model has no LightControl, which keeps to a picture; leave control_strength at 0, or give one as "
    "light_control."
)
NOTHING = "There is nothing to draw from; write a prompt or add an image, a video or a sound."


# The numbers and switches of a request, by the names that flags, endpoints and JSONL rows give them.
SETTINGS = {
    "width": "width",
    "height": "height",
    "steps": "num_inference_steps",
    "guidance": "guidance_scale",
    "seed": "seed",
    "count": "num_images_per_prompt",
    "reason": "reason",
}

# The same for what is done with one picture: kept to, or painted on.
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
    """One turn of a conversation: what the user sent, and what the MLLM answered to it.

    Media are as in GenerationRequest. Of an earlier turn `answer` may be empty when the MLLM was not asked for one.
    """

    prompt: str = ""
    images: tuple[Any, ...] = ()
    videos: tuple[Any, ...] = ()
    audios: tuple[Any, ...] = ()
    answer: str = ""

    def __post_init__(self):
        _clean_contents(self)
        object.__setattr__(self, "answer", validate_text("answer", self.answer))

    @property
    def modalities(self) -> tuple[Modality, ...]:
        """The modalities that this turn contains."""
        text: tuple[Modality, ...] = ("text",) if self.prompt.strip() else ()
        return text + tuple(modality for name, modality in _MEDIA if getattr(self, name))


@dataclass(frozen=True)
class GenerationRequest:
    """Everything that decides a picture.

    prompt: any language, up to 8 KB of UTF-8.
    images: paths, PIL images or arrays (H, W, 3); videos: paths, or pairs (frames (T, H, W, 3) uint8, frames/s);
    audios: paths, or pairs (samples (N,) or (N, channels), Hz).
    history: earlier turns of the conversation, oldest first.
    reason: the MLLM first answers, and the picture follows its answer.
    width, height: pixels, multiples of 16; num_inference_steps; guidance_scale: None takes the FLUX model's own.
    num_images_per_prompt: pictures; picture i is drawn with seed + i.
    seed: None lets the engine draw one; the result says which.
    control_strength: how closely LightControl keeps to the picture; 0 is off, 1 is as trained.
    strength: how much of the picture is drawn anew, up to 1; below 1 it begins with the picture, not with noise.
    mask: an image like those in `images`; white is painted, black stays as it is to the pixel.
    outpaint: pixels to add (left, top, right, bottom) around the picture, and to paint.
    source_image: the picture that these four are about; None takes the one in `images`, which must then be one.
    Painted on, a picture keeps its size where no other is given.
    loras: pairs (safetensors file, weight); weight 1 is as trained; up to four are mixed.

    Raises InvalidRequestError with one sentence for the first value that is not allowed.
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
        clean |= _clean_painting(self)
        clean["loras"] = tuple(map(_as_lora, _as_tuple("loras", self.loras, LIMITS.loras)))
        _set(self, clean)
        if not self.modalities:
            raise InvalidRequestError(NOTHING)

    @property
    def source(self) -> Any:
        """The picture that is kept to or painted on; None where there is not just one."""
        return self.images[0] if self.source_image is None and len(self.images) == 1 else self.source_image

    @property
    def paints(self) -> bool:
        """Whether it paints on the source, rather than on nothing."""
        return self.strength is not None or self.mask is not None or any(self.outpaint)

    @property
    def lora_weights(self) -> dict[str, float]:
        """The weight of each LoRA by the name of its file, without the folder."""
        return {PurePath(str(file)).name: weight for file, weight in self.loras}

    @property
    def steps_run(self) -> int:
        """Of `num_inference_steps`, which must be set, those that are run: below strength 1 the first are left out."""
        steps = self.num_inference_steps
        return steps - int(steps - steps * (1 if self.strength is None else self.strength))

    @property
    def turn(self) -> Turn:
        """The present turn of the conversation, without an answer yet."""
        return Turn(self.prompt, self.images, self.videos, self.audios)

    @property
    def modalities(self) -> tuple[Modality, ...]:
        """Every modality in the present turn and the history, each once."""
        found = [m for turn in (*self.history, self.turn) for m in turn.modalities]
        return tuple(dict.fromkeys(found))

    def with_defaults(self, flux: FluxSpec, seed: int) -> "GenerationRequest":
        """The same request with nothing left open: the FLUX model's settings and `seed` where None stood."""
        defaults = {
            "width": flux.resolution,
            "height": flux.resolution,
            "num_inference_steps": flux.num_inference_steps,
            "guidance_scale": flux.guidance_scale,
            "seed": seed,
        }
        whole = copy(self)  # which is not looked at again: this is asked for each waiting job, again and again
        _set(whole, {name: value for name, value in defaults.items() if getattr(self, name) is None})
        return whole


@dataclass(frozen=True)
class GenerationResult:
    """Pictures and how they came about.

    images: PIL images, RGB; seeds: the seed of each; request: with nothing left open; answer: what the MLLM said, if it
    was asked; notes: sentences the user should read; seconds: wall time of each phase.
    """

    images: tuple[Any, ...]
    seeds: tuple[int, ...]
    request: GenerationRequest
    answer: str | None = None
    notes: tuple[str, ...] = ()
    seconds: dict[str, float] = field(default_factory=dict)

    def report(self) -> dict[str, Any]:
        """How the pictures came about, as JSON knows it."""
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
    """`value` as text that can be stored and shown anywhere, or InvalidRequestError."""
    if not isinstance(value, str):
        raise InvalidRequestError(f"{name} is {show_value(value)}; it must be text.")
    try:
        size = len(value.encode("utf-8"))
    except UnicodeEncodeError:
        raise InvalidRequestError(
            f"{name} contains half of a character (a lone surrogate); paste the text again."
        ) from None
    if size > LIMITS.prompt_bytes:
        raise InvalidRequestError(f"{name} is {size:,} bytes long and may be {LIMITS.prompt_bytes:,}; shorten it.")
    if any(unicodedata.category(c) == "Cc" and c not in "\t\n\r" for c in value):
        raise InvalidRequestError(
            f"{name} contains a control character; only letters, signs, tabs and line breaks are allowed."
        )
    return value


def _clean_contents(turn):
    clean = {"prompt": validate_text("prompt", turn.prompt)}
    for name, _ in _MEDIA:
        clean[name] = _as_tuple(name, getattr(turn, name), getattr(LIMITS, name))
    _set(turn, clean)


def _clean_painting(request):
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
            f"{len(request.images)} pictures came to keep to or to paint on; give one, or name it as source_image."
        )
    return clean


def _as_lora(value):
    if not isinstance(value, (list, tuple)) or len(value) != 2:
        raise InvalidRequestError(f"loras contains {show_value(value)}; each must be a file and its weight.")
    return value[0], validate_number("weight of a LoRA", value[1], LIMITS.lora_weight)


def _as_tuple(name, value, limit):
    if not isinstance(value, (list, tuple)):
        raise InvalidRequestError(f"{name} is {show_value(value)}; it must be a list.")
    if len(value) > limit:
        raise InvalidRequestError(f"{len(value)} {name} came and {limit} are allowed; remove some.")
    if any(item is None for item in value):
        raise InvalidRequestError(f"{name} contains an empty place; remove it.")
    return tuple(value)


def as_turn(turn: Any) -> Turn:
    """A Turn from itself or from a mapping of its fields. Raises InvalidRequestError for anything else."""
    if isinstance(turn, Turn):
        return turn
    names = {f.name for f in fields(Turn)}
    if isinstance(turn, Mapping) and set(turn) <= names:
        return Turn(**turn)
    raise InvalidRequestError(
        f"history contains {show_value(turn)}; each turn must be a Turn or have only {', '.join(sorted(names))}."
    )


def _set(frozen, values):
    for name, value in values.items():
        object.__setattr__(frozen, name, value)
