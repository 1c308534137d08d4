"""What the page does with an added image file: a preview where browsers have none, and its settings on request."""

import base64
import io
import re

import gradio as gr
import pillow_heif
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from x2i_app.settings import ASSETS
from x2i_app.ui.image_notice import ImageNotice, image_files

BOAT = str(ASSETS / "examples/images/boat-at-sunset.png")
EN = gr.Request(headers={"accept-language": "en"})


@pytest.fixture
def files(tmp_path):
    """A HEIC and a TIFF file, and an image with A1111's settings."""
    image = Image.new("RGB", (64, 48), (200, 30, 30))
    pillow_heif.from_pillow(image).save(tmp_path / 'my "photo".heic')
    image.save(tmp_path / "scan.tif")
    texts = PngInfo()
    texts.add_text("parameters", "a <red> car\nSteps: 20, Seed: 5, Size: 512x512")
    image.save(tmp_path / "car.png", pnginfo=texts)
    return {path.suffix: str(path) for path in tmp_path.iterdir()}


def test_previews(files):
    """HEIC and TIFF files come as JPEG beside their own paths; what every browser shows does not."""
    previews, _ = ImageNotice.show([(files[".heic"], None), (BOAT, None), (files[".tif"], None)])
    paths, sources = zip(
        *re.findall('data-preview-of="(.+?)" src="data:image/jpeg;base64,(.+?)"', previews), strict=True
    )
    assert [path.replace("&quot;", '"') for path in paths] == [files[".heic"], files[".tif"]]
    shown = Image.open(io.BytesIO(base64.b64decode(sources[0])))
    assert (shown.format, shown.size) == ("JPEG", (64, 48))
    assert shown.getpixel((30, 30)) == pytest.approx((200, 30, 30), abs=8)


def test_settings(files):
    """The settings of the newest image that has some are offered; nothing is for an image without, or for none."""
    offer, text = ImageNotice.find_settings(EN, [(files[".png"], None), (BOAT, None)])
    assert offer.visible
    assert "a &lt;red&gt; car" in text
    for value in (BOAT, None, [], {"text": "a", "files": [BOAT, "/no/file.png"]}, [5], {"files": [5]}):
        assert not ImageNotice.find_settings(EN, value)[0].visible
    assert ImageNotice.find_settings(EN, {"text": "", "files": [files[".png"]]})[0].visible
    assert not ImageNotice.show(None)[1].visible, "the offer goes with the image"
    assert image_files("a.png") == ["a.png"]
