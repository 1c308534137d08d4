"""The worker for a ZeroGPU Space, where a GPU is lent to one function call, which runs in a process of its own.

How `spaces.GPU` works: https://huggingface.co/docs/hub/spaces-zerogpu. Elsewhere it does nothing.
"""

import os
import threading
from collections.abc import Iterator
from dataclasses import replace
from math import ceil
from typing import TYPE_CHECKING

from x2i_app.errors import EngineError
from x2i_app.media import Prepared
from x2i_app.request import GenerationRequest, GenerationResult
from x2i_app.serving.eta import Work
from x2i_app.serving.job_events import JobEvent, events_of, follow
from x2i_app.serving.jobs import Job
from x2i_app.serving.protocol import ModelFacts, Report, ignore_report
from x2i_app.serving.worker import LocalWorker
from x2i_app.settings import Settings
from x2i_app.workspace import exit_with_parent

if TYPE_CHECKING:
    from x2i_app.loading.memory import MemoryUse
    from x2i_app.loading.plan import MemoryPlan

# Seconds on the GPU that is lent: 3/7 of an H200 (989 TFLOP/s), of which 40 % are assumed to be reached.
_SECONDS_PER_STEP = 74.4 / (0.4 * 989 * 3 / 7)  # at 1024 x 1024, where a step is 74.4 TFLOP
_SECONDS_PER_DECODE = 1.0  # at 1024 x 1024
_START_SECONDS = 20.0  # to copy the weights to the GPU, and to encode
_MARGIN = 1.5  # a call that takes longer than it asked for is stopped
MAX_SECONDS = 600
_POLL_SECONDS = 0.5  # without progress, until a cancelled job is noticed
_NO_CHANGE = "The model of a ZeroGPU Space cannot be changed or unloaded; start the Space with another one."


def is_zero_gpu() -> bool:
    """Whether this is a ZeroGPU Space."""
    return os.environ.get("SPACES_ZERO_GPU", "").lower() in ("1", "t", "true")  # as `spaces` reads it


def gpu_seconds(request: GenerationRequest) -> int:
    """Seconds of the GPU to ask for, computed from size, steps and number of images; at most MAX_SECONDS.

    request: with every setting filled in.
    """
    work = Work.of(request)
    drawing = (work.denoise * _SECONDS_PER_STEP + work.decode * _SECONDS_PER_DECODE) / 1024**2
    return min(MAX_SECONDS, ceil(_START_SECONDS + _MARGIN * drawing))


class ZeroGpuWorker:
    """A Worker (see protocol.py) whose jobs are drawn in the process to which a GPU is lent.

    The model is loaded in the constructor, by the thread that calls it: only in the thread that imported `spaces`
    does torch see the GPU that `spaces` emulates. The model can neither be changed nor unloaded.
    """

    max_jobs = 1

    def __init__(self, settings: Settings):
        import spaces  # before anything lets torch look for a GPU by itself

        self.report: Report = ignore_report
        self.settings = replace(settings, switch="no")
        self._local = LocalWorker(self.settings)
        self._pid = os.getpid()
        self._lent = spaces.GPU(duration=lambda prepared, previewed: gpu_seconds(prepared.drawn))(self._events)
        self._failure: Exception | None = None
        try:
            self._local.load()
        except Exception as error:  # noqa: BLE001 - `load` raises it, where the engine expects it
            self._failure = error

    @property
    def facts(self) -> ModelFacts:
        """As in Worker."""
        return self._local.facts

    @property
    def is_loaded(self) -> bool:
        """As in Worker."""
        return self._local.is_loaded

    def load(self) -> None:
        """As in Worker; the constructor has loaded the model already."""
        if self._failure:
            raise self._failure

    def find(self, settings: Settings) -> None:
        """Raises EngineError, as the model cannot be changed."""
        raise EngineError(_NO_CHANGE)

    def change(self, settings: Settings) -> None:
        """Raises EngineError, as the model cannot be changed."""
        raise EngineError(_NO_CHANGE)

    def unload(self) -> None:
        """Raises EngineError, as the model cannot be unloaded."""
        raise EngineError(_NO_CHANGE)

    def memory(self) -> "tuple[MemoryPlan, MemoryUse] | None":
        """As in Worker."""
        return self._local.memory()

    def close(self) -> None:
        """As in Worker."""
        self._local.close()

    def draw(self, job: Job, prepared: Prepared) -> Iterator[GenerationResult]:
        """As in Worker. Raises EngineError if no GPU is lent."""
        events = self._lent(prepared, job.previewed)
        try:
            # In the context of the user's request, because the GPU time is counted on that user's account.
            yield from follow(iter(lambda: job.context.run(next, events, None), None), job)
        except Exception as error:
            # No GPU is free, or the quota is used up: errors of `spaces` have a title and a message for the user.
            if title := getattr(error, "title", None):
                raise EngineError(f"{title}: {error.message!s}") from error
            raise
        finally:
            events.close()

    def _events(self, prepared: Prepared, previewed: bool) -> Iterator[JobEvent]:
        """Draw a copy of the job; runs in the process with the GPU."""
        if os.getpid() != self._pid:
            exit_with_parent()
        job = Job(prepared.request, previewed=previewed)
        thread = threading.Thread(target=lambda: job.run(self._local.draw(job, prepared)), name="x2i-zero-gpu")
        thread.start()
        try:
            yield from events_of(job, job.watch(_POLL_SECONDS))
        finally:
            job.cancel()
            thread.join()
