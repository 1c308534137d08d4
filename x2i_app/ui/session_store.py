"""The images of sessions on disk, so that a reload, a crash or a restart of the app loses none.

A browser keeps a random key. Its images lie in the folder that has the SHA-256 of the key as its name, so that nobody
who does not have the key can open them in the app. Each image is a file with its settings, beside a JSON file with
what else was shown of it, and beside the input files that it was made from.
"""

import hashlib
import json
import logging
import re
import secrets
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from gradio.processing_utils import save_file_to_cache
from gradio.utils import get_upload_folder

from x2i_app.errors import X2IError
from x2i_app.media import read_recipe
from x2i_app.media.hashing import path_hash
from x2i_app.media.metadata import is_hash
from x2i_app.request import GenerationRequest
from x2i_app.settings import FORMATS
from x2i_app.ui.history import MAX_ITEMS, HistoryItem
from x2i_app.ui.http.disk_space import check_disk_space
from x2i_app.ui.turns import KINDS

logger = logging.getLogger(__name__)

MAX_BYTES = 2_000_000_000  # of all sessions together; the oldest images go first
_MAX_INPUT_BYTES = 50_000_000  # a larger input file is not kept with an image
_KEY = re.compile(r"[\w-]{43}")  # as new_key makes them
_CLEAN_SECONDS = 60  # until loading images cleans again
_LOCKS = 64  # for the folders of all browsers
_REMAINS_SECONDS = 3600  # until parts without an image go; one that is being written now has some too
_DIGITS = 20  # of the time in an image's name
_MAX_NAME = 120  # characters of a file name
_SHOWN = {"texts": dict, "job": str, "answer": str | None, "notes": list, "report": dict}  # of a HistoryItem
_FAVORITE = "is_favorite"  # the same; earlier versions did not write it


def new_key() -> str:
    """A key that nobody can guess."""
    return secrets.token_urlsafe(32)


def folder_of(folder: Path, key: Any) -> Path | None:
    """Where `folder` keeps what belongs to a browser; None if this is no key."""
    if not isinstance(key, str) or not _KEY.fullmatch(key):
        return None
    return folder / hashlib.sha256(key.encode()).hexdigest()


class BrowserLocks:
    """A lock for each browser's folder; some share one. What waits for a browser's files keeps no others waiting."""

    def __init__(self) -> None:
        self._locks = [threading.Lock() for _ in range(_LOCKS)]

    def of(self, folder: Path) -> threading.Lock:
        """The lock of a folder that `folder_of` gave."""
        return self._locks[int(folder.name, 16) % _LOCKS]


