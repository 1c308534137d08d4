"""The queue between many sessions and the threads that draw."""

import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator

from x2i_app.errors import EngineError, QueueFullError
from x2i_app.serving.jobs import Job


class FairQueue:
    """Waiting jobs, taken from the sessions in turn: no session waits until all jobs of another one are done.

    size: jobs that may wait at once. per_session: jobs of one session that may wait at once.
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
        """Add a job. Raises QueueFullError, which says how many jobs wait, or EngineError once the queue is closed."""
        with self._changed:
            self._check_open()
            self.check_room()
            waiting = len(self._waiting.get(job.session, ()))
            if waiting >= self.per_session:
                raise QueueFullError(
                    f"{waiting} of your jobs are waiting; at most {self.per_session} are allowed. Wait for one of them."
                )
            self._waiting.setdefault(job.session, deque()).append(job)
            self._publish_places()
            self._changed.notify()

    def check_room(self, arriving: int = 0) -> None:
        """Raise QueueFullError unless one more job fits in, once `arriving` more are in the queue."""
        if len(self) + arriving >= self.size:
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
            session, jobs = self._waiting.popitem(last=False)
            job = jobs.popleft()
            if jobs:
                self._waiting[session] = jobs  # behind all other sessions
            self._publish_places()
            return job

    def remove(self, job: Job) -> bool:
        """Remove a waiting job; False if it is not waiting."""
        with self._changed:
            jobs = self._waiting.get(job.session, ())
            if job not in jobs:
                return False
            jobs.remove(job)
            if not jobs:
                del self._waiting[job.session]
            self._publish_places()
            return True

    def before(self, job: Job) -> list[Job]:
        """The waiting jobs that will be taken before this one; none if it is not waiting itself."""
        with self._changed:
            order = list(self._order())
            return order[: order.index(job)] if job in order else []

    def close(self) -> list[Job]:
        """Let `take` return None from now on; returns the jobs that were still waiting."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            return self.empty()

    def empty(self) -> list[Job]:
        """Remove and return all waiting jobs."""
        with self._changed:
            left = [job for jobs in self._waiting.values() for job in jobs]
            self._waiting.clear()
            return left

    def _check_open(self):
        if self._closed:
            raise EngineError("The app is shutting down; start the job again later.")

    def _publish_places(self):
        for place, job in enumerate(self._order(), 1):
            job.queued_at(place)

    def _order(self) -> Iterator[Job]:
        rounds = [deque(jobs) for jobs in self._waiting.values()]
        while rounds := [jobs for jobs in rounds if jobs]:
            for jobs in rounds:
                yield jobs.popleft()
