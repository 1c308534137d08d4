"""A job that is drawn in another process: moments of the copy there, which the job here takes over. Knows no torch."""

from typing import TYPE_CHECKING, NamedTuple, Self

from x2i_app.errors import X2IError
from x2i_app.request import GenerationResult
from x2i_app.serving.jobs import Job, Progress

if TYPE_CHECKING:
    from PIL.Image import Image


class Moment(NamedTuple):
    """How the copy is: partial is None where no picture has been added since the moment before."""

    progress: Progress
    partial: GenerationResult | None = None
    preview: "Image | None" = None
    error: X2IError | None = None

    @classmethod
    def of(cls, job: Job, progress: Progress, sent: GenerationResult | None) -> Self:
        """Of the copy `job`, at `progress`, whose partial result `sent` is known already."""
        return cls(progress, None if job.partial is sent else job.partial, job.preview, job.error)

    def retell(self, job: Job) -> None:
        """Let `job` be as its copy is, but for the end, which is told by whoever draws it.

        Raises the copy's error, or GenerationCancelledError where the job is to stop.
        """
        if self.error:
            raise self.error
        if self.partial:
            job.add(self.partial)
        if self.preview:
            job.show(self.preview)
        if self.progress.phase.is_final:
            job.check_cancelled()
        else:
            job.report(**vars(self.progress))
