"""The interval of a share: Wilson's own numbers, checks that belong to one image, and how often it holds the truth."""

import random

import pytest

from x2i_app.evaluation.wilson import interval


def test_independent_checks():
    """15 of 20 give 0.531 to 0.888 and 20 of 20 give 0.839 to 1, up to the degree of freedom that a variance costs."""
    assert interval([(1, 1)] * 15 + [(0, 1)] * 5) == pytest.approx((0.531, 0.888), abs=0.01)
    assert interval([(1, 1)] * 20) == pytest.approx((0.839, 1), abs=0.001)
    assert interval([(0, 1)] * 20) == pytest.approx((0, 0.161), abs=0.001)


def test_images_that_are_right_or_wrong_as_a_whole():
    """Ten checks that always agree count as one."""
    independent = interval([(1, 1)] * 150 + [(0, 1)] * 50)
    together = interval([(10, 10)] * 15 + [(0, 10)] * 5)
    assert together == pytest.approx((0.53, 0.89), abs=0.02)
    assert together[0] < independent[0] < 0.75 < independent[1] < together[1]


def test_equal_images():
    """Images with the same share have no variance between them; they count no more than their checks."""
    assert interval([(3, 4)] * 5) == interval([*[(3, 4)] * 5, (0, 0)])
    low, high = interval([(3, 4), (4, 5), (3, 4), (4, 5)])
    assert 0.5 < low < 7 / 9 < high < 0.95


def test_without_checks():
    assert interval([]) is None
    assert interval([(0, 0)]) is None
    assert interval([(1, 2)]) == pytest.approx((0.055, 0.945), abs=0.001)  # one image counts as one check


def test_coverage():
    """1000 samples of 40 images with 2 to 14 checks, where a model fails most checks of some images."""
    rng = random.Random(0)
    truth, held = 0.85 * 0.98 + 0.15 * 0.4, 0
    for _ in range(1000):
        counts = []
        for _ in range(40):
            total, chance = rng.randrange(2, 15), 0.98 if rng.random() < 0.85 else 0.4
            counts.append((sum(rng.random() < chance for _ in range(total)), total))
        low, high = interval(counts)
        held += low <= truth <= high
    assert 0.92 < held / 1000 < 0.98
