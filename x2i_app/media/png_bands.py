"""Large PNG files decoded band by band, so that only a few rows are in memory at a time.

Pillow decodes a PNG file only as a whole. Here the rows are decompressed in bands, and each band is given to Pillow as
a small PNG file of its own, whose first row is the one before the band: filters refer only to that row.
"""

import io
import struct
import zlib
from collections.abc import Callable, Iterator
from typing import BinaryIO

from PIL import Image, PngImagePlugin

from x2i_app.media.png_texts import find_chunks

_BAND = 8 * 2**20  # bytes of rows
_PART = 2**16  # bytes that are read at once
_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # per pixel, by color type
_COLOR_TYPE = {1: 0, 2: 4, 3: 2, 4: 6}  # 8 bits per sample, by bytes per pixel
_KEPT = (b"PLTE", b"tRNS", b"gAMA", b"cHRM", b"sRGB")
_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def has_bands(image: Image.Image) -> bool:
    """Whether `read_bands` can read this opened PNG file: it is not interlaced, and has no 16-bit colors."""
    return image.format == "PNG" and not image.info.get("interlace") and _depth(image) * _samples(image) <= 32


def read_bands(file: BinaryIO, factor: int, convert: Callable[[Image.Image], Image.Image]) -> Image.Image:
    """The RGB image of a PNG file, scaled down by a whole number.

    convert: from a band as Pillow opens it to RGB. Raises OSError, ValueError or zlib.error for a damaged file.
    """
    header, kept = _read_header(file)
    width, height, depth, color = struct.unpack(">IIBB", header[:10])
    pixel_bits = depth * _SAMPLES[color]
    row_bytes = (width * pixel_bits + 7) // 8
    rows = max(1, _BAND // row_bytes // factor) * factor
    result = Image.new("RGB", (-(-width // factor), -(-height // factor)))
    before = bytes(row_bytes)
    for top, content in _bands(file, rows, row_bytes, height):
        count = len(content) // (row_bytes + 1)
        content = b"\0" + before + content
        if depth == 8:
            band = _open(header, count + 1, kept, content)
            before = band.crop((0, count, width, count + 1)).tobytes()
        else:
            size = max(1, pixel_bits // 8)
            plain = struct.pack(">IIBBBBB", row_bytes // size, 0, 8, _COLOR_TYPE[size], 0, 0, 0)
            raw = _open(plain, count + 1, b"", content).tobytes()
            before = raw[-row_bytes:]
            starts = range(0, len(raw), row_bytes)
            band = _open(header, count + 1, kept, b"".join(b"\0" + raw[i : i + row_bytes] for i in starts))
        rgb = convert(band.crop((0, 1, width, count + 1)))
        result.paste(rgb.reduce(factor), (0, top // factor))
    return result


def scale_transparent_level(image: Image.Image) -> None:
    """Correct the transparent gray level of an opened PNG file of 1, 2 or 4 bits: Pillow scales the pixels alone."""
    factor = {"1": 255, "L;2": 85, "L;4": 17}.get(str(image.tile[0].args) if image.tile else "", 1)
    if isinstance(image.info.get("transparency"), int) and image.mode != "P":
        image.info["transparency"] *= factor


def _samples(image: Image.Image) -> int:
    return len(image.getbands())


def _depth(image: Image.Image) -> int:
    rawmode = image.tile[0].args if image.tile else ""
    return 16 if "16" in str(rawmode) else 8


def _read_header(file: BinaryIO) -> tuple[bytes, bytes]:
    """The body of IHDR, and the chunks that say how to read pixels, as they are."""
    header, kept = b"", b""
    for kind, position, size in find_chunks(file):
        if kind == b"IDAT":
            break
        if kind in (b"IHDR", *_KEPT):
            file.seek(position)
            chunk = file.read(size + 12)
            header, kept = (chunk[8:-4], kept) if kind == b"IHDR" else (header, kept + chunk)
    return header, kept


def _bands(file: BinaryIO, rows: int, row_bytes: int, height: int) -> Iterator[tuple[int, bytes]]:
    """(first row, filtered rows) of each band. Raises OSError if the file ends before its last row."""
    stream, top, parts = _decompress(file), 0, bytearray()
    while top < height:
        wanted = min(rows, height - top) * (row_bytes + 1)
        while len(parts) < wanted:
            part = next(stream, b"")
            if not part:
                raise OSError("image file is truncated")
            parts += part
        yield top, bytes(parts[:wanted])
        del parts[:wanted]
        top += rows


def _decompress(file: BinaryIO) -> Iterator[bytes]:
    decompressor = zlib.decompressobj()
    for kind, position, size in find_chunks(file):
        if kind != b"IDAT":
            continue
        for start in range(0, size, _PART):
            file.seek(position + 8 + start)
            data = file.read(min(_PART, size - start))
            while data:
                if part := decompressor.decompress(data, _BAND):
                    yield part
                data = decompressor.unconsumed_tail


def _open(header: bytes, height: int, kept: bytes, rows: bytes) -> Image.Image:
    """Rows as an image; they are not compressed."""
    header = header[:4] + struct.pack(">I", height) + header[8:]
    content = (
        _SIGNATURE + _chunk(b"IHDR", header) + kept + _chunk(b"IDAT", zlib.compress(rows, 0)) + _chunk(b"IEND", b"")
    )
    image = PngImagePlugin.PngImageFile(io.BytesIO(content))
    scale_transparent_level(image)
    image.load()
    return image


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
