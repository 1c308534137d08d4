"""The source of an inpainting: its mask, the area added around it, the part that is drawn, and the way back."""

import numpy as np
import pytest
from PIL import Image

from x2i_app.errors import InvalidRequestError
from x2i_app.media.inpaint_source import InpaintSource, drawing_size, extend_source, note_shape

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
    """The mask moves with the image, and exactly the added area changes as well."""
    source = extend_source(IMAGE, mask_of((32, 16), (0, 0, 8, 16)), (15, 31, 0, 3))
    assert source.image.size == source.mask.size == (47, 50)
    mask = np.asarray(source.mask)
    assert mask[:31].all()
    assert mask[:, :15].all()
    assert mask[31:47, 15:23].all()
    assert not mask[31:47, 23:].any()
    assert mask[47:].all()
    assert source.image.getpixel((15, 31)) == (255, 0, 0)
    assert source.image.getpixel((0, 0)) == (255, 0, 0)  # the edge is repeated: nothing else shines through its seam


def test_invert_and_grow():
    given = mask_of((32, 16), (8, 8, 12, 12))
    inverted = extend_source(IMAGE, given, (0, 0, 0, 0), invert=True).mask
    assert np.array_equal(np.asarray(inverted), 255 - np.asarray(given))
    assert extend_source(IMAGE, given, (0, 0, 0, 0), grow=3).mask.getbbox() == (5, 5, 15, 15)
    assert extend_source(IMAGE, mask_of((32, 16), (0, 0, 1, 1)), (0, 0, 0, 0), grow=127).mask.getextrema() == (255, 255)
    with pytest.raises(InvalidRequestError, match="inverted mask is black everywhere"):
        extend_source(IMAGE, mask_of((32, 16), (0, 0, 32, 16)), (0, 0, 0, 0), invert=True)


def test_a_mask_of_another_shape_is_noted():
    assert note_shape(Image.new("L", (16, 8)), IMAGE) is None  # smaller, but of the same shape
    assert note_shape(Image.new("L", (33, 16)), IMAGE) is None
    assert "(16 x 16) has another shape than the image (32 x 16)" in note_shape(Image.new("L", (16, 16)), IMAGE)


PHOTO = Image.fromarray(np.random.default_rng(0).integers(0, 256, (300, 401, 3), dtype=np.uint8))


def test_only_the_surroundings_of_a_small_mask_are_drawn():
    """With a quarter of its longer side as context, or all of it if asked."""
    small = InpaintSource(PHOTO, mask_of(PHOTO.size, (200, 100, 240, 140)))
    area = small.with_area(128).area
    assert area.box == (190, 90, 250, 150)
    assert area.size == (128, 128)
    assert small.with_area(128, only_masked=False).area.box == (0, 0, *PHOTO.size)
    assert small.with_area(512).area.box == (0, 0, *PHOTO.size)  # the model draws all of it in full detail
    assert small.with_area(512, only_masked=True).area.box == (156, 56, 284, 184)  # a quarter of 512 at least
    large = InpaintSource(PHOTO, mask_of(PHOTO.size, (10, 10, 390, 290)))
    assert large.with_area(128).area.box == (0, 0, *PHOTO.size)
    strip = InpaintSource(PHOTO, mask_of(PHOTO.size, (381, 0, 401, 300)))
    assert strip.with_area(128).area.box == (176, 0, 401, 300)


@pytest.mark.parametrize("box", [(200, 100, 240, 140), (0, 0, 401, 40), (399, 299, 401, 300)])
@pytest.mark.parametrize("feather", [None, 0, 9, 127])
def test_only_masked_pixels_change(box, feather):
    """Whatever its feather, the drawn part lies inside the mask, and something of it is seen."""
    source = InpaintSource(PHOTO, mask_of(PHOTO.size, box), feather).with_area(128)
    drawn, mask = source.drawn()
    assert drawn.size == mask.size == source.area.size
    result = source.restored(Image.new("RGB", drawn.size, "red"))
    inside = np.asarray(source.mask) > 0
    assert result.size == PHOTO.size
    assert np.array_equal(np.asarray(result)[~inside], np.asarray(PHOTO)[~inside])
    assert (np.asarray(result)[inside] == (255, 0, 0)).all(-1).any()


def test_the_edge_is_soft():
    gray = Image.new("RGB", (128, 128), "black")
    source = InpaintSource(gray, mask_of((128, 128), (32, 32, 96, 96)), feather=8).with_area(128)
    row = np.asarray(source.restored(Image.new("RGB", source.area.size, "white")))[64, 32:64, 0].astype(int)
    assert row[0] < 40
    assert (np.diff(row[:9]) > 0).all()
    assert (row[9:] == 255).all()


def test_the_drawn_mask_covers_whole_latents():
    """FLUX reads one value of each 8 x 8 pixels; one painted pixel is enough."""
    source = InpaintSource(Image.new("RGB", (128, 128)), mask_of((128, 128), (23, 23, 25, 25))).fitted(128, 128)
    assert source.drawn()[1].getbbox() == (16, 16, 32, 32)


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
        ((600, 400), (624, 416)),  # at the model's resolution, in exactly its shape
        ((64, 64), (512, 512)),
        ((20, 500), (96, 2048)),  # within the limits of a request
        ((4096, 1024), (1024, 256)),  # the area of 512 x 512
        ((512, 512), (512, 512)),
    ],
)
def test_drawing_size(size, expected):
    assert drawing_size(*size, 512) == expected
