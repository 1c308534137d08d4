"""The engine: one cached pipeline, one worker, one job at a time, for every user interface.

Importing it imports no torch: the worker thread does, when `start` is called.
"""

import logging
import secrets
import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future
from typing import TYPE_CHECKING

from x2i_app.errors import EngineError, GenerationCancelledError, InvalidRequestError, X2IError, explain_failure
from x2i_app.limits import MAX_SEED
from x2i_app.media import request_hash, with_own_size
from x2i_app.request import NO_LIGHT_CONTROL, GenerationRequest, GenerationResult
from x2i_app.serving.eta import Pace, Stopwatch, Work
from x2i_app.serving.jobs import EngineStatus, FairQueue, Job, JobMemory, Phase
from x2i_app.serving.model_manager import ResidentModel
from x2i_app.settings import Settings
from x2i_app.specs import FluxSpec, Preset

if TYPE_CHECKING:
    from x2i_app.loading.sources import Sources
    from x2i_app.pipeline import Conditioning, X2IPipeline
    from x2i_app.serving.preview import Previewer

logger = logging.getLogger(__name__)

JOBS_PER_SESSION = 3
_PATIENCE = 10  # seconds for the worker to end
_REMEMBERED_CONDITIONINGS = 16  # about 4 MiB each at full size


