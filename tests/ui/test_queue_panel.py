"""The queue of a page: what its buttons change, whose jobs they reach, and which job a page shows."""

import asyncio
import re
from concurrent.futures import ThreadPoolExecutor

import gradio as gr
import pytest

from x2i_app.request import GenerationRequest
from x2i_app.serving.engine import Engine
from x2i_app.serving.jobs import Phase
from x2i_app.settings import Settings
from x2i_app.ui.layout import build_page
from x2i_app.ui.progress import OUTPUTS
from x2i_app.ui.queue_panel import QueuePanel

PAGE = gr.Request(headers={"origin": "http://127.0.0.1", "accept-language": "zh"}, session_hash="mine")
PROMPTS = ("a red house", "a <b>boat</b>", "a yellow car")


@pytest.fixture
def panel() -> QueuePanel:
    """Of an engine that does not run, so that three jobs of this page wait, and one of another page."""
    page = build_page(Engine(Settings()))
    panel = next(fn.fn.__self__ for fn in page.fns.values() if fn.name == "act")
    for prompt in PROMPTS:
        panel.engine.submit(GenerationRequest(prompt), "mine")
    panel.engine.submit(GenerationRequest("a secret garden"), "other")
    return panel


def prompts(panel):
    return [job.request.prompt for job in panel.engine.jobs_of("mine")]


def act(panel, do, job, kept=""):
    event = gr.EventData(None, {"index": job.id if job else "unknown", "value": do})
    return panel.act(PAGE, kept, event)


def run(coroutine):
    """Its result; Playwright's event loop may run in the tests' thread."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, coroutine).result()


def test_buttons(panel):
    """Moved, changed, removed, and put back into the inputs; the list says so in the page's language."""
    first, second, third = panel.engine.jobs_of("mine")
    shown, *_ = act(panel, "up", third)
    assert prompts(panel) == [PROMPTS[0], PROMPTS[2], PROMPTS[1]]
    assert "队列中还有 2 个" in shown, "the first is shown by the progress"
    assert re.findall("<b>(.*?)</b>", shown) == ["a yellow car", "a &lt;b&gt;boat&lt;/b&gt;"]
    shown, *_ = act(panel, "more", second)
    assert second.request.num_images_per_prompt == 2
    assert "2 张" in shown
    act(panel, "fewer", third)
    assert third.request.num_images_per_prompt == 1, "never none"
    shown, *restored = act(panel, "edit", second)
    assert second.progress.phase is Phase.CANCELLED
    assert PROMPTS[1] in restored
    act(panel, "remove", third)
    assert prompts(panel) == [PROMPTS[0]]
    assert first.progress.place == 1


def test_only_its_own(panel):
    """A page changes none of another page's jobs, unless its browser kept the job's id, as after a reload."""
    (other,) = panel.engine.jobs_of("other")
    for job in (other, None):
        shown, *restored = act(panel, "edit", job)
        assert all(value == gr.skip() for value in (shown, *restored))
    assert other.progress.phase is Phase.QUEUED
    act(panel, "remove", other, kept=other.id)
    assert other.progress.phase is Phase.CANCELLED


def test_watch(panel):
    """The list and the ids of all jobs, until nothing waits; what others do is not in it."""

    async def first():
        watched = panel.watch(PAGE, None)
        values = await anext(watched)
        await watched.aclose()
        return values

    shown, ids = run(first())
    assert ids.split() == [job.id for job in panel.engine.jobs_of("mine")]
    assert "secret" not in shown
    assert shown.count("<li>") == 2


def test_one_job_is_shown(panel):
    """While a page's job is drawn, the next one sends nothing; each result is there for the session."""
    followers, (first, second, _) = panel.context.followers, panel.engine.jobs_of("mine")

    async def follow(job, count):
        updates = followers.follow(job, PAGE)
        found = [dict(zip(OUTPUTS, await anext(updates), strict=True)) for _ in range(count)]
        return updates, found[-1]

    async def both():
        first.report(Phase.DENOISING, step=1, steps=2)
        one, shown = await follow(first, 1)
        two, hidden = await follow(second, 1)
        first.cancel()
        first.fail(Exception("stopped"))
        await one.aclose()
        later = dict(zip(OUTPUTS, await anext(two), strict=True))
        await two.aclose()
        return shown, hidden, later

    shown, hidden, later = run(both())
    assert shown["job"] == first.id
    assert all(value == gr.skip() for value in hidden.values())
    assert later["job"] == second.id, "once the first has ended, the next one is shown"
