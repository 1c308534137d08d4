"""Enlarges an image of the session, as `x2i upscale` does, and adds it to the session's images."""

import io
import time
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path

from gradio.processing_utils import save_bytes_to_cache
from gradio.utils import get_upload_folder

from x2i_app.media import load_image, save_image
from x2i_app.media.images import image_size
from x2i_app.media.metadata import with_upscale
from x2i_app.serving.engine import Engine
from x2i_app.serving.zero_gpu import is_zero_gpu
from x2i_app.ui.history import MAX_ITEMS, HistoryItem
from x2i_app.ui.http.disk_space import check_disk_space


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
    buffer = io.BytesIO()
    save_image(image, buffer, texts)
    path = save_bytes_to_cache(buffer.getvalue(), f"{Path(item.path).stem}-{scale}x.png", str(folder))
    width, height = image_size(path)
    return replace(
        item,
        path=path,
        texts=texts,
        report=item.report | {"width": width, "height": height},
        name=f"{time.time_ns():020}-{MAX_ITEMS:02}.png",
        is_favorite=False,
    )
