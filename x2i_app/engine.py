"""The engine: one cached pipeline, one worker, one job at a time, for every user interface.

Importing it imports no torch: the worker thread does, when `start` is called.
"""

import hashlib
import importlib
import logging
import secrets
import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from x2i_app.errors import EngineError, GenerationCancelledError, InvalidRequestError, X2IError
from x2i_app.jobs import FairQueue, Job, Phase, Stopwatch
from x2i_app.media import file_hash, is_path
from x2i_app.presets import FLUX_MODELS, get_preset
from x2i_app.request import MAX_SEED, NO_LIGHT_CONTROL, GenerationRequest, GenerationResult
from x2i_app.settings import CUSTOM, Settings
from x2i_app.specs import FluxSpec, Preset

if TYPE_CHECKING:
    from PIL.Image import Image

    from x2i_app.pipeline import Conditioning, X2IPipeline

logger = logging.getLogger(__name__)

_JOBS_PER_SESSION = 3
_REMEMBERED_JOBS = 32
_REMEMBERED_BYTES = 256 * 2**20  # of finished pictures
_PATIENCE = 10  # seconds for the worker to end
_REMEMBERED_CONDITIONINGS = 16  # about 4 MiB each at full size


@dataclass(frozen=True)
class EngineStatus:
    """state: "idle", "loading", "ready", "failed" or "closed"; detail: why it failed; waiting: jobs in the queue."""

    state: str
    detail: str
    waiting: int


