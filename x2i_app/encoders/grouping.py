"""Batches of inputs with equal shapes, so that no padding is needed."""

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import torch
from transformers import BatchFeature

T = TypeVar("T")


def run_in_groups(
    inputs: Iterable[BatchFeature], run: Callable[[BatchFeature], list[T]], max_group_size: int
) -> list[T]:
    """Run a function on inputs stacked by shape; result i belongs to input i.

    inputs: one conversation each, B = 1. They are consumed one by one; a group runs when it has `max_group_size`
    members or the inputs end, so that few inputs are in memory at a time. run: returns one result per member, in order.
    """
    results: dict[int, T] = {}
    pending: dict[tuple, list[tuple[int, BatchFeature]]] = {}

    def flush(shape: tuple) -> None:
        indices, group = zip(*pending.pop(shape), strict=True)
        results.update(zip(indices, run(stack(group)), strict=True))

    for index, item in enumerate(inputs):
        shape = shape_of(item)
        pending.setdefault(shape, []).append((index, item))
        if len(pending[shape]) == max_group_size:
            flush(shape)
    for shape in list(pending):
        flush(shape)
    return [results[index] for index in range(len(results))]


def shape_of(inputs: BatchFeature) -> tuple:
    """What must be equal for inputs to be stacked: the number of tokens, and the number and sizes of media."""
    return tuple(sorted((name, tuple(v.shape) if torch.is_tensor(v) else len(v)) for name, v in inputs.items()))


def stack(group: Iterable[BatchFeature]) -> BatchFeature:
    """Conversations of one shape as a batch.

    Everything is concatenated along its first dimension: token rows, one per conversation, and the patches, grids and
    audio features, which processors return for one medium after the other in order of appearance.
    """
    group = list(group)
    return BatchFeature({name: _join([inputs[name] for inputs in group]) for name in group[0]})


def _join(values: list[Any]) -> Any:
    if len(values) == 1:
        return values[0]
    return torch.cat(values) if torch.is_tensor(values[0]) else [item for value in values for item in value]
