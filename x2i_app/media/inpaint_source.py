"""The image that a request changes: its mask, the area added around it, the part that is drawn, and the way back.

FLUX draws at its own resolution, and photos have any size. So a part of the image, or all of it, is scaled to that
resolution and drawn; the result is scaled back and blended into the original. Pixels outside the mask stay as they are.
"""

from dataclasses import dataclass, replace
from math import ceil, floor, log, sqrt

import numpy as np
from PIL import Image, ImageChops, ImageFilter, ImageOps

from x2i_app.errors import InvalidRequestError
from x2i_app.limits import LIMITS, show_value
from x2i_app.notes import MASK_STRETCHED, Note

_TOKEN_SIDE = 16  # pixels; FLUX has one token per 16 x 16 pixels
_LATENT_SIDE = 8  # pixels; the mask that FLUX reads has one value per 8 x 8 pixels
_CONTEXT = 1 / 4  # of the mask's longer side: what is drawn around the mask on each side, so that the model sees it
_LEAST_BOX = 1 / 4  # of the model's resolution: a smaller part would be magnified until nothing can be recognized
_LONGEST_BOX = 2  # the longer side of the part by the shorter one; models draw long strips badly
_WORTH_CROPPING = 3 / 4  # of the image's area; a part that is larger is not worth losing the rest of the context
_FEATHER = 4  # pixels as drawn


