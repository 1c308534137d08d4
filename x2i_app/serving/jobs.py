"""Jobs and the queue between many sessions and the one worker that draws. Knows no torch and no user interface."""

import secrets
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from contextvars import copy_context
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from x2i_app.errors import EngineError, GenerationCancelledError, QueueFullError, X2IError
from x2i_app.request import GenerationRequest, GenerationResult

if TYPE_CHECKING:
    from PIL.Image import Image

_REMEMBERED_JOBS = 128
_REMEMBERED_BYTES = 256 * 2**20  # of finished pictures
_REMEMBERED_SECONDS = 24 * 3600  # after the end: a phone may sleep for a night


class Phase(StrEnum):
    """What a job is doing. The last three are final."""

    QUEUED = "queued"
    LOADING = "loading"
    ENCODING = "encoding"
    DENOISING = "denoising"
    DECODING = "decoding"
    SAVING = "saving"  # told by whoever writes the files, not by the engine
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        """Whether nothing more will happen."""
        return self in (Phase.DONE, Phase.FAILED, Phase.CANCELLED)


@dataclass(frozen=True)
class Progress:
    """A moment of a job.

    step of steps while denoising; picture of pictures, from 1; place: jobs that come before it while queued;
    detail: a sentence about the phase, if there is more to say.
    """

    phase: Phase
    step: int = 0
    steps: int = 0
    image: int = 0
    images: int = 0
    place: int = 0
    detail: str = ""


@dataclass(frozen=True)
class EngineStatus:
    """state: "idle", "loading", "ready", "unloaded", "failed" or "closed"; waiting: jobs in the queue.

    detail: why it failed, or how far a download is.
    """

    state: str
    detail: str
    waiting: int


