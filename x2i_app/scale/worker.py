"""The page's engine on Ray Serve: jobs wait here, in the one fair queue, and replicas draw them, each one at a time."""

import logging
import secrets
import signal
import socket
import sys
import threading
from concurrent.futures import Future
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from x2i_app.errors import EngineError, X2IError, explain_failure
from x2i_app.limits import MAX_SEED
from x2i_app.request import GenerationRequest, GenerationResult
from x2i_app.scale.cluster import HERE, Cluster, sentence_in, working_folder
from x2i_app.scale.replica import Facts, Replica
from x2i_app.serving.engine import Engine
from x2i_app.serving.eta import Work
from x2i_app.serving.file_transfer import pack
from x2i_app.serving.job_events import Moment
from x2i_app.serving.jobs import Job
from x2i_app.serving.model_manager import ResidentModel
from x2i_app.settings import Settings
from x2i_app.specs import EncodingSpec, FluxSpec

if TYPE_CHECKING:
    from x2i_app.loading.memory import MemoryUse
    from x2i_app.loading.plan import MemoryPlan

logger = logging.getLogger(__name__)

_NAME = "Replica"
_LOOK_SECONDS = 0.5  # between two questions to Serve
_FACTS_SECONDS = 600  # a replica answers between two jobs
_MEMORY_SECONDS = 2
_DRAIN_SECONDS = 3600  # for the running job of a replica that is replaced by one with other settings
_ATTEMPTS = 3  # replicas that a job may lose, until it is thought to be the reason
_GROW_SECONDS = 5  # of more work than replicas
_SHRINK_SECONDS = 300  # of less
_SETTLED = ("width", "height", "num_inference_steps", "guidance_scale", "seed")  # by the model, where left open


def engine_on(settings: Settings, address: str, replicas: str, gpus: float | None) -> "ServeEngine":
    """The engine for the cluster of these flags. Raises InvalidRequestError for them, EngineError for the cluster."""
    return ServeEngine(settings, Cluster.parse(address, replicas, gpus))


