"""The unfinished jobs of browsers on disk: a restart of the app, or its crash, loses none of them.

They lie in a folder of each browser, found by its key as in `session_store`: a JSON file for each job, with its request
and its place, beside the uploaded files that the request names. A job's files go when the job ends.
"""

import json
import logging
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from gradio.processing_utils import save_file_to_cache
from gradio.utils import get_upload_folder

from x2i_app.errors import X2IError
from x2i_app.request import GenerationRequest
from x2i_app.serving.file_transfer import map_files
from x2i_app.serving.jobs import Job, Phase
from x2i_app.ui.http.disk_space import check_disk_space
from x2i_app.ui.session_store import BrowserLocks, bytes_of, folder_of, modified_at

logger = logging.getLogger(__name__)

MAX_BYTES = 500_000_000  # of all browsers' jobs together; the oldest job of the client with most goes first
MAX_JOBS = 16  # of one browser
_MAX_INPUT_BYTES = 100_000_000  # of one job's files
_REMAINS_SECONDS = 3600  # until files without a job go; one that is being written now has some too
_FILES = ".files"
_INPUTS = "file:"  # before the name of an input that lies beside the job; no path of a system starts so


@dataclass(frozen=True)
class KeptJob:
    """A job that did not end. id: of the job that it was.

    request: names its uploaded files as they lie in `inputs`, from where Gradio does not serve them.
    """

    id: str
    request: GenerationRequest
    inputs: Path


class QueueStore:
    """folder: of all browsers; made when it is first needed. hours: how long a job is kept; 0 keeps none.

    is_closing: whether jobs end because the app ends; those stay.
    Thread-safe. A browser's files are copied while only this browser waits, and a job that ends waits for no copy.
    What cannot be read or written is logged and passed over: a job runs whether it is kept or not.
    """

    def __init__(self, folder: Path, hours: float, is_closing: Callable[[], bool], max_bytes: int = MAX_BYTES):
        self.folder, self.hours, self.max_bytes = folder, hours, max_bytes
        self._is_closing = is_closing
        self._locks = BrowserLocks()
        self._cleaning = threading.Lock()
        self._owners: dict[Path, str] = {}  # of browsers' folders, in this run of the app
        self._kept: WeakKeyDictionary[Job, tuple[Path, int, GenerationRequest]] = WeakKeyDictionary()
        self._lock = threading.Lock()  # only for _kept: the thread that draws waits for it

    def keep(self, key: Any, jobs: Sequence[Job], owner: str = "") -> None:
        """Keep a browser's unfinished jobs, in this order. What is kept already and has not changed costs nothing.

        owner: whose browser it is, if that is known: all browsers of one owner have the share of one.
        """
        folder = folder_of(self.folder, key) if self.hours else None
        if folder is None or self.is_kept(key, jobs):
            return
        with self._locks.of(folder):
            for place, job in enumerate(jobs[:MAX_JOBS]):
                with self._lock:
                    if self._is_known(job, folder, place):
                        continue
                    self._kept[job] = folder, place, job.request
                    job.on_end = self._forget
                try:
                    check_disk_space(self.folder.parent)
                    _write(folder / job.id, place, job.request)
                except (OSError, TypeError, X2IError) as error:
                    _delete(folder / job.id)
                    logger.warning("A waiting job could not be kept: %s", error)
                if job.progress.phase.is_final and not self._is_closing():
                    _delete(folder / job.id)  # it has ended meanwhile
        with self._cleaning:
            self._owners[folder] = owner or folder.name
            self._clean()

    def is_kept(self, key: Any, jobs: Sequence[Job]) -> bool:
        """Whether `keep` would have nothing to do. Fast: the event loop may ask."""
        folder = folder_of(self.folder, key) if self.hours else None
        with self._lock:
            return folder is None or all(
                self._is_known(job, folder, place) for place, job in enumerate(jobs[:MAX_JOBS])
            )

    def _is_known(self, job: Job, folder: Path, place: int) -> bool:
        known = self._kept.get(job)
        return bool(known) and known[:2] == (folder, place) and known[2] is job.request

    def find(self, key: Any) -> list[KeptJob]:
        """The jobs of a browser in their order. No file is copied."""
        folder = folder_of(self.folder, key) if self.hours else None
        if folder is None:
            return []
        with self._cleaning:
            self._clean()
        found = [_read(path) for path in _jobs(folder)]
        return [job for _, job in sorted(filter(None, found), key=lambda pair: pair[0])]

    def restore(self, job: KeptJob, count: Callable[[list[str]], object] | None = None) -> GenerationRequest | None:
        """The request of a job with its files where Gradio may serve them; None if one of them is gone.

        count: called with the paths of all copies. No lock is held.
        """
        copies: list[str] = []
        try:
            return map_files(job.request, partial(_served, job.inputs, copies))
        except (OSError, ValueError, X2IError) as error:
            logger.warning("A waiting job could not be read again: %s", error)
            return None
        finally:
            if count:
                count(copies)

    def remove(self, key: Any, job_id: str | None = None) -> None:
        """Remove one job of a browser, by the id that it had, or all of them."""
        folder = folder_of(self.folder, key)
        if folder is None:
            return
        with self._locks.of(folder):
            for path in _jobs(folder):
                if job_id in (None, path.stem):
                    _delete(path.with_suffix(""))
            with suppress(OSError):  # it has other jobs, or none was ever kept
                folder.rmdir()

    def _forget(self, job: Job) -> None:
        """Called by each job that has ended, in the thread that draws: it must not wait for a browser's files."""
        if self._is_closing() and job.progress.phase is not Phase.DONE:
            return
        with self._lock:
            known = self._kept.get(job)
        if known:
            _delete(known[0] / job.id)

    def _clean(self) -> None:
        """Delete what is too old; then, while all are too large together, the oldest job of the owner with most."""
        now = time.time()
        sizes: dict[str, dict[Path, int]] = {}  # of each owner, the jobs and their bytes
        folders = list(self.folder.iterdir()) if self.folder.is_dir() else []
        for folder in folders:
            jobs = _jobs(folder)
            for path in [path for path in jobs if modified_at(path) < now - 3600 * self.hours]:
                _delete(path.with_suffix(""))
                jobs.remove(path)
            _delete_remains(folder, {path.stem for path in jobs}, now - _REMAINS_SECONDS)
            sizes.setdefault(self._owners.get(folder, folder.name), {}).update({path: _bytes(path) for path in jobs})
        self._owners = {folder: owner for folder, owner in self._owners.items() if folder in folders}
        while sum(sum(each.values()) for each in sizes.values()) > self.max_bytes:
            largest = max(sizes.values(), key=lambda each: sum(each.values()))
            oldest = min(largest, key=modified_at)
            _delete(oldest.with_suffix(""))
            del largest[oldest]


