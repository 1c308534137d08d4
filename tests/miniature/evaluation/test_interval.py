"""The interval of a share: Wilson's own numbers, attributes that come in scenes, and how often it holds the truth."""

import random

import pytest

from x2i_app.miniature.evaluation.attributes import Tally
from x2i_app.miniature.evaluation.interval import interval


def scenes(*pairs: tuple[int, int]) -> list[Tally]:
    """Scenes with so many right attributes of so many."""
    return [Tally({"kind": right}, {"kind": total}) for right, total in pairs]


def test_independent_attributes_have_wilsons_interval():
    """15 of 20 give 0.531 to 0.888, and 20 of 20 give 0.839 to 1; but for the one scene less that variances know of."""
    assert interval(scenes(*[(1, 1)] * 15, *[(0, 1)] * 5)) == pytest.approx((0.531, 0.888), abs=0.01)
    assert interval(scenes(*[(1, 1)] * 20)) == pytest.approx((0.839, 1), abs=0.001)
    assert interval(scenes(*[(0, 1)] * 20)) == pytest.approx((0, 0.161), abs=0.001)


def test_scenes_that_are_right_or_wrong_as_a_whole_count_once():
    apart = interval(scenes(*[(1, 1)] * 150, *[(0, 1)] * 50))
    together = interval(scenes(*[(10, 10)] * 15, *[(0, 10)] * 5))
    assert together == pytest.approx((0.53, 0.89), abs=0.02)
    assert together[0] < apart[0] < 0.75 < apart[1] < together[1]


def test_scenes_that_are_all_alike_count_no_more_than_their_attributes():
    assert interval(scenes(*[(3, 4)] * 5)) == interval(scenes(*[(3, 4)] * 5, (0, 0)))
    low, high = interval(scenes((3, 4), (4, 5), (3, 4), (4, 5)))
    assert 0.5 < low < 7 / 9 < high < 0.95


def test_without_attributes_there_is_none():
    assert interval([]) is None
    assert interval(scenes((0, 0))) is None
    assert interval(scenes((1, 2))) == pytest.approx((0.055, 0.945), abs=0.001)  # one scene is one draw


def test_it_holds_the_truth_about_as_often_as_it_says():
    """40 scenes of 2 to 14 attributes; in some scenes the model goes wrong in most of them."""
    rng = random.Random(0)
    truth, held = 0.85 * 0.98 + 0.15 * 0.4, 0
    for _ in range(1000):
        pairs = []
        for _ in range(40):
            total, chance = rng.randrange(2, 15), 0.98 if rng.random() < 0.85 else 0.4
            pairs.append((sum(rng.random() < chance for _ in range(total)), total))
        low, high = interval(scenes(*pairs))
        held += low <= truth <= high
    assert 0.92 < held / 1000 < 0.98
