"""The app as a Hugging Face Space starts it: the README's front matter, the variables of a Space, its storage."""

import json
import os
import subprocess
import sys
import urllib.request
from importlib.metadata import version
from pathlib import Path

import pytest
from conftest import run_app
from gradio_client import Client
from huggingface_hub import SpaceCard, SpaceHardware
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from PIL import Image
from safety.wire import call

from x2i_app.hosting import use_persistent_storage

ROOT = Path(__file__).resolve().parents[1]
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


def test_the_front_matter_fits_what_is_here():
    card = SpaceCard.load(ROOT / "README.md").data
    assert (card.sdk, card.license) == ("gradio", "apache-2.0")
    assert (ROOT / card.app_file).is_file()
    assert card.suggested_hardware in {hardware.value for hardware in SpaceHardware}
    assert len(card.short_description) <= 60
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    (gradio,) = (Requirement(line) for line in lines if line.startswith("gradio>"))
    assert card.sdk_version in gradio.specifier
    assert card.sdk_version == version("gradio"), "the version that these tests ran with"
    assert card.python_version in SpecifierSet(">=3.11,<3.14")


def test_it_draws_on_a_space_without_a_gpu(space, tmp_path):
    client = Client(space.url, verbose=False, download_files=tmp_path)
    pictures, *_ = client.predict(prompt="a red house", steps=1, width=64, height=64, api_name="/text")
    with Image.open(pictures[0]["image"]) as picture:
        assert picture.size == (64, 64)


def test_visitors_of_a_space_change_no_model_and_name_no_file(space):
    for endpoint, data in (("switch", ["x2i-tiny", "/etc", ""]), ("switch", ["", "", ""]), ("unload", [])):
        assert "cannot be changed from the browser" in call(space.url, endpoint, data)


def test_behind_the_hub_s_proxy_the_page_knows_its_public_address(space):
    headers = {"Host": "ann-x2i.hf.space", "X-Forwarded-Host": "ann-x2i.hf.space", "X-Forwarded-Proto": "https"}
    with urllib.request.urlopen(urllib.request.Request(f"{space.url}/config", headers=headers), timeout=60) as answer:
        config = json.loads(answer.read())
    assert config["root"] == "https://ann-x2i.hf.space"
    assert config["space_id"] == "ann/x2i"


def test_downloads_go_to_persistent_storage_where_there_is_one(tmp_path):
    environment = {"SPACE_ID": "ann/x2i", "XDG_CACHE_HOME": "/set/by/the/user"}
    assert use_persistent_storage(environment, tmp_path) == tmp_path
    assert environment["XDG_CACHE_HOME"] == "/set/by/the/user"
    code = "from huggingface_hub.constants import HF_HUB_CACHE; print(HF_HUB_CACHE)"
    seen = subprocess.run(
        [sys.executable, "-c", code],
        env={"PATH": os.environ["PATH"]} | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert Path(seen.stdout.strip()) == tmp_path / ".huggingface" / "hub"


def test_elsewhere_nothing_is_moved(tmp_path):
    for environment, storage in (({}, tmp_path), ({"SPACE_ID": "ann/x2i"}, tmp_path / "none")):
        before = dict(environment)
        assert use_persistent_storage(environment, storage) is None
        assert environment == before
