"""The fields of OpenAI's images API: which are understood, and the generation request that they describe.

https://platform.openai.com/docs/api-reference/images. A field that means nothing here is refused by name, or, where
clients always send it, named in the answer's notes.
"""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from PIL import Image
from pydantic import ValidationError

from x2i_app.controlnet import CONTROLNET_DEFAULTS, CONTROLNET_SETTINGS, NO_CONTROLNET
from x2i_app.errors import InvalidRequestError, MediaError
from x2i_app.limits import LIMITS, show_value, validate_integer
from x2i_app.media.images import image_size, load_transparency
from x2i_app.request import IMAGE_SETTINGS, LATER_SETTINGS, NOTHING_ADDED, SETTINGS, GenerationRequest
from x2i_app.serving.engine import Engine
from x2i_app.settings import Settings
from x2i_app.ui.image_files import read_format
from x2i_app.ui.loras import LoraChoices, lora_pairs

_TEXTS = ("prompt", "model", "size", "response_format", "output_format", "user", "negative_prompt")
_STANDARD = (*_TEXTS[:-1], "n", "stream", "background")
# Settings of OpenAI's models that ours do not have. Clients send them without being asked, so they are not refused.
_WITHOUT_EFFECT = ("quality", "style", "moderation", "input_fidelity", "output_compression", "partial_images")
_OWN = {name: SETTINGS[name] for name in ("steps", "guidance", "seed", "reason")} | LATER_SETTINGS
_OWN_OF_EDITS = {
    name: IMAGE_SETTINGS[name]
    for name in ("control", "strength", "outpaint", "mask_invert", "mask_grow", "mask_feather", "only_masked")
} | {name: name for name in CONTROLNET_DEFAULTS}
_FILES = ("image", "mask", "controlnet_image")
_ADDRESS_MODELS = ("dall-e-2", "dall-e-3")
_OF_PYTHON = {"True": True, "False": False, "None": None}
_SIZE = re.compile(r"(\d{1,5})x(\d{1,5})")
_INDEX = re.compile(r"\[\d{0,5}\]$", re.ASCII)


class FieldError(InvalidRequestError):
    """A field that is not allowed. name: of the field."""

    def __init__(self, name: str, sentence: str):
        super().__init__(sentence)
        self.name = name


