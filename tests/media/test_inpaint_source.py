"""The source of an inpainting: its mask, the area added around it, and the size at which it is drawn."""

import numpy as np
import pytest
from PIL import Image

from x2i_app.errors import InvalidRequestError
from x2i_app.media.inpaint_source import InpaintSource, drawing_size, extend_source

IMAGE = Image.new("RGB", (32, 16), "red")


def mask_of(size, box):
    mask = Image.new("L", size, 0)
    mask.paste(255, box)
    return mask


def test_without_margins():
    """A mask of another size is stretched to the image's."""
    source = extend_source(IMAGE, mask_of((8, 4), (0, 0, 4, 4)), (0, 0, 0, 0))
    assert source.image is IMAGE
    assert source.mask.size == (32, 16)
    assert source.mask.getbbox() == (0, 0, 16, 16)
    assert extend_source(IMAGE, None, (0, 0, 0, 0)).mask is None


def test_margins():
    """The mask moves with the image, and the added area changes as well."""
    source = extend_source(IMAGE, mask_of((32, 16), (0, 0, 8, 16)), (16, 32, 0, 0))
    assert source.image.size == source.mask.size == (48, 48)
    mask = np.asarray(source.mask)
    assert mask[:32].all()
    assert mask[:, :16].all()
    assert mask[32:, 16:24].all()
    assert not mask[32:, 24:].any()
    assert source.image.getpixel((16, 32)) == (255, 0, 0)
    assert source.image.getpixel((15, 32)) == (128, 128, 128)


def test_a_black_mask_is_refused():
    black = Image.new("L", (32, 16))
    with pytest.raises(InvalidRequestError, match="black everywhere"):
        extend_source(IMAGE, black, (0, 0, 0, 0))
    assert not np.asarray(extend_source(IMAGE, black, (16, 0, 0, 0)).mask)[:, 16:].any()


def test_fitted_crops_around_the_middle():
    wide = Image.new("RGB", (64, 16), "blue")
    wide.paste("red", (24, 0, 40, 16))
    fitted = InpaintSource(wide, mask_of((64, 16), (24, 0, 40, 16))).fitted(32, 32)
    assert fitted.image.size == fitted.mask.size == (32, 32)
    assert np.asarray(fitted.mask).min() == 255
    assert fitted.image.getpixel((16, 16)) == (255, 0, 0)


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((128, 96), (128, 96)),
        ((100, 90), (96, 96)),  # multiples of 16
        ((20, 500), (64, 496)),  # within the limits of a request
        ((4096, 1024), (1024, 256)),  # the area of 512 x 512
        ((512, 512), (512, 512)),
    ],
)
def test_drawing_size(size, expected):
    assert drawing_size(*size, 512) == expected
