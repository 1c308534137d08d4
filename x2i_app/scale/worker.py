"""The worker for a Ray cluster: Ray Serve runs the replicas, and each of them draws one job at a time."""

import logging
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from x2i_app.errors import EngineError, InvalidRequestError
from x2i_app.media import Prepared
from x2i_app.request import GenerationRequest, GenerationResult
from x2i_app.scale.cluster import HERE, Cluster, own_message, working_folder
from x2i_app.scale.replica import Replica
from x2i_app.serving.engine import Engine
from x2i_app.serving.file_transfer import pack
from x2i_app.serving.job_events import JobEvent, follow
from x2i_app.serving.jobs import Job
from x2i_app.serving.model_manager import facts_of
from x2i_app.serving.protocol import EngineState, ModelFacts, Report, ignore_report
from x2i_app.settings import Settings

if TYPE_CHECKING:
    from x2i_app.loading.memory import MemoryUse
    from x2i_app.loading.plan import MemoryPlan

logger = logging.getLogger(__name__)

_NAME = "Replica"
_POLL_SECONDS = 0.5  # between two looks at the replicas
_FACTS_SECONDS = 600  # a replica answers between two jobs
_MEMORY_SECONDS = 2
_DRAIN_SECONDS = 3600  # for the running job of a replica that is replaced
_ATTEMPTS = 3  # replicas that one job may lose before it fails
_GROW_SECONDS = 5  # with more jobs than replicas, until one is added
_SHRINK_SECONDS = 300  # with fewer jobs than replicas, until one is removed


def engine_on(settings: Settings, address: str, replicas: str, gpus: float | None) -> Engine:
    """An engine for the cluster that the flags describe.

    Raises InvalidRequestError for a flag, EngineError if the cluster cannot be joined.
    """
    for name in ("login", "openai_key") if address != HERE else ():
        secret = getattr(settings, name)
        if secret and any(secret in argument for argument in sys.argv):
            raise InvalidRequestError(
                f"--{name.replace('_', '-')} is a flag, and Ray shows these to everyone who uses the cluster; set "
                f"X2I_{name.upper()} instead."
            )
    return Engine(settings, RayWorker(settings, Cluster.parse(address, replicas, gpus)))


def _without_secrets(settings: Settings) -> Settings:
    """The settings for a replica, which serves no page."""
    return replace(settings, login=None, openai_api=False, openai_key=None)


