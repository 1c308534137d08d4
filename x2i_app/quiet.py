"""Keep the libraries silent while they work for X2I: their progress bars and warnings are for their own users."""

import importlib
import logging
import threading
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

_LIBRARIES = ("accelerate", "bitsandbytes", "diffusers", "huggingface_hub", "peft", "transformers")
_HAVE_BARS = ("diffusers.utils.logging", "transformers.utils.logging")

_lock = threading.Lock()
_blocks = 0  # that are open, in all threads
_restore = ExitStack()


@contextmanager
def quiet() -> Iterator[None]:
    """Within the block the libraries log errors only, show no progress bar and warn of nothing.

    These are settings of the process. The last block that ends restores what the first one found, in whatever order the
    threads leave theirs.
    """
    global _blocks
    with _lock:
        if _blocks == 0:
            _silence()
        _blocks += 1
    try:
        yield
    finally:
        with _lock:
            _blocks -= 1
            if _blocks == 0:
                _restore.close()


@contextmanager
def quiet_import() -> Iterator[None]:
    """A block in which bitsandbytes does not log its hints for installing it while it is imported."""
    with _logger_level("bitsandbytes"):
        yield


def _silence() -> None:
    _restore.enter_context(warnings.catch_warnings())
    warnings.simplefilter("ignore")
    for name in _LIBRARIES:
        _restore.enter_context(_logger_level(name))
    for name in _HAVE_BARS:
        library = importlib.import_module(name)
        if library.is_progress_bar_enabled():
            library.disable_progress_bar()
            _restore.callback(library.enable_progress_bar)


@contextmanager
def _logger_level(name: str) -> Iterator[None]:
    logger = logging.getLogger(name)
    level = logger.level
    logger.setLevel(max(level, logging.ERROR))
    try:
        yield
    finally:
        logger.setLevel(level)
