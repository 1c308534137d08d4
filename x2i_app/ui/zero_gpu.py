"""An Engine for a ZeroGPU Space, whose card is there only while a function that asked for it runs, in its own process.

How `spaces.GPU` works: https://huggingface.co/docs/hub/spaces-zerogpu. It does nothing elsewhere.
"""

import os
import threading
from collections.abc import Iterator
from dataclasses import replace
from math import ceil

import gradio as gr

from x2i_app.errors import EngineError, X2IError
from x2i_app.media import with_own_size
from x2i_app.request import GenerationRequest, GenerationResult
from x2i_app.serving.engine import Engine
from x2i_app.serving.eta import Work
from x2i_app.serving.job_events import Moment
from x2i_app.serving.jobs import Job
from x2i_app.settings import Settings
from x2i_app.specs import FluxSpec

# Of the card that is lent, 3/7 of an H200 (989 TFLOP/s), 40 % are assumed; a step at 1024 x 1024 is 74.4 TFLOP.
_SECONDS_PER_STEP = 74.4 / (0.4 * 989 * 3 / 7)
_SECONDS_PER_DECODE = 1.0  # at 1024 x 1024
_SECONDS_BEFORE = 20.0  # for the weights to come to the card, and for reading
_MARGIN = 1.5  # who exceeds what they asked for is stopped
MOST_SECONDS = 600
_WATCH_SECONDS = 0.5  # without news, until a stop is noticed


def is_zero_gpu() -> bool:
    """Whether this is a ZeroGPU Space."""
    return os.environ.get("SPACES_ZERO_GPU", "").lower() in ("1", "t", "true")  # as `spaces` reads it


def gpu_seconds(request: GenerationRequest, flux: FluxSpec) -> int:
    """Seconds of the card to ask for, from the size, steps and number of the pictures; at most MOST_SECONDS.

    request: what is open in it is as the FLUX model has it. Computed, not measured.
    """
    work = Work.of(with_own_size(request, flux.resolution).with_defaults(flux, seed=0))
    drawing = (work.denoise * _SECONDS_PER_STEP + work.decode * _SECONDS_PER_DECODE) / 1024**2
    return min(MOST_SECONDS, ceil(_SECONDS_BEFORE + _MARGIN * drawing))


class ZeroGpuEngine(Engine):
    """Queue, places and stopping are the Engine's own; drawing happens in the process to which a card is lent.

    The model is loaded as this is made, in the thread that calls: `spaces` pretends that there is a card in the thread
    that imported it alone. It is for one model: none can be changed or unloaded.
    """

    def __init__(self, settings: Settings):
        import spaces  # first of all: torch may not have looked for a card by itself before

        super().__init__(replace(settings, switch="no"))
        lend = spaces.GPU(duration=lambda request, previewed: gpu_seconds(request, self.flux))
        self._moments = lend(self._moments)
        super()._load()

    def _load(self) -> X2IError | None:
        """Nothing more, in the worker."""
        return EngineError(self._detail) if self._state == "failed" else None

    def start(self) -> None:
        """Begin to work."""
        self._worker.start()

    def _draw(self, job: Job) -> GenerationResult:
        if isinstance(job, _LentJob):
            return super()._draw(job)
        moments = self._moments(job.request, job.previewed)
        try:
            # As the visitor: the card is lent on account of whoever asked for the picture.
            while moment := job.context.run(next, moments, None):
                moment.retell(job)
        except gr.Error as error:  # no card is free, or the visitor's share is used up: `spaces` has a sentence for it
            raise EngineError(f"{error.title}: {error.message!s}") from error
        finally:
            moments.close()
        self._pace.learn(Work.of(job.partial.request), job.partial.seconds)
        return job.partial

    def _moments(self, request: GenerationRequest, previewed: bool) -> Iterator[Moment]:
        """In the process with the card."""
        job, sent = _LentJob(request, previewed=previewed), None
        artist = threading.Thread(target=self._run, args=(job,), name="x2i-zero-gpu")
        artist.start()
        try:
            for progress in job.watch(_WATCH_SECONDS):
                moment = Moment.of(job, progress, sent)
                yield moment
                sent = moment.partial or sent
        finally:
            job.cancel()
            artist.join()


class _LentJob(Job):
    """A job where the card is."""
