"""A picture to paint on: what of it is painted, and room around it."""

from dataclasses import dataclass, replace
from typing import Any

from PIL import Image, ImageOps

from x2i_app.errors import InvalidRequestError
from x2i_app.limits import LIMITS, show_value
from x2i_app.media.images import fit_size, load_image, load_mask
from x2i_app.request import GenerationRequest

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


@dataclass(frozen=True)
class Painting:
    """image: RGB; mask: L, 255 where it is painted and 0 where it stays; None paints over all of it."""

    image: Image.Image
    mask: Image.Image | None

    def fitted(self, width: int, height: int) -> "Painting":
        """Cut around its middle to the shape (width, height), and scaled to it; pixels."""
        mask = self.mask and ImageOps.fit(self.mask, (width, height), Image.Resampling.NEAREST)
        return Painting(ImageOps.fit(self.image, (width, height), Image.Resampling.LANCZOS), mask)


def load_painting(request: GenerationRequest) -> Painting | None:
    """What the request paints on, with the room around it that it asks for; None if it paints on nothing.

    A mask of another size is stretched to the picture's. Raises MediaError, or InvalidRequestError for a mask that
    shows nothing to paint.
    """
    if not request.paints:
        return None
    image = load_image(request.source)
    mask = None
    if request.mask is not None:
        mask = load_mask(request.mask).resize(image.size, Image.Resampling.NEAREST)
        if not mask.getbbox() and not any(request.outpaint):
            raise InvalidRequestError("The mask is black all over, so there is nothing to paint; paint a part white.")
    if any(request.outpaint):
        left, top, right, bottom = request.outpaint
        image, around = outpaint_canvas(image, left, top, right, bottom)
        if mask:
            around.paste(mask, (left, top))
        mask = around
    return Painting(image, mask)


def with_own_size(request: GenerationRequest, side: int) -> GenerationRequest:
    """The request, with the size of what it paints on where none is given.

    side: pixels; a picture of a larger area than side x side is scaled down to it. Sides become multiples of 16.
    """
    painting = load_painting(request) if None in (request.width, request.height) else None
    if painting is None:
        return request
    sides = zip(fit_size(*painting.image.size, side * side), (LIMITS.width, LIMITS.height), strict=True)
    width, height = (min(max(round(own / _STEP) * _STEP, allowed.low), allowed.high) for own, allowed in sides)
    return replace(request, width=request.width or width, height=request.height or height)


def source_arguments(request: GenerationRequest) -> dict[str, Any]:
    """What `X2IPipeline` is told of the picture that is kept to or painted on, by its own names. Errors as above."""
    painting = load_painting(request)
    kept = painting.image if painting else request.source
    return {
        "control_image": kept if request.control_strength else None,
        "control_strength": request.control_strength,
        "painting": painting,
        "strength": request.strength,
    }
