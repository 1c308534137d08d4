"""The kind of a file is detected from its content; other kinds are refused in one sentence."""

import os
import re
import struct
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from PIL import Image

from x2i_app.media import CAPS, load_audio, load_image, load_video
from x2i_app.media.guard import KINDS, sniff

HEAVY = ("torch", "gradio", "moviepy", "soundfile", "soxr", "imageio_ffmpeg")

PLAYLISTS = {
    "hls": b"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n%(canary)s\n#EXT-X-ENDLIST\n",
    "hls with a mark": b"\xef\xbb\xbf\n#EXTM3U\n#EXTINF:9,\nhttp://169.254.169.254/x.ts\n",
    "dash": b'<?xml version="1.0"?>\n<MPD><Period><BaseURL>%(canary)s</BaseURL></Period></MPD>',
    "concat": b"ffconcat version 1.0\nfile '%(canary)s'\n",
    "sdp": b"v=0\no=- 0 0 IN IP4 127.0.0.1\nc=IN IP4 127.0.0.1\nm=video 5004 RTP/AVP 96\n",
    "svg": b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file://%(canary)s"/></svg>',
}
STRANGERS = {
    "a web page": b"<!doctype html><html><body>404</body></html>",
    "a Git LFS pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12\n",
    "Photoshop": b"8BPS\x00\x01" + bytes(40),
    "PostScript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
    "FITS": b"SIMPLE  =                    T" + b" " * 50,
    "PDF": b"%PDF-1.7\n",
    "ZIP": b"PK\x03\x04" + bytes(40),
    "HEIF": b"\x00\x00\x00\x18ftypmif1" + bytes(40),
    "a text file": "BM means nothing, 你好\n".encode(),
    "unknown kind": bytes(range(256)),
}
LOADERS = {".png": load_image, ".mp4": load_video, ".wav": load_audio}


@pytest.mark.parametrize("extension", LOADERS)
@pytest.mark.parametrize("kind", PLAYLISTS)
def test_playlists_are_refused_and_read_nothing(tmp_path, video, refused, kind, extension):
    canary = video(tmp_path / "canary.mp4", [9, 9])
    os.utime(canary, (1, 2))  # older than the change, so that reading would update it where access times are kept
    file = tmp_path / f"innocent{extension}"
    file.write_bytes(PLAYLISTS[kind].replace(b"%(canary)s", os.fsencode(canary)))
    refused(LOADERS[extension], file, contains="'innocent")
    assert canary.stat().st_atime == 1


@pytest.mark.parametrize("extension", LOADERS)
@pytest.mark.parametrize("what", STRANGERS)
def test_other_files_are_named(tmp_path, refused, what, extension):
    file = tmp_path / f"x{extension}"
    file.write_bytes(STRANGERS[what])
    refused(LOADERS[extension], file, contains=[what, f"'x{extension}'", "; use "])


@pytest.mark.parametrize("head", [b"\x00\x00\x00\x18ftypmp42", b"\x1a\x45\xdf\xa3", b"RIFF\x00\x00\x00\x00AVI "])
def test_a_playlist_with_a_video_signature_is_refused(tmp_path, samples, refused, head):
    body = f"\n#EXTM3U\n#EXTINF:9,\n{samples / 'both.mp4'}\nffconcat version 1.0\nfile '{samples / 'both.mp4'}'\n"
    (tmp_path / "x.mp4").write_bytes(head + body.encode())
    refused(load_video, tmp_path / "x.mp4")


def test_kind_is_detected_by_content(tmp_path, samples):
    for source, name in (("both.webm", "a.mp4"), ("tone.flac", "b.png"), ("tone.m4a", "c.wav"), ("both.mp4", "d.txt")):
        (tmp_path / name).write_bytes((samples / source).read_bytes())
    Image.new("RGB", (4, 4), "red").save(tmp_path / "e.mp3", "PNG")
    kinds = [sniff(tmp_path / name).name for name in ("a.mp4", "b.png", "c.wav", "d.txt", "e.mp3")]
    assert kinds == ["WebM", "FLAC", "M4A", "MP4", "PNG"]
    assert load_video(tmp_path / "a.mp4").frames.shape == (2, 48, 64, 3)
    assert load_image(tmp_path / "e.mp3").getpixel((0, 0)) == (255, 0, 0)
    assert load_audio(tmp_path / "b.png").duration == pytest.approx(2)


def test_mp3_with_and_without_tags(tmp_path, samples):
    plain = (samples / "tone.mp3").read_bytes()
    (tmp_path / "plain").write_bytes(plain)
    (tmp_path / "tagged").write_bytes(b"ID3\x04\x00\x00\x00\x00\x00\x0a" + bytes(10) + plain)
    assert sniff(tmp_path / "plain").name == sniff(tmp_path / "tagged").name == "MP3"
    assert load_audio(tmp_path / "tagged").duration == pytest.approx(2, abs=0.1)


@pytest.mark.parametrize("header", ["ff fb 90 00", "ff f3 90 00", "ff e3 90 00"])
def test_headers_of_mp3_frames(tmp_path, refused, header):
    """MPEG 1, 2 and 2.5; other sync bits, the reserved version, other layers, bit rates and sampling rates are none."""
    path, good = tmp_path / "a", bytes.fromhex(header)
    path.write_bytes(good)
    assert sniff(path).name == "MP3"
    for at, bits in ((0, 0x01), (1, 0x80), (1, 0x02), (1, 0x06), (2, 0xF0), (2, 0x0C)):
        other = bytearray(good)
        other[at] = other[at] & ~bits if at < 2 else other[at] | bits
        path.write_bytes(other)
        refused(sniff, path)
    path.write_bytes(bytes((0xFF, 0xEB, *good[2:])))  # the reserved version
    refused(sniff, path)


