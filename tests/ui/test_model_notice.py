"""A tab that the loaded model cannot serve says so, and its button loads a model that can."""

from dataclasses import replace

import gradio as gr
import pytest
from conftest import run_async

from x2i_app.presets import PRESETS
from x2i_app.serving.engine import Engine
from x2i_app.serving.worker import LocalWorker
from x2i_app.settings import Settings
from x2i_app.ui.layout import build_page
from x2i_app.ui.model_notice import missing_modality
from x2i_app.ui.tabs import TABS


@pytest.fixture
def reader(monkeypatch):
    """A preset that only reads text; the registry has none."""
    known = PRESETS["qwen2.5-vl-3b"]
    blind = replace(known, name="reader", encoding=replace(known.encoding, modalities=("text",)))
    monkeypatch.setitem(PRESETS, "reader", blind)
    return "reader"


def load_button(page, tab):
    """The button of a tab's notice, as a new page has it."""
    (button,) = [block for block in page.blocks.values() if getattr(block, "elem_id", None) == f"load-{tab}"]
    return button


def reload(page):
    """By component, what a page that is opened now changes."""
    load = next(fn for fn in page.fns.values() if fn.name == "refresh_if_changed")
    values = load.fn(gr.Request(headers={"accept-language": "en"}))
    return dict(zip(load.outputs, values, strict=True))


def notice(page, tab):
    """(button, message) of a tab as a page that is opened now changes them."""
    changes, button = reload(page), load_button(page, tab)
    return changes[button], changes[list(changes)[list(changes).index(button) - 1]]


def test_notices(reader):
    page = build_page(Engine(Settings(preset=reader)))
    shown = {tab.name: load_button(page, tab.name).visible for tab in TABS}
    assert shown == {"text": False, "image": True, "image_text": True, "video": True, "audio": False, "fusion": False}
    assert load_button(page, "video").value.endswith(" x2i-tiny")
    strangers = build_page(Engine(Settings(preset=reader, host="0.0.0.0")))
    assert not load_button(strangers, "video").visible, "they may not change the model"


def test_change_of_model(reader):
    """A page that is opened later shows the model that is loaded then."""
    worker = LocalWorker(Settings())
    page = build_page(Engine(worker.settings, worker))
    assert not load_button(page, "video").visible
    assert set(map(str, reload(page).values())) == {str(gr.skip())}, "nothing changes while the model is the same"
    worker.models.settings = Settings(preset=reader)
    button, message = notice(page, "video")
    assert (button.visible, button.value) == (True, "Load instead: x2i-tiny")
    assert (message.visible, message.value) == (True, "This model does not support video.")
    assert not notice(page, "text")[0].visible
    heading = next(block for block in reload(page) if getattr(block, "elem_id", None) == "model-description")
    assert reload(page)[heading] == "**reader**: Text, images and video; the lighter Qwen."


def test_load_button(reader):
    """It loads the other model, opens the model panel and shows the progress there."""
    worker = LocalWorker(Settings(profile="cpu"))
    engine = Engine(worker.settings, worker)
    engine.start()
    page = build_page(engine)
    worker.models.settings = Settings(preset=reader)
    video = next(tab for tab in TABS if tab.name == "video")
    assert missing_modality(engine, video) == "video"
    button = load_button(page, "video")
    click = next(fn for fn in page.fns.values() if (button._id, "click") in fn.targets)

    async def press():
        return [update async for update in click.fn(gr.Request(headers={}))]

    updates = run_async(press())
    assert updates[-1][0].open
    assert "x2i-tiny" in updates[-1][1]
    assert engine.settings.preset == "x2i-tiny"
    assert missing_modality(engine, video) is None
    engine.close()
