"""The image that a request changes: its mask, and the area added around it."""

from dataclasses import dataclass, replace
from math import ceil
from typing import Any

from PIL import Image, ImageOps

from x2i_app.errors import InvalidRequestError
from x2i_app.limits import LIMITS, show_value
from x2i_app.media.images import fit_size, load_image, load_mask
from x2i_app.request import GenerationRequest

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


def load_inpaint_source(request: GenerationRequest) -> InpaintSource | None:
    """The image that the request changes, with its mask, extended as requested; None if the request changes no image.

    A mask of another size is stretched to the image's size. Raises MediaError, or InvalidRequestError for a mask that
    is black everywhere.
    """
    if not request.paints:
        return None
    image = load_image(request.source)
    mask = None
    if request.mask is not None:
        mask = load_mask(request.mask).resize(image.size, Image.Resampling.NEAREST)
        if not mask.getbbox() and not any(request.outpaint):
            raise InvalidRequestError("The mask is black everywhere, so nothing would change; paint part of it white.")
    if any(request.outpaint):
        left, top, right, bottom = request.outpaint
        image, extended_mask = outpaint_canvas(image, left, top, right, bottom)
        if mask:
            extended_mask.paste(mask, (left, top))
        mask = extended_mask
    return InpaintSource(image, mask)


def with_own_size(request: GenerationRequest, side: int) -> GenerationRequest:
    """The request with the size of the image that it changes, where it sets no width or height.

    side: pixels; an image with a larger area than side x side is scaled down to it. Sides are rounded to multiples of
    16 within the limits.
    """
    source = load_inpaint_source(request) if None in (request.width, request.height) else None
    if source is None:
        return request
    sides = zip(fit_size(*source.image.size, side * side), (LIMITS.width, LIMITS.height), strict=True)
    width, height = (
        min(max(round(own / _TOKEN_SIDE) * _TOKEN_SIDE, allowed.low), allowed.high) for own, allowed in sides
    )
    return replace(request, width=request.width or width, height=request.height or height)


def source_arguments(request: GenerationRequest) -> dict[str, Any]:
    """Arguments of X2IPipeline for LightControl and inpainting. Errors as in `load_inpaint_source`."""
    source = load_inpaint_source(request)
    control_image = source.image if source else request.source
    return {
        "control_image": control_image if request.control_strength else None,
        "control_strength": request.control_strength,
        "inpaint_source": source,
        "strength": request.strength,
    }
