"""The one exception tree of X2I.

Every message is one sentence that a user may read: what came, what is allowed, what to do. Only the edges (the page,
the command line, the HTTP endpoints) translate these errors; everything between lets them pass.
"""

import logging
import traceback

logger = logging.getLogger(__name__)


class X2IError(Exception):
    """Anything that went wrong and that a user can be told in one sentence."""


class InvalidRequestError(X2IError):
    """A value of a request or a setting is not allowed."""


class MediaError(X2IError):
    """An image, video or audio file cannot be read, or is larger than the caps allow."""


class UnsupportedModalityError(X2IError):
    """The chosen MLLM cannot take this kind of input."""


class UnknownPresetError(X2IError):
    """A preset, FLUX model, MLLM family or template that the registry does not know."""


class CheckpointError(X2IError):
    """Weights or a configuration file that cannot be loaded safely and completely."""


class QueueFullError(X2IError):
    """There are more waiting jobs than the engine accepts."""


class GenerationCancelledError(X2IError):
    """The user stopped the job; no picture was made."""


class EngineError(X2IError):
    """The engine cannot work: its model did not load, or it failed while a job ran."""


class OutOfMemoryError(EngineError):
    """The memory did not suffice for a job; it says what would fit."""


class TrainingError(X2IError):
    """A training run cannot start, go on, or be resumed."""


def forget_frames(error: BaseException) -> None:
    """Drop the tracebacks of an error and of those behind it: their frames hold every tensor of the failed call."""
    seen: list[BaseException] = []
    waiting: list[BaseException | None] = [error]
    while waiting:
        current = waiting.pop()
        if current is None or current in seen:
            continue
        seen.append(current)
        waiting += [current.__cause__, current.__context__]
        traceback.clear_frames(current.__traceback__)
        current.__traceback__ = None


def explain_failure(error: Exception, what: str) -> X2IError:
    """The error itself if it is for users; else a sentence about it, and the traceback for the log."""
    if not isinstance(error, X2IError):
        logger.error("%s", what, exc_info=error)
    forget_frames(error)  # or a job that is remembered keeps the model that it failed with
    if isinstance(error, X2IError):
        return error
    return EngineError(f"{what} because of an internal error ({type(error).__name__}); the log says more.")
