"""Intervals by bootstrap over prompts, and the verdict on a loss of less than 1 %."""

import numpy as np
import pytest

from x2i_app.evaluation.statistics import difference, estimate, estimate_share, kappa, relative_loss, verdict


def test_the_interval_covers_the_true_mean_about_95_times_of_100():
    rng = np.random.default_rng(1)
    covered = 0
    for _ in range(100):
        found = estimate(rng.normal(0.5, 0.2, 60))
        covered += found.low <= 0.5 <= found.high
    assert 88 <= covered <= 99


def test_an_interval_is_always_the_same():
    values = [0.5, 1.0, 0.25, 0.75] * 20
    assert estimate_share(values) == estimate_share(values)
    assert estimate_share([]) is estimate([]) is difference([], []) is None


def test_few_equal_values_are_not_certain():
    one, many = estimate_share([1.0] * 4), estimate_share([1.0] * 400)
    assert (one.mean, one.high) == (1.0, 1.0)
    assert one.low < 0.6
    assert many.low > 0.99


def test_pairs_tell_more_than_the_two_means():
    rng = np.random.default_rng(2)
    teacher = rng.uniform(0.2, 1, 200)
    student = teacher - 0.02
    paired = difference(student + rng.normal(0, 0.01, 200), teacher)
    assert paired.low < -0.02 < paired.high
    assert paired.high - paired.low < 0.01
    separate = estimate(student).high - estimate(student).low
    assert separate > 10 * (paired.high - paired.low)


@pytest.mark.parametrize(
    ("student", "teacher", "said"),
    [
        ([0.9] * 1000, [0.9] * 1000, "yes"),
        ([0.9] * 20, [0.9] * 20, "open"),  # three of 20 may differ in the next 20
        ([1.0, 0.9] * 10, [0.9, 0.9] * 10, "open"),  # no loss was met, in only 20 prompts
        ([0.8, 0.7, 0.9] * 50, [0.9, 0.8, 1.0] * 50, "no"),
        ([0.995] * 999 + [0.5], [1.0] * 1000, "yes"),
        ([1.0, 0.9] * 10, [0.9, 1.0] * 10, "open"),
        ([1.0] * 1000, [0.5] * 1000, "yes"),
        ([0.5], [0.0], None),
    ],
)
def test_verdict(student, teacher, said):
    assert verdict(relative_loss(student, teacher)) == said


def test_a_gain_in_every_prompt_is_a_gain():
    """Prompts without a loss leave room for a few unseen ones, and not for a loss of all."""
    found = difference([1.0] * 100, [0.5] * 100)
    assert (found.low, found.high) == pytest.approx((0.97 * 0.5 - 0.03, 0.5))
    assert difference([1.0] * 4, [0.5] * 4).low < 0, "four prompts are too few"


def test_two_models_in_either_order():
    better, worse = [1.0, 0.75, 1.0, 0.5] * 20, [0.5, 0.75, 0.75, 0.25] * 20
    one, other = (difference(*pair, is_symmetric=True) for pair in ((better, worse), (worse, better)))
    assert (one.mean, one.low, one.high) == pytest.approx((-other.mean, -other.high, -other.low))
    assert one.low > 0.1


def test_relative_loss_is_a_part_of_the_teachers_mean():
    found = relative_loss([0.45, 0.35] * 50, [0.5, 0.4] * 50)
    assert found.mean == pytest.approx(0.05 / 0.45)
    assert found.low <= found.mean <= found.high


def test_kappa():
    assert kappa([True, False] * 4, [True, False] * 4) == 1
    assert kappa([True, True, False, False], [True, False, True, False]) == 0
    assert kappa([True], [True]) is None
