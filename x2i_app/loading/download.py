"""Downloads from the hub: room on the disk first, progress, taken up where they were cut, and words for the rest."""

import errno
import json
import shutil
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import constants, snapshot_download
from huggingface_hub.errors import (
    FileMetadataError,
    GatedRepoError,
    HfHubHTTPError,
    HTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from tqdm import tqdm

from x2i_app.errors import CheckpointError
from x2i_app.loading.resume import fetch, large_files, silent_bar

_SPARE_BYTES = 2**30  # stay free, whatever is downloaded
_LOCAL = "or give a local folder or file"


@dataclass(frozen=True)
class Download:
    """A moment of a download. repo_id: what of; done, total: bytes, of what was not in the cache yet."""

    repo_id: str
    done: int
    total: int

    def __str__(self):
        return f"Downloading {self.repo_id}: {_size(self.done)} of {_size(self.total)}"


Report = Callable[[Download], None]


def cached_snapshot(repo_id: str, revision: str | None, patterns: list[str]) -> Path | None:
    """The folder of a repository in the hub's cache; None if it is not there, or known not to be whole."""
    try:
        return Path(snapshot_download(repo_id, revision=revision, allow_patterns=patterns, local_files_only=True))
    except LocalEntryNotFoundError:
        return None


def download_snapshot(repo_id: str, revision: str | None, patterns: list[str], report: Report | None = None) -> Path:
    """Those files of a repository that match, in the hub's cache. What is there already is not downloaded again.

    A connection that is cut is taken up where it broke, five times without a byte between them; what a program that was
    killed had of a large file is taken up by the next, and a file that is complete stays.
    patterns: of the files; a single one without wildcards is a name.
    report: told of every piece; None draws a bar on a terminal.
    Raises CheckpointError: no room, no connection, no permission, no such repository, revision or file.
    """
    files = {"revision": revision, "allow_patterns": patterns}
    with _named_errors(repo_id, revision, patterns):
        planned = snapshot_download(repo_id, **files, dry_run=True, tqdm_class=silent_bar())
        if not planned:
            raise CheckpointError(f"{repo_id} has no {' or '.join(patterns)} on the hub; check the name.")
        large = large_files(repo_id, planned)
        needed = sum(file.file_size or 0 for file in planned if file.will_download)
        _check_room(repo_id, needed - sum(file.here for file in large))
        with _told(repo_id, needed, report) as told:
            fetch(large, told)
            before = sum(file.size for file in large)
            # Of its bars one counts what came over the wire and one what was written; the larger number is the truer.
            rest = silent_bar(lambda done: told(before + done))
            return Path(snapshot_download(repo_id, **files, tqdm_class=rest))


def _check_room(repo_id: str, needed: int) -> None:
    folder = Path(constants.HF_HUB_CACHE)
    free = shutil.disk_usage(next(each for each in (folder, *folder.parents) if each.exists())).free
    if needed + _SPARE_BYTES > free:
        raise CheckpointError(
            f"{repo_id} is {_size(needed)} to download, and the disk of the hub's cache has {_size(free)} free; "
            "make room, or set HF_HOME to a folder on another disk."
        )


@contextmanager
def _told(repo_id: str, total: int, report: Report | None) -> Iterator[Callable[[int], None]]:
    """Yields what is told the bytes so far, from any thread; it tells `report`, or a bar on a terminal."""
    quiet = report is not None or not sys.stderr.isatty()
    with tqdm(total=total, unit="B", unit_scale=True, desc=repo_id, disable=quiet) as bar:
        lock, most = threading.Lock(), 0

        def tell(done: int) -> None:
            nonlocal most
            with lock:
                if done <= most:
                    return
                bar.update(done - most)
                most = done
                if report:
                    report(Download(repo_id, min(done, total), total))

        yield tell


@contextmanager
def _named_errors(repo_id: str, revision: str | None, patterns: list[str]) -> Iterator[None]:
    try:
        yield
    except (HTTPError, OSError, ValueError) as error:
        name = repo_id if "*" in "".join(patterns) else f"{' and '.join(patterns)} of {repo_id}"
        raise CheckpointError(
            f"{name} is not in the hub cache and cannot be downloaded: {_reason(error, repo_id, revision)}."
        ) from error


def _reason(error: BaseException, repo_id: str, revision: str | None) -> str:
    """The library wraps what happened: the first that says it, from the outside in."""
    causes = [error]
    while (cause := causes[-1].__cause__) is not None:
        causes.append(cause)
    for each in causes:
        match each:
            case GatedRepoError():
                return (
                    f"its licence must be accepted first; do so at {constants.ENDPOINT}/{repo_id}, then log in with "
                    "`hf auth login` or set HF_TOKEN"
                )
            case RepositoryNotFoundError():
                return "the hub has none of that name, or shows it to its owner only; check the name, or set HF_TOKEN"
            case RevisionNotFoundError():
                return f"it has no revision {revision!r}; check the name"
            case OfflineModeIsEnabled():
                return f"HF_HUB_OFFLINE forbids to ask the hub; unset it, {_LOCAL}"
            case FileMetadataError() | json.JSONDecodeError():
                return f"what answers is not the hub, but perhaps a proxy or a login page; open a browser, {_LOCAL}"
            case HfHubHTTPError():
                return f"the hub answers {each.response.status_code}; try again later, {_LOCAL}"
            case OSError() if each.errno == errno.ENOSPC:
                return "the disk is full; make room, or set HF_HOME to a folder on another disk"
            case OSError() if "Consistency check failed" in str(each):
                return "a file came shorter or longer than the hub said; try again"
    return f"the connection failed ({type(causes[-1]).__name__}); check it and try again, {_LOCAL}"


def _size(count: int) -> str:
    """Bytes as people say them."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"
