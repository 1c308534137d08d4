"""The numbers that a request may contain, and the messages about other values."""

import numbers
import reprlib
from collections.abc import Mapping
from dataclasses import dataclass
from types import NoneType
from typing import Any, get_args, get_type_hints

from x2i_app.errors import InvalidRequestError

MAX_SEED = 2**32 - 1


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
    """What one request may contain. Sizes are in pixels, the prompt in UTF-8 bytes, media in files.

    lora_rank, lora_tensors: of one LoRA file. A LoRA of all linear layers of FLUX.1, with alphas, has about 1,500.
    """

    width: Range = Range(64, 2048, 16)
    height: Range = Range(64, 2048, 16)
    num_inference_steps: Range = Range(1, 100)
    guidance_scale: Range = Range(0, 50)
    true_cfg_scale: Range = Range(1, 10)
    num_images_per_prompt: Range = Range(1, 8)
    seed: Range = Range(0, MAX_SEED)
    control_strength: Range = Range(0, 2)
    controlnet_strength: Range = Range(0, 2)
    controlnet_start: Range = Range(0, 1)
    controlnet_end: Range = Range(0, 1)
    video_start: Range = Range(0, 3600)
    video_end: Range = Range(0, 3600)
    strength: Range = Range(0.05, 1)
    margin: Range = Range(0, 1024)
    mask_grow: Range = Range(0, 127)
    mask_feather: Range = Range(0, 127)
    lora_weight: Range = Range(-2, 2)
    loras: int = 4
    lora_rank: int = 512
    lora_tensors: int = 5000
    prompt_bytes: int = 8192
    images: int = 8
    videos: int = 2
    audios: int = 4
    turns: int = 16


LIMITS = Limits()


def validate_number(name: str, value: Any, allowed: Range) -> float:
    """`value` as a finite float within `allowed`. Raises InvalidRequestError, also for booleans and strings."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise InvalidRequestError(f"{name} is {show_value(value)}; it must be a number, {allowed}.")
    # An integer of 400 digits overflows a float, so compare first. NaN is outside every range.
    if not allowed.low <= value <= allowed.high:
        raise InvalidRequestError(f"{name} is {show_value(value)}; it must be {allowed}.")
    return float(value)


def validate_integer(name: str, value: Any, allowed: Range) -> int:
    """`value` as an integer within `allowed` and on its step; 4.0 counts as 4. Raises InvalidRequestError."""
    number = validate_number(name, value, allowed)
    if not number.is_integer() or (allowed.step and number % allowed.step):
        raise InvalidRequestError(f"{name} is {show_value(value)}; it must be a whole number, {allowed}.")
    return int(value)


def clean_numbers(options: Any, integers: Mapping[str, Range], floats: Mapping[str, Range] | None = None) -> None:
    """Check number fields of a frozen dataclass, and keep what `validate_integer` and `validate_number` return of them.

    None stays in a field that allows it. Raises InvalidRequestError.
    """
    kinds = get_type_hints(type(options))
    for validate, ranges in ((validate_integer, integers), (validate_number, floats or {})):
        for name, allowed in ranges.items():
            value = getattr(options, name)
            if value is not None or NoneType not in get_args(kinds[name]):
                object.__setattr__(options, name, validate(name, value, allowed))


def snap_size(name: str, value: Any, allowed: Range) -> int:
    """A width or height, changed to the nearest multiple of the step. Raises InvalidRequestError outside the range."""
    if isinstance(value, numbers.Real) and not isinstance(value, bool) and allowed.low - allowed.step < value:
        snapped = int((value + allowed.step / 2) // allowed.step * allowed.step) if value < 2 * allowed.high else value
        if value == value // 1 and allowed.low <= snapped <= allowed.high:
            return snapped
    return validate_integer(name, value, allowed)


_BRIEF = reprlib.Repr()
_BRIEF.maxlevel = 2  # nested lists would fill pages


def show_value(value: Any) -> str:
    """Any value as a message may quote it: at most 80 characters on one line."""
    try:
        text = _BRIEF.repr(value)
    except ValueError:  # Python refuses to print integers of more than 4,300 digits
        return "a number of thousands of digits"
    text = "".join(c if c.isprintable() else " " for c in text)  # arrays print several lines
    text = " ".join(text.split())
    return text if len(text) <= 80 else f"{text[:60]}...{text[-16:]}"
