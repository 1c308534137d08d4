"""Time two ways of doing one thing alternately in one process: a machine's speed drifts, but hardly within a pair."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Comparison:
    """Seconds of the fastest run of each way, and the median of the pairs' ratios, ours : other."""

    ours: float
    other: float
    ratio: float


def compare(ours: Callable[[], object], other: Callable[[], object], runs: int = 5, warm_up: int = 1) -> Comparison:
    """Time both, alternately, in `runs` pairs."""
    times: dict[Callable, list[float]] = {ours: [], other: []}
    for _ in range(warm_up + runs):
        for way, taken in times.items():
            start = time.perf_counter()
            way()
            taken.append(time.perf_counter() - start)
    pairs = list(zip(*(taken[warm_up:] for taken in times.values()), strict=True))
    return Comparison(*map(min, zip(*pairs, strict=True)), statistics.median(a / b for a, b in pairs))


def print_row(what: str, measured: str, goal: str, reached: bool) -> None:
    """A row of a table in Markdown."""
    print(f"| {what} | {measured} | {goal} | {'yes' if reached else 'no'} |", flush=True)
