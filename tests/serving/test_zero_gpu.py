"""The app on a Hugging Face Space: front matter, environment variables, storage, and ZeroGPU."""

import json
import os
import subprocess
import sys
import threading
import urllib.request
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from conftest import run_app
from gradio_client import Client
from huggingface_hub import SpaceCard, SpaceHardware
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from PIL import Image
from safety.client import ask, call

from x2i_app.errors import GenerationCancelledError
from x2i_app.hosting import use_persistent_storage
from x2i_app.presets import FLUX_MODELS
from x2i_app.request import GenerationRequest
from x2i_app.serving.engine import Engine
from x2i_app.serving.jobs import Phase
from x2i_app.serving.zero_gpu import MAX_SECONDS, ZeroGpuWorker, gpu_seconds
from x2i_app.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 300  # seconds; a job may wait for the model
SPACE = {
    "SYSTEM": "spaces",
    "SPACE_ID": "ann/x2i",
    "SPACE_HOST": "ann-x2i.hf.space",
    "SPACE_AUTHOR_NAME": "ann",
    "SPACE_REPO_NAME": "x2i",
    "GRADIO_SERVER_NAME": "0.0.0.0",
}


@pytest.fixture(scope="module")
def space(tmp_path_factory):
    with run_app(tmp_path_factory.mktemp("space"), **SPACE) as app:
        yield app


def test_front_matter():
    card = SpaceCard.load(ROOT / "README.md").data
    assert (card.sdk, card.license) == ("gradio", "apache-2.0")
    assert (ROOT / card.app_file).is_file()
    assert card.suggested_hardware in {hardware.value for hardware in SpaceHardware}
    assert len(card.short_description) <= 60
    rows = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    (gradio,) = (Requirement(row) for row in rows if row.startswith("gradio>"))
    assert card.sdk_version in gradio.specifier
    assert card.sdk_version == version("gradio"), "the version that these tests ran with"
    assert card.python_version in SpecifierSet(">=3.11,<3.14")


def test_space_without_gpu(space, tmp_path):
    client = Client(space.url, verbose=False, download_files=tmp_path)
    images, *_ = client.predict(prompt="a red house", steps=1, width=64, height=64, api_name="/text")
    with Image.open(images[0]["image"]) as image:
        assert image.size == (64, 64)


def test_strangers_cannot_switch(space):
    for endpoint, data in (("switch", ["x2i-tiny", "/etc", ""]), ("switch", ["", "", ""]), ("unload", [])):
        assert "cannot be changed from the browser" in call(space.url, endpoint, data)


def test_no_mcp(space):
    assert ask(space.url, "POST", "/gradio_api/mcp", {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}).status == 404


def test_public_address(space):
    headers = {"Host": "ann-x2i.hf.space", "X-Forwarded-Host": "ann-x2i.hf.space", "X-Forwarded-Proto": "https"}
    with urllib.request.urlopen(urllib.request.Request(f"{space.url}/config", headers=headers), timeout=60) as answer:
        config = json.loads(answer.read())
    assert config["root"] == "https://ann-x2i.hf.space"
    assert config["space_id"] == "ann/x2i"


