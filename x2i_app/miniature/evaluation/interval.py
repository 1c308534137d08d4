"""How far a share of attributes may be from what endlessly many scenes would give."""

from collections.abc import Sequence
from math import sqrt

from x2i_app.miniature.evaluation.attributes import Tally

_Z = 1.96  # standard deviations that 95 % of a normal distribution lie within


def interval(tallies: Sequence[Tally]) -> tuple[float, float] | None:
    """The 95 % interval, from 0 to 1, of the share of attributes that are right; None without attributes.

    tallies: one of each scene. Wilson's interval (1927, doi:10.1080/01621459.1927.10502953), which holds near 0 and 1
    too. Attributes of one scene are right or wrong together, so they count as so many independent ones as have the
    variance that differs from scene to scene: the linearised one of a ratio (Cochran, Sampling Techniques, section
    6.3) in Wilson's formula (Korn and Graubard 1998). Where all are right, or none, each scene counts as one.
    """
    pairs = [(sum(tally.right.values()), sum(tally.total.values())) for tally in tallies]
    pairs = [(right, total) for right, total in pairs if total]
    scenes, total = len(pairs), sum(total for _, total in pairs)
    if not scenes:
        return None
    share = sum(right for right, _ in pairs) / total
    count = float(scenes)
    if scenes > 1:
        variance = scenes / (scenes - 1) * sum((right - share * of) ** 2 for right, of in pairs) / total**2
        count = min(total, share * (1 - share) / variance) if variance else scenes
    middle = share + _Z**2 / (2 * count)
    reach = _Z * sqrt(share * (1 - share) / count + _Z**2 / (4 * count**2))
    whole = 1 + _Z**2 / count
    return max(0.0, (middle - reach) / whole), min(1.0, (middle + reach) / whole)
