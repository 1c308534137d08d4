"""Scenes, and their images, videos and audios."""

import itertools
import random
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from x2i_app.errors import InvalidRequestError, X2IError
from x2i_app.miniature.brush import PAINTS
from x2i_app.miniature.draw import thing_boxes
from x2i_app.miniature.world import (
    COLOURS,
    GROUNDS,
    HELD_OUT,
    KINDS,
    PLACES,
    SILENT_KINDS,
    SIZES,
    SKIES,
    VOICED_KINDS,
    Scene,
    Thing,
    audio,
    draw_scene,
    imagined,
    random_scene,
    sounding,
    video,
)

HOUSE = Thing("house", "red", "left")
TREE = Thing("tree", "green", "right", "small")


def scenes(count, seed=0, **options):
    rng = random.Random(seed)
    return [random_scene(rng, **options) for _ in range(count)]


def pixels(scene, size=128, **options):
    return np.asarray(draw_scene(scene, size, **options)).astype(int)


# --- scenes


def test_scenes_are_values():
    scene = Scene("night", "snow", (TREE, HOUSE))
    assert scene == Scene("night", "snow", [HOUSE, TREE])
    assert len({scene, Scene("night", "snow", (HOUSE, TREE))}) == 1
    assert [thing.place for thing in scene.things] == ["left", "right"]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Scene("fog", "snow", (HOUSE,)), "sky is 'fog'; it must be one of day, night"),
        (lambda: Scene("day", "moon", (HOUSE,)), "ground is 'moon'"),
        (lambda: Scene("day", "snow", ()), "0 things"),
        (lambda: Scene("day", "snow", (HOUSE, Thing("cat", "red", "left"))), "two things cannot have the same place"),
        (lambda: Scene("day", "snow", ("house",)), "must be a Thing"),
        (lambda: Thing("dog", "red"), "kind is 'dog'"),
        (lambda: Thing("cat", "grey"), "colour is 'grey'"),
        (lambda: Thing("cat", "red", "top"), "place is 'top'"),
        (lambda: Thing("cat", "red", "left", "huge"), "size is 'huge'"),
        (lambda: random_scene(random.Random(0), split="validation"), "split is 'validation'"),
    ],
)
def test_unknown_values_are_refused(make, message):
    with pytest.raises(X2IError, match=message):
        make()


def test_random_scenes_are_uniform():
    drawn = scenes(3000)
    things = [thing for scene in drawn for thing in scene.things]
    for counts, expected in (
        (Counter(s.sky for s in drawn), len(SKIES)),
        (Counter(s.ground for s in drawn), len(GROUNDS)),
        (Counter(len(s.things) for s in drawn), 3),
        (Counter(t.kind for t in things), len(KINDS)),
        (Counter(t.colour for t in things), len(COLOURS)),
        (Counter(t.place for t in things), len(PLACES)),
        (Counter(t.size for t in things), len(SIZES)),
    ):
        assert len(counts) == expected
        assert max(counts.values()) < 1.5 * min(counts.values())


def test_splits():
    assert not any(scene.held_out for scene in scenes(2000, split="train"))
    assert all(scene.held_out for scene in scenes(500, split="test"))
    assert any(scene.held_out for scene in scenes(100)), "without a split every pair occurs"
    trained = {(t.kind, t.colour) for s in scenes(4000, split="train") for t in s.things}
    assert trained == set(itertools.product(KINDS, COLOURS)) - HELD_OUT
    assert Counter(colour for _, colour in HELD_OUT) == Counter(COLOURS)


# --- images


def test_images_are_reproducible():
    for scene in scenes(12):
        image = draw_scene(scene, 96, 1.3, seed=5)
        assert image.mode == "RGB"
        assert image.size == (96, 96)
        assert image.tobytes() == draw_scene(scene, 96, 1.3, seed=5).tobytes()
        assert image.tobytes() != draw_scene(scene, 96, 1.3, seed=6).tobytes()


