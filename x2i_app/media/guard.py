"""What media files may be, and what they are: caps, and a look at the content before anything decodes it.

Names and extensions are never trusted. Only the kinds listed in KINDS go on to a decoder, and each only to its own:
playlists, manifests and vector images, which can point at other files, stop here.
"""

import os
import re
import stat
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import Any, Literal

from x2i_app import request
from x2i_app.errors import MediaError

MediaModality = Literal["image", "video", "audio"]


@dataclass(frozen=True)
class MediaCaps:
    """The largest media that are accepted. Sides and areas are in pixels, sizes in bytes, durations in seconds.

    frame_pixels: area of one video frame in memory; larger frames are scaled down to it.
    child_bytes, child_seconds: address space and wall time of one decoder; child_file_bytes: what it may write.
    """

    image_pixels: int = 25_000_000
    image_side: int = 8192
    video_seconds: float = 60
    video_frames: int = 32
    video_side: int = 4096
    frame_pixels: int = 1920 * 1080
    audio_seconds: float = 600
    file_bytes: int = 110_000_000
    child_bytes: int = 2 * 2**30
    child_file_bytes: int = 10**9
    child_seconds: float = 30


CAPS = MediaCaps()


@dataclass(frozen=True)
class Kind:
    """A kind of file: what people call it, what it holds, and the ffmpeg demuxer that may open it, if any does."""

    name: str
    modality: MediaModality
    demuxer: str | None = None


KINDS: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind("PNG", "image"),
        Kind("JPEG", "image"),
        Kind("WebP", "image"),
        Kind("GIF", "image"),
        Kind("BMP", "image"),
        Kind("TIFF", "image"),
        Kind("MP4", "video", "mov"),
        Kind("WebM", "video", "matroska"),
        Kind("AVI", "video", "avi"),
        Kind("WAV", "audio"),
        Kind("FLAC", "audio"),
        Kind("OGG", "audio"),
        Kind("MP3", "audio"),
        Kind("M4A", "audio", "mov"),
    )
}

_ALLOWED: dict[MediaModality | None, str] = {
    "image": "a PNG, JPEG, WebP, GIF, BMP or TIFF image",
    "video": "an MP4, MOV, WebM, MKV or AVI video, or an animated GIF or WebP",
    "audio": "a WAV, FLAC, OGG, MP3 or M4A sound, or a video that has sound",
    None: "a common image, video or sound, such as PNG, MP4 or WAV",
}

# What each modality is read from. A GIF or WebP may be a film, and a film has a sound track.
_READ_FROM: dict[MediaModality, frozenset[str]] = {
    "image": frozenset(k.name for k in KINDS.values() if k.modality == "image"),
    "video": frozenset(k.name for k in KINDS.values() if k.modality == "video") | {"GIF", "WebP"},
    "audio": frozenset(k.name for k in KINDS.values() if k.modality in ("audio", "video")),
}

_HEAD_BYTES = 4096
_DIB_HEADERS = (12, 40, 52, 56, 64, 108, 124)  # sizes of the header that follows "BM" and tells it from text
_QUICKTIME_ATOMS = (b"moov", b"mdat", b"wide", b"free", b"skip")
_STILL_BRANDS = (b"avif", b"avis", b"heic", b"heix", b"hevc", b"heim", b"mif1", b"msf1")
_CONTAINER_ROUNDING = 0.5  # seconds by which a cut to exactly the cap may come out longer


def is_path(source: Any) -> bool:
    """Whether `source` names a file, rather than being media itself."""
    return isinstance(source, (str, os.PathLike))


def show_name(path: Any) -> str:
    """The file's own name, quoted, short and free of control characters, fit for a message."""
    text = os.fsdecode(path)
    name = Path(text).name or text
    return repr(name if len(name) <= 80 else f"{name[:60]}...{name[-16:]}")


def show_value(value: Any) -> str:
    """How a message calls a value of any type and size: numbers as they are, everything else by its type."""
    if value is not None and not isinstance(value, Real):
        return f"a value of type {type(value).__name__}"
    return request.show_value(value)


def sniff(path: str | os.PathLike, modality: MediaModality | None = None, caps: MediaCaps = CAPS) -> Kind:
    """The kind of a file by its content, whatever its name says.

    modality: what the caller wants to read from it, or None for any of the kinds.
    Raises MediaError if there is no such regular file, if it is empty or larger than the cap, or if it is of another
    kind; the sentence says what came and what is allowed.
    """
    name = show_name(path)
    _check_file(path, name, caps)
    try:
        with Path(os.fsdecode(path)).open("rb") as file:
            head = file.read(_HEAD_BYTES)
    except OSError as error:
        raise MediaError(f"{name} cannot be opened ({error.strerror}); check its permissions.") from None
    kind = _recognise(head)
    if kind is None:
        raise MediaError(f"{name} is {_describe(head)}; send {_ALLOWED[modality]} instead.")
    if modality is not None and kind.name not in _READ_FROM[modality]:
        what = "sound" if kind.modality == "audio" else kind.modality
        raise MediaError(f"{name} is {_article(kind.name)} {what}; send {_ALLOWED[modality]} instead.")
    return kind


