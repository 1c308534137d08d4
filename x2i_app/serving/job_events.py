"""A job that another process draws: events about the copy there, which the job here follows. Does not import torch."""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, NamedTuple, Self

from x2i_app.errors import X2IError
from x2i_app.request import GenerationResult
from x2i_app.serving.jobs import Job, Progress

if TYPE_CHECKING:
    from PIL.Image import Image


class JobEvent(NamedTuple):
    """A change of the copy. partial: the result so far; None if no image was added since the event before."""

    progress: Progress
    partial: GenerationResult | None = None
    preview: "Image | None" = None
    error: X2IError | None = None

    @classmethod
    def of(cls, job: Job, progress: Progress, sent: GenerationResult | None) -> Self:
        """The event that the copy `job` is at `progress`. sent: the partial result that was sent last."""
        return cls(progress, None if job.partial is sent else job.partial, job.preview, job.error)


def events_of(job: Job, changes: Iterable[Progress]) -> Iterator[JobEvent]:
    """The events of the copy `job`, one for each of its changes."""
    sent = None
    for progress in changes:
        event = JobEvent.of(job, progress, sent)
        sent = event.partial or sent
        yield event


def follow(events: Iterable[JobEvent], job: Job) -> Iterator[GenerationResult]:
    """Report on `job` what the events say of its copy, and yield each new result, as `Worker.draw` does.

    Raises the copy's error, or GenerationCancelledError once `job` is cancelled.
    """
    for event in events:
        if event.error:
            raise event.error
        if event.partial:
            yield event.partial
        if event.preview:
            job.show(event.preview)
        if event.progress.phase.is_final:
            job.check_cancelled()
        else:
            job.report(**vars(event.progress))
