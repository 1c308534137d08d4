"""Which samples are in which batch."""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

_GOLDEN = (5**0.5 - 1) / 2  # its multiples, without what is before the point, fill 0 to 1 most evenly


class Epochs:
    """epochs[number]: the indices of a batch's samples, all of one length, so that nothing is padded.

    A function of seed and number. Of N samples, N // batch_size batches are an epoch, in which a length comes as often
    as it has samples: by systematic sampling, once more or less where that is no whole number, so that in the long run
    every sample counts the same. Of one length's samples none comes twice before all have come once; in batches of one
    that is true of all. A batch is smaller than `batch_size` where a length has fewer samples.
    """

    def __init__(self, lengths: Sequence[int], batch_size: int, seed: int):
        buckets = defaultdict(list)
        for index, length in enumerate(lengths):
            buckets[length].append(index)
        self.buckets = [np.array(buckets[length]) for length in sorted(buckets)]
        self.batch_size, self.seed = batch_size, seed
        self.count = max(1, len(lengths) // batch_size)
        self._epoch, self._batches = -1, []

    def __getitem__(self, number: int) -> np.ndarray:
        epoch, place = divmod(number, self.count)
        if epoch != self._epoch:
            self._epoch, self._batches = epoch, self._draw(epoch)
        return self._batches[place]

    def _draw(self, epoch: int) -> list[np.ndarray]:
        generator = np.random.default_rng((self.seed, epoch))
        ends = np.cumsum([len(bucket) for bucket in self.buckets])
        # Equally far apart over all samples in the order of their lengths, from another start in every epoch.
        places = (np.arange(self.count) + epoch * _GOLDEN % 1) * (ends[-1] / self.count)
        shares = np.bincount(np.searchsorted(ends, places, side="right"), minlength=len(ends))
        batches = []
        for bucket, share in zip(self.buckets, shares, strict=True):
            order, size = generator.permutation(bucket), min(self.batch_size, len(bucket))
            batches += [order.take(np.arange(size) + size * turn, mode="wrap") for turn in range(share)]
        return [batches[place] for place in generator.permutation(len(batches))]
