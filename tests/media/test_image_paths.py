"""Every way into the app reads an image by one function: a request, MLLM, training and judges see the same pixels."""

import ast
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import ROOT
from media.test_images import P3, rgb_profile
from PIL import Image

from x2i_app import GenerationRequest
from x2i_app.encoders.base import MLLMEncoder
from x2i_app.evaluation.asking import _sample
from x2i_app.evaluation.prompts import Row
from x2i_app.media import load_image
from x2i_app.media.prepared import Prepared
from x2i_app.presets import FLUX_MODELS, get_family
from x2i_app.rows import read_rows
from x2i_app.training.image_data import read_images
from x2i_app.training.samples import Broken


def noise(mode, size=(48, 32)):
    levels = np.random.default_rng(0).integers(0, 256, (len(mode), *size[::-1]), np.uint8)
    return Image.merge(mode, [Image.fromarray(each) for each in levels])


def turned():
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


FILES = {
    "wide-colors.png": lambda path: noise("RGBA").save(path, icc_profile=rgb_profile(P3), exif=turned()),
    "phone.jpg": lambda path: noise("RGB").save(path, icc_profile=rgb_profile(P3), exif=turned(), quality=95),
    "print.jpg": lambda path: noise("CMYK").save(path, quality=95),
    "gray.png": lambda path: Image.fromarray(np.arange(1536, dtype=np.uint16).reshape(32, 48) * 40).save(path),
    "palette.webp": lambda path: noise("RGBA").save(path, lossless=True),
    "gray-and-alpha.tif": lambda path: noise("LA").save(path),
}


@pytest.mark.parametrize("name", FILES)
def test_same_pixels(tmp_path, name):
    """On the page, in the API, on the command line and in a batch an image is a path in a request."""
    folder = tmp_path / "images"
    folder.mkdir()
    path = folder / name
    FILES[name](path)
    path.with_suffix(".txt").write_text("a cat")
    expected = np.asarray(load_image(path))

    (row,) = read_rows(folder, {"prompt": "x"})[1]
    request = GenerationRequest("x", source_image=row.request().images[0], strength=0.5)
    (trained,) = read_images([folder], "caption", Broken(0), with_source=False)
    sample = _sample(Row(1, "1", "1", "", {"prompt": "x", "source": str(path)}), path, tmp_path)
    whole = replace(get_family("qwen2.5-vl"), image_size=None, max_image_pixels=10**6)
    read = {
        "request": Prepared.of(request, FLUX_MODELS["x2i-tiny"], 0).source,
        "MLLM": MLLMEncoder._load_image(SimpleNamespace(spec=whole), path),
        "training": trained.open(trained.target),
        "judge": sample.image,
        "judge's source": sample.source,
        "upload": load_image(path.read_bytes()),
    }
    for way, image in read.items():
        assert image.mode == "RGB", way
        assert np.array_equal(np.asarray(image), expected), way


# The app's own images: sheets of a training run, bundled examples, views of scenes in memory, graphs of workflows.
OWN = {"training/reports.py", "serving/preview.py", "miniature/devices.py", "comfyui/install.py"}


def test_no_file_opens_images_by_itself():
    """Pillow's own `Image.open` knows neither the limits nor the profiles."""
    folder = ROOT / "x2i_app"
    opening = set()
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and ast.unparse(node) in ("Image.open", "PIL.Image.open", "iio.imread"):
                opening.add(str(path.relative_to(folder)))
    assert opening == OWN
