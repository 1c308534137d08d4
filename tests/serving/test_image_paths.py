"""An image has the same pixels whichever way it comes: page, command line, batch, library, mask, source, training."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from x2i_app.cli import Generate
from x2i_app.media import Prepared, load_image
from x2i_app.media.color import build_profile
from x2i_app.media.images import load_mask
from x2i_app.options import parse
from x2i_app.presets import FLUX_MODELS
from x2i_app.request import GenerationRequest
from x2i_app.rows import read_rows
from x2i_app.ui.tabs import TABS

PATIENCE = 300
NUMBERS = {"width": 64, "height": 64, "steps": 1}
WIDE = ((0.7347, 0.2653), (0.1596, 0.8404), (0.0366, 0.0001), (0.3457, 0.3585))  # ProPhoto


@pytest.fixture(params=["png", "jpg", "heic", "avif"])
def photo(request, tmp_path):
    """A photo that is turned, with colors of another profile and, where the format can, transparency."""
    pixels = np.zeros((40, 60, 4), np.uint8)
    pixels[:, :30], pixels[:, 30:], pixels[:20, :, 3], pixels[20:, :, 3] = (180, 90, 60, 0), (60, 140, 90, 0), 255, 90
    image, exif = Image.fromarray(pixels), Image.Exif()
    exif[0x0112] = 6
    if request.param == "jpg":
        image = image.convert("RGB")
    if request.param == "heic":
        import pillow_heif

        pillow_heif.register_heif_opener()
    path = tmp_path / f"a b.{request.param}"
    form = {"jpg": "JPEG", "heic": "HEIF"}.get(request.param, request.param)
    image.save(path, form, exif=exif, icc_profile=build_profile(WIDE, lambda levels: levels**1.8))
    return path


def test_same_pixels_everywhere(engine, worker, photo, tmp_path, monkeypatch):
    expected = load_image(photo)
    assert expected.size == (40, 60)
    with Image.open(photo) as stored:
        assert stored.info["icc_profile"]
    plain = Image.open(photo).convert("RGB").resize((1, 1)).getpixel((0, 0))
    assert np.abs(np.subtract(expected.resize((1, 1)).getpixel((0, 0)), plain)).max() > 5, "the profile changes colors"

    read, original = [], type(worker.pipeline.encoder)._build_conversation

    def build(self, turns):
        conversation = original(self, turns)
        read.extend(image.tobytes() for image in conversation.images)
        return conversation

    monkeypatch.setattr(type(worker.pipeline.encoder), "_build_conversation", build)
    tab = next(tab for tab in TABS if tab.name == "image_text")
    page = GenerationRequest(**tab.fill(str(photo), "page", 0, None, *[None] * (len(tab.parameters) - 4)), **_fields())
    flags = ["--image", str(photo), "--prompt", "line", *(f"--{name}={value}" for name, value in NUMBERS.items())]
    rows = tmp_path / "rows.jsonl"
    rows.write_text(json.dumps({"images": [photo.name], "prompt": "batch", **NUMBERS}))
    requests = [
        page,
        parse(Generate, flags, prog="x2i generate", environment={})._request(engine.flux),
        next(read_rows(rows, {})[1]).request(),
        GenerationRequest("bytes", images=[load_image(photo.read_bytes())], **_fields()),
    ]
    for each in requests:
        engine.submit(each).wait(PATIENCE)
    worker.pipeline.encode("library", images=[photo])
    assert len(read) == 5
    assert set(read) == {worker.pipeline.encoder._load_image(expected).tobytes()}

    assert load_mask(photo).tobytes() == expected.convert("L").point(lambda level: 255 * (level > 127)).tobytes()
    editing = Prepared.of(GenerationRequest(images=[photo], strength=0.5, seed=0), FLUX_MODELS["x2i-tiny"], 0)
    assert editing.source.tobytes() == expected.tobytes()
    kept = GenerationRequest("keep it", reference=photo, seed=0)
    assert Prepared.of(kept, FLUX_MODELS["x2i-tiny"], 0).reference.tobytes() == expected.tobytes()


def test_same_pixels_in_training(photo, tmp_path):
    from x2i_app.training.image_data import read_images
    from x2i_app.training.samples import Broken

    folder = tmp_path / "data"
    folder.mkdir()
    shutil.copy(photo, folder / f"one{photo.suffix}")
    (folder / "one.txt").write_text("a caption")
    (found,) = read_images([str(folder)], "caption", Broken(0), with_source=False)
    assert found.open(found.target).tobytes() == load_image(photo).tobytes()


def _fields():
    return {"width": 64, "height": 64, "num_inference_steps": 1}
