"""One model in one process of a cluster, which Ray Serve starts, watches and replaces."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from x2i_app.errors import EngineError, X2IError, explain_failure
from x2i_app.media.budget import NO_LIMITS, InputLimits
from x2i_app.media.isolation import isolate_decoding
from x2i_app.request import GenerationRequest
from x2i_app.scale.cluster import enter_folder
from x2i_app.serving.engine import Engine
from x2i_app.serving.file_transfer import unpack
from x2i_app.serving.job_events import JobEvent
from x2i_app.serving.jobs import JobLimits, Phase, Progress
from x2i_app.serving.protocol import EngineState, ModelFacts
from x2i_app.serving.worker import LocalWorker
from x2i_app.settings import Settings

if TYPE_CHECKING:
    from x2i_app.loading.memory import MemoryUse
    from x2i_app.loading.plan import MemoryPlan

_POLL_SECONDS = 0.01


class Replica:
    """An Engine that draws one job at a time for a RayWorker in another process."""

    def __init__(self, settings: Settings, folder: str):
        """Load the model. folder: where relative paths start. Raises EngineError if it cannot be loaded."""
        enter_folder(folder)
        isolate_decoding()  # the files are those of the page's clients
        self.worker = LocalWorker(settings)
        self.engine = Engine(settings, self.worker)
        self.engine.start()
        while self.engine.status.state is EngineState.LOADING:
            time.sleep(_POLL_SECONDS)
        self.check_health()

    def check_health(self) -> None:
        """Raise EngineError if there is no model or no thread that draws; Ray Serve then replaces this replica."""
        status = self.engine.status
        if status.state is EngineState.FAILED:
            raise EngineError(status.detail)

    async def facts(self) -> ModelFacts:
        """Of the loaded model."""
        return self.worker.facts

    async def memory(self) -> "tuple[MemoryPlan, MemoryUse] | None":
        """As in Worker, for this replica."""
        return await asyncio.to_thread(self.worker.memory)

    async def find(self, settings: Settings) -> X2IError | None:
        """Have every file of another model on this machine; returns the error if that fails."""
        try:
            await asyncio.to_thread(self.worker.find, settings)
        except Exception as error:  # noqa: BLE001 - returned to the caller
            return explain_failure(error, "The model could not be found")

    async def draw(
        self, request: GenerationRequest, previewed: bool, inputs: InputLimits = NO_LIMITS
    ) -> AsyncIterator[JobEvent]:
        """Draw a packed request and yield its events. The job stops within a step if the caller stops listening.

        inputs: what the files of the request may take, as in JobLimits. The caller counts the job's seconds itself.
        """
        with TemporaryDirectory(prefix="x2i-") as folder:
            try:
                limits = JobLimits(inputs=inputs)
                job = self.engine.submit(unpack(request, Path(folder)), preview=previewed, limits=limits)
            except X2IError as error:
                yield JobEvent(Progress(Phase.FAILED), error=error)
                return
            known = sent = None
            try:
                while known is None or not known.phase.is_final:
                    if job.progress is known:
                        await asyncio.sleep(_POLL_SECONDS)
                        continue
                    known = job.progress
                    event = JobEvent.of(job, known, sent)
                    sent = event.partial or sent
                    yield event
            finally:
                self.engine.cancel(job)
