"""Real media files made on the fly, and one check for every refusal."""

import subprocess
from functools import partial

import imageio_ffmpeg
import numpy as np
import pytest
import soundfile
from refusals import refuse

from x2i_app.errors import MediaError


@pytest.fixture(scope="session")
def ffmpeg():
    """Run ffmpeg with these arguments, feeding it `data`; overwrites, and fails the test if it fails."""
    executable = imageio_ffmpeg.get_ffmpeg_exe()

    def run(*arguments, data=None):
        command = [
            executable,
            "-nostdin" if data is None else "-hide_banner",
            "-v",
            "error",
            "-y",
            *map(str, arguments),
        ]
        subprocess.run(command, input=data, check=True, capture_output=True, timeout=60)

    return run


@pytest.fixture(scope="session")
def video(ffmpeg):
    """Write a gray video whose frame i has the level levels[i]; `more` are ffmpeg's output options."""

    def write(path, levels, fps=10, size=(64, 48), codec="mpeg4", more=()):
        data = b"".join(bytes([level]) * (size[0] * size[1]) for level in levels)
        raw = ["-f", "rawvideo", "-pix_fmt", "gray", "-s", f"{size[0]}x{size[1]}", "-r", str(fps), "-i", "-"]
        ffmpeg(*raw, "-c:v", codec, *more, path, data=data)
        return path

    return write


@pytest.fixture(scope="session")
def samples(tmp_path_factory, ffmpeg):
    """Two seconds of video, the first red and the second blue, with a 440 Hz tone, in every container; and the tone."""
    folder = tmp_path_factory.mktemp("samples")
    image = "color=red:s=64x48:r=10:d=1[r];color=blue:s=64x48:r=10:d=1[b];[r][b]concat=n=2"
    source = ["-f", "lavfi", "-i", image, "-f", "lavfi", "-i", "sine=440:d=2"]
    both = folder / "both.mp4"
    ffmpeg(*source, "-c:v", "libx264", "-pix_fmt", "yuv420p", "-c:a", "aac", "-shortest", both)
    ffmpeg("-i", both, "-c", "copy", folder / "both.mov")
    ffmpeg("-i", both, "-c", "copy", folder / "both.mkv")
    ffmpeg("-i", both, "-c:v", "libvpx", "-deadline", "realtime", "-c:a", "libopus", folder / "both.webm")
    ffmpeg("-i", both, "-c:v", "mpeg4", "-bf", "2", "-q:v", "2", "-c:a", "mp3", folder / "both.avi")
    ffmpeg("-i", both, "-an", "-c", "copy", folder / "silent.mp4")
    ffmpeg("-i", both, "-vn", "-c", "copy", folder / "tone.m4a")
    ffmpeg("-i", both, "-vn", "-c", "copy", folder / "sound_only.mp4")
    tone = 0.5 * np.sin(2 * np.pi * 440 * np.arange(88_200) / 44_100)
    for extension in ("wav", "flac", "ogg", "mp3"):
        soundfile.write(folder / f"tone.{extension}", tone, 44_100)
    return folder


@pytest.fixture
def refused():
    """Call a function that must raise MediaError with one printable sentence; see `refuse`."""
    return partial(refuse, MediaError)
