"""Which samples are in which batch: each as often as the others, as a function of the batch's number."""

from collections import Counter

import numpy as np
import pytest
import torch

from x2i_app.training.batches import Epochs, ImageBatches, Shuffles
from x2i_app.training.image_data import TrainingImage, bucket_size

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


@pytest.mark.parametrize("batch_size", [1, 4, 9])
def test_shuffles(batch_size):
    """Batches are full, also where an epoch ends; every sample comes once in an epoch; each is found at any time."""
    shuffles = Shuffles([3, 5, 8, 9, 12, 20], batch_size, seed=1)
    batches = [shuffles[number] for number in range(12)]
    assert {len(batch) for batch in batches} == {batch_size}
    order = [index for batch in batches for index in batch]
    epochs = [order[start : start + 6] for start in range(0, len(order) - 5, 6)]
    assert all(sorted(epoch) == [3, 5, 8, 9, 12, 20] for epoch in epochs)
    assert len(epochs) < 2 or epochs[0] != epochs[1]
    again = Shuffles([3, 5, 8, 9, 12, 20], batch_size, seed=1)
    assert [again[number] for number in reversed(range(12))] == batches[::-1]


def test_groups_of_images():
    """A batch of images whose captions and sizes differ has all of them, in groups that need no padding."""
    images = [TrainingImage.of_prompt(str(index)) for index in range(6)]
    lengths, sizes = (3, 3, 4, 3, 4, 3), ((8, 8), (8, 8), (8, 8), (4, 8), (8, 8), (8, 8))
    conditioning = [
        {"prompt_embeds": torch.full((length, 2), float(index)), "pooled": torch.full((2,), float(index))}
        for index, length in enumerate(lengths)
    ]
    latents = [{"latents": torch.full((4, *size), float(index))} for index, size in enumerate(sizes)]
    bare = {"prompt_embeds": torch.full((1, 2), -1.0), "pooled": torch.full((2,), -1.0)}
    batches = ImageBatches(images, conditioning, latents, 5, 0, chosen=(0, 1, 2, 3, 4))
    groups = batches[0]
    assert sorted(len(group["latents"]) for group in groups) == [1, 2, 2]
    for group in groups:
        assert torch.equal(group["latents"][:, 0, 0, 0], group["prompt_embeds"][:, 0, 0])
        assert torch.equal(group["pooled"][:, 0], group["latents"][:, 0, 0, 0])
    found = torch.cat([group["pooled"][:, 0] for number in range(20) for group in batches[number]])
    assert sorted(set(found.tolist())) == [0, 1, 2, 3, 4]  # 5 is held out
    dropping = ImageBatches(images, conditioning, latents, 5, 0, (0, 1, 2, 3, 4), bare, dropout=0.4)
    found = torch.cat([group["pooled"][:, 0] for number in range(100) for group in dropping[number]])
    assert 0.33 < (found == -1).float().mean() < 0.47


@pytest.mark.parametrize(
    ("size", "resolution", "expected"),
    [
        ((3000, 3000), 1024, (1024, 1024)),
        ((4000, 3000), 1024, (1152, 896)),
        ((3000, 4000), 1024, (896, 1152)),
        ((5000, 100), 1024, (1472, 704)),
        ((100, 5000), 128, (96, 176)),
        ((7, 7), 1040, (1040, 1040)),
    ],
)
def test_bucket_sizes(size, resolution, expected):
    assert bucket_size(*size, resolution) == expected
