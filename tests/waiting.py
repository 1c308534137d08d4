"""Waiting for what happens at some time, however busy the machine is."""

import subprocess
import time
from collections.abc import Callable
from typing import TypeVar

import pytest

T = TypeVar("T")
PATIENCE = 240  # seconds; only a test that fails waits as long


def wait_until(
    happens: Callable[[], T],
    what: str | Callable[[], object] = "",
    *,
    process: subprocess.Popen | None = None,
    seconds: float = PATIENCE,
    pause: float = 0.02,
) -> T:
    """Ask again and again, and return the first answer that is true; fail when it takes too long.

    what: what should happen, or a function that tells what is so instead; for the error. process: must not end before.
    """
    deadline = time.monotonic() + seconds
    while not (answer := happens()):
        is_over = process is not None and process.poll() is not None
        if is_over or time.monotonic() > deadline:
            told = what() if callable(what) else what
            pytest.fail(f"{'the process ended' if is_over else 'it never happened'}: {told}")
        time.sleep(pause)
    return answer
