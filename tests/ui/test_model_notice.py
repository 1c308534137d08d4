"""A tab that the loaded model cannot serve says so, and its button loads a model that can, after a change too."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import gradio as gr
import pytest

from x2i_app.presets import PRESETS
from x2i_app.serving.engine import Engine
from x2i_app.settings import Settings
from x2i_app.ui.layout import build_page
from x2i_app.ui.model_notice import missing_modality
from x2i_app.ui.tabs import TABS


@pytest.fixture
def reader(monkeypatch):
    """A preset that reads but does not see, as none of the registry is yet."""
    known = PRESETS["qwen2.5-vl-3b"]
    blind = replace(known, name="reader", encoding=replace(known.encoding, modalities=("text",)))
    monkeypatch.setitem(PRESETS, "reader", blind)
    return "reader"


def notices(page, tab):
    """(what the tab says, its button), as a page that is opened now has them."""
    (button,) = [block for block in page.blocks.values() if getattr(block, "elem_id", None) == f"load-{tab}"]
    return button


def refreshed(page, tab):
    """The button of a tab as the page shows it after a change of the model."""
    button = notices(page, tab)
    greet = next(fn for fn in page.fns.values() if fn.name == "greet")
    values = greet.fn(gr.Request(headers={"accept-language": "en"}))
    at = [output._id for output in greet.outputs].index(button._id)
    return values[at], values[at - 1]


def test_a_tab_that_cannot_be_served_offers_a_model_that_can(reader):
    page = build_page(Engine(Settings(preset=reader)))
    shown = {tab.name: notices(page, tab.name).visible for tab in TABS}
    assert shown == {"text": False, "image": True, "image_text": True, "video": True, "audio": False, "fusion": False}
    assert "Load x2i-tiny, which can" in notices(page, "video").value
    strangers = build_page(Engine(Settings(preset=reader, host="0.0.0.0")))
    assert not notices(strangers, "video").visible  # they may not change the model


def test_it_follows_a_change_of_the_model(reader):
    engine = Engine(Settings())
    page = build_page(engine)
    assert not notices(page, "video").visible
    engine.model.settings = Settings(preset=reader)
    button, words = refreshed(page, "video")
    assert (button.visible, button.value) == (True, "Load x2i-tiny, which can")
    assert (words.visible, words.value) == (True, "**reader** cannot take video.")
    assert not refreshed(page, "text")[0].visible


def test_the_button_loads_it(reader):
    engine = Engine(Settings(profile="cpu"))
    engine.start()
    page = build_page(engine)
    engine.model.settings = Settings(preset=reader)
    video = next(tab for tab in TABS if tab.name == "video")
    assert missing_modality(engine, video) == "video"
    button = notices(page, "video")
    click = next(fn for fn in page.fns.values() if (button._id, "click") in fn.targets)

    async def press():
        return [told async for told in click.fn(gr.Request(headers={}))]

    with ThreadPoolExecutor(1) as pool:  # a thread of its own: Playwright's event loop runs in the tests'
        told = pool.submit(lambda: asyncio.run(press())).result()
    assert told[-1][0].open
    assert "x2i-tiny" in told[-1][1]
    assert engine.settings.preset == "x2i-tiny"
    assert missing_modality(engine, video) is None
    engine.close()
