"""Uploads: files received within limits and stored under safe names, and their progress for the page."""

import asyncio
import json
import re
import secrets
import shutil
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any

import anyio
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from x2i_app.errors import EngineError, MediaError
from x2i_app.media import sniff
from x2i_app.ui.http.disk_space import check_disk_space
from x2i_app.ui.http.limits import HTTP_LIMITS, HttpLimits
from x2i_app.ui.http.refusal import Refusal

_NAME_LENGTH, _EXTENSION_LENGTH = 60, 12
_EXTENSIONS = {"WebM": "mkv", "JPEG": "jpg", "TIFF": "tif"}  # of kinds whose usual extension is not their name
_POLL_SECONDS = 0.2

OnBytes = Callable[[str, int], None]  # takes a file's name and how many more bytes of it have arrived


@dataclass
class _Upload:
    """size: of the whole body in bytes. received: bytes of each file by its name."""

    size: int
    received: Counter[str] = field(default_factory=Counter)


class UploadProgress:
    """The progress of all running uploads. Not thread-safe: use it only in the event loop."""

    def __init__(self, limits: HttpLimits = HTTP_LIMITS):
        self._limits = limits
        self._uploads: dict[str, _Upload] = {}
        self._watchers = 0

    @contextmanager
    def track(self, upload_id: str, size: int) -> Iterator[OnBytes]:
        """Show the progress that is reported inside the block to every client that knows `upload_id`.

        The page invents the id: up to 64 letters, digits, - and _. Any other id, and one in use, is not shown.
        """
        upload = _Upload(size)
        is_shown = re.fullmatch(r"[\w-]{1,64}", upload_id, re.ASCII) and upload_id not in self._uploads
        if is_shown:
            self._uploads[upload_id] = upload
        try:
            yield lambda name, count: upload.received.update({name: count})
        finally:
            if is_shown:
                del self._uploads[upload_id]

    @contextmanager
    def watch(self) -> Iterator[None]:
        """Count a client as a watcher inside the block. Raises Refusal if there are too many."""
        if self._watchers >= self._limits.watchers:
            raise Refusal(503, f"{self._watchers} clients watch their uploads, which is the limit; try later.")
        self._watchers += 1
        try:
            yield
        finally:
            self._watchers -= 1

    async def events(self, upload_id: str) -> AsyncIterator[str]:
        """Server-sent events in the format of Gradio's page, until the upload ends."""
        waited = 0.0
        while upload_id not in self._uploads and waited < self._limits.watch_seconds:  # the page asks before it sends
            await asyncio.sleep(_POLL_SECONDS)
            waited += _POLL_SECONDS
        upload = self._uploads.get(upload_id, _Upload(0))
        reported: Counter[str] = Counter()
        is_running = True
        while is_running:
            is_running = self._uploads.get(upload_id) is upload
            for name, count in (upload.received - reported).items():
                # The page's progress bar needs `progress` and `size`, which Gradio's own events lack.
                bar = {"progress": upload.received.total(), "size": upload.size}
                yield _event(msg="update", orig_name=name, chunk_size=count, **bar)
            reported = upload.received.copy()
            if is_running:
                await asyncio.sleep(_POLL_SECONDS)
        yield _event(msg="done")


def _event(**message: Any) -> str:
    return f"data: {json.dumps(message)}\n\n"


class _Parser(MultiPartParser):
    """Starlette's parser, which also reports the bytes of each file."""

    on_bytes: OnBytes

    def on_part_data(self, data: bytes, start: int, end: int) -> None:
        super().on_part_data(data, start, end)
        if file := self._current_part.file:
            self.on_bytes(file.filename or "", end - start)


async def receive_files(
    request: Request, folder: Path, on_bytes: OnBytes, limits: HttpLimits = HTTP_LIMITS
) -> list[str]:
    """Store the `files` of a multipart body in `folder` and return their paths.

    Each file gets a folder with a random name. The file keeps its own name, cleaned, with the extension of its
    content. The parser writes to files without a name, so an upload that is cut leaves nothing on the disk.
    Raises Refusal if the body is malformed or the disk is full.
    """
    if not request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        raise Refusal(400, "An upload must be multipart/form-data; send the files in the field 'files'.")
    parser = _Parser(request.headers, request.stream(), max_files=limits.upload_files, max_fields=limits.upload_files)
    parser.on_bytes = on_bytes
    try:
        form = await parser.parse()
    except (MultiPartException, ValueError, LookupError) as error:  # also unknown charsets and broken boundaries
        what = f": {error.message.rstrip('.')}" if isinstance(error, MultiPartException) else ""
        raise Refusal(
            400, f"The upload cannot be read{what}; send at most {limits.upload_files} files at once."
        ) from None
    except OSError as error:
        raise _cannot_store(error) from None
    try:
        files = [part for part in form.getlist("files") if not isinstance(part, str)]
        if not files:
            raise Refusal(400, "No file came; send it in the field 'files'.")
        return await anyio.to_thread.run_sync(_store_all, files, folder, limits.upload_bytes)
    finally:
        await form.close()


def _store_all(files: list, folder: Path, most_bytes: int) -> list[str]:
    homes = [folder / secrets.token_hex(16) for _ in files]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        check_disk_space(folder, most_bytes)
        return [str(_store(each.file, each.filename or "", home)) for each, home in zip(files, homes, strict=True)]
    except EngineError as error:
        raise Refusal(507, str(error)) from None
    except OSError as error:
        for home in homes:
            shutil.rmtree(home, ignore_errors=True)
        raise _cannot_store(error) from None


def _store(source: Any, name: str, home: Path) -> Path:
    home.mkdir()
    path = home / "file"
    with path.open("wb") as copy:
        shutil.copyfileobj(source, copy)
    return path.rename(home / clean_name(name, path))


def _cannot_store(error: OSError) -> Refusal:
    return Refusal(507, f"The upload cannot be stored ({error.strerror}); try again later.")


def clean_name(name: str, path: Path) -> str:
    """A safe name for the uploaded file `path`: letters and digits of `name`, and the extension of its content."""
    given = PurePath(name.replace("\\", "/"))
    stem = "".join(c if c.isalnum() else "-" for c in given.stem if c.isprintable())
    stem = stem.encode(errors="ignore").decode()[:_NAME_LENGTH].strip("-") or "file"
    try:
        kind = sniff(path).name
        extension = _EXTENSIONS.get(kind, kind.lower())
    except MediaError:  # the code that reads the file reports what is wrong with it
        extension = re.sub(r"[^a-z0-9]", "", given.suffix.lower())[:_EXTENSION_LENGTH] or "bin"
    return f"{stem}.{extension}"