def _jobs(folder: Path) -> list[Path]:
    try:
        return [path for path in folder.iterdir() if path.suffix == ".json"]
    except (FileNotFoundError, NotADirectoryError):  # a browser's folder is deleted; others' files may lie there too
        return []


def _delete_remains(folder: Path, jobs: set[str], before: float) -> None:
    """Delete files whose job was never written, as the app was killed, and a folder that has been empty for as long."""
    with suppress(FileNotFoundError, NotADirectoryError):  # its browser deletes it at this moment
        for part in folder.iterdir():
            if part.stem not in jobs and part.stat().st_mtime < before:
                shutil.rmtree(part, ignore_errors=True) if part.is_dir() else part.unlink(missing_ok=True)
    with suppress(OSError):  # it has other contents
        if modified_at(folder) < before:
            folder.rmdir()


def _bytes(path: Path) -> int:
    inputs = path.with_suffix(_FILES)
    return bytes_of(path) + sum(bytes_of(each) for each in (inputs.iterdir() if inputs.is_dir() else ()))


def _delete(job: Path) -> None:
    """job: without a suffix."""
    try:
        job.with_suffix(".json").unlink(missing_ok=True)
        shutil.rmtree(job.with_suffix(_FILES), ignore_errors=True)
    except OSError as error:
        logger.warning("A waiting job could not be deleted: %s", error)


def _write(job: Path, place: int, request: GenerationRequest) -> None:
    """The JSON file comes last: a job that is there is whole. Raises TypeError for what is neither text nor a path."""
    job.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    inputs, uploads = job.with_suffix(_FILES), Path(get_upload_folder()).resolve()
    spent = 0

    def copy(source: Any) -> Any:
        nonlocal spent
        if not isinstance(source, str) or not Path(source).resolve().is_relative_to(uploads):
            return source  # a file of this machine stays where it is
        name = f"{Path(source).parent.name[-16:]}-{Path(source).name}"[-120:]
        if not (inputs / name).exists():
            spent += Path(source).stat().st_size
            if spent > _MAX_INPUT_BYTES:
                raise OSError("its files are too large")
            inputs.mkdir(exist_ok=True, mode=0o700)
            shutil.copyfile(source, inputs / name)
        return _INPUTS + name

    values = asdict(map_files(request, copy))
    del values["notes"]  # are made again
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", dir=job.parent, delete=False) as unfinished:
        try:
            json.dump({"place": place, "request": values}, unfinished, ensure_ascii=False)
        except BaseException:
            unfinished.close()  # Windows removes no open file
            Path(unfinished.name).unlink()
            raise
    Path(unfinished.name).replace(job.with_suffix(".json"))


def _read(path: Path) -> tuple[tuple[int, float], KeptJob] | None:
    """A job, after what it is sorted by: its place, and its age, as two tabs of a browser have a list each."""
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        job = KeptJob(path.stem, GenerationRequest(**stored["request"]), path.with_suffix(_FILES))
        return (int(stored["place"]), path.stat().st_mtime), job
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError, X2IError) as error:
        logger.warning("A waiting job could not be read again: %s", error)
        return None


def _served(inputs: Path, copies: list[str], source: Any) -> Any:
    """In a folder of its browser: the share of one client can be used up without the files of another."""
    if not isinstance(source, str) or not source.startswith(_INPUTS):
        return source
    folder = Path(get_upload_folder()) / inputs.parent.name
    copies.append(save_file_to_cache(inputs / Path(source.removeprefix(_INPUTS)).name, str(folder)))
    return copies[-1]
