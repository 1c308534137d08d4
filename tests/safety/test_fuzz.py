"""R1 and T11 to T13 of SECURITY.md: good media bent at random; each is read, or refused in one sentence."""

import io
import random
import subprocess

import imageio_ffmpeg
import numpy as np
import psutil
import pytest
import soundfile
from PIL import Image
from safety.mutation import mutate

from x2i_app.errors import MediaError
from x2i_app.media import load_audio, load_image, load_video

_GROWTH = 300e6  # bytes that the process may grow by; decoders keep arenas


def complaint(load, path) -> str | None:
    """Why it is refused; None if it is read. Anything but a MediaError is a bug."""
    try:
        load(path)
    except MediaError as error:
        return str(error)
    return None


def bend(load, whole: bytes, path, times: int) -> None:
    """Read as many bent copies of a good file."""
    path.write_bytes(whole)
    assert complaint(load, path) is None
    chance, refused = random.Random(path.name), 0
    before = psutil.Process().memory_info().rss
    for _ in range(times):
        path.write_bytes(mutate(whole, chance))
        said = complaint(load, path)
        assert said is None or (said.endswith(".") and said.isprintable() and len(said) < 400), said
        refused += said is not None
    assert refused > times // 20
    assert psutil.Process().memory_info().rss - before < _GROWTH


@pytest.mark.filterwarnings("ignore")  # Pillow warns of what it can still read
@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"])
def test_pictures(tmp_path, form, fuzz_rounds):
    file = io.BytesIO()
    Image.effect_noise((60, 40), 80).convert("RGB").save(file, form)
    bend(load_image, file.getvalue(), tmp_path / f"a.{form.lower()}", fuzz_rounds * 5)


@pytest.mark.parametrize("form", ["WAV", "FLAC", "OGG", "MP3"])
def test_sounds(tmp_path, form, fuzz_rounds):
    file = io.BytesIO()
    soundfile.write(file, 0.5 * np.sin(np.arange(16_000) / 9), 16_000, format=form)
    bend(lambda path: load_audio(path, 16_000), file.getvalue(), tmp_path / f"a.{form.lower()}", fuzz_rounds)


@pytest.mark.parametrize("container", ["mp4", "mkv", "avi"])
def test_films(tmp_path, container, fuzz_rounds):
    source = ["-f", "lavfi", "-i", "testsrc=s=64x48:r=10:d=1", "-c:v", "mpeg4"]
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-nostdin", "-v", "error", *source, str(tmp_path / f"good.{container}")]
    subprocess.run(command, check=True, timeout=60)
    whole = (tmp_path / f"good.{container}").read_bytes()
    bend(load_video, whole, tmp_path / f"a.{container}", fuzz_rounds // 5)
    assert not [child for child in psutil.Process().children(recursive=True) if "ffmpeg" in child.name()]
