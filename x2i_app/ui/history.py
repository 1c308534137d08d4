"""The images of one session: kept in the user's own Gradio state, which nobody else sees and which ends with it."""

import hashlib
import json
import secrets
import threading
import zipfile
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gradio.utils import get_upload_folder

from x2i_app.errors import EngineError
from x2i_app.media.images import image_size
from x2i_app.notes import readable_answer
from x2i_app.request import GenerationRequest
from x2i_app.serving.jobs import Job
from x2i_app.settings import Settings
from x2i_app.ui.http.disk_space import check_disk_space

if TYPE_CHECKING:
    from x2i_app.ui.image_files import ImageFiles

MAX_ITEMS = 48  # images of one session; the oldest are removed
_MAX_OPT_OUTS = 20_000  # sessions
_MAX_KEYS = 20_000  # sessions
_MAX_KEY_LETTERS = 64
_STAR = "\u2605 "
_CAPTION_LETTERS = 32  # of the prompt
_ZIPPING = [threading.Lock() for _ in range(64)]  # each client has one: it writes one ZIP file at a time


class MetadataOptOut:
    """The sessions, by Gradio's session hash, that do not want their settings written into the image files."""

    def __init__(self) -> None:
        self._sessions: OrderedDict[str, None] = OrderedDict()

    def set(self, session: str, is_opted_out: bool) -> None:
        """Note what a session has chosen. Of too many sessions, the oldest choice is forgotten."""
        self._sessions.pop(session, None)
        if is_opted_out:
            self._sessions[session] = None
        if len(self._sessions) > _MAX_OPT_OUTS:
            self._sessions.popitem(last=False)

    def settings(self, settings: Settings, session: str) -> Settings:
        """The app's settings, as they apply to the images of this session."""
        return replace(settings, metadata=False) if session in self._sessions else settings


class BrowserKeys:
    """The key of each session's browser, by Gradio's session hash. It changes when the user wants nothing kept."""

    def __init__(self) -> None:
        self._keys: OrderedDict[str, Any] = OrderedDict()

    def set(self, session: str, key: Any) -> None:
        """Note the key of a session from now on. Of too many sessions, the oldest is forgotten.

        Anything that cannot be a key is noted as none: strangers could fill the memory with it.
        """
        self._keys.pop(session, None)
        self._keys[session] = key if isinstance(key, str) and len(key) <= _MAX_KEY_LETTERS else ""
        if len(self._keys) > _MAX_KEYS:
            self._keys.popitem(last=False)

    def of(self, session: str, key: Any) -> Any:
        """The key of a session; `key`, which an event began with, if none was noted since."""
        return self._keys.get(session, key)


@dataclass(frozen=True)
class HistoryItem:
    """An image of this session.

    path: its file. request: generates it again. texts: what the file says about it. job: id of the job that made it.
    answer, notes: what the MLLM answered, and what was noted about the input. report: how it was made.
    name: under which it is kept on disk; the names of newer images come later in the alphabet.
    is_favorite: whether its user has marked it; others make room first.
    """

    path: str
    request: GenerationRequest
    texts: dict[str, str]
    job: str
    answer: str | None = None
    notes: tuple[str, ...] = ()
    report: dict[str, Any] = field(default_factory=dict)
    name: str = ""
    is_favorite: bool = False

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) of the image in pixels; that of an edited or enlarged image is in no setting."""
        return image_size(self.path)

    @property
    def caption(self) -> str:
        """The first words of the prompt, or of the answer if there is none, and the seed; a star before a favorite."""
        text = " ".join((self.request.prompt or readable_answer(self.answer or "")).split())
        first = text if len(text) <= _CAPTION_LETTERS else f"{text[: _CAPTION_LETTERS - 1].rstrip(', ')}…"
        return _STAR * self.is_favorite + " · ".join(filter(None, (first, str(self.request.seed))))


def add_job(items: Sequence[HistoryItem], job: Job | None, files: "ImageFiles", preset: str) -> list[HistoryItem]:
    """`items` with the images of a finished job first, newest first. A job is added only once.

    files: where the images are written. preset: that has made them. Raises PageError if a file cannot be written.
    """
    if not job or not job.result or any(item.job == job.id for item in items):
        return list(items)
    result, added = job.result, []
    for number, (seed, file) in enumerate(zip(result.seeds, files.of(job), strict=True)):
        request = result.request.with_values(seed=seed, num_images_per_prompt=1)
        report = result.report() | {"seeds": [seed], "preset": preset}
        # The time of the file, not of now: a second page that shows the same job gives the same names.
        name = f"{Path(file.path).stat().st_mtime_ns:020}-{MAX_ITEMS - number:02}{Path(file.path).suffix}"
        added.append(HistoryItem(file.path, request, file.texts, job.id, result.answer, result.notes, report, name))
    return with_room([*added, *items])


def with_room(items: Sequence[HistoryItem]) -> list[HistoryItem]:
    """At most MAX_ITEMS of them, in their order: the oldest go first, and favorites after all others."""
    by_age = list(reversed(items))
    by_age.sort(key=lambda item: item.is_favorite)
    gone = {id(item) for item in by_age[: max(0, len(items) - MAX_ITEMS)]}
    return [item for item in items if id(item) not in gone]


def existing(items: Sequence[HistoryItem]) -> list[HistoryItem]:
    """The items whose files exist: Gradio deletes files of its folder that are older than a day."""
    return [item for item in items if Path(item.path).is_file()]


def zip_images(items: Sequence[HistoryItem], client: str = "") -> str:
    """Path of a ZIP file with all the images and their settings. The same images give the same file.

    So pressing the button a thousand times writes one file. client: who waits until its earlier file is written; no
    others do. Raises EngineError if there is no disk space for it.
    """
    name = hashlib.sha256("\n".join(item.path for item in items).encode()).hexdigest()
    path = Path(get_upload_folder()) / name / "x2i-images.zip"
    with _ZIPPING[hash(client) % len(_ZIPPING)]:
        if path.exists():
            path.touch()  # Gradio deletes files by age
            return str(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(f".{secrets.token_hex(4)}")  # another client may have the same images
        try:
            check_disk_space(path.parent, sum(Path(item.path).stat().st_size for item in items))
            _write_zip(items, unfinished)
            return str(unfinished.rename(path))
        except OSError as error:
            raise EngineError(f"The ZIP file cannot be written ({error.strerror}); try again later.") from error
        finally:
            unfinished.unlink(missing_ok=True)


def _write_zip(items: Sequence[HistoryItem], path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        settings = {}
        for number, item in enumerate(reversed(items), 1):
            name = f"{number:03}-seed-{item.request.seed}{Path(item.path).suffix}"
            archive.write(item.path, name)
            if item.texts:
                settings[name] = json.loads(item.texts["x2i"])
        if settings:
            archive.writestr("settings.json", json.dumps(settings, indent=2, ensure_ascii=False))
