"""Checks of JSON bodies: small, plain, of the form that the endpoint takes, and with files that were uploaded here."""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import gradio as gr
from pydantic import ValidationError

from x2i_app.limits import show_value
from x2i_app.media.guard import show_name
from x2i_app.ui.http.access import UPLOAD
from x2i_app.ui.http.limits import HTTP_LIMITS
from x2i_app.ui.http.refusal import Refusal
from x2i_app.ui.i18n import in_english
from x2i_app.ui.page import optional_inputs

_HALF_CHARACTER = re.compile("[\ud800-\udfff]")


def check_call(body: bytes, name: str, app: Any) -> tuple[Any, str | None]:
    """Refuse a call that Gradio cannot read, or that names a file which was not uploaded.

    body: JSON. name: of the endpoint, used if the body has no `fn_index`. app: Gradio's, which knows its functions.
    Returns Gradio's function that is called, and the session hash or None.
    """
    payload = read_object(body, '{"data": [...]}')
    for key in ("session_hash", "event_id"):
        value = payload.get(key)
        if value is not None and not (isinstance(value, str) and re.fullmatch(r"[\w-]{1,64}", value, re.ASCII)):
            raise Refusal(400, f"{key} must be up to 64 letters, digits, - and _; leave it out, or make a new one.")
    check_texts(payload)
    function = _find_function(app.get_blocks().fns, payload.get("fn_index"), name)
    _check_files(payload, Path(app.uploaded_file_dir).resolve())
    _check_event(payload.get("event_data"), function)
    if isinstance(payload.get("data"), list):  # Gradio itself refuses anything else
        _check_data(payload["data"], function.inputs)
    return function, payload.get("session_hash")


def read_object(body: bytes, example: str) -> dict[str, Any]:
    """The JSON object in a body. Otherwise the refusal shows `example`."""
    try:
        payload = json.loads(body)
    except (ValueError, RecursionError):  # not JSON, not UTF-8, thousands of digits or brackets
        raise Refusal(400, f"The body is not JSON; send an object such as {example}.") from None
    if not isinstance(payload, dict):
        raise Refusal(400, f"The body is not a JSON object; send one such as {example}.")
    check_form(payload)
    return payload


def check_form(payload: dict[str, Any]) -> None:
    """Raise Refusal for a body that would keep the event loop busy: Gradio visits each value of it several times."""
    count = files = 0
    for value, depth in _values(payload):
        count += len(value) if isinstance(value, (dict, list)) else 0
        files += isinstance(value, dict) and "path" in value
        if depth > HTTP_LIMITS.json_depth:
            raise Refusal(400, f"The body is nested deeper than {HTTP_LIMITS.json_depth} levels; send plain values.")
        if count > HTTP_LIMITS.json_values:
            raise Refusal(413, f"The body has more than {HTTP_LIMITS.json_values:,} values; send fewer.")
        if files > HTTP_LIMITS.json_files:
            raise Refusal(413, f"The body names more than {HTTP_LIMITS.json_files} files; send fewer.")


def check_texts(payload: dict[str, Any]) -> None:
    """Refuse halves of characters: a function of the page that gives a text back would give what cannot be sent."""
    for value, _ in _values(payload):
        texts = [value] if isinstance(value, str) else value.keys() if isinstance(value, dict) else ()
        if any(map(_HALF_CHARACTER.search, texts)):
            raise Refusal(400, "The body contains an incomplete character (a lone surrogate); paste the text again.")


def _values(payload: Any) -> Iterator[tuple[Any, int]]:
    """Each value in a JSON value, with its depth from 0, outer ones first."""
    waiting = [(payload, 0)]
    while waiting:
        value, depth = waiting.pop()
        yield value, depth
        if isinstance(value, (dict, list)):
            inner = value.values() if isinstance(value, dict) else value
            waiting += [(each, depth + 1) for each in inner]


def _find_function(functions: Mapping[int, Any], number: Any, name: str) -> Any:
    if number is None:
        found = next((function for function in functions.values() if function.api_name == name), None)
    else:
        found = functions.get(number) if type(number) is int else None
    if found is None:
        raise Refusal(404, "There is no such endpoint; /gradio_api/info lists all endpoints.")
    return found


def _check_event(event: Any, function: Any) -> None:
    if function.collects_event_data and not (isinstance(event, dict) and {"index", "value"} <= event.keys()):
        raise Refusal(400, 'event_data must say what was selected; send {"index": ..., "value": ...}.')


def _check_data(data: list, inputs: list) -> None:
    if not len(inputs) - optional_inputs(inputs) <= len(data) <= len(inputs):
        raise Refusal(400, f"{len(data)} values came and {len(inputs)} are needed; /gradio_api/info lists them.")
    for value, component in zip(data, inputs, strict=False):
        model = getattr(component, "data_model", None)
        if isinstance(component, gr.Dataset) and type(value) is not int:
            raise Refusal(400, f"The example is {show_value(value)}; send its number, from 0.")
        if model and value is not None:
            try:
                model.model_validate(value)
            except ValidationError:
                what = show_value(in_english(component.label))
                raise Refusal(
                    400, f"{what} does not have the form that it needs; /gradio_api/info describes it."
                ) from None


def _check_files(payload: dict[str, Any], folder: Path) -> None:
    given = (value.get("path") for value, _ in _values(payload) if isinstance(value, dict))
    for path in {path for path in given if isinstance(path, str)}:
        if is_address(path) or not is_inside(path, folder):
            raise Refusal(
                400, f"{show_name(path[-200:])} was not uploaded here; send the file itself to {UPLOAD} first."
            )


def is_inside(path: str, folder: Path) -> bool:
    """Whether a client's path leads into `folder`, which is absolute and without links."""
    if len(path) > HTTP_LIMITS.file_path_length:
        return False  # each of its folders would be looked up
    try:
        return Path(path).resolve().is_relative_to(folder)
    except (OSError, ValueError, RuntimeError):  # too long, with a NUL, or a loop of links
        return False


def is_address(path: str) -> bool:
    """Whether a path is a URL of any scheme, or starts with two slashes as a network path does."""
    return re.match(r"\s*([a-z][a-z0-9+.-]+:|[/\\]{2})", path, re.IGNORECASE) is not None
