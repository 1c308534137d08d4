"""One budget for all inputs of a job: how long they may take to read, and how much they may hold together.

A limit for each file alone is no limit: a request may name hundreds of files. The server sets a budget for each job and
for each function of the page; the library and the command line read the owner's own files and set none.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from math import inf

from x2i_app.errors import GenerationCancelledError, MediaError

_CANCELLED = "The job was stopped while its files were read; start it again."


@dataclass(frozen=True)
class InputLimits:
    """What all files of one job may take together, however many turns the conversation has.

    seconds: wall time to read them. file_bytes: their sizes. pixels: of all decoded images. video_seconds,
    audio_seconds: their durations.
    """

    seconds: float = 60
    file_bytes: int = 500_000_000
    pixels: int = 400_000_000
    video_seconds: float = 300
    audio_seconds: float = 2400


NO_LIMITS = InputLimits(inf, inf, inf, inf, inf)
_UNITS = {
    "file_bytes": ("bytes", 1),
    "pixels": ("megapixels", 1e6),
    "video_seconds": ("s of video", 1),
    "audio_seconds": ("s of audio", 1),
}


class InputBudget:
    """What is left for the inputs of one job. Any thread may cancel it.

    owner: whose job it is; the page's own functions read one file of each owner at a time. is_job: whether a job that
    the worker draws reads the files, which then never wait behind those of the page.
    """

    def __init__(self, limits: InputLimits = NO_LIMITS, owner: str = "", is_job: bool = True):
        self.limits, self.owner, self.is_job = limits, owner, is_job
        self._spent = dict.fromkeys(_UNITS, 0.0)
        self._seconds = 0.0
        self._lock = threading.Lock()
        self._kill: Callable[[], object] | None = None
        self._is_cancelled = False

    @contextmanager
    def spending(self) -> Iterator[None]:
        """All files that are read inside the block count."""
        token = _current.set(self)
        try:
            yield
        finally:
            _current.reset(token)

    def charge(self, what: str, amount: float) -> None:
        """Count something that was read. what: the name of a limit. Raises MediaError if it is more than is left."""
        self._spent[what] += amount
        allowed = getattr(self.limits, what)
        if self._spent[what] > allowed:
            unit, size = _UNITS[what]
            raise MediaError(
                f"All files of the request together have more than {allowed / size:,.0f} {unit}; use fewer or smaller "
                "ones."
            )

    def check(self) -> None:
        """Raise GenerationCancelledError if the job was cancelled."""
        if self._is_cancelled:
            raise GenerationCancelledError(_CANCELLED)

    @contextmanager
    def process(self, kill: Callable[[], object], allowed: float) -> Iterator[float]:
        """Wait for another process inside the block; `cancel` and the end of the time kill it.

        allowed: seconds for this file. Yields how many it gets. Raises MediaError if the budget's time is used up,
        GenerationCancelledError if the job was cancelled.
        """
        seconds = min(allowed, self.limits.seconds - self._seconds)
        if seconds <= 0:
            raise MediaError(
                f"All files of the request together take longer than {self.limits.seconds:g} s to read; use fewer or "
                "smaller ones."
            )
        with self._lock:
            self.check()
            self._kill = kill
        start = time.monotonic()
        try:
            yield seconds
        finally:
            with self._lock:
                self._kill = None
                self._seconds += time.monotonic() - start
        self.check()

    def cancel(self) -> None:
        """Kill the process that reads a file now; no other file is read."""
        with self._lock:
            self._is_cancelled = True
            if self._kill:
                with suppress(OSError):
                    self._kill()


_current: ContextVar[InputBudget | None] = ContextVar("x2i_input_budget", default=None)


def current_budget() -> InputBudget:
    """The budget of the code that runs now; a new one without limits if none was set."""
    return _current.get() or InputBudget(is_job=False)
