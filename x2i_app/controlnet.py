"""ControlNet in a request: what its image shows, how strongly and in which steps it acts. Does not import torch."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from x2i_app.errors import InvalidRequestError
from x2i_app.limits import LIMITS, show_value, validate_number

if TYPE_CHECKING:
    from PIL.Image import Image

# What an image for a ControlNet can show -> the number that ControlNets for several kinds have for it.
CONTROLNET_KINDS = {"canny": 0, "edges": 0, "tile": 1, "depth": 2, "blur": 3, "pose": 4, "gray": 5}

# The settings of a request beside the image.
CONTROLNET_DEFAULTS = {
    "controlnet_kind": None,
    "controlnet_strength": 1.0,
    "controlnet_start": 0.0,
    "controlnet_end": 1.0,
}
# Each has one name in flags, endpoints, JSONL rows and fields.
CONTROLNET_SETTINGS = {name: name for name in ("controlnet_image", *CONTROLNET_DEFAULTS)}

NO_CONTROLNET = (
    "No ControlNet is loaded, so controlnet_image cannot be followed; leave it out, or load one with controlnet."
)
FAST_AND_CONTROLNET = (
    "fast skips the parts of FLUX that a ControlNet acts on; set fast to false, or leave controlnet_image out."
)
REFERENCE_AND_CONTROLNET = (
    "A result keeps to a reference or follows a ControlNet, not both; leave reference or controlnet_image out."
)
NEGATIVE_AND_CONTROLNET = (
    "A ControlNet cannot follow a negative prompt while an image is edited; leave negative_prompt or controlnet_image "
    "out."
)
FILL_AND_CONTROLNET = "FLUX.1 Fill cannot follow a ControlNet; leave controlnet_image out, or load flux.1-dev."


@dataclass(frozen=True)
class ControlNetInput:
    """What a ControlNet follows while an image is drawn.

    image: RGB, of any size; its middle is used in the shape of the result. kind: of CONTROLNET_KINDS; None is what
    the ControlNet is for. strength: 0 to 2, 1 is as trained. start, end: the part of the steps, 0 to 1, in which it is
    active.
    """

    image: "Image"
    kind: str | None = None
    strength: float = 1.0
    start: float = 0.0
    end: float = 1.0

    def __post_init__(self):
        """Raises InvalidRequestError for a value that is not allowed."""
        clean_values({f"controlnet_{name}": value for name, value in vars(self).items()})


def kind_of(name: str) -> str | None:
    """What a ControlNet is for, if the name of its folder or repository says it."""
    last = PurePath(name).name.partition("@")[0].lower()
    return next((kind for kind in ("canny", "depth", "pose", "tile", "blur", "gray") if kind in last), None)


def clean_values(values: Mapping[str, Any]) -> dict[str, Any]:
    """The settings but for the image, checked. Raises InvalidRequestError."""
    kind = values["controlnet_kind"]
    if kind is not None and not (isinstance(kind, str) and kind in CONTROLNET_KINDS):
        raise InvalidRequestError(
            f"controlnet_kind is {show_value(kind)}; choose one of {', '.join(CONTROLNET_KINDS)}."
        )
    numbers = {
        name: validate_number(name, values[name], getattr(LIMITS, name))
        for name in ("controlnet_strength", "controlnet_start", "controlnet_end")
    }
    start, end = numbers["controlnet_start"], numbers["controlnet_end"]
    if start >= end:
        raise InvalidRequestError(
            f"controlnet_start is {start:g} and controlnet_end is {end:g}; the start must be before the end."
        )
    return numbers


def clean_controlnet(request: Any) -> dict[str, Any]:
    """The fields of a GenerationRequest about ControlNet, checked. Raises InvalidRequestError."""
    clean = clean_values(vars(request))
    if request.controlnet_image is None:
        if name := next((name for name, value in CONTROLNET_DEFAULTS.items() if getattr(request, name) != value), None):
            raise InvalidRequestError(
                f"{name} is set, but there is no controlnet_image; add the image that the ControlNet follows, or "
                f"remove {name}."
            )
    elif clean["controlnet_strength"]:
        for is_wrong, sentence in (
            (request.reference is not None, REFERENCE_AND_CONTROLNET),
            (request.fast, FAST_AND_CONTROLNET),
            (request.paints and request.negative_prompt, NEGATIVE_AND_CONTROLNET),
        ):
            if is_wrong:
                raise InvalidRequestError(sentence)
    return clean
