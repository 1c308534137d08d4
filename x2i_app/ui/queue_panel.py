"""The jobs of this page that wait: moved, changed, put back into the inputs or removed before they are drawn."""

import asyncio
import html
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import gradio as gr
from platformdirs import user_cache_path

from x2i_app.errors import EngineError, QueueFullError, X2IError
from x2i_app.limits import LIMITS
from x2i_app.request import GenerationRequest
from x2i_app.serving.jobs import Job, Phase
from x2i_app.ui.context import BROWSER_ONLY, PRIVATE, Panel
from x2i_app.ui.file_work import FileWork
from x2i_app.ui.handlers import submit
from x2i_app.ui.http.clients import client_of
from x2i_app.ui.http.uploads import count_stored
from x2i_app.ui.i18n import Text, language_of
from x2i_app.ui.progress import follow_all, outputs, progress_text, time_left_text
from x2i_app.ui.queue_store import KeptJob, QueueStore
from x2i_app.ui.thumbnails import thumbnail

_POLL_SECONDS = 0.3
_PATIENCE = 3.0  # seconds; a job is submitted once its files are checked
_ROUND = 5  # seconds; a time left that changes more often moves what one wants to click
_MOST_KEPT = 16  # jobs of one browser
_MOST_LETTERS = 160  # of a prompt
_MOST_OFFERED = 60  # of a prompt

# One listener for all buttons, as the list is replaced whenever it changes. Gradio then puts other jobs into the
# same elements, so the focus follows the job that it was on.
_CLICKS = """
let used = null;
element.addEventListener("click", event => {
  const button = event.target.closest("[data-do]");
  if (button) trigger("click", {index: button.dataset.job, value: button.dataset.do});
});
element.addEventListener("focusin", event => { used = {...event.target.dataset}; });
element.addEventListener("focusout", event => { if (event.relatedTarget) used = null; });
new MutationObserver(() => {
  const active = document.activeElement;
  if (!used || (active && active !== document.body && !element.contains(active))) return;
  const same = element.querySelector(`[data-do="${used.do}"][data-job="${used.job}"]:not(:disabled)`);
  if (same && same !== active) same.focus();
}).observe(element, {childList: true, subtree: true, attributes: true, attributeFilter: ["data-job"]});
"""


