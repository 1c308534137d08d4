"""Page, the subclass of Gradio's blocks; and how often the followers of a job hear of it."""

import asyncio
import inspect
import sys
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from types import SimpleNamespace

import gradio as gr
import pytest
from gradio.blocks import BlocksConfig
from gradio.state_holder import SessionState

from x2i_app.errors import EngineError
from x2i_app.request import GenerationRequest
from x2i_app.serving.engine import Engine
from x2i_app.serving.fair_queue import FairQueue
from x2i_app.serving.jobs import Job, Phase
from x2i_app.settings import Settings
from x2i_app.ui import progress
from x2i_app.ui.http import disk_space
from x2i_app.ui.layout import build_page
from x2i_app.ui.page import Page
from x2i_app.ui.progress import OUTPUTS, _changes


@pytest.fixture(scope="module")
def page():
    return build_page(Engine(Settings()))


def in_own_thread(coroutine):
    """The result of a coroutine; Playwright's event loop runs in the tests' thread."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, coroutine).result()


def calls(function) -> int:
    """How many functions of Python and C it calls."""
    events = []
    sys.setprofile(lambda frame, event, argument: events.append(event))
    try:
        function()
    finally:
        sys.setprofile(None)
    return sum(event in ("call", "c_call") for event in events)


def endpoint(page, name):
    return next(function for function in page.fns.values() if function.api_name == name)


def test_cost_of_a_session(page):
    """A session gets the same descriptions as from Gradio, for a small part of the work."""
    first = SessionState(page)
    assert calls(lambda: SessionState(page)) < 50 * len(page.blocks)  # describing a component takes some 700 calls
    for number, block in page.blocks.items():
        assert first.config_values[number] == BlocksConfig.config_for_block(number, [], block)
    assert list(first.blocks_config.fns) == list(page.fns)


def test_sessions_are_separate(page):
    """What one session changes, another session does not see."""
    one, other = SessionState(page), SessionState(page)
    number = next(number for number, block in page.blocks.items() if isinstance(block, gr.Textbox))
    before = deepcopy(other.config_values[number])
    one[number] = gr.Textbox(label="changed", render=False)
    one._update_config(number)
    one._update_value_in_config(number, "mine")
    changed = one.config_values[number]["props"]
    assert (changed["label"], changed["value"]) == ("changed", "mine")
    one._update_value_in_config(number + 1, "mine")
    assert other.config_values[number] == before
    assert SessionState(page).config_values == other.config_values
    assert other[number] is page.blocks[number]


def test_skipped_outputs(page):
    """Outputs that are skipped are not built again, and the others are as Gradio makes them."""
    session = SessionState(page)
    function = endpoint(page, "text")
    values = {"progress": "<p>1</p>", "answer": "a house"}
    update = tuple(values.get(name, gr.skip()) for name in OUTPUTS)
    sent = in_own_thread(page.postprocess_data(function, update, session))
    assert dict(zip(OUTPUTS, sent, strict=True)) == {name: values.get(name, gr.skip()) for name in OUTPUTS}
    assert all(session[block._id] is block for block in function.outputs)
    assert in_own_thread(page.postprocess_data(function, (gr.skip(),) * 6, session)) == [gr.skip()] * 6
    changed = (gr.Gallery(visible=False), *update[1:])
    sent = in_own_thread(page.postprocess_data(function, changed, session))
    assert sent[0] == {"visible": False, "__type__": "update"}
    assert session[function.outputs[0]._id] is not function.outputs[0]


@pytest.mark.parametrize("value", [[], [{"a": 1}], [{"a": 1}, {"b": 2}]])
def test_list_for_one_output(page, value):
    """With one output, a list is its value, also a list of one."""
    function = next(f for f in page.fns.values() if len(f.outputs) == 1 and isinstance(f.outputs[0], gr.JSON))
    ours, gradios = (
        in_own_thread(postprocess(function, value, SessionState(page)))
        for postprocess in (page.postprocess_data, super(Page, page).postprocess_data)
    )
    assert ours == gradios


def test_preprocess_of_an_updated_component(page):
    """After an update, a component still takes values unconverted."""
    session = SessionState(page)
    width = next(block for block in page.blocks.values() if isinstance(block, gr.Slider) and block.label.en == "Width")
    session[width._id] = gr.Slider(0, 9, 4, render=False)
    function = endpoint(page, "text")
    values = ["a house", "64", 64, 1, None, 7, 1, False, []]
    assert in_own_thread(page.preprocess_data(function, values, session))[1] == "64"


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (EngineError("The <b>engine</b> stopped."), "The &lt;b&gt;engine&lt;/b&gt; stopped."),
        (OSError(28, "No space left"), "磁盘已满，无法写入文件。请稍后再试，或告知应用的所有者。"),
        (ZeroDivisionError("secret"), "发生了内部错误。应用的日志中有详细信息。"),
    ],
)
def test_errors_become_sentences(error, sentence):
    """Whatever a function raises, the user reads one sentence, in their language where the page has it."""

    def fail():
        raise error

    with Page() as page:
        gr.Button().click(fail, None, None)
    request = gr.Request(headers={"accept-language": "zh-CN"})
    with pytest.raises(gr.Error) as raised:
        in_own_thread(page.process_api(page.fns[0], [], request=request, state=SessionState(page)))
    assert (raised.value.message, raised.value.title) == (sentence, "出错了")


def test_nearly_full_disk(page, monkeypatch):
    """It is refused before the job: more must stay free than the disk has."""
    generate = endpoint(page, "text").fn
    _, *names = inspect.signature(generate).parameters
    given = {"prompt": "a house", "width": 64, "height": 64, "steps": 1}

    async def call() -> None:
        async for _ in generate(gr.Request(headers={}), *map(given.get, names)):
            pass

    monkeypatch.setattr(disk_space, "SPARE_BYTES", 2**62)
    with pytest.raises(EngineError, match="The disk is nearly full; try again later"):
        in_own_thread(call())


def test_changes_of_a_waiting_job(monkeypatch):
    """A waiting job's new place is sent once a second, everything else at once."""
    jobs_queue, jobs = FairQueue(64, 3), [Job(GenerationRequest(prompt="x"), str(number)) for number in range(20)]
    for job in jobs:
        jobs_queue.put(job)
    last, now = jobs[-1], 100.0

    async def sleep(_) -> None:
        """What happens while the follower sleeps."""
        nonlocal now
        now += 0.06
        if len(jobs_queue) > 1:
            jobs_queue.take()
        elif jobs_queue:
            assert jobs_queue.take() is last
            last.report(Phase.ENCODING)
        else:
            last.fail(EngineError("x"))

    async def listen() -> list[Phase]:
        return [moment.phase async for moment in _changes(last)]

    monkeypatch.setattr(progress, "asyncio", SimpleNamespace(sleep=sleep))
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: now))
    assert in_own_thread(listen()) == [Phase.QUEUED, Phase.QUEUED, Phase.ENCODING, Phase.FAILED]
