"""The memory panel says what was planned and what is in use, once there is a model."""

import re

import gradio as gr
import psutil
import pytest

from x2i_app.request import GenerationRequest
from x2i_app.serving.engine import Engine
from x2i_app.settings import Settings
from x2i_app.ui.i18n import texts
from x2i_app.ui.layout import build_page
from x2i_app.ui.memory_panel import memory_handler
from x2i_app.ui.model_panel import needs_handler


def test_it_waits_for_the_model_and_then_tells_plan_and_use():
    engine = Engine(Settings(profile="8gb", device="cpu"))
    look = memory_handler(engine)
    assert texts.MEMORY_LATER.en in look()
    engine.start()
    engine.submit(GenerationRequest(prompt="x", width=64, height=64, num_inference_steps=1)).wait(600)
    shown = look()
    assert "Profile 8gb, planned for 128 x 128:" in shown
    assert re.search(r"<td>FLUX</td><td>5\.2 M</td><td>\d\.\d MiB</td>", shown)
    assert len(re.findall("<tr>", shown)) == 5 + 3  # parts and phases
    used, total = (int(re.search(rf'{name}="(\d+)"', shown).group(1)) for name in ("value", "max"))
    assert total == psutil.virtual_memory().total
    assert 0 < used < total
    assert look().split("<table>")[1] == shown.split("<table>")[1]
    engine.close()


def test_the_meter_is_only_looked_at_while_the_panel_is_open():
    engine = Engine(Settings(profile="cpu"))
    config = build_page(engine).get_config_file()
    (clock,) = [c for c in config["components"] if c["type"] == "timer"]
    assert clock["props"]["active"] is False
    events = {event for d in config["dependencies"] for _, event in d["targets"]}
    assert {"expand", "collapse", "tick"} <= events


def test_what_is_chosen_says_what_it_needs_before_it_is_downloaded():
    needs = needs_handler(Engine(Settings()))
    said = needs(gr.Request(headers={}), "qwen2.5-vl-3b", "", "8gb")
    assert "qwen2.5-vl-3b, profile 8gb: about 31.5 GB of files, and 7.1 GiB of the card&#x27;s memory." in said
    with pytest.raises(gr.Error, match="cannot be changed from the browser"):
        needs_handler(Engine(Settings(switch="no")))(gr.Request(headers={}), "qwen2.5-vl-3b", "", "8gb")
