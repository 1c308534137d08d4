"""Thumbnails of the styles, drawn by the loaded model when somebody asks for them, and kept on disk for everybody.

They come after everybody's images: one is started only while nothing else is drawn or waits, and it is given up as soon
as something does.
"""

import asyncio
import hashlib
import json
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from tempfile import NamedTemporaryFile

from gradio.processing_utils import save_file_to_cache
from gradio.utils import get_upload_folder
from PIL import Image

from x2i_app.media import save_image
from x2i_app.request import GenerationRequest
from x2i_app.serving.engine import Engine
from x2i_app.serving.jobs import Phase
from x2i_app.settings import PARTS
from x2i_app.ui.styles import STYLES, with_style

MAX_MODELS = 8  # whose thumbnails are kept, of about 200 KB each; the oldest go first
_SUBJECT = "a house and a tree"  # which x2i-tiny knows too
_SEED = 1
_LARGEST, _SIDE = 512, 160  # pixels: of the drawn image, and of the thumbnail
_POLL_SECONDS = 0.1
_SESSION = "style previews"  # of no page


class StylePreviews:
    """folder: of all models; made when it is first needed. But for `found`, use it only in the event loop."""

    def __init__(self, engine: Engine, folder: Path):
        self._engine, self._folder = engine, folder
        self._is_drawing = False

    @property
    def _of_model(self) -> Path:
        """Where the thumbnails of the loaded model are."""
        settings = self._engine.settings
        model = [settings.preset, *(str(getattr(settings, part)) for part in PARTS)]
        return self._folder / hashlib.sha256(json.dumps(model).encode()).hexdigest()[:32]

    def found(self) -> dict[str, str]:
        """The thumbnail of each style that has one, where Gradio may serve it. It reads them: not in the event loop."""
        paths = {name: self._of_model / f"{name}.jpg" for name in STYLES}
        folder = get_upload_folder()
        return {name: save_file_to_cache(path, folder) for name, path in paths.items() if path.is_file()}

    async def draw(self) -> AsyncIterator[int]:
        """Draw what is missing; yields how many there are, whenever there is one more. Ends early if the model changes.

        While another page draws them, this one waits for the same files. Raises X2IError if one cannot be drawn.
        """
        folder, known = self._of_model, None
        while folder == self._of_model:
            missing = [name for name in STYLES if not (folder / f"{name}.jpg").is_file()]
            if len(missing) != known:
                known = len(missing)
                yield len(STYLES) - known
            if not missing:
                return
            if self._is_drawing:
                await asyncio.sleep(_POLL_SECONDS)
                continue
            self._is_drawing = True
            try:
                image = await self._draw_one(missing[0])
                if image and folder == self._of_model:
                    await asyncio.to_thread(self._write, image, folder / f"{missing[0]}.jpg")
            finally:
                self._is_drawing = False

    async def _draw_one(self, name: str) -> Image.Image | None:
        """The image of a style, once nobody else needs the model; None if somebody did before it was finished."""
        engine = self._engine
        while not engine.is_idle:
            await asyncio.sleep(_POLL_SECONDS)
        side = min(engine.flux.resolution, _LARGEST)
        prompt = with_style(_SUBJECT, STYLES[name])
        job = engine.submit(GenerationRequest(prompt, width=side, height=side, seed=_SEED), _SESSION)
        try:
            while not job.progress.phase.is_final:
                if engine.status.waiting and job.progress.phase is not Phase.QUEUED:
                    engine.cancel(job)
                await asyncio.sleep(_POLL_SECONDS)
        finally:
            if not job.progress.phase.is_final:
                engine.cancel(job)  # the page was closed
        if job.progress.phase is Phase.FAILED:
            raise job.error
        return job.result.images[0] if job.result else None

    def _write(self, image: Image.Image, path: Path) -> None:
        image.thumbnail((_SIDE, _SIDE))
        path.parent.mkdir(parents=True, exist_ok=True)
        with NamedTemporaryFile(dir=path.parent, delete=False) as unfinished:
            save_image(image, unfinished, form="jpg")
        Path(unfinished.name).replace(path)
        models = sorted(self._folder.iterdir(), key=lambda folder: folder.stat().st_mtime)
        for folder in models[:-MAX_MODELS]:
            shutil.rmtree(folder, ignore_errors=True)
