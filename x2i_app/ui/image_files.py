"""The files of jobs' images: each is written once, however often it is shown."""

import hashlib
import io
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from gradio.utils import get_upload_folder

from x2i_app.errors import InvalidRequestError
from x2i_app.limits import show_value
from x2i_app.media import describe, save_image
from x2i_app.output_names import DEFAULT_TEMPLATE, output_name
from x2i_app.serving.engine import Engine
from x2i_app.serving.jobs import Job
from x2i_app.settings import FORMATS, Settings
from x2i_app.ui.history import MetadataOptOut
from x2i_app.ui.i18n import PageError


@dataclass(frozen=True)
class ImageFile:
    """path: of the file. texts: what is written into it about how the image was made."""

    path: str
    texts: dict[str, str]


@dataclass
class _Saved:
    """The files of one job, in the order of its images. form: of FORMATS; None is the app's own."""

    form: str | None = None
    files: list[ImageFile] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)


class ImageFiles:
    """Writes the images of jobs to Gradio's upload folder, with metadata unless the session has opted out."""

    def __init__(self, engine: Engine, opt_out: MetadataOptOut):
        self._engine = engine
        self._opt_out = opt_out
        self._saved: WeakKeyDictionary[Job, _Saved] = WeakKeyDictionary()
        self._lock = threading.Lock()

    def set_format(self, job: Job, form: Any) -> None:
        """Choose the file format of a job's images, before the first of them is written."""
        with self._lock:
            self._saved.setdefault(job, _Saved()).form = read_format(form)

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
                    known = saved.files[number].path if number < len(saved.files) else None
                    name = Path(known).name if known else _name(job, number, settings, saved.form)
                    saved.files[number : number + 1] = [_write(job.partial.images[number], texts[number], name)]
            return list(saved.files)


def read_format(value: Any) -> str | None:
    """A file format that a page or a program has chosen; None leaves it to the app. Raises InvalidRequestError."""
    form = {"jpeg": "jpg", "": None}.get(value.lower(), value.lower()) if isinstance(value, str) else value
    if form is not None and (not isinstance(form, str) or form not in FORMATS):
        raise InvalidRequestError(f"format is {show_value(value)}; choose one of {', '.join(FORMATS)}.")
    return form


def _name(job: Job, number: int, settings: Settings, form: str | None) -> str:
    """The name under which a browser stores the file; without words of the prompt if metadata are off."""
    template = settings.output_template or (DEFAULT_TEMPLATE if settings.metadata else "{date}-{seed}")
    name = output_name(template, job.partial.facts(number, settings.preset)).replace("/", "-")
    return f"{name}.{form or settings.image_format}"


def _write(image, texts: dict[str, str], name: str) -> ImageFile:
    buffer = io.BytesIO()
    save_image(image, buffer, texts, name.rpartition(".")[2])
    content = buffer.getvalue()
    # In a folder of its own, named by the content: the same image is one file, and no name is taken.
    path = Path(get_upload_folder()) / hashlib.sha256(content).hexdigest() / name
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    except OSError as error:
        raise PageError("error.not_saved", reason=error.strerror) from error
    return ImageFile(str(path), texts)