class QueuePanel(Panel):
    """Empty unless a job of this page waits. ids: of these jobs, which the browser keeps for after a reload.

    job: the one that the page shows now; a new one starts the list. store: all of them on disk; those that did not end
    before the app was restarted are offered.
    """

    def build(self) -> None:
        engine, self._work = self.engine, FileWork()
        self.store = QueueStore(
            user_cache_path("x2i") / "queues", engine.settings.keep_hours, is_closing=lambda: engine.is_closing
        )
        with gr.Column(visible=False, elem_id="kept-jobs") as self.offer:
            self.offered = gr.HTML("", label="kept jobs", container=False)
            with gr.Row():
                self.again = gr.Button(Text("queue.again"), size="sm", min_width=96, elem_id="queue-again")
                self.discard = gr.Button(Text("queue.discard"), size="sm", min_width=96, elem_id="queue-discard")
        self.shown = gr.HTML("", label="queue", container=False, elem_id="queue", js_on_load=_CLICKS)
        self.ids = gr.Textbox("", label="waiting", show_label=False, elem_classes="not-shown")
        self.job = gr.Textbox("", label="shown job", show_label=False, elem_classes="not-shown")
        self.kept = gr.BrowserState("", storage_key="x2i-queue", secret="x2i")

    def connect(self) -> None:
        context, shown, key = self.context, [self.shown, self.ids], self.context.history.key
        # Other events of the same trigger would wait for this one. A list that is watched has each new job too.
        self.job.change(self.watch, [self.kept, key], shown, trigger_mode="always_last", **PRIVATE)
        context.page.load(self.watch, [self.kept, key], shown, **PRIVATE)
        offered = [self.offer, self.offered]
        context.page.load(self.show_kept, key, offered, **PRIVATE)
        self.again.click(self.queue_again, key, [*context.result.outputs, *offered], **PRIVATE)

        def discard(request: gr.Request, key: Any):
            for each in self._left(key):
                self.store.remove(key, each.id)
            return self._offer([], language_of(request))

        self.discard.click(discard, key, offered, **PRIVATE)
        # Empty only on a page that opens, where what was kept is still to be read.
        keep = "(ids, kept) => ids || kept"
        self.ids.change(None, [self.ids, self.kept], self.kept, js=keep, **BROWSER_ONLY)
        restored = context.restore.outputs
        self.shown.click(self.act, self.kept, [self.shown, *restored], **PRIVATE)

    async def watch(self, request: gr.Request, kept: Any, key: Any = None) -> AsyncIterator[tuple[str, str]]:
        """The list and its ids, until no job is left. kept: the ids that the browser knows. key: its key."""
        language, known, quiet = language_of(request), None, 0.0
        while quiet < _PATIENCE:
            jobs = self._jobs(request, kept)
            quiet = 0.0 if jobs else quiet + _POLL_SECONDS
            await self._keep(request, key, jobs)
            waiting = [job for job in jobs if job.progress.phase is Phase.QUEUED and not job.is_cancelled]
            if not any(job.progress.phase is not Phase.QUEUED for job in jobs):
                waiting = waiting[1:]  # the first one is shown by the progress
            values = await asyncio.to_thread(self._show, waiting, language), " ".join(job.id for job in jobs) or " "
            if values != known:
                known = values
                yield values
            await asyncio.sleep(_POLL_SECONDS)

    async def _keep(self, request: gr.Request, key: Any, jobs: list[Job]) -> None:
        """Keep the page's unfinished jobs on disk, unless its user wants nothing kept."""
        session, settings = request.session_hash or "", self.engine.settings
        key = self.context.keys.of(session, key)
        if self.context.opt_out.settings(settings, session).metadata and not self.store.is_kept(key, jobs):
            owner = client_of(request).owner
            await self._work.run(owner, self.store.keep, key, jobs, owner)

    def _left(self, key: Any) -> list[KeptJob]:
        """A browser's jobs that ended with an earlier run of the app."""
        return [each for each in self.store.find(key) if self.engine.get(each.id) is None]

    def show_kept(self, request: gr.Request, key: Any) -> tuple[gr.Column, str]:
        """Values of the offer for a page that opens."""
        return self._offer(self._left(key), language_of(request))

    @staticmethod
    def _offer(jobs: list[KeptJob], language: str) -> tuple[gr.Column, str]:
        if not jobs:
            return gr.Column(visible=False), ""
        title = html.escape(Text("queue.kept").to(language, count=len(jobs)))
        prompts = "".join(f"<li>{html.escape(job.request.prompt[:_MOST_OFFERED]) or '&ndash;'}</li>" for job in jobs)
        return gr.Column(visible=True), f'<p role="status">{title}</p><ul>{prompts}</ul>'

    async def queue_again(self, request: gr.Request, key: Any) -> AsyncIterator[tuple]:
        """Queue the offered jobs as new ones and follow them; those for which there is no room stay offered."""
        followers, language = self.context.followers, language_of(request)
        work, client, count = self._work, client_of(request).owner, partial(count_stored, request)
        left, jobs, full = await work.run(client, self._left, key), [], None
        failed = []
        for each in left:
            try:
                asked = await work.run(client, self.store.restore, each, count)
                if asked is not None:
                    jobs.append(await submit(followers, lambda asked=asked: asked, request))
            except (QueueFullError, EngineError) as error:
                full = error
                break
            except X2IError as error:  # it can never be drawn now, such as with another model
                failed.append(error)
            await self._keep(request, key, jobs)
            await work.run(client, self.store.remove, key, each.id)
        offer = self._offer(await work.run(client, self._left, key), language)
        yield *outputs(), *offer
        if not jobs and (full or failed):
            raise full or failed[0]
        async for update in follow_all(followers, jobs, request):
            yield *update, gr.skip(), gr.skip()

    def _jobs(self, request: gr.Request, kept: Any) -> list[Job]:
        """The unfinished jobs of a page, in the order in which they are drawn."""
        ids = kept.split()[:_MOST_KEPT] if isinstance(kept, str) else []
        known = [job for each in ids if (job := self.engine.get(each))]
        jobs = dict.fromkeys([*known, *self.engine.jobs_of(request.session_hash or "")])
        unfinished = [job for job in jobs if not job.progress.phase.is_final]
        return sorted(unfinished, key=lambda job: (job.progress.phase is Phase.QUEUED, job.progress.place))

    def act(self, request: gr.Request, kept: Any, event: gr.EventData) -> list[Any]:
        """What a button of the list asks for: only of a job of this page."""
        unchanged = [gr.skip() for _ in self.context.restore.outputs]
        given, action = event._data["index"], event._data["value"]
        jobs = self._jobs(request, kept)
        job = next((each for each in jobs if each.id == given), None)
        if job is None:
            return [gr.skip(), *unchanged]
        if action in ("up", "down"):
            self.engine.move(job, -1 if action == "up" else 1)
        elif action in ("fewer", "more"):
            count = job.request.num_images_per_prompt + (1 if action == "more" else -1)
            if 1 <= count <= LIMITS.num_images_per_prompt.high:
                self.engine.set_count(job, count)
        elif action in ("remove", "edit"):
            self.engine.cancel(job)
        values = self.context.restore.values(job.request) if action == "edit" else unchanged
        jobs = [each for each in self._jobs(request, kept) if each.progress.phase is Phase.QUEUED]
        is_drawing = len(self._jobs(request, kept)) > len(jobs)
        return [self._show(jobs if is_drawing else jobs[1:], language_of(request)), *values]

    def _show(self, jobs: list[Job], language: str) -> str:
        if not jobs:
            return ""
        title = html.escape(Text("queue").to(language, count=len(jobs)))
        rows = "".join(self._show_job(job, language, job is jobs[0], job is jobs[-1]) for job in jobs)
        return f'<h3>{title}</h3><ol aria-label="{title}">{rows}</ol>'

    def _show_job(self, job: Job, language: str, is_first: bool, is_last: bool) -> str:
        request = job.request
        prompt = html.escape(request.prompt[:_MOST_LETTERS]) or "&ndash;"
        seconds = self.engine.seconds_left(job)
        parts = [progress_text(job.progress, language)]
        if seconds:
            parts.append(time_left_text(_ROUND * max(1, round(seconds / _ROUND)), language))
        facts = html.escape(Text("comma").to(language).join(parts))
        count = request.num_images_per_prompt
        allowed = {
            "fewer": count > 1,
            "more": count < LIMITS.num_images_per_prompt.high,
            "up": not is_first,
            "down": not is_last,
            "edit": True,
            "remove": True,
        }
        fewer, more, *others = (_button(name, job, is_on, language) for name, is_on in allowed.items())
        images = html.escape(Text("queue.images").to(language, count=count))
        return (
            f"<li>{_inputs(request, language)}<div><b>{prompt}</b><small>{facts}</small></div>"
            f"<span>{fewer}<output>{images}</output>{more}</span><span>{''.join(others)}</span></li>"
        )


def _button(name: str, job: Job, is_on: bool, language: str) -> str:
    label = html.escape(Text(f"queue.{name}").to(language))
    sign = {"fewer": "&minus;", "more": "+", "up": "&uarr;", "down": "&darr;", "edit": "&#9998;", "remove": "&times;"}[
        name
    ]
    off = "" if is_on else " disabled"
    return (
        f'<button type="button" data-do="{name}" data-job="{job.id}" title="{label}" aria-label="{label}"{off}>'
        f"{sign}</button>"
    )


def _inputs(request: GenerationRequest, language: str) -> str:
    """Thumbnails of the first images, and the names of other kinds of input."""
    shown = []
    for path in [*request.images, request.source_image, request.reference][:3]:
        try:
            shown += [f'<img src="{thumbnail(path)}" alt="">'] if isinstance(path, str) else []
        except X2IError:
            continue  # the job itself will say so
    shown += [
        f"<i>{html.escape(Text(f'tab.{kind}').to(language))}</i>"
        for kind in ("video", "audio")
        if getattr(request, f"{kind}s")
    ]
    return "".join(shown)
