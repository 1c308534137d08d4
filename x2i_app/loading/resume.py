"""Large files of a download, each taken up at the byte where it was left, even by a process that was killed.

huggingface_hub 2 gives every attempt a file of its own name, and Xet's protocol begins anew too: at 20 GB that is an
evening. So large files come by the library's plain HTTP download, into one file beside where the whole one belongs and
under the library's own lock; the library then finds them in its cache.
"""

import hashlib
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue

from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url
from huggingface_hub.file_download import (
    DryRunFileInfo,
    are_symlinks_supported,
    http_get,
    repo_folder_name,
)
from huggingface_hub.utils import WeakFileLock, build_hf_headers
from tqdm import tqdm

from x2i_app.errors import CheckpointError

_AT_ONCE = 4  # files; one connection alone seldom fills a line
_SHA256_LETTERS = 64  # of the name that the hub has for a large file's content; a small one's is shorter


@dataclass(frozen=True)
class LargeFile:
    """A file that is not in the cache yet. size: bytes of all of it. partial: holds what has come so far.

    target: where it belongs. etag: the hub's name for its content.
    """

    name: str
    url: str
    size: int
    etag: str
    partial: Path
    target: Path
    lock: Path

    @property
    def here(self) -> int:
        """Bytes that have come so far."""
        return self.partial.stat().st_size if self.partial.is_file() else 0


def large_files(repo_id: str, planned: list[DryRunFileInfo]) -> list[LargeFile]:
    """Those of a dry run that are worth taking up: what is smaller than one piece is lost with the process anyway."""
    sizes = range(constants.DOWNLOAD_CHUNK_SIZE, constants.MAX_HTTP_DOWNLOAD_SIZE + 1)
    return [_describe(repo_id, file) for file in planned if file.will_download and file.file_size in sizes]


def _describe(repo_id: str, file: DryRunFileInfo) -> LargeFile:
    url = hf_hub_url(repo_id, file.filename, revision=file.commit_hash)
    etag = get_hf_file_metadata(url).etag
    cache, folder = Path(constants.HF_HUB_CACHE), repo_folder_name(repo_id=repo_id, repo_type="model")
    blob = cache / folder / "blobs" / etag
    target = blob if are_symlinks_supported(cache) else Path(file.local_path)
    lock = cache / ".locks" / folder / f"{etag}.lock"
    return LargeFile(file.filename, url, file.file_size, etag, blob.with_name(f"{etag}.incomplete"), target, lock)


def fetch(files: list[LargeFile], told: Callable[[int], None]) -> None:
    """Bring the files into the cache. told: hears, from any thread, how many bytes of them all are here.

    If one fails, or the user interrupts, the others stop within a piece; a program that ends does not wait for them.
    Raises as huggingface_hub does, and CheckpointError.
    """
    counts, stop = {file.name: file.here for file in files}, threading.Event()
    places, outcomes = threading.Semaphore(_AT_ONCE), SimpleQueue()

    def tell(name: str, done: int) -> None:
        if stop.is_set():
            raise InterruptedError
        counts[name] = done
        told(sum(counts.values()))

    def run(file: LargeFile) -> None:
        try:
            with places:
                _fetch_one(file, tell)
            outcomes.put(None)
        except BaseException as error:  # noqa: BLE001 - whoever waits must hear of it
            outcomes.put(error)

    for file in files:
        threading.Thread(target=run, args=(file,), name="x2i-download", daemon=True).start()
    try:
        for _ in files:
            if error := outcomes.get():
                raise error
    except BaseException:
        stop.set()
        raise


def _fetch_one(file: LargeFile, tell: Callable[[str, int], None]) -> None:
    for path in (file.partial, file.target, file.lock):
        path.parent.mkdir(parents=True, exist_ok=True)
    with WeakFileLock(file.lock):
        if file.target.exists():  # another process was faster
            return
        if file.here > file.size:
            file.partial.unlink()
        begun = file.here
        tell(file.name, begun)
        bar = silent_bar(lambda done: tell(file.name, done))
        with file.partial.open("ab") as output:
            http_get(
                file.url,
                output,
                resume_size=begun,
                headers=build_hf_headers(),
                expected_size=file.size,
                tqdm_class=bar,
            )
        if begun:
            _check_whole(file)
        file.partial.replace(file.target)


def _check_whole(file: LargeFile) -> None:
    """Two halves that came at different times, perhaps with a power cut between them, must be one file."""
    if len(file.etag) != _SHA256_LETTERS:
        return
    with file.partial.open("rb") as content:
        found = hashlib.file_digest(content, "sha256").hexdigest()
    if found != file.etag:
        file.partial.unlink()
        raise CheckpointError(f"{file.name} was damaged while its download was interrupted, and is removed; try again.")


def silent_bar(told: Callable[[int], None] = lambda done: None) -> type[tqdm]:
    """A bar for the hub's library that draws nothing, and passes on what a bar of bytes counts."""

    class Silent(tqdm):
        def __init__(self, *args, **options):
            super().__init__(*args, **options | {"disable": True})
            self.counts_bytes = options.get("unit") == "B"

        def update(self, n=1):
            with self.get_lock():
                self.n += n or 0
            if self.counts_bytes:
                told(int(self.n))

    return Silent
