"""The memory panel shows the plan and what is in use, once a model is loaded; the model panel, what one needs."""

import re

import gradio as gr
import psutil
import pytest

from x2i_app.request import GenerationRequest
from x2i_app.serving.engine import Engine
from x2i_app.settings import Settings
from x2i_app.ui.i18n import PageError, Text
from x2i_app.ui.layout import build_page
from x2i_app.ui.memory_panel import memory_handler
from x2i_app.ui.model_panel import needs_handler

_PEAKS = ("Peak while the model works", "Memory")


def test_plan_and_use():
    engine = Engine(Settings(profile="8gb", device="cpu"))
    show = memory_handler(engine)
    assert Text("memory.later").en in show()
    engine.start()
    engine.submit(GenerationRequest(prompt="x", width=64, height=64, num_inference_steps=1)).wait(600)
    shown = show()
    assert "Profile 8gb, estimated for 128 x 128:" in shown
    assert re.search(r"<td>FLUX</td><td>5\.2 M</td><td>\d\.\d MiB</td>", shown)
    assert len(re.findall("<tr>", shown)) == 1 + 5 + 1 + 3  # parts and phases, each below a row of headings
    assert re.search(r"<td>Encode: read the input</td><td>[\d.]+ [GM]iB</td>", shown)
    assert re.findall('<th scope="col">(.*?)</th>', shown) == ["Part", "Parameters", "Memory", *_PEAKS]
    used, total = (int(re.search(rf'{name}="(\d+)"', shown).group(1)) for name in ("value", "max"))
    assert total == psutil.virtual_memory().total
    assert 0 < used < total
    assert show().split("<table>")[1] == shown.split("<table>")[1]
    engine.close()


def test_meter_runs_while_open():
    """The meter is only refreshed while the panel is open."""
    engine = Engine(Settings(profile="cpu"))
    config = build_page(engine).get_config_file()
    (clock,) = [c for c in config["components"] if c["type"] == "timer"]
    assert clock["props"]["active"] is False
    events = {event for d in config["dependencies"] for _, event in d["targets"]}
    assert {"expand", "collapse", "tick"} <= events


def test_needs():
    """A chosen model says what it needs before it is loaded, if models may be changed at all."""
    needs = needs_handler(Engine(Settings()))
    shown = needs(gr.Request(headers={}), "qwen2.5-vl-3b", "", "8gb")
    assert "qwen2.5-vl-3b, profile 8gb: about 31.5 GB of files and 7.2 GiB of GPU memory." in shown
    with pytest.raises(PageError, match="cannot be changed from the browser"):
        needs_handler(Engine(Settings(switch="no")))(gr.Request(headers={}), "qwen2.5-vl-3b", "", "8gb")
