"""Screenshots, the corpus for tokenizers, and the app's example files."""

import json
import random
import wave

import imageio_ffmpeg
import numpy as np
import pytest
from PIL import Image

from x2i_app.errors import InvalidRequestError
from x2i_app.miniature import examples
from x2i_app.miniature.world import (
    LANGUAGES,
    SCREENSHOT_LANGUAGES,
    corpus,
    describe,
    draw_scene,
    parse_canonical,
    random_scene,
    screenshot,
)


@pytest.mark.parametrize("code", SCREENSHOT_LANGUAGES)
def test_screenshots_show_every_sentence(code):
    rng = random.Random(8)
    for seed in range(15):
        text = describe(random_scene(rng, things=1), code, rng)
        image = screenshot(text, 192, seed)
        assert image.mode == "RGB"
        assert image.size == (192, 192)
        assert image.tobytes() == screenshot(text, 192, seed).tobytes()
        assert len(image.getcolors(1 << 16)) > 1, "there is ink on the paper"


def test_accents_differ_in_screenshots():
    images = {screenshot(f"{letter}b", seed=1).tobytes() for letter in "eéèêëeaàâäuùûüoôöcçssßiîï"}
    assert len(images) == len(set("eéèêëaàâäuùûüoôöcçsßiîï"))


@pytest.mark.parametrize("text", ["红色的房子", "赤い家", "một ngôi nhà lớn", "кот", "😀"])
def test_screenshots_refuse_unknown_letters(text):
    with pytest.raises(InvalidRequestError, match="its font covers en, de, fr"):
        screenshot(text)


def test_screenshots_refuse_empty_and_long_text():
    for text, message in (
        (" ", "text of the screenshot is empty"),
        ("nine rows\n" * 9, "shorten"),
        ("w" * 17, "shorten"),
    ):
        with pytest.raises(InvalidRequestError, match=message):
            screenshot(text)
    with pytest.raises(InvalidRequestError, match="128 to 1024"):
        screenshot("a", 8)


def test_corpus():
    texts = list(corpus(600, seed=1))
    assert texts == list(corpus(600, seed=1))
    assert texts != list(corpus(600, seed=2))
    everything = " ".join(texts)
    for word in ("house", "房子", "Haus", "maison", "家", "ngôi nhà"):
        assert word in everything


# --- examples


def test_example_files(tmp_path):
    examples.main(["--output", str(tmp_path)])
    assert sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file()) < 1_500_000
    assert {prompt["language"] for prompt in json.loads((tmp_path / "prompts.json").read_text())} == set(LANGUAGES)
    for name in ("edits.json", "fusion.json"):
        for item in json.loads((tmp_path / name).read_text()):
            parse_canonical(item["expected"])
            media = [item["image"]] if "image" in item else item["images"] + item["videos"] + item["audios"]
            assert all((tmp_path / file).is_file() for file in media)
    for table in (examples.DRAWINGS, examples.VIDEOS, examples.AUDIOS):
        assert not any(scene.held_out for scene in table.values())
    for name, scene in examples.DRAWINGS.items():
        image = Image.open(tmp_path / "images" / f"{name}.png")
        assert np.array_equal(np.asarray(image), np.asarray(draw_scene(scene, 256, seed=3)))
    with wave.open(str(tmp_path / "audios" / "car-and-cat.wav")) as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate(), file.getnframes()) == (
            1,
            2,
            16000,
            64000,
        )


def test_example_videos(tmp_path):
    examples.main(["--output", str(tmp_path)])
    for path in (tmp_path / "videos").iterdir():
        reader = imageio_ffmpeg.read_frames(str(path))
        meta = next(reader)
        reader.close()
        assert meta["source_size"] == (256, 256)
        assert meta["codec"] == "h264"
        assert meta["pix_fmt"].startswith("yuv420p")
        assert meta["audio_codec"] == "aac"
        assert meta["duration"] == pytest.approx(4, abs=0.1)
