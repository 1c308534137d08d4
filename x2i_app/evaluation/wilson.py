"""The confidence interval of a share that was measured on a sample of images."""

from collections.abc import Sequence
from math import sqrt

_Z = 1.96  # standard deviations that contain 95 % of a normal distribution


def interval(counts: Sequence[tuple[float, int]]) -> tuple[float, float] | None:
    """The 95 % interval, from 0 to 1, of the share of checks that are right; None without checks.

    counts: for each image, the number of checks that were right and the number of checks.

    This is Wilson's interval (1927, doi:10.1080/01621459.1927.10502953), which is also valid near 0 and 1. The checks
    of one image are not independent, so the formula uses the effective sample size (Korn and Graubard 1998): the number
    of independent checks with the same variance as the one observed between images, which is the linearised variance of
    a ratio (Cochran, Sampling Techniques, section 6.3). If all checks are right, or none, each image counts as one.
    """
    counts = [(right, total) for right, total in counts if total]
    images, total = len(counts), sum(total for _, total in counts)
    if not images:
        return None
    share = sum(right for right, _ in counts) / total
    size = float(images)
    if images > 1:
        variance = images / (images - 1) * sum((right - share * of) ** 2 for right, of in counts) / total**2
        size = min(total, share * (1 - share) / variance) if variance else images
    center = share + _Z**2 / (2 * size)
    reach = _Z * sqrt(share * (1 - share) / size + _Z**2 / (4 * size**2))
    scale = 1 + _Z**2 / size
    return max(0.0, (center - reach) / scale), min(1.0, (center + reach) / scale)