class Engine:
    """Runs GenerationRequests, one after the other, on the pipeline that `settings` describe."""

    _at_once = 1  # jobs

    def __init__(self, settings: Settings):
        self.model = ResidentModel(settings)
        self._state, self._detail = "idle", ""
        self._queue = FairQueue(settings.queue_size, JOBS_PER_SESSION)
        self._jobs = JobMemory()
        self._conditionings: OrderedDict[str, Conditioning] = OrderedDict()
        self._previewer: Previewer | None = None
        self._pace = Pace()
        self._running: list[Job] = []
        self._closing = False
        self._changing = threading.Lock()  # held while another model is on its way
        self._worker = threading.Thread(target=self._main, args=(self._work,), name="x2i-engine", daemon=True)

    @property
    def settings(self) -> Settings:
        """What describes the model that is loaded, or would be."""
        return self.model.settings

    @property
    def preset(self) -> Preset | None:
        """The preset's facts; None for a custom model, whose facts are in its files."""
        return self.model.preset

    @property
    def flux(self) -> FluxSpec:
        """Steps, guidance, size and licence that suit the FLUX model."""
        return self.model.flux

    @property
    def _pipeline(self) -> "X2IPipeline":
        return self.model.pipeline

    @property
    def has_light_control(self) -> bool:
        """Whether a request may ask to keep to a picture."""
        return self.model.has_light_control

    @property
    def status(self) -> EngineStatus:
        """How the engine is."""
        return EngineStatus(self._state, self.model.news or self._detail, len(self._queue))

    def start(self) -> None:
        """Begin to load the model in the background, then work. Jobs may be submitted before."""
        self._state = "loading"
        self._worker.start()

    def close(self) -> None:
        """Stop the running job within one step, and the worker; jobs that still wait fail with EngineError."""
        self._closing = True
        for job in self._queue.close():
            job.fail(EngineError("The app is shutting down; start the job again later."))
        for job in tuple(self._running):
            self.cancel(job)
        if self._worker.is_alive():
            self._worker.join(_PATIENCE)  # a model that is just being loaded cannot be stopped
        if self._state != "failed":
            self._state = "closed"

    def switch(self, settings: Settings) -> Future[None]:
        """Change the model for another, as `ResidentModel.settings_for` describes it; the future is done when it is in.

        Its files are found, or downloaded, while the old model still works; then jobs wait, the old one goes, the new
        one is loaded. The future raises X2IError if that failed; the old model is then back.
        Raises EngineError if another change is under way.
        """
        if not self._changing.acquire(blocking=False):
            raise EngineError("Another model is on its way already; wait until it is there.")
        done: Future[None] = Future()
        done.add_done_callback(lambda _: self._changing.release())
        threading.Thread(target=self._find_and_change, args=(settings, done), name="x2i-find", daemon=True).start()
        return done

    def unload(self) -> Future[None]:
        """Let the model go after the running job, and give its memory back; the next job loads it again."""
        done: Future[None] = Future()
        self._queue.call(lambda: self._unload(done))
        return done

    def submit(self, request: GenerationRequest, session: str = "", preview: bool = False) -> Job:
        """Queue a request of a session. preview: show what is predicted at each step, if the settings allow it.

        Raises QueueFullError, EngineError if there is no model, InvalidRequestError if there is no LightControl.
        """
        if self._state == "failed":
            raise EngineError(self._detail)
        if request.control_strength and not self.has_light_control:
            raise InvalidRequestError(NO_LIGHT_CONTROL)
        job = Job(request, session, preview and self.settings.preview)
        self._queue.put(job)
        self._jobs.add(job)
        return job

    def check_room(self, coming: int) -> None:
        """Raise QueueFullError if the queue is full once those are in who are on their way already."""
        self._queue.check_room(coming)

    def get(self, job_id: str) -> Job | None:
        """A job by its id, also a while after it ended."""
        return self._jobs.get(job_id)

    def cancel(self, job: Job) -> None:
        """Stop a job: at once if it waits, within one step if it runs; its picture is not decoded."""
        if not self._queue.remove(job):
            job.cancel()
        else:
            job.fail(GenerationCancelledError("The job was taken out of the queue; start it again when you like."))

    def seconds_left(self, job: Job) -> float | None:
        """About how long a job and those before it still take, by what recent jobs took.

        None before the model has done one, while it is loaded, and when the job has ended.
        """
        if self._state != "ready" or job.progress.phase.is_final:
            return None
        if job.progress.phase is not Phase.QUEUED:
            return self._pace.seconds(self._work_left(job))
        known = [*self._running, *self._queue.before(job), job]
        both = own, total = [self._pace.seconds(Work.sum(map(self._work_left, jobs))) for jobs in ([job], known)]
        return None if None in both else own + (total - own) / self._at_once

    def _work_left(self, job: Job) -> Work:
        progress = job.progress
        return Work.of(job.request.with_defaults(self.flux, seed=0), progress.image, progress.step)

    # From here on: the worker, in its own thread.

    def _main(self, work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:  # nothing should; but nobody may wait for a dead worker
            failure = EngineError(f"The engine has stopped ({type(error).__name__}); restart the app.")
            self._state, self._detail = "failed", str(failure)
            for job in [*self._running, *self._queue.close()]:
                job.fail(failure)
            raise

    def _work(self) -> None:
        self._load()
        self._take_jobs()

    def _take_jobs(self) -> None:
        while task := self._queue.take():
            if isinstance(task, Job):
                self._run(task)
            else:
                task()
            task = None  # a finished job is not kept while the worker waits for the next

    def _load(self) -> X2IError | None:
        """Load the model that is not there; what went wrong is told to every job, and given back."""
        self._state, self._detail = "loading", ""
        try:
            self.model.load()
        except Exception as error:  # noqa: BLE001 - whatever happened, every job must hear of it
            failure = explain_failure(error, "The model could not be loaded")
            self._state, self._detail = "failed", str(failure)
            for job in self._queue.empty():
                job.fail(failure)
            return failure
        self._state = "closed" if self._closing else "ready"
        return None

    def _run(self, job: Job) -> None:
        self._running.append(job)
        if self._closing:
            job.cancel()
        try:
            if self._state == "unloaded":
                job.report(Phase.LOADING)
                if failure := self._load():
                    raise failure
            job.finish(self._draw(job))
        except Exception as error:  # noqa: BLE001 - the worker outlives any job
            job.fail(self._out_of_memory(error, job) or explain_failure(error, "The picture could not be made"))
        self._running.remove(job)

    def _unload(self, done: "Future[None]") -> None:
        self._forget_model()
        self.model.unload()
        self._state, self._detail = "unloaded", ""
        done.set_result(None)

    def _forget_model(self) -> None:
        self._conditionings.clear()
        self._previewer = None
        self._pace.forget()

    def _find_and_change(self, settings: Settings, done: "Future[None]") -> None:
        try:
            sources = self.model.find(settings)
            self._queue.call(lambda: self._change(settings, sources, done))
        except Exception as error:  # noqa: BLE001 - whoever waits must hear of it
            done.set_exception(explain_failure(error, "The model could not be found"))

    def _change(self, settings: Settings, sources: "Sources", done: "Future[None]") -> None:
        self._forget_model()
        before = self._state
        self._state, self._detail = "loading", ""
        try:
            self.model.change(settings, sources)
            failure = None
        except Exception as error:  # noqa: BLE001 - whoever waits must hear of it
            failure = explain_failure(error, "The model could not be loaded")
        if self.model.pipeline:
            self._state = "closed" if self._closing else "ready"
        elif before == "unloaded":
            self._state = before
        else:
            self._state, self._detail = "failed", str(failure)
            for job in self._queue.empty():
                job.fail(failure)
        done.set_exception(failure) if failure else done.set_result(None)

    def _draw(self, job: Job) -> GenerationResult:
        from x2i_app.serving.worker import draw_image

        seed = secrets.randbelow(MAX_SEED + 1) if job.request.seed is None else job.request.seed
        request = with_own_size(job.request, self.flux.resolution).with_defaults(self.flux, seed)
        self._use_loras(request)
        previewer = self._preview() if job.previewed else None
        clock = Stopwatch()
        clock.start("encode")
        job.report(Phase.ENCODING)
        conditioning = self._condition(job, request)
        seeds = [(seed + i) % (MAX_SEED + 1) for i in range(request.num_images_per_prompt)]
        images = []
        for image, one in enumerate(seeds, 1):
            images.append(draw_image(self._pipeline, job, request, conditioning, one, image, clock, previewer))
            clock.stop()
            so_far = tuple(images), tuple(seeds[:image])
            job.add(GenerationResult(*so_far, request, conditioning.answer, conditioning.notes, dict(clock.seconds)))
        self._pace.learn(Work.of(request), clock.seconds)
        return job.partial

    def _preview(self) -> "Previewer":
        from x2i_app.serving.preview import Previewer

        self._previewer = self._previewer or Previewer(self._pipeline.vae)
        return self._previewer

    def _out_of_memory(self, error: Exception, job: Job) -> X2IError | None:
        """If that is what happened: give memory back, and say what would fit."""
        from x2i_app.loading.out_of_memory import explain, is_out_of_memory, return_memory

        if isinstance(error, X2IError) or not is_out_of_memory(error):
            return None
        phase = {Phase.DENOISING: "denoise", Phase.DECODING: "decode"}.get(job.progress.phase, "encode")
        logger.warning("Out of memory (%s) while the job was %s.", type(error).__name__, job.progress.phase)
        self._conditionings.clear()
        return_memory(error, self._pipeline)
        return explain(self._pipeline, job.request.with_defaults(self.flux, seed=0), phase)

    def _use_loras(self, request: GenerationRequest) -> None:
        from x2i_app.loading import use_loras

        use_loras(self._pipeline, request.loras)

    def _condition(self, job: Job, request: GenerationRequest) -> "Conditioning":
        """What FLUX reads of the conversation; remembered, so that a new seed or size does not run the MLLM again."""
        key = request_hash(request)
        if key in self._conditionings:
            self._conditionings.move_to_end(key)
            return self._conditionings[key]
        # Every token of an answer is a forward pass: a cancelled job does not wait for the last of them.
        hook = self._pipeline.mllm.register_forward_pre_hook(lambda *_: job.check_cancelled())
        try:
            conditioning = self._pipeline.encode(
                request.prompt, request.images, request.videos, request.audios, request.history, request.reason
            )
        finally:
            hook.remove()
        if key:
            self._conditionings[key] = conditioning
            if len(self._conditionings) > _REMEMBERED_CONDITIONINGS:
                self._conditionings.popitem(last=False)
        return conditioning
