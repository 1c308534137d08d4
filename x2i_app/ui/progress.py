"""What is shown of a job while it goes on, and how long it goes on without anybody looking.

A job belongs to the engine, not to the page that asked for it. A page that is closed, reloaded or asleep finds its job
again by its id, which only that browser keeps; if it does not come back within `Settings.linger` seconds, the job stops
within one step. A program that hangs up has no way to come back, so its job stops at once.
"""

import asyncio
import base64
import html
import io
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import gradio as gr
from gradio.processing_utils import save_pil_to_cache
from gradio.utils import get_upload_folder
from PIL import Image

from x2i_app.errors import EngineError, X2IError
from x2i_app.media import with_metadata
from x2i_app.request import GenerationResult
from x2i_app.serving.engine import Engine
from x2i_app.serving.jobs import Job, Phase, Progress
from x2i_app.ui.history import Discreet
from x2i_app.ui.i18n import texts
from x2i_app.ui.i18n.languages import language_of
from x2i_app.ui.i18n.notes import say_note

OUTPUTS = ("images", "progress", "answer", "report", "job", "preview")  # what is shown of a job, and in this order
_POLL_SECONDS = 0.05
_NEWS_SECONDS = 1.0  # after which the time left is told again, without other news
_JPEG_QUALITY = 80
_SHORTEST = 2  # seconds left that are worth a word


def shown(**values: Any) -> tuple:
    """Values for some of OUTPUTS; the others stay as they are."""
    return tuple(values.get(name, gr.skip()) for name in OUTPUTS)


class Audience:
    """Who listens to which job. Used in the event loop alone."""

    def __init__(self, engine: Engine, discreet: Discreet):
        self.engine = engine
        self.discreet = discreet
        self._listeners: Counter[str] = Counter()
        self._left_at: dict[str, float] = {}

    @contextmanager
    def listening(self, job: Job, patience: float) -> Iterator[None]:
        """Somebody listens inside the block. When the last one has left, the job is stopped after `patience` seconds.

        A job that is done does not mind.
        """
        self._listeners[job.id] += 1
        try:
            yield
        finally:
            self._listeners[job.id] -= 1
            self._left_at[job.id] = time.monotonic()
            if patience:
                # By its id: who only waits shall not keep the pictures of a job that the engine has let go.
                asyncio.get_running_loop().call_later(patience, self._stop, job.id, patience)
            else:
                self._stop(job.id, patience)

    def _stop(self, job_id: str, patience: float) -> None:
        if self._listeners[job_id] or time.monotonic() - self._left_at.get(job_id, 0.0) < 0.99 * patience:
            return  # somebody came back, or came back and left again, and has a patience of their own
        del self._listeners[job_id]
        self._left_at.pop(job_id, None)
        if job := self.engine.get(job_id):
            self.engine.cancel(job)

    async def watch(self, job: Job, request: gr.Request) -> AsyncIterator[tuple]:
        """What is shown, moment by moment, to whoever asked. Raises the job's error as the page shows it."""
        language, saved, preview = language_of(request), [], None
        with self.listening(job, self._patience(request)):
            async for progress in _follow(job):
                news: dict[str, Any] = {"job": job.id}
                if job.partial and len(job.partial.images) > len(saved):
                    if progress.phase.is_final:
                        yield shown(progress=self._progress(job, Progress(Phase.SAVING), language), job=job.id)
                    try:
                        saved = news["images"] = await asyncio.to_thread(self._save, job, saved)
                    except EngineError as error:
                        failed = Progress(Phase.FAILED, detail=str(error))
                        yield shown(progress=self._progress(job, failed, language), preview="", job=job.id)
                        raise as_gradio_error(error) from error
                if job.preview is not preview:
                    preview = job.preview
                    # A finished picture is worth more than what the next one is going to be.
                    news["preview"] = "" if saved else as_address(preview)
                if not progress.phase.is_final:
                    yield shown(progress=self._progress(job, progress, language), **news)
        news["preview"] = ""
        if job.error:
            yield shown(progress=self._progress(job, progress, language), **news)
            if progress.phase is Phase.FAILED:
                raise as_gradio_error(job.error)
            return
        result = job.result
        # The last value is what a program is given: it has the pictures, also where they were told before.
        news |= {"images": saved, "answer": answer_text(result, language), "report": result.report()}
        yield shown(progress=show_result(result, language), **news)

    def _patience(self, request: gr.Request) -> float:
        # A browser says with every POST from which page it comes; other programs have no page to come back to.
        return self.engine.settings.linger if request.headers.get("origin") else 0.0

    def _save(self, job: Job, saved: list[str]) -> list[str]:
        """The files of the pictures that a job has made, of which the first `saved` are there.

        Raises EngineError where they cannot be written; the job keeps its pictures, and the page can ask again.
        """
        settings = self.discreet.settings(self.engine.settings, job.session)
        new = with_metadata(job.partial, settings)[len(saved) :]
        try:
            return saved + [save_pil_to_cache(image, get_upload_folder(), format="png") for image in new]
        except OSError as error:
            raise EngineError(
                f"The picture is made but cannot be written ({error.strerror}); make room, then reload the page."
            ) from error

    def _progress(self, job: Job, progress: Progress, language: str) -> str:
        if job.is_cancelled and not progress.phase.is_final:
            return f'<p role="status">{html.escape(texts.STOPPING.to(language))}</p><progress></progress>'
        return show_progress(progress, self.engine, language, self.engine.seconds_left(job))


