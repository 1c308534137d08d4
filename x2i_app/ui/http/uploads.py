"""Uploads: files received within limits and stored under safe names, and their progress for the page.

The limits are in `limits.py`; `middleware.py` applies that of the total size.
"""

import asyncio
import json
import re
import secrets
import shutil
import threading
from collections import Counter, OrderedDict
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any

import anyio
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from x2i_app.errors import EngineError, MediaError
from x2i_app.media import sniff
from x2i_app.output_names import is_device_name
from x2i_app.ui.http.disk_space import check_disk_space
from x2i_app.ui.http.limits import HTTP_LIMITS, HttpLimits
from x2i_app.ui.http.refusal import Refusal

_NAME_LENGTH, _EXTENSION_LENGTH = 60, 12
_EXTENSIONS = {"WebM": "mkv", "JPEG": "jpg", "TIFF": "tif"}  # of kinds whose usual extension is not their name
_POLL_SECONDS = 0.2
_MOST_FILES, _MOST_CLIENTS = 2000, 5000  # files of one client

STORED = "x2i.stored"  # of the StoredUploads in the ASGI scope of a client that has a share of the disk
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


@dataclass(eq=False)
class _Receiving:
    """An upload that arrives. deadline: ends it. started: on the event loop's clock. received: bytes."""

    address: str
    deadline: asyncio.Timeout
    started: float
    received: int = 0

    def rate(self, now: float) -> float:
        """Bytes a second."""
        return self.received / max(now - self.started, 0.001)


class UploadPlaces:
    """The uploads that arrive now: a few at once, of each client and in all, and none that trickles.

    Where no place is left, a new upload takes that of one which is slower than the least rate. Not thread-safe: use it
    only in the event loop.
    """

    def __init__(self, limits: HttpLimits = HTTP_LIMITS):
        self._limits = limits
        self._running: list[_Receiving] = []

    @asynccontextmanager
    async def place(self, address: str) -> AsyncIterator[Callable[[int], None]]:
        """Receive an upload inside the block, and call what it yields with the number of bytes that arrived.

        Raises Refusal: 503 if there is no place, 408 if the upload is too slow.
        """
        self._make_room(address)
        limits, clock = self._limits, asyncio.get_running_loop().time
        start = clock()
        try:
            async with asyncio.timeout_at(start + min(limits.upload_grace, limits.upload_seconds)) as deadline:
                upload = _Receiving(address, deadline, start)
                self._running.append(upload)

                def count(arrived: int) -> None:
                    upload.received += arrived
                    allowed = limits.upload_grace + upload.received / limits.upload_rate
                    if not deadline.expired():
                        deadline.reschedule(start + min(allowed, limits.upload_seconds))

                try:
                    yield count
                finally:
                    self._running.remove(upload)
        except TimeoutError:
            raise Refusal(
                408,
                f"The upload was too slow: it may take {limits.upload_seconds:g} s and needs {limits.upload_rate:,} "
                "bytes a second; send a smaller file.",
            ) from None

    def _make_room(self, address: str) -> None:
        own = [upload for upload in self._running if upload.address == address]
        for uploads, most in ((own, self._limits.uploads_per_address), (self._running, self._limits.uploads)):
            if len(uploads) < most:
                continue
            now = asyncio.get_running_loop().time()
            slowest = min(uploads, key=lambda upload: upload.rate(now))
            if now - slowest.started < 3 or slowest.rate(now) >= self._limits.upload_rate:
                whose = "of yours " if uploads is own else ""
                raise Refusal(
                    503, f"The app receives {len(uploads)} uploads {whose}now, which is the limit; try later."
                )
            slowest.deadline.reschedule(now)


class StoredUploads:
    """The files that each client has uploaded. Of a client that has stored too much, the oldest files go; of too many
    clients, all files of the one that uploaded longest ago.

    They may be inputs of a job that waits: it then says which file is gone. Gradio itself removes files that are older
    than a day. Any thread may use it.
    """

    def __init__(self, limits: HttpLimits = HTTP_LIMITS):
        self._limits = limits
        self._files: OrderedDict[str, dict[str, int]] = OrderedDict()
        self._lock = threading.Lock()

    def add(self, address: str, paths: Iterable[str]) -> None:
        """Note new files of a client, and remove its oldest ones."""
        with self._lock:
            self._add(address, paths)

    def _add(self, address: str, paths: Iterable[str]) -> None:
        files = self._files.setdefault(address, {})
        self._files.move_to_end(address)
        if len(self._files) > _MOST_CLIENTS:
            for path in self._files.popitem(last=False)[1]:
                self._remove(path)
        for path in paths:
            files.pop(path, None)  # one that is stored again is the newest
            with suppress(OSError):
                files[path] = Path(path).stat().st_size
        total = sum(files.values())
        for path in list(files):
            if total <= self._limits.stored_bytes and len(files) <= _MOST_FILES:
                break
            total -= files.pop(path)
            self._remove(path)

    def _remove(self, path: str) -> None:
        """Remove a file from the disk, unless another client has it too."""
        if not any(path in files for files in self._files.values()):
            with suppress(OSError):
                Path(path).unlink()


