"""The exceptions of X2I.

Every message is for the user, and short: what was given, what is allowed, what to do. Most are one sentence. Only the
interfaces (the page, the command line, the HTTP endpoints) catch and show them.
"""

import logging
import re
import traceback

logger = logging.getLogger(__name__)


# Besides control characters, those that change the direction of text, and the separators of lines and paragraphs.
_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")


def escape_controls(text: str) -> str:
    """The text without characters that change a terminal, a log or a page: they are shown as escapes.

    Tabs and line breaks stay.
    """
    return _CONTROLS.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


class X2IError(Exception):
    """Base class: a failure that its message explains to the user, without control characters.

    Names in files of strangers get into many sentences, so all of them are escaped here.
    """

    def __init__(self, *args: object):
        super().__init__(*(escape_controls(each) if isinstance(each, str) else each for each in args))


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


class LoadingStoppedError(EngineError):
    """The model was unloaded while it was being loaded."""


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