@dataclass(frozen=True)
class ImageCall:
    """A call of the API, whose names and types are known; `request` checks its values.

    given: the fields that are not null. files: (field, path) of each uploaded file. is_edit: an image is changed.
    """

    given: Mapping[str, Any]
    files: tuple[tuple[str, str], ...] = ()
    is_edit: bool = False
    notes: tuple[str, ...] = field(init=False)

    def __post_init__(self):
        own = _OWN | _OWN_OF_EDITS if self.is_edit else _OWN
        known = (*_STANDARD, *own, "loras", *(_FILES if self.is_edit else ()))
        names = [*self.given, *(name for name, _ in self.files)]
        if unknown := next((name for name in names if name not in (*known, *_WITHOUT_EFFECT)), None):
            name = ascii(unknown)[1:-1][:80]
            raise FieldError(name, f"There is no field {show_value(unknown)}; use {', '.join(known)}.")
        for name in _FILES:
            if name in self.given:
                raise FieldError(name, f"{name} must be a file, in the form multipart/form-data.")
        for name, _ in self.files:
            if name not in _FILES:
                raise FieldError(name, f"{name} must be a value and not a file.")
        for name in _TEXTS:
            if not isinstance(self.given.get(name, ""), str):
                raise FieldError(name, f"{name} is {show_value(self.given[name])}; it must be text.")
        _choice(self.given, "response_format", ("b64_json", "url"))
        if self.given.get("background") == "transparent":
            raise FieldError(
                "background", "This model draws no transparent images; leave background out, or send auto or opaque."
            )
        _choice(self.given, "background", ("auto", "opaque"))
        if self.given.get("stream", False) is not False:
            raise FieldError("stream", "stream is not supported; leave it out, and the answer comes when it is ready.")
        ignored = [name for name in _WITHOUT_EFFECT if self.given.get(name, "auto") != "auto"]
        notes = [f"{name} has no effect: this model has no such setting." for name in ignored]
        object.__setattr__(self, "notes", tuple(notes))

    @property
    def is_url(self) -> bool:
        """Whether the answer has addresses instead of the images themselves.

        OpenAI's older models send addresses unless asked for the images, and clients of these expect them.
        """
        own = "url" if self.given.get("model", "").startswith(_ADDRESS_MODELS) else "b64_json"
        return self.given.get("response_format", own) == "url"

    @property
    def format(self) -> str | None:
        """The file format of the images; None is the app's own. Raises FieldError."""
        try:
            return read_format(self.given.get("output_format"))
        except InvalidRequestError as error:
            raise FieldError("output_format", f"output_{error}") from None

    @property
    def user(self) -> str:
        """The client's own name of its user, whose jobs get turns of their own; empty if it sends none."""
        return self.given.get("user", "")

    def request(self, engine: Engine) -> GenerationRequest:
        """The request, with the model's own settings for what is left open. Reads the mask. Raises X2IError."""
        if not self.given.get("prompt", "").strip():
            raise FieldError("prompt", "prompt is empty; describe the image.")
        own = _OWN | _OWN_OF_EDITS if self.is_edit else _OWN
        fields = {own[name]: value for name, value in self.given.items() if name in own}
        fields["num_images_per_prompt"] = _named(
            "n", lambda: validate_integer("n", self.given.get("n", 1), LIMITS.num_images_per_prompt)
        )
        fields |= self._size() | {"loras": _loras(self.given.get("loras"), engine.settings)}
        if self.is_edit:
            fields |= self._edited(engine)
        try:
            return GenerationRequest(prompt=self.given["prompt"], **fields)
        except InvalidRequestError as error:
            raise _with_api_names(error) from error

    def _size(self) -> dict[str, int]:
        size = self.given.get("size", "auto")
        if size == "auto":
            return {}
        if not (found := _SIZE.fullmatch(size)):
            raise FieldError("size", f'size is {show_value(size)}; it must be "auto", or WIDTHxHEIGHT as in 1024x768.')
        return {"width": int(found[1]), "height": int(found[2])}

    def _edited(self, engine: Engine) -> dict[str, Any]:
        """What the page's image + instruction tab does: LightControl or a reference, or inpainting with a mask."""
        images, masks, steering = ([path for name, path in self.files if name == each] for each in _FILES)
        if not images and not (steering and not masks):
            raise FieldError("image", "image is missing; send the image to edit as a file.")
        if len(masks) > 1:
            raise FieldError("mask", f"{len(masks)} masks came; send one, for the first image.")
        if len(steering) > 1:
            raise FieldError("controlnet_image", f"{len(steering)} images came as controlnet_image; send one.")
        fields: dict[str, Any] = {"images": images}
        if steering and not engine.has_controlnet:
            raise FieldError("controlnet_image", NO_CONTROLNET)
        if steering:
            fields["controlnet_image"] = steering[0]
        if not images:  # nothing is edited: an image is drawn that follows the ControlNet's
            return fields
        margins = self.given.get("outpaint")
        if margins == [0, 0, 0, 0] and not masks and "strength" not in self.given:
            raise FieldError("outpaint", NOTHING_ADDED)
        if masks:
            size = image_size(images[0])
            fields["mask"] = _named("mask", lambda: _as_mask(masks[0], size))
        elif self.given.get("model", "").startswith("dall-e-2"):
            fields |= _named("image", lambda: _own_mask(images[0]))
        paints = "mask" in fields or "strength" in self.given or margins is not None
        if paints:
            fields["source_image"] = images[0]
        elif engine.flux.takes_reference:
            fields["reference"] = images[0]
        elif "control" in self.given:
            fields["source_image"] = images[0]
        elif engine.has_light_control and len(images) == 1 and not steering:
            fields["control_strength"] = 1.0  # as on the page
        return fields