def outpaint_canvas(
    image: Image.Image, left: int = 0, top: int = 0, right: int = 0, bottom: int = 0
) -> tuple[Image.Image, Image.Image]:
    """Extend an image for outpainting with one of diffusers' pipelines; returns the canvas and mask.

    left, top, right, bottom: pixels to add; right and bottom are increased until both sides are multiples of 16, as
    those pipelines need. An InpaintSource needs no such sizes, and is larger by exactly the margins.
    Returns the canvas, RGB, gray in the added area, and the mask, L, 255 in the added area and 0 on the image.
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
class DrawnArea:
    """The part of an image that is drawn. box: (left, top, right, bottom) in it. size: (width, height) as drawn."""

    box: tuple[int, int, int, int]
    size: tuple[int, int]


@dataclass(frozen=True)
class InpaintSource:
    """An image to change.

    image: RGB. mask: L, 255 where the image changes and 0 where it stays; None lets all of it change.
    feather: width in pixels of the soft edge, inside the mask; None suits the scale at which it is drawn.
    area: what is drawn; None until `with_area` has chosen it.
    original: the image before it was extended, which a caller may also give as the reference.
    """

    image: Image.Image
    mask: Image.Image | None
    feather: int | None = None
    area: DrawnArea | None = None
    original: Image.Image | None = None

    def fitted(self, width: int, height: int) -> "InpaintSource":
        """Center-cropped to the aspect ratio of width and height, scaled to them, and drawn as a whole; pixels."""
        mask = self.mask and ImageOps.fit(self.mask, (width, height), Image.Resampling.NEAREST)
        image = ImageOps.fit(self.image, (width, height), Image.Resampling.LANCZOS)
        return replace(self, image=image, mask=mask, area=DrawnArea((0, 0, width, height), (width, height)))

    def with_area(self, resolution: int, only_masked: bool | None = None) -> "InpaintSource":
        """With the part that is drawn.

        resolution: side in pixels of the square that the model draws. only_masked: draw only the surroundings of the
        mask, in more detail; None does so if the image is larger than what the model draws and the mask is small.
        """
        box = (0, 0, *self.image.size)
        if self.mask is not None and only_masked is not False:
            part, whole = _around(self.mask, resolution), self.image.width * self.image.height
            is_small = _pixels(part) < _WORTH_CROPPING * whole and whole > resolution**2
            box = part if only_masked or is_small else box
        left, top, right, bottom = box
        return replace(self, area=DrawnArea(box, drawing_size(right - left, bottom - top, resolution)))

    def drawn(self) -> tuple[Image.Image, Image.Image | None]:
        """The part that is drawn, and its mask, both at the size at which it is drawn."""
        box, size = self.area.box, self.area.size
        image = self.image.crop(box).resize(size, Image.Resampling.LANCZOS)
        if self.mask is None:
            return image, None
        # FLUX reads one corner of each latent pixel: a latent pixel that is painted in part must be painted in whole.
        latents = (size[0] // _LATENT_SIDE, size[1] // _LATENT_SIDE)
        mask = self.mask.crop(box).resize(latents, Image.Resampling.BOX).point(_any_white)
        return image, mask.resize(size, Image.Resampling.NEAREST)

    def restored(self, generated: Image.Image) -> Image.Image:
        """The whole image with what was drawn in its place; every pixel outside the mask is exactly the original's."""
        left, top, right, bottom = self.area.box
        size = (right - left, bottom - top)
        part = generated if generated.size == size else generated.resize(size, Image.Resampling.LANCZOS)
        if self.mask is None:
            return part
        image = self.image.copy()
        image.paste(part, (left, top), self._soft_mask())
        return image

    def _soft_mask(self) -> Image.Image:
        """The mask of the drawn part, which rises from 0 at its edge to 255 within `feather` pixels."""
        mask, (width, _) = self.mask.crop(self.area.box), self.area.size
        feather = max(2, round(_FEATHER * mask.width / width)) if self.feather is None else self.feather
        left, top, right, bottom = mask.getbbox() or (0, 0, 0, 0)
        feather = min(feather, min(right - left, bottom - top) // 4)  # something small must stay visible
        if not feather:
            return mask
        # The blurred mask is half white at the edge, so twice that, less white, begins there.
        ramp = mask.filter(ImageFilter.BoxBlur(feather)).point(lambda level: max(0, 2 * level - 255))
        return ImageChops.darker(mask, ramp)


def extend_source(
    image: Image.Image,
    mask: Image.Image | None,
    margins: tuple[int, int, int, int],
    invert: bool = False,
    grow: int = 0,
    feather: int | None = None,
) -> InpaintSource:
    """An image with its mask, extended by `margins`.

    image: RGB. mask: L, 255 where the image changes; stretched to the image's size; None lets all of it change.
    margins: pixels to add (left, top, right, bottom). invert: change what is black in the mask instead.
    grow: pixels by which the area that changes grows on every side. feather: as in InpaintSource.
    Raises InvalidRequestError for a mask with nothing to change.
    """
    original = image
    if mask is not None:
        mask = mask.resize(image.size, Image.Resampling.NEAREST)
        if invert:
            mask = ImageChops.invert(mask)
        if not mask.getbbox() and not any(margins):
            raise InvalidRequestError(
                "The inverted mask is black everywhere, so nothing would change; leave part of the mask unpainted."
                if invert
                else "The mask is black everywhere, so nothing would change; paint part of it white."
            )
    if any(margins):
        image, mask = _extended(image, mask, margins)
    if mask and grow:
        mask = _grown(mask, grow)
    return InpaintSource(image, mask, feather, original=original)


def note_shape(mask: Image.Image, image: Image.Image) -> Note | None:
    """A sentence for the user if the mask has another shape than the image, so that it is distorted.

    It may be smaller or larger, and its sides rounded to a pixel.
    """
    scaled = mask.width * image.height / image.width
    if abs(scaled - mask.height) <= max(1, 0.02 * scaled):
        return None
    sizes = {"mask": f"{mask.width} x {mask.height}", "image": f"{image.width} x {image.height}"}
    return Note(MASK_STRETCHED, **sizes)


def drawing_size(width: int, height: int, side: int) -> tuple[int, int]:
    """(width, height) in pixels at which an image of this size is drawn: multiples of 16 within the limits.

    side: pixels; the area is about side x side, and the shape as near to the image's as multiples of 16 allow.
    """
    scale = side / sqrt(width * height)
    choices = [
        {_allowed(nearest(scale * own / _TOKEN_SIDE) * _TOKEN_SIDE, allowed) for nearest in (floor, ceil, round)}
        for own, allowed in ((width, LIMITS.width), (height, LIMITS.height))
    ]
    sizes = [(across, down) for across in choices[0] for down in choices[1]]
    return min(
        sizes, key=lambda size: (abs(log(size[0] * height / (size[1] * width))), abs(size[0] * size[1] - side**2))
    )


def _extended(image, mask, margins):
    """Larger by the margins. The edge's pixels are repeated, so that the soft edge of the mask shows nothing else."""
    left, top, right, bottom = margins
    pixels = np.pad(np.asarray(image), ((top, bottom), (left, right), (0, 0)), mode="edge")
    canvas = Image.new("L", (pixels.shape[1], pixels.shape[0]), 255)
    canvas.paste(mask or 0, (left, top, left + image.width, top + image.height))
    return Image.fromarray(pixels), canvas


def _allowed(side, allowed):
    return int(min(max(side, allowed.low), allowed.high))


def _any_white(level):
    return 255 if level else 0


def _pixels(box):
    left, top, right, bottom = box
    return (right - left) * (bottom - top)


def _grown(mask, pixels):
    """White within `pixels` of what is white, along both axes one after the other."""
    for radius in ((pixels, 0), (0, pixels)):
        mask = mask.filter(ImageFilter.BoxBlur(radius)).point(_any_white)
    return mask


def _around(mask, resolution):
    """The box of what is white with its surroundings, inside the image."""
    left, top, right, bottom = mask.getbbox()
    context = 2 * _CONTEXT * max(right - left, bottom - top)
    least = _LEAST_BOX * resolution
    width, height = (max(side + context, least) for side in (right - left, bottom - top))
    width, height = max(width, height / _LONGEST_BOX), max(height, width / _LONGEST_BOX)
    spans = [
        _span((low + high) / 2, ceil(side), most)
        for low, high, side, most in ((left, right, width, mask.width), (top, bottom, height, mask.height))
    ]
    return spans[0][0], spans[1][0], spans[0][1], spans[1][1]


def _span(middle, length, most):
    """`length` pixels around `middle`, moved or shortened to lie within 0 and `most`."""
    start = max(0, min(round(middle - length / 2), most - length))
    return start, min(most, start + length)
