"""The texts of a PNG file: read within limits, and left out where one of them makes Pillow refuse the whole image.

`image_texts.py` reads those of every format, and `metadata.py` says what they mean.
"""

import io
import zlib
from collections.abc import Iterator
from itertools import islice
from typing import BinaryIO

from PIL import PngImagePlugin

_SIGNATURE_BYTES = 8
_FRAME_BYTES = 12  # length, type and checksum of a chunk
_TEXTS = (b"tEXt", b"zTXt", b"iTXt")
_MAX_TEXTS = 64
_MAX_TEXT = 4 * 2**20  # bytes; a large graph of ComfyUI has about 1 MB
_MAX_ALL_TEXTS = PngImagePlugin.MAX_TEXT_MEMORY // 2


def without_long_texts(file: BinaryIO) -> BinaryIO:
    """The PNG file without what makes Pillow refuse the image: texts, and a color profile, of more than 1 MB.

    Texts of more than 32 MB together are left out too. All are decompressed up to these sizes only. Returns `file`
    itself if nothing is left out.
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


def read_texts(file: BinaryIO) -> dict[str, str]:
    """The texts of a PNG file by their keywords, the first of each; also those behind the pixels.

    At most 64 texts are read, and 4 MiB of each. A damaged or longer one is left out.
    """
    texts: dict[str, str] = {}
    for kind, body in islice(_find_texts(file), _MAX_TEXTS):
        keyword, _, rest = body.partition(b"\0")
        text = _text(kind, rest)
        if text is not None:
            texts.setdefault(keyword.decode("latin-1"), text)
    return texts


def read_profile(body: bytes, most: int) -> bytes | None:
    """The color profile in the body of an iCCP chunk; None if it is damaged or has more than `most` bytes."""
    decompressor = zlib.decompressobj()
    try:
        profile = decompressor.decompress(_compressed_part(b"iCCP", body.partition(b"\0")[2]), most)
    except zlib.error:
        return None
    return None if decompressor.unconsumed_tail else profile


def _text(kind: bytes, rest: bytes) -> str | None:
    compressed = _compressed_part(kind, rest)
    if compressed is None:
        return _decode(rest[2:].split(b"\0", 2)[-1] if kind == b"iTXt" else rest)
    decompressor = zlib.decompressobj()
    try:
        text = decompressor.decompress(compressed, _MAX_TEXT)
    except zlib.error:
        return None
    return None if decompressor.unconsumed_tail else _decode(text)


def _decode(text: bytes) -> str:
    """As UTF-8, which programs also write where the format says Latin-1."""
    try:
        return text.decode("utf-8")
    except UnicodeDecodeError:
        return text.decode("latin-1")


def _find_texts(file: BinaryIO) -> Iterator[tuple[bytes, bytes]]:
    """(kind, body) of each text chunk of at most 4 MiB."""
    for kind, position, size in find_chunks(file):
        if kind in _TEXTS and size <= _MAX_TEXT:
            file.seek(position + 8)
            yield kind, file.read(size)


def find_chunks(file: BinaryIO) -> Iterator[tuple[bytes, int, int]]:
    """(kind, position, size of the body) of each chunk before the end."""
    position = _SIGNATURE_BYTES
    while True:
        file.seek(position)
        header = file.read(8)
        if len(header) < 8 or header[4:] == b"IEND":
            return
        size = int.from_bytes(header[:4], "big")
        yield header[4:], position, size
        position += size + _FRAME_BYTES


def _find_long_texts(file: BinaryIO) -> Iterator[tuple[int, int]]:
    """(position, size) in bytes of each chunk with a long text, and of each one after too many others."""
    total = 0
    for kind, position, size in find_chunks(file):
        if kind not in (*_TEXTS, b"iCCP"):
            continue
        file.seek(position + 8)
        length = size if size > _MAX_TEXT else _length(kind, file.read(size))
        total += length
        if length > PngImagePlugin.MAX_TEXT_CHUNK or total > _MAX_ALL_TEXTS:
            yield position, size + _FRAME_BYTES


def _length(kind: bytes, body: bytes) -> int:
    """Bytes of a text without compression; 1 more than Pillow accepts stands for all longer ones."""
    _, _, rest = body.partition(b"\0")  # the keyword
    compressed = _compressed_part(kind, rest)
    if compressed is None:
        return len(rest)
    decompressor = zlib.decompressobj()
    try:
        text = decompressor.decompress(compressed, PngImagePlugin.MAX_TEXT_CHUNK)
    except zlib.error:
        return 0  # Pillow ignores such a text
    return len(text) + bool(decompressor.unconsumed_tail)


def _compressed_part(kind: bytes, rest: bytes) -> bytes | None:
    """What follows the keyword, without the fields before the compressed text; None if it is not compressed."""
    if kind in (b"zTXt", b"iCCP"):
        return rest[1:]  # after the method
    if kind == b"iTXt" and rest[:1] == b"\1":
        return rest[2:].split(b"\0", 2)[-1]  # after flag, method, language and translated keyword
    return None
