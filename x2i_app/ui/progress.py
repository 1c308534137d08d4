"""What is shown of a job while it runs, and how long it runs while nobody watches.

A job belongs to the engine and not to the page that started it. A page that is closed, reloaded or asleep finds its job
again by the job's id, which only that browser has. If it does not come back within `Settings.linger` seconds, the job
stops within one step. A program cannot come back, so its job stops when it disconnects.
"""

import asyncio
import base64
import html
import io
import time
from collections import Counter, OrderedDict
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import gradio as gr
from PIL import Image

from x2i_app import notes
from x2i_app.errors import X2IError
from x2i_app.request import GenerationResult
from x2i_app.serving.engine import Engine
from x2i_app.serving.jobs import Job, Phase, Progress
from x2i_app.ui.history import HistoryItem, MetadataOptOut
from x2i_app.ui.http.listeners import listeners_of
from x2i_app.ui.http.uploads import count_stored
from x2i_app.ui.i18n import DEFAULT, PageError, Text, error_text, language_of, translate
from x2i_app.ui.image_files import ImageFiles

OUTPUTS = ("images", "progress", "answer", "report", "job", "preview")  # what is shown of a job, in this order
_POLL_SECONDS = 0.05
_REPEAT_SECONDS = 1.0  # without a change, the time left is sent again this often
_JPEG_QUALITY = 80
_MIN_SECONDS_LEFT = 2  # less is not shown
_MAX_FINISHED = 10_000  # sessions whose page has not yet taken its results
_MAX_RESUMED = 16  # jobs of one browser
_NOTES = {template: Text(f"note.{name.lower()}") for name, template in vars(notes).items() if name.isupper()}


def outputs(**values: Any) -> tuple:
    """Values for some of OUTPUTS; the others stay as they are."""
    return tuple(values.get(name, gr.skip()) for name in OUTPUTS)


class JobFollowers:
    """Which job is followed by how many pages and programs. Not thread-safe: use it only in the event loop."""

    def __init__(self, engine: Engine, opt_out: MetadataOptOut):
        self.engine = engine
        self.files = ImageFiles(engine, opt_out)
        self._followers: Counter[str] = Counter()
        self._left_at: dict[str, float] = {}
        self._followed: dict[str, list[Job]] = {}  # by the session of the page that follows them
        self._finished: OrderedDict[str, list[Job]] = OrderedDict()  # the same, until the page takes them

    @contextmanager
    def following(self, job: Job, patience: float) -> Iterator[None]:
        """Count as a follower inside the block. `patience` seconds after the last one has left, the job is stopped.

        A job that has ended is not affected.
        """
        self._followers[job.id] += 1
        job.unheard_at = None
        try:
            yield
        finally:
            self._followers[job.id] -= 1
            if not self._followers[job.id]:
                job.unheard_at = time.monotonic()
            self._left_at[job.id] = time.monotonic()
            if patience:
                # Pass the id: the timer must not keep the images of a job that the engine has forgotten.
                asyncio.get_running_loop().call_later(patience, self._stop, job.id, patience)
            else:
                self._stop(job.id, patience)

    def _stop(self, job_id: str, patience: float) -> None:
        if self._followers[job_id] or time.monotonic() - self._left_at.get(job_id, 0.0) < 0.99 * patience:
            return  # a follower came back, or came back and left again, which started a timer of its own
        del self._followers[job_id]
        self._left_at.pop(job_id, None)
        if job := self.engine.get(job_id):
            self.engine.cancel(job)

    @contextmanager
    def _on_page(self, job: Job, session: str) -> Iterator[Callable[[], bool]]:
        """Inside the block the job is one of those that a page follows; says whether it is the one to show now.

        A page shows one job at a time: the one that is drawn, else the next one.
        """
        followed = self._followed.setdefault(session, [])
        followed.append(job)
        try:
            yield (
                lambda: (
                    min((each for each in followed if not each.progress.phase.is_final), key=_turn, default=job) is job
                )
            )
        finally:
            followed.remove(job)
            if not followed:
                self._followed.pop(session, None)

    def take_finished(self, session: str) -> list[Job]:
        """The jobs that have finished since a page last asked, the oldest first."""
        return self._finished.pop(session, [])

    def _note_finished(self, job: Job, session: str) -> None:
        jobs = self._finished.setdefault(session, [])
        jobs += [job] if job not in jobs else []
        if len(self._finished) > _MAX_FINISHED:
            self._finished.popitem(last=False)

    async def follow(self, job: Job, request: gr.Request) -> AsyncIterator[tuple]:
        """Yield OUTPUTS until the job has ended. Raises the job's error.

        For a page, nothing but gr.skip() while the page shows another of its jobs.
        """
        if not self._patience(request):
            async for update in self._follow(job, request):
                yield update
            return
        session, shown, noted = request.session_hash or "", False, False
        with self._on_page(job, session) as is_shown:
            async for update in self._follow(job, request):
                if job.progress.phase is Phase.DONE and not noted:
                    noted = True  # once: what the user deletes then does not come back
                    self._note_finished(job, session)
                was_shown, shown = shown, job.progress.phase is Phase.DONE or is_shown()
                hidden = outputs(preview="") if was_shown else outputs()
                yield update if shown else hidden

    async def _follow(self, job: Job, request: gr.Request) -> AsyncIterator[tuple]:
        language, saved, preview = language_of(request), [], None
        with self.following(job, self._patience(request)):
            async for progress in _changes(job):
                self._stop_if_unheard(job, request)
                changed: dict[str, Any] = {"job": job.id}
                if job.partial and len(job.partial.images) > len(saved):
                    if progress.phase.is_final:
                        yield outputs(progress=self._show(job, Progress(Phase.SAVING), language), job=job.id)
                    try:
                        saved = changed["images"] = await asyncio.to_thread(self._written, job, request)
                    except PageError as error:
                        failed = Progress(Phase.FAILED, detail=error.to(language))
                        yield outputs(progress=self._show(job, failed, language), preview="", job=job.id)
                        raise
                if job.preview is not preview:
                    preview = job.preview
                    # A finished image is not covered by the preview of the next one.
                    changed["preview"] = "" if saved else await asyncio.to_thread(as_data_url, preview)
                if not progress.phase.is_final:
                    yield outputs(progress=self._show(job, progress, language), **changed)
        changed["preview"] = ""
        if progress.phase is Phase.FAILED:
            yield outputs(progress=show_failure(job.error, language), **changed)
            raise job.error
        if job.error:
            yield outputs(progress=self._show(job, progress, language), **changed)
            return
        result = job.result
        # A program gets only the last values, so they contain the images again.
        changed |= {"images": saved, "answer": answer_text(result, language), "report": result.report()}
        yield outputs(progress=show_result(result, language), **changed)

    def _written(self, job: Job, request: gr.Request) -> list[str]:
        """The files of the images that are finished. They take their client's share of the disk, as uploads do."""
        paths = [file.path for file in self.files.of(job)]
        count_stored(request, paths)
        return paths

    def _stop_if_unheard(self, job: Job, request: gr.Request) -> None:
        """A job may be followed here while no client has an open stream to be told of it."""
        listeners = listeners_of(request)
        unheard = listeners.unheard_seconds(request) if listeners else 0.0
        job.unheard_at = time.monotonic() - unheard if unheard else None
        if listeners and unheard > listeners.seconds:
            self.engine.cancel(job)

    def _patience(self, request: gr.Request) -> float:
        # A browser sends Origin with every POST; other programs have no page to come back to.
        return self.engine.settings.linger if request.headers.get("origin") else 0.0

    def _show(self, job: Job, progress: Progress, language: str) -> str:
        if job.is_cancelled and not progress.phase.is_final:
            return f'<p role="status">{html.escape(Text("stopping").to(language))}</p><progress></progress>'
        return show_progress(progress, self.engine, language, self.engine.seconds_left(job))


