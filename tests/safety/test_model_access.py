"""T1 and T8 of SECURITY.md: what the model panel lets visitors do who do not sit at this machine."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

import gradio as gr
import pytest

from x2i_app.serving.engine import Engine
from x2i_app.settings import ASSETS, Settings
from x2i_app.ui.model_panel import change_handler, show_facts


def switch(engine: Engine, *names: str) -> str:
    """What a visitor hears first who asks for another model."""

    async def first() -> str:
        return await anext(change_handler(engine)(None, *names))

    try:
        # Playwright's browser, open beside the other tests, has an event loop running in this thread.
        with ThreadPoolExecutor(1) as thread:
            return thread.submit(asyncio.run, first()).result()
    except gr.Error as error:
        return error.message


@pytest.mark.parametrize("settings", [{"host": "0.0.0.0"}, {"share": True}, {"hosts": "x2i.example.org"}])
def test_t1_where_strangers_may_change_the_model_they_still_name_no_file(settings, tmp_path):
    engine = Engine(Settings(switch="yes", profile="cpu", **settings))
    for flux in (str(tmp_path), str(ASSETS / "x2i-tiny"), "somebody/some-model", "../..", "file:///etc", "~"):
        assert "Only the models in the lists can be chosen from afar" in switch(engine, "", flux, "")
    assert "Only the models in the lists" in switch(engine, "custom:qwen2.5-vl", "", "")
    assert engine.model.settings.flux is None


def test_t1_who_sits_at_this_machine_may_name_files(tmp_path):
    engine = Engine(Settings(profile="cpu"))
    assert "Only the models in the lists" not in switch(engine, "", str(tmp_path), "")


def test_t8_strangers_do_not_see_the_folders_of_this_machine():
    for settings, sees in (({}, True), ({"host": "0.0.0.0"}, False), ({"share": True}, False)):
        engine = Engine(Settings(profile="cpu", **settings))
        engine.model.load()
        assert (str(ASSETS) in show_facts(engine)) is sees
        assert "(x2i-tiny, bundled)" in show_facts(engine)
