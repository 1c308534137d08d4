"""Limits for media files, and detection of their kind from the content before anything decodes them.

File names and extensions are never trusted. Only the kinds in KINDS reach a decoder, each only its own. Playlists,
manifests and vector images, which can refer to other files, are refused here.
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
from x2i_app.media.audio_frames import find_audio_frames

MediaModality = Literal["image", "video", "audio"]


@dataclass(frozen=True)
class MediaCaps:
    """Limits for media. Sides and areas are in pixels, sizes in bytes, durations in seconds; all are inclusive.

    image_pixels, image_side: area and longer side of an image; a larger one is scaled down to them while it is read.
    streamed_pixels, whole_pixels, source_side: the same of a file, beyond which it is refused: of one that is decoded
    in parts (JPEG, PNG), of any other, and of both. video_side: longer side of a video.
    video_frames: frames that are sampled. frame_pixels: area of a sampled frame; larger frames are scaled down to it.
    file_bytes: size of a file. child_bytes, child_seconds, child_file_bytes: address space, wall time and written
    bytes of a decoder process.
    """

    image_pixels: int = 25_000_000
    image_side: int = 8192
    streamed_pixels: int = 150_000_000
    whole_pixels: int = 50_000_000
    source_side: int = 65_500
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
    """A kind of file: its usual name, its modality, and the only ffmpeg demuxer that may open it, if any.

    in_libsndfile: libsndfile reads most files of this kind, so it is tried before ffmpeg.
    has_index: a cut file of this kind has lost what says where its parts are. Other kinds can be read up to the cut.
    """

    name: str
    modality: MediaModality
    demuxer: str | None = None
    in_libsndfile: bool = False
    has_index: bool = False


KINDS: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind("PNG", "image"),
        Kind("JPEG", "image"),
        Kind("WebP", "image"),
        Kind("GIF", "image"),
        Kind("BMP", "image"),
        Kind("TIFF", "image"),
        Kind("HEIC", "image"),
        Kind("AVIF", "image"),
        Kind("MP4", "video", "mov", has_index=True),
        Kind("WebM", "video", "matroska"),
        Kind("AVI", "video", "avi", has_index=True),
        Kind("WMV", "video", "asf"),
        Kind("FLV", "video", "flv"),
        Kind("MPEG", "video", "mpeg"),
        Kind("TS", "video", "mpegts"),
        Kind("OGV", "video", "ogg"),
        Kind("MXF", "video", "mxf"),
        Kind("WAV", "audio", "wav", in_libsndfile=True),
        Kind("FLAC", "audio", "flac", in_libsndfile=True),
        Kind("OGG", "audio", "ogg", in_libsndfile=True),
        Kind("MP3", "audio", "mp3", in_libsndfile=True),
        Kind("AIFF", "audio", "aiff", in_libsndfile=True),
        Kind("CAF", "audio", "caf", in_libsndfile=True),
        Kind("AU", "audio", "au", in_libsndfile=True),
        Kind("W64", "audio", "w64", in_libsndfile=True),
        Kind("M4A", "audio", "mov", has_index=True),
        Kind("AAC", "audio", "aac"),
        Kind("AMR", "audio", "amr"),
        Kind("WMA", "audio", "asf"),
        Kind("AC-3", "audio", "ac3"),
        Kind("E-AC-3", "audio", "eac3"),
        Kind("DTS", "audio", "dts"),
        Kind("WavPack", "audio", "wv"),
    )
}

_ALLOWED: dict[MediaModality | None, str] = {
    "image": "a PNG, JPEG, WebP, HEIC, AVIF, GIF, BMP or TIFF image",
    "video": "an MP4, MOV, WebM, MKV, AVI, WMV, FLV, MPEG or TS video, or an animated GIF or WebP",
    "audio": "a WAV, FLAC, OGG, MP3, M4A, AAC, AIFF, CAF, AMR, WMA or AC-3 audio file, or a video with audio",
    None: "a common image, video or audio file, such as PNG, MP4 or WAV",
}

# The kinds that each modality is read from. A GIF or WebP can be an animation, and a video can have audio. The head of
# a WMV file can be too long to show that it has video.
_READ_FROM: dict[MediaModality, frozenset[str]] = {
    "image": frozenset(k.name for k in KINDS.values() if k.modality == "image"),
    "video": frozenset(k.name for k in KINDS.values() if k.modality == "video") | {"GIF", "WebP", "WMA"},
    "audio": frozenset(k.name for k in KINDS.values() if k.modality in ("audio", "video")),
}

_HEAD_BYTES = 4096
_DIB_HEADERS = (12, 40, 52, 56, 64, 108, 124)  # possible header sizes of a BMP, to tell it from text that starts "BM"
_QUICKTIME_ATOMS = (b"moov", b"mdat", b"wide", b"free", b"skip")
_AVIF_BRANDS = (b"avif", b"avis")
_HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs")
_STILL_BRANDS = (b"mif1", b"msf1", b"miaf")  # of both; the compatible brands, which follow, say which it is
_ASF = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")  # GUIDs of an ASF file and of its video streams
_MXF = bytes.fromhex("060e2b34020501010d010201")  # key of a partition
_ASF_VIDEO = bytes.fromhex("c0ef19bc4d5bcf11a8fd00805f5c442b")
_DURATION_TOLERANCE = 0.5  # seconds; containers round up the duration of a clip that was cut to exactly the limit


def is_path(source: Any) -> bool:
    """Whether `source` is a path, and not media in memory."""
    return isinstance(source, (str, os.PathLike))


def show_name(path: Any) -> str:
    """The name of a file for messages: without its folder, quoted, shortened, control characters escaped."""
    text = os.fsdecode(path)
    name = Path(text).name or text
    return repr(name if len(name) <= 80 else f"{name[:60]}...{name[-16:]}")


def show_value(value: Any) -> str:
    """A value of any type for messages: a number as it is, everything else by its type."""
    if value is not None and not isinstance(value, Real):
        return f"a value of type {type(value).__name__}"
    return request.show_value(value)


def sniff(source: str | os.PathLike | bytes, modality: MediaModality | None = None, caps: MediaCaps = CAPS) -> Kind:
    """Detect the kind of a file from its content; its name is ignored.

    source: path, or content. modality: what will be read from it; None allows every kind.
    Raises MediaError if the file does not exist, is not a regular file, is empty or larger than the limit, or is of a
    kind that is not allowed; the message says which kinds are.
    """
    if isinstance(source, bytes):
        name, head = "The file", source[:_HEAD_BYTES]
        _check_bytes(name, len(source), caps)
    else:
        name, head = show_name(source), _read_head(source, caps)
    kind = _detect(head)
    if kind is None:
        raise MediaError(f"{name} is {_describe(head)}; use {_ALLOWED[modality]} instead.")
    if modality is not None and kind.name not in _READ_FROM[modality]:
        what = "audio file" if kind.modality == "audio" else kind.modality
        raise MediaError(f"{name} is {_with_article(kind.name)} {what}; use {_ALLOWED[modality]} instead.")
    return kind


def check_duration(name: str, seconds: float, allowed: float) -> None:
    """Raise MediaError for media that are longer than `allowed` seconds. name: as it appears in the message."""
    if not seconds <= allowed + _DURATION_TOLERANCE:
        raise MediaError(f"{name} lasts {seconds:,.1f} s; up to {allowed:g} s are allowed, so cut out a part of it.")


def check_size(name: str, width: int, height: int, side: int, pixels: int | None = None) -> None:
    """Raise MediaError for an empty image, or one with a side above `side` or an area above `pixels`, in pixels."""
    if width < 1 or height < 1:
        raise MediaError(f"{name} is {width} x {height} pixels; an image needs at least one pixel.")
    if max(width, height) > side:
        raise MediaError(
            f"{name} is {width:,} x {height:,} pixels; up to {side:,} per side are allowed, so scale it down."
        )
    if pixels is not None and width * height > pixels:
        raise MediaError(
            f"{name} is {width:,} x {height:,} pixels; up to {pixels:,} pixels are allowed, so scale it down."
        )


def _read_head(path, caps):
    name = show_name(path)
    try:
        status = Path(os.fsdecode(path)).stat()
    except (FileNotFoundError, NotADirectoryError, ValueError):  # ValueError: a NUL or a lone surrogate in the path
        raise MediaError(f"There is no file called {name}; check its path.") from None
    except OSError as error:
        raise MediaError(f"{name} cannot be opened ({error.strerror}); check its path and permissions.") from None
    if stat.S_ISDIR(status.st_mode):
        raise MediaError(f"{name} is a folder; choose one file.")
    if not stat.S_ISREG(status.st_mode):  # opening a pipe would block
        raise MediaError(f"{name} is not a regular file; choose a regular file.")
    _check_bytes(name, status.st_size, caps)
    try:
        with Path(os.fsdecode(path)).open("rb") as file:
            head = file.read(_HEAD_BYTES)
            if head.startswith(b"ID3") and len(head) > 10:  # tags, which can be long, before MP3, AAC or FLAC
                file.seek(10 + sum((byte & 127) << 7 * place for place, byte in enumerate(reversed(head[6:10]))))
                return head[:10] + file.read(_HEAD_BYTES)
            return head
    except OSError as error:
        raise MediaError(f"{name} cannot be opened ({error.strerror}); check its permissions.") from None


def _check_bytes(name, size, caps):
    if size == 0:
        raise MediaError(f"{name} is empty (0 bytes); choose another file.")
    if size > caps.file_bytes:
        raise MediaError(f"{name} has {size:,} bytes; up to {caps.file_bytes:,} are allowed, so use a smaller file.")


def _detect(head):
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
    if head.startswith((b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+")):
        return "TIFF"
    if head[:2] == b"BM" and int.from_bytes(head[14:18], "little") in _DIB_HEADERS:
        return "BMP"
    return _heif_name(head) if head[4:8] == b"ftyp" else None


def _heif_name(head):
    brands = [head[8:12]]
    if brands[0] in _STILL_BRANDS:
        size = int.from_bytes(head[:4], "big")
        brands += [head[start : start + 4] for start in range(16, min(size, 256), 4)]
    found = ("AVIF" if brand in _AVIF_BRANDS else "HEIC" for brand in brands if brand in _AVIF_BRANDS + _HEIC_BRANDS)
    return next(found, None)


def _video_name(head):
    if head[4:8] == b"ftyp" and head[8:12] not in _STILL_BRANDS:
        return "M4A" if head[8:12] in (b"M4A ", b"M4B ") else "MP4"
    if head[4:8] in _QUICKTIME_ATOMS:  # old QuickTime files have no `ftyp`
        return "MP4"
    if head.startswith(b"\x1a\x45\xdf\xa3"):
        return "WebM"
    if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
        return "AVI"
    if head.startswith(_ASF):
        return "WMV" if _ASF_VIDEO in head else "WMA"
    if head.startswith(b"FLV\x01"):
        return "FLV"
    if head.startswith(_MXF):
        return "MXF"
    if head.startswith(b"\x00\x00\x01\xba"):
        return "MPEG"
    if any(head[start : start + 3 * size : size] == b"GGG" for start, size in ((0, 188), (4, 192))):
        return "TS"  # packets of 188 bytes, from camcorders 192, each with a sync byte
    if head.startswith(b"OggS") and b"\x80theora" in head[:256]:
        return "OGV"
    return None


_AUDIO_SIGNATURES = {
    b"fLaC": "FLAC",
    b"OggS": "OGG",
    b"caff": "CAF",
    b".snd": "AU",
    b"#!AMR": "AMR",
    b"riff.\x91": "W64",
    b"wvpk": "WavPack",
    b"\x7f\xfe\x80\x01": "DTS",
}


def _audio_name(head):
    if head[:4] in (b"RIFF", b"RF64") and head[8:12] == b"WAVE":
        return "WAV"
    if head[:4] == b"FORM" and head[8:12] in (b"AIFF", b"AIFC"):
        return "AIFF"
    for signature, name in _AUDIO_SIGNATURES.items():
        if head.startswith(signature):
            return name
    if head.startswith(b"ID3"):
        return _audio_name(head[10:]) or "MP3"
    return find_audio_frames(head) or ("MP3" if _is_mp3_frame(head) else None)


def _is_mp3_frame(head):
    """Whether this is an MPEG audio frame header: sync bits, version, layer 3, valid bit rate and sampling rate."""
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return False
    version, layer = head[1] >> 3 & 3, head[1] >> 1 & 3
    return version != 1 and layer == 1 and head[2] >> 4 not in (0, 15) and head[2] >> 2 & 3 != 3


# Descriptions of refused files. The first pattern found in the first bytes of the file is used.
_REFUSED = (
    (rb"\A(\xef\xbb\xbf)?\s*#EXTM3U", "an HLS playlist"),
    (rb"\A(\xef\xbb\xbf)?\s*ffconcat", "an ffmpeg concat list"),
    (rb"\A(\xef\xbb\xbf)?\s*v=0", "an SDP session description"),
    (rb"(?i)<MPD\b", "a DASH manifest"),
    (rb"(?i)<svg\b", "an SVG drawing"),
    (rb"(?i)<(!doctype html|html)\b", "a web page (HTML)"),
    (rb"\Aversion https://git-lfs", "a Git LFS pointer instead of the file itself"),
    (rb"\A8BPS", "a Photoshop file (PSD)"),
    (rb"\A(%!PS|\xc5\xd0\xd3\xc6)", "a PostScript file (EPS)"),
    (rb"\ASIMPLE  =", "a FITS image"),
    (rb"\A%PDF", "a PDF document"),
    (rb"\APK\x03\x04", "a ZIP archive"),
    (rb"\A....ftyp", "a HEIF image that is neither HEIC nor AVIF"),
    (rb"\A[^\x00-\x08\x0e-\x1f]+\Z", "a text file"),
)


def _describe(head):
    for pattern, what in _REFUSED:
        if re.search(pattern, head, re.DOTALL):
            return what
    return "of an unknown kind"


def _with_article(name):
    return f"{'an' if name[0] in 'AEMO' or name == 'FLV' else 'a'} {name}"
