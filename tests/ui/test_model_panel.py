"""The model panel over HTTP, in a real app; that ten changes leave nothing behind is shown in test_switch."""

import pytest
import torch
from conftest import run_app
from gradio_client import Client

from x2i_app.models import AlignNet

CUSTOM = "custom:qwen2.5-vl"


@pytest.fixture(scope="module")
def running(qwen_vl_directory, tmp_path_factory):
    """An app that was started with a small Qwen2.5-VL of somebody's own."""
    folder = tmp_path_factory.mktemp("panel")
    torch.manual_seed(0)
    AlignNet(4, 32, joint_dim=128, pooled_dim=128).save_pretrained(folder / "align_net")
    parts = ("--mllm", str(qwen_vl_directory), "--flux", "x2i-tiny", "--alignnet", str(folder / "align_net"))
    with run_app(folder, "--preset", CUSTOM, *parts) as app:
        yield app


@pytest.fixture(scope="module")
def client(running, tmp_path_factory):
    folder = tmp_path_factory.mktemp("downloads")
    return Client(running.url, verbose=False, download_files=folder, httpx_kwargs={"timeout": 120})


def draw(client):
    settings = {"width": 64, "height": 64, "steps": 1, "seed": 1}
    return client.predict(prompt="a red house", **settings, api_name="/text")


def test_the_model_of_a_running_app_is_changed_and_changed_back(client):
    for preset, sign in (("x2i-tiny", "(x2i-tiny, bundled)"), (CUSTOM, "(flag, local path)")):
        facts = client.predict(preset, "", "", api_name="/switch")
        assert "Ready" in facts
        assert sign in facts
        assert client.predict(api_name="/status")["preset"] == preset
        assert draw(client)[0]
