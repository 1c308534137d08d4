"""The pictures of one visit: kept in the visitor's own Gradio state, which nobody else sees and which ends with it."""

import hashlib
import json
import threading
import zipfile
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from gradio.processing_utils import save_pil_to_cache
from gradio.utils import get_upload_folder

from x2i_app.errors import EngineError
from x2i_app.media import describe
from x2i_app.request import GenerationRequest
from x2i_app.serving.engine import Engine
from x2i_app.settings import Settings
from x2i_app.ui.http.disk_space import check_disk_space

_VISITORS = 1000  # who said that nothing is to be written into their files
MOST = 48  # pictures that one visit keeps; the oldest go
_packing = threading.Lock()  # one ZIP file at a time is written, however many are asked for


class Discreet:
    """The visits, by Gradio's session hash, whose files shall not say how they were made."""

    def __init__(self) -> None:
        self._sessions: OrderedDict[str, None] = OrderedDict()

    def set(self, session: str, discreet: bool) -> None:
        """What a visitor has chosen; the oldest choices of too many are forgotten."""
        self._sessions.pop(session, None)
        if discreet:
            self._sessions[session] = None
        if len(self._sessions) > _VISITORS:
            self._sessions.popitem(last=False)

    def settings(self, settings: Settings, session: str) -> Settings:
        """What the app is set to, for the pictures of this visit."""
        return replace(settings, metadata=False) if session in self._sessions else settings


@dataclass(frozen=True)
class Kept:
    """A picture of this visit. path: its PNG file; request: what makes it again; texts: what the file says of itself.

    job: the id of the job that drew it, so that no job is kept twice.
    """

    path: str
    request: GenerationRequest
    texts: dict[str, str]
    job: str
    preset: str

    @property
    def caption(self) -> str:
        """What tells it from the others: its seed."""
        return str(self.request.seed)


def remember(engine: Engine, kept: Sequence[Kept], job_id: str, settings: Settings) -> list[Kept]:
    """`kept` with the pictures of a finished job at the front, newest first."""
    job = engine.get(job_id) if isinstance(job_id, str) else None
    if not job or not job.result or any(known.job == job_id for known in kept):
        return list(kept)
    result, new = job.result, []
    inside = describe(result, settings)
    for image, seed, texts in zip(result.images, result.seeds, inside, strict=True):
        image = image.copy()
        image.info.update(texts)
        path = save_pil_to_cache(image, get_upload_folder(), format="png")  # by content: the one that is shown
        request = replace(result.request, seed=seed, num_images_per_prompt=1)
        new.append(Kept(path, request, texts, job_id, settings.preset))
    return [*new, *kept][:MOST]


def present(kept: Sequence[Kept]) -> list[Kept]:
    """Those whose files are still there: Gradio clears its folder of what is older than a day."""
    return [image for image in kept if Path(image.path).is_file()]


def pack(kept: Sequence[Kept]) -> str:
    """A ZIP file of all the pictures and their settings; its path, which is the same for the same pictures.

    So a button that is pressed a thousand times fills no disk. Raises EngineError where there is no room for the file.
    """
    known = hashlib.sha256("\n".join(image.path for image in kept).encode()).hexdigest()
    path = Path(get_upload_folder()) / known / "x2i-pictures.zip"
    with _packing:
        if path.exists():
            path.touch()  # Gradio clears its folder by age
            return str(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        check_disk_space(path.parent, sum(Path(image.path).stat().st_size for image in kept))
        fresh = path.with_suffix(".part")
        try:
            _write(kept, fresh)
            return str(fresh.rename(path))
        except OSError as error:
            raise EngineError(f"The ZIP file cannot be written ({error.strerror}); try again later.") from error
        finally:
            fresh.unlink(missing_ok=True)


def _write(kept: Sequence[Kept], path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        settings = {}
        for number, image in enumerate(reversed(kept), 1):
            name = f"{number:03}-seed-{image.request.seed}.png"
            archive.write(image.path, name)
            if image.texts:
                settings[name] = json.loads(image.texts["x2i"])
        if settings:
            archive.writestr("settings.json", json.dumps(settings, indent=2, ensure_ascii=False))
