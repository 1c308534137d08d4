"""The MCP tools: their descriptions, their parameters as JSON Schema, and how the arguments of a call are read.

A file is a string in a tool call: the path of an upload, the address of an image that this app generated, or a data:
URL, whose content is stored as an upload.
"""

import base64
import binascii
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from gradio.utils import get_upload_folder
from pydantic import ValidationError

from x2i_app.controlnet import CONTROLNET_KINDS
from x2i_app.errors import InvalidRequestError
from x2i_app.limits import LIMITS, Range, show_value
from x2i_app.media.guard import show_name
from x2i_app.prompts import known_loras
from x2i_app.request import SETTINGS
from x2i_app.serving.engine import Engine
from x2i_app.settings import FORMATS, Settings
from x2i_app.ui.http.access import API, UPLOAD
from x2i_app.ui.http.disk_space import check_disk_space
from x2i_app.ui.http.payloads import is_inside
from x2i_app.ui.http.uploads import clean_name
from x2i_app.ui.i18n import DEFAULT, TEXTS
from x2i_app.ui.loras import LoraChoices
from x2i_app.ui.tabs import Tab
from x2i_app.ui.turns import KINDS, as_file

_PURPOSES = {
    "text": "Generate an image from a text in any language.",
    "image": "Generate an image from one or several images.",
    "image_text": "Change an image by an instruction, inpaint a part of it, or extend it.",
    "video": "Generate an image from a short video.",
    "audio": "Generate an image from audio: music, rain, a voice.",
    "fusion": "Generate an image from any mix of text, images, videos and audio files.",
}
_RESULT = "Returns the image, its address, its seed and the model's answer. The progress messages contain the job's id."
_REQUIRED = {"text": ["prompt"], "image": ["images"], "video": ["video"], "audio": ["audio"], "fusion": ["files"]}
_SIDES = ("left", "top", "right", "bottom")
_WHOLE = {"width", "height", "steps", "count", "seed", "mask_grow", "mask_feather", *_SIDES}

_FILE = {
    "type": "string",
    "description": f"the path that POST {UPLOAD} (multipart, field 'files') returned, the address of an image that "
    "this app generated, or a data: URL of up to 700 KB",
}
_SWITCH = {"type": "boolean"}
_FILES = {"type": "array", "items": _FILE}


def describe_tool(engine: Engine, tab: Tab) -> tuple[str, dict[str, Any]]:
    """The description of a tab's tool, which mentions the loaded model, and the JSON Schema of its parameters."""
    about = f" The model: {engine.preset.about}" if engine.preset else ""
    properties = {name: _schema(name, engine) for name in parameters_of(tab)}
    schema = {"type": "object", "properties": properties, "required": _REQUIRED.get(tab.name, [])}
    return f"{_PURPOSES[tab.name]} {_RESULT}{about}", schema | {"additionalProperties": False}


def parameters_of(tab: Tab) -> tuple[str, ...]:
    """Parameters of a tab's tool: those of the endpoint, with `prompt` and `files` in place of `message`."""
    own = tab.endpoint_parameters
    return ("prompt", "files", *own[1:]) if tab.parameters == ("message",) else own


def _schema(name: str, engine: Engine) -> dict[str, Any]:
    own = {
        "prompt": {"type": "string", "description": "text in any language"},
        "negative_prompt": {"type": "string"},
        **dict.fromkeys(("reason", "fast", "edit", "mask_invert", "only_masked"), _SWITCH),
        "format": {"type": "string", "enum": list(FORMATS)},
        "images": _FILES | {"maxItems": LIMITS.images},
        "files": _FILES,
        **dict.fromkeys(("image", "video", "audio"), _FILE),
        "mask": _FILE | {"description": f"an image, white where to inpaint; {_FILE['description']}"},
        "controlnet_image": _FILE | {"description": f"what the ControlNet follows; {_FILE['description']}"},
        "controlnet_kind": {"type": "string", "enum": list(CONTROLNET_KINDS)},
        "reference": _FILE | {"description": f"the image to edit, for FLUX.1 Kontext; {_FILE['description']}"},
        "history": {
            "type": "array",
            "maxItems": LIMITS.turns,
            "description": "earlier turns of the conversation, oldest first; result: the image that was generated",
            "items": {
                "type": "object",
                "properties": {
                    "prompt": {"type": "string"},
                    "answer": {"type": "string"},
                    "result": _FILE,
                    **dict.fromkeys(KINDS, _FILES),
                },
            },
        },
        "loras": {
            "type": "array",
            "maxItems": LIMITS.loras,
            "description": f"styles: {', '.join(known_loras(engine.settings)) or 'none'}, or uploads",
            "items": {
                "type": "object",
                "properties": {"file": {"type": "string"}, "weight": _number("lora_weight")},
                "required": ["file"],
            },
        },
    }
    said = own.get(name) or _number(name)
    label = TEXTS[DEFAULT].get(f"label.{name}")
    return {"description": label} | said if label else said


