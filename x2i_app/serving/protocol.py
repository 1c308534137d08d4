"""What an Engine and the Worker that it drives know of each other. Does not import torch."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

from x2i_app.media import Prepared
from x2i_app.request import GenerationResult
from x2i_app.settings import Settings
from x2i_app.specs import EncodingSpec, FluxSpec

if TYPE_CHECKING:
    from x2i_app.loading.memory import MemoryUse
    from x2i_app.loading.plan import MemoryPlan
    from x2i_app.serving.jobs import Job


class EngineState(StrEnum):
    """What an engine is doing. Only `Engine._become` sets it."""

    IDLE = "idle"  # not started
    LOADING = "loading"
    READY = "ready"
    UNLOADED = "unloaded"  # the next job loads the model again
    FAILED = "failed"
    CLOSED = "closed"


@dataclass(frozen=True)
class EngineStatus:
    """detail: why the engine failed, or how far a download is. waiting: jobs in the queue."""

    state: EngineState
    detail: str
    waiting: int


@dataclass(frozen=True)
class ModelFacts:
    """What is known of a model, in part before it is loaded.

    flux: steps, guidance, size and license of the FLUX model.
    encoding: how conversations are shown to the MLLM; None for a custom model that is not loaded yet.
    has_light_control: whether a request may set control_strength. has_controlnet: whether it may set controlnet_image.
    sources: where each part was found and who chose it; empty before anything is found. commits: of the parts from the
        hub, as OWNER/NAME@COMMIT.
    """

    flux: FluxSpec
    encoding: EncodingSpec | None
    has_light_control: bool
    sources: dict[str, str] = field(default_factory=dict)
    commits: dict[str, str] = field(default_factory=dict)
    has_controlnet: bool = False


# Tells the engine the worker's state, or None if that is unchanged, and a sentence about it.
# Raises EngineError once the engine is closing, so that a long wait ends.
Report = Callable[[EngineState | None, str], None]


def ignore_report(state: EngineState | None, detail: str) -> None:
    """A Report for a worker without an engine."""


class Worker(Protocol):
    """Has a model and draws jobs with it, one or several at once.

    settings: of the model that is loaded, or that `load` would load.
    max_jobs: how many jobs `draw` takes at once, each in a thread of its own. With more than one, `change` is called
        while others are drawn.
    report: set by the engine.
    """

    settings: Settings
    max_jobs: int
    report: Report

    @property
    def facts(self) -> ModelFacts:
        """Of the model that is loaded, or would be."""

    @property
    def is_loaded(self) -> bool:
        """Whether jobs can be drawn now."""

    def load(self) -> None:
        """Load the model, downloading it if need be. Raises any error; the model is then not loaded."""

    def find(self, settings: Settings) -> None:
        """Have every file of another model where it will be loaded, while this one draws. Raises an X2IError."""

    def change(self, settings: Settings) -> None:
        """Load another model in place of this one. Raises any error; the old model is then loaded again if it was."""

    def draw(self, job: "Job", prepared: Prepared) -> Iterator[GenerationResult]:
        """Draw the images of a job and report its progress; after each image, the result so far is yielded.

        Raises GenerationCancelledError within a step after the job was cancelled, or any other error.
        """

    def memory(self) -> "tuple[MemoryPlan, MemoryUse] | None":
        """What the loaded model was planned to need at its own size, and what is in use now; None without a model.

        May take seconds; any thread may call it.
        """

    def unload(self) -> None:
        """Give the model's memory back. Raises EngineError if this worker cannot."""

    def close(self) -> None:
        """Let go of everything, for good. No job is drawn any more."""
