"""Leaves long texts out of PNG files, because Pillow refuses the whole image for one of them."""

import io
import zlib
from typing import BinaryIO

from PIL import PngImagePlugin

_SIGNATURE_BYTES = 8
_FRAME_BYTES = 12  # length, type and checksum of a chunk
_TEXTS = (b"zTXt", b"iTXt")  # the chunks that can be compressed


def without_long_texts(file: BinaryIO) -> BinaryIO:
    """The PNG file without texts that decompress to more than Pillow accepts (1 MB); `file` itself if it has none.

    Texts are decompressed up to that size only.
    """
    long_texts = list(_find_long_texts(file))
    file.seek(0)
    if not long_texts:
        return file
    content, parts, start = file.read(), [], 0
    for position, size in long_texts:
        parts.append(content[start:position])
        start = position + size
    return io.BytesIO(b"".join([*parts, content[start:]]))


def _find_long_texts(file):
    """(position, size) of each chunk with a long text, in bytes."""
    position = _SIGNATURE_BYTES
    while True:
        file.seek(position)
        header = file.read(8)
        if len(header) < 8 or header[4:] == b"IEND":
            return
        size = int.from_bytes(header[:4], "big")
        if header[4:] in _TEXTS and _is_long(header[4:], file.read(size)):
            yield position, size + _FRAME_BYTES
        position += size + _FRAME_BYTES


def _is_long(kind, body):
    _, _, rest = body.partition(b"\0")  # the keyword
    if kind == b"zTXt":
        compressed = rest[1:]  # after the method
    elif rest[:1] == b"\1":
        compressed = rest[2:].split(b"\0", 2)[-1]  # after flag, method, language and translated keyword
    else:
        return False
    decompressor = zlib.decompressobj()
    try:
        decompressor.decompress(compressed, PngImagePlugin.MAX_TEXT_CHUNK)
    except zlib.error:
        return False  # Pillow ignores such a text
    return bool(decompressor.unconsumed_tail)
