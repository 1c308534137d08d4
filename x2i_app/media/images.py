"""Untrusted images -> upright RGB images. Everything that needs an image reads it with `load_image`."""

import io
import os
import re
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import ExifTags, Image, JpegImagePlugin, TiffImagePlugin

from x2i_app.errors import MediaError
from x2i_app.media.budget import current_budget
from x2i_app.media.color import CICP, MAX_PROFILE, to_srgb
from x2i_app.media.guard import CAPS, MediaCaps, check_size, is_path, show_name, show_value, sniff
from x2i_app.media.isolation import in_child, recently_read
from x2i_app.media.png_bands import has_bands, read_bands, scale_transparent_level
from x2i_app.media.png_texts import find_chunks, read_profile, without_long_texts
from x2i_app.notes import SCALED_DOWN, Note

_TRANSPOSE = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_MAX_EXIF = 2**16  # bytes of a PNG file's EXIF
_WHITE_IS_ZERO = 0  # in TIFF files
_HEIF_HEAD = 2**16  # bytes in which the colors of a HEIC or AVIF file are looked for
_OTHER_FORM = re.compile("unknown pixel mode|[Uu]nsupported")  # Pillow's words, for example of floats in three colors
_NAME = "The image"  # that is not a file


def load_image(source: Any, caps: MediaCaps = CAPS) -> Image.Image:
    """Read an image as a new RGB image without metadata, rotated as its EXIF orientation says.

    source: the path or the bytes of a PNG, JPEG, WebP, HEIC, AVIF, GIF, BMP or TIFF file (the first frame of an
    animation); a PIL image; or an array (H, W), (H, W, 3) or (H, W, 4) of uint8 or of floats in [0, 1]. Colors are
    converted from an embedded color profile to sRGB, transparent pixels are blended with white, 16-bit levels become 8
    bits. An image larger than the limits is scaled down to them, while it is decoded if it is much larger.
    Raises MediaError for anything else, for a damaged file, and for one that is too large to be scaled down.
    """
    if is_path(source) or isinstance(source, bytes):
        image = recently_read(_read_file, source, caps)
        current_budget().charge("pixels", image.width * image.height)
        return image
    if isinstance(source, Image.Image):
        check_size(_NAME, *source.size, caps.source_side, caps.streamed_pixels)
        with _reading(_NAME, caps):
            return _fit(to_rgb(source), caps)
    if hasattr(source, "__array__"):
        with _reading(_NAME, caps):
            return _from_array(np.asarray(source), caps)
    raise MediaError(f"{_NAME} is {show_value(source)}; it must be a file, a PIL image or an array.")


@in_child
def load_thumbnail(path: str | os.PathLike, side: int) -> Image.Image:
    """An image as in `load_image`, scaled down so that no side is longer than `side` pixels. Raises MediaError."""
    image = load_image(path)
    image.thumbnail((side, side))
    return image


@in_child
def _read_file(source: str | os.PathLike | bytes, caps: MediaCaps) -> Image.Image:
    with open_image(source, caps) as image:
        return _fit(_decode(image, caps), caps)


@contextmanager
def open_image(source: str | os.PathLike | bytes, caps: MediaCaps = CAPS) -> Iterator[Image.Image]:
    """Open an image file by its path or bytes and check its kind and size; no pixels are decoded.

    Use it only in functions with `in_child`: even to open a file may take minutes. Inside the block, every exception of
    Pillow becomes a MediaError that names the file.
    """
    kind = sniff(source, "image", caps)
    is_bytes = isinstance(source, bytes)
    name = _NAME if is_bytes else show_name(source)
    with _reading(name, caps), io.BytesIO(source) if is_bytes else Path(os.fsdecode(source)).open("rb") as file:
        readable = without_long_texts(file) if kind.name == "PNG" else file
        with _open(readable, kind.name) as image:
            in_parts = _is_baseline(image) or has_bands(image)
            check_size(name, *image.size, caps.source_side, caps.streamed_pixels if in_parts else caps.whole_pixels)
            _add_to_info(image, file, kind.name)
            yield image


def _open(file: BinaryIO, kind: str) -> Image.Image:
    """The image of a file of this kind. Unlike `Image.open`, it has no limit on sizes: that is checked here."""
    if kind == "HEIC":
        from pi_heif import HeifImageFile

        return HeifImageFile(file)
    Image.init()
    factory, _ = Image.OPEN[kind.upper()]
    return factory(file, "")


