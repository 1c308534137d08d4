"""Which samples are in which batch: every one of them, as often as the others, in any order that is asked for."""

from collections import Counter

import numpy as np
import pytest

from x2i_app.training.batches import Epochs

LENGTHS = [5] * 11 + [7] * 6 + [9] + [12] * 3


def test_in_batches_of_one_every_sample_comes_once_an_epoch_and_in_another_order_in_the_next():
    epochs = Epochs(LENGTHS, 1, seed=3)
    first, second = ([int(epochs[number][0]) for number in range(start, start + 21)] for start in (0, 21))
    assert sorted(first) == sorted(second) == list(range(21))
    assert first != second


def test_a_batch_has_one_length_and_no_sample_twice_and_is_a_function_of_its_number():
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
def test_in_the_long_run_every_sample_counts_the_same(batch_size):
    """Also those of a length that fills no batch, each of which counts for more in its own."""
    epochs, counts = Epochs(LENGTHS, batch_size, seed=0), Counter()
    steps = epochs.count * 600
    for number in range(steps):
        batch = epochs[number]
        counts.update(dict.fromkeys(batch.tolist(), 1 / len(batch)))
    shares = np.array([counts[index] for index in range(21)]) * 21 / steps
    assert shares == pytest.approx(1, abs=0 if batch_size == 1 else 0.1)


def test_of_a_large_corpus_an_epoch_leaves_hardly_anything_out():
    """Chosen at random anew for every batch, 37 % would not come."""
    lengths = np.random.default_rng(0).integers(10, 40, 4000).tolist()
    epochs = Epochs(lengths, 8, seed=0)
    seen = {int(index) for number in range(epochs.count) for index in epochs[number]}
    assert len(seen) > 0.96 * 4000
