"""Hostile files, made by code, to upload in place of an image, a video or an audio file."""

import io
import struct
import subprocess
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import imageio_ffmpeg
import numpy as np
import soundfile
from PIL import Image

CANARY = b"x2i-canary"  # content of the secret file that playlists point to


class Hostile(NamedTuple):
    """A file: what is hostile in it, the endpoint to send it to, its name and its content."""

    what: str
    endpoint: str
    name: str
    content: bytes


def hostile_files(secret: Path) -> Iterator[Hostile]:
    """All hostile files. secret: a file of this machine that playlists point to."""
    yield from _images()
    yield from _not_images()
    yield from _playlists(secret)
    yield from _audios()
    yield from _videos()


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, bits: int = 8, color: int = 2, *chunks: bytes, data: bytes = b"") -> bytes:
    """A PNG with this header and any data."""
    header = struct.pack(">IIBBBBB", width, height, bits, color, 0, 0, 0)
    body = b"".join(chunks) + _chunk(b"IDAT", zlib.compress(data)) + _chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + body


def _save(image: Image.Image, form: str, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def _images() -> Iterator[Hostile]:
    text = _chunk(b"zTXt", b"Comment\x00\x00" + zlib.compress(b"a" * 50_000_000))
    profile = _chunk(b"iCCP", b"x\x00\x00" + zlib.compress(b"\x00" * 50_000_000))
    sizes = [(65_000, 65_000), (60_000_000, 1), (1, 60_000_000), (0, 0), (0, 5), (2**31 - 1, 2**31 - 1), (8193, 8)]
    for width, height in sizes:
        yield Hostile(f"PNG of {width} x {height}", "image_text", "a.png", png(width, height))
    yield Hostile("PNG of 177 MP in a bit each", "image_text", "a.png", png(13_300, 13_300, 1, 0, data=bytes(10**6)))
    yield Hostile("PNG of 16 bits and nothing", "image", "a.png", png(100, 100, 16, 6))
    yield Hostile("PNG of 3 bits", "image", "a.png", png(10, 10, 3, 0, data=bytes(100)))
    yield Hostile("PNG of color type 9", "image", "a.png", png(10, 10, 8, 9, data=bytes(400)))
    yield Hostile("PNG with a text bomb", "image", "a.png", png(2, 2, 8, 2, text, data=bytes(14)))
    yield Hostile("PNG with a profile bomb", "image", "a.png", png(2, 2, 8, 2, profile, data=bytes(14)))
    yield Hostile("PNG that unpacks to more", "image", "a.png", png(2, 2, data=bytes(50_000_000)))
    yield Hostile("PNG without a palette", "image", "a.png", png(4, 4, 8, 3, data=bytes(20)))
    gray = Image.effect_noise((60, 40), 80)
    for form in ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"):
        whole = _save(gray.convert("RGB"), form)
        name = f"a.{form.lower()}"
        for part in (4, 12, 40, len(whole) // 2):
            yield Hostile(f"{form} cut after {part} bytes", "image", name, whole[:part])
        middle = len(whole) // 2
        yield Hostile(
            f"{form} with noise inside", "image_text", name, whole[:30] + bytes(range(256)) * 4 + whole[middle:]
        )
        yield Hostile(f"{form} with wrong numbers", "fusion", name, whole[:10] + b"\xff" * 12 + whole[22:])
    frames = [Image.new("L", (8, 8), i % 256) for i in range(5000)]
    many = _save(frames[0], "GIF", save_all=True, append_images=frames[1:], duration=20)
    for endpoint in ("image", "video", "fusion"):
        yield Hostile("GIF of 5,000 frames", endpoint, "a.gif", many)
    exif = Image.Exif()
    exif[0x0112] = 99
    yield Hostile("JPEG of an unknown orientation", "image", "a.jpg", _save(gray, "JPEG", exif=exif))
    yield Hostile("JPEG with broken EXIF", "image", "a.jpg", _save(gray, "JPEG", exif=b"Exif\x00\x00" + b"\xff" * 64))
    yield Hostile("JPEG of 65,000 pixels a side", "image", "a.jpg", _jpeg_of(65_000))
    circle = b"II*\x00\x08\x00\x00\x00" + struct.pack("<H", 1) + bytes(12) + struct.pack("<I", 8)
    yield Hostile("TIFF whose directory links to itself", "image", "a.tif", circle)


def _jpeg_of(side: int) -> bytes:
    whole = bytearray(_save(Image.new("RGB", (8, 8)), "JPEG"))
    at = whole.index(b"\xff\xc0")
    whole[at + 5 : at + 9] = struct.pack(">HH", side, side)
    return bytes(whole)


def _not_images() -> Iterator[Hostile]:
    contents = {
        "nothing": b"",
        "one byte": b"\x00",
        "zeros": bytes(5000),
        "a PSD": b"8BPS\x00\x01" + bytes(100),
        "a FITS": b"SIMPLE  =                    T" + b" " * 3000,
        "an EPS that runs": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(/etc/passwd) (r) file\n",
        "an SVG": b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>',
        "an SVG with entities": b'<!DOCTYPE s [<!ENTITY a SYSTEM "file:///etc/passwd">]><svg>&a;</svg>',
        "a web page": b"<!doctype html><script>fetch('/')</script>",
        "a PDF": b"%PDF-1.7\n" + bytes(100),
        "a ZIP": b"PK\x03\x04" + bytes(100),
        "a pickle": b"\x80\x04\x95" + bytes(40),
        "an LFS pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n",
        "an ICO": b"\x00\x00\x01\x00\x01\x00" + bytes(60),
        "a HEIC": b"\x00\x00\x00\x18ftypheic" + bytes(60),
        "an ELF program": b"\x7fELF" + bytes(200),
    }
    for what, content in contents.items():
        yield Hostile(f"{what} as an image", "image_text", "a.png", content)
        yield Hostile(f"{what} in a mix", "fusion", "a.jpg", content)


def _playlists(secret: Path) -> Iterator[Hostile]:
    for place in (f"file://{secret}", str(secret), "http://127.0.0.1:9/a.ts"):
        kinds = {
            "an HLS playlist": f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{place}\n#EXT-X-ENDLIST\n",
            "a DASH manifest": f'<?xml version="1.0"?><MPD type="static"><BaseURL>{place}</BaseURL></MPD>',
            "a concat list": f"ffconcat version 1.0\nfile '{place}'\n",
            "an SDP description": f"v=0\no=- 0 0 IN IP4 127.0.0.1\nu={place}\nm=video 9 RTP/AVP 96\n",
        }
        for what, text in kinds.items():
            yield Hostile(f"{what} with {place[:8]}", "video", "a.mp4", text.encode())
            yield Hostile(f"{what} with {place[:8]}", "audio", "a.wav", text.encode())
            # ffmpeg must not find the playlist behind an allowed signature either.
            yield Hostile(
                f"{what} after the start of an MP4", "fusion", "a.mp4", b"\x00\x00\x00\x18ftypisom" + text.encode()
            )


def _audios() -> Iterator[Hostile]:
    def written(samples, form: str, subtype: str | None = None, rate: int = 16_000) -> bytes:
        file = io.BytesIO()
        soundfile.write(file, samples, rate, subtype, format=form)
        return file.getvalue()

    long = written(np.zeros(8000 * 700, np.int16), "FLAC", rate=8000)
    wav = written(np.zeros(1600, np.float32), "WAV")
    not_a_number = np.full(16_000, np.nan, np.float32)
    yield Hostile("FLAC of 700 s of silence", "audio", "a.flac", long)
    yield Hostile("WAV of not-a-number", "audio", "a.wav", written(not_a_number, "WAV", "FLOAT"))
    yield Hostile("WAV without samples", "audio", "a.wav", written(np.zeros(0, np.float32), "WAV"))
    yield Hostile("WAV that claims 4 GB", "audio", "a.wav", wav[:40] + b"\xff\xff\xff\x7f" + wav[44:])
    yield Hostile("WAV of no channels", "audio", "a.wav", wav[:22] + b"\x00\x00" + wav[24:])
    yield Hostile("WAV of 0 Hz", "audio", "a.wav", wav[:24] + bytes(4) + wav[28:])
    yield Hostile("WAV of 4 GHz", "audio", "a.wav", wav[:24] + b"\xff\xff\xff\xff" + wav[28:])
    for form in ("FLAC", "OGG", "MP3"):
        whole = written(np.sin(np.arange(16_000) / 9).astype(np.float32), form)
        yield Hostile(f"{form} cut in half", "audio", f"a.{form.lower()}", whole[: len(whole) // 2])
        yield Hostile(f"{form} with noise inside", "fusion", f"a.{form.lower()}", whole[:200] + bytes(range(256)) * 8)
    yield Hostile("MP3 with a tag of 256 MB", "audio", "a.mp3", b"ID3\x04\x00\x00\x7f\x7f\x7f\x7f" + bytes(50))


def _video(*options: str, suffix: str = "mp4") -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"a.{suffix}"
        command = [imageio_ffmpeg.get_ffmpeg_exe(), "-nostdin", "-v", "error", "-f", "lavfi", *options, str(path)]
        subprocess.run(command, check=True, timeout=60)
        return path.read_bytes()


def _videos() -> Iterator[Hostile]:
    video = _video("-i", "testsrc=s=64x48:r=10:d=1", "-pix_fmt", "yuv420p")
    yield Hostile("video of 70 s", "video", "a.mp4", _video("-i", "color=s=16x16:r=1:d=70", "-pix_fmt", "yuv420p"))
    yield Hostile("video 5,000 pixels wide", "video", "a.mkv", _video("-i", "color=s=5000x16:r=1:d=1", suffix="mkv"))
    yield Hostile("video of 1,000 frames/s", "video", "a.mkv", _video("-i", "color=s=16x16:r=1000:d=3", suffix="mkv"))
    yield Hostile("audio as a video", "video", "a.mp4", _video("-i", "sine=d=1"))
    yield Hostile("video without audio as audio", "audio", "a.m4a", video)
    for part in (12, 100, len(video) // 2, len(video) - 50):
        yield Hostile(f"video cut after {part} bytes", "video", "a.mp4", video[:part])
    at = video.index(b"moov")
    yield Hostile("video with a huge atom", "video", "a.mp4", video[: at - 4] + b"\xff\xff\xff\xff" + video[at:])
    yield Hostile("video whose first atom has length 0", "video", "a.mp4", bytes(4) + video[4:])
    yield Hostile("AVI without content", "video", "a.avi", b"RIFF\xff\xff\xff\xffAVI " + bytes(400))
    yield Hostile("WebM without content", "video", "a.webm", b"\x1a\x45\xdf\xa3" + bytes(400))
    yield Hostile("WebM of endless size", "video", "a.webm", b"\x1a\x45\xdf\xa3\x01" + b"\xff" * 400)
