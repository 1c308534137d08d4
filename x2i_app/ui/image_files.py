"""The PNG files of jobs' images: each is written once, however often it is shown."""

import threading
from dataclasses import dataclass, field
from pathlib import Path
from weakref import WeakKeyDictionary

from gradio.processing_utils import save_pil_to_cache
from gradio.utils import get_upload_folder

from x2i_app.media import describe
from x2i_app.serving.engine import Engine
from x2i_app.serving.jobs import Job
from x2i_app.ui.history import MetadataOptOut
from x2i_app.ui.i18n import PageError


@dataclass(frozen=True)
class ImageFile:
    """path: of the PNG file. texts: what is written into it about how the image was made."""

    path: str
    texts: dict[str, str]


@dataclass
class _Saved:
    """The files of one job, in the order of its images."""

    files: list[ImageFile] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)


class ImageFiles:
    """Writes the images of jobs to Gradio's upload folder, with metadata unless the session has opted out."""

    def __init__(self, engine: Engine, opt_out: MetadataOptOut):
        self._engine = engine
        self._opt_out = opt_out
        self._saved: WeakKeyDictionary[Job, _Saved] = WeakKeyDictionary()
        self._lock = threading.Lock()

    def of(self, job: Job) -> list[ImageFile]:
        """The files of the images that a job has finished so far; those that do not exist are written now.

        Raises PageError if a file cannot be written; the job keeps its images, so the caller can try again.
        """
        with self._lock:
            saved = self._saved.setdefault(job, _Saved())
        with saved.lock:
            missing = [
                number
                for number in range(len(job.partial.images))
                if number >= len(saved.files) or not Path(saved.files[number].path).is_file()
            ]
            if missing:
                settings = self._opt_out.settings(self._engine.settings, job.session)
                texts = describe(job.partial, settings)
                for number in missing:
                    saved.files[number : number + 1] = [_write(job.partial.images[number], texts[number])]
            return list(saved.files)


def _write(image, texts: dict[str, str]) -> ImageFile:
    image = image.copy()
    image.info.update(texts)  # from where Gradio's PNG writer takes them
    try:
        return ImageFile(save_pil_to_cache(image, get_upload_folder(), format="png"), texts)
    except OSError as error:
        raise PageError("error.not_saved", reason=error.strerror) from error
