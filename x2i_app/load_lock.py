"""A lock that lets one thread at a time build or load a model.

While transformers, diffusers and accelerate load weights, they change state that all threads share: how a module
registers its parameters, how weights are initialized, the default dtype. A second thread would get modules without
values, and two loads that overlap would each restore what the other one had changed.
"""

import threading
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

P, R = ParamSpec("P"), TypeVar("R")

_LOCK = threading.RLock()


def one_at_a_time(function: Callable[P, R]) -> Callable[P, R]:
    """Decorator: only one thread runs any of the decorated functions; it may call others of them."""

    @wraps(function)
    def locked(*args: P.args, **kwargs: P.kwargs) -> R:
        with _LOCK:
            return function(*args, **kwargs)

    return locked
