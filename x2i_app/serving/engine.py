"""The engine: a fair queue of jobs, their progress and the time they take. A Worker draws them.

Importing it imports no torch: the worker does when it loads its model.
"""

import logging
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from x2i_app.controlnet import NO_CONTROLNET
from x2i_app.errors import (
    EngineError,
    GenerationCancelledError,
    InvalidRequestError,
    LoadingStoppedError,
    QueueFullError,
    X2IError,
    explain_failure,
)
from x2i_app.limits import LIMITS, MAX_SEED, validate_integer
from x2i_app.media import Prepared
from x2i_app.presets import PRESETS, get_preset
from x2i_app.prompts import resolve_request
from x2i_app.request import NO_LIGHT_CONTROL, NO_REFERENCE, GenerationRequest, GenerationResult, no_negative_prompt
from x2i_app.serving.eta import EtaEstimator, Work
from x2i_app.serving.fair_queue import FairQueue
from x2i_app.serving.jobs import NO_LIMITS, Job, JobLimits, JobMemory, Phase
from x2i_app.serving.protocol import EngineState, EngineStatus, Worker
from x2i_app.serving.worker import LocalWorker
from x2i_app.settings import CUSTOM, PARTS, Settings
from x2i_app.specs import EncodingSpec, FluxSpec, Preset

if TYPE_CHECKING:
    from x2i_app.loading.memory import MemoryUse
    from x2i_app.loading.plan import MemoryPlan

logger = logging.getLogger(__name__)

T = TypeVar("T")
WAITING_JOBS_PER_SESSION = 3
_SHARE_OF_ADDRESS = 4  # one address may fill a quarter of the queue
_JOIN_SECONDS = 4  # for the threads to end; Docker waits 10 s for everything
_UNLOADED = "The model was unloaded while it was being loaded; start the job again to load it."
_CLOSING = "The app is shutting down; start the job again later."


