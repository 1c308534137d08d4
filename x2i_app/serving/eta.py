"""The time that jobs take: measured, and estimated for the next ones. Does not import torch."""

import statistics
import time
from collections import deque
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from x2i_app.request import GenerationRequest

_JOBS_IN_ESTIMATE = 8  # jobs; few, so that a change in the machine's load is noticed soon


class Stopwatch:
    """Wall time of named phases, in seconds. A phase may be started several times; its times are added up."""

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
    """What is left to do of a job: encodes, pixels times steps to denoise, pixels to decode."""

    encode: float
    denoise: float
    decode: float

    @classmethod
    def of(cls, request: GenerationRequest, image: int = 0, step: int = 0) -> "Work":
        """Of a request with every setting filled in, while `image` (from 1; 0 before the first) is at `step`."""
        pixels, steps = request.width * request.height, request.steps_run
        left = request.num_images_per_prompt - max(0, image - 1)
        # A reference image has as many tokens as the image; a negative prompt is a second call of FLUX in each step.
        calls = (2 if request.negative_prompt else 1) * (2 if request.reference is not None else 1)
        return cls(float(not image), calls * pixels * (steps * left - step), pixels * left)

    @classmethod
    def sum(cls, works: Iterable["Work"]) -> "Work":
        """Of one or more jobs together."""
        return cls(*map(sum, zip(*works, strict=True)))


class EtaEstimator:
    """Estimates seconds from the median that a unit of work took in recent jobs."""

    def __init__(self):
        self._rates: deque[Work] = deque(maxlen=_JOBS_IN_ESTIMATE)  # seconds a unit of work, of each job

    def learn(self, work: Work, seconds: Mapping[str, float]) -> None:
        """Add a finished job. seconds: of each phase, by the names of Work's fields."""
        self._rates.append(Work(*(seconds[phase] / getattr(work, phase) for phase in Work._fields)))

    def seconds(self, work: Work) -> float | None:
        """About how many seconds this will take; None before the first job has been measured."""
        if not self._rates:
            return None
        # Of two, the smaller: the first job after loading is slow.
        rates = (statistics.median_low(phase) for phase in zip(*self._rates, strict=True))
        return sum(amount * rate for amount, rate in zip(work, rates, strict=True))

    def forget(self) -> None:
        """Start over, as another model takes other times."""
        self._rates.clear()