class SessionStore:
    """folder: of all sessions; made when it is first needed. hours: how long an image is kept; 0 keeps none.

    Thread-safe. What cannot be read or written is logged and passed over: an image that was not kept is no reason to
    lose the one that is shown.
    """

    def __init__(self, folder: Path, hours: float, max_bytes: int = MAX_BYTES):
        self.folder, self.hours, self.max_bytes = folder, hours, max_bytes
        self._lock = threading.Lock()  # only to clean: it keeps all browsers waiting
        self._locks = BrowserLocks()
        self._owners: dict[Path, str] = {}  # of browsers' folders, in this run of the app
        self._cleaned_at = 0.0

    def load(self, key: Any, count: Callable[[list[str]], object] | None = None, owner: str = "") -> list[HistoryItem]:
        """The images of a browser, newest first, copied to where Gradio may serve them.

        count: called with the paths of all copies. owner: as in `add`. No lock is held: what is deleted meanwhile is
        passed over.
        """
        folder = self._of(key)
        if folder is None:
            return []
        with self._lock:
            self._note(folder, owner)
            if abs(time.time() - self._cleaned_at) > _CLEAN_SECONDS:
                self._clean()
        images = sorted(_images(folder), key=lambda path: path.name, reverse=True)
        copies: list[str] = []
        items = [_read(path, copies) for path in images[:MAX_ITEMS]]
        if count:
            count(copies)
        return [item for item in items if item]

    def add(self, key: Any, items: list[HistoryItem], owner: str = "") -> None:
        """Keep images of a browser. An image without metadata is not kept: its user asked for that.

        owner: whose browser it is, if that is known: all browsers of one owner have the share of one.
        """
        folder = self._of(key)
        if folder is None:
            return
        with self._locks.of(folder):
            for item in items:
                if item.texts and not (folder / item.name).exists():
                    try:
                        check_disk_space(self.folder.parent)
                        _write(item, folder)
                    except (OSError, X2IError) as error:
                        _delete(folder / item.name)
                        logger.warning("An image of a session could not be kept: %s", error)
        with self._lock:
            self._note(folder, owner)
            self._clean()

    def mark(self, key: Any, item: HistoryItem) -> None:
        """Write again what is kept beside an image, which has been marked as a favorite, or is none any more."""
        folder = self._of(key)
        if folder is None:
            return
        with self._locks.of(folder):
            try:
                if (folder / item.name).is_file():
                    _write_facts(item, folder / item.name)
            except OSError as error:
                logger.warning("A favorite could not be kept: %s", error)

    def remove(self, key: Any, item: HistoryItem | None = None) -> None:
        """Delete one image of a browser, or all of them with their inputs."""
        folder = self._of(key)
        if folder is None:
            return
        with self._locks.of(folder):
            if item is None:
                shutil.rmtree(folder, ignore_errors=True)
            else:
                _delete(folder / item.name)

    def _of(self, key: Any) -> Path | None:
        """The folder of a browser; None if nothing is kept, or if this is no key."""
        return folder_of(self.folder, key) if self.hours else None

    def _note(self, folder: Path, owner: str) -> None:
        if owner:
            self._owners[folder] = owner

    def _clean(self) -> None:
        """Delete what is too old; then, while all are too large together, the oldest image of who has most.

        So a client that keeps many images, in however many browsers, cannot push out those of others.
        """
        now = self._cleaned_at = time.time()
        kept: dict[str, dict[Path, int]] = {}  # of each owner, the images and their bytes
        folders = list(self.folder.iterdir()) if self.folder.is_dir() else []
        self._owners = {folder: owner for folder, owner in self._owners.items() if folder in folders}
        for folder in folders:
            images = sorted(_images(folder), key=lambda path: path.name)
            sizes = {path: sum(map(bytes_of, _parts(path))) for path in images}
            for path in images:
                if _made_at(path) < now - 3600 * self.hours:
                    _delete(path)
                    del sizes[path]
            surplus = len(sizes) - MAX_ITEMS
            for path in sorted(sizes, key=_is_favorite)[:surplus] if surplus > 0 else ():
                _delete(path)
                del sizes[path]
            _delete_remains(folder, now - _REMAINS_SECONDS)
            kept.setdefault(self._owners.get(folder, folder.name), {}).update(sizes)
        while sum(map(_total, kept.values())) > self.max_bytes:
            largest = max(kept.values(), key=_total)
            oldest = min(largest, key=lambda path: path.name)
            _delete(oldest)
            del largest[oldest]


def bytes_of(part: Path) -> int:
    """The size of a file; 0 for one that its browser has just deleted."""
    try:
        return part.stat().st_size
    except OSError:
        return 0


def modified_at(path: Path) -> float:
    """When a file was changed, in seconds since 1970; now for one that its browser has just deleted."""
    try:
        return path.stat().st_mtime
    except OSError:
        return time.time()


def _made_at(image: Path) -> float:
    """In seconds since 1970, by the name that `add_job` gives; a file with another name may lie there too."""
    nanoseconds = image.name.partition("-")[0]
    is_time = nanoseconds.isdecimal() and len(nanoseconds) <= _DIGITS
    return int(nanoseconds) / 1e9 if is_time else modified_at(image)


def _total(sizes: dict[Path, int]) -> int:
    return sum(sizes.values())


def _delete_remains(folder: Path, before: float) -> None:
    """Delete parts whose image was never written, as the disk was full or the app was killed."""
    images = {image.stem for image in _images(folder)}
    for part in folder.iterdir() if folder.is_dir() else ():
        with suppress(FileNotFoundError):  # its browser deletes it at this moment
            if part.stem not in images and part.stat().st_mtime < before:
                shutil.rmtree(part, ignore_errors=True) if part.is_dir() else part.unlink()


