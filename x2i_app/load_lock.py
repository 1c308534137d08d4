"""Models are built and loaded by one thread at a time.

While they load, transformers, diffusers and accelerate change what all threads share: how a module registers its
parameters, how weights begin, the default dtype. Another thread would get weights without values in the midst, and two
that overlap each put back what the other had changed, for as long as the process lives.
"""

import threading
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

P, R = ParamSpec("P"), TypeVar("R")

_LOCK = threading.RLock()


def alone(function: Callable[P, R]) -> Callable[P, R]:
    """The function, during which no other thread is in one of these."""

    @wraps(function)
    def locked(*args: P.args, **kwargs: P.kwargs) -> R:
        with _LOCK:
            return function(*args, **kwargs)

    return locked
