"""Admission: a request is refused before Gradio spends anything on it if there is no room for what it asks for.

For a job, that is the engine's queue. For any other function of the page, it is a number that may run or wait at once,
of each session, of each client and in all: Gradio would start a thread for each of them.
"""

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import gradio as gr

from x2i_app.errors import QueueFullError
from x2i_app.serving.engine import WAITING_JOBS_PER_SESSION, Engine
from x2i_app.ui.http.limits import HTTP_LIMITS, HttpLimits
from x2i_app.ui.http.refusal import Refusal
from x2i_app.ui.tabs import TABS

_GENERATES = {*(tab.name for tab in TABS), "more"}  # names of the endpoints that queue a job
_POLL_SECONDS = 0.1
_KEY = "x2i.candidate"  # of a request's Candidate in its ASGI scope


class _Candidate:
    """A request. is_submitted: whether its job has reached the engine, which counts it from then on."""

    def __init__(self, session: str | None, address: str, is_job: bool):
        self.session = session or id(self)
        self.address, self.is_job = address, is_job
        self.is_submitted = False


class Admission:
    """Counts the requests between this check and the engine's queue, or until they end.

    A request spends some time in Gradio's own queue before its job reaches the engine's queue. Without this count, a
    hundred simultaneous requests would all find the engine's queue empty, and all would be admitted.
    Not thread-safe: use it only in the event loop.
    """

    def __init__(self, engine: Engine, limits: HttpLimits = HTTP_LIMITS):
        self._engine, self._limits = engine, limits
        self._in_middleware: set[_Candidate] = set()
        self._waiting = 0

    @contextmanager
    def admit(self, function: Any, session: str | None, scope: Any) -> Iterator[None]:
        """Handle a request inside the block. function: Gradio's, of the endpoint.

        Raises Refusal (429) if there is no room for its job, or for one more function of the page.
        """
        with self._admit(session, scope, function.api_name in _GENERATES):
            yield

    @contextmanager
    def admit_job(self, session: str | None, scope: Any) -> Iterator[None]:
        """Handle a request for a job inside the block. Raises Refusal (429) if there is no room for it."""
        with self._admit(session, scope, True):
            yield

    @contextmanager
    def _admit(self, session: str | None, scope: Any, is_job: bool) -> Iterator[None]:
        address = (scope.get("client") or ("",))[0]
        candidate = _Candidate(session, address, is_job)
        known = self._known(scope["app"].get_blocks()._queue)
        if candidate.is_job:
            try:
                self._engine.check_room(_count_jobs(known))
            except QueueFullError as error:
                raise Refusal(429, str(error)) from None
        else:
            self._check_functions(candidate, [each for each in known if not each.is_job])
        scope[_KEY] = candidate
        self._in_middleware.add(candidate)
        try:
            yield
        finally:
            self._in_middleware.discard(candidate)

    async def wait(self, function: Any, session: str | None, scope: Any) -> None:
        """Wait for room for a function of the page, without a thread; `admit` then says whether there is any."""
        if function.api_name in _GENERATES or self._waiting >= self._limits.functions:
            return
        clock = asyncio.get_running_loop().time
        deadline = clock() + self._limits.function_wait
        self._waiting += 1
        try:
            while clock() < deadline:
                try:
                    with self.admit(function, session, scope):
                        return
                except Refusal:
                    await asyncio.sleep(_POLL_SECONDS)
        finally:
            self._waiting -= 1

    def _known(self, queue: Any) -> list[_Candidate]:
        """The admitted requests that have not ended and whose job has not reached the engine."""
        batches = [*(each.queue for each in queue.event_queue_per_concurrency_id.values()), *queue.active_jobs]
        in_gradio = {event.request.scope.get(_KEY) for events in batches for event in events or ()}
        return [one for one in in_gradio | self._in_middleware if one and not one.is_submitted]

    def _check_functions(self, new: _Candidate, known: list[_Candidate]) -> None:
        limits = self._limits
        for count, most in (
            (sum(each.session == new.session for each in known), limits.functions_per_session),
            (sum(each.address == new.address for each in known), limits.functions_per_address),
            (len(known), limits.functions),
        ):
            if count >= most:
                raise Refusal(429, f"{count} functions of the page are running, which is the limit; try again soon.")


def _count_jobs(known: list[_Candidate]) -> int:
    """How many jobs will reach the engine, at most WAITING_JOBS_PER_SESSION of each session."""
    per_session = Counter(candidate.session for candidate in known if candidate.is_job)
    return sum(min(count, WAITING_JOBS_PER_SESSION) for count in per_session.values())


def mark_submitted(request: gr.Request) -> None:
    """Stop counting this request, because its job goes to the engine now."""
    candidate = request.request.scope.get(_KEY) if request.request else None
    if candidate:
        candidate.is_submitted = True
