"""Jobs: what a session waits for and a worker reports on. Imports neither torch nor a user interface."""

import secrets
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Iterator
from contextvars import copy_context
from dataclasses import dataclass
from enum import StrEnum
from math import inf
from typing import TYPE_CHECKING

from x2i_app.errors import EngineError, GenerationCancelledError, X2IError, explain_failure
from x2i_app.media.budget import NO_LIMITS as NO_INPUT_LIMITS
from x2i_app.media.budget import InputBudget, InputLimits
from x2i_app.request import GenerationRequest, GenerationResult

if TYPE_CHECKING:
    from PIL.Image import Image

_REMEMBERED_JOBS = 128
_REMEMBERED_BYTES = 256 * 2**20  # of finished images
_REMEMBERED_SECONDS = 24 * 3600  # after the end of a job: a phone may sleep for a night


class Phase(StrEnum):
    """What a job is doing. The last three are final."""

    QUEUED = "queued"
    LOADING = "loading"
    ENCODING = "encoding"
    DENOISING = "denoising"
    DECODING = "decoding"
    SAVING = "saving"  # reported by the user interface that writes the files, not by the engine
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        """Whether the job has ended."""
        return self in (Phase.DONE, Phase.FAILED, Phase.CANCELLED)


@dataclass(frozen=True)
class Progress:
    """How far a job is.

    step: of `steps`, while denoising. image: of `images`, from 1. place: in the queue, from 1. detail: a sentence about
    the phase, if there is more to say.
    """

    phase: Phase
    step: int = 0
    steps: int = 0
    image: int = 0
    images: int = 0
    place: int = 0
    detail: str = ""


@dataclass(frozen=True)
class JobLimits:
    """What a job of a stranger may take: seconds to draw it, without waiting and loading; and what its files may."""

    seconds: float = inf
    inputs: InputLimits = NO_INPUT_LIMITS


NO_LIMITS = JobLimits()