def resume_handler(followers: JobFollowers) -> Callable[..., AsyncIterator[tuple]]:
    """What a page does when it opens: follow the jobs whose ids the browser has kept, or show the last result again."""

    async def resume(request: gr.Request, last: Any, waiting: Any = ""):
        ids = [*(waiting.split()[:_MAX_RESUMED] if isinstance(waiting, str) else ()), last]
        jobs = [followers.engine.get(each) for each in dict.fromkeys(filter(lambda each: isinstance(each, str), ids))]
        jobs = [job for job in jobs if job and not job.error]
        # The last result first, then what has finished or waits since.
        jobs.sort(key=lambda job: (not job.progress.phase.is_final, job.id != last, job.progress.place))
        if not jobs:
            yield outputs()
        async for update in follow_all(followers, jobs, request):
            yield update

    return resume


async def follow_all(followers: JobFollowers, jobs: list[Job], request: gr.Request) -> AsyncIterator[tuple]:
    """Yield OUTPUTS of a page's jobs, one after the other, until all have ended. An error is shown."""
    with ExitStack() as stack:
        for job in jobs:  # none of them ends because nobody follows it while another one is shown
            stack.enter_context(followers.following(job, followers.engine.settings.linger))
        for job in jobs:
            try:
                async for update in followers.follow(job, request):
                    yield update
            except X2IError as error:
                yield outputs(progress=show_failure(error, language_of(request)))


def status_handler(engine: Engine) -> Callable[[str], dict[str, Any]]:
    """The `status` endpoint: the state of the engine and, with a job's id, of that job, as JSON."""

    def status(job=""):
        """The state of the model and, with a job's id, of that job."""
        now = engine.status
        state = {"state": now.state, "detail": now.detail, "waiting": now.waiting, "preset": engine.settings.preset}
        if job:
            known = engine.get(job) if isinstance(job, str) else None
            state["job"] = known and _describe(known, engine)
        return state

    return status


def cancel_handler(engine: Engine) -> Callable[[str], str]:
    """The `cancel` endpoint and the Stop button: stop a job by its id, and say what happens to it."""

    def cancel(request: gr.Request, job):
        """Stop a job by its id."""
        language = language_of(request)
        known = engine.get(job) if isinstance(job, str) else None
        if not known:
            return Text("error.no_job").to(language)
        engine.cancel(known)
        is_final = known.progress.phase.is_final
        return progress_text(known.progress, language) if is_final else Text("stopping").to(language)

    return cancel


