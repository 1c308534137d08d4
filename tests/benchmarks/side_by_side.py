"""Two ways of doing one thing, timed in turn in one process: machines are noisy, ratios of minima are not."""

import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Comparison:
    """Seconds of the fastest run of each way."""

    ours: float
    other: float

    @property
    def ratio(self) -> float:
        """Ours over the other; below 1 is faster."""
        return self.ours / self.other


def compare(ours: Callable[[], object], other: Callable[[], object], runs: int = 5, warm_up: int = 1) -> Comparison:
    """Time both, interleaved, and keep the minimum of `runs` each."""
    times: dict[Callable, list[float]] = {ours: [], other: []}
    for _ in range(warm_up + runs):
        for way, taken in times.items():
            start = time.perf_counter()
            way()
            taken.append(time.perf_counter() - start)
    return Comparison(*(min(taken[warm_up:]) for taken in times.values()))


def print_row(what: str, measured: str, goal: str, reached: bool) -> None:
    """A row of a table in Markdown."""
    print(f"| {what} | {measured} | {goal} | {'yes' if reached else 'no'} |", flush=True)
