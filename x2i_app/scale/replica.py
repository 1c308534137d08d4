"""One model in one process of a cluster, which Ray Serve starts, watches and replaces."""

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from x2i_app.errors import EngineError, X2IError, explain_failure
from x2i_app.request import GenerationRequest
from x2i_app.scale.cluster import stand_in
from x2i_app.serving.engine import Engine
from x2i_app.serving.file_transfer import unpack
from x2i_app.serving.job_events import Moment
from x2i_app.serving.jobs import Phase, Progress
from x2i_app.settings import Settings
from x2i_app.specs import EncodingSpec, FluxSpec

if TYPE_CHECKING:
    from x2i_app.loading.memory import MemoryUse
    from x2i_app.loading.plan import MemoryPlan

_POLL_SECONDS = 0.01


@dataclass(frozen=True)
class Facts:
    """What is known of a model once it is loaded; as in ResidentModel."""

    flux: FluxSpec
    encoding: EncodingSpec | None
    has_light_control: bool
    sources: dict[str, str]


class Replica:
    """An Engine that draws one job at a time for an engine in another process."""

    def __init__(self, settings: Settings, folder: str):
        """Load the model. folder: where relative names begin. Raises EngineError if it cannot be loaded."""
        stand_in(folder)
        self.engine = Engine(settings)
        self.engine.start()
        while self.engine.status.state == "loading":
            time.sleep(_POLL_SECONDS)
        self.check_health()

    def check_health(self) -> None:
        """Raise EngineError if there is no model, or nobody who draws; Serve then replaces this replica."""
        status = self.engine.status
        if status.state == "failed":
            raise EngineError(status.detail)

    async def facts(self) -> Facts:
        """Of the model that is loaded."""
        model = self.engine.model
        return Facts(model.flux, model.encoding, model.has_light_control, model.sources)

    async def memory(self) -> "tuple[MemoryPlan, MemoryUse] | None":
        """As of ResidentModel, for this replica."""
        return await asyncio.to_thread(self.engine.model.memory)

    async def find(self, settings: Settings) -> X2IError | None:
        """Have every file of another model on this machine; what is wrong with it, if anything is."""
        try:
            await asyncio.to_thread(self.engine.model.find, settings)
        except Exception as error:  # noqa: BLE001 - whoever asked must hear of it
            return explain_failure(error, "The model could not be found")

    async def draw(self, request: GenerationRequest, previewed: bool) -> AsyncIterator[Moment]:
        """Every new moment of a request that was packed. Whoever no longer listens stops it within a step."""
        with TemporaryDirectory(prefix="x2i-") as folder:
            try:
                job = self.engine.submit(unpack(request, Path(folder)), preview=previewed)
            except X2IError as error:
                yield Moment(Progress(Phase.FAILED), error=error)
                return
            seen = sent = None
            try:
                while seen is None or not seen.phase.is_final:
                    if job.progress is seen:
                        await asyncio.sleep(_POLL_SECONDS)
                        continue
                    seen = job.progress
                    moment = Moment.of(job, seen, sent)
                    sent = moment.partial or sent
                    yield moment
            finally:
                self.engine.cancel(job)
