"""Copying of clients' files, in threads: one copy at a time of each client, a few at once of all.

The event loop has six threads of its own on two cores. A client whose large files are copied in many pages at once
would take them all, and every other page would stand still.
"""

import asyncio
from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar
from weakref import WeakValueDictionary

import anyio

_THREADS = 8

Result = TypeVar("Result")


class FileWork:
    """Use it only in the event loop."""

    def __init__(self) -> None:
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def run(self, client: str, function: Callable[..., Result], *given: Any) -> Result:
        """Call a function in a thread, after all earlier calls of this client. A cancelled call is waited for."""
        lock = self._locks.get(client)
        if lock is None:
            lock = self._locks[client] = asyncio.Lock()
        async with lock:
            return await anyio.to_thread.run_sync(function, *given, limiter=_limiter())


@cache
def _limiter() -> anyio.CapacityLimiter:
    return anyio.CapacityLimiter(_THREADS)
