"""R1 and T11 to T13 of SECURITY.md: media files corrupted at random are read, or refused in one sentence."""

import io
import random
import subprocess
from concurrent.futures import ThreadPoolExecutor

import imageio_ffmpeg
import numpy as np
import psutil
import pytest
import soundfile
from PIL import Image
from safety.corruption import corrupt

from x2i_app.errors import MediaError
from x2i_app.media import load_audio, load_image, load_video

_GROWTH = 300e6  # bytes by which the process may grow; decoders keep arenas


def complaint(load, path) -> str | None:
    """The sentence that refuses a file; None if it is read. Any error but MediaError is a bug."""
    try:
        load(path)
    except MediaError as error:
        return str(error)
    return None


def fuzz(load, whole: bytes, path, times: int, at_once: int = 1) -> None:
    """Read corrupted copies of a file. at_once: how many at the same time, where child processes do the work."""
    path.write_bytes(whole)
    assert complaint(load, path) is None
    before = psutil.Process().memory_info().rss

    def read(number: int) -> str | None:
        copy = path.with_stem(f"{path.stem}{number}")
        copy.write_bytes(corrupt(whole, random.Random(f"{path.name} {number}")))
        sentence = complaint(load, copy)
        copy.unlink()
        return sentence

    with ThreadPoolExecutor(at_once) as pool:
        refusals = [sentence for sentence in pool.map(read, range(times)) if sentence is not None]
    assert [each for each in refusals if not (each.endswith(".") and each.isprintable() and len(each) < 400)] == []
    assert len(refusals) > times // 20
    assert psutil.Process().memory_info().rss - before < _GROWTH


@pytest.mark.filterwarnings("ignore")  # Pillow warns of what it can still read
@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"])
def test_images(tmp_path, form, fuzz_rounds):
    file = io.BytesIO()
    Image.effect_noise((60, 40), 80).convert("RGB").save(file, form)
    fuzz(load_image, file.getvalue(), tmp_path / f"a.{form.lower()}", fuzz_rounds * 5)


@pytest.mark.parametrize("form", ["WAV", "FLAC", "OGG", "MP3"])
def test_audios(tmp_path, form, fuzz_rounds):
    file = io.BytesIO()
    soundfile.write(file, 0.5 * np.sin(np.arange(16_000) / 9), 16_000, format=form)
    fuzz(lambda path: load_audio(path, 16_000), file.getvalue(), tmp_path / f"a.{form.lower()}", fuzz_rounds * 5)


_VIDEO = ["-i", "testsrc=s=64x48:r=10:d=0.5", "-c:v", "mpeg4"]


@pytest.mark.parametrize(
    ("container", "source", "load"),
    [
        ("mp4", _VIDEO, load_video),
        ("mkv", _VIDEO, load_video),
        ("avi", _VIDEO, load_video),
        ("m4a", ["-i", "sine=d=0.5"], load_audio),
    ],
    ids=["mp4", "mkv", "avi", "m4a"],
)
def test_containers(tmp_path, container, source, load, fuzz_rounds):
    good = tmp_path / f"good.{container}"
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-nostdin", "-v", "error", "-f", "lavfi", *source, str(good)]
    subprocess.run(command, check=True, timeout=60)
    fuzz(load, good.read_bytes(), tmp_path / f"a.{container}", fuzz_rounds, at_once=4)
    assert not [child for child in psutil.Process().children(recursive=True) if "ffmpeg" in child.name()]