def count_stored(request: Any, paths: list[str]) -> None:
    """Count files that a function of the page has stored for a client: as uploads, they have its share of the disk.

    request: Gradio's; nothing is counted outside of a server.
    """
    scope = getattr(getattr(request, "request", None), "scope", {})
    if "app" in scope:
        scope["app"].get_blocks().upload_file_set.update(paths)  # Gradio removes them when they are old
    if stored := scope.get(STORED):
        stored.add(scope["client"][0], paths)


def _event(**message: Any) -> str:
    return f"data: {json.dumps(message)}\n\n"


class _Parser(MultiPartParser):
    """Starlette's parser, which also reports the bytes of each file."""

    on_bytes: OnBytes

    def on_part_data(self, data: bytes, start: int, end: int) -> None:
        super().on_part_data(data, start, end)
        if file := self._current_part.file:
            self.on_bytes(file.filename or "", end - start)


@dataclass(frozen=True)
class Form:
    """A multipart body. files: (field, path) of each stored file. fields: (field, text) of all other parts."""

    files: tuple[tuple[str, str], ...]
    fields: tuple[tuple[str, str], ...] = ()

    @property
    def paths(self) -> list[str]:
        """Of all stored files."""
        return [path for _, path in self.files]


async def receive_files(request: Request, folder: Path, on_bytes: OnBytes, limits: HttpLimits = HTTP_LIMITS) -> Form:
    """Store the `files` of a multipart body in `folder`. Other fields are dropped. Raises as `receive_form`."""
    form = await receive_form(request, folder, on_bytes, limits, ("files",))
    if not form.files:
        raise Refusal(400, "No file came; send it in the field 'files'.")
    return Form(form.files)


async def receive_form(
    request: Request,
    folder: Path,
    on_bytes: OnBytes,
    limits: HttpLimits = HTTP_LIMITS,
    names: Collection[str] | None = None,
) -> Form:
    """Receive a multipart body and store its files in `folder`. names: of the fields whose files are stored; None: all.

    Each file gets a folder with a random name. The file keeps its own name, cleaned, with the extension of its
    content. The parser writes to files without a name, so an upload that is cut leaves nothing on the disk.
    Raises Refusal if the body is malformed or the disk is full.
    """
    if not request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        field = f" in the field '{next(iter(names))}'" if names else " as its parts"
        raise Refusal(400, f"An upload must be multipart/form-data; send the files{field}.")
    parser = _Parser(request.headers, request.stream(), max_files=limits.upload_files, max_fields=limits.upload_files)
    parser.on_bytes = on_bytes
    try:
        form = await parser.parse()
    except (MultiPartException, ValueError, LookupError) as error:  # also unknown charsets and broken boundaries
        what = f": {error.message.rstrip('.')}" if isinstance(error, MultiPartException) else ""
        advice = f"send at most {limits.upload_files} files at once"
        if "Too many" not in what:
            advice = "let your HTTP client write the form and its Content-Type, with the boundary"
        raise Refusal(400, f"The upload cannot be read{what}; {advice}.") from None
    except OSError as error:
        raise _cannot_store(error) from None
    try:
        parts = form.multi_items()
        files = [(name, part) for name, part in parts if not isinstance(part, str) and (not names or name in names)]
        given = [part for _, part in files]
        paths = await _store_to_the_end(given, folder, limits.upload_bytes) if files else ()
        stored = zip((name for name, _ in files), paths, strict=True)
        return Form(tuple(stored), tuple((name, part) for name, part in parts if isinstance(part, str)))
    finally:
        await form.close()


async def _store_to_the_end(files: list, folder: Path, most_bytes: int) -> list[str]:
    """As `_store_all`, in a thread. A deadline that passes meanwhile waits for the thread, and what it stored goes."""
    storing = asyncio.ensure_future(anyio.to_thread.run_sync(_store_all, files, folder, most_bytes))
    try:
        return await asyncio.shield(storing)
    except asyncio.CancelledError:
        with suppress(Refusal):
            for path in await storing:
                shutil.rmtree(Path(path).parent, ignore_errors=True)
        raise


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
    return f"{'_' if is_device_name(stem) else ''}{stem}.{extension}"
