"""Bars beside images and videos, silence before audio, and its level: cut off, or left if they may be a part of it."""

import numpy as np
import pytest

from x2i_app.media.edges import at_one_level, without_bars, without_silence

RNG = np.random.default_rng(0)
INNER = RNG.integers(0, 256, (2, 60, 80, 3), np.uint8)


def framed(top=0, bottom=0, left=0, right=0, gray=0, noise=0):
    frames = np.pad(INNER, ((0, 0), (top, bottom), (left, right), (0, 0)), constant_values=gray).astype(int)
    return (frames + RNG.integers(-noise, noise + 1, frames.shape)).clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize(
    "bars",
    [
        {"top": 20, "bottom": 20},
        {"top": 21, "bottom": 20},
        {"left": 30, "right": 30, "gray": 255},
        {"top": 10, "bottom": 10, "left": 12, "right": 12, "gray": 128},
        {"top": 20, "bottom": 20, "gray": 10, "noise": 8},
    ],
)
def test_bars_are_cut_off(bars):
    assert without_bars(framed(**bars)).shape == INNER.shape
    if "noise" not in bars:
        assert np.array_equal(without_bars(framed(**bars)), INNER)


@pytest.mark.parametrize(
    "bars",
    [{}, {"top": 20}, {"top": 20, "bottom": 30}, {"top": 1, "bottom": 1}, {"top": 80, "bottom": 80}],
    ids=["none", "one", "of two widths", "thin", "hardly any image"],
)
def test_what_may_be_a_part_of_the_image_stays(bars):
    frames = framed(**bars)
    assert np.array_equal(without_bars(frames), frames)


def test_colored_and_unlike_edges_stay():
    colored = framed(20, 20)
    colored[:, :20] = colored[:, -20:] = (20, 60, 160)
    unlike = framed(20, 20)
    unlike[:, -20:] = 255
    moving = framed(20, 20)
    moving[1, :20] = 90  # not in every frame
    plain = np.full((1, 9, 9, 3), 7, np.uint8)
    for frames in (colored, unlike, moving, plain):
        assert np.array_equal(without_bars(frames), frames)


def test_silence_before_the_rest():
    tone = np.sin(np.arange(1600) / 5).astype(np.float32)
    late = np.concatenate([1e-3 * np.sin(np.arange(8000, dtype=np.float32)), tone])
    assert 1600 <= len(without_silence(late, 16_000)) <= 1600 + 160
    assert np.array_equal(without_silence(tone, 16_000), tone)
    assert len(without_silence(np.zeros(50, np.float32), 16_000)) == 50
    assert len(without_silence(np.zeros(0, np.float32), 16_000)) == 0


@pytest.mark.parametrize("factor", [0.02, 0.3, 1.0])
def test_level(factor):
    tone = np.sin(np.arange(1600) / 5).astype(np.float32)
    quieter = at_one_level(factor * tone)
    assert quieter.dtype == np.float32
    assert np.sqrt(np.mean(quieter**2)) == pytest.approx(0.1, rel=1e-3)
    click = np.zeros(16_000, np.float32)
    click[7] = factor
    assert abs(at_one_level(click)).max() <= 1
    hiss = 1e-4 * tone
    assert at_one_level(hiss) is hiss
    assert len(at_one_level(tone[:0])) == 0