class RayWorker:
    """A Worker (see protocol.py) whose jobs are drawn by replicas, as many at once as there may be replicas.

    A replica that is lost is replaced, and its job is drawn again with the same seed. Changing the model is a rolling
    update: replicas are replaced one after the other, each after its running job.
    """

    def __init__(self, settings: Settings, cluster: Cluster):
        """Join the cluster. Raises EngineError if that fails."""
        self.report: Report = ignore_report
        self.settings = settings
        self.max_jobs = cluster.most
        self._cluster = cluster
        self._name = f"x2i-{socket.gethostname()}-{settings.port}"
        self._facts: ModelFacts | None = None
        self._memory: tuple[MemoryPlan, MemoryUse] | None = None
        self._handle: Any = None
        self._streams: dict[str, Any] = {}  # of events from a replica, by the job's id
        self._failure = ""  # why no job can be drawn
        self._closed = threading.Event()
        self._configuring = threading.Lock()  # Ray fails if two threads read or write its configuration at once
        self._monitor = threading.Thread(target=self._watch, name="x2i-ray", daemon=True)
        cluster.join()

    @property
    def facts(self) -> ModelFacts:
        """As in Worker: what a replica says, once there is one."""
        return self._facts or facts_of(self.settings)

    @property
    def is_loaded(self) -> bool:
        """As in Worker."""
        return self._facts is not None and not self._failure

    def load(self) -> None:
        """As in Worker: start the replicas and wait for the first one. Raises EngineError if none can start."""
        try:
            self._deploy(self.settings)
            while self._look() is EngineState.LOADING:
                self._closed.wait(_POLL_SECONDS)
        finally:
            if not self._monitor.ident:  # loading may have been stopped, and begun again
                self._monitor.start()
        if self._failure:
            raise EngineError(self._failure)

    def find(self, settings: Settings) -> None:
        """As in Worker, on the machine of one replica."""
        if failure := self._handle.find.remote(_without_secrets(settings)).result():
            raise failure

    def change(self, settings: Settings) -> None:
        """As in Worker. If the new replicas cannot be started, those with the old settings come back, and EngineError
        is raised.
        """
        self._deploy(settings)
        while not self._closed.wait(_POLL_SECONDS):
            application = self._application()
            if application.status == "RUNNING":
                self.settings = settings
                self._ask_facts()
                return
            if application.status == "DEPLOY_FAILED":
                self._deploy(self.settings)
                raise EngineError(own_message(application.deployments[_NAME].message))
        raise EngineError("The app is shutting down.")

    def unload(self) -> None:
        """Raises EngineError: other jobs may use the replicas."""
        raise EngineError("Replicas keep their model in memory; end the app to free it.")

    def memory(self) -> "tuple[MemoryPlan, MemoryUse] | None":
        """As in Worker, of one replica; while all of them draw, the last known values."""
        if self._facts:
            answer = self._handle.memory.remote()
            try:
                self._memory = answer.result(timeout_s=_MEMORY_SECONDS)
            except TimeoutError:
                answer.cancel()
        return self._memory

    def close(self) -> None:
        """As in Worker; the replicas end."""
        self._closed.set()
        if self._monitor.is_alive():
            self._monitor.join()
        import ray
        from ray import serve

        if self._cluster.address != HERE:
            serve.delete(self._name)
        ray.shutdown()

    def draw(self, job: Job, prepared: Prepared) -> Iterator[GenerationResult]:
        """As in Worker. Raises EngineError if the job loses too many replicas."""
        import ray

        request = pack(prepared.request)
        for _ in range(_ATTEMPTS):
            try:
                yield from self._follow(job, request, prepared)
                return
            except (ray.exceptions.RayActorError, ray.exceptions.ObjectLostError) as error:
                logger.warning("A replica was lost (%s); its job is drawn again.", type(error).__name__)
        raise EngineError(
            f"The replica that drew this job was lost {_ATTEMPTS} times; try a smaller image, or see the cluster's log."
        )

    def _follow(self, job: Job, request: GenerationRequest, prepared: Prepared) -> Iterator[GenerationResult]:
        """Let a replica draw a job. Raises Ray's errors for a replica that was lost."""
        from ray.exceptions import TaskCancelledError

        stream = self._handle.options(stream=True).draw.remote(request, job.previewed, job.limits.inputs)
        self._streams[job.id], job.on_cancel = stream, stream.cancel
        try:
            job.check_cancelled()  # a cancellation before `on_cancel` was set did not reach the stream
            yield from follow((_as_local(event, job, prepared) for event in stream), job)
        except TaskCancelledError:
            job.check_cancelled()
            raise EngineError(self._failure) from None  # `_fail` has cancelled the stream
        finally:
            job.on_cancel = None
            del self._streams[job.id]
            stream.cancel()

    def _deploy(self, settings: Settings) -> None:
        """Have replicas with these settings, now or soon."""
        with self._configuring:
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
        serve.start(proxy_location="Disabled")  # users connect to the page, not to Ray
        # Replicas have no login, so they do not get its password.
        application = deployment.bind(_without_secrets(settings), working_folder())
        target = serve.RunTarget(application, self._name, route_prefix=None)
        return serve.run_many([target], wait_for_applications_running=False)[0]

    def _application(self) -> Any:
        """The state of the replicas, as Ray reports it. Raises KeyError before they are deployed."""
        from ray import serve

        with self._configuring:
            return serve.status().applications[self._name]

    def _watch(self) -> None:
        while not self._closed.wait(_POLL_SECONDS):
            with suppress(EngineError):  # the engine is closing
                self._look()

    def _look(self) -> EngineState:
        """Report the state of the replicas to the engine."""
        state, detail = self._state_of_replicas()
        self._failure = detail if state is EngineState.FAILED else ""
        self.report(state, detail)
        if self._failure:
            for stream in tuple(self._streams.values()):
                stream.cancel()
        return state

    def _state_of_replicas(self) -> tuple[EngineState, str]:
        try:
            application = self._application()
            deployment = application.deployments[_NAME]
        except KeyError:
            return EngineState.LOADING, ""
        except Exception as error:  # noqa: BLE001 - whatever happened, it means that no job can be drawn
            reason = own_message(str(error))
            return EngineState.FAILED, f"The Ray cluster is lost; restart the app when it is back. Ray says: {reason}"
        working = deployment.replica_states.get("RUNNING", 0)
        others = sum(deployment.replica_states.values()) - working
        if working and (self._facts or self._ask_facts()):
            changing = f", starting or stopping: {others}" if others else ""
            return EngineState.READY, f"Replicas running: {working}{changing}."
        if application.status == "DEPLOY_FAILED" or deployment.status_trigger == "REPLICA_STARTUP_FAILED":
            return EngineState.FAILED, own_message(deployment.message)
        return EngineState.LOADING, ""

    def _ask_facts(self) -> bool:
        """Ask a replica about its model. False if the replica was lost meanwhile: the next look asks another one."""
        from ray.exceptions import RayError

        try:
            self._facts = self._handle.facts.remote().result(timeout_s=_FACTS_SECONDS)
        except (RayError, TimeoutError):
            return False
        return True


def _as_local(event: JobEvent, job: Job, prepared: Prepared) -> JobEvent:
    """A replica's event, with the request's files as they are named here, and without images that are here already.

    When a second replica draws a job again, its first images are those that the lost one has delivered.
    """
    if not event.partial:
        return event
    if job.partial and len(event.partial.images) <= len(job.partial.images):
        return event._replace(partial=None)
    partial = replace(event.partial, request=prepared.request, inputs=prepared.record)
    return event._replace(partial=partial)
