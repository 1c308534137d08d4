"""Media as devices deliver them, and media that show nothing of the world: for training."""

import random

import numpy as np
import pytest
from PIL import Image

from x2i_app.miniature.devices import louder, padded, random_recording, random_view, with_noise, without_high
from x2i_app.miniature.evaluation.attributes import Tally, compare
from x2i_app.miniature.evaluation.command import JUDGE
from x2i_app.miniature.evaluation.judge import Judge
from x2i_app.miniature.foreign_media import foreign_audio, foreign_image
from x2i_app.miniature.pixels import to_tensor
from x2i_app.miniature.pool import pool_scene
from x2i_app.miniature.world import audio, draw_scene

RATE = 16_000


def scenes(count):
    return [pool_scene(index, None, 71)[0] for index in range(count)]


def test_a_view_is_the_same_for_every_image():
    first, second = (draw_scene(scene, 64) for scene in scenes(2))
    for seed in range(40):
        view, again = random_view(random.Random(seed)), random_view(random.Random(seed))
        assert view(first).tobytes() == again(first).tobytes() == view(first).tobytes()
        assert view(first).size == view(second).size
        assert view(first).mode == "RGB"


def test_views_change_images_but_not_beyond_recognition():
    """The judge, which has only ever seen the world's own renders, still finds far more than chance, which is 18 %."""
    judge, drawn = Judge.load(JUDGE), scenes(60)
    rng = random.Random(5)
    images = [random_view(rng)(draw_scene(scene, 128)).resize((128, 128)) for scene in drawn]
    made = [draw_scene(scene, 128) for scene in drawn]
    assert sum(one.tobytes() != other.tobytes() for one, other in zip(images, made, strict=True)) >= 58
    readings = judge.read(to_tensor(images))
    assert 0.35 < sum(map(compare, readings, drawn), Tally()).accuracy < 0.95


def test_bars_are_the_images_own_blurred_copy_or_a_colour():
    image = draw_scene(scenes(1)[0], 64)
    wide = np.asarray(padded(2.0, None)(image))
    assert wide.shape == (64, 128, 3)
    assert np.array_equal(wide[:, 32:96], np.asarray(image))
    assert wide[:, :32].std() > 1
    assert np.asarray(padded(0.5, (9, 9, 9))(image)).shape == (128, 64, 3)
    assert (np.asarray(padded(0.5, (9, 9, 9))(image))[:32] == 9).all()


def test_recordings():
    samples = audio(scenes(1)[0], 4.0, RATE)
    made = [random_recording(samples, RATE, random.Random(seed)) for seed in range(60)]
    assert all(each.dtype == np.float32 and np.isfinite(each).all() and np.abs(each).max() <= 1 for each in made)
    assert all(len(each) >= RATE for each in made)
    assert len({len(each) for each in made}) > 20, "cut and begun late"
    assert np.array_equal(made[7], random_recording(samples, RATE, random.Random(7)))
    levels = [np.sqrt(np.mean(each**2)) for each in made]
    assert min(levels) < 0.15 * max(levels)


def test_level_noise_and_bandwidth():
    time = np.arange(RATE) / RATE
    tones = 0.5 * np.sin(2 * np.pi * 1000 * time) + 0.4 * np.sin(2 * np.pi * 6000 * time)
    assert np.abs(louder(tones, 20)).max() == 1
    assert louder(tones, -20) == pytest.approx(tones / 10)
    for slope in (0.0, 1.0, 2.0):
        assert np.std(with_noise(np.zeros(RATE), -30, slope, 1)) == pytest.approx(10**-1.5, rel=0.25)
    left = without_high(tones, RATE, 4000)
    assert np.abs(left[2000:-2000] - 0.5 * np.sin(2 * np.pi * 1000 * time)[2000:-2000]).max() < 0.05


def test_foreign_media_show_nothing_of_the_world():
    """They vary, and are the same for the same seed."""
    images = [foreign_image(64, seed) for seed in range(40)]
    assert all(image.size == (64, 64) and image.mode == "RGB" for image in images)
    assert len({image.tobytes() for image in images}) == 40
    assert images[3].tobytes() == foreign_image(64, 3).tobytes()
    means = np.stack([np.asarray(image.resize((1, 1), Image.Resampling.BOX)) for image in images]).reshape(40, 3)
    assert means.std(0).min() > 25
    samples = [foreign_audio(2.0, RATE, seed) for seed in range(20)]
    assert all(each.shape == (2 * RATE,) and each.dtype == np.float32 for each in samples)
    assert all(np.isfinite(each).all() and np.abs(each).max() <= 1 for each in samples)
    assert np.array_equal(samples[4], foreign_audio(2.0, RATE, 4))
    assert min(each.std() for each in samples) < 1e-3, "silence is among them"
