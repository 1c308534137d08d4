"""Jobs and the fair queue, between real threads."""

import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from x2i_app.errors import EngineError, GenerationCancelledError, QueueFullError
from x2i_app.request import GenerationRequest, GenerationResult
from x2i_app.serving.fair_queue import FairQueue
from x2i_app.serving.jobs import Job, JobMemory, Phase, Progress

PATIENCE = 120  # seconds after which a test that hangs fails instead


def new_job(session: str = "", prompt: str = "a house") -> Job:
    return Job(GenerationRequest(prompt=prompt), session)


def result_of(job: Job) -> GenerationResult:
    return GenerationResult(images=(), seeds=(), request=job.request)


def filled(sessions: str, size: int = 64, per_session: int = 64) -> tuple[FairQueue, list[Job]]:
    """A queue with one job for each letter, put in that order."""
    queue, jobs = FairQueue(size, per_session), [new_job(session) for session in sessions]
    for job in jobs:
        queue.put(job)
    return queue, jobs


def take_all(queue: FairQueue) -> list[Job]:
    return [queue.take() for _ in range(len(queue))]


def order_of(jobs: list[Job]) -> str:
    return "".join(job.session for job in jobs)


@pytest.fixture
def threads():
    with ThreadPoolExecutor(max_workers=8) as pool:
        yield pool


@pytest.mark.parametrize(
    ("put", "taken"),
    [
        ("AAB", "ABA"),
        ("AAABBC", "ABCABA"),
        ("A" * 19 + "B", "AB" + "A" * 18),
    ],
)
def test_turns(put, taken):
    queue, _ = filled(put)
    assert order_of(take_all(queue)) == taken


@pytest.mark.parametrize("already_taken", [0, 1, 2, 5])
def test_new_session_waits_for_one_job(already_taken):
    queue, _ = filled("A" * 19)
    for _ in range(already_taken):
        queue.take()
    newcomer = new_job("B")
    queue.put(newcomer)
    assert take_all(queue).index(newcomer) == 1


def test_session_goes_to_the_end():
    queue, _ = filled("AB")
    queue.take()
    queue.put(new_job("A"))
    queue.put(new_job("C"))
    assert order_of(take_all(queue)) == "BAC"


def test_places():
    queue, (first, second, other) = filled("AAB")
    assert [job.progress for job in (first, other, second)] == [Progress(Phase.QUEUED, place=i) for i in (1, 2, 3)]
    assert queue.take() is first
    assert [job.progress.place for job in (other, second)] == [1, 2]


@given(
    st.text("ABCD", min_size=1, max_size=20),
    st.integers(0, 20),
    st.text("ABCD", max_size=6),
    st.sets(st.integers(0, 9)),
)
@settings(max_examples=200, deadline=None, derandomize=True)
def test_places_are_the_order_of_take(put, taken, put_later, removed):
    queue, jobs = filled(put)
    gone = [queue.take() for _ in range(min(taken, len(put)))]
    for session in put_later:
        jobs.append(new_job(session))
        queue.put(jobs[-1])
    gone += [jobs[i] for i in sorted(removed) if i < len(jobs) and queue.remove(jobs[i])]
    waiting = [job for job in jobs if job not in gone]
    assert len(queue) == len(waiting)
    told = sorted(waiting, key=lambda job: job.progress.place)
    assert [job.progress.place for job in told] == list(range(1, len(told) + 1))
    assert take_all(queue) == told


def test_full_queue():
    queue, _ = filled("ABC", size=3)
    late = new_job("D")
    with pytest.raises(QueueFullError, match=r"^The queue is full: 3 jobs are waiting; .*\.$"):
        queue.put(late)
    assert len(queue) == 3
    queue.take()
    queue.put(late)
    assert order_of(take_all(queue)) == "BCD"


def test_jobs_per_session():
    queue, _ = filled("AA", per_session=2)
    with pytest.raises(QueueFullError, match=r"^2 of your jobs are waiting; at most 2 are allowed.*\.$"):
        queue.put(new_job("A"))
    queue.put(new_job("B"))
    queue.take()
    queue.put(new_job("A"))
    assert order_of(take_all(queue)) == "BAA"