class Engine:
    """Takes GenerationRequests from any thread and has a worker draw them, as many at once as the worker allows.

    worker: None draws in this process with one pipeline, as `settings` describe it.
    """

    def __init__(self, settings: Settings, worker: Worker | None = None):
        self._worker: Worker = worker or LocalWorker(settings)
        self._worker.report = self._report
        self._first = settings
        self._state, self._detail = EngineState.IDLE, ""
        per_address = max(WAITING_JOBS_PER_SESSION, settings.queue_size // _SHARE_OF_ADDRESS)
        self._queue = FairQueue(settings.queue_size, WAITING_JOBS_PER_SESSION, per_address)
        self._jobs = JobMemory()
        self._eta = EtaEstimator()
        self._running: dict[Job, GenerationRequest] = {}  # each with every setting filled in
        self._closing = self._unloading = False  # asked for, and not done yet
        self._changing = threading.Lock()  # held while another model is found and loaded
        self._threads: list[threading.Thread] = []

    @property
    def settings(self) -> Settings:
        """Of the model that is loaded, or would be."""
        return self._worker.settings

    @property
    def preset(self) -> Preset | None:
        """The preset's facts; None for a custom model, whose facts are in its files."""
        name = self.settings.preset
        return None if name.startswith(CUSTOM) else get_preset(name)

    @property
    def flux(self) -> FluxSpec:
        """Steps, guidance, size and license of the FLUX model."""
        return self._worker.facts.flux

    @property
    def encoding(self) -> EncodingSpec | None:
        """How conversations are shown to the MLLM; None for a custom model that is not loaded yet."""
        return self._worker.facts.encoding

    @property
    def has_light_control(self) -> bool:
        """Whether a request may set control_strength."""
        return self._worker.facts.has_light_control

    @property
    def has_controlnet(self) -> bool:
        """Whether a request may have an image for a ControlNet."""
        return self._worker.facts.has_controlnet

    @property
    def sources(self) -> dict[str, str]:
        """Where each part of the model was found and who chose it; empty before anything is found."""
        return self._worker.facts.sources

    @property
    def status(self) -> EngineStatus:
        """The state, a sentence about it and the number of waiting jobs."""
        return EngineStatus(self._state, self._detail, len(self._queue))

    @property
    def is_idle(self) -> bool:
        """Whether a model is loaded and nothing is drawn or waits."""
        return self._state is EngineState.READY and not self._running and not len(self._queue)

    @property
    def is_closing(self) -> bool:
        """Whether the app is shutting down, which ends every job with an error."""
        return self._closing

    @property
    def choices(self) -> list[str]:
        """The presets that can be switched to: those of the registry, and the one that the app was started with."""
        return list(dict.fromkeys([*PRESETS, self._first.preset]))

    def settings_for(self, preset: str = "", flux: str = "", profile: str = "") -> Settings:
        """The settings of another model. What is empty stays, but parts of one preset are not carried to another.

        Raises UnknownPresetError or InvalidRequestError for a name that is not known.
        """
        now = self.settings
        preset = preset or now.preset
        start = self._first if preset == self._first.preset else replace(self._first, **dict.fromkeys(PARTS))
        kept = now.flux if preset == now.preset else start.flux
        is_same = preset == self._first.preset and (flux or kept) == self._first.flux
        kontext = start.kontext if is_same else None  # it was said of another FLUX model
        return replace(start, preset=preset, flux=flux or kept, profile=profile or now.profile, kontext=kontext)

    def memory(self) -> "tuple[MemoryPlan, MemoryUse] | None":
        """What the loaded model was planned to need at its own size, and what is in use now; None without a model.

        The first call for a model takes seconds; any thread may make it.
        """
        return self._worker.memory()

    def start(self) -> None:
        """Begin to load the model in the background, then draw. Jobs may be submitted before."""
        self._become(EngineState.LOADING)
        self._start_thread()

    def close(self) -> None:
        """Fail all jobs with EngineError at once, stop drawing within one step, then stop the worker."""
        self._closing = True
        for job in [*self._queue.close(), *self._running]:
            job.fail(EngineError(_CLOSING))
            job.cancel()
        deadline = time.monotonic() + _JOIN_SECONDS
        for thread in self._threads:
            thread.join(max(0, deadline - time.monotonic()))  # loading stops at the next report
        self._worker.close()
        self._become(EngineState.CLOSED)

    def switch(self, settings: Settings) -> Future[None]:
        """Change to another model, as `settings_for` describes it; the future is done when it is loaded.

        Its files are found, or downloaded, while the old model still draws. Then jobs wait, the old model is let go,
        and the new one is loaded. The future raises X2IError if that failed; the old model is then back.
        Raises EngineError if another change is under way.
        """
        if not self._changing.acquire(blocking=False):
            raise EngineError("Another model is being loaded; wait until it is ready.")
        done: Future[None] = Future()
        done.add_done_callback(lambda _: self._changing.release())
        threading.Thread(target=self._find, args=(settings, done), name="x2i-find", daemon=True).start()
        return done

    def call(self, function: Callable[[], T], failure: str) -> Future[T]:
        """Have the next free thread call this between two jobs. The future has its result, or raises an X2IError.

        failure: what the sentence about an unexpected error begins with.
        """
        done: Future[T] = Future()

        def run() -> None:
            try:
                done.set_result(function())
            except Exception as error:  # noqa: BLE001 - the caller waits for the future
                done.set_exception(explain_failure(error, failure))

        self._queue.call(run)
        return done

    def unload(self) -> Future[None]:
        """Unload the model after the running job and give its memory back; the next job loads it again.

        A model that is being loaded is dropped within about a second, and jobs that wait for it fail.
        The future raises EngineError if the worker cannot unload it.
        """
        done: Future[None] = Future()
        self._unloading = self._state is EngineState.LOADING
        self._queue.call(lambda: self._unload(done))
        return done

    def submit(
        self,
        request: GenerationRequest,
        session: str = "",
        preview: bool = False,
        address: str = "",
        limits: JobLimits = NO_LIMITS,
    ) -> Job:
        """Queue a request of a session. preview: show the predicted image at each step, if the settings allow it.

        address: of the client, if it is a stranger's. limits: of its time and files.
        Raises QueueFullError, EngineError if there is no model, InvalidRequestError for what the model cannot do or if
        the job would take longer than its limit.
        """
        if self._state is EngineState.FAILED:
            raise EngineError(self._detail)
        if request.control_strength and not self.has_light_control:
            raise InvalidRequestError(NO_LIGHT_CONTROL)
        if request.controlnet_image is not None and not self.has_controlnet:
            raise InvalidRequestError(NO_CONTROLNET)
        if request.reference is not None and not self.flux.takes_reference:
            raise InvalidRequestError(NO_REFERENCE)
        if request.negative_prompt and not self.flux.true_cfg:
            raise InvalidRequestError(no_negative_prompt(self.flux.name))
        job = Job(request, session, preview and self.settings.preview, address, limits)
        self._check_seconds(request, limits)
        for unheard in self._queue.put(job):
            unheard.fail(QueueFullError("The job made room for others, because nobody waited for it; start it again."))
        self._jobs.add(job)
        return job

    def check_room(self, arriving: int) -> None:
        """Raise QueueFullError unless one more job fits in. arriving: jobs that will be submitted before it."""
        self._queue.check_room(arriving)

    def get(self, job_id: str) -> Job | None:
        """A job by its id, for some time also after it has ended."""
        return self._jobs.get(job_id)

    def cancel(self, job: Job) -> None:
        """Stop a job: at once if it waits, within one step if it runs; its image is not decoded."""
        if not self._queue.remove(job):
            job.cancel()
        else:
            job.fail(GenerationCancelledError("The job was removed from the queue; start it again if you want it."))

    def jobs_of(self, session: str) -> list[Job]:
        """The jobs of a session that run or wait, in the order in which they are drawn."""
        return [*(job for job in list(self._running) if job.session == session), *self._queue.of(session)]

    def move(self, job: Job, places: int) -> None:
        """Move a waiting job among those of its session: towards the front if `places` is negative."""
        self._queue.move(job, places)

    def set_count(self, job: Job, count: int) -> bool:
        """Change how many images a waiting job draws; False if it is not waiting.

        Raises InvalidRequestError for a number that no request may have, or if more images would take longer than the
        job's limit.
        """
        count = validate_integer("num_images_per_prompt", count, LIMITS.num_images_per_prompt)
        request = job.request.with_values(num_images_per_prompt=count)
        if count > job.request.num_images_per_prompt:
            self._check_seconds(request, job.limits)
        return self._queue.change(job, request)

    def _check_seconds(self, request: GenerationRequest, limits: JobLimits) -> None:
        seconds = self._eta.seconds(Work.of(request.with_defaults(self.flux, seed=0)))
        if seconds is not None and seconds > limits.seconds:
            raise InvalidRequestError(
                f"This job would take about {seconds:,.0f} s, and {limits.seconds:g} s are allowed here; use fewer "
                "steps, fewer images or a smaller size."
            )

    def seconds_left(self, job: Job) -> float | None:
        """About how many seconds a job still takes, with those before it, estimated from recent jobs.

        None before the model has drawn a job, while it is being loaded, and when the job has ended.
        """
        if self._state is not EngineState.READY or job.progress.phase.is_final:
            return None
        if job.progress.phase is not Phase.QUEUED:
            return self._eta.seconds(self._work_left(job))
        before = [other for other in (*self._running, *self._queue.before(job)) if other is not job]
        own = self._eta.seconds(self._work_left(job))
        others = self._eta.seconds(Work.sum(map(self._work_left, before))) if before else 0.0
        return None if own is None or others is None else own + others / self._worker.max_jobs

    def _work_left(self, job: Job) -> Work:
        request = self._running.get(job) or job.request.with_defaults(self.flux, seed=0)
        return Work.of(request, job.progress.image, job.progress.step)

    # The state

    def _become(self, state: EngineState, detail: str = "") -> None:
        """The only place that sets the state. Once the engine closes, it stays closed, or failed."""
        if self._closing and self._state is EngineState.FAILED:
            return
        self._state, self._detail = (EngineState.CLOSED, "") if self._closing else (state, detail)

    def _fail(self, failure: X2IError) -> None:
        """Fail the jobs that wait, and refuse others from now on, unless loading was stopped: they load it again."""
        was_stopped = isinstance(failure, LoadingStoppedError)
        self._become(EngineState.UNLOADED if was_stopped else EngineState.FAILED, "" if was_stopped else str(failure))
        for job in self._queue.empty():
            job.fail(failure)

    def _report(self, state: EngineState | None, detail: str) -> None:
        """As protocol.Report describes it."""
        if self._closing:
            raise EngineError(_CLOSING)
        if self._unloading:
            raise LoadingStoppedError(_UNLOADED)
        if state is EngineState.FAILED:
            self._fail(EngineError(detail))
        else:
            self._become(state or self._state, detail)

    # The threads: each draws one job at a time. The first one loads the model, then starts the others.

    def _start_thread(self) -> None:
        number = len(self._threads)
        thread = threading.Thread(target=self._main, args=(number,), name=f"x2i-engine-{number}", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _main(self, number: int) -> None:
        try:
            if number == 0:
                self._load()
                for _ in range(1, self._worker.max_jobs):
                    self._start_thread()
            self._take_jobs()
        except BaseException as error:  # not expected; but no job may wait for a thread that has ended
            self._fail(EngineError(f"The engine has stopped ({type(error).__name__}); restart the app."))
            for job in [*self._running, *self._queue.close()]:
                job.fail(EngineError(self._detail or _CLOSING))
            raise

    def _take_jobs(self) -> None:
        while task := self._queue.take():
            if isinstance(task, Job):
                job, task = task, None
                job.run(self._results(job))
                self._running.pop(job, None)
                del job  # a finished job is not kept while the thread waits for the next
            else:
                task()
                task = None

    def _results(self, job: Job) -> Iterator[GenerationResult]:
        """What the worker draws of a job, one image after the other."""
        seed = secrets.randbelow(MAX_SEED + 1) if job.request.seed is None else job.request.seed
        self._running[job] = job.request.with_defaults(self.flux, seed)
        if self._closing:
            job.cancel()
        job.check_cancelled()
        if self._state is EngineState.UNLOADED:
            job.report(Phase.LOADING)
            if failure := self._load():
                raise failure
        if self._state is EngineState.FAILED:  # since the job was accepted
            raise EngineError(self._detail)
        job.begin()
        with job.inputs.spending():
            prepared = Prepared.of(resolve_request(job.request, seed, self.settings), self.flux, seed)
            self._running[job] = prepared.drawn
            yield from self._worker.draw(job, prepared)
        self._eta.learn(Work.of(prepared.drawn), job.partial.seconds)

    def _load(self) -> X2IError | None:
        """Load the model; an error fails every waiting job, and is returned."""
        self._become(EngineState.LOADING)
        try:
            self._worker.load()
        except Exception as error:  # noqa: BLE001 - every waiting job must get an answer, whatever happened
            failure = explain_failure(error, "The model could not be loaded")
            self._fail(failure)
            return failure
        self._become(EngineState.READY)
        return None

    def _unload(self, done: "Future[None]") -> None:
        self._unloading = False
        try:
            self._worker.unload()
        except Exception as error:  # noqa: BLE001 - the caller waits for the future
            done.set_exception(explain_failure(error, "The model could not be unloaded"))
            return
        self._eta.forget()
        self._become(EngineState.UNLOADED)
        done.set_result(None)

    def _find(self, settings: Settings, done: "Future[None]") -> None:
        try:
            self._worker.find(settings)
            self._queue.call(lambda: self._change(settings, done))
        except Exception as error:  # noqa: BLE001 - the caller waits for the future
            done.set_exception(explain_failure(error, "The model could not be found"))

    def _change(self, settings: Settings, done: "Future[None]") -> None:
        was_unloaded, failure = self._state is EngineState.UNLOADED, None
        self._eta.forget()
        try:
            self._worker.change(settings)
        except Exception as error:  # noqa: BLE001 - the caller waits for the future
            failure = explain_failure(error, "The model could not be loaded")
        if self._worker.is_loaded:
            self._become(EngineState.READY)
        elif was_unloaded:
            self._become(EngineState.UNLOADED)
        else:
            self._fail(failure)
        done.set_exception(failure) if failure else done.set_result(None)