class Engine:
    """Runs GenerationRequests, one after the other, on the pipeline that `settings` describe."""

    def __init__(self, settings: Settings):
        self.settings = settings
        self._pipeline: X2IPipeline | None = None
        self._state, self._detail = "idle", ""
        self._queue = FairQueue(settings.queue_size, _JOBS_PER_SESSION)
        self._jobs: OrderedDict[str, Job] = OrderedDict()
        self._jobs_lock = threading.Lock()
        self._conditionings: OrderedDict[str, Conditioning] = OrderedDict()
        self._running: Job | None = None
        self._closing = False
        self._worker = threading.Thread(target=self._work, name="x2i-engine", daemon=True)

    @property
    def preset(self) -> Preset | None:
        """The preset's facts; None for a custom model, whose facts are in its files."""
        return None if self.settings.preset.startswith(CUSTOM) else get_preset(self.settings.preset)

    @property
    def flux(self) -> FluxSpec:
        """Steps, guidance and size that suit the FLUX model; the default model's where it is not of the registry."""
        name = self.settings.flux or (self.preset.flux if self.preset else "")
        known = {key: spec for spec in FLUX_MODELS.values() for key in (spec.name, spec.repo_id) if key}
        return known.get(name, FLUX_MODELS["shuttle-3-diffusion"])

    @property
    def has_light_control(self) -> bool:
        """Whether a request may ask to keep to a picture."""
        if self.settings.light_control:
            return True
        preset = self.preset
        return bool(preset and preset.light_control and self.settings.flux in (None, preset.flux))

    @property
    def status(self) -> EngineStatus:
        """How the engine is."""
        return EngineStatus(self._state, self._detail, len(self._queue))

    def start(self) -> None:
        """Begin to load the model in the background, then work. Jobs may be submitted before."""
        self._state = "loading"
        self._worker.start()

    def close(self) -> None:
        """Stop the running job within one step, and the worker; jobs that still wait fail with EngineError."""
        self._closing = True
        for job in self._queue.close():
            job.fail(EngineError("The app is shutting down; start the job again later."))
        if job := self._running:
            job.cancel()
        if self._worker.is_alive():
            self._worker.join(_PATIENCE)  # a model that is just being loaded cannot be stopped
        if self._state != "failed":
            self._state = "closed"

    def submit(self, request: GenerationRequest, session: str = "") -> Job:
        """Queue a request of a session.

        Raises QueueFullError, EngineError if the model could not be loaded, InvalidRequestError for a LightControl that
        is not there.
        """
        if self._state == "failed":
            raise EngineError(self._detail)
        if request.control_strength and not self.has_light_control:
            raise InvalidRequestError(NO_LIGHT_CONTROL)
        job = Job(request, session)
        self._queue.put(job)
        with self._jobs_lock:
            self._jobs[job.id] = job
            self._forget()
        return job

    def _forget(self) -> None:
        """Let the oldest finished jobs go, so that memory stays bounded."""
        finished = [old for old in self._jobs.values() if old.progress.phase.is_final]
        kept = sum(map(_picture_bytes, finished))
        for old in finished:
            if len(self._jobs) <= _REMEMBERED_JOBS and kept <= _REMEMBERED_BYTES:
                return
            kept -= _picture_bytes(old)
            del self._jobs[old.id]

    def get(self, job_id: str) -> Job | None:
        """A job by its id, also a while after it ended."""
        with self._jobs_lock:
            return self._jobs.get(job_id)

    def cancel(self, job: Job) -> None:
        """Stop a job: at once if it waits, within one step if it runs; its picture is not decoded."""
        if not self._queue.remove(job):
            job.cancel()
        else:
            job.fail(GenerationCancelledError("The job was taken out of the queue; start it again when you like."))

    # From here on: the worker, in its own thread.

    def _work(self) -> None:
        try:
            self._pipeline = self._load()
        except Exception as error:  # noqa: BLE001 - whatever happened, every job must hear of it
            failure = _explain(error, "The model could not be loaded")
            self._detail = str(failure)
            self._state = "failed"
            for job in self._queue.close():
                job.fail(failure)
            return
        self._state = "closed" if self._closing else "ready"
        while job := self._queue.take():
            self._running = job
            if self._closing:
                job.cancel()
            try:
                job.finish(self._draw(job))
            except Exception as error:  # noqa: BLE001 - the worker outlives any job
                job.fail(self._out_of_memory(error, job) or _explain(error, "The picture could not be made"))
            self._running = None

    def _load(self) -> "X2IPipeline":
        quiet_libraries()
        from x2i_app.loading import load_pipeline

        s = self.settings
        parts = {name: getattr(s, name) for name in ("mllm", "flux", "alignnet", "light_control", "whisper")}
        pipeline = load_pipeline(s.preset, s.profile, s.device, **parts)
        pipeline.set_progress_bar_config(disable=True)  # jobs report their own progress
        return pipeline

    def _draw(self, job: Job) -> GenerationResult:
        seed = secrets.randbelow(MAX_SEED + 1) if job.request.seed is None else job.request.seed
        request = job.request.with_defaults(self.flux, seed)
        self._use_loras(request)
        clock = Stopwatch()
        clock.start("encode")
        job.report(Phase.ENCODING)
        conditioning = self._condition(job, request)
        seeds = [(seed + i) % (MAX_SEED + 1) for i in range(request.num_images_per_prompt)]
        images = [self._draw_one(job, request, conditioning, seeds, i, clock) for i in range(len(seeds))]
        clock.stop()
        return GenerationResult(
            tuple(images), tuple(seeds), request, conditioning.answer, conditioning.notes, clock.seconds
        )

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

    def _draw_one(
        self,
        job: Job,
        request: GenerationRequest,
        conditioning: "Conditioning",
        seeds: list[int],
        index: int,
        clock: Stopwatch,
    ) -> "Image":
        """One picture at a time: less memory than a batch, and picture i is what seed + i gives alone."""
        import torch

        steps = request.num_inference_steps
        place = {"picture": index + 1, "pictures": len(seeds), "steps": steps}

        def on_step_end(pipeline, step, timestep, tensors):
            job.report(Phase.DENOISING, step=step + 1, **place)
            if step + 1 == steps:
                clock.start("decode")
                job.report(Phase.DECODING, step=steps, **place)
            return {}

        clock.start("denoise")
        job.report(Phase.DENOISING, **place)
        output = self._pipeline(
            conditioning=conditioning,
            width=request.width,
            height=request.height,
            num_inference_steps=steps,
            guidance_scale=request.guidance_scale,
            generator=torch.Generator("cpu").manual_seed(seeds[index]),
            callback_on_step_end=on_step_end,
            control_image=request.images[0] if request.control_strength else None,
            control_strength=request.control_strength,
        )
        return output.images[0]

    def _condition(self, job: Job, request: GenerationRequest) -> "Conditioning":
        """What FLUX reads of the conversation; remembered, so that a new seed or size does not run the MLLM again."""
        key = _fingerprint(request)
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


def _fingerprint(request: GenerationRequest) -> str | None:
    """A hash of all that the MLLM sees: words, and the contents of files, not their names.

    None where media came as values instead of files, as they may from Python; those are encoded anew each time.
    """
    parts = [str(request.reason)]
    for turn in (*request.history, request.turn):
        sources = (turn.images, turn.videos, turn.audios)
        if not all(is_path(source) for kind in sources for source in kind):
            return None
        parts.append(repr((turn.prompt, [[file_hash(path) for path in kind] for kind in sources], turn.answer)))
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _picture_bytes(job: Job) -> int:
    images = job.result.images if job.result else ()
    return sum(3 * image.width * image.height for image in images)


def quiet_libraries() -> None:
    """Jobs tell their own progress; the libraries' bars and hints would only garble a terminal that shows it."""
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    for library in ("diffusers", "transformers"):
        library_logging = importlib.import_module(f"{library}.utils.logging")
        library_logging.set_verbosity_error()
        library_logging.disable_progress_bar()


def _explain(error: Exception, what: str) -> X2IError:
    """The error itself if it is for users; else a sentence about it, and the traceback for the log."""
    if isinstance(error, X2IError):
        return error
    logger.error("%s", what, exc_info=error)
    return EngineError(f"{what} because of an internal error ({type(error).__name__}); the log says more.")
