"""Likeness: what looks like the wanted thing to the eye, and what only has its color or its place."""

import random

import pytest
from PIL import Image, ImageDraw, ImageFilter

from x2i_app.miniature.draw import draw_scene, thing_boxes
from x2i_app.miniature.evaluation.likeness import likeness
from x2i_app.miniature.scene import Scene, Thing, random_scene

SIZE = 128


@pytest.fixture(scope="module")
def scenes():
    return [random_scene(random.Random(f"likeness of a test {index}")) for index in range(24)]


def measured(scenes, change=lambda image, scene, seed: image):
    drawn = [draw_scene(scene, SIZE, time=seed, seed=seed) for seed, scene in enumerate(scenes)]
    return likeness([(change(drawn[seed], scene, seed), scene) for seed, scene in enumerate(scenes)])


def test_a_drawing_is_like_another_drawing(scenes):
    assert measured(scenes).mean == pytest.approx(1, abs=0.08)


@pytest.mark.parametrize("radius", [1.5, 3])
def test_a_blurred_drawing_loses(scenes, radius):
    blurred = measured(scenes, lambda image, *_: image.filter(ImageFilter.GaussianBlur(radius)))
    assert blurred.mean < measured(scenes).mean - 0.1


def test_a_lump_of_the_right_color_loses(scenes):
    """The things' mean colors in ovals at the right places: the fault that a judge of attributes does not notice."""

    def lumps(image, scene, seed):
        backdrop, draw = image.copy(), ImageDraw.Draw(image)
        for box in thing_boxes(scene, seed, seed):
            left, top, right, bottom = (round(value * SIZE) for value in box)
            color = backdrop.resize((1, 1), Image.Resampling.BOX, box=(left + 2, top + 2, right - 2, bottom - 2))
            draw.ellipse((left, top, right, bottom), fill=color.getpixel((0, 0)))
        return image

    assert measured(scenes, lumps).mean < 0.75


def test_kinds_are_told_apart():
    house, cat = (Scene("day", "grass", (Thing(kind, "red"),)) for kind in ("house", "cat"))
    drawn = draw_scene(cat, SIZE, seed=5)
    result = likeness([(drawn, cat), (drawn, house)])
    assert list(result.by_kind) == ["cat", "house"]
    assert result.worst == ("house", result.by_kind["house"])
    assert result.by_kind["house"] < 0.7 < result.by_kind["cat"]
    assert result.mean == pytest.approx((result.by_kind["house"] + result.by_kind["cat"]) / 2)