def test_refused_job():
    queue, jobs = filled("AB", size=2)
    refused = new_job("C")
    with pytest.raises(QueueFullError):
        queue.put(refused)
    assert not queue.remove(refused)
    assert refused.progress == Progress(Phase.QUEUED)
    assert take_all(queue) == jobs


def test_remove():
    queue, (first, second, other) = filled("AAB", size=3, per_session=2)
    assert queue.remove(first)
    assert [job.progress.place for job in (second, other)] == [1, 2]
    queue.put(new_job("A"))
    assert order_of(take_all(queue)) == "ABA"


def test_remove_unknown_job():
    queue, (taken, removed) = filled("AA")
    assert queue.take() is taken
    assert queue.remove(removed)
    assert [queue.remove(job) for job in (taken, removed, new_job("A"), new_job("B"))] == [False] * 4
    assert len(queue) == 0


def test_close():
    queue, jobs = filled("AAB")
    assert sorted(queue.close(), key=jobs.index) == jobs
    assert queue.take() is None
    assert queue.take() is None
    assert queue.close() == []
    with pytest.raises(EngineError, match=r"shutting down.*\.$"):
        queue.put(new_job("A"))


def test_close_wakes_take(threads):
    queue = FairQueue(4, 4)
    takers = [threads.submit(queue.take) for _ in range(3)]
    queue.close()
    assert [taker.result(PATIENCE) for taker in takers] == [None, None, None]


def test_take_waits(threads):
    with closing(FairQueue(4, 4)) as queue:
        taker, job = threads.submit(queue.take), new_job()
        queue.put(job)
        assert taker.result(PATIENCE) is job


def test_many_threads(threads):
    jobs = [[new_job(session) for _ in range(50)] for session in "ABCD"]
    with closing(FairQueue(200, 50)) as queue:
        takers = [threads.submit(lambda: [queue.take() for _ in range(50)]) for _ in range(4)]
        putters = [threads.submit(lambda mine=mine: [queue.put(job) for job in mine]) for mine in jobs]
        assert [putter.exception(PATIENCE) for putter in putters] == [None] * 4
        taken = [job.id for taker in takers for job in taker.result(PATIENCE)]
    assert sorted(taken) == sorted(job.id for mine in jobs for job in mine)


def test_cancelled_job_in_the_queue():
    """Whoever cancels without taking the job out of the queue must not stop the worker, or another user's `put`."""
    queue, (first, second, third) = filled("ABC")
    second.cancel()
    queue.put(new_job("D"))
    assert queue.take() is first
    assert queue.take() is second
    assert queue.take() is third


def test_wait_in_many_threads(threads):
    job = new_job()
    waiters = [threads.submit(job.wait, PATIENCE) for _ in range(4)]
    result = result_of(job)
    job.finish(result)
    assert all(waiter.result(PATIENCE) is result for waiter in waiters)
    assert job.wait() is result
    assert job.progress == Progress(Phase.DONE)


def test_wait_timeout():
    job = new_job()
    with pytest.raises(TimeoutError):
        job.wait(timeout=0)
    job.finish(result_of(job))
    assert job.wait(timeout=0) is job.result


def test_watch_in_many_threads(threads):
    job = new_job()
    watchers = [threads.submit(lambda: list(job.watch(interval=PATIENCE))) for _ in range(3)]
    for step in range(50):
        job.report(Phase.DENOISING, step=step, steps=50)
    job.finish(result_of(job))
    for watcher in watchers:
        known = watcher.result(PATIENCE)
        steps = [moment.step for moment in known[:-1]]
        assert steps == sorted(steps)
        assert known[-1] == Progress(Phase.DONE)
        assert not any(moment.phase.is_final for moment in known[:-1])


def test_watch_every_change(threads):
    job = new_job()
    moments = job.watch(interval=PATIENCE)
    assert next(moments) == Progress(Phase.QUEUED)
    for step in range(1, 6):
        reporter = threads.submit(job.report, Phase.DENOISING, step=step, steps=5, image=1, images=2)
        assert next(moments) == Progress(Phase.DENOISING, step=step, steps=5, image=1, images=2)
        reporter.result(PATIENCE)


def test_watch_finished_job():
    job = new_job()
    job.report(Phase.DECODING)
    job.finish(result_of(job))
    assert list(job.watch()) == [Progress(Phase.DONE)]


