"""The exceptions of X2I.

Every message is one sentence for the user: what was given, what is allowed, what to do. Only the interfaces (the page,
the command line, the HTTP endpoints) catch and show them.
"""

import logging
import traceback

logger = logging.getLogger(__name__)


class X2IError(Exception):
    """Base class: a failure that can be explained to the user in one sentence."""


class InvalidRequestError(X2IError):
    """A value of a request or a setting is not allowed."""


class MediaError(X2IError):
    """An image, video or audio file cannot be read, or is larger than the limits."""


class UnsupportedModalityError(X2IError):
    """The MLLM does not support this kind of input."""


class UnknownPresetError(X2IError):
    """There is no preset, FLUX model, MLLM family or template of this name."""


class CheckpointError(X2IError):
    """Weights or a configuration file cannot be loaded safely and completely."""


class QueueFullError(X2IError):
    """The queue is full, or a session has too many jobs in it."""


class GenerationCancelledError(X2IError):
    """The user cancelled the job, so it has no result."""


class EngineError(X2IError):
    """The engine cannot run jobs because its model did not load, or a job failed with an internal error."""


class OutOfMemoryError(EngineError):
    """A job needs more memory than there is; the message suggests what would fit."""


class TrainingError(X2IError):
    """A training run cannot start, continue or resume."""


def forget_frames(error: BaseException) -> None:
    """Clear the tracebacks of an exception and its causes; their frames keep all tensors of the failed call alive."""
    visited: list[BaseException] = []
    pending: list[BaseException | None] = [error]
    while pending:
        current = pending.pop()
        if current is None or current in visited:
            continue
        visited.append(current)
        pending += [current.__cause__, current.__context__]
        traceback.clear_frames(current.__traceback__)
        current.__traceback__ = None


def explain_failure(error: Exception, what: str) -> X2IError:
    """An X2IError for any exception: itself, or an EngineError for an internal error, whose traceback is logged.

    what: the beginning of the sentence, such as "The model could not be loaded".
    """
    if not isinstance(error, X2IError):
        logger.error("%s", what, exc_info=error)
    forget_frames(error)  # otherwise a job in the history would keep the model alive
    if isinstance(error, X2IError):
        return error
    return EngineError(f"{what} because of an internal error ({type(error).__name__}); see the log for details.")
