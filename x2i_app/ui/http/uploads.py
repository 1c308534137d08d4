"""Uploads: received in bounds, kept under names of our own, and how far they have come for the page that sends them."""

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
from x2i_app.media import CAPS, sniff
from x2i_app.ui.http.disk_space import check_room
from x2i_app.ui.http.payloads import Refusal

UPLOAD_BYTES = CAPS.file_bytes
UPLOAD_FILES = 32
_NAME_LETTERS = 60
# Of one kind several containers: the extension is what other programs expect of it.
_EXTENSIONS = {"WebM": "mkv", "JPEG": "jpg", "TIFF": "tif"}
_MOST_WATCHERS = 32
_START_SECONDS, _LOOK_SECONDS = 3.0, 0.2

Note = Callable[[str, int], None]  # of a file with this name, so many bytes more have come


@dataclass
class _Upload:
    """Bytes of its whole body, and how many of each file have come."""

    size: int
    come: Counter[str] = field(default_factory=Counter)


class Arrivals:
    """How much has come of the uploads that are on their way. Used in the event loop alone."""

    def __init__(self):
        self._arriving: dict[str, _Upload] = {}
        self._watchers = 0

    @contextmanager
    def noting(self, upload_id: str, size: int) -> Iterator[Note]:
        """What is told to the function inside the block, whoever knows the name of the upload may watch.

        The page makes that name up. A name that is no word of up to 64 letters, or is taken, is not watched.
        """
        upload = _Upload(size)
        is_named = re.fullmatch(r"[\w-]{1,64}", upload_id, re.ASCII) and upload_id not in self._arriving
        if is_named:
            self._arriving[upload_id] = upload
        try:
            yield lambda name, count: upload.come.update({name: count})
        finally:
            if is_named:
                del self._arriving[upload_id]

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Watch in the block. Raises Refusal where too many do already."""
        if self._watchers >= _MOST_WATCHERS:
            raise Refusal(503, f"{self._watchers} uploads are watched, which is all there is room for; try later.")
        self._watchers += 1
        try:
            yield
        finally:
            self._watchers -= 1

    async def events(self, upload_id: str) -> AsyncIterator[str]:
        """Server-sent events in the words that Gradio's page understands, until the upload has come or is given up."""
        waited = 0.0
        while upload_id not in self._arriving and waited < _START_SECONDS:  # the page asks before it sends
            await asyncio.sleep(_LOOK_SECONDS)
            waited += _LOOK_SECONDS
        upload = self._arriving.get(upload_id, _Upload(0))
        told: Counter[str] = Counter()
        is_coming = True
        while is_coming:
            is_coming = self._arriving.get(upload_id) is upload
            for name, count in (upload.come - told).items():
                # The page's bar is `progress` of `size`, which Gradio's own events lack: there it stays empty.
                bar = {"progress": upload.come.total(), "size": upload.size}
                yield _event(msg="update", orig_name=name, chunk_size=count, **bar)
            told = upload.come.copy()
            if is_coming:
                await asyncio.sleep(_LOOK_SECONDS)
        yield _event(msg="done")


def _event(**message: Any) -> str:
    return f"data: {json.dumps(message)}\n\n"


class _Parser(MultiPartParser):
    """Starlette's, which also tells how much of a file has come."""

    note: Note

    def on_part_data(self, data: bytes, start: int, end: int) -> None:
        super().on_part_data(data, start, end)
        if file := self._current_part.file:
            self.note(file.filename or "", end - start)


async def receive_files(request: Request, folder: Path, note: Note) -> list[str]:
    """Write the `files` of a multipart body into new folders under `folder`; the paths. note: hears what has come.

    Each file lies in a folder whose name nobody can guess, under its own name cleaned, with the extension of what is
    in it. A body that is cut leaves nothing behind: until it is whole it has no name on the disk.
    """
    if not request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        raise Refusal(400, "An upload must be multipart/form-data; send the files in the field 'files'.")
    parser = _Parser(request.headers, request.stream(), max_files=UPLOAD_FILES, max_fields=UPLOAD_FILES)
    parser.note = note
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