def check_duration(name: str, seconds: float, allowed: float) -> None:
    """Refuse media that last longer than `allowed` seconds, with both numbers."""
    if not seconds <= allowed + _CONTAINER_ROUNDING:
        raise MediaError(f"{name} lasts {seconds:,.1f} s and {allowed:g} s are allowed; cut out the part that matters.")


def check_size(name: str, width: int, height: int, side: int, pixels: int | None = None) -> None:
    """Refuse pictures without pixels or larger than `side` pixels a side or `pixels` in all, with the numbers."""
    if width < 1 or height < 1:
        raise MediaError(f"{name} is {width} x {height} pixels; a picture needs at least one.")
    if max(width, height) > side:
        raise MediaError(f"{name} is {width:,} x {height:,} pixels and {side:,} a side are allowed; scale it down.")
    if pixels is not None and width * height > pixels:
        raise MediaError(f"{name} is {width:,} x {height:,} pixels and {pixels:,} in all are allowed; scale it down.")


def _check_file(path, name, caps):
    try:
        status = Path(os.fsdecode(path)).stat()
    except (FileNotFoundError, NotADirectoryError, ValueError):  # ValueError: a NUL or half a character inside
        raise MediaError(f"There is no file called {name}; check its path.") from None
    except OSError as error:
        raise MediaError(f"{name} cannot be opened ({error.strerror}); check its path and permissions.") from None
    if stat.S_ISDIR(status.st_mode):
        raise MediaError(f"{name} is a folder; choose one file.")
    if not stat.S_ISREG(status.st_mode):  # opening a pipe would wait for ever
        raise MediaError(f"{name} is not a regular file; choose one.")
    if status.st_size == 0:
        raise MediaError(f"{name} is empty (0 bytes); send it again.")
    if status.st_size > caps.file_bytes:
        raise MediaError(
            f"{name} has {status.st_size:,} bytes and {caps.file_bytes:,} are allowed; send a smaller one."
        )


def _recognise(head):
    name = _image_name(head) or _video_name(head) or _audio_name(head)
    return KINDS[name] if name else None


def _image_name(head):
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if head.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WebP"
    if head.startswith((b"GIF87a", b"GIF89a")):
        return "GIF"
    if head.startswith((b"II*\x00", b"MM\x00*")):
        return "TIFF"
    if head[:2] == b"BM" and int.from_bytes(head[14:18], "little") in _DIB_HEADERS:
        return "BMP"
    return None


def _video_name(head):
    if head[4:8] == b"ftyp" and head[8:12] not in _STILL_BRANDS:
        return "M4A" if head[8:12] in (b"M4A ", b"M4B ") else "MP4"
    if head[4:8] in _QUICKTIME_ATOMS:  # QuickTime files from before `ftyp`
        return "MP4"
    if head.startswith(b"\x1a\x45\xdf\xa3"):
        return "WebM"
    if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
        return "AVI"
    return None


def _audio_name(head):
    if head[:4] in (b"RIFF", b"RF64") and head[8:12] == b"WAVE":
        return "WAV"
    if head.startswith(b"fLaC"):
        return "FLAC"
    if head.startswith(b"OggS"):
        return "OGG"
    if head.startswith(b"ID3") or _is_mp3_frame(head):
        return "MP3"
    return None


def _is_mp3_frame(head):
    """An MPEG audio frame header: sync, a version, layer 3, a possible bit rate and sampling rate."""
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return False
    version, layer = head[1] >> 3 & 3, head[1] >> 1 & 3
    return version != 1 and layer == 1 and head[2] >> 4 not in (0, 15) and head[2] >> 2 & 3 != 3


# First match names what came. Patterns are searched in the first bytes of the file.
_REFUSED = (
    (rb"\A(\xef\xbb\xbf)?\s*#EXTM3U", "an HLS playlist"),
    (rb"\A(\xef\xbb\xbf)?\s*ffconcat", "an ffmpeg concat list"),
    (rb"\A(\xef\xbb\xbf)?\s*v=0", "an SDP session description"),
    (rb"(?i)<MPD\b", "a DASH manifest"),
    (rb"(?i)<svg\b", "an SVG drawing"),
    (rb"(?i)<(!doctype html|html)\b", "a web page (HTML)"),
    (rb"\Aversion https://git-lfs", "a Git LFS pointer and not the file itself"),
    (rb"\A8BPS", "a Photoshop file (PSD)"),
    (rb"\A(%!PS|\xc5\xd0\xd3\xc6)", "a PostScript file (EPS)"),
    (rb"\ASIMPLE  =", "a FITS image"),
    (rb"\A%PDF", "a PDF document"),
    (rb"\APK\x03\x04", "a ZIP archive"),
    (rb"\A....ftyp", "a HEIC or AVIF image"),
    (rb"\A[^\x00-\x08\x0e-\x1f]+\Z", "a text file"),
)


def _describe(head):
    for pattern, what in _REFUSED:
        if re.search(pattern, head, re.DOTALL):
            return what
    return "of an unknown kind"


def _article(word):
    return f"{'an' if word[0] in 'AMO' else 'a'} {word}"