def test_every_attribute_changes_the_image():
    scene = Scene("day", "grass", (HOUSE, TREE))
    others = [Scene(sky, "grass", (HOUSE, TREE)) for sky in SKIES[1:]]
    others += [Scene("day", ground, (HOUSE, TREE)) for ground in GROUNDS[1:]]
    others += [Scene("day", "grass", (Thing(kind, "red", "left"), TREE)) for kind in KINDS[1:]]
    others += [Scene("day", "grass", (Thing("house", colour, "left"), TREE)) for colour in COLOURS[1:]]
    others += [Scene("day", "grass", (Thing("house", "red", "middle"), TREE))]
    others += [Scene("day", "grass", (Thing("house", "red", "left", "small"), TREE))]
    images = [pixels(scene, 64) for scene in (scene, *others)]
    for a, b in itertools.combinations(images, 2):
        assert np.abs(a - b).mean() > 0.5


@pytest.mark.parametrize("sky", SKIES)
@pytest.mark.parametrize("kind", KINDS)
def test_colours_differ_under_every_sky(sky, kind):
    """Each of two differently coloured things has more pixels of its own colour than the other one has."""
    images = {c: pixels(Scene(sky, "grass", (Thing(kind, c, size="small"),))) for c in COLOURS}

    def share(image, where, colour):
        return (np.abs(image[where] - PAINTS[colour]).max(-1) < 60).mean()

    for a, b in itertools.permutations(COLOURS, 2):
        changed = np.abs(images[a] - images[b]).max(-1) > 25
        assert changed.sum() > 40, (a, b)
        assert share(images[a], changed, a) > share(images[b], changed, a), (a, b)


def test_places():
    for kind, place in itertools.product(KINDS, PLACES):
        scene = Scene("day", "grass", (Thing(kind, "purple", place),))
        empty = pixels(Scene("day", "grass", (Thing(kind, "purple", PLACES[PLACES.index(place) - 1], "small"),)))
        image = pixels(scene)
        paint = (np.abs(image - PAINTS["purple"]).max(-1) < 40) & (np.abs(image - empty).max(-1) > 25)
        columns = np.nonzero(paint)[1] / 128
        assert abs(columns.mean() - {"left": 0.18, "middle": 0.5, "right": 0.82}[place]) < 0.06


@pytest.mark.parametrize("kind", KINDS)
def test_a_box_tells_where_a_thing_is(kind):
    """Most of what a thing's color changes is in its box, and it fills most of the box's width and height."""
    red, blue = (Scene("day", "grass", (Thing(kind, colour, "right", "small"),)) for colour in ("red", "blue"))
    for time in (0.0, 1.5):
        images = [np.asarray(draw_scene(scene, 128, time, seed=3), int) for scene in (red, blue)]
        rows, columns = np.nonzero(np.abs(images[0] - images[1]).max(-1) > 25)
        ((left, top, right, bottom),) = thing_boxes(red, time, seed=3)
        inside = (columns >= 128 * left - 4) & (columns <= 128 * right + 4)
        inside &= (rows >= 128 * top - 4) & (rows <= 128 * bottom + 4)
        assert inside.mean() > 0.95
        assert np.ptp(columns) > 0.6 * 128 * (right - left)
        assert np.ptp(rows) > 0.4 * 128 * (bottom - top)


def test_a_size_out_of_range_is_refused():
    for size in (0, 16, 5000):
        with pytest.raises(InvalidRequestError, match="32 to 1024"):
            draw_scene(Scene("day", "grass", (HOUSE,)), size)


# --- videos


def test_videos_move_and_loop():
    for scene in scenes(15, seed=1):
        frames, fps = video(scene, seconds=4, fps=4, size=64, seed=2)
        assert fps == 4
        assert frames.shape == (16, 64, 64, 3)
        assert frames.dtype == np.uint8
        assert np.array_equal(frames[0], np.asarray(draw_scene(scene, 64, seed=2)))
        assert np.array_equal(frames[0], np.asarray(draw_scene(scene, 64, time=4.0, seed=2))), "a loop"
        assert (np.abs(frames - frames[0].astype(int)).max(axis=(1, 2, 3))[1:] > 8).any()


