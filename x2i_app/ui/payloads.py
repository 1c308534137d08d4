"""What comes in the body of a request: JSON that is small, plain and names no address elsewhere; and uploads."""

import json
import re
import secrets
import shutil
from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import Any

import anyio
import gradio as gr
from pydantic import ValidationError
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from x2i_app.errors import EngineError, MediaError
from x2i_app.media import CAPS, sniff
from x2i_app.media.guard import show_name
from x2i_app.request import show_value
from x2i_app.ui.access import UPLOAD
from x2i_app.ui.languages import in_english
from x2i_app.ui.space import check_room

JSON_BYTES = 2**20
UPLOAD_BYTES = CAPS.file_bytes
UPLOAD_FILES = 32
_NAME_LETTERS = 60
_MAX_DEPTH = 32
# Of one kind several containers: the extension is what other programs expect of it.
_EXTENSIONS = {"WebM": "mkv", "JPEG": "jpg", "TIFF": "tif"}


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


async def receive_files(request: Request, folder: Path) -> list[str]:
    """Write the `files` of a multipart body into new folders under `folder`; the paths.

    Each file lies in a folder whose name nobody can guess, under its own name cleaned, with the extension of what is
    in it. A body that is cut leaves nothing behind: until it is whole it has no name on the disk.
    """
    if not request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        raise Refusal(400, "An upload must be multipart/form-data; send the files in the field 'files'.")
    parser = MultiPartParser(request.headers, request.stream(), max_files=UPLOAD_FILES, max_fields=UPLOAD_FILES)
    try:
        form = await parser.parse()
    except (MultiPartException, ValueError, LookupError) as error:  # also unknown charsets and broken boundaries
        what = f": {error.message.rstrip('.')}" if isinstance(error, MultiPartException) else ""
        raise Refusal(400, f"The upload cannot be read{what}; send at most {UPLOAD_FILES} files at once.") from None
    try:
        files = [part for part in form.getlist("files") if not isinstance(part, str)]
        if not files:
            raise Refusal(400, "No file came; send it in the field 'files'.")
        return await anyio.to_thread.run_sync(_keep_all, files, folder)
    finally:
        await form.close()


def _keep_all(files: list, folder: Path) -> list[str]:
    folder.mkdir(parents=True, exist_ok=True)
    try:
        check_room(folder, UPLOAD_BYTES)
    except EngineError as error:
        raise Refusal(507, str(error)) from None
    return [str(_keep(file.file, file.filename or "", folder / secrets.token_hex(16))) for file in files]


def _keep(source: Any, name: str, home: Path) -> Path:
    home.mkdir()
    path = home / "file"
    try:
        with path.open("wb") as copy:
            shutil.copyfileobj(source, copy)
        return path.rename(home / clean_name(name, path))
    except OSError as error:
        shutil.rmtree(home, ignore_errors=True)
        raise Refusal(507, f"The upload cannot be kept ({error.strerror}); try again later.") from None


def clean_name(name: str, path: Path) -> str:
    """A name for the uploaded file `path`: the letters and digits of its own, and the extension of its content."""
    given = PurePath(name.replace("\\", "/"))
    stem = "".join(c if c.isalnum() else "-" for c in given.stem if c.isprintable())
    stem = stem.encode(errors="ignore").decode()[:_NAME_LETTERS].strip("-") or "file"
    try:
        kind = sniff(path).name
        extension = _EXTENSIONS.get(kind, kind.lower())
    except MediaError:  # whoever reads it says what is wrong with it
        extension = re.sub(r"[^a-z0-9]", "", given.suffix.lower())[:12] or "bin"
    return f"{stem}.{extension}"
