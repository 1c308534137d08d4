"""Keep the libraries silent while they work for X2I: their progress bars and warnings are for their own users."""

import functools
import importlib
import logging
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

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
    """A block that may import diffusers, which imports bitsandbytes.

    bitsandbytes does not log its hints for installing it. It decorates some functions with `torch.compile`, which would
    load torch's compiler: a fifth of all that is imported for drawing, which mostly never runs. It is loaded when one
    of these functions is first called.
    """
    with _logger_level("bitsandbytes"):
        if "bitsandbytes" not in sys.modules:
            import torch

            real, torch.compile = torch.compile, compile_later(torch.compile)
            try:
                import bitsandbytes  # noqa: F401
            finally:
                torch.compile = real
        yield


def compile_later(real: Callable[..., Any]) -> Callable[..., Any]:
    """`torch.compile` that compiles a function when it is first called."""

    def compile_function(function: Callable[..., Any] | None = None, **options: Any) -> Callable[..., Any]:
        if function is None:  # used as a decorator with options
            return functools.partial(compile_function, **options)
        compiled = functools.cache(lambda: real(function, **options))
        return functools.wraps(function)(lambda *arguments, **named: compiled()(*arguments, **named))

    return compile_function


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