def test_things_keep_place_and_colour_in_every_frame():
    for kind in KINDS:
        frames, _ = video(Scene("day", "street", (Thing(kind, "purple", "middle"),)), 4, 8, 64)
        paint = np.abs(frames.astype(int) - PAINTS["purple"]).max(-1) < 45
        areas = paint.sum(axis=(1, 2))
        assert areas.min() > 0.75 * areas.max()
        centres = [np.nonzero(frame)[1].mean() / 64 for frame in paint]
        assert max(abs(centre - 0.5) for centre in centres) < 0.09


def test_videos_of_no_or_too_many_frames_are_refused():
    for seconds, fps in ((0, 8), (4, 0), (1e6, 8)):
        with pytest.raises(InvalidRequestError, match="1 to 512 frames"):
            video(Scene("day", "grass", (HOUSE,)), seconds, fps)


# --- audio


def heard_bands(samples):
    """Mean and 90th percentile of the energy in 40 bands of equal ratio, (80,)."""
    windows = np.lib.stride_tricks.sliding_window_view(samples, 512)[::256] * np.hanning(512)
    power = np.abs(np.fft.rfft(windows)) ** 2
    edges = np.unique(np.geomspace(2, 257, 40).astype(int))
    bands = np.log(np.add.reduceat(power, edges[:-1], axis=1) + 1e-3)
    return np.concatenate([bands.mean(0), np.quantile(bands, 0.9, axis=0)])


def test_audio_is_reproducible_and_in_range():
    for seed, scene in enumerate(scenes(20, seed=3)):
        samples = audio(scene, seed=seed)
        assert samples.dtype == np.float32
        assert samples.shape == (64000,)
        assert np.isfinite(samples).all()
        assert np.abs(samples).max() <= 1
        assert 0.02 < np.sqrt(np.mean(samples**2)) < 0.3, "loud enough, and not too loud"
        assert np.array_equal(samples, audio(scene, seed=seed))
        assert not np.array_equal(samples, audio(scene, seed=seed + 1))


def test_every_sky_ground_and_voice_is_distinct():
    """Fresh audio is nearest to the mean of other audio of the same scene."""
    silent = Thing("flower", "red")
    known = [Scene(sky, "grass", (silent,)) for sky in SKIES]
    known += [Scene("day", ground, (silent,)) for ground in GROUNDS if ground != "grass"]
    known += [Scene("day", "grass", (Thing(kind, "pink"),)) for kind in VOICED_KINDS]
    means = [np.mean([heard_bands(audio(scene, seed=seed)) for seed in range(4)], axis=0) for scene in known]
    for index, scene in enumerate(known):
        for seed in (10, 11):
            fresh = heard_bands(audio(scene, seed=seed))
            distances = [np.abs(fresh - one).mean() for one in means]
            assert int(np.argmin(distances)) == index, (scene, known[int(np.argmin(distances))])


def test_audio_has_only_sky_ground_and_voices():
    assert sorted((*VOICED_KINDS, *SILENT_KINDS)) == sorted(KINDS)
    scene = Scene("rain", "sea", (Thing("cat", "red", "left"), Thing("umbrella", "blue"), Thing("cat", "red", "right")))
    heard = sounding(scene)
    assert (heard.sky, heard.ground, heard.kinds) == ("rain", "sea", ("cat",))
    assert imagined(heard) == Scene("rain", "sea", (Thing("cat", "orange", "middle"),))
    repainted = Scene("rain", "sea", (Thing("cat", "blue", "middle", "small"), Thing("cat", "pink", "right")))
    assert np.array_equal(audio(scene), audio(repainted)), "colours, sizes and places cannot be heard"
    assert imagined(sounding(Scene("day", "sand", (Thing("flower", "red"),)))) is None


def test_durations_and_rates_out_of_range_are_refused():
    scene = Scene("day", "grass", (HOUSE,))
    assert audio(scene, seconds=1, rate=24000).shape == (24000,)
    for options in ({"seconds": 0}, {"seconds": 1e9}, {"rate": 8000}):
        with pytest.raises(InvalidRequestError, match="must be"):
            audio(scene, **options)


def test_images_can_be_saved(tmp_path):
    draw_scene(Scene("day", "grass", (HOUSE,)), 64).save(tmp_path / "a.png")
    assert Image.open(tmp_path / "a.png").size == (64, 64)
