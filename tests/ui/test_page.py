"""What Gradio would make and describe again and again is made once: nothing is answered while it does so."""

import asyncio
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy

import gradio as gr
import pytest
from gradio.blocks import BlocksConfig
from gradio.state_holder import SessionState

from x2i_app.errors import EngineError
from x2i_app.request import GenerationRequest
from x2i_app.serving.engine import Engine
from x2i_app.serving.jobs import FairQueue, Job, Phase
from x2i_app.settings import Settings
from x2i_app.ui.http import disk_space as space
from x2i_app.ui.layout import build_page
from x2i_app.ui.page import Page
from x2i_app.ui.progress import _follow


@pytest.fixture(scope="module")
def page():
    return build_page(Engine(Settings()))


def in_own_thread(work):
    """What a coroutine gives; Playwright's event loop runs in the tests' thread."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, work).result()


def calls(function) -> int:
    """How many functions of Python and C it calls."""
    events = []
    sys.setprofile(lambda frame, event, argument: events.append(event))
    try:
        function()
    finally:
        sys.setprofile(None)
    return sum(event in ("call", "c_call") for event in events)


def test_a_session_has_what_gradio_would_give_it_for_a_small_part_of_the_work(page):
    first = SessionState(page)
    assert calls(lambda: SessionState(page)) < 50 * len(page.blocks)  # describing them takes some 700 each
    for number, block in page.blocks.items():
        assert first.config_values[number] == BlocksConfig.config_for_block(number, [], block)
    assert list(first.blocks_config.fns) == list(page.fns)


def test_what_one_session_changes_another_has_not(page):
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


def test_what_stays_as_it_is_is_not_made_anew(page):
    session = SessionState(page)
    function = next(function for function in page.fns.values() if function.api_name == "text")
    names = ("images", "progress", "answer", "report", "job", "preview")
    values = {"progress": "<p>1</p>", "answer": "heard"}
    moment = tuple(values.get(name, gr.skip()) for name in names)
    told = in_own_thread(page.postprocess_data(function, moment, session))
    assert dict(zip(names, told, strict=True)) == {name: values.get(name, gr.skip()) for name in names}
    assert all(session[block._id] is block for block in function.outputs)
    assert in_own_thread(page.postprocess_data(function, (gr.skip(),) * 6, session)) == [gr.skip()] * 6
    changed = (gr.Gallery(visible=False), *moment[1:])
    told = in_own_thread(page.postprocess_data(function, changed, session))
    assert told[0] == {"visible": False, "__type__": "update"}
    assert session[function.outputs[0]._id] is not function.outputs[0]


def test_a_nearly_full_disk_is_told_before_a_image_is_drawn(page, monkeypatch):
    """More must stay free than there is on the disk."""
    draw = next(function.fn for function in page.fns.values() if function.api_name == "text")

    async def ask() -> None:
        await anext(draw(gr.Request(headers={}), "a house", 64, 64, 1, None, 7, 1, False, []))

    monkeypatch.setattr(space, "SPARE_BYTES", 2**62)
    with pytest.raises(gr.Error, match="The disk is nearly full; try again later"):
        in_own_thread(ask())


def test_who_waits_hears_of_another_place_once_a_second_and_of_all_else_at_once():
    queue, jobs = FairQueue(64, 3), [Job(GenerationRequest(prompt="x"), str(number)) for number in range(20)]
    for job in jobs:
        queue.put(job)
    last = jobs[-1]

    async def take_all() -> None:
        while queue.take() is not last:
            await asyncio.sleep(0.06)  # in which a follower looks at it
        last.report(Phase.ENCODING)
        await asyncio.sleep(0.06)
        last.fail(EngineError("x"))

    async def listen() -> list:
        taking = asyncio.create_task(take_all())
        moments = [moment async for moment in _follow(last)]
        await taking
        return moments

    start = time.monotonic()
    phases = [moment.phase for moment in in_own_thread(listen())]
    waiting = phases.count(Phase.QUEUED)
    assert phases[waiting:] == [Phase.ENCODING, Phase.FAILED]
    assert 1 <= waiting <= 1 + (time.monotonic() - start)


@pytest.mark.parametrize("told", [[], [{"a": 1}], [{"a": 1}, {"b": 2}]])
def test_a_list_told_to_one_component_is_its_value_also_a_list_of_one(page, told):
    function = next(f for f in page.fns.values() if len(f.outputs) == 1 and isinstance(f.outputs[0], gr.JSON))
    ours, gradios = (
        in_own_thread(postprocess(function, told, SessionState(page)))
        for postprocess in (page.postprocess_data, super(Page, page).postprocess_data)
    )
    assert ours == gradios
