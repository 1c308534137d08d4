"""Room around a picture, for a Fill model to paint on."""

from PIL import Image

from x2i_app.errors import InvalidRequestError
from x2i_app.request import show_value

_STEP = 16  # pixels of a picture's side to a token of FLUX


def outpaint_canvas(
    image: Image.Image, left: int = 0, top: int = 0, right: int = 0, bottom: int = 0
) -> tuple[Image.Image, Image.Image]:
    """A picture with room around it, and the mask that says where to paint, as FluxFillPipeline takes them.

    left, top, right, bottom: pixels to add at least; right and bottom grow until both sides are multiples of 16.
    Returns the canvas, RGB, grey where there is nothing yet, and the mask, L, 255 there and 0 on the picture.
    Raises InvalidRequestError for margins that are not whole numbers from 0, or all 0.
    """
    margins = (left, top, right, bottom)
    if not all(isinstance(margin, int) and not isinstance(margin, bool) and margin >= 0 for margin in margins):
        raise InvalidRequestError(
            f"The margins are {show_value(margins)}; they must be whole numbers of pixels from 0."
        )
    if not any(margins):
        raise InvalidRequestError("All margins are 0, so there is nothing to paint; give at least one.")
    size = tuple(-(-side // _STEP) * _STEP for side in (image.width + left + right, image.height + top + bottom))
    canvas = Image.new("RGB", size, (128, 128, 128))
    mask = Image.new("L", size, 255)
    canvas.paste(image.convert("RGB"), (left, top))
    mask.paste(0, (left, top, left + image.width, top + image.height))
    return canvas, mask