class Job:
    """One request on its way to a picture. The worker reports; any number of watchers wait or look.

    id: 128 random bits, told to its owner alone: who has it may see and stop the job, nobody can guess it.
    previewed: whether somebody wants to see what is predicted. partial: the result as of now, whose pictures appear one
    by one; preview: what is predicted for the next, if that is known.
    """

    def __init__(self, request: GenerationRequest, session: str = "", previewed: bool = False):
        self.id = secrets.token_hex(16)
        self.request = request
        self.session = session
        self.previewed = previewed
        self.context = copy_context()  # Gradio knows by it whose request this is
        self.partial: GenerationResult | None = None
        self.preview: Image | None = None
        self.result: GenerationResult | None = None
        self.ended_at = 0.0  # on the monotonic clock
        self.error: X2IError | None = None
        self._progress = Progress(Phase.QUEUED)
        self._changed = threading.Condition()
        self._cancelled = threading.Event()

    @property
    def progress(self) -> Progress:
        """The latest moment."""
        return self._progress

    def report(self, phase: Phase, **details) -> None:
        """Tell the watchers. Called by the worker; raises GenerationCancelledError once the job has been cancelled."""
        if not phase.is_final:
            self.check_cancelled()
        self._tell(Progress(phase, **details))

    def _tell(self, progress: Progress) -> None:
        with self._changed:
            if progress.phase.is_final:
                self.preview, self.ended_at = None, time.monotonic()
            self._progress = progress
            self._changed.notify_all()

    def queued_at(self, place: int) -> None:
        """The place in the queue, from 1. Called by the queue, also for a job that was cancelled while it waits."""
        if self._progress.place != place:
            self._tell(Progress(Phase.QUEUED, place=place))

    def show(self, prediction: "Image") -> None:
        """What the picture is going to be, as of this step. Called by the worker before it reports the step."""
        self.preview = prediction

    def add(self, partial: GenerationResult) -> None:
        """Another picture is finished. Called by the worker before it reports what comes next."""
        self.partial, self.preview = partial, None

    def cancel(self) -> None:
        """Ask the worker to stop within one step."""
        self._cancelled.set()

    @property
    def is_cancelled(self) -> bool:
        """Whether it is to stop, or has stopped."""
        return self._cancelled.is_set()

    def check_cancelled(self) -> None:
        """Raise GenerationCancelledError if the job was cancelled."""
        if self.is_cancelled:
            raise GenerationCancelledError("The job was stopped before its picture was finished; start it again.")

    def finish(self, result: GenerationResult) -> None:
        """The worker is done."""
        self.result = result
        self.report(Phase.DONE)

    def fail(self, error: X2IError) -> None:
        """The worker gave up, or the user did."""
        self.error = error
        cancelled = isinstance(error, GenerationCancelledError)
        self.report(Phase.CANCELLED if cancelled else Phase.FAILED, detail=str(error))

    def watch(self, interval: float = 60.0):
        """Yield the latest Progress whenever it has changed, the final one last; and after `interval` s without news.

        Moments that pass faster than they are looked at are left out.
        """
        seen = None
        while True:
            with self._changed:
                self._changed.wait_for(lambda seen=seen: self._progress is not seen, timeout=interval)
                seen = self._progress
            yield seen
            if seen.phase.is_final:
                return

    def wait(self, timeout: float | None = None) -> GenerationResult:
        """Block until the result is there. Raises the job's X2IError, or TimeoutError after `timeout` seconds."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._progress.phase.is_final, timeout):
                raise TimeoutError(f"The job was not finished within {timeout} s.")
        if self.error:
            raise self.error
        return self.result


class FairQueue:
    """Waiting jobs, taken from the sessions in turn, so that nobody waits behind all jobs of one neighbour.

    size: jobs that may wait at once. per_session: jobs that one session may have waiting.
    """

    def __init__(self, size: int, per_session: int):
        self.size = size
        self.per_session = per_session
        self._waiting: OrderedDict[str, deque[Job]] = OrderedDict()
        self._calls: deque[Callable[[], None]] = deque()
        self._changed = threading.Condition()
        self._closed = False

    def __len__(self):
        with self._changed:
            return sum(map(len, self._waiting.values()))

    def put(self, job: Job) -> None:
        """Add a job. Raises QueueFullError, which says how many wait, or EngineError once the queue is closed."""
        with self._changed:
            self._check_open()
            self.check_room()
            mine = self._waiting.setdefault(job.session, deque())
            if len(mine) >= self.per_session:
                raise QueueFullError(
                    f"You have {len(mine)} jobs waiting and {self.per_session} are allowed; wait for one to finish."
                )
            mine.append(job)
            self._tell_places()
            self._changed.notify()

    def check_room(self, coming: int = 0) -> None:
        """Raise QueueFullError unless there is room for a job more than those that wait and those that are coming."""
        if len(self) + coming >= self.size:
            jobs = f"{self.size} jobs are" if self.size > 1 else "1 job is"
            raise QueueFullError(f"{jobs} waiting already, which is all there is room for; try later.")

    def call(self, function: Callable[[], None]) -> None:
        """Have the worker call this before the next job. Raises EngineError once the queue is closed."""
        with self._changed:
            self._check_open()
            self._calls.append(function)
            self._changed.notify()

    def take(self) -> Job | Callable[[], None] | None:
        """The next call, else the next job, waiting for one; None once the queue is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._calls or self._waiting or self._closed)
            if self._closed:
                return None
            if self._calls:
                return self._calls.popleft()
            session, jobs = self._waiting.popitem(last=False)
            job = jobs.popleft()
            if jobs:
                self._waiting[session] = jobs  # behind everybody else
            self._tell_places()
            return job

    def remove(self, job: Job) -> bool:
        """Take a waiting job out; False if it does not wait (any more)."""
        with self._changed:
            jobs = self._waiting.get(job.session, ())
            if job not in jobs:
                return False
            jobs.remove(job)
            if not jobs:
                del self._waiting[job.session]
            self._tell_places()
            return True

    def before(self, job: Job) -> list[Job]:
        """The waiting jobs that are taken before this one, as things stand, if it waits itself."""
        with self._changed:
            order = list(self._order())
            return order[: order.index(job)] if job in order else []

    def close(self) -> list[Job]:
        """Let `take` return None; gives back the jobs that were still waiting."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            return self.empty()

    def empty(self) -> list[Job]:
        """Take out and give back all the jobs that wait."""
        with self._changed:
            left = [job for jobs in self._waiting.values() for job in jobs]
            self._waiting.clear()
            return left

    def _check_open(self):
        if self._closed:
            raise EngineError("The app is shutting down; start the job again later.")

    def _tell_places(self):
        for place, job in enumerate(self._order(), 1):
            job.queued_at(place)

    def _order(self) -> Iterator[Job]:
        rounds = [deque(jobs) for jobs in self._waiting.values()]
        while rounds := [jobs for jobs in rounds if jobs]:
            for jobs in rounds:
                yield jobs.popleft()


class JobMemory:
    """Jobs by their ids; the oldest finished ones are let go, so that memory stays bounded, and none stays for ever."""

    def __init__(self):
        self._jobs: OrderedDict[str, Job] = OrderedDict()
        self._lock = threading.Lock()

    def add(self, job: Job) -> None:
        """Remember a job."""
        with self._lock:
            self._jobs[job.id] = job
            self._forget()

    def get(self, job_id: str) -> Job | None:
        """A job, unless it was let go or never was."""
        with self._lock:
            self._forget()
            return self._jobs.get(job_id)

    def _forget(self):
        finished = [old for old in self._jobs.values() if old.progress.phase.is_final]
        kept, now = sum(map(_image_bytes, finished)), time.monotonic()
        for old in finished:
            is_young = now - old.ended_at < _REMEMBERED_SECONDS
            if is_young and len(self._jobs) <= _REMEMBERED_JOBS and kept <= _REMEMBERED_BYTES:
                continue
            kept -= _image_bytes(old)
            del self._jobs[old.id]


def _image_bytes(job: Job) -> int:
    images = job.result.images if job.result else ()
    return sum(3 * image.width * image.height for image in images)
