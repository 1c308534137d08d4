"""The actions on a result and the sizes of the settings, as functions."""

import gradio as gr
import pytest
from PIL import Image

from x2i_app.request import GenerationRequest, Turn
from x2i_app.serving.engine import Engine
from x2i_app.settings import Settings
from x2i_app.ui.history import HistoryItem
from x2i_app.ui.i18n import PageError, Text
from x2i_app.ui.layout import build_page
from x2i_app.ui.result_actions import _pair, _request_of, original_image, with_image
from x2i_app.ui.result_panel import selected_path
from x2i_app.ui.settings_panel import SHAPES, size_of_shape


@pytest.fixture(scope="module")
def page():
    return build_page(Engine(Settings()))


def function(page, name):
    return next(fn.fn for fn in page.fns.values() if fn.name == name)


def test_selected_path():
    images = [("a.png", None), ("b.png", "caption")]
    assert [selected_path(images, index) for index in (0, 1, 2, -1)] == ["a.png", "b.png", "a.png", "a.png"]
    assert selected_path(None, 0) is selected_path([], 0) is None


def test_with_image():
    """The result replaces an image, and is added to several images or to a message."""
    assert with_image("image", "old.png", "new.png") == "new.png"
    assert with_image("images", [("old.png", None)], "new.png") == [("old.png", None), ("new.png", None)]
    assert with_image("images", None, "new.png") == [("new.png", None)]
    message = {"text": "hello", "files": ["old.png"]}
    assert with_image("message", message, "new.png") == {"text": "hello", "files": ["old.png", "new.png"]}
    assert with_image("message", None, "new.png") == {"text": "", "files": ["new.png"]}


def test_original_image():
    """The source, or the newest turn's image; none for a request without images."""
    turns = [Turn("a", ("first.png",)), Turn("b", ("second.png",)), Turn("c")]
    assert original_image(GenerationRequest("x", history=turns, source_image="result.png")) == "result.png"
    assert original_image(GenerationRequest("x", images=["own.png", "other.png"], history=turns)) == "own.png"
    assert original_image(GenerationRequest("x", history=turns)) == "second.png"
    assert original_image(GenerationRequest("x")) is None


def test_pair(tmp_path):
    """The original gets the result's size, and keeps its shape and its EXIF orientation."""
    original, result = tmp_path / "original.jpg", tmp_path / "result.png"
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    Image.new("RGB", (40, 20)).save(original, exif=exif)
    Image.new("RGB", (64, 64)).save(result)
    shown, path = _pair(str(original), str(result))
    assert (shown.size, path) == ((32, 64), str(result))


def test_request_of(page):
    """A job that the engine has forgotten is still in the session's history."""
    engine = Engine(Settings())
    job = engine.submit(GenerationRequest("new"))
    items = [HistoryItem("a.png", GenerationRequest("old"), {}, "old-job", "x2i-tiny")]
    assert _request_of(engine, job.id, items).prompt == "new"
    assert _request_of(engine, "old-job", items).prompt == "old"
    assert _request_of(engine, "unknown", items) is _request_of(engine, ["old-job"], items) is None


def test_no_result(page):
    for name, arguments in (("use", (0, None, None)), ("generate_more", ([], [])), ("reuse", ([], []))):
        with pytest.raises(PageError, match="There is no image yet"):
            function(page, name)(*arguments)


def test_generate_more(page, tmp_path):
    """The selected item's prompt and settings, with four images and a random seed."""
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    request = GenerationRequest("a house", width=64, seed=5)
    item = HistoryItem(str(tmp_path / "a.png"), request, {}, "job", "x2i-tiny")
    fn = next(fn for fn in page.fns.values() if fn.name == "generate_more")
    values = dict(zip(fn.outputs, fn.fn([item], []), strict=True))
    labelled = {output: value for output, value in values.items() if isinstance(getattr(output, "label", None), Text)}
    by_label = {output.label.en: value for output, value in labelled.items()}
    assert (by_label["Number of images"], by_label["Seed"], by_label["Width"]) == (4, None, 64)
    assert by_label["Prompt"] == "a house"


class TestSizes:
    @pytest.mark.parametrize("shape", SHAPES)
    def test_shapes(self, shape):
        """Multiples of 16 with about the model's number of pixels."""
        width, height = (int(part) for part in shape.split(":"))
        for resolution in (128, 1024):
            size = size_of_shape(width, height, resolution)
            assert all(side % 16 == 0 for side in size)
            assert size[0] * size[1] == pytest.approx(resolution**2, rel=0.12)
            assert size[0] / size[1] == pytest.approx(width / height, rel=0.12)

    def test_limits(self):
        assert size_of_shape(1, 1000, 128) == (64, 2048)
        assert size_of_shape(1000, 1, 1024) == (2048, 64)

    def test_set_shape(self, page):
        """A shape that is not on the list is a square."""
        set_shape = function(page, "set_shape")
        assert set_shape("16:9") == (176, 96)
        assert set_shape("x") == set_shape(None) == (128, 128)

    def test_match_image(self, page, tmp_path):
        """The first image of any tab, in the order of the tabs."""
        match = function(page, "match_image")
        Image.new("RGB", (200, 100)).save(tmp_path / "wide.png")
        wide = str(tmp_path / "wide.png")
        assert match(None, wide, None) == match([(wide, None)], None) == size_of_shape(2, 1, 128)
        with pytest.raises(PageError, match="Add an image to a tab first"):
            match(None, [], None)

    def test_settings_follow_the_flux_model(self):
        """A new page has the sizes and steps that suit the model."""
        page = build_page(Engine(Settings(preset="qwen2.5-vl-3b")))
        sliders = {block.label.en: block for block in page.blocks.values() if isinstance(block, gr.Slider)}
        assert (sliders["Width"].value, sliders["Steps"].value) == (1024, 4)
        assert not sliders["Similarity to the original"].visible, "the model has no LightControl"
        assert sliders["Similarity to the original"].value == 0


def test_metadata_switch(page):
    """Only an explicit no opts out."""
    set_metadata = function(page, "set_metadata")
    opt_out = set_metadata.__closure__[0].cell_contents.context.opt_out
    request = gr.Request(session_hash="s", headers={})
    for value, expected in ((True, True), (False, False), (None, True)):
        set_metadata(request, value)
        assert opt_out.settings(Settings(), "s").metadata is expected
