"""The endpoints as an assistant sees them: what each is for, what it takes as JSON Schema, and how that is read.

Pictures, films and sounds are plain strings here: an upload's path, the address of a picture that was made here, or a
data: URL, which is kept as an upload is.
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

from x2i_app.errors import InvalidRequestError
from x2i_app.limits import LIMITS, Range, show_value
from x2i_app.media.guard import show_name
from x2i_app.request import SETTINGS
from x2i_app.serving.engine import Engine
from x2i_app.settings import Settings
from x2i_app.ui.conversation import KINDS, as_file
from x2i_app.ui.http.access import API, UPLOAD
from x2i_app.ui.http.disk_space import check_room
from x2i_app.ui.http.payloads import is_inside
from x2i_app.ui.http.uploads import clean_name
from x2i_app.ui.i18n.texts import LABELS
from x2i_app.ui.loras import LoraChoices, known_loras
from x2i_app.ui.tabs import Tab

_WHAT = {
    "text": "Draw a picture of what is described, in any language.",
    "image": "Draw a picture of what one or several given pictures show, in common or together.",
    "image_text": "Change a picture as words say, paint a part of it anew, or extend it.",
    "video": "Draw a picture of what a short film shows.",
    "audio": "Draw a picture of what is heard: music, rain, a voice.",
    "fusion": "Draw one picture from any mix of words, pictures, films and sounds.",
}
_ANSWER = "Answers with the picture, its address, its seed and what the model understood; progress names the job."
_NEEDS = {"text": ["prompt"], "image": ["images"], "video": ["video"], "audio": ["audio"], "fusion": ["files"]}
_SIDES = ("left", "top", "right", "bottom")
_WHOLE = {"width", "height", "steps", "count", "seed", *_SIDES}

_FILE = {
    "type": "string",
    "description": f"the path that POST {UPLOAD} (multipart, field 'files') answered with, the address of a picture "
    "that was made here, or a data: URL of up to 700 KB",
}
_FILES = {"type": "array", "items": _FILE}


def describe_tool(engine: Engine, tab: Tab) -> tuple[str, dict[str, Any]]:
    """What a tab's tool is for, with the model that is loaded now, and the JSON Schema of what it takes."""
    about = f" The model: {engine.preset.about}" if engine.preset else ""
    taken = {name: _schema(name, engine) for name in parameters_of(tab)}
    schema = {"type": "object", "properties": taken, "required": _NEEDS.get(tab.name, [])}
    return f"{_WHAT[tab.name]} {_ANSWER}{about}", schema | {"additionalProperties": False}


def parameters_of(tab: Tab) -> tuple[str, ...]:
    """Names of what a tab's tool takes: those of the endpoint, with its one message taken apart."""
    own = ("prompt", "files") if tab.parameters == ("message",) else tab.parameters
    return (*own, *SETTINGS, "loras")


def _schema(name: str, engine: Engine) -> dict[str, Any]:
    own = {
        "prompt": {"type": "string", "description": "words, in any language"},
        "reason": {"type": "boolean"},
        "images": _FILES | {"maxItems": LIMITS.images},
        "files": _FILES,
        **dict.fromkeys(("image", "video", "audio"), _FILE),
        "mask": _FILE | {"description": f"white where it is painted; {_FILE['description']}"},
        "history": {
            "type": "array",
            "maxItems": LIMITS.turns,
            "description": "the conversation before, oldest first; picture: what was drawn then",
            "items": {
                "type": "object",
                "properties": {
                    "prompt": {"type": "string"},
                    "answer": {"type": "string"},
                    "picture": _FILE,
                    **dict.fromkeys(KINDS, _FILES),
                },
            },
        },
        "loras": {
            "type": "array",
            "maxItems": LIMITS.loras,
            "description": f"styles: {', '.join(known_loras(engine.settings)) or 'none here'}, or uploads",
            "items": {
                "type": "object",
                "properties": {"file": {"type": "string"}, "weight": _number("lora_weight")},
                "required": ["file"],
            },
        },
    }
    said = own.get(name) or _number(name)
    return {"description": LABELS[name].en} | said if name in LABELS else said


def _number(name: str) -> dict[str, Any]:
    field = {"control": "control_strength", **dict.fromkeys(_SIDES, "margin")}.get(name, SETTINGS.get(name, name))
    allowed: Range = getattr(LIMITS, field)
    step = {"multipleOf": allowed.step} if allowed.step else {}
    kind = "integer" if name in _WHOLE else "number"
    return {"type": kind, "minimum": allowed.low, "maximum": allowed.high} | step


def values_of_call(tab: Tab, arguments: dict[str, Any], settings: Settings, keep: Callable[[str], None]) -> list[Any]:
    """What an endpoint's handler takes, in its order, from a tool's arguments.

    keep: told the path of each file that came inside the call. Raises InvalidRequestError.
    """
    known = parameters_of(tab)
    if strange := next((name for name in arguments if name not in known), None):
        raise InvalidRequestError(f"{tab.name} has no parameter {show_value(strange)}; it takes {', '.join(known)}.")
    given = {name: value for name, value in arguments.items() if value is not None}
    for name in ("image", "mask", "video", "audio"):
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
    return [given.get(name) for name in (*tab.parameters, *SETTINGS, "loras")]


def _list(name: str, value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise InvalidRequestError(f"{name} is {show_value(value)}; it must be a list.")
    return value


def _file(name: str, value: Any, keep: Callable[[str], None]) -> str:
    """The path of an uploaded file or of one that was made here."""
    if not isinstance(value, str):
        raise InvalidRequestError(f"{name} is {show_value(value)}; it must be {_FILE['description']}.")
    folder = Path(get_upload_folder()).resolve()
    if value.startswith("data:"):
        path = _unpack(name, value, folder)
        keep(path)
        return path
    path = unquote(value.partition(f"{API}/file=")[2]) or value
    if not is_inside(path, folder):
        raise InvalidRequestError(f"{name}: {show_name(path)} was not uploaded here; send the file to {UPLOAD} first.")
    return path


def _unpack(name: str, address: str, folder: Path) -> str:
    head, _, body = address.partition(",")
    try:
        content = base64.b64decode(body, validate=True) if head.endswith(";base64") else b""
    except binascii.Error:
        content = b""
    if not content:
        raise InvalidRequestError(f"{name} is a data: URL that cannot be read; it must be base64 and not empty.")
    check_room(folder, len(content))
    home = folder / secrets.token_hex(16)
    home.mkdir(parents=True)
    path = home / "file"
    path.write_bytes(content)
    return str(path.rename(home / clean_name(name, path)))


def _turn(turn: Any, keep: Callable[[str], None]) -> Any:
    """As the thread of the page has it: files as objects."""
    if not isinstance(turn, dict):
        return turn  # whoever reads it says what is wrong with it
    named = {k: [as_file(_file(k, file, keep)) for file in _list(k, turn[k])] for k in KINDS if turn.get(k)}
    if turn.get("picture"):
        named["picture"] = as_file(_file("picture", turn["picture"], keep))
    return turn | named


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
