"""Which samples are in which batch: each as often as the others, as a function of the batch's number."""

from collections import Counter

import numpy as np
import pytest

from x2i_app.training.batches import Epochs

LENGTHS = [5] * 11 + [7] * 6 + [9] + [12] * 3


def test_batches_of_one():
    """Every sample comes once in an epoch, and in another order in the next."""
    epochs = Epochs(LENGTHS, 1, seed=3)
    first, second = ([int(epochs[number][0]) for number in range(start, start + 21)] for start in (0, 21))
    assert sorted(first) == sorted(second) == list(range(21))
    assert first != second


def test_batches_of_four():
    """A batch has one length, no sample twice, and is a function of its number."""
    epochs = Epochs(LENGTHS, 4, seed=3)
    batches = [epochs[number] for number in range(40)]
    for batch in batches:
        lengths = {LENGTHS[index] for index in batch}
        assert len(lengths) == 1
        assert len(set(batch.tolist())) == len(batch) == min(4, LENGTHS.count(lengths.pop()))
    again = Epochs(LENGTHS, 4, seed=3)
    for number in (39, 0, 17, 4, 5):
        assert np.array_equal(again[number], batches[number])
    assert not all(np.array_equal(Epochs(LENGTHS, 4, seed=4)[number], batches[number]) for number in range(5))


@pytest.mark.parametrize("batch_size", [1, 4, 64])
def test_every_sample_counts_the_same(batch_size):
    """In the long run; also those of a length that fills no batch, each of which counts for more in its own."""
    epochs, counts = Epochs(LENGTHS, batch_size, seed=0), Counter()
    steps = epochs.count * 600
    for number in range(steps):
        batch = epochs[number]
        counts.update(dict.fromkeys(batch.tolist(), 1 / len(batch)))
    shares = np.array([counts[index] for index in range(21)]) * 21 / steps
    assert shares == pytest.approx(1, abs=0 if batch_size == 1 else 0.1)


def test_epoch_of_a_large_corpus():
    """It leaves hardly anything out; if each batch were chosen at random, 37 % would not come."""
    lengths = np.random.default_rng(0).integers(10, 40, 4000).tolist()
    epochs = Epochs(lengths, 8, seed=0)
    used = {int(index) for number in range(epochs.count) for index in epochs[number]}
    assert len(used) > 0.96 * 4000
