"""T1 and T8 of SECURITY.md: what the model panel allows and shows to users of other machines."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

import pytest

from x2i_app.errors import X2IError
from x2i_app.serving.engine import Engine
from x2i_app.serving.worker import LocalWorker
from x2i_app.settings import ASSETS, Settings
from x2i_app.ui.model_panel import show_facts, switch_handler


def switch(engine: Engine, *names: str) -> str:
    """The first answer to a request for another model."""

    async def first() -> str:
        return await anext(switch_handler(engine)(None, *names))

    try:
        # In this thread an event loop may be running, of Playwright's browser in other tests.
        with ThreadPoolExecutor(1) as thread:
            return thread.submit(asyncio.run, first()).result()
    except X2IError as error:
        return str(error)


@pytest.mark.parametrize("settings", [{"host": "0.0.0.0"}, {"share": True}, {"hosts": "x2i.example.org"}])
def test_t1_strangers_choose_from_the_lists(settings, tmp_path):
    """Even if they may change the model, they cannot name a file or a repository."""
    engine = Engine(Settings(switch="yes", profile="cpu", **settings))
    for flux in (str(tmp_path), str(ASSETS / "x2i-tiny"), "somebody/some-model", "../..", "file:///etc", "~"):
        assert "Choose a model from the lists" in switch(engine, "", flux, "")
    assert "Choose a model from the lists" in switch(engine, "custom:qwen2.5-vl", "", "")
    assert engine.settings.flux is None


def test_t1_the_owner_may_name_files(tmp_path):
    engine = Engine(Settings(profile="cpu"))
    assert "Choose a model from the lists" not in switch(engine, "", str(tmp_path), "")


def test_t8_strangers_see_no_folders():
    for settings, sees in (({}, True), ({"host": "0.0.0.0"}, False)):
        worker = LocalWorker(Settings(profile="cpu", **settings))
        engine = Engine(worker.settings, worker)
        worker.load()
        assert (str(ASSETS) in show_facts(engine)) is sees
        assert "(x2i-tiny, bundled)" in show_facts(engine)
