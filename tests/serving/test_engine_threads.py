"""The engine with other workers than its own: several jobs at once, closing at any moment, states that change."""

import threading
import time

import pytest
from PIL import Image
from waiting import wait_until

from x2i_app.errors import EngineError, GenerationCancelledError
from x2i_app.media import Prepared
from x2i_app.request import GenerationRequest, GenerationResult
from x2i_app.serving.engine import Engine
from x2i_app.serving.fair_queue import FairQueue
from x2i_app.serving.jobs import Job, Phase
from x2i_app.serving.model_manager import facts_of
from x2i_app.serving.protocol import EngineState, ignore_report
from x2i_app.settings import Settings

PATIENCE = 120  # seconds after which a test that hangs fails instead
REQUEST = GenerationRequest(prompt="a house", width=64, height=64, num_inference_steps=4, seed=1)


class BlankWorker:
    """A Worker that draws blank images of one step each, when `go_on` is set."""

    def __init__(self, max_jobs: int = 1):
        self.settings = Settings()
        self.max_jobs = max_jobs
        self.report = ignore_report
        self.is_loaded = False
        self.go_on = threading.Event()
        self.running = 0
        self.most_running = 0
        self.closed = False
        self._lock = threading.Lock()

    @property
    def facts(self):
        return facts_of(self.settings)

    def load(self):
        self.is_loaded = True

    def find(self, settings):
        self.report(None, "Downloading 1 of 2 GB")

    def change(self, settings):
        self.settings = settings

    def memory(self):
        return None

    def unload(self):
        raise EngineError("not this one")

    def close(self):
        self.closed = True

    def draw(self, job, prepared: Prepared):
        with self._lock:
            self.running += 1
            self.most_running = max(self.most_running, self.running)
        try:
            job.report(Phase.ENCODING)
            while not self.go_on.wait(0.01):
                job.check_cancelled()
            seconds = {"encode": 1.0, "denoise": 4.0, "decode": 1.0}
            yield GenerationResult((Image.new("RGB", (64, 64)),), (1,), prepared.request, seconds=seconds)
        finally:
            with self._lock:
                self.running -= 1


@pytest.fixture
def engine():
    worker = BlankWorker(max_jobs=2)
    engine = Engine(worker.settings, worker)
    engine.worker = worker
    engine.start()
    yield engine
    worker.go_on.set()
    engine.close()


def is_closing(engine):
    try:
        engine.unload()
    except EngineError:
        return True
    return False


def test_several_jobs_at_once(engine):
    """As many as the worker allows; the others wait."""
    jobs = [engine.submit(REQUEST, str(number)) for number in range(5)]
    wait_until(lambda: engine.worker.running == 2)
    assert engine.status.waiting == 3
    engine.worker.go_on.set()
    assert all(job.wait(PATIENCE).images for job in jobs)
    assert engine.worker.most_running == 2


def test_seconds_left_of_several_jobs_at_once(engine):
    """Two at a time halve the wait for those before, not the time of the job itself."""
    engine.worker.go_on.set()
    engine.submit(REQUEST).wait(PATIENCE)
    engine.worker.go_on.clear()
    running = [engine.submit(REQUEST, "running") for _ in range(2)]
    wait_until(lambda: engine.worker.running == 2)
    first, second = engine.submit(REQUEST, "one"), engine.submit(REQUEST, "other")
    assert engine.seconds_left(running[0]) == pytest.approx(6)
    assert engine.seconds_left(first) == pytest.approx(6 + 2 * 6 / 2)
    assert engine.seconds_left(second) == pytest.approx(6 + 3 * 6 / 2)


def test_a_job_is_not_run_if_it_is_taken_while_the_engine_closes(monkeypatch):
    """`close` finds it neither in the queue nor among the running jobs."""
    taken, closing = threading.Event(), threading.Event()
    take = FairQueue.take

    def take_slowly(queue):
        task = take(queue)
        if isinstance(task, Job):
            taken.set()
            closing.wait(PATIENCE)
        return task

    monkeypatch.setattr(FairQueue, "take", take_slowly)
    worker = BlankWorker()
    worker.go_on.set()
    engine = Engine(worker.settings, worker)
    engine.start()
    job = engine.submit(REQUEST)
    assert taken.wait(PATIENCE)
    closer = threading.Thread(target=engine.close)
    closer.start()
    wait_until(lambda: is_closing(engine))
    time.sleep(0.1)  # `close` looks at the running jobs
    closing.set()
    closer.join(PATIENCE)
    with pytest.raises(GenerationCancelledError):
        job.wait(PATIENCE)
    assert worker.closed


def test_reports_of_the_worker(engine):
    """A worker tells the engine's state; jobs that wait fail with it, and later ones are refused, until it is ready."""
    wait_until(lambda: engine.status.state is EngineState.READY)
    running = [engine.submit(REQUEST, "a") for _ in range(2)]
    wait_until(lambda: engine.worker.running == 2)
    waiting = engine.submit(REQUEST, "b")
    engine.worker.report(EngineState.FAILED, "The cluster is lost.")
    with pytest.raises(EngineError, match=r"The cluster is lost\."):
        waiting.wait(PATIENCE)
    with pytest.raises(EngineError, match=r"The cluster is lost\."):
        engine.submit(REQUEST)
    engine.worker.report(EngineState.READY, "Replicas running: 1.")
    assert (engine.status.state, engine.status.detail) == ("ready", "Replicas running: 1.")
    engine.worker.go_on.set()
    assert engine.submit(REQUEST).wait(PATIENCE).images
    assert all(job.wait(PATIENCE).images for job in running)


def test_the_detail_of_a_download(engine):
    """It is shown while the old model still works."""
    wait_until(lambda: engine.status.state is EngineState.READY)
    engine.worker.report(None, "Downloading 1 of 2 GB")
    assert (engine.status.state, engine.status.detail) == ("ready", "Downloading 1 of 2 GB")


def test_a_closed_engine_stays_closed():
    """Also its worker's next report fails, so that a long wait in it ends."""
    worker = BlankWorker()
    engine = Engine(worker.settings, worker)
    engine.start()
    wait_until(lambda: worker.is_loaded)
    engine.close()
    assert engine.status.state is EngineState.CLOSED
    with pytest.raises(EngineError, match="shutting down"):
        worker.report(EngineState.READY, "")
    assert engine.status.state is EngineState.CLOSED


def test_a_worker_that_cannot_unload(engine):
    with pytest.raises(EngineError, match="not this one"):
        engine.unload().result(PATIENCE)
    assert engine.status.state is EngineState.READY


def test_another_model_has_other_times(engine):
    engine.worker.go_on.set()
    engine.submit(REQUEST).wait(PATIENCE)
    waiting = Job(REQUEST)
    assert engine.seconds_left(waiting) == pytest.approx(6)
    engine.switch(engine.settings_for(profile="cpu")).result(PATIENCE)
    assert engine.settings.profile == "cpu"
    assert engine.seconds_left(waiting) is None
