"""Width and height by what people say: a shape, the other way round, like my picture."""

import math
from typing import Any

import gradio as gr

from x2i_app.errors import X2IError
from x2i_app.media.images import open_image
from x2i_app.request import LIMITS
from x2i_app.serving.engine import Engine
from x2i_app.ui.handlers import as_gradio_error
from x2i_app.ui.i18n import texts

SHAPES = ("1:1", "4:3", "3:2", "16:9", "3:4", "2:3", "9:16")
_QUIET: dict[str, Any] = {"api_visibility": "private", "concurrency_limit": None, "show_progress": "hidden"}


def size_of_shape(width: float, height: float, resolution: int) -> tuple[int, int]:
    """(width, height) in pixels of the shape width:height, with about resolution x resolution pixels.

    Both are multiples of 16 within what a request allows.
    """
    shrink = resolution / math.sqrt(width * height)
    return _allowed(width * shrink), _allowed(height * shrink)


def _allowed(side: float) -> int:
    limit = LIMITS.width
    return int(min(max(limit.step * round(side / limit.step), limit.low), limit.high))


def build_sizes(engine: Engine, width: gr.Slider, height: gr.Slider, images: list[gr.components.Component]) -> None:
    """A row under the two sliders. pictures: the inputs in which "like my picture" looks for one, in this order."""
    with gr.Row(elem_id="sizes"):
        shape = gr.Dropdown(
            list(SHAPES), value="1:1", label=texts.SHAPE, interactive=True, elem_id="shape", min_width=96, scale=2
        )
        swap = gr.Button(texts.SWAP, size="sm", min_width=96, elem_id="swap")
        match = gr.Button(texts.MATCH, size="sm", min_width=96, elem_id="match")
    sizes = [width, height]
    swap.click(None, sizes, sizes, js="(width, height) => [height, width]", api_visibility="private")

    def to_shape(shape):
        wide, high = (float(part) for part in shape.split(":")) if shape in SHAPES else (1, 1)
        return size_of_shape(wide, high, engine.flux.resolution)

    def to_image(*given):
        path = next((path for value in given for path in _paths(value)), None)
        if path is None:
            raise gr.Error(texts.NO_IMAGE_YET, duration=10, title=texts.FAILED.en, print_exception=False)
        try:
            with open_image(path) as image:
                return size_of_shape(*image.size, engine.flux.resolution)
        except X2IError as error:
            raise as_gradio_error(error) from error

    shape.input(to_shape, shape, sizes, **_QUIET)
    match.click(to_image, images, sizes, **_QUIET)


def _paths(value: Any) -> list[str]:
    """The files in what a picture input or a gallery hands over."""
    if isinstance(value, str):
        return [value]
    return [item[0] for item in value or [] if isinstance(item, (list, tuple)) and item]