def test_the_wrong_modality_is_refused(tmp_path, samples, refused):
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    refused(load_video, tmp_path / "a.png", contains=["'a.png' is a PNG image", "MP4"])
    refused(load_audio, tmp_path / "a.png", contains=["a PNG image", "WAV"])
    refused(load_image, samples / "both.mp4", contains=["an MP4 video", "JPEG"])
    refused(load_image, samples / "tone.wav", contains=["a WAV audio file", "JPEG"])
    refused(load_video, samples / "tone.m4a", contains=["an M4A audio file", "WebM"])


@pytest.mark.parametrize("load", LOADERS.values())
def test_invalid_paths(tmp_path, refused, load):
    (tmp_path / "empty.png").touch()
    os.mkfifo(tmp_path / "pipe")
    refused(load, tmp_path / "missing.png", contains="no file called 'missing.png'")
    refused(load, str(tmp_path / "a\0b.png"), contains=r"'a\x00b.png'")
    refused(load, "half a \ud800 character", contains="no file")
    refused(load, "http://169.254.169.254/latest", contains="no file called 'latest'")
    refused(load, tmp_path, contains="is a folder")
    refused(load, "", contains="is a folder")
    refused(load, tmp_path / "empty.png", contains="0 bytes")
    refused(load, tmp_path / "pipe", contains="not a regular file")
    refused(load, "/dev/zero", contains="not a regular file")
    refused(load, tmp_path / ("x" * 5000), contains="...")


@pytest.mark.parametrize("name", ["a\nb\x1b[31m.png", "\u202egnp.exe", "<img onerror=x>.png", "'quoted'.png"])
def test_control_characters_in_names_are_escaped(tmp_path, refused, name):
    (tmp_path / name).write_bytes(b"no image")
    message = refused(load_image, tmp_path / name, contains=repr(name))
    assert str(tmp_path) not in message


def test_file_size_limit(tmp_path, refused):
    """A file of exactly the limit is accepted."""
    with (tmp_path / "large.mp4").open("wb") as file:
        file.truncate(CAPS.file_bytes + 1)
    for load in LOADERS.values():
        refused(load, tmp_path / "large.mp4", contains=["110,000,001", "110,000,000"])
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    size = (tmp_path / "a.png").stat().st_size
    for source in (tmp_path / "a.png", (tmp_path / "a.png").read_bytes()):
        assert load_image(source, replace(CAPS, file_bytes=size)).size == (4, 4)
        refused(load_image, source, replace(CAPS, file_bytes=size - 1), contains=f"{size} bytes")


@pytest.mark.parametrize(
    ("brands", "kind"),
    [
        *((brand, "HEIC") for brand in ("heic", "heix", "hevc", "heim", "mif1heic", "msf1hevc", "mif1miafheic")),
        *((brand, "AVIF") for brand in ("avif", "avis", "mif1avif", "mif1mif1miafavif")),
        *((brand, None) for brand in ("mif1", "msf1jpeg")),
    ],
)
def test_heif_brands(tmp_path, refused, brands, kind):
    """HEIF files have the same signature as MP4; only their brands differ: the major one, and the compatible ones."""
    brands = brands[:4].encode() + bytes(4) + brands[4:].encode()
    content = struct.pack(">I", 8 + len(brands)) + b"ftyp" + brands + bytes(40)
    (tmp_path / "a.mp4").write_bytes(content)
    if kind:
        assert sniff(tmp_path / "a.mp4", "image").name == kind
        refused(load_image, tmp_path / "a.mp4", contains="damaged")
    for load in LOADERS.values():
        what = f"is a{'n' if kind == 'AVIF' else ''} {kind} image" if kind else "neither HEIC nor AVIF"
        if load is not load_image or not kind:
            refused(load, tmp_path / "a.mp4", contains=what)


@pytest.mark.parametrize("load", LOADERS.values())
@pytest.mark.parametrize("value", [None, 5, b"bytes", {}, [], object(), np.bool_(True), [1, 2, 3], ("a", "b")])
def test_other_values_are_refused(refused, load, value):
    refused(load, value)


def test_default_caps():
    assert (CAPS.image_pixels, CAPS.image_side) == (25_000_000, 8192)
    assert (CAPS.streamed_pixels, CAPS.whole_pixels, CAPS.source_side) == (150_000_000, 50_000_000, 65_500)
    assert (CAPS.video_seconds, CAPS.video_frames, CAPS.video_side) == (60, 32, 4096)
    assert (CAPS.audio_seconds, CAPS.file_bytes) == (600, 110_000_000)
    assert (CAPS.child_bytes, CAPS.child_seconds) == (2 * 2**30, 30)
    assert replace(CAPS, image_side=9).image_side == 9


def test_security_names_every_decoder():
    """SECURITY.md lists what may open a stranger's file, no more and no less."""
    text = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
    listed = re.search(r"ffmpeg may use these demuxers, one a file: (.+?)\. Demuxers", text, re.DOTALL)[1]
    assert set(re.findall(r"`(\w+)`", listed)) == {kind.demuxer for kind in KINDS.values() if kind.demuxer}
    first = re.search(r"libsndfile tries (.+?) first", text)[1]
    assert set(re.findall(r"[A-Z]\w+", first)) == {kind.name for kind in KINDS.values() if kind.in_libsndfile}


def test_importing_media_is_cheap():
    code = f"import sys, x2i_app.media; print([name for name in {HEAVY} if name in sys.modules])"
    root = Path(__file__).parents[2]
    ran = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"