class ServeEngine(Engine):
    """An Engine whose jobs are drawn by replicas, as many at once as there may be. It has no model itself.

    A replica that is lost is replaced, and its job drawn again with the same seed. Changing the model is a rolling
    update: replicas are replaced one after the other, each after its job.
    """

    def __init__(self, settings: Settings, cluster: Cluster):
        """Join the cluster. Raises EngineError if that cannot be done."""
        super().__init__(settings)
        self.model = _RemoteModel(settings)
        self._cluster = cluster
        self._at_once = cluster.most
        self._name = f"x2i-{socket.gethostname()}-{settings.port}"
        self._lanes: list[threading.Thread] = []
        self._moments: dict[str, Any] = {}  # by the job's id: what its replica tells
        self._closed = threading.Event()
        self._asking = threading.Lock()  # Ray fails where two threads make or read a deployment's configuration at once
        cluster.join()
        # Ray would end the program at once, and leave a shared cluster its replicas.
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
        self._handle: Any = None

    def close(self) -> None:
        """As an Engine, and let the replicas go."""
        self._closed.set()
        super().close()
        for lane in self._lanes:
            lane.join()
        import ray
        from ray import serve

        if self._cluster.address != HERE:
            serve.delete(self._name)
        ray.shutdown()

    def cancel(self, job: Job) -> None:
        """As an Engine; also where no replica has it yet."""
        super().cancel(job)
        if moments := self._moments.get(job.id):
            moments.cancel()

    def unload(self) -> "Future[None]":
        """Not for replicas, which others may use: the future raises EngineError."""
        done: Future[None] = Future()
        done.set_exception(EngineError("Replicas keep their model in memory; end the app to have them let it go."))
        return done

    # From here on: the worker, which deploys and then looks after the replicas, and one lane for each of them.

    def _work(self) -> None:
        self._load()
        while not self._closed.wait(_LOOK_SECONDS):
            self._look()

    def _load(self) -> X2IError | None:
        try:
            self._deploy(self.settings)
        except Exception as error:  # noqa: BLE001 - whatever happened, every job must hear of it
            failure = explain_failure(error, "The replicas could not be started")
            self._fail(str(failure))
            return failure
        return None

    def _deploy(self, settings: Settings) -> None:
        """Have replicas with these settings, now or soon."""
        with self._asking:
            self._handle = self._run_replicas(settings)

    def _run_replicas(self, settings: Settings) -> Any:
        from ray import serve

        scale: dict[str, Any] = {"num_replicas": self._cluster.most}
        if self._cluster.least < self._cluster.most:
            scale = {
                "autoscaling_config": {
                    "min_replicas": self._cluster.least,
                    "max_replicas": self._cluster.most,
                    "target_ongoing_requests": 1,
                    "upscale_delay_s": _GROW_SECONDS,
                    "downscale_delay_s": _SHRINK_SECONDS,
                }
            }
        deployment = serve.deployment(
            Replica,
            name=_NAME,
            max_ongoing_requests=1,
            max_constructor_retry_count=1,
            health_check_period_s=1,
            graceful_shutdown_timeout_s=_DRAIN_SECONDS,
            ray_actor_options=self._cluster.share(),
            **scale,
        )
        logging.getLogger("ray.serve").setLevel(logging.ERROR)
        serve.start(proxy_location="Disabled")  # whoever wants a picture comes to the page
        # Nobody logs in at a replica.
        application = deployment.bind(replace(settings, login=None), working_folder())
        target = serve.RunTarget(application, self._name, route_prefix=None)
        return serve.run_many([target], wait_for_applications_running=False)[0]

    def _application(self) -> Any:
        """How the replicas are, as Ray says it. Raises KeyError before there are any."""
        from ray import serve

        with self._asking:
            return serve.status().applications[self._name]

    def _look(self) -> None:
        """See how the replicas are, and say so."""
        try:
            application = self._application()
            deployment = application.deployments[_NAME]
        except KeyError:
            return  # not yet
        except Exception as error:  # noqa: BLE001 - whatever happened, health must say it
            self._fail(f"The cluster is lost; start the app again when it is back. Ray says: {sentence_in(str(error))}")
            return
        working = deployment.replica_states.get("RUNNING", 0)
        others = sum(deployment.replica_states.values()) - working
        if working and (self.model.facts or self._learn()):
            self._state = "ready"
            self._detail = f"Replicas at work: {working}{f', coming or going: {others}' if others else ''}."
            self._open_lanes()
        elif application.status == "DEPLOY_FAILED" or deployment.status_trigger == "REPLICA_STARTUP_FAILED":
            self._fail(sentence_in(deployment.message))
        else:
            self._state, self._detail = "loading", ""

    def _fail(self, why: str) -> None:
        self._state, self._detail = "failed", why
        for job in self._queue.empty():
            job.fail(EngineError(why))
        for moments in tuple(self._moments.values()):
            moments.cancel()

    def _learn(self) -> bool:
        """Ask a replica about its model. False if it was lost meanwhile: the next look asks another one."""
        from ray.exceptions import RayError

        try:
            facts = self._handle.facts.remote().result(timeout_s=_FACTS_SECONDS)
        except (RayError, TimeoutError):
            return False
        self.model.handle, self.model.facts = self._handle, facts
        return True

    def _open_lanes(self) -> None:
        if self._lanes:
            return
        for number in range(self._at_once):
            lane = threading.Thread(target=self._main, args=(self._take_jobs,), name=f"x2i-lane-{number}", daemon=True)
            self._lanes.append(lane)
            lane.start()

    def _find_and_change(self, settings: Settings, done: "Future[None]") -> None:
        try:
            if failure := self._handle.find.remote(settings).result():
                raise failure
            self._roll_out(settings)
            self._forget_model()
            self.model.settings = settings
            self._learn()
        except Exception as error:  # noqa: BLE001 - whoever waits must hear of it
            done.set_exception(explain_failure(error, "The model could not be loaded"))
        else:
            done.set_result(None)

    def _roll_out(self, settings: Settings) -> None:
        """Replace the replicas. Raises EngineError if that fails; those of before then come back."""
        self._deploy(settings)
        while not self._closed.wait(_LOOK_SECONDS):
            application = self._application()
            if application.status == "RUNNING":
                return
            if application.status == "DEPLOY_FAILED":
                self._deploy(self.settings)
                raise EngineError(sentence_in(application.deployments[_NAME].message))
        raise EngineError("The app is shutting down.")

    def _out_of_memory(self, error: Exception, job: Job) -> None:
        """Is for replicas to explain."""

    def _draw(self, job: Job) -> GenerationResult:
        import ray

        seed = secrets.randbelow(MAX_SEED + 1) if job.request.seed is None else job.request.seed
        parcel = pack(replace(job.request, seed=seed))
        for _ in range(_ATTEMPTS):
            try:
                return self._follow(job, parcel)
            except (ray.exceptions.RayActorError, ray.exceptions.ObjectLostError) as error:
                logger.warning("A replica was lost (%s); its job is drawn again.", type(error).__name__)
        raise EngineError(
            f"The replica that drew it was lost {_ATTEMPTS} times; try a smaller picture, or see the cluster's log."
        )

    def _follow(self, job: Job, parcel: GenerationRequest) -> GenerationResult:
        """Let a replica draw a job. Raises Ray's errors for a replica that was lost."""
        from ray.exceptions import TaskCancelledError

        moments = self._handle.options(stream=True).draw.remote(parcel, job.previewed)
        self._moments[job.id] = moments
        try:
            job.check_cancelled()  # since `cancel` knows of the replica
            for moment in moments:
                _as_ours(moment, job).retell(job)
        except TaskCancelledError:
            job.check_cancelled()
            raise EngineError(self._detail) from None  # by `_fail`
        finally:
            del self._moments[job.id]
            moments.cancel()
        self._pace.learn(Work.of(job.partial.request), job.partial.seconds)
        return job.partial


def _as_ours(moment: Moment, job: Job) -> Moment:
    """A replica's moment, of pictures that are not here yet, and with the files of the request as they are named here.

    What a second replica draws again is equal, and was told before.
    """
    if not moment.partial:
        return moment
    if job.partial and len(moment.partial.images) <= len(job.partial.images):
        return moment._replace(partial=None)
    settled = {name: getattr(moment.partial.request, name) for name in _SETTLED}
    return moment._replace(partial=replace(moment.partial, request=replace(job.request, **settled)))


class _RemoteModel(ResidentModel):
    """A model that is elsewhere: what is known of it before it is loaded, then what a replica says."""

    handle: Any = None
    facts: Facts | None = None
    _seen: "tuple[MemoryPlan, MemoryUse] | None" = None

    def memory(self) -> "tuple[MemoryPlan, MemoryUse] | None":
        """As of a replica; the last that is known while all of them draw."""
        if self.facts:
            answer = self.handle.memory.remote()
            try:
                self._seen = answer.result(timeout_s=_MEMORY_SECONDS)
            except TimeoutError:
                answer.cancel()
        return self._seen

    @property
    def flux(self) -> FluxSpec:
        return self.facts.flux if self.facts else super().flux

    @property
    def encoding(self) -> EncodingSpec | None:
        return self.facts.encoding if self.facts else super().encoding

    @property
    def has_light_control(self) -> bool:
        return self.facts.has_light_control if self.facts else super().has_light_control

    @property
    def sources(self) -> dict[str, str]:
        return self.facts.sources if self.facts else {}