def _add_to_info(image: Image.Image, file: BinaryIO, kind: str) -> None:
    """What Pillow does not read: colors by number (see `color.CICP`), and a PNG's EXIF where it follows the pixels."""
    if kind == "PNG":
        scale_transparent_level(image)
        for name, position, size in find_chunks(file):
            file.seek(position + 8)
            if name == b"cICP" and size == 4:
                image.info[CICP] = struct.unpack(">BB", file.read(2))
            elif name == b"eXIf" and size <= _MAX_EXIF and "exif" not in image.info:
                image.info["exif"] = b"Exif\0\0" + file.read(size)
            elif name == b"iCCP" and size <= MAX_PROFILE and "icc_profile" not in image.info:
                image.info["icc_profile"] = read_profile(file.read(size), MAX_PROFILE)
    elif kind in ("HEIC", "AVIF"):
        file.seek(0)
        head = file.read(_HEIF_HEAD)
        place = head.find(b"colrnclx")
        if 0 <= place <= len(head) - 12:
            image.info[CICP] = struct.unpack(">HH", head[place + 8 : place + 12])
        turned = image.info.get("original_orientation")  # pi-heif sets that of EXIF to 1, in favor of HEIC's own
        if turned and b"irot" not in head and b"imir" not in head:
            Image.Image.getexif(image)[ExifTags.Base.Orientation] = turned


def _is_baseline(image: Image.Image) -> bool:
    """Whether it is a JPEG file that libjpeg decodes row by row; of a progressive one it keeps the whole image."""
    return isinstance(image, JpegImagePlugin.JpegImageFile) and not image.info.get("progressive")


