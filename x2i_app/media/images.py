"""Untrusted images -> upright RGB pictures. Sizes are checked before anything is decoded."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from x2i_app.errors import MediaError
from x2i_app.media.guard import CAPS, MediaCaps, check_size, is_path, show_name, show_value, sniff


def load_image(source: Any, caps: MediaCaps = CAPS) -> Image.Image:
    """A new RGB picture, held upright as its EXIF data say, without any metadata.

    source: the path of a PNG, JPEG, WebP, GIF, BMP or TIFF file, of an animation the first frame; a PIL image; or an
    array (H, W), (H, W, 3) or (H, W, 4) of uint8 or of floats in [0, 1]. Transparency is laid over white.
    Raises MediaError for anything else, for a damaged file and for one larger than the caps.
    """
    if is_path(source):
        with open_image(source, caps) as image:
            return to_rgb(image)
    name = "The image"
    if isinstance(source, Image.Image):
        _check_caps(source, name, caps)
        with _reading(name, caps):
            return to_rgb(source)
    if hasattr(source, "__array__"):
        with _reading(name, caps):
            return _from_array(np.asarray(source), name, caps)
    raise MediaError(f"An image came as {show_value(source)}; send a file, a PIL image or an array.")


@contextmanager
def open_image(path: str | os.PathLike, caps: MediaCaps = CAPS) -> Iterator[Image.Image]:
    """An image file whose kind and size have passed the caps and whose pixels are not decoded yet.

    Inside the block every failure of Pillow becomes a MediaError that names the file.
    """
    kind = sniff(path, "image", caps)
    name = show_name(path)
    with _reading(name, caps), Image.open(os.fsdecode(path), formats=[kind.name.upper()]) as image:
        _check_caps(image, name, caps)
        yield image


def is_animation(path: str | os.PathLike) -> bool:
    """Whether a file is a GIF or WebP of several frames, which is a film rather than a picture. Raises MediaError."""
    if sniff(path).name not in ("GIF", "WebP"):
        return False
    with open_image(path) as image:
        return getattr(image, "is_animated", False)


def to_rgb(image: Image.Image) -> Image.Image:
    """A new, upright, bare RGB image of the present frame; transparency over white. May raise what Pillow raises."""
    image = ImageOps.exif_transpose(image)  # a copy, even where nothing turns
    if image.mode in ("I", "F") or image.mode.startswith("I;"):
        image = _to_8_bit(image)
    if image.has_transparency_data:
        paper = Image.new("RGBA", image.size, "white")
        paper.alpha_composite(image.convert("RGBA"))
        image = paper
    bare = Image.new("RGB", image.size)  # `convert` would carry comments, EXIF and colour profiles along
    bare.paste(image.convert("RGB"))
    return bare


def load_mask(source: Any) -> Image.Image:
    """A mask, from what `load_image` takes: L, 255 where it is lighter than the middle and 0 elsewhere."""
    return load_image(source).convert("L").point(lambda level: 255 if level > 127 else 0)


def fit_size(width: int, height: int, max_pixels: int) -> tuple[int, int]:
    """(width, height) in pixels of the same aspect and at most `max_pixels` (>= 1) in area; never larger than given."""
    scale = (max_pixels / (width * height)) ** 0.5
    if scale >= 1:
        return width, height
    # A side that would vanish stays one pixel, and the other gives way.
    new_width = max(1, int(width * scale))
    new_height = max(1, min(int(height * scale), max_pixels // new_width))
    return min(new_width, max_pixels // new_height), new_height


@contextmanager
def _reading(name, caps):
    try:
        yield
    except MediaError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        # Pillow's own limit is higher than ours and strikes first; the warning is an error under `python -W error`.
        raise MediaError(
            f"{name} has far more than the {caps.image_pixels:,} pixels that are allowed; scale it down."
        ) from None
    except Exception as error:  # hostile bytes make decoders raise anything
        raise MediaError(f"{name} is damaged or cut off and cannot be read as an image; send it again.") from error


def _check_caps(image, name, caps):
    check_size(name, *image.size, caps.image_side, caps.image_pixels)


def _to_8_bit(image):
    """Grey levels of more than 8 bits, scaled rather than clipped as `convert` would."""
    levels = np.asarray(image)
    if image.mode == "F":
        if not np.isfinite(levels).all():
            raise ValueError("pixels that are not finite")
        levels = levels * 255 if levels.max() <= 1 else levels
    elif image.mode != "I" or levels.max() > 255:  # Pillow opens some 16-bit files as 32-bit "I"
        levels = levels / 257  # 65535 -> 255
    return Image.fromarray(np.clip(np.round(levels), 0, 255).astype(np.uint8))


def _from_array(pixels, name, caps):
    shape = pixels.shape
    if not (len(shape) == 2 or (len(shape) == 3 and shape[2] in (3, 4))):
        raise MediaError(f"{name} is an array of shape {shape}; it must be (H, W), (H, W, 3) or (H, W, 4).")
    check_size(name, shape[1], shape[0], caps.image_side, caps.image_pixels)
    if pixels.dtype.kind == "f":
        # NaN fails the comparison too.
        if not (pixels.min() >= 0 and pixels.max() <= 1):
            raise MediaError(f"{name} holds floats outside 0 to 1; scale them, or send uint8.")
        pixels = np.round(pixels.astype(np.float32) * 255).astype(np.uint8)
    if pixels.dtype != np.uint8:
        raise MediaError(f"{name} is an array of {pixels.dtype}; it must be uint8, or floats from 0 to 1.")
    return to_rgb(Image.fromarray(np.ascontiguousarray(pixels)))