def finding_handler(audience: Audience) -> Callable[..., AsyncIterator[tuple]]:
    """What a page does when it opens: it takes up the job whose id its browser kept, or shows its picture again."""

    async def find(request: gr.Request, kept: Any):
        job = audience.engine.get(kept) if isinstance(kept, str) else None
        if not job or job.error:
            yield shown()
            return
        async for moment in audience.watch(job, request):
            yield moment

    return find


def status_handler(engine: Engine) -> Callable[[str], dict[str, Any]]:
    """The `status` endpoint: how the engine is, and a job where one is asked for, as JSON."""

    def status(job=""):
        """How the engine is; and how a job is, by its id."""
        now = engine.status
        told = {"state": now.state, "detail": now.detail, "waiting": now.waiting, "preset": engine.settings.preset}
        if job:
            known = engine.get(job) if isinstance(job, str) else None
            told["job"] = known and _describe(known, engine)
        return told

    return status


def cancel_handler(engine: Engine) -> Callable[[str], str]:
    """The `cancel` endpoint and the stop button: stop a job by its id, and say what became of it."""

    def cancel(request: gr.Request, job):
        """Stop a job by its id."""
        known = engine.get(job) if isinstance(job, str) else None
        if not known:
            return "There is no such job."
        engine.cancel(known)
        language = language_of(request)
        return texts.say(known.progress, language) if known.progress.phase.is_final else texts.STOPPING.to(language)

    return cancel


def show_progress(progress: Progress, engine: Engine, language: str = "en", seconds: float | None = None) -> str:
    """A few words and a bar, as HTML made of our own words only. seconds: about how many are left, if that is known."""
    if progress.phase is Phase.QUEUED and engine.status.state == "loading":
        progress = Progress(Phase.LOADING, detail=engine.status.detail)
    words = html.escape(texts.say(progress, language))
    if progress.phase.is_final:
        return f"<p>{words}</p>"
    total = progress.steps * max(1, progress.images)
    done = progress.steps * max(0, progress.image - 1) + progress.step
    bar = f'<progress value="{done}" max="{total}"></progress>' if total else "<progress></progress>"
    left = texts.time_left(seconds, language) if seconds and seconds >= _SHORTEST else ""
    return f'<p role="status">{words} <span>{html.escape(left)}</span></p>{bar}'


def show_result(result: GenerationResult, language: str = "en") -> str:
    """How long it took and which seeds make it again, as HTML."""
    return f"<p>{html.escape(texts.done(sum(result.seconds.values()), result.seeds, language))}</p>"


def answer_text(result: GenerationResult, language: str = "en") -> str:
    """What the model answered, and what the user should know about their input."""
    return "\n".join(filter(None, (*(say_note(note, language) for note in result.notes), result.answer)))


def as_address(image: Image.Image | None) -> str:
    """A picture as a data: address of a JPEG, which a page can show without asking for it; empty for None."""
    if image is None:
        return ""
    buffer = io.BytesIO()
    image.save(buffer, format="JPEG", quality=_JPEG_QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def as_gradio_error(error: X2IError) -> gr.Error:
    """The error as the page shows it."""
    # Gradio renders the message as HTML, and file names and prompts may be in it.
    return gr.Error(html.escape(str(error)), duration=None, title=texts.FAILED.en, print_exception=False)


def _describe(job: Job, engine: Engine) -> dict[str, Any]:
    progress, seconds = job.progress, engine.seconds_left(job)
    return {
        "phase": str(progress.phase),
        "detail": progress.detail,
        "step": progress.step,
        "steps": progress.steps,
        "image": progress.image,
        "images": progress.images,
        "place": progress.place,
        "seconds_left": None if seconds is None else round(seconds, 1),
        "preview": as_address(job.preview),
    }


async def _follow(job: Job) -> AsyncIterator[Progress]:
    """Every new moment of a job, one when it is told to stop, and the last one again when there was none for a while.

    Waiting for it takes no thread, so that any number of visitors can wait.
    """
    seen, stopping, told_at = None, False, 0.0
    while seen is None or not seen.phase.is_final:
        is_late = time.monotonic() - told_at > _NEWS_SECONDS
        # Whenever one job is taken all others have another place: of that they hear together with the time left.
        is_moved = seen is not None and job.progress.phase is seen.phase is Phase.QUEUED
        is_news = job.progress is not seen and not is_moved
        if is_news or job.is_cancelled is not stopping or is_late:
            seen, stopping, told_at = job.progress, job.is_cancelled, time.monotonic()
            yield seen
        else:
            await asyncio.sleep(_POLL_SECONDS)
