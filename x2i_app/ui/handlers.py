"""What happens on a click or an API call: a request is filled, queued, watched, and its result shown."""

import asyncio
import html
import inspect
from collections.abc import AsyncIterator, Callable
from typing import Any

import gradio as gr

from x2i_app.engine import Engine
from x2i_app.errors import X2IError
from x2i_app.jobs import Job, Phase, Progress
from x2i_app.media import with_metadata
from x2i_app.request import SETTINGS, GenerationRequest, GenerationResult
from x2i_app.ui import texts
from x2i_app.ui.languages import language_of
from x2i_app.ui.session import Discreet
from x2i_app.ui.tabs import Tab

_POLL_SECONDS = 0.05


def drawing_handler(engine: Engine, tab: Tab, discreet: Discreet) -> Callable[..., AsyncIterator[tuple]]:
    """The function of a tab's button and endpoint.

    It takes the tab's own values, then one for each of SETTINGS. While the job goes on it yields (pictures, progress,
    words, report, job id).
    """
    names = (*tab.parameters, *SETTINGS)

    async def draw(request, *values):
        given = dict(zip(names, values, strict=True))
        job = _submit(engine, tab, given, request)
        try:
            async for progress in _follow(job):
                yield gr.skip(), show_progress(progress, engine, language_of(request)), gr.skip(), gr.skip(), job.id
        finally:
            engine.cancel(job)  # whoever waited has left the page; a job that is done does not mind
        if job.progress.phase is Phase.CANCELLED:
            return
        if job.error:
            raise as_gradio_error(job.error)
        result = job.result
        yield (
            with_metadata(result, discreet.settings(engine.settings, job.session)),
            show_result(result, language_of(request)),
            words(result),
            result.report(),
            job.id,
        )

    # Gradio names an endpoint's parameters after the function's, and finds `request` by its annotation.
    parameter = inspect.Parameter
    draw.__signature__ = inspect.Signature(
        [parameter("request", parameter.POSITIONAL_OR_KEYWORD)]
        + [parameter(name, parameter.POSITIONAL_OR_KEYWORD, default=None) for name in names]
    )
    draw.__annotations__ = {"request": gr.Request}
    draw.__name__ = tab.name
    draw.__doc__ = texts.HINTS[tab.name].en
    return draw


def status_handler(engine: Engine) -> Callable[[], dict[str, Any]]:
    """The `status` endpoint: how the engine is, as JSON."""

    def status():
        """How the engine is."""
        now = engine.status
        return {"state": now.state, "detail": now.detail, "waiting": now.waiting, "preset": engine.settings.preset}

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


def show_progress(progress: Progress, engine: Engine, language: str = "en") -> str:
    """A few words and a bar, as HTML made of our own words only."""
    if progress.phase is Phase.QUEUED and engine.status.state == "loading":
        progress = Progress(Phase.LOADING, detail=engine.status.detail)
    words = html.escape(texts.say(progress, language))
    if progress.phase.is_final:
        return f"<p>{words}</p>"
    total = progress.steps * max(1, progress.pictures)
    done = progress.steps * max(0, progress.picture - 1) + progress.step
    bar = f'<progress value="{done}" max="{total}"></progress>' if total else "<progress></progress>"
    return f'<p role="status">{words}</p>{bar}'


def show_result(result: GenerationResult, language: str = "en") -> str:
    """How long it took and which seeds make it again, as HTML."""
    return f"<p>{html.escape(texts.done(sum(result.seconds.values()), result.seeds, language))}</p>"


def words(result: GenerationResult) -> str:
    """What the model answered, and what the user should know about their input."""
    return "\n".join(filter(None, (*result.notes, result.answer)))


def _submit(engine: Engine, tab: Tab, given: dict[str, Any], request: gr.Request) -> Job:
    try:
        fields = tab.fill(*(given[name] for name in tab.parameters))
        settings = {field: given[name] for name, field in SETTINGS.items() if given[name] is not None}
        return engine.submit(GenerationRequest(**fields, **settings), request.session_hash or "")
    except X2IError as error:
        raise as_gradio_error(error) from error


async def _follow(job: Job) -> AsyncIterator[Progress]:
    """Every new moment of a job. Waiting for it takes no thread, so that any number of visitors can wait."""
    seen = None
    while seen is None or not seen.phase.is_final:
        if job.progress is not seen:
            seen = job.progress
            yield seen
        else:
            await asyncio.sleep(_POLL_SECONDS)


def as_gradio_error(error: X2IError) -> gr.Error:
    """The error as the page shows it."""
    # Gradio renders the message as HTML, and file names and prompts may be in it.
    return gr.Error(html.escape(str(error)), duration=None, title=texts.FAILED.en, print_exception=False)