def test_persistent_storage(tmp_path):
    environment = {"SPACE_ID": "ann/x2i", "XDG_CACHE_HOME": "/set/by/the/user"}
    assert use_persistent_storage(environment, tmp_path) == tmp_path
    assert environment["XDG_CACHE_HOME"] == "/set/by/the/user"
    code = "from huggingface_hub.constants import HF_HUB_CACHE; print(HF_HUB_CACHE)"
    found = subprocess.run(
        [sys.executable, "-c", code],
        env={"PATH": os.environ["PATH"]} | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert Path(found.stdout.strip()) == tmp_path / ".huggingface" / "hub"


def test_no_persistent_storage(tmp_path):
    for environment, storage in (({}, tmp_path), ({"SPACE_ID": "ann/x2i"}, tmp_path / "none")):
        before = dict(environment)
        assert use_persistent_storage(environment, storage) is None
        assert environment == before


class Lender(BaseHTTPRequestHandler):
    """The hub's server that lends GPUs: it grants every request and keeps it."""

    def do_POST(self):
        url = urlsplit(self.path)
        self.server.asked.append((url.path, {name: value for name, (value,) in parse_qs(url.query).items()}))
        answer = json.dumps({"idle": False, "nvidiaIndex": 0, "nvidiaUUID": "GPU-0", "allowToken": "token"}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_):
        """Nothing."""


def test_zero_gpu_asks_for_seconds(tmp_path):
    lender = ThreadingHTTPServer(("127.0.0.1", 0), Lender)
    lender.asked = []
    threading.Thread(target=lender.serve_forever, daemon=True).start()
    zero = {"SPACES_ZERO_GPU": "true", "SPACES_ZERO_DEVICE_API_URL": f"http://127.0.0.1:{lender.server_port}"}
    jobs = [
        {"prompt": "a red house", "steps": steps, "width": side, "height": side, "count": count}
        for steps, side, count in ((4, 256, 1), (40, 1024, 1), (40, 1024, 2))
    ]
    try:
        with run_app(tmp_path, "--device", "cuda", "--profile", "auto", **SPACE, **zero) as app:
            client = Client(app.url, verbose=False, download_files=tmp_path)
            for job in jobs:
                with pytest.raises(Exception, match="ZeroGPU worker error: RuntimeError"):  # there is no card here
                    client.predict(**job, api_name="/text")
            assert client.predict(api_name="/status")["state"] == "ready"
    finally:
        lender.shutdown()
    assert lender.asked[0][0] == "/startup-report", "a Space that has no function for the card is not started"
    seconds = [int(asked["durationSeconds"]) for path, asked in lender.asked if path == "/schedule"]
    assert len(seconds) == 3
    assert seconds == sorted(set(seconds)), "more steps and pixels, then more pictures"
    assert len([path for path, _ in lender.asked if path == "/allow"]) == 3, "each had a process of its own"


def test_gpu_seconds():
    flux = FLUX_MODELS["flux.1-schnell"]
    least = GenerationRequest(prompt="a", width=512, height=512, num_inference_steps=4).with_defaults(flux, seed=0)
    more = ({"width": 1024}, {"height": 1024}, {"num_inference_steps": 40}, {"num_images_per_prompt": 4})
    asked = gpu_seconds(least)
    assert 20 < asked < 30
    for change in more:
        assert gpu_seconds(replace(least, **change)) > asked
    most = replace(least, width=2048, height=2048, num_inference_steps=50, num_images_per_prompt=8)
    assert gpu_seconds(most) == MAX_SECONDS


def test_worker():
    """In this process: elsewhere than on ZeroGPU `spaces.GPU` does nothing."""
    settings = Settings(profile="cpu")
    request = GenerationRequest(prompt="a red house", width=64, height=64, num_inference_steps=2, seed=1)
    own = Engine(settings)
    own.start()
    expected = own.submit(request).wait(PATIENCE)
    own.close()
    lent = Engine(settings, ZeroGpuWorker(settings))
    lent.start()
    try:
        job = lent.submit(replace(request, num_images_per_prompt=2))
        result = job.wait(PATIENCE)
        assert result.seeds == (1, 2)
        assert result.images[0].tobytes() == expected.images[0].tobytes()
        assert lent.seconds_left(job) is None

        long = lent.submit(replace(request, num_inference_steps=50, num_images_per_prompt=8, width=256, height=256))
        found = next(moment for moment in long.watch() if moment.phase is Phase.DENOISING and moment.step)
        assert (found.steps, found.images) == (50, 8)
        lent.cancel(long)
        with pytest.raises(GenerationCancelledError):
            long.wait(PATIENCE)
        assert lent.submit(request).wait(PATIENCE).seeds == (1,), "the next one is served"
    finally:
        lent.close()
