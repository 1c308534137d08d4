"""What comes in the body of a request as JSON: small, plain, and it names no address elsewhere."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gradio as gr
from pydantic import ValidationError

from x2i_app.media.guard import show_name
from x2i_app.request import show_value
from x2i_app.ui.http.access import UPLOAD
from x2i_app.ui.i18n.languages import in_english

JSON_BYTES = 2**20
_MAX_DEPTH = 32


class Refusal(Exception):
    """A request that is not served: HTTP status, and one sentence for whoever sent it."""

    def __init__(self, status: int, sentence: str, headers: dict[str, str] | None = None):
        super().__init__(sentence)
        self.status, self.sentence, self.headers = status, sentence, headers or {}


def check_json(body: bytes, name: str, app: Any) -> tuple[Any, str | None]:
    """Refuse a body that Gradio could not read, or with a file that was not uploaded; no more.

    name: of the endpoint, which counts where the body has no `fn_index`. app: Gradio's, with its functions. Gives
    Gradio's function that is called, and the session if the body names one.
    """
    payload = read_object(body, '{"data": [...]}')
    for key in ("session_hash", "event_id"):
        value = payload.get(key)
        if value is not None and not (isinstance(value, str) and re.fullmatch(r"[\w-]{1,64}", value, re.ASCII)):
            raise Refusal(400, f"{key} must be up to 64 letters and digits; leave it out, or make a new one.")
    function = _find(app.get_blocks().fns, payload.get("fn_index"), name)
    _check_files(payload, Path(app.uploaded_file_dir).resolve())
    _check_event(payload.get("event_data"), function)
    if isinstance(payload.get("data"), list):  # Gradio refuses what is no list in words of its own
        _check_data(payload["data"], function.inputs)
    return function, payload.get("session_hash")


def read_object(body: bytes, such_as: str) -> dict[str, Any]:
    """The JSON object that a body is; such_as: what to send instead, where it is none."""
    try:
        payload = json.loads(body)
    except (ValueError, RecursionError):  # no JSON, no UTF-8, thousands of digits or of brackets
        raise Refusal(400, f"The body is no JSON; send an object such as {such_as}.") from None
    if not isinstance(payload, dict):
        raise Refusal(400, f"The body is no JSON object; send one such as {such_as}.")
    return payload


def _find(functions: Mapping[int, Any], number: Any, name: str) -> Any:
    if number is None:
        found = next((function for function in functions.values() if function.api_name == name), None)
    else:
        found = functions.get(number) if type(number) is int else None
    if found is None:
        raise Refusal(404, "There is no such endpoint; /gradio_api/info lists those that there are.")
    return found


def _check_event(event: Any, function: Any) -> None:
    if function.collects_event_data and not (isinstance(event, dict) and {"index", "value"} <= event.keys()):
        raise Refusal(400, 'event_data must say what was chosen; send {"index": ..., "value": ...}.')


def _check_data(data: list, inputs: list) -> None:
    if len(data) != len(inputs):
        raise Refusal(400, f"{len(data)} values came and {len(inputs)} are needed; /gradio_api/info names them.")
    for value, component in zip(data, inputs, strict=True):
        model = getattr(component, "data_model", None)
        if isinstance(component, gr.Dataset) and type(value) is not int:
            raise Refusal(400, f"An example came as {show_value(value)}; send its number, from 0.")
        if model and value is not None:
            try:
                model.model_validate(value)
            except ValidationError:
                what = show_value(in_english(component.label))
                raise Refusal(
                    400, f"{what} has a value of another form; /gradio_api/info says what it takes."
                ) from None


def _check_files(value: Any, folder: Path, depth: int = 0) -> None:
    if depth > _MAX_DEPTH:
        raise Refusal(400, f"The body is nested deeper than {_MAX_DEPTH} levels; send plain values.")
    if isinstance(value, dict):
        path = value.get("path")
        if isinstance(path, str) and (is_address(path) or not is_inside(path, folder)):
            raise Refusal(400, f"{show_name(path)} was not uploaded here; send the file itself to {UPLOAD} first.")
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            _check_files(item, folder, depth + 1)


def is_inside(path: str, folder: Path) -> bool:
    """Whether a path, of a stranger's, leads into the folder, which is an absolute one without links."""
    try:
        return Path(path).resolve().is_relative_to(folder)
    except (OSError, ValueError, RuntimeError):  # too long, with a NUL, or links in a circle
        return False


def is_address(path: str) -> bool:
    """Whether a file's path is an address on the network, or of any scheme at all."""
    return re.match(r"\s*([a-z][a-z0-9+.-]+:|[/\\]{2})", path, re.IGNORECASE) is not None
