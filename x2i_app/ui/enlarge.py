"""Enlarges an image of the session and redraws it, as `x2i upscale` does, for the session's images."""

import asyncio
import io
import threading
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future
from dataclasses import replace
from functools import cache, partial
from pathlib import Path

import anyio
from gradio.processing_utils import save_bytes_to_cache
from gradio.utils import get_upload_folder
from PIL import Image

from x2i_app.errors import GenerationCancelledError
from x2i_app.media import load_image, save_image
from x2i_app.media.budget import InputLimits
from x2i_app.media.images import image_size
from x2i_app.media.metadata import with_redraw, with_upscale
from x2i_app.serving.engine import Engine
from x2i_app.serving.jobs import JobLimits
from x2i_app.serving.redraw import REDRAW_STRENGTH, redraw
from x2i_app.serving.zero_gpu import is_zero_gpu
from x2i_app.ui.history import MAX_ITEMS, HistoryItem
from x2i_app.ui.http.clients import Client
from x2i_app.ui.http.disk_space import check_disk_space

_POLL_SECONDS = 0.2


def enlarge(engine: Engine, item: HistoryItem, scale: int) -> HistoryItem:
    """The image enlarged 2 or 4 times by the owner's first upscaler, or by Lanczos if there is none. Blocks.

    An upscaler runs between two jobs, with the card to itself. Raises X2IError.
    """
    from x2i_app.loading.upscaling import LANCZOS, find_upscalers

    models = engine.settings.models
    name = next(iter(find_upscalers(models)), LANCZOS)
    # A ZeroGPU Space lends its card to jobs only.
    if name == LANCZOS or is_zero_gpu():
        return _enlarged(item, scale, None, models)
    done: Future[HistoryItem] = engine.call(
        lambda: _enlarged(item, scale, name, models), "The image could not be enlarged"
    )
    return done.result()


def _enlarged(item: HistoryItem, scale: int, name: str | None, models: str) -> HistoryItem:
    from x2i_app.devices import best_device
    from x2i_app.loading.upscaling import LANCZOS, load_upscaler, upscale

    folder = Path(get_upload_folder())
    check_disk_space(folder)
    upscaler = load_upscaler(name, models).to(best_device()) if name else None
    image = upscale(load_image(item.path), scale, upscaler)
    # Whoever wants no settings in the file gets none.
    texts = with_upscale(item.path, scale, name or LANCZOS) if item.texts else {}
    return _with_image(item, image, texts, f"{Path(item.path).stem}-{scale}x.png")


def _with_image(item: HistoryItem, image: Image.Image, texts: dict[str, str], name: str) -> HistoryItem:
    buffer = io.BytesIO()
    save_image(image, buffer, texts)
    path = save_bytes_to_cache(buffer.getvalue(), name, get_upload_folder())
    width, height = image_size(path)
    return replace(
        item,
        path=path,
        texts=texts,
        report=item.report | {"width": width, "height": height},
        name=f"{time.time_ns():020}-{MAX_ITEMS:02}.png",
        is_favorite=False,
    )


async def redraw_item(
    engine: Engine, large: HistoryItem, original: HistoryItem, client: Client
) -> AsyncIterator[tuple[int, int] | HistoryItem]:
    """Redraw an enlarged image faintly, by jobs in the engine's queue.

    Yields the number of the part that is drawn, from 1, and of all parts, then the image. Ends after the current part
    if it is closed. Raises X2IError.
    """
    parts: list[tuple[int, int]] = []
    left = threading.Event()

    def on_part(number: int, count: int) -> None:
        if left.is_set():
            raise GenerationCancelledError("The image was not redrawn, as the page was left; start it again.")
        parts.append((number, count))

    function = partial(_redrawn, engine, large, original, client, on_part)
    task = asyncio.ensure_future(anyio.to_thread.run_sync(function, limiter=_redrawing()))
    task.add_done_callback(lambda done: done.cancelled() or done.exception())  # nobody may be there to read it
    known = None
    try:
        while not task.done():
            await asyncio.wait({task}, timeout=_POLL_SECONDS)
            if parts and parts[-1] != known:
                known = parts[-1]
                yield known
        yield task.result()
    finally:
        left.set()


def _redrawn(
    engine: Engine, large: HistoryItem, original: HistoryItem, client: Client, on_part: Callable[[int, int], None]
) -> HistoryItem:
    image = redraw(
        engine,
        load_image(large.path),
        shown=original.path,  # which the MLLM reads: the prompt may be about other images
        on_part=on_part,
        session=f"redraw {client.owner}",
        address=client.address,
        limits=JobLimits(engine.settings.most_job_seconds, InputLimits()),
    )
    texts = with_redraw(large.texts, REDRAW_STRENGTH, seed=0) if large.texts else {}
    return _with_image(large, image, texts, f"{Path(large.path).stem}-redrawn.png")


@cache
def _redrawing() -> anyio.CapacityLimiter:
    return anyio.CapacityLimiter(1)  # the parts of the largest image take 400 MB
