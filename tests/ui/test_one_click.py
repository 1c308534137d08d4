"""One click, from the page to the files: every input is read once, the request is validated once, no image is written
twice. Real functions are counted, in a real server in this process.
"""

import hashlib
import json
import secrets
import urllib.request
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image, PngImagePlugin
from safety.local_app import local_app

from tests.safety.client import NO_INPAINTING, as_file, ask, upload
from x2i_app.media import audio, read_recipe, video
from x2i_app.media.hashing import path_hash
from x2i_app.request import GenerationRequest
from x2i_app.settings import ASSETS
from x2i_app.ui.http.limits import HTTP_LIMITS

EXAMPLES = ASSETS / "examples"
JOIN = "/gradio_api/queue/join"
SETTINGS = [64, 96, 2, 3.5, 9, 4, False, []]  # width, height, steps, guidance, seed, count, reason, loras


@pytest.fixture(scope="module")
def local():
    with local_app(HTTP_LIMITS, draws=True, isolated=False, profile="cpu") as local:  # what is counted runs here
        # The first preview fits its map on the bundled images.
        first = GenerationRequest(prompt="x", width=64, height=64, num_inference_steps=1)
        local.engine.submit(first, preview=True).wait(300)
        yield local


@pytest.fixture
def counts(monkeypatch):
    """How often an input is decoded or hashed, by its file's name; how many requests and PNG files are made."""
    counts = Counter()

    def count(owner, name, key):
        function = getattr(owner, name)
        monkeypatch.setattr(owner, name, lambda *a, **k: counts.update([key(*a)]) or function(*a, **k))

    count(
        PngImagePlugin.PngImageFile, "load_prepare", lambda image: ("decode", Path(getattr(image.fp, "name", "")).name)
    )
    count(video, "remux", lambda path, *_: ("decode", Path(path).name))
    count(audio, "_read_samples", lambda path, *_: ("decode", Path(path).name))
    count(hashlib, "file_digest", lambda file, *_: ("hash", Path(file.name).name))
    count(GenerationRequest, "__post_init__", lambda _: "validate")
    write = Image.SAVE["PNG"]
    monkeypatch.setitem(Image.SAVE, "PNG", lambda *a, **k: counts.update(["write PNG"]) or write(*a, **k))
    return counts


def click(local, session, name, data):
    """What an event of the page gives in the end. name: of its function."""
    (number,) = [number for number, function in local.page.fns.items() if function.name == name]
    body = {"data": data, "fn_index": number, "session_hash": session, "event_data": None}
    assert ask(local.url, "POST", JOIN, body).status == 200
    with urllib.request.urlopen(f"{local.url}/gradio_api/queue/data?session_hash={session}", timeout=300) as events:
        messages = [json.loads(event[5:]) for event in events if event.startswith(b"data:")]
    (done,) = [message for message in messages if message["msg"] == "process_completed"]
    assert done["success"], done
    return done["output"]["data"]


def send(local, *paths):
    """Upload files; each as the page then names it."""
    answer = upload(local.url, *((path.name, path.read_bytes()) for path in paths))
    return [as_file(path) for path in answer.json()]


def inputs(local, name, tmp_path):
    """The values of a tab, and the names of the files in them."""
    boat, rocket, rain = (
        EXAMPLES / name
        for name in ("images/boat-at-sunset.png", "videos/rocket-at-night.mp4", "audios/rain-at-sea.wav")
    )
    if name == "image_text":
        return [*send(local, boat), "make it night", 1, [], *NO_INPAINTING], [boat.name]
    if name == "fusion":
        return [{"text": secrets.token_hex(4), "files": send(local, boat, rocket, rain)}], [
            boat.name,
            rocket.name,
            rain.name,
        ]
    mask = tmp_path / "mask.png"
    Image.new("L", (48, 48), 255).save(mask)
    source, painted = send(local, boat, mask)
    return [source, "make it night", 1, [], painted, 1, 0, 0, 0, 16], [boat.name, mask.name]


@pytest.mark.parametrize(
    ("name", "writes"),
    [
        ("image_text", 4),
        pytest.param("inpaint", 4 + 1, id="with a mask, which the settings in the files contain"),
        ("fusion", 4),
    ],
)
def test_nothing_is_done_twice(local, counts, tmp_path, name, writes):
    session = secrets.token_hex(8)
    values, files = inputs(local, name, tmp_path)
    counts.clear()
    tab = "image_text" if name == "inpaint" else name
    images, _, _, report, job, _ = click(local, session, tab, [*values, *SETTINGS])
    _, _, strip, *_ = click(local, session, "add_result", [None, job, "", False, None])
    expected = {(what, file): 1 for what in ("decode", "hash") for file in files}
    assert {key: count for key, count in counts.items() if key[-1] in files} == expected
    assert (counts["validate"], counts["write PNG"]) == (1, writes)
    paths = [image["image"]["path"] for image in images]
    assert sorted(image["image"]["path"] for image in strip) == sorted(paths), "the session keeps the same files"
    assert report["seeds"] == [9, 10, 11, 12]
    recipe = read_recipe(paths[3])
    assert recipe.request.seed == 12
    if name == "image_text":
        assert recipe.request.images == (path_hash(EXAMPLES / "images/boat-at-sunset.png"),)


def test_the_same_conversation_again_is_not_decoded(local, counts):
    """A new seed needs neither the MLLM nor its inputs; the file is hashed to know that it is the same one."""
    values, (boat, *others) = inputs(local, "fusion", None)
    for seed in (9, 10):
        counts.clear()
        click(local, secrets.token_hex(8), "fusion", [*values, *SETTINGS[:4], seed, *SETTINGS[5:]])
    assert [counts["decode", file] for file in (boat, *others)] == [0, 0, 0]
    assert [counts["hash", file] for file in (boat, *others)] == [1, 1, 1]