def test_watch_interval():
    job = new_job()
    moments = job.watch(interval=0.001)
    assert next(moments) is next(moments) is job.progress


def test_cancel(threads):
    job = new_job()
    started, cancelled = threading.Event(), threading.Event()

    def work():
        job.report(Phase.DENOISING, step=1, steps=9)
        started.set()
        cancelled.wait(PATIENCE)
        job.report(Phase.DENOISING, step=2, steps=9)

    worker = threads.submit(work)
    assert started.wait(PATIENCE)
    job.cancel()
    cancelled.set()
    with pytest.raises(GenerationCancelledError) as caught:
        worker.result(PATIENCE)
    assert job.progress.step == 1
    job.fail(caught.value)
    assert job.progress == Progress(Phase.CANCELLED, detail=str(caught.value))
    with pytest.raises(GenerationCancelledError):
        job.wait()


def test_failed_job(threads):
    job, error = new_job(), EngineError("The image could not be generated.")
    waiters = [threads.submit(job.wait, PATIENCE) for _ in range(3)]
    watcher = threads.submit(lambda: list(job.watch(interval=PATIENCE)))
    job.fail(error)
    assert [waiter.exception(PATIENCE) for waiter in waiters] == [error] * 3
    assert watcher.result(PATIENCE)[-1] == Progress(Phase.FAILED, detail="The image could not be generated.")
    assert job.result is None


def test_cancel_finished_job():
    job = new_job()
    job.finish(result_of(job))
    job.cancel()
    assert job.wait(timeout=0) is job.result
    assert job.progress.phase is Phase.DONE


def test_final_phases():
    assert [phase for phase in Phase if phase.is_final] == [Phase.DONE, Phase.FAILED, Phase.CANCELLED]


def test_ids():
    assert len({new_job().id for _ in range(1000)}) == 1000


def test_old_jobs_are_forgotten(monkeypatch):
    memory, job = JobMemory(), new_job()
    memory.add(job)
    job.finish(result_of(job))
    assert memory.get(job.id) is job
    monkeypatch.setattr("x2i_app.serving.jobs._REMEMBERED_SECONDS", 0)
    assert memory.get(job.id) is None


def test_memory_is_thread_safe(threads):
    """Each `add` and `get` walks through all jobs, while other threads add theirs."""
    memory = JobMemory()
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)

    def work():
        for _ in range(300):
            job = new_job()
            memory.add(job)
            job.finish(result_of(job))
            memory.get(job.id)

    try:
        workers = [threads.submit(work) for _ in range(8)]
        assert [worker.exception(PATIENCE) for worker in workers] == [None] * 8
    finally:
        sys.setswitchinterval(before)


def test_too_many_jobs_are_forgotten(monkeypatch):
    """Jobs that have not ended stay, however old they are."""
    monkeypatch.setattr("x2i_app.serving.jobs._REMEMBERED_JOBS", 3)
    memory, jobs = JobMemory(), [new_job() for _ in range(5)]
    for job in jobs[1:]:
        job.finish(result_of(job))
    for job in jobs:
        memory.add(job)
    assert [memory.get(job.id) is job for job in jobs] == [True, False, False, True, True]


def test_run_publishes_results_one_by_one():
    job, known = new_job(), []

    def results():
        for count in (1, 2):
            yield replace(result_of(job), seeds=tuple(range(count)))
            known.append(job.partial.seeds)

    job.run(results())
    assert known == [(0,), (0, 1)]
    assert job.result is job.partial
    assert job.progress.phase is Phase.DONE


def test_run_turns_errors_into_a_failed_job(caplog):
    for error, phase in ((ValueError("x"), Phase.FAILED), (GenerationCancelledError("y"), Phase.CANCELLED)):
        job = new_job()

        def results(error=error):
            raise error
            yield

        job.run(results())
        assert job.progress.phase is phase
    assert "ValueError" in caplog.text


def test_on_cancel():
    job, known = new_job(), []
    job.on_cancel = lambda: known.append(job.is_cancelled)
    job.cancel()
    assert known == [True]


def test_before():
    queue, jobs = filled("AABC")
    last = jobs[1]
    assert order_of(queue.before(last)) == "ABC"
    assert queue.before(new_job()) == []
    assert [*queue.before(last), last] == take_all(queue)
