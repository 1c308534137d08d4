"""Means with 95 % intervals by bootstrap over prompts, and whether a loss of less than 1 % is shown.

The bootstrap (Efron 1979) draws prompts with replacement; the images of one prompt stay together, as they are not
independent. Intervals are percentiles of the means, from a fixed seed, so that the same values give the same interval.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from x2i_app.evaluation.wilson import interval

RESAMPLES = 10_000
CLAIM = 0.01  # the paper's: less than 1 % worse than the teacher
_AT_ONCE = 2_000_000  # numbers that are drawn at a time


@dataclass(frozen=True)
class Estimate:
    """A mean of `count` prompts, and its 95 % interval."""

    mean: float
    low: float
    high: float
    count: int


def estimate_share(values: Sequence[float]) -> Estimate | None:
    """The mean of values from 0 to 1, one a prompt; None without any.

    If all are equal, the bootstrap would be certain of it; Wilson's interval is not.
    """
    found = estimate(values)
    if found and found.low == found.high:
        low, high = interval([(value, 1) for value in values])
        return Estimate(found.mean, round(low, 12), round(high, 12), found.count)
    return found


def estimate(values: Sequence[float]) -> Estimate | None:
    """The mean of any values, one a prompt; None without any."""
    if not len(values):
        return None
    means = _means(np.asarray(values, float)[:, None])[:, 0]
    return Estimate(float(np.mean(values)), *_bounds(means), len(values))


def difference(values: Sequence[float], others: Sequence[float], *, is_symmetric: bool = False) -> Estimate | None:
    """Of two shares for the same prompts, the mean of the first minus the second; None without any.

    The bootstrap knows only losses that it has met. If none of n prompts has one, up to about 3 / n of all prompts may
    still have (the rule of three), and lose up to all: the interval begins with that. If no prompt differs, or if
    `is_symmetric` and none has a gain, it ends with a gain of 3 / n of them: of two models, either may be the first.
    """
    if not len(values):
        return None
    pairs = np.asarray(values, float) - np.asarray(others, float)
    low, high = _bounds(_means(pairs[:, None])[:, 0])
    unseen = min(1.0, 3 / len(pairs))
    if pairs.min() >= 0:
        low -= unseen * (1 + low)
    if not pairs.any() or (is_symmetric and pairs.max() <= 0):
        high += unseen * (1 - high)
    return Estimate(float(pairs.mean()), max(-1.0, low), min(1.0, high), len(pairs))


def relative_loss(values: Sequence[float], others: Sequence[float]) -> Estimate | None:
    """By what part of the others' mean the first mean is smaller, 0.01 for 1 %; None if the others' mean is 0.

    The interval is the bootstrap's of both means, and not smaller than `difference` says.
    """
    paired = difference(values, others)
    if paired is None or not np.mean(others):
        return None
    mean = float(np.mean(others))
    pairs = np.stack((np.asarray(values, float), np.asarray(others, float)), axis=1)
    means = _means(pairs)
    means = means[means[:, 1] > 0]
    low, high = _bounds(1 - means[:, 0] / means[:, 1])
    if np.all(pairs[:, 0] >= pairs[:, 1]):
        high = max(high, -paired.low / mean)
    if np.array_equal(pairs[:, 0], pairs[:, 1]):
        low = -paired.high / mean
    return Estimate(0.0 - paired.mean / mean, low, high, paired.count)


def verdict(loss: Estimate | None) -> str | None:
    """Whether the loss is below 1 %: "yes" or "no" if all of the interval says so, else "open". None without a loss."""
    if loss is None:
        return None
    return "yes" if loss.high < CLAIM else "no" if loss.low >= CLAIM else "open"


def kappa(answers: Sequence[bool], others: Sequence[bool]) -> float | None:
    """Cohen's kappa (1960) of two judges: agreement beyond chance, up to 1; None if chance alone explains all."""
    first, second = np.asarray(answers, bool), np.asarray(others, bool)
    if not len(first):
        return None
    chance = first.mean() * second.mean() + (1 - first.mean()) * (1 - second.mean())
    return None if chance == 1 else float(((first == second).mean() - chance) / (1 - chance))


def _means(values: np.ndarray) -> np.ndarray:
    """Means (RESAMPLES, K) of prompts drawn with replacement from values (N, K)."""
    rng = np.random.default_rng(0)
    count = len(values)
    at_once = max(1, min(RESAMPLES, _AT_ONCE // count))
    parts = [
        values[rng.integers(count, size=(min(at_once, RESAMPLES - start), count))].mean(axis=1)
        for start in range(0, RESAMPLES, at_once)
    ]
    return np.concatenate(parts)


def _bounds(means: np.ndarray) -> tuple[float, float]:
    # Rounded, because sums in another order may differ in the last digit.
    low, high = np.percentile(means, (2.5, 97.5)).round(12)
    return float(low), float(high)