def progress_text(progress: Progress, language: str = DEFAULT) -> str:
    """A job's progress as short text."""
    parts = [Text(f"phase.{progress.phase}").to(language)]
    if progress.phase is Phase.QUEUED and progress.place > 1:
        parts.append(Text("progress.ahead").to(language, count=progress.place - 1))
    if progress.images > 1:
        parts.append(Text("progress.image").to(language, image=progress.image, images=progress.images))
    if progress.phase is Phase.DENOISING:
        parts.append(Text("progress.step").to(language, step=progress.step, steps=progress.steps))
    text = Text("comma").to(language).join(parts)
    detail = translate(progress.detail, language)
    return f"{text}{Text('stop_mark').to(language)}{detail}" if progress.phase is Phase.LOADING and detail else text


def time_left_text(seconds: float, language: str = DEFAULT) -> str:
    """The time left, rounded: an estimate is not exact."""
    if seconds < 100:
        return Text("progress.seconds_left").to(language, seconds=round(seconds))
    return Text("progress.minutes_left").to(language, minutes=round(seconds / 60))


def show_progress(progress: Progress, engine: Engine, language: str = DEFAULT, seconds: float | None = None) -> str:
    """The progress as short text and a bar, in HTML. seconds: the estimated time left, if it is known."""
    if progress.phase is Phase.QUEUED and engine.status.state == "loading":
        progress = Progress(Phase.LOADING, detail=engine.status.detail)
    text = html.escape(progress_text(progress, language))
    if progress.phase.is_final:
        return f"<p>{text}</p>"
    total = progress.steps * max(1, progress.images)
    done = progress.steps * max(0, progress.image - 1) + progress.step
    bar = f'<progress value="{done}" max="{total}"></progress>' if total else "<progress></progress>"
    left = time_left_text(seconds, language) if seconds and seconds >= _MIN_SECONDS_LEFT else ""
    return f'<p role="status">{text} <span>{html.escape(left)}</span></p>{bar}'


def show_failure(error: X2IError, language: str = DEFAULT) -> str:
    """That it failed and why, as HTML: it stays where the progress was, and goes with the next try."""
    return f'<p class="failed" role="alert">{html.escape(error_text(error, language))}</p>'


def show_result(result: GenerationResult, language: str = DEFAULT) -> str:
    """How long it took, the seeds that were used, and whether the MLLM may have misunderstood, as HTML."""
    text = Text("progress.done_all" if len(result.seeds) > 1 else "progress.done")
    seeds = ", ".join(map(str, result.seeds))
    shown = f"<p>{html.escape(text.to(language, seconds=f'{sum(result.seconds.values()):.1f}', seeds=seeds))}</p>"
    # On a phone the answer, which says it in full, is below the input.
    unsure = f"<p>{html.escape(Text('progress.unsure').to(language))}</p>"
    return shown + unsure if any(map(notes.is_unsure, result.notes)) else shown


def answer_text(result: GenerationResult | HistoryItem, language: str = DEFAULT) -> str:
    """The MLLM's answer, then the notes about the user's input."""
    answer = notes.readable_answer(result.answer or "")
    return "\n".join(filter(None, (answer, *(note_text(note, language) for note in result.notes))))


def note_text(note: str, language: str) -> str:
    """A result's note in a language of the page; as it is if there is no translation. A kept note is only text."""
    text = _NOTES.get(getattr(note, "template", ""))
    if not text:
        return translate(note, language)
    values = {
        name: note_text(value, language) if isinstance(value, notes.Note) else value
        for name, value in note.values.items()
    }
    return text.to(language, **values)


def as_data_url(image: Image.Image | None) -> str:
    """An image as the data: URL of a JPEG; empty for None."""
    if image is None:
        return ""
    buffer = io.BytesIO()
    image.save(buffer, format="JPEG", quality=_JPEG_QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"


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
        "preview": as_data_url(job.preview),
    }


def _turn(job: Job) -> tuple[bool, int]:
    """The smallest first: the job that is drawn, then the waiting ones by their place."""
    progress = job.progress
    return progress.phase is Phase.QUEUED, progress.place


async def _changes(job: Job) -> AsyncIterator[Progress]:
    """The job's progress at every change, once when it is asked to stop, and repeated after a while without a change.

    Waiting takes no thread, so that any number of users can wait.
    """
    known, was_cancelled, sent_at = None, False, 0.0
    while known is None or not known.phase.is_final:
        is_due = time.monotonic() - sent_at > _REPEAT_SECONDS
        # Whenever a job leaves the queue, all others get another place. They see it with the next repetition.
        only_moved = known is not None and job.progress.phase is known.phase is Phase.QUEUED
        is_changed = job.progress is not known and not only_moved
        if is_changed or job.is_cancelled is not was_cancelled or is_due:
            known, was_cancelled, sent_at = job.progress, job.is_cancelled, time.monotonic()
            yield known
        else:
            await asyncio.sleep(_POLL_SECONDS)
