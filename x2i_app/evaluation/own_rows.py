"""Rows in this project's own form, of which FIELDS are all fields."""

import json
from pathlib import Path
from typing import Any

from x2i_app.errors import InvalidRequestError, MediaError, X2IError
from x2i_app.evaluation.media import Recipe
from x2i_app.evaluation.prompts import FILES, MEDIA, Question, Row
from x2i_app.evaluation.tables import Record
from x2i_app.limits import show_value
from x2i_app.media import sniff
from x2i_app.request import validate_text

# What `batch` rows may also have.
_SETTINGS = (
    *("width", "height", "steps", "guidance", "reason", "negative_prompt", "true_cfg_scale", "fast", "control"),
    *("strength", "outpaint", "mask_invert", "mask_grow", "mask_feather", "only_masked"),
)
_PARSED = frozenset(_SETTINGS) - {"negative_prompt"}  # whose cells in a table are no text
FIELDS = (
    *("id", "category", "language", "prompt", "instruction", "history", "caption", "questions"),
    *(*MEDIA, *FILES, *_SETTINGS),
)
_QUESTION_FIELDS = ("question", "answer", "kind", "depends")
_MOST_QUESTIONS = 100


def table_row(number: int, place: str, record: Record, folder: Path) -> Row:
    """Cells are text. A list is JSON, or has one entry in each line, or entries separated by |."""
    values: dict[str, Any] = {name: cell for name, cell in record.read().items() if cell}
    for name in values.keys() & {"questions", *MEDIA}:
        listed = parse_or_none(values[name])
        parts = [part.strip() for part in values[name].replace("|", "\n").splitlines()]
        values[name] = listed if isinstance(listed, list) else [part for part in parts if part]
    for name in values.keys() & (_PARSED | {"history"}):
        cell = values[name]
        parsed = parse_or_none(cell.lower() if name in _PARSED else cell)
        values[name] = cell if parsed is None else parsed
    return own_row(number, place, json.dumps(values), folder)


def own_row(number: int, place: str, text: str, folder: Path) -> Row:
    """The row of a JSON object, whose file names are relative to `folder`. Raises X2IError."""
    values = {name: value for name, value in parse_object(text).items() if value is not None}
    if unknown := [name for name in values if name not in FIELDS]:
        raise InvalidRequestError(f"there is no field {show_value(unknown[0])}; choose from {', '.join(FIELDS)}.")
    row_id, language = _id(values.get("id", number)), values.get("language", "")
    if "instruction" in values and "prompt" in values:
        raise InvalidRequestError("it has both prompt and instruction, which are two names of one field; keep one.")
    request: dict[str, Any] = {name: values[name] for name in ("history", *_SETTINGS) if name in values}
    prompt = values.get("instruction", values.get("prompt", ""))
    request["prompt"] = validate_text("prompt", prompt)
    for name, modality in MEDIA.items():
        if name in values:
            request[name] = _media(name, values[name], modality, folder)
    request["history"] = [_turn(turn, folder) for turn in _list("history", values.get("history", []))]
    files = {name: _medium(values[name], kind, folder) for name, kind in FILES.items() if name in values}
    changed = files.pop("changed", None)
    request = {name: value for name, value in (request | files).items() if value not in ("", [])}
    if not request.keys() & {"prompt", *MEDIA, "reference"}:
        raise InvalidRequestError("it has no prompt and no images, videos or audios; write one of them.")
    caption = values.get("caption")
    questions = tuple(map(_question, _list("questions", values.get("questions", []))))
    if len(questions) > _MOST_QUESTIONS:
        raise InvalidRequestError(f"it has {len(questions)} questions; at most {_MOST_QUESTIONS} are allowed.")
    for index, question in enumerate(questions):
        if any(each >= index for each in question.depends):
            raise InvalidRequestError(f"question {index} depends on a later one, or on itself; put it below them.")
    return Row(
        number,
        row_id,
        place,
        validate_text("category", values.get("category", "all")) or "all",
        request,
        questions,
        validate_text("language", language),
        None if caption is None else validate_text("caption", caption),
        changed,
    )


def _id(value: Any) -> str:
    found = str(value) if type(value) is int else validate_text("id", value)
    if not found.strip():
        raise InvalidRequestError("the id is empty; write one, or leave it out.")
    return found


def _list(name: str, value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise InvalidRequestError(f"{name} is {show_value(value)}; it must be a list.")
    return value


def _media(name: str, value: Any, modality: str, folder: Path) -> list[Any]:
    return [_medium(each, modality, folder) for each in _list(name, value)]


def _medium(value: Any, modality: str, folder: Path) -> Any:
    """A file's absolute path, or a recipe."""
    if isinstance(value, dict):
        return Recipe.parse(value, modality)
    if not isinstance(value, str) or not value:
        raise InvalidRequestError(f"{show_value(value)} is no {modality}; write the name of a file.")
    try:
        path = (folder / value).absolute()
        sniff(path, modality)
    except X2IError as error:
        raise MediaError(f"{error} File names are relative to the folder of the file with the prompts.") from None
    except (OSError, ValueError):
        raise MediaError(f"{show_value(value)} is no file name.") from None
    return str(path)


def _turn(value: Any, folder: Path) -> dict[str, Any]:
    if not isinstance(value, dict) or not set(value) <= {"prompt", "answer", *MEDIA}:
        raise InvalidRequestError(f"history has {show_value(value)}; a turn has prompt, answer, {', '.join(MEDIA)}.")
    for name in ("prompt", "answer"):
        validate_text(name, value.get(name, ""))
    media = {name: _media(name, value[name], kind, folder) for name, kind in MEDIA.items() if name in value}
    return value | media


def _question(value: Any) -> Question:
    if isinstance(value, str):
        value = {"question": value}
    if not isinstance(value, dict) or not set(value) <= set(_QUESTION_FIELDS):
        raise InvalidRequestError(
            f"questions has {show_value(value)}; write text, or an object with {', '.join(_QUESTION_FIELDS)}."
        )
    text, answer = validate_text("question", value.get("question")).strip(), value.get("answer", "yes")
    if not text:
        raise InvalidRequestError("a question is empty; write it, or remove it.")
    if str(answer).lower() not in ("yes", "no", "true", "false"):
        raise InvalidRequestError(f"the answer is {show_value(answer)}; it must be yes or no.")
    depends = value.get("depends", [])
    if not isinstance(depends, list) or not all(type(each) is int and each >= 0 for each in depends):
        raise InvalidRequestError(
            f"depends is {show_value(depends)}; it must be a list of numbers of questions, from 0."
        )
    kind = validate_text("kind", value.get("kind", "content"))
    return Question(text, str(answer).lower() in ("yes", "true"), kind, tuple(depends))


def parse_or_none(text: str) -> Any:
    """JSON; None for anything else."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def parse_object(text: str) -> dict[str, Any]:
    """A JSON object. Raises InvalidRequestError."""
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidRequestError(f"this is not JSON ({error}); write one object in each line.") from None
    if not isinstance(values, dict):
        raise InvalidRequestError(f"this is {show_value(values)}; write one object in each line.")
    return values
