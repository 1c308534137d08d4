"""The model panel over HTTP, in a real app: ten changes, a change that fails, unloading, and memory use.

serving/test_switch.py shows with weak references that every part of the old model, and of a LoRA, is freed.
"""

import psutil
import pytest
import torch
from conftest import run_app
from gradio_client import Client
from gradio_client.exceptions import AppError
from PIL import Image

from x2i_app.models import AlignNet

CUSTOM = "custom:qwen2.5-vl"


@pytest.fixture(scope="module")
def running(qwen_vl_directory, tmp_path_factory):
    """An app that was started with a small Qwen2.5-VL of the user's own."""
    folder = tmp_path_factory.mktemp("panel")
    torch.manual_seed(0)
    AlignNet(4, 32, joint_dim=128, pooled_dim=128).save_pretrained(folder / "align_net")
    parts = ("--mllm", str(qwen_vl_directory), "--flux", "x2i-tiny", "--alignnet", str(folder / "align_net"))
    with run_app(folder, "--preset", CUSTOM, *parts) as app:
        yield app


@pytest.fixture(scope="module")
def client(running, tmp_path_factory):
    folder = tmp_path_factory.mktemp("downloads")
    return Client(running.url, verbose=False, download_files=folder, httpx_kwargs={"timeout": 300})


def generate(client):
    settings = {"width": 64, "height": 64, "steps": 1, "seed": 1}
    return client.predict(prompt="a red house", **settings, api_name="/text")


def image(client):
    return Image.open(generate(client)[0][0]["image"]).tobytes()


def resident(running):
    """Resident memory of the app, MB."""
    return psutil.Process(running.process.pid).memory_info().rss / 1e6


# Presets and profiles; an image is generated after each change. The list is run twice.
CHANGES = [("x2i-tiny", "cpu"), (CUSTOM, "8gb"), ("x2i-tiny", "16gb"), (CUSTOM, "cpu"), ("x2i-tiny", "8gb")]
SIGNS = {"x2i-tiny": "(x2i-tiny, bundled)", CUSTOM: "(flag, local path)"}
MARGIN = 60  # MB that Python and malloc keep; a model that is not freed would add 44 MB or more with each change


def test_ten_changes(client, running):
    """Ten changes of the model leave the memory use of the app where it was."""
    used = []
    for preset, profile in CHANGES * 2:
        facts = client.predict(preset, "", profile, api_name="/switch")
        assert "Ready" in facts
        assert SIGNS[preset] in facts
        assert f"<dd>{profile}</dd>" in facts
        assert client.predict(api_name="/status")["preset"] == preset
        assert generate(client)[0]
        used.append(resident(running))
    assert used[9] - used[1] < MARGIN


def test_failed_change(client):
    """A change that fails leaves the old model working."""
    client.predict("x2i-tiny", "x2i-tiny", "cpu", api_name="/switch")
    before = image(client)
    with pytest.raises(AppError, match=r"There is no folder .*/no/such"):
        client.predict("x2i-tiny", "/no/such", "", api_name="/switch")
    with pytest.raises(AppError, match="no preset called"):
        client.predict("gpt-9", "", "", api_name="/switch")
    status = client.predict(api_name="/status")
    assert (status["state"], status["preset"]) == ("ready", "x2i-tiny")
    assert image(client) == before


def test_unload(client, running):
    """Unloading frees memory, and the next job loads the model again."""
    before, full = image(client), resident(running)
    client.predict(api_name="/unload")
    assert client.predict(api_name="/status")["state"] == "unloaded"
    freed = full - resident(running)
    assert image(client) == before
    assert client.predict(api_name="/status")["state"] == "ready"
    assert freed > 20, freed  # MB, of the 44 MB of x2i-tiny's weights
