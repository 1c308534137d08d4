"""Inputs of one shape through a model together, without any padding."""

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import torch
from transformers import BatchFeature

T = TypeVar("T")


def run_in_groups(
    inputs: Iterable[BatchFeature], run: Callable[[BatchFeature], list[T]], max_group_size: int
) -> list[T]:
    """`run` over inputs stacked by shape; result i belongs to input i.

    inputs: of one conversation each, B = 1. They are read one by one and wait until `max_group_size` of a shape have
    come, or all have, so that few of them are in memory at a time. run: the results of a stack, in its order.
    """
    results: dict[int, T] = {}
    waiting: dict[tuple, list[tuple[int, BatchFeature]]] = {}

    def flush(shape: tuple) -> None:
        places, group = zip(*waiting.pop(shape), strict=True)
        results.update(zip(places, run(stack(group)), strict=True))

    for place, item in enumerate(inputs):
        shape = shape_of(item)
        waiting.setdefault(shape, []).append((place, item))
        if len(waiting[shape]) == max_group_size:
            flush(shape)
    for shape in list(waiting):
        flush(shape)
    return [results[place] for place in range(len(results))]


def shape_of(inputs: BatchFeature) -> tuple:
    """What must be equal for inputs to be stacked: the length in tokens, and the number and the sizes of media."""
    return tuple(sorted((name, tuple(v.shape) if torch.is_tensor(v) else len(v)) for name, v in inputs.items()))


def stack(group: Iterable[BatchFeature]) -> BatchFeature:
    """Conversations of one shape as a batch.

    Everything is joined along its first dimension: rows of tokens one a conversation, and patches, grids and sounds,
    which processors lay out one medium after the other, in the order in which the rows show them.
    """
    group = list(group)
    return BatchFeature({name: _join([inputs[name] for inputs in group]) for name in group[0]})


def _join(values: list[Any]) -> Any:
    if len(values) == 1:
        return values[0]
    return torch.cat(values) if torch.is_tensor(values[0]) else [item for value in values for item in value]
