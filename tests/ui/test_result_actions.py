"""The actions on a result and the sizes of the settings, as functions."""

import asyncio
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import gradio as gr
import pytest
from conftest import run_async
from PIL import Image

from x2i_app.errors import X2IError
from x2i_app.media import read_recipe, save_image
from x2i_app.media.metadata import describe
from x2i_app.request import GenerationRequest, GenerationResult, Turn
from x2i_app.serving.engine import Engine
from x2i_app.settings import Settings
from x2i_app.ui.enlarge import enlarge, redraw_item
from x2i_app.ui.history import HistoryItem
from x2i_app.ui.http.clients import Client
from x2i_app.ui.i18n import PageError
from x2i_app.ui.layout import build_page
from x2i_app.ui.progress import OUTPUTS
from x2i_app.ui.result_actions import _pair, _request_of, converted, original_image, show_seed, with_image
from x2i_app.ui.result_panel import selected_path
from x2i_app.ui.settings_panel import SHAPES, size_of_shape

ENGLISH = gr.Request(headers={})


@pytest.fixture(scope="module")
def page():
    return build_page(Engine(Settings()))


def function(page, name):
    return next(fn.fn for fn in page.fns.values() if fn.name == name)


async def first(updates):
    """The first of a handler's updates; it is closed then."""
    update = await anext(updates)
    await updates.aclose()
    return update


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


def test_converted(tmp_path):
    """Another format keeps the settings; the same one is the file itself."""
    texts = {"x2i": '{"prompt": "a house"}'}
    save_image(Image.new("RGB", (8, 8), "red"), tmp_path / "a.png", texts)
    path = str(tmp_path / "a.png")
    items = [HistoryItem(path, GenerationRequest("a house"), texts, "job")]
    assert converted(path, "png", items) == path
    for form in ("jpg", "webp"):
        made = converted(path, form, items)
        assert made == str(tmp_path / f"a.{form}")
        with Image.open(made) as image:
            assert image.format == {"jpg": "JPEG", "webp": "WEBP"}[form]
        assert b"a house" in Path(made).read_bytes().replace(b"\0", b"")
    assert sorted(each.name for each in tmp_path.iterdir()) == ["a.jpg", "a.png", "a.webp"]


def test_request_of(page):
    """A job that the engine has forgotten is still in the session's history."""
    engine = Engine(Settings())
    job = engine.submit(GenerationRequest("new"))
    items = [HistoryItem("a.png", GenerationRequest("old"), {}, "old-job")]
    assert _request_of(engine, job.id, items).prompt == "new"
    assert _request_of(engine, "old-job", items).prompt == "old"
    assert _request_of(engine, "unknown", items) is _request_of(engine, ["old-job"], items) is None


def test_no_result(page):
    for name, arguments in (("use", (None, None)), ("reuse", ([], []))):
        with pytest.raises(PageError, match="There is no image yet"):
            function(page, name)(*arguments)
    more = function(page, "generate_more")(ENGLISH, [], [])
    with pytest.raises(PageError, match="There is no image yet"):
        run_async(first(more))


def test_more(tmp_path):
    """Four images of the selected item's request, with a random seed; nothing on the page changes."""
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    engine = Engine(Settings())  # not started: the job waits
    made = GenerationRequest("a house", width=64, seed=5)
    page = build_page(engine)
    more = function(page, "generate_more")(ENGLISH, [HistoryItem(str(tmp_path / "a.png"), made, {}, "job")], [])

    job = engine.get(run_async(first(more))[OUTPUTS.index("job")])
    assert job.request == replace(made, seed=None, num_images_per_prompt=4)


def test_show_seed():
    """The button says which seed is kept, and there is nothing to click while it is random."""
    assert vars(show_seed(ENGLISH, 7))["value"] == "Random seed again (now 7)"
    assert show_seed(ENGLISH, 7).interactive
    assert not show_seed(ENGLISH, None).interactive


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