def _decode(image: Image.Image, caps: MediaCaps) -> Image.Image:
    """An opened file as RGB, scaled down by a whole number if it is too large to be decoded as a whole."""
    factor = _decoding_factor(*image.size, caps)
    if factor == 1:
        return to_rgb(image)
    if not _is_baseline(image):
        orientation, named, profile = _orientation(image), image.info.get(CICP), image.info.get("icc_profile")

        def convert(band: Image.Image) -> Image.Image:
            band.info[CICP] = named
            band.info["icc_profile"] = profile
            return to_rgb(band)

        scaled = read_bands(image.fp, factor, convert)
        return scaled.transpose(_TRANSPOSE[orientation]) if orientation in _TRANSPOSE else scaled
    image.draft(None, (image.width // factor, image.height // factor))
    return to_rgb(image)


def _decoding_factor(width: int, height: int, caps: MediaCaps) -> int:
    """By what an image is scaled down while it is decoded: libjpeg can do 1, 2, 4 and 8."""
    least = (width * height / caps.whole_pixels) ** 0.5
    return next((factor for factor in (1, 2, 4) if factor >= least), 8)


def fitted_size(width: int, height: int, caps: MediaCaps = CAPS) -> tuple[int, int]:
    """(width, height) in pixels of what `load_image` makes of an image of this size."""
    factor = _decoding_factor(width, height, caps)
    width, height = -(-width // factor), -(-height // factor)
    width, height = fit_size(width, height, caps.image_pixels)
    scale = caps.image_side / max(width, height)
    if scale >= 1:
        return width, height
    return max(1, round(width * scale)), max(1, round(height * scale))


def _fit(image: Image.Image, caps: MediaCaps) -> Image.Image:
    size = fitted_size(*image.size, caps)
    return image if size == image.size else image.resize(size, Image.Resampling.BICUBIC)


def scaled_note(source: Any, caps: MediaCaps = CAPS) -> Note | None:
    """A note if `load_image` scales this image down; None for any other. No pixels are decoded. Raises MediaError."""
    if is_path(source):
        size = image_size(source, fitted=False)
    elif isinstance(source, Image.Image):
        size = source.size
    elif len(getattr(source, "shape", ())) in (2, 3):
        size = source.shape[1], source.shape[0]
    else:
        return None
    used = fitted_size(*size, caps)
    return None if used == size else Note(SCALED_DOWN, **_sides(size), **_sides(used, "new_"))


def _sides(size: tuple[int, int], prefix: str = "") -> dict[str, str]:
    return {f"{prefix}width": f"{size[0]:,}", f"{prefix}height": f"{size[1]:,}"}


@in_child
def image_size(path: str | os.PathLike, fitted: bool = True) -> tuple[int, int]:
    """(width, height) in pixels of the image that `load_image` returns, without decoding it. Raises MediaError.

    fitted: False gives the size in the file.
    """
    with open_image(path) as image:
        width, height = image.size
        is_turned = image.format != "TIFF" and _orientation(image) in (5, 6, 7, 8)  # of TIFF, Pillow says the result
    size = (height, width) if is_turned else (width, height)
    return fitted_size(*size) if fitted else size


def is_animation(path: str | os.PathLike) -> bool:
    """Whether a file is a GIF or WebP with several frames, and so is read as a video. Raises MediaError."""
    if sniff(path).name not in ("GIF", "WebP"):
        return False
    return _is_animated(path)


@in_child
def _is_animated(path: str | os.PathLike) -> bool:
    with open_image(path) as image:
        return getattr(image, "is_animated", False)


def to_rgb(image: Image.Image) -> Image.Image:
    """The current frame as a new RGB image; see `load_image`. Raises whatever Pillow raises."""
    image.load()
    source, orientation = image, _orientation(image)
    if image.mode in ("I", "F") or image.mode.startswith("I;"):
        image = _to_8_bit(image)
    image = to_srgb(image)
    if image.has_transparency_data:
        background = Image.new("RGBA", image.size, "white")
        background.alpha_composite(image.convert("RGBA"))
        image = background
    if image is source or image.mode != "RGB":  # each copy of a large image counts
        image = image.convert("RGB")
    image.info = {}  # `convert` keeps comments, EXIF and color profiles
    return image.transpose(_TRANSPOSE[orientation]) if orientation in _TRANSPOSE else image


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8. Pillow's own method for PNG files would decode the pixels to look behind them."""
    return Image.Image.getexif(image).get(ExifTags.Base.Orientation, 1)


def load_mask(source: Any) -> Image.Image:
    """Read a mask; source as in `load_image`. Returns L, 255 where the gray level is above 127 and 0 elsewhere."""
    return load_image(source).convert("L").point(lambda level: 255 if level > 127 else 0)


@in_child
def load_opaque(path: str | os.PathLike, caps: MediaCaps = CAPS) -> Image.Image:
    """As `load_image`, for a file in which transparency marks an area: its colors there are kept, and not blended."""
    with open_image(path, caps) as image:
        check_size(show_name(path), *image.size, caps.source_side, caps.whole_pixels)
        return _fit(to_rgb(image.convert("RGB")) if image.mode == "RGBA" else _decode(image, caps), caps)


@in_child
def load_transparency(path: str | os.PathLike, caps: MediaCaps = CAPS) -> Image.Image:
    """What is transparent in an image file, upright: L, from 255 where nothing can be seen to 0.

    Raises MediaError for a file that cannot be read.
    """
    with open_image(path, caps) as image:
        if image.width * image.height > caps.whole_pixels:  # only JPEG and PNG files may be larger
            raise MediaError(f"{show_name(path)} has too many pixels for a mask; scale it down.")
        image.load()
        if not image.has_transparency_data:
            return Image.new("L", image.size)
        orientation = _orientation(image)
        mask = image.convert("RGBA").getchannel("A").point(lambda level: 255 - level)
        return mask.transpose(_TRANSPOSE[orientation]) if orientation in _TRANSPOSE else mask


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
    except MemoryError:
        raise MediaError(f"{name} needs too much memory to read; use a smaller one.") from None
    except Exception as error:  # decoders raise any exception for hostile files
        if _OTHER_FORM.search(str(error)):
            raise MediaError(f"{name} stores its pixels in a form that cannot be read; save it as PNG.") from error
        raise MediaError(f"{name} is damaged or incomplete; choose an undamaged copy.") from error


def _to_8_bit(image):
    """Gray levels of more than 8 bits, scaled to 8 bits; `convert` would clip them."""
    levels, info = np.asarray(image), image.info
    if image.mode == "I" and np.abs(levels).max() > 65535:  # 32 bits, of which Pillow takes the highest for a sign
        levels = levels.view(np.uint32) / 65537
    alpha = None
    if isinstance(info.get("transparency"), int):  # of a PNG: one level that is transparent
        alpha = Image.fromarray(np.where(levels == info["transparency"], 0, 255).astype(np.uint8))
    if image.mode == "F":
        if not np.isfinite(levels).all():
            raise ValueError("pixels that are not finite")
        levels = levels * 255 if levels.max() <= 1 else levels
    elif image.mode != "I" or levels.max() > 255:  # Pillow opens some 16-bit files as 32-bit "I"
        levels = levels / 257  # 65535 -> 255
        if getattr(image, "tag_v2", {}).get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION) == _WHITE_IS_ZERO:
            levels = 255 - levels  # Pillow does this for 8 bits only
    image = Image.fromarray(np.clip(np.round(levels), 0, 255).astype(np.uint8))
    if alpha:
        image.putalpha(alpha)
    image.info["icc_profile"] = info.get("icc_profile")
    return image


def _from_array(pixels, caps):
    shape = pixels.shape
    if not (len(shape) == 2 or (len(shape) == 3 and shape[2] in (3, 4))):
        raise MediaError(f"{_NAME} is an array of shape {shape}; it must be (H, W), (H, W, 3) or (H, W, 4).")
    check_size(_NAME, shape[1], shape[0], caps.source_side, caps.streamed_pixels)
    if pixels.dtype.kind == "f":
        # NaN fails the comparison too.
        if not (pixels.min() >= 0 and pixels.max() <= 1):
            raise MediaError(f"{_NAME} has floats outside 0 to 1; scale them, or use uint8.")
        pixels = np.round(pixels.astype(np.float32) * 255).astype(np.uint8)
    if pixels.dtype != np.uint8:
        raise MediaError(f"{_NAME} is an array of {pixels.dtype}; it must be uint8, or floats from 0 to 1.")
    return _fit(to_rgb(Image.fromarray(np.ascontiguousarray(pixels))), caps)
