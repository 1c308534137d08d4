"""The queue between many sessions and the threads that draw; it decides whose job is next."""

import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator

from x2i_app.errors import EngineError, QueueFullError
from x2i_app.request import GenerationRequest
from x2i_app.serving.jobs import Job

_UNHEARD_SECONDS = 3.0  # a job that nobody has followed for so long gives way; a client posts first, then listens


class FairQueue:
    """Waiting jobs, taken from the addresses in turn, and of each address from its sessions in turn.

    So no session waits until all jobs of another one are done, and opening more sessions gives nobody more turns.

    size: jobs that may wait at once. per_session, per_address: jobs of one session, and of one address, that may wait
    at once; jobs without an address are limited by session only.
    """

    def __init__(self, size: int, per_session: int, per_address: int | None = None):
        self.size = size
        self.per_session = per_session
        self.per_address = per_address or size
        self._waiting: OrderedDict[str, OrderedDict[str, deque[Job]]] = OrderedDict()  # by address, then by session
        self._calls: deque[Callable[[], None]] = deque()
        self._changed = threading.Condition()
        self._closed = False

    def __len__(self):
        with self._changed:
            return sum(1 for _ in self._all())

    def put(self, job: Job) -> list[Job]:
        """Add a job; returns those that had to make room, because nobody follows them.

        Raises QueueFullError, which says how many jobs wait, or EngineError once the queue is closed.
        """
        with self._changed:
            self._check_open()
            sessions = self._waiting.get(job.address, {})
            waiting = len(sessions.get(job.session, ()))
            if waiting >= self.per_session:
                raise QueueFullError(
                    f"{waiting} of your jobs are waiting; at most {self.per_session} are allowed. Wait for one of them."
                )
            own = sum(map(len, sessions.values()))
            if job.address and own >= self.per_address:
                raise QueueFullError(
                    f"{own} jobs from your address are waiting; at most {self.per_address} are allowed. Wait for one "
                    "of them."
                )
            self.check_room()
            removed = self._unheard()[: max(0, len(self) + 1 - self.size)]
            for each in removed:
                self._remove(each)
            self._waiting.setdefault(job.address, OrderedDict()).setdefault(job.session, deque()).append(job)
            self._publish_places()
            self._changed.notify()
            return removed

    def check_room(self, arriving: int = 0) -> None:
        """Raise QueueFullError unless one more job fits in, beside the waiting ones and `arriving` others."""
        with self._changed:
            heard = len(self) - len(self._unheard())
        if heard + arriving >= self.size:
            jobs = f"{self.size} jobs are" if self.size > 1 else "1 job is"
            raise QueueFullError(f"The queue is full: {jobs} waiting; try again later.")

    def call(self, function: Callable[[], None]) -> None:
        """Have the next free thread call this, before any job. Raises EngineError once the queue is closed."""
        with self._changed:
            self._check_open()
            self._calls.append(function)
            self._changed.notify()

    def take(self) -> Job | Callable[[], None] | None:
        """The next call, else the next job; waits for one. None once the queue is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._calls or self._waiting or self._closed)
            if self._closed:
                return None
            if self._calls:
                return self._calls.popleft()
            address, sessions = self._waiting.popitem(last=False)
            session, jobs = sessions.popitem(last=False)
            job = jobs.popleft()
            if jobs:
                sessions[session] = jobs  # behind all other sessions
            if sessions:
                self._waiting[address] = sessions  # behind all other addresses
            self._publish_places()
            return job

    def remove(self, job: Job) -> bool:
        """Remove a waiting job; False if it is not waiting."""
        with self._changed:
            if job not in self._waiting.get(job.address, {}).get(job.session, ()):
                return False
            self._remove(job)
            self._publish_places()
            return True

    def _remove(self, job: Job) -> None:
        sessions = self._waiting[job.address]
        sessions[job.session].remove(job)
        if not sessions[job.session]:
            del sessions[job.session]
        if not sessions:
            del self._waiting[job.address]

    def before(self, job: Job) -> list[Job]:
        """The waiting jobs that will be taken before this one; none if it is not waiting itself."""
        with self._changed:
            order = list(self._order())
            return order[: order.index(job)] if job in order else []

    def of(self, session: str) -> list[Job]:
        """The waiting jobs of a session, the next one first."""
        with self._changed:
            return [job for sessions in self._waiting.values() for job in sessions.get(session, ())]

    def move(self, job: Job, places: int) -> None:
        """Move a waiting job among those of its session: towards the front if `places` is negative."""
        with self._changed:
            jobs = self._waiting.get(job.address, {}).get(job.session, deque())
            if job in jobs:
                place = min(max(jobs.index(job) + places, 0), len(jobs) - 1)
                jobs.remove(job)
                jobs.insert(place, job)
                self._publish_places()

    def change(self, job: Job, request: GenerationRequest) -> bool:
        """Give a waiting job another request; False if it is not waiting."""
        with self._changed:
            if job not in self._waiting.get(job.address, {}).get(job.session, ()):
                return False
            job.request = request
            return True

    def close(self) -> list[Job]:
        """Let `take` return None from now on; returns the jobs that were still waiting."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            return self.empty()

    def empty(self) -> list[Job]:
        """Remove and return all waiting jobs."""
        with self._changed:
            left = list(self._all())
            self._waiting.clear()
            return left

    def _all(self) -> Iterator[Job]:
        return (job for sessions in self._waiting.values() for jobs in sessions.values() for job in jobs)

    def _unheard(self) -> list[Job]:
        """The jobs that nobody follows any more, the longest first."""
        before = time.monotonic() - _UNHEARD_SECONDS
        unheard = [job for job in self._all() if job.unheard_at is not None and job.unheard_at < before]
        return sorted(unheard, key=lambda job: job.unheard_at)

    def _check_open(self):
        if self._closed:
            raise EngineError("The app is shutting down; start the job again later.")

    def _publish_places(self):
        for place, job in enumerate(self._order(), 1):
            job.queued_at(place)

    def _order(self) -> Iterator[Job]:
        """The waiting jobs in the order in which they will be taken."""
        own = [_in_turn([iter(jobs) for jobs in sessions.values()]) for sessions in self._waiting.values()]
        return _in_turn(own)


def _in_turn(iterators: list[Iterator[Job]]) -> Iterator[Job]:
    """The next one of each, again and again."""
    waiting = deque(iterators)
    while waiting:
        iterator = waiting.popleft()
        if (job := next(iterator, None)) is not None:
            yield job
            waiting.append(iterator)