class TestEnlarge:
    @pytest.fixture
    def item(self, tmp_path, monkeypatch):
        """An image of the session, with its settings inside."""
        monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "gradio"))
        request = GenerationRequest("a house", width=64, height=64, num_inference_steps=1, guidance_scale=3.5, seed=5)
        result = GenerationResult((Image.new("RGB", (64, 64), "red"),), (5,), request)
        texts = describe(result, Settings())[0]
        save_image(result.images[0], tmp_path / "a.png", texts)
        return HistoryItem(str(tmp_path / "a.png"), request, texts, "job", report=result.report(), is_favorite=True)

    def test_lanczos(self, item, tmp_path):
        """Without an upscaler it is resampled. The file keeps its settings, if it has some."""
        engine = Engine(Settings(models=str(tmp_path)))
        large = enlarge(engine, item, 4)
        with Image.open(large.path) as image:
            assert (image.size, image.getpixel((100, 100))) == ((256, 256), (255, 0, 0))
            assert json.loads(image.info["x2i"])["upscale"] == {"scale": 4, "upscaler": "lanczos"}
        assert (large.size, large.report["width"], large.report["height"]) == ((256, 256), 256, 256)
        assert read_recipe(large.path).request.prompt == "a house"
        assert (large.request, large.is_favorite) == (item.request, False)
        with Image.open(enlarge(engine, replace(item, texts={}), 2).path) as image:
            assert (image.size, image.info) == ((128, 128), {})

    def test_between_jobs(self, item, tmp_path):
        """An upscaler of the owner's runs in the thread that draws; what it cannot read is one sentence."""
        (tmp_path / "upscalers").mkdir()
        (tmp_path / "upscalers/broken.safetensors").write_bytes(b"no weights")
        engine = Engine(Settings(models=str(tmp_path)))  # which has no thread: the test is its thread
        with ThreadPoolExecutor(1) as pool:
            started = pool.submit(enlarge, engine, item, 2)
            engine._queue.take()()
            with pytest.raises(X2IError, match=r"broken\.safetensors"):
                started.result(60)

    def test_redrawn_by_the_loaded_model(self, item, tmp_path):
        """In parts, which are jobs of the queue; the file says so, if it has settings."""
        engine = Engine(Settings(models=str(tmp_path), profile="cpu"))
        engine.start()
        try:
            large = enlarge(engine, item, 4)

            async def updates():
                return [each async for each in redraw_item(engine, large, item, Client("", "session a"))]

            *parts, redrawn = run_async(updates())
        finally:
            engine.close()
        assert {count for _, count in parts} == {9}
        assert redrawn.size == (256, 256)
        assert Path(redrawn.path).read_bytes() != Path(large.path).read_bytes()
        recipe = json.loads(redrawn.texts["x2i"])
        assert (recipe["upscale"]["scale"], recipe["redraw"]) == (4, {"strength": 0.25, "seed": 0})
        assert read_recipe(redrawn.path).request.prompt == "a house"

    def test_t21_nobody_waits_while_it_is_kept(self, page, item, tmp_path, monkeypatch):
        """It is copied in a thread: the event loop goes on, and ends the copy here."""
        handler = next(fn.fn for fn in page.fns.values() if fn.name == "enlarge_shown")
        panel = next(fn.fn.__self__ for fn in page.fns.values() if fn.name == "load_kept")
        copying, go_on, kept = threading.Event(), threading.Event(), []
        monkeypatch.setattr(panel.store, "add", lambda *given: copying.set() or kept.append((go_on.wait(60), *given)))

        async def go_on_meanwhile():
            while not copying.is_set():
                await asyncio.sleep(0.01)
            go_on.set()

        async def draw():
            others = asyncio.create_task(go_on_meanwhile())
            updates = [update async for update in handler(ENGLISH, [(item.path, None)], [item], "", False, "key")]
            await others
            return updates[-1]

        items, *_ = run_async(draw())
        assert kept == [(True, "key", [items[0]], "session ")]

    def test_on_the_page(self, page, item, tmp_path):
        """It becomes the shown image and the newest of the session, and the original stays."""
        handler = next(fn.fn for fn in page.fns.values() if fn.name == "enlarge_shown")

        async def last():
            return [update async for update in handler(ENGLISH, [(item.path, None)], [item], "", False, None)][-1]

        items, _, thumbnails, _, *shown = run_async(last())
        assert [each.size for each in items] == [(128, 128), (64, 64)]
        assert len(thumbnails) == 2
        shown = dict(zip(OUTPUTS, shown, strict=True))
        assert shown["images"] == [items[0].path]
        assert "128 x 128" in shown["progress"]

        async def without():
            return [update async for update in handler(ENGLISH, [], [item], "", False, None)]

        with pytest.raises(PageError, match="There is no image yet"):
            run_async(without())
