"""The same hard images by every way in: the page, both HTTP APIs, the command line, a batch, ComfyUI and training.

A real server in this process and real uploads. What the encoders are given is recorded, so that pixels are compared bit
for bit.
"""

import json
import secrets
import shutil

import httpx
import numpy as np
import pytest
from media.test_images import ADOBE, P3, lut_profile, png, rgb_profile
from PIL import Image
from safety.local_app import local_app

from tests.safety.client import SETTINGS, as_file, call, upload
from tests.ui.test_one_click import click
from x2i_app import load_pipeline
from x2i_app.cli import main
from x2i_app.comfyui import host
from x2i_app.comfyui.nodes import Encode, LoadAlignNet, LoadMLLM, ReadImage
from x2i_app.encoders.base import MLLMEncoder
from x2i_app.media import load_image
from x2i_app.training.image_data import read_images
from x2i_app.training.samples import Broken
from x2i_app.ui.http.limits import HTTP_LIMITS

UPRIGHT = (48, 32)


def noise(mode, size=UPRIGHT):
    levels = np.random.default_rng(1).integers(0, 256, (len(mode), *size[::-1]), np.uint8)
    return Image.merge(mode, [Image.fromarray(each) for each in levels])


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    """Files of which Pillow's own pixels are others than the eye sees."""
    folder, exif = tmp_path_factory.mktemp("hard images"), Image.Exif()
    exif[0x0112] = 6
    turned = {"exif": exif, "quality": 95}
    noise("RGB", UPRIGHT[::-1]).save(folder / "a camera.jpg", icc_profile=rgb_profile(ADOBE), **turned)
    noise("CMYK").save(folder / "b print.jpg", icc_profile=lut_profile(), quality=95)
    levels = np.random.default_rng(2).integers(0, 2**16, (32, 48 * 4)).astype(">u2")
    rows = b"".join(b"\0" + row.tobytes() for row in levels)
    (folder / "c 16 bits.png").write_bytes(png(*UPRIGHT, depth=16, color=6, data=rows))
    gray = Image.fromarray(np.arange(1536, dtype=np.uint16).reshape(32, 48) * 40)
    gray.save(folder / "d 16 bits gray.png")
    palette = noise("RGB").quantize(16)
    palette.save(folder / "e palette.png", transparency=bytes([0, 128, *[255] * 14]))
    noise("RGB", UPRIGHT[::-1]).save(folder / "f phone.heic", "HEIF", icc_profile=rgb_profile(P3), **turned)
    return sorted(folder.iterdir())


@pytest.fixture(scope="module")
def local():
    with local_app(HTTP_LIMITS, draws=True, profile="cpu", openai_api=True) as local:
        yield local


@pytest.fixture
def read(monkeypatch):
    """The pixels of every image that an MLLM was given."""
    read, original = [], MLLMEncoder._build_conversation

    def build(self, turns):
        conversation = original(self, turns)
        read.extend(image.tobytes() for image in conversation.images)
        return conversation

    monkeypatch.setattr(MLLMEncoder, "_build_conversation", build)
    return read


def send(local, paths):
    return [as_file(path) for path in upload(local.url, *((p.name, p.read_bytes()) for p in paths)).json()]


def by_page(local, paths, folder):
    value = {"text": "by the page", "files": send(local, paths)}
    click(local, secrets.token_hex(8), "fusion", [value, *SETTINGS])


def by_api(local, paths, folder):
    value = {"text": "by the API", "files": send(local, paths)}
    assert call(local.url, "fusion", [value, *SETTINGS]).startswith("complete")


def by_openais_api(local, paths, folder):
    files = [("image[]", (path.name, path.read_bytes())) for path in paths]
    form = {"prompt": "by OpenAI's API", "size": "64x64", "steps": "1"}
    answer = httpx.post(f"{local.url}/v1/images/edits", data=form, files=files, timeout=300)
    assert answer.status_code == 200, answer.text


def by_command(local, paths, folder):
    images = [part for path in paths for part in ("--image", str(path))]
    small = ["--width", "64", "--height", "64", "--steps", "1", "--profile", "cpu"]
    assert main(["generate", "--prompt", "by a command", *images, *small, "--output", str(folder / "a.png")]) == 0


def by_batch(local, paths, folder):
    rows = folder / "rows.jsonl"
    for path in paths:
        shutil.copy(path, folder)
    small = {"width": 64, "height": 64, "steps": 1}
    rows.write_text(json.dumps({"images": [path.name for path in paths], "prompt": "by a batch", **small}))
    assert main(["batch", "--input", str(rows), "--output", str(folder / "out"), "--profile", "cpu"]) == 0


def by_library(local, paths, folder):
    load_pipeline("x2i-tiny", device="cpu").encode("by the library", images=paths)


def by_comfyui(local, paths, folder):
    """ComfyUI's own Load Image neither converts profiles nor puts transparent pixels on white; ours does."""
    for path in paths:
        shutil.copy(path, folder)
    assert ReadImage.INPUT_TYPES()["required"]["image"][0] == [path.name for path in paths]
    loaded = [ReadImage().load(path.name)[0] for path in paths]
    assert all(image.shape == (1, *UPRIGHT[::-1], 3) for image in loaded)
    mllm, alignnet = LoadMLLM().load("x2i-tiny", "full", "cpu")[0], LoadAlignNet().load("x2i-tiny")[0]
    for image in loaded:
        Encode().encode(mllm, alignnet, "by ComfyUI", 3.5, False, images=image)


WAYS = (by_page, by_api, by_openais_api, by_command, by_batch, by_library, by_comfyui)


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_the_mllm_is_given_the_same_pixels(local, paths, read, tmp_path, monkeypatch, way):
    monkeypatch.setattr(host, "input_folder", lambda: tmp_path)
    encoder = load_pipeline("x2i-tiny", device="cpu").encoder
    expected = []
    for path in paths:
        image = load_image(path)
        with Image.open(path) as stored:
            plain = stored.convert("RGB")
        assert (image.size, image.tobytes() != plain.tobytes()) == (UPRIGHT, True), path.name
        expected.append(encoder._load_image(image).tobytes())
    way(local, paths, tmp_path)
    assert read == expected


def test_training_is_given_the_same_pixels(paths, tmp_path):
    for path in paths:
        shutil.copy(path, tmp_path)
        (tmp_path / path.name).with_suffix(".txt").write_text(path.stem)
    found = read_images([str(tmp_path)], "caption", Broken(0), with_source=False)
    assert [each.open(each.target).tobytes() for each in found] == [load_image(path).tobytes() for path in paths]