def _images(folder: Path) -> list[Path]:
    try:
        return [path for path in folder.iterdir() if path.suffix[1:] in FORMATS]
    except (FileNotFoundError, NotADirectoryError):  # a browser's folder is deleted; others' files may lie there too
        return []


def _parts(image: Path) -> Iterator[Path]:
    """The files of one kept image: itself, what was shown of it, and the folder of its inputs."""
    yield image
    yield image.with_suffix(".json")
    inputs = image.with_suffix(".inputs")
    yield from inputs.iterdir() if inputs.is_dir() else ()


def _delete(image: Path) -> None:
    shutil.rmtree(image.with_suffix(".inputs"), ignore_errors=True)
    for path in (image, image.with_suffix(".json")):
        path.unlink(missing_ok=True)
    with suppress(OSError):  # it has other contents, or is deleted already
        image.parent.rmdir()


def _write(item: HistoryItem, folder: Path) -> None:
    """The image comes last: an image that is there is whole."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    image = folder / item.name
    inputs = image.with_suffix(".inputs")
    for file in _input_files(item.request):
        if file.stat().st_size <= _MAX_INPUT_BYTES:
            inputs.mkdir(exist_ok=True)
            shutil.copyfile(file, inputs / f"{path_hash(file)[-16:]}-{file.name}"[-_MAX_NAME:])
    _write_facts(item, image)
    with tempfile.NamedTemporaryFile(dir=folder, delete=False) as copy:
        copy.write(Path(item.path).read_bytes())
    Path(copy.name).replace(image)


def _write_facts(item: HistoryItem, image: Path) -> None:
    shown = {name: getattr(item, name) for name in (*_SHOWN, _FAVORITE)}
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", dir=image.parent, delete=False) as unfinished:
        unfinished.write(json.dumps(shown, ensure_ascii=False))
    Path(unfinished.name).replace(image.with_suffix(".json"))


def _is_favorite(image: Path) -> bool:
    try:
        return json.loads(image.with_suffix(".json").read_text(encoding="utf-8")).get(_FAVORITE) is True
    except (OSError, ValueError, AttributeError, RecursionError):
        return False


def _read(image: Path, copies: list[str]) -> HistoryItem | None:
    """A kept image. copies: gets the paths of its copies, also if it cannot be read.

    They have a folder for each browser: the share of one client can be used up without those of another.
    """
    try:
        shown = json.loads(image.with_suffix(".json").read_text(encoding="utf-8"))
        files = [part for part in _parts(image) if part.suffix != ".json"]
        folder = str(Path(get_upload_folder()) / image.parent.name)
        first = len(copies)
        copies += (save_file_to_cache(file, folder) for file in files)
        path, *inputs = copies[first:]
        # Hashes stay where an input was too large to be kept: then the request asks for it, as after a restored file.
        request = read_recipe(path).with_known(inputs)
        facts = {name: shown[name] for name in _SHOWN}
        if wrong := [name for name, kind in _SHOWN.items() if not isinstance(facts[name], kind)]:
            raise TypeError(f"{wrong[0]} has another type")
        if not all(isinstance(note, str) for note in facts["notes"]):
            raise TypeError("notes has something else than texts")
        return HistoryItem(path, request, **facts, name=image.name, is_favorite=shown.get(_FAVORITE) is True)
    except (OSError, ValueError, KeyError, TypeError, RecursionError, X2IError) as error:
        logger.warning("An image of a session could not be read again: %s", error)
        return None


def _input_files(request: GenerationRequest) -> set[Path]:
    """The files of this machine that the request and its conversation were given."""
    given = [file for turn in (*request.history, request) for kind in KINDS for file in getattr(turn, kind)]
    given += [request.source_image, *(file for file, _ in request.loras)]
    paths = {Path(file) for file in given if isinstance(file, str) and not is_hash(file)}
    return {path for path in paths if path.is_file()}
