"""The batches of a run: which samples are in a batch of some number, and their tensors."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from x2i_app.training.encoding import LiveStates, LiveTeacher, TensorCache
from x2i_app.training.image_data import TrainingImage, to_pixels

_GOLDEN = (5**0.5 - 1) / 2  # the fractional parts of its multiples fill 0 to 1 most evenly


class Epochs:
    """epochs[number]: the indices of a batch's samples, all of one length, so that nothing is padded.

    A function of seed and number. Of N samples, N // batch_size batches are an epoch. In an epoch each length has as
    many batches as its share of the samples (by systematic sampling, one more or less if that is not a whole number),
    so that in the long run every sample counts the same. Within a length no sample repeats before all have come; in
    batches of one that is true of all samples. A batch is smaller than `batch_size` if its length has fewer samples.
    """

    def __init__(self, lengths: Sequence[int], batch_size: int, seed: int):
        buckets = defaultdict(list)
        for index, length in enumerate(lengths):
            buckets[length].append(index)
        self.buckets = [np.array(buckets[length]) for length in sorted(buckets)]
        self.batch_size, self.seed = batch_size, seed
        self.count = max(1, len(lengths) // batch_size)
        self._epoch, self._batches = -1, []

    @property
    def mean_batch_size(self) -> float:
        """Samples of a batch, on average over all batches."""
        sizes = np.array([len(bucket) for bucket in self.buckets])
        return float((sizes * np.minimum(sizes, self.batch_size)).sum() / sizes.sum())

    def __getitem__(self, number: int) -> np.ndarray:
        epoch, position = divmod(number, self.count)
        if epoch != self._epoch:
            self._epoch, self._batches = epoch, self._draw(epoch)
        return self._batches[position]

    def _draw(self, epoch: int) -> list[np.ndarray]:
        generator = np.random.default_rng((self.seed, epoch))
        ends = np.cumsum([len(bucket) for bucket in self.buckets])
        # Points at equal distances over all samples in the order of their lengths, with another start in every epoch.
        points = (np.arange(self.count) + epoch * _GOLDEN % 1) * (ends[-1] / self.count)
        shares = np.bincount(np.searchsorted(ends, points, side="right"), minlength=len(ends))
        batches = []
        for bucket, share in zip(self.buckets, shares, strict=True):
            order, size = generator.permutation(bucket), min(self.batch_size, len(bucket))
            batches += [order.take(np.arange(size) + size * turn, mode="wrap") for turn in range(share)]
        return [batches[index] for index in generator.permutation(len(batches))]


class CaptionBatches(Dataset):
    """batches[number]: captions whose states have one length, as `Epochs` chooses them.

    Each is a dictionary of what is cached: hidden_states (B, L, S, H), prompt_embeds (B, T, joint), pooled (B, pooled),
    and latents (B, C, H/8, W/8) if there are images. `captions`, (B,), has the captions' indices; `complete` adds what
    is computed live.
    """

    def __init__(
        self,
        states: TensorCache | LiveStates,
        embeddings: TensorCache | LiveTeacher,
        batch_size: int,
        seed: int,
        latents: TensorCache | None = None,
    ):
        sources = [source for source in (states, embeddings, latents) if source is not None]
        self.caches = [source for source in sources if isinstance(source, TensorCache)]
        self.live = [source for source in sources if not isinstance(source, TensorCache)]
        self.states = states
        self.embeddings = embeddings
        self.lengths = states.sizes("hidden_states", dim=1)
        self._epochs = Epochs(self.lengths, batch_size, seed)
        self.batch_size, self.count = batch_size, len(self.lengths)
        self.mean_batch_size = self._epochs.mean_batch_size

    def captions(self, number: int) -> np.ndarray:
        """The indices of a batch's captions, each once."""
        return self._epochs[number]

    def __getitem__(self, number: int) -> dict[str, torch.Tensor]:
        return self.read(self.captions(number))

    def read(self, captions: Sequence[int]) -> dict[str, torch.Tensor]:
        """What is cached of captions whose states have one length."""
        rows = [{name: value for cache in self.caches for name, value in cache[int(i)].items()} for i in captions]
        batch = {name: torch.stack([row[name] for row in rows]) for name in rows[0]}
        if "rows" in batch:
            states = batch["hidden_states"]
            repeated = states[:, :, -1:].expand(-1, -1, int(batch.pop("rows")[0]) - states.shape[2], -1)
            batch["hidden_states"] = torch.cat((states, repeated), dim=2)
        return batch | {"captions": torch.as_tensor(np.asarray(captions))}

    @torch.no_grad()
    def complete(self, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """A batch with what is computed live; for the main process, not for the workers."""
        for source in self.live:
            batch |= source.read(batch["captions"].tolist())
        return batch

    def __getstate__(self):
        return self.__dict__ | {"live": [], "states": None, "embeddings": None}  # models stay in the main process


class Shuffles:
    """shuffles[number]: the samples of a batch, always `batch_size` of them; a function of seed and number.

    Every sample comes once in an epoch, in a new order; a batch may end one epoch and begin the next.
    """

    def __init__(self, samples: Sequence[int], batch_size: int, seed: int):
        self.samples, self.batch_size, self.seed = np.array(samples), batch_size, seed
        self._orders: dict[int, np.ndarray] = {}

    def __getitem__(self, number: int) -> list[int]:
        places = range(number * self.batch_size, (number + 1) * self.batch_size)
        epochs = {place // len(self.samples) for place in places}
        self._orders = {epoch: self._orders.get(epoch, self._order(epoch)) for epoch in epochs}
        return [int(self._orders[place // len(self.samples)][place % len(self.samples)]) for place in places]

    def _order(self, epoch: int) -> np.ndarray:
        return np.random.default_rng((self.seed, epoch)).permutation(self.samples)


@dataclass(frozen=True)
class ImageBatches(Dataset):
    """batches[number]: `batch_size` images in groups of one shape, as FLUX reads padding: captions of equal length and
    images of equal size. A list of groups.

    Each is a dictionary of `prompt_embeds` (B, S, joint), `pooled` (B, pooled), `latents` (B, C, height/8, width/8)
    and, if all images have one, `source` (B, 3, height, width) in [-1, 1].
    chosen: indices of the images that are learnt; others are held out. bare: what FLUX reads of the trigger word alone,
    in place of a share `dropout` of the captions. references: the sources' latents, for a FLUX.1 Kontext: then
    `reference` is in the place of `source`.
    """

    images: Sequence[TrainingImage]
    conditioning: TensorCache
    latents: TensorCache
    batch_size: int
    seed: int
    chosen: Sequence[int]
    bare: dict[str, torch.Tensor] | None = None
    dropout: float = 0.0
    references: TensorCache | None = None

    @property
    def count(self) -> int:
        """Images of an epoch."""
        return len(self.chosen)

    @cached_property
    def _shuffles(self) -> Shuffles:
        return Shuffles(self.chosen, self.batch_size, self.seed)

    def __getitem__(self, number: int) -> list[dict[str, Any]]:
        chance = np.random.default_rng((self.seed, number, 1)).random(self.batch_size)
        return self.read(self._shuffles[number], chance < self.dropout)

    def read(self, indices: Sequence[int], dropped: Sequence[bool] | None = None) -> list[dict[str, Any]]:
        """The groups of some images. dropped: which of them lose their caption."""
        has_source = not self.references and all(self.images[index].source for index in indices)
        groups: dict[tuple, list[dict[str, torch.Tensor]]] = defaultdict(list)
        for index, is_bare in zip(indices, dropped if dropped is not None else [False] * len(indices), strict=True):
            row = self.latents[index] | (self.bare if is_bare and self.bare else self.conditioning[index])
            if has_source:
                image, (height, width) = self.images[index], row["latents"].shape[1:]
                row |= {"source": to_pixels(image.open(image.source), (8 * width, 8 * height))}
            if self.references:
                row |= {"reference": self.references[index]["latents"]}
            row = {name: value.float() for name, value in row.items()}
            groups[tuple(value.shape for value in row.values())].append(row)
        return [{name: torch.stack([row[name] for row in rows]) for name in rows[0]} for rows in groups.values()]
