"""How long jobs take: measured by a stopwatch, and told of the next ones. Knows no torch."""

import statistics
import time
from collections import deque
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from x2i_app.request import GenerationRequest

_REMEMBERED = 8  # jobs; few, so that a machine that has become busy or free is noticed soon


class Stopwatch:
    """Wall time of named phases, in seconds; a phase may come several times."""

    def __init__(self):
        self.seconds: dict[str, float] = {}
        self._phase: str | None = None
        self._since = 0.0

    def start(self, phase: str) -> None:
        """End the running phase and begin another."""
        self.stop()
        self._phase, self._since = phase, time.perf_counter()

    def stop(self) -> None:
        """End the running phase."""
        if self._phase:
            spent = time.perf_counter() - self._since
            self.seconds[self._phase] = self.seconds.get(self._phase, 0.0) + spent
            self._phase = None


class Work(NamedTuple):
    """What is still to do of a job: one encode, pixels times steps to denoise, and pixels to decode."""

    encode: float
    denoise: float
    decode: float

    @classmethod
    def of(cls, request: GenerationRequest, image: int = 0, step: int = 0) -> "Work":
        """Of a request with nothing left open, while its `picture` (from 1; 0 before the first) is at `step`."""
        pixels, steps = request.width * request.height, request.steps_run
        left = request.num_images_per_prompt - max(0, image - 1)
        return cls(float(not image), pixels * (steps * left - step), pixels * left)

    @classmethod
    def sum(cls, works: Iterable["Work"]) -> "Work":
        """Of one or more jobs together."""
        return cls(*map(sum, zip(*works, strict=True)))


class Pace:
    """Seconds that a unit of work took in recent jobs; their median. It knows nothing before the first job is done."""

    def __init__(self):
        self._jobs: deque[Work] = deque(maxlen=_REMEMBERED)

    def learn(self, work: Work, seconds: Mapping[str, float]) -> None:
        """What a whole job took, phase by phase."""
        self._jobs.append(Work(*(seconds[phase] / getattr(work, phase) for phase in Work._fields)))

    def seconds(self, work: Work) -> float | None:
        """About how long this will take; None before anything was measured."""
        if not self._jobs:
            return None
        paces = (statistics.median(phase) for phase in zip(*self._jobs, strict=True))
        return sum(amount * pace for amount, pace in zip(work, paces, strict=True))

    def forget(self) -> None:
        """Another model has another pace."""
        self._jobs.clear()
