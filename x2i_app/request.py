"""What a user asks for and what comes back, as plain values, validated in this one place.

The page, the HTTP endpoints, the command line and Python callers all fill the same GenerationRequest. Nothing here
knows torch, files or a user interface.
"""

import numbers
import reprlib
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from x2i_app.errors import InvalidRequestError
from x2i_app.specs import FluxSpec, Modality

MAX_SEED = 2**32 - 1
NO_LIGHT_CONTROL = (
    "This model has no LightControl, which keeps to a picture; leave control_strength at 0, or give one as "
    "light_control."
)
NOTHING = "There is nothing to draw from; write a prompt or add an image, a video or a sound."


@dataclass(frozen=True)
class Range:
    """Allowed values of a number: from `low` to `high`, in steps of `step` from zero where one is given."""

    low: float
    high: float
    step: int | None = None

    def __str__(self):
        steps = f" in steps of {self.step}" if self.step else ""
        return f"{self.low:g} to {self.high:.12g}{steps}"


@dataclass(frozen=True)
class Limits:
    """What one request may ask for. Sizes are in pixels, the prompt in UTF-8 bytes, media in files."""

    width: Range = Range(64, 2048, 16)
    height: Range = Range(64, 2048, 16)
    num_inference_steps: Range = Range(1, 100)
    guidance_scale: Range = Range(0, 20)
    num_images_per_prompt: Range = Range(1, 8)
    seed: Range = Range(0, MAX_SEED)
    control_strength: Range = Range(0, 2)
    lora_weight: Range = Range(-2, 2)
    loras: int = 4
    prompt_bytes: int = 8192
    images: int = 8
    videos: int = 2
    audios: int = 4
    turns: int = 16


LIMITS = Limits()

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
    control_strength: how closely LightControl keeps to the picture, which must then be one; 0 is off, 1 is as trained.
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
        strength = validate_number("control_strength", self.control_strength, LIMITS.control_strength)
        if strength and len(self.images) != 1:
            raise InvalidRequestError(
                f"control_strength is {strength:g}, but {len(self.images)} pictures came; give the one to keep to."
            )
        clean["control_strength"] = strength
        clean["loras"] = tuple(map(_as_lora, _as_tuple("loras", self.loras, LIMITS.loras)))
        _set(self, clean)
        if not self.modalities:
            raise InvalidRequestError(NOTHING)

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
        open_fields = {k: v for k, v in defaults.items() if getattr(self, k) is None}
        return replace(self, **open_fields)


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
            "answer": self.answer,
            "notes": list(self.notes),
            "seconds": {phase: round(seconds, 3) for phase, seconds in self.seconds.items()},
        }


def validate_number(name: str, value: Any, allowed: Range) -> float:
    """`value` as a finite float within `allowed`, or InvalidRequestError. Booleans and strings are no numbers."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise InvalidRequestError(f"{name} is {show_value(value)}; it must be a number, {allowed}.")
    # A 400-digit integer overflows a float: compare before converting. NaN is inside nothing.
    if not allowed.low <= value <= allowed.high:
        raise InvalidRequestError(f"{name} is {show_value(value)}; it must be {allowed}.")
    return float(value)


def validate_integer(name: str, value: Any, allowed: Range) -> int:
    """`value` as an integer within `allowed` and on its step, or InvalidRequestError. 4.0 counts as 4."""
    number = validate_number(name, value, allowed)
    if not number.is_integer() or (allowed.step and number % allowed.step):
        raise InvalidRequestError(f"{name} is {show_value(value)}; it must be a whole number, {allowed}.")
    return int(value)


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


_BRIEF = reprlib.Repr()
_BRIEF.maxlevel = 2  # lists of lists of lists would fill pages


def show_value(value: Any) -> str:
    """`value` as a message may quote it: at most 80 characters on one line, whatever came."""
    try:
        text = _BRIEF.repr(value)
    except ValueError:  # Python refuses to print integers of more than 4,300 digits
        return "a number of thousands of digits"
    text = "".join(c if c.isprintable() else " " for c in text)  # arrays print several lines
    text = " ".join(text.split())
    return text if len(text) <= 80 else f"{text[:60]}...{text[-16:]}"
