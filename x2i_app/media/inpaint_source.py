"""The image that a request changes: its mask, and the area added around it."""

from dataclasses import dataclass
from math import ceil

from PIL import Image, ImageOps

from x2i_app.errors import InvalidRequestError
from x2i_app.limits import LIMITS, show_value
from x2i_app.media.images import fit_size

_TOKEN_SIDE = 16  # pixels; FLUX has one token per 16 x 16 pixels


def outpaint_canvas(
    image: Image.Image, left: int = 0, top: int = 0, right: int = 0, bottom: int = 0
) -> tuple[Image.Image, Image.Image]:
    """Extend an image for outpainting; returns the canvas and mask as FluxFillPipeline accepts them.

    left, top, right, bottom: pixels to add; right and bottom are increased until both sides are multiples of 16.
    Returns the canvas, RGB, grey in the added area, and the mask, L, 255 in the added area and 0 on the image.
    Raises InvalidRequestError for margins that are negative, not whole numbers, or all 0.
    """
    margins = (left, top, right, bottom)
    if not all(isinstance(margin, int) and not isinstance(margin, bool) and margin >= 0 for margin in margins):
        raise InvalidRequestError(
            f"The margins are {show_value(margins)}; each must be a whole number of pixels, 0 or more."
        )
    if not any(margins):
        raise InvalidRequestError("All margins are 0, so the image is not extended; set at least one.")
    sides = (image.width + left + right, image.height + top + bottom)
    size = tuple(ceil(side / _TOKEN_SIDE) * _TOKEN_SIDE for side in sides)
    canvas = Image.new("RGB", size, (128, 128, 128))
    mask = Image.new("L", size, 255)
    canvas.paste(image.convert("RGB"), (left, top))
    mask.paste(0, (left, top, left + image.width, top + image.height))
    return canvas, mask


@dataclass(frozen=True)
class InpaintSource:
    """image: RGB. mask: L, 255 where the image changes and 0 where it stays; None lets all of it change."""

    image: Image.Image
    mask: Image.Image | None

    def fitted(self, width: int, height: int) -> "InpaintSource":
        """Center-cropped to the aspect ratio of width and height, and scaled to them; pixels."""
        mask = self.mask and ImageOps.fit(self.mask, (width, height), Image.Resampling.NEAREST)
        return InpaintSource(ImageOps.fit(self.image, (width, height), Image.Resampling.LANCZOS), mask)


def extend_source(image: Image.Image, mask: Image.Image | None, margins: tuple[int, int, int, int]) -> InpaintSource:
    """An image with its mask, extended by `margins`.

    image: RGB. mask: L, 255 where the image changes; stretched to the image's size; None lets all of it change.
    margins: pixels to add (left, top, right, bottom).
    Raises InvalidRequestError for a mask that is black everywhere.
    """
    if mask is not None:
        mask = mask.resize(image.size, Image.Resampling.NEAREST)
        if not mask.getbbox() and not any(margins):
            raise InvalidRequestError("The mask is black everywhere, so nothing would change; paint part of it white.")
    if not any(margins):
        return InpaintSource(image, mask)
    left, top, right, bottom = margins
    canvas, extended_mask = outpaint_canvas(image, left, top, right, bottom)
    if mask:
        extended_mask.paste(mask, (left, top))
    return InpaintSource(canvas, extended_mask)


def drawing_size(width: int, height: int, side: int) -> tuple[int, int]:
    """(width, height) in pixels at which an image of this size is drawn: multiples of 16 within the limits.

    side: pixels; an image with a larger area than side x side is scaled down to it.
    """
    sides = zip(fit_size(width, height, side * side), (LIMITS.width, LIMITS.height), strict=True)
    width, height = (
        int(min(max(round(own / _TOKEN_SIDE) * _TOKEN_SIDE, allowed.low), allowed.high)) for own, allowed in sides
    )
    return width, height
