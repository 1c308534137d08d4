"""Thumbnails of styles: drawn when nothing else is, given up when something is, and kept for everybody."""

import asyncio
import os

import pytest
from conftest import run_async
from PIL import Image

from x2i_app.errors import GenerationCancelledError
from x2i_app.request import GenerationRequest, GenerationResult
from x2i_app.serving.engine import Engine
from x2i_app.serving.jobs import Phase
from x2i_app.serving.protocol import EngineState
from x2i_app.settings import Settings
from x2i_app.ui import style_previews
from x2i_app.ui.style_previews import MAX_MODELS, StylePreviews

NAMES = ("photo", "ink")


@pytest.fixture
def engine():
    """One without a thread: the tests take its jobs."""
    engine = Engine(Settings())
    engine._become(EngineState.READY)
    return engine


@pytest.fixture
def previews(engine, tmp_path, monkeypatch):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "gradio"))
    monkeypatch.setattr(style_previews, "STYLES", {name: style_previews.STYLES[name] for name in NAMES})
    monkeypatch.setattr(style_previews, "_POLL_SECONDS", 0.001)
    return StylePreviews(engine, tmp_path / "styles")


async def next_job(engine):
    while not len(engine._queue):
        await asyncio.sleep(0.001)
    return engine._queue.take()


def finish(job):
    job.finish(GenerationResult((Image.new("RGB", (256, 256), "red"),), (1,), job.request))


async def numbers_of(previews):
    return [number async for number in previews.draw()]


def test_drawn_once(engine, previews):
    """Two pages ask, each style is drawn once, and later nothing is."""

    async def draw():
        both = [asyncio.create_task(numbers_of(previews)) for _ in range(2)]
        prompts = []
        for _ in NAMES:
            job = await next_job(engine)
            prompts.append(job.request.prompt)
            finish(job)
        return prompts, [await each for each in both]

    prompts, numbers = run_async(draw())
    assert ["photograph" in prompts[0], "ink wash" in prompts[1]] == [True, True]
    assert numbers[0][-1] == numbers[1][-1] == 2
    found = previews.found()
    assert list(found) == list(NAMES)
    with Image.open(found["ink"]) as image:
        assert (image.format, image.size) == ("JPEG", (160, 160))
    assert run_async(numbers_of(previews)) == [2]
    other = Engine(Settings(flux="flux.1-dev"))
    assert StylePreviews(other, previews._folder).found() == {}, "another model draws them otherwise"


def test_others_come_first(engine, previews):
    """Nothing is started while anybody's job runs or waits, and what is drawn is given up for one."""

    async def draw():
        mine = engine.submit(GenerationRequest("a house"), "somebody")
        drawing = asyncio.create_task(numbers_of(previews))
        await asyncio.sleep(0.05)
        assert engine._queue.before(mine) == []
        assert len(engine._queue) == 1, "it waits"
        finish(engine._queue.take())
        job = await next_job(engine)
        job.report(Phase.DENOISING, step=1, steps=4)
        other = engine.submit(GenerationRequest("a boat"), "somebody")
        while not job.is_cancelled:
            await asyncio.sleep(0.001)
        job.fail(GenerationCancelledError("stopped"))
        assert engine._queue.take() is other
        again = await next_job(engine)
        assert again.request == job.request, "later it is drawn again"
        drawing.cancel()
        await asyncio.gather(drawing, return_exceptions=True)
        assert again.is_cancelled, "nobody looks at it any more"

    run_async(draw())


def test_bounded(engine, previews):
    """Those of the models that were used last are kept."""
    for number in range(MAX_MODELS + 2):
        folder = previews._folder / str(number)
        folder.mkdir(parents=True)
        os.utime(folder, (number, number))
    previews._write(Image.new("RGB", (8, 8)), previews._of_model / "ink.jpg")
    names = {folder.name for folder in previews._folder.iterdir()}
    assert names == {previews._of_model.name, *(str(number) for number in range(3, MAX_MODELS + 2))}
