"""Edit lists of MP4 and MOV files: which part of a track is shown (ISO/IEC 14496-12, 8.6.6).

Phones trim a video by its edit list, and the hidden part stays in the file. ffmpeg's demuxer marks hidden packets for
its decoders, but a copy of the packets loses the marks.
"""

import os
import struct
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Literal

_MOST_BOXES = 200  # of one level that are looked at
_MOST_EDITS = 10_000
_HANDLERS = {"video": b"vide", "audio": b"soun"}
_Box = tuple[bytes, int, int]  # name, first byte and end of its content


def shown_seconds(path: str | os.PathLike, stream: Literal["video", "audio"]) -> float | None:
    """How much of the first track of a type the file's edit list shows, in seconds; None if it has no edit list.

    None too for an edit list that shows the rest of its track, as those of fragmented files do, and for a damaged one.
    """
    with suppress(OSError, struct.error), Path(os.fsdecode(path)).open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        moov = _find(file, (b"", 0, size), b"moov")
        header = moov and _find(file, moov, b"mvhd")
        if not header:
            return None
        units_per_second = _time_scale(file, header)
        for track in _boxes(file, moov[1], moov[2]):
            if track[0] == b"trak" and _handler(file, track) == _HANDLERS[stream]:
                edits = _find(file, track, b"edts", b"elst")
                return _sum(file, edits) / units_per_second or None if edits and units_per_second else None
    return None


def _boxes(file: BinaryIO, start: int, end: int) -> Iterator[_Box]:
    for _ in range(_MOST_BOXES):
        if end - start < 8:
            return
        file.seek(start)
        length, name = struct.unpack(">I4s", file.read(8))
        content = start + 8
        if length == 1:  # the length follows in 64 bits
            (length,) = struct.unpack(">Q", file.read(8))
            content += 8
        following = start + length if length else end
        if not content <= following <= end:
            return
        yield name, content, following
        start = following


def _find(file: BinaryIO, box: _Box, *names: bytes) -> _Box | None:
    """The box at a path of names, each the first of its name in the one before."""
    for name in names:
        found = next((each for each in _boxes(file, box[1], box[2]) if each[0] == name), None)
        if found is None:
            return None
        box = found
    return box


def _time_scale(file: BinaryIO, header: _Box) -> int:
    file.seek(header[1])
    (version,) = struct.unpack("B3x", file.read(4))
    file.seek(16 if version == 1 else 8, os.SEEK_CUR)  # times of creation and change
    return struct.unpack(">I", file.read(4))[0]


def _handler(file: BinaryIO, track: _Box) -> bytes:
    found = _find(file, track, b"mdia", b"hdlr")
    if not found:
        return b""
    file.seek(found[1] + 8)
    return file.read(4)


def _sum(file: BinaryIO, edits: _Box) -> float:
    """Units of time that the edits show; 0 if one of them has no end. Empty edits only delay what follows."""
    file.seek(edits[1])
    version, count = struct.unpack(">B3xI", file.read(8))
    entry = struct.Struct(">Qq4x" if version == 1 else ">Ii4x")
    shown = [entry.unpack(file.read(entry.size)) for _ in range(min(count, _MOST_EDITS))]
    lengths = [length for length, begin in shown if begin != -1]
    return sum(lengths) if all(lengths) else 0