def fields_of_form(fields: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """The fields of a multipart form, where everything is text and a list is `name[]`, or `name[0]` and so on.

    Raises FieldError for a field that comes twice.
    """
    given: dict[str, Any] = {}
    for name, text in fields:
        value = text if name in (*_TEXTS, *_WITHOUT_EFFECT, "background") else _value(text)
        if (plain := without_index(name)) != name:
            values = given.setdefault(plain, [])
            if not isinstance(values, list):
                raise FieldError(name[:80], f"{show_value(plain)} came twice; send it once.")
            values.append(value)
        elif name in given:
            raise FieldError(name[:80], f"{show_value(name)} came twice; send it once.")
        else:
            given[name] = value
    return given


def without_index(name: str) -> str:
    """image for `image[]`, and for `image[0]`, which programs in PHP send: there each name of a form comes once."""
    return _INDEX.sub("", name)


def without_null(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values that are set: in this API null means the same as no value."""
    return {name: value for name, value in values.items() if value is not None}


def _value(text: str) -> Any:
    """A number, a truth value or a list as JSON; other text as it is, which the request's own checks refuse.

    Scripts whose forms are written by Python send True, False and None.
    """
    if text in _OF_PYTHON:
        return _OF_PYTHON[text]
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _choice(given: Mapping[str, Any], name: str, choices: tuple[str, ...]) -> None:
    if name in given and given[name] not in choices:
        raise FieldError(name, f"{name} is {show_value(given[name])}; choose one of {', '.join(choices)}.")


def _named(name: str, read: Any) -> Any:
    try:
        return read()
    except (InvalidRequestError, MediaError) as error:
        raise FieldError(name, str(error)) from error


def _as_mask(path: str, size: tuple[int, int]) -> str:
    """Make an uploaded file a mask: white where it was transparent, which OpenAI means by "edit here".

    size: of the image. A mask of another size is stretched to it, but one of another shape was made for another image.
    """
    mask = _transparent(path)
    if mask.getextrema() == (0, 0):
        raise InvalidRequestError(
            "mask has no transparent pixels, so nothing would change; send a PNG whose transparent pixels are the area "
            "to edit."
        )
    (width, height), (image_width, image_height) = mask.size, size
    if abs(width * image_height / image_width - height) > 1 + height / 50:
        raise InvalidRequestError(
            f"mask has {width} x {height} pixels, and the image has {image_width} x {image_height}; send a mask of the "
            "image's size."
        )
    mask.save(path, "PNG")  # in place of the upload, whose bytes count and which is removed when it is old
    return path


def _own_mask(path: str) -> dict[str, Image.Image]:
    """What is transparent in the image itself, which dall-e-2 edits if there is no mask. Empty if nothing is."""
    mask = _transparent(path)
    return {"mask": mask} if mask.getextrema() != (0, 0) else {}


def _transparent(path: str) -> Image.Image:
    return load_transparency(path).point(lambda level: 255 if level > 127 else 0)


def _loras(value: Any, settings: Settings) -> tuple[tuple[str, float], ...]:
    """LoRAs of this machine by name; strangers' files cannot be named."""
    choices = [{"file": each} if isinstance(each, str) else each for each in value] if isinstance(value, list) else None
    if value is None:
        return ()
    try:
        if choices is None or not all(isinstance(each, dict) and isinstance(each.get("file"), str) for each in choices):
            raise FieldError(
                "loras", f"loras is {show_value(value)}; it must be a list of names, or of file and weight."
            )
        return lora_pairs(LoraChoices.model_validate(choices), settings)
    except ValidationError:
        raise FieldError("loras", f"loras is {show_value(value)}; each needs file, a name, and weight.") from None
    except InvalidRequestError as error:
        raise FieldError("loras", str(error)) from error


_NAMES = SETTINGS | LATER_SETTINGS | IMAGE_SETTINGS | CONTROLNET_SETTINGS
_API_NAMES = {field: name for name, field in _NAMES.items()} | {
    "prompt": "prompt",
    "width": "size",
    "height": "size",
    "images": "image",
    "num_images_per_prompt": "n",
}


def _with_api_names(error: InvalidRequestError) -> InvalidRequestError:
    """The same error, which names a setting as the client did, where it begins with one."""
    name, _, rest = str(error).partition(" ")
    if name in ("width", "height"):
        return FieldError("size", f"The {name} in size {rest}")
    return FieldError(_API_NAMES[name], f"{_API_NAMES[name]} {rest}") if name in _API_NAMES else error