class Job:
    """One request while it is drawn. A worker reports its progress; any number of threads watch it.

    id: 128 random bits that only the owner is given; with it, the job can be watched and stopped.
    session, address: whose job it is; the queue is fair to addresses first, then to the sessions of one address.
    unheard_at: since when nobody follows it, on the monotonic clock; None while somebody does.
    inputs: the budget that its files are read with.
    previewed: whether predicted images are wanted. partial: the result so far, with the images that are finished.
    preview: the prediction of the next image, if there is one.
    on_cancel: called when the job is cancelled; set by a worker that waits for another process.
    on_end: called once with the job when it has ended, in the thread that ended it.
    """

    def __init__(
        self,
        request: GenerationRequest,
        session: str = "",
        previewed: bool = False,
        address: str = "",
        limits: JobLimits = NO_LIMITS,
    ):
        self.id = secrets.token_hex(16)
        self.request = request
        self.session, self.address = session, address
        self.limits = limits
        self.inputs = InputBudget(limits.inputs)
        self.unheard_at: float | None = None
        self.previewed = previewed
        self.context = copy_context()  # contains Gradio's request, by which ZeroGPU knows the user
        self.partial: GenerationResult | None = None
        self.preview: Image | None = None
        self.result: GenerationResult | None = None
        self.ended_at = 0.0  # on the monotonic clock
        self.error: X2IError | None = None
        self.on_cancel: Callable[[], object] | None = None
        self.on_end: Callable[[Job], object] | None = None
        self._progress = Progress(Phase.QUEUED)
        self._changed = threading.Condition()
        self._cancelled = threading.Event()
        self._deadline = inf

    @property
    def progress(self) -> Progress:
        """The latest progress."""
        return self._progress

    def report(self, phase: Phase, **details) -> None:
        """Publish progress. Called by the worker; raises GenerationCancelledError once the job has been cancelled."""
        self.check_cancelled()
        self._publish(Progress(phase, **details))

    def _publish(
        self, progress: Progress, result: GenerationResult | None = None, error: X2IError | None = None
    ) -> None:
        with self._changed:
            if self._progress.phase.is_final:
                return  # a job may be ended while it is still drawn
            if progress.phase.is_final:
                self.preview, self.ended_at = None, time.monotonic()
                self.result, self.error = result, error
            self._progress = progress
            self._changed.notify_all()
        if progress.phase.is_final and self.on_end:
            self.on_end(self)

    def queued_at(self, place: int) -> None:
        """Publish the place in the queue, from 1. Called by the queue, also for a job that is cancelled meanwhile."""
        if self._progress.place != place:
            self._publish(Progress(Phase.QUEUED, place=place))

    def show(self, prediction: "Image") -> None:
        """Publish the prediction of this step. Called by the worker before it reports the step."""
        self.preview = prediction

    def add(self, partial: GenerationResult) -> None:
        """Publish the result so far, with one more image."""
        self.partial, self.preview = partial, None

    def cancel(self) -> None:
        """Ask the worker to stop within one step."""
        self._cancelled.set()
        self.inputs.cancel()
        if self.on_cancel:
            self.on_cancel()

    @property
    def is_cancelled(self) -> bool:
        """Whether the job is asked to stop, or has stopped."""
        return self._cancelled.is_set()

    def begin(self) -> None:
        """Start the clock of `limits.seconds`. Called by the engine once the model is loaded."""
        self._deadline = time.monotonic() + self.limits.seconds

    def check_cancelled(self) -> None:
        """Raise GenerationCancelledError if the job was cancelled, EngineError if it has taken too long."""
        if self.is_cancelled:
            raise GenerationCancelledError("The job was stopped before its image was finished; start it again.")
        if time.monotonic() > self._deadline:
            raise EngineError(
                f"The job took longer than {self.limits.seconds:g} s, which a job may take here; use fewer steps, "
                "fewer images or a smaller size."
            )

    def run(self, results: Iterable[GenerationResult]) -> None:
        """Publish each result as it is drawn, the last one as the final one. An error of `results` fails the job."""
        try:
            for result in results:
                self.add(result)
            self.finish(self.partial)
        except Exception as error:  # noqa: BLE001 - one job's error must not end the thread that draws the others
            self.fail(explain_failure(error, "The image could not be generated"))

    def finish(self, result: GenerationResult) -> None:
        """End the job with its result, unless it has ended."""
        self._publish(Progress(Phase.DONE), result=result)

    def fail(self, error: X2IError) -> None:
        """End the job with an error, unless it has ended; GenerationCancelledError if the user stopped it."""
        cancelled = isinstance(error, GenerationCancelledError)
        self._publish(Progress(Phase.CANCELLED if cancelled else Phase.FAILED, detail=str(error)), error=error)

    def watch(self, interval: float = 60.0) -> Iterator[Progress]:
        """Yield the latest Progress whenever it changes, the final one last; also after `interval` s without a change.

        Progress that changes faster than the caller asks for it is skipped.
        """
        known = None
        while True:
            with self._changed:
                self._changed.wait_for(lambda known=known: self._progress is not known, timeout=interval)
                known = self._progress
            yield known
            if known.phase.is_final:
                return

    def wait(self, timeout: float | None = None) -> GenerationResult:
        """Block until the job has ended. Raises the job's X2IError, or TimeoutError after `timeout` seconds."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._progress.phase.is_final, timeout):
                raise TimeoutError(f"The job was not finished within {timeout} s.")
        if self.error:
            raise self.error
        return self.result


class JobMemory:
    """Jobs by their ids. Finished jobs are forgotten when they are old, or when too many fill the memory."""

    def __init__(self):
        self._jobs: OrderedDict[str, Job] = OrderedDict()
        self._lock = threading.Lock()

    def add(self, job: Job) -> None:
        """Remember a job."""
        with self._lock:
            self._jobs[job.id] = job
            self._forget()

    def get(self, job_id: str) -> Job | None:
        """A job; None if it is forgotten or unknown."""
        with self._lock:
            self._forget()
            return self._jobs.get(job_id)

    def _forget(self):
        now = time.monotonic()
        finished = [old for old in self._jobs.values() if old.progress.phase.is_final]
        for old in finished:
            if now - old.ended_at >= _REMEMBERED_SECONDS:
                del self._jobs[old.id]
        finished = [old for old in finished if old.id in self._jobs]
        kept = sum(map(_image_bytes, finished))
        while finished and (len(self._jobs) > _REMEMBERED_JOBS or kept > _REMEMBERED_BYTES):
            # The oldest job of whoever has most: nobody's results go because another one draws many.
            owners = Counter((old.address, old.session) for old in finished)
            most = max(owners.values())
            old = next(old for old in finished if owners[old.address, old.session] == most)
            kept -= _image_bytes(old)
            finished.remove(old)
            del self._jobs[old.id]


def _image_bytes(job: Job) -> int:
    images = job.result.images if job.result else ()
    return sum(3 * image.width * image.height for image in images)
