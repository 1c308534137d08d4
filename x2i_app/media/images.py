"""Untrusted images -> upright RGB images. Everything that needs an image reads it with `load_image`."""

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import ExifTags, Image, ImageOps

from x2i_app.errors import MediaError
from x2i_app.media.color import to_srgb
from x2i_app.media.guard import CAPS, MediaCaps, check_size, is_path, show_name, show_value, sniff
from x2i_app.media.png_texts import without_long_texts

_NAME = "The image"  # that is not a file


def load_image(source: Any, caps: MediaCaps = CAPS) -> Image.Image:
    """Read an image as a new RGB image without metadata, rotated as its EXIF orientation says.

    source: the path or the bytes of a PNG, JPEG, WebP, GIF, BMP or TIFF file (the first frame of an animation); a PIL
    image; or an array (H, W), (H, W, 3) or (H, W, 4) of uint8 or of floats in [0, 1]. Colors are converted from an
    embedded color profile to sRGB, transparent pixels are blended with white, 16-bit levels are scaled to 8 bits.
    Raises MediaError for anything else, for a damaged file, and for an image larger than the limits.
    """
    if is_path(source) or isinstance(source, bytes):
        with open_image(source, caps) as image:
            return to_rgb(image)
    if isinstance(source, Image.Image):
        _check_caps(source, _NAME, caps)
        with _reading(_NAME, caps):
            return to_rgb(source)
    if hasattr(source, "__array__"):
        with _reading(_NAME, caps):
            return _from_array(np.asarray(source), caps)
    raise MediaError(f"{_NAME} is {show_value(source)}; it must be a file, a PIL image or an array.")


@contextmanager
def open_image(source: str | os.PathLike | bytes, caps: MediaCaps = CAPS) -> Iterator[Image.Image]:
    """Open an image file by its path or bytes and check its kind and size; no pixels are decoded.

    Inside the block, every exception of Pillow becomes a MediaError that names the file.
    """
    kind = sniff(source, "image", caps)
    is_bytes = isinstance(source, bytes)
    name = _NAME if is_bytes else show_name(source)
    with _reading(name, caps), io.BytesIO(source) if is_bytes else Path(os.fsdecode(source)).open("rb") as file:
        if kind.name == "PNG":
            file = without_long_texts(file)
        with Image.open(file, formats=[kind.name.upper()]) as image:
            _check_caps(image, name, caps)
            yield image


def image_size(path: str | os.PathLike) -> tuple[int, int]:
    """(width, height) in pixels of the image that `load_image` returns, without decoding it. Raises MediaError."""
    with open_image(path) as image:
        width, height = image.size
        is_turned = image.getexif().get(ExifTags.Base.Orientation) in (5, 6, 7, 8)
    return (height, width) if is_turned else (width, height)


def is_animation(path: str | os.PathLike) -> bool:
    """Whether a file is a GIF or WebP with several frames, and so is read as a video. Raises MediaError."""
    if sniff(path).name not in ("GIF", "WebP"):
        return False
    with open_image(path) as image:
        return getattr(image, "is_animated", False)


def to_rgb(image: Image.Image) -> Image.Image:
    """The current frame as a new RGB image; see `load_image`. Raises whatever Pillow raises."""
    image = ImageOps.exif_transpose(image)  # always a copy
    if image.mode in ("I", "F") or image.mode.startswith("I;"):
        image = _to_8_bit(image)
    image = to_srgb(image)
    if image.has_transparency_data:
        background = Image.new("RGBA", image.size, "white")
        background.alpha_composite(image.convert("RGBA"))
        image = background
    rgb = Image.new("RGB", image.size)  # `convert` alone would keep comments, EXIF and colour profiles
    rgb.paste(image.convert("RGB"))
    return rgb


def load_mask(source: Any) -> Image.Image:
    """Read a mask; source as in `load_image`. Returns L, 255 where the grey level is above 127 and 0 elsewhere."""
    return load_image(source).convert("L").point(lambda level: 255 if level > 127 else 0)


def fit_size(width: int, height: int, max_pixels: int) -> tuple[int, int]:
    """Scale a size down to an area of at most `max_pixels` (>= 1), keeping its aspect ratio; (width, height)."""
    scale = (max_pixels / (width * height)) ** 0.5
    if scale >= 1:
        return width, height
    # A side is at least one pixel; the other is shortened instead.
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
        # Pillow checks its own, higher limit first; its warning is an exception under `python -W error`.
        raise MediaError(
            f"{name} has far more than the {caps.image_pixels:,} pixels that are allowed, so scale it down."
        ) from None
    except Exception as error:  # decoders raise any exception for hostile files
        raise MediaError(f"{name} is damaged or incomplete; choose an undamaged copy.") from error


def _check_caps(image, name, caps):
    check_size(name, *image.size, caps.image_side, caps.image_pixels)


def _to_8_bit(image):
    """Grey levels of more than 8 bits, scaled to 8 bits; `convert` would clip them."""
    levels, profile = np.asarray(image), image.info.get("icc_profile")
    if image.mode == "F":
        if not np.isfinite(levels).all():
            raise ValueError("pixels that are not finite")
        levels = levels * 255 if levels.max() <= 1 else levels
    elif image.mode != "I" or levels.max() > 255:  # Pillow opens some 16-bit files as 32-bit "I"
        levels = levels / 257  # 65535 -> 255
    image = Image.fromarray(np.clip(np.round(levels), 0, 255).astype(np.uint8))
    image.info["icc_profile"] = profile
    return image


def _from_array(pixels, caps):
    shape = pixels.shape
    if not (len(shape) == 2 or (len(shape) == 3 and shape[2] in (3, 4))):
        raise MediaError(f"{_NAME} is an array of shape {shape}; it must be (H, W), (H, W, 3) or (H, W, 4).")
    check_size(_NAME, shape[1], shape[0], caps.image_side, caps.image_pixels)
    if pixels.dtype.kind == "f":
        # NaN fails the comparison too.
        if not (pixels.min() >= 0 and pixels.max() <= 1):
            raise MediaError(f"{_NAME} has floats outside 0 to 1; scale them, or use uint8.")
        pixels = np.round(pixels.astype(np.float32) * 255).astype(np.uint8)
    if pixels.dtype != np.uint8:
        raise MediaError(f"{_NAME} is an array of {pixels.dtype}; it must be uint8, or floats from 0 to 1.")
    return to_rgb(Image.fromarray(np.ascontiguousarray(pixels)))
