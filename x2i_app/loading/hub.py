"""Files and folders by path or hub id: a local path, the models folder, the hub's cache, then a download.

The downloads are huggingface_hub's, with four additions: a check of the disk before the first byte, progress in bytes,
error messages for users, and large files that resume. huggingface_hub 2 retries a broken connection, but when a process
ends it drops what came of each file, up to 20 GB; `tests/loading/test_hub.py::test_client_restarts` shows it. That test
fails as soon as the client resumes by itself; then `_download_large` can go.
"""

import errno
import glob
import hashlib
import json
import os
import re
import shutil
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue

from huggingface_hub import HfApi, constants, get_hf_file_metadata, hf_hub_url, snapshot_download
from huggingface_hub.errors import (
    FileMetadataError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    HTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.file_download import DryRunFileInfo, are_symlinks_supported, http_get, repo_folder_name
from huggingface_hub.hf_api import RepoFile
from huggingface_hub.utils import WeakFileLock, build_hf_headers, validate_repo_id
from tqdm import tqdm

from x2i_app.errors import CheckpointError
from x2i_app.loading.files import missing_shards

MODELS = "models"  # the default of X2I_MODELS
REQUIRE_REVISION = "X2I_REQUIRE_REVISION"  # if set, nothing of the hub is used for which no commit is named

SPARE_BYTES = 2**30  # stay free on the disk
_PARALLEL_FILES = 4  # one connection alone seldom fills the bandwidth
_SHA256_LENGTH = 64  # characters of a large file's ETag, which is its SHA-256; a small file's is a shorter Git id
_LOCAL = "or give a local folder or file"
_REVISION = re.compile(r"\w[\w.-]*(/\w[\w.-]*)*")
_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class Found:
    """A file or folder, and the place it was in: "local path", "models folder", "hub cache", "hub" or "bundled"."""

    path: Path
    place: str


@dataclass(frozen=True)
class Download:
    """Progress of a download. done, total: bytes, without the files that were in the cache before.

    what: the action, "Downloading" or "Unpacking".
    """

    repo_id: str
    done: int
    total: int
    what: str = "Downloading"

    def __str__(self):
        return f"{self.what} {self.repo_id}: {show_size(self.done)} of {show_size(self.total)}"


Report = Callable[[Download], None]


# ----- Find ----------------------------------------------------------------------------------------------------------


def find_directory(
    source: str | Path,
    revision: str | None,
    patterns: list[str],
    models: str | Path | None = None,
    report: Report | None = None,
) -> Found:
    """Find a model's folder.

    source: a local folder; else OWNER/NAME, looked for as OWNER/NAME and NAME in the models folder, in the hub's cache
    and on the hub. revision: a commit, a branch or a tag; that of OWNER/NAME@REVISION comes first. patterns: glob
    patterns of the files to download. models: the models folder; None takes X2I_MODELS, else "models". report: called
    with the progress of a download; None draws a progress bar on a terminal.
    Raises CheckpointError.
    """
    if path_exists(source, Path.is_dir):
        return Found(Path(source), "local path")
    repo_id, named = split_revision(str(source))
    _check_repo_id(repo_id, str(source), "folder", "a folder or a hub id such as owner/name")
    revision = named or revision
    for folder in repository_folders(repo_id, models):
        if folder.is_dir():
            return Found(folder, "models folder")
    cached = cached_snapshot(repo_id, revision, patterns)
    if cached and _is_complete(cached, patterns):
        return Found(cached, "hub cache")
    return Found(download_snapshot(repo_id, revision, patterns, report), "hub")


def find_file(source: str | Path, models: str | Path | None = None, report: Report | None = None) -> Found:
    """Find a file: a local file or folder, else owner/name/path, a file of a hub repository.

    owner/name@revision/path is the file of a commit, or of a branch or tag without a slash. models, report, errors: as
    in `find_directory`.
    """
    # A local path that does not exist is returned too: the code that reads it says what it looked for.
    if path_exists(source, Path.exists) or Path(source).is_absolute() or str(source).count("/") < 2:
        return Found(Path(source), "local path")
    owner, name, filename = str(source).split("/", 2)
    repo_id, revision = split_revision(f"{owner}/{name}")
    _check_repo_id(repo_id, str(source), "file", "a file or a hub file such as owner/name/file.bin")
    if ".." in filename.split("/"):
        raise CheckpointError(f"There is no file {str(source)!r}; a hub file's path has no '..' in it.")
    for folder in (*repository_folders(repo_id, models), models_folder(models)):
        if (folder / filename).is_file():
            return Found(folder / filename, "models folder")
    cached = cached_snapshot(repo_id, revision, [glob.escape(filename)])
    if cached and (cached / filename).is_file():
        return Found(cached / filename, "hub cache")
    return Found(download_file(repo_id, filename, revision, report), "hub")


def split_revision(source: str) -> tuple[str, str | None]:
    """OWNER/NAME@REVISION as (OWNER/NAME, REVISION); None without one. Raises CheckpointError for an odd revision."""
    repo_id, sign, revision = source.partition("@")
    if sign and not _REVISION.fullmatch(revision):
        raise CheckpointError(
            f"There is no revision {revision!r} in {source!r}; name a commit, a branch or a tag as in owner/name@main."
        )
    return repo_id, revision or None


def commit_name(path: Path) -> str | None:
    """The name of a file or folder of the hub's cache with its commit, OWNER/NAME@COMMIT; None of any other."""
    try:
        folder, snapshots, commit, *rest = path.absolute().relative_to(Path(constants.HF_HUB_CACHE).absolute()).parts
    except ValueError:
        return None
    kind, _, repo_id = folder.partition("--")
    if (kind, snapshots) != ("models", "snapshots"):
        return None
    return "/".join([f"{repo_id.replace('--', '/', 1)}@{commit}", *rest])


def _check_pinned(repo_id: str, revision: str | None) -> None:
    """Raises CheckpointError if the owner requires a commit and none is named."""
    if os.environ.get(REQUIRE_REVISION, "0") not in ("", "0") and not (revision and _COMMIT.fullmatch(revision)):
        raise CheckpointError(
            f"{repo_id} is named without a commit, which {REQUIRE_REVISION} forbids; name one, as {repo_id}@COMMIT "
            "with its 40 letters and digits, or give a local folder or file."
        )


def path_exists(source: str | Path, check: Callable[[Path], bool]) -> bool:
    """`check(path)`, e.g. Path.is_dir; False for a string that cannot be a path at all."""
    try:
        return check(Path(source))
    except (OSError, ValueError):  # too long, or with a null byte
        return False


def models_folder(models: str | Path | None) -> Path:
    """The folder that is searched before the hub."""
    return Path(models or os.environ.get("X2I_MODELS") or MODELS)


def repository_folders(repo_id: str, models: str | Path | None) -> tuple[Path, Path]:
    """Where the models folder may hold a copy of a repository: OWNER/NAME and NAME."""
    folder = models_folder(models)
    return folder / repo_id, folder / repo_id.split("/")[1]


def _check_repo_id(repo_id: str, source: str, kind: str, instead: str) -> None:
    try:
        if repo_id.count("/") != 1 or Path(repo_id).is_absolute():
            raise HFValidationError
        validate_repo_id(repo_id)
    except HFValidationError as error:
        raise CheckpointError(f"There is no {kind} {source!r}; give {instead}.") from error


def _is_complete(directory: Path, patterns: list[str]) -> bool:
    """Whether a cached folder has what the patterns ask for; other programs download parts of a repository."""
    for pattern in patterns:
        if "/" in pattern and not any(directory.glob(pattern)):
            return False
        folder = (directory / pattern).parent
        needs_weights = pattern.endswith(("/*", ".safetensors")) and (folder / "config.json").is_file()
        if needs_weights and not any(folder.glob("*.safetensors")):
            return False
    return not missing_shards(directory)


# ----- The hub -------------------------------------------------------------------------------------------------------


def cached_snapshot(repo_id: str, revision: str | None, patterns: list[str]) -> Path | None:
    """The folder of a repository in the hub's cache; None if it is not there or known to be incomplete.

    Raises CheckpointError, as all functions here do, if a commit is required and `revision` is none.
    """
    _check_pinned(repo_id, revision)
    try:
        return Path(snapshot_download(repo_id, revision=revision, allow_patterns=patterns, local_files_only=True))
    except LocalEntryNotFoundError:
        return None


def list_files(repo_id: str, revision: str | None, wanted: str) -> dict[str, int]:
    """Path and size in bytes of every file of a repository on the hub.

    wanted: what is looked for, named by the CheckpointError that is raised if the hub cannot be asked.
    """
    _check_pinned(repo_id, revision)
    with _explained(repo_id, wanted, revision):
        tree = HfApi().list_repo_tree(repo_id, recursive=True, revision=revision)
        return {entry.path: entry.size for entry in tree if isinstance(entry, RepoFile)}


def download_file(repo_id: str, filename: str, revision: str | None, report: Report | None = None) -> Path:
    """One file of a repository; errors and `report` as in `download_snapshot`."""
    return download_snapshot(repo_id, revision, [glob.escape(filename)], report) / filename


def download_snapshot(repo_id: str, revision: str | None, patterns: list[str], report: Report | None = None) -> Path:
    """Download the matching files of a repository into the hub's cache; files that are there are not read again.

    A broken connection is retried; after a process was killed, the next one resumes its large files.
    report: called with the progress from any thread; what it raises stops the download. None: a bar on a terminal.
    Raises CheckpointError: no space, connection or permission; no such repository, revision or file.
    """
    _check_pinned(repo_id, revision)
    files = {"revision": revision, "allow_patterns": patterns}
    name = repo_id if "*" in "".join(patterns) else f"{' and '.join(patterns)} of {repo_id}"
    with _explained(repo_id, name, revision):
        planned = snapshot_download(repo_id, **files, dry_run=True, tqdm_class=_silent_bar(lambda count: None))
        if not planned:
            raise CheckpointError(f"{repo_id} has no {' or '.join(patterns)} on the hub; check the name.")
        large = _large_files(repo_id, planned)
        total = sum(file.file_size or 0 for file in planned if file.will_download)
        present = sum(file.present for file in large)
        _check_space(repo_id, total - present)
        with show_progress(repo_id, total, report) as add:
            add(present)
            _download_large(large, add)
            return Path(snapshot_download(repo_id, **files, tqdm_class=_silent_bar(add)))


def _check_space(repo_id: str, needed: int) -> None:
    folder = Path(constants.HF_HUB_CACHE)
    free = shutil.disk_usage(next(each for each in (folder, *folder.parents) if each.exists())).free
    if needed + SPARE_BYTES > free:
        raise CheckpointError(
            f"{repo_id} is {show_size(needed)} to download, and the disk of the hub's cache has {show_size(free)} "
            "free; make room, or set HF_HOME to a folder on another disk."
        )


@contextmanager
def show_progress(
    repo_id: str, total: int, report: Report | None, what: str = "Downloading"
) -> Iterator[Callable[[int], None]]:
    """Yields a function that counts bytes, from any thread, and shows the sum. what: as in `Download`."""
    hidden = report is not None or not sys.stderr.isatty()
    with tqdm(total=total, unit="B", unit_scale=True, desc=repo_id, disable=hidden) as bar:
        lock, done = threading.Lock(), 0

        def add(count: int) -> None:
            nonlocal done
            with lock:
                done += count
                bar.update(count)
                if report and count > 0:
                    report(Download(repo_id, min(done, total), total, what))

        yield add


def _silent_bar(add: Callable[[int], None]) -> type[tqdm]:
    """A progress bar class for huggingface_hub that draws nothing and passes on the bytes that are counted."""

    class SilentBar(tqdm):
        def __init__(self, *args, **options):
            super().__init__(*args, **options | {"disable": True})
            # A snapshot has two bars of bytes, of those received and of those written; one of files besides.
            self.is_counted = options.get("unit") == "B" and options.get("desc") != "Downloading bytes"

        def update(self, n=1):
            if self.is_counted:
                add(int(n or 0))

    return SilentBar


@contextmanager
def _explained(repo_id: str, name: str, revision: str | None) -> Iterator[None]:
    """Turns the hub client's errors into a CheckpointError that says what to do. name: of what is downloaded."""
    try:
        yield
    except (HTTPError, OSError, ValueError) as error:
        raise CheckpointError(
            f"{name} is not in the hub cache and cannot be downloaded: {_reason(error, repo_id, revision)}."
        ) from error


def _reason(error: BaseException, repo_id: str, revision: str | None) -> str:
    """The first known cause: the client wraps what happened in errors of its own."""
    causes = [error]
    while (cause := causes[-1].__cause__) is not None:
        causes.append(cause)
    for each in causes:
        match each:
            case GatedRepoError():
                return (
                    f"its license must be accepted first; do so at {constants.ENDPOINT}/{repo_id}, then log in with "
                    "`hf auth login` or set HF_TOKEN"
                )
            case RepositoryNotFoundError():
                return "the hub has no such repository, or it is private; check the name, or set HF_TOKEN"
            case RevisionNotFoundError():
                return f"it has no revision {revision!r}; check the name"
            case OfflineModeIsEnabled():
                return f"HF_HUB_OFFLINE is set, so the hub is not asked; unset it, {_LOCAL}"
            case FileMetadataError() | json.JSONDecodeError():
                return f"the answer is not the hub's, perhaps a proxy's or a login page; open a browser, {_LOCAL}"
            case HfHubHTTPError():
                return f"the hub answers {each.response.status_code}; try again later, {_LOCAL}"
            case OSError() if each.errno == errno.ENOSPC:
                return "the disk is full; make room, or set HF_HOME to a folder on another disk"
            case OSError() if "Consistency check failed" in str(each):
                return "a file was shorter or longer than the hub said; try again"
    return f"the connection failed ({type(causes[-1]).__name__}); check it and try again, {_LOCAL}"


def show_size(count: int) -> str:
    """Bytes as people write them, such as 1.2 GB."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"


# ----- Large files ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _LargeFile:
    """A file that is not in the cache yet. partial: holds what has been downloaded so far. target: the whole file."""

    name: str
    url: str
    size: int
    etag: str
    partial: Path
    target: Path
    lock: Path

    @property
    def present(self) -> int:
        """Bytes downloaded so far."""
        return self.partial.stat().st_size if self.partial.is_file() else 0


def _large_files(repo_id: str, planned: list[DryRunFileInfo]) -> list[_LargeFile]:
    """The planned downloads that are larger than one chunk, so that a part of them can be on the disk."""
    sizes = range(constants.DOWNLOAD_CHUNK_SIZE, constants.MAX_HTTP_DOWNLOAD_SIZE + 1)
    return [_large_file(repo_id, file) for file in planned if file.will_download and file.file_size in sizes]


def _large_file(repo_id: str, file: DryRunFileInfo) -> _LargeFile:
    url = hf_hub_url(repo_id, file.filename, revision=file.commit_hash)
    etag = get_hf_file_metadata(url).etag
    cache, folder = Path(constants.HF_HUB_CACHE), repo_folder_name(repo_id=repo_id, repo_type="model")
    blob = cache / folder / "blobs" / etag
    target = blob if are_symlinks_supported(cache) else Path(file.local_path)
    lock = cache / ".locks" / folder / f"{etag}.lock"
    return _LargeFile(file.filename, url, file.file_size, etag, blob.with_name(f"{etag}.incomplete"), target, lock)


def _download_large(files: list[_LargeFile], add: Callable[[int], None]) -> None:
    """Download the files into the cache, some at a time. add: called with each number of bytes that arrives.

    If one fails or the user interrupts, the others stop at their next chunk, and nobody waits for them.
    """
    stop, slots, outcomes = threading.Event(), threading.Semaphore(_PARALLEL_FILES), SimpleQueue()

    def count(received: int) -> None:
        if stop.is_set():
            raise InterruptedError
        add(received)

    def run(file: _LargeFile) -> None:
        try:
            with slots:
                _download_one(file, count)
            outcomes.put(None)
        except BaseException as error:  # noqa: BLE001 - raised below, in the thread that waits
            outcomes.put(error)

    for file in files:  # daemons, unlike an executor's threads: a program that ends does not wait for them
        threading.Thread(target=run, args=(file,), name="x2i-download", daemon=True).start()
    try:
        for _ in files:
            if error := outcomes.get():
                raise error
    except BaseException:
        stop.set()
        raise


def _download_one(file: _LargeFile, count: Callable[[int], None]) -> None:
    for path in (file.partial, file.target, file.lock):
        path.parent.mkdir(parents=True, exist_ok=True)
    with WeakFileLock(file.lock):  # the client's own lock, so that it and other processes wait
        if file.target.exists():
            return
        if file.present > file.size:
            file.partial.unlink()
        resumed = file.present
        with file.partial.open("ab") as output:
            http_get(
                file.url,
                output,
                resume_size=resumed,
                headers=build_hf_headers(),
                expected_size=file.size,
                tqdm_class=_silent_bar(count),
            )
        if resumed:
            _check_content(file)
        file.partial.replace(file.target)


def _check_content(file: _LargeFile) -> None:
    """Two parts that were written at different times, perhaps with a crash between, must be one file."""
    if len(file.etag) != _SHA256_LENGTH:
        return
    with file.partial.open("rb") as content:
        found = hashlib.file_digest(content, "sha256").hexdigest()
    if found != file.etag:
        file.partial.unlink()
        raise CheckpointError(f"{file.name} was damaged while its download was interrupted, and is removed; try again.")