def _number(name: str) -> dict[str, Any]:
    field = {"control": "control_strength", **dict.fromkeys(_SIDES, "margin")}.get(name, SETTINGS.get(name, name))
    allowed: Range = getattr(LIMITS, field)
    step = {"multipleOf": allowed.step} if allowed.step else {}
    kind = "integer" if name in _WHOLE else "number"
    return {"type": kind, "minimum": allowed.low, "maximum": allowed.high} | step


def values_of_call(tab: Tab, arguments: dict[str, Any], settings: Settings, keep: Callable[[str], None]) -> list[Any]:
    """The arguments of an endpoint's handler, in its order, from those of a tool call.

    keep: called with the path of each file that is stored from a data: URL. Raises InvalidRequestError.
    """
    known = parameters_of(tab)
    if unknown := next((name for name in arguments if name not in known), None):
        raise InvalidRequestError(f"{tab.name} has no parameter {show_value(unknown)}; it takes {', '.join(known)}.")
    given = {name: value for name, value in arguments.items() if value is not None}
    for name in ("image", "mask", "reference", "controlnet_image", "video", "audio"):
        if name in given:
            given[name] = _file(name, given[name], keep)
    for name in ("images", "files"):
        if name in given:
            given[name] = [_file(name, file, keep) for file in _list(name, given[name])]
    if "history" in given:
        given["history"] = [_turn(turn, keep) for turn in _list("history", given["history"])]
    if "loras" in given:
        given["loras"] = _loras(given["loras"], settings, keep)
    if "images" in given:
        given["images"] = [(path, None) for path in given["images"]]
    if tab.parameters == ("message",):
        given["message"] = {"text": given.pop("prompt", ""), "files": given.pop("files", [])}
    return [given.get(name) for name in tab.endpoint_parameters]


def _list(name: str, value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise InvalidRequestError(f"{name} is {show_value(value)}; it must be a list.")
    return value


def _file(name: str, value: Any, keep: Callable[[str], None]) -> str:
    """The path of a file that was uploaded or generated here."""
    if not isinstance(value, str):
        raise InvalidRequestError(f"{name} is {show_value(value)}; it must be {_FILE['description']}.")
    folder = Path(get_upload_folder()).resolve()
    if value.startswith("data:"):
        path = _store_data_url(name, value, folder)
        keep(path)
        return path
    path = unquote(value.partition(f"{API}/file=")[2]) or value
    if not is_inside(path, folder):
        raise InvalidRequestError(f"{name}: {show_name(path)} was not uploaded here; send the file to {UPLOAD} first.")
    return path


def _store_data_url(name: str, address: str, folder: Path) -> str:
    head, _, body = address.partition(",")
    try:
        content = base64.b64decode(body, validate=True) if head.endswith(";base64") else b""
    except binascii.Error:
        content = b""
    if not content:
        raise InvalidRequestError(
            f"{name} is a data: URL that cannot be read; its content must be base64 and not empty."
        )
    check_disk_space(folder, len(content))
    home = folder / secrets.token_hex(16)
    home.mkdir(parents=True)
    path = home / "file"
    path.write_bytes(content)
    return str(path.rename(home / clean_name(name, path)))


def _turn(turn: Any, keep: Callable[[str], None]) -> Any:
    """The same turn with its files as objects, as in the page's conversation."""
    if not isinstance(turn, dict):
        return turn  # the endpoint's handler refuses it
    files = {k: [as_file(_file(k, file, keep)) for file in _list(k, turn[k])] for k in KINDS if turn.get(k)}
    for name in ("result", "picture"):  # the second is the name in earlier versions
        if turn.get(name):
            files[name] = as_file(_file(name, turn[name], keep))
    return turn | files


def _loras(value: Any, settings: Settings, keep: Callable[[str], None]) -> LoraChoices:
    known = known_loras(settings)
    choices = []
    for choice in _list("loras", value):
        file = choice.get("file") if isinstance(choice, dict) else None
        if isinstance(file, str) and file not in known and "/" in file:
            choice = choice | {"file": as_file(_file("loras", file, keep))}
        choices.append(choice)
    try:
        return LoraChoices.model_validate(choices)
    except ValidationError:
        raise InvalidRequestError(
            f"loras is {show_value(value)}; it must be a list of objects with file and weight."
        ) from None
