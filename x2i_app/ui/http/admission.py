"""Admission of jobs: a request is refused before Gradio spends anything on it if the queue has no room for its job."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import gradio as gr

from x2i_app.errors import QueueFullError
from x2i_app.serving.engine import WAITING_JOBS_PER_SESSION, Engine
from x2i_app.ui.http.refusal import Refusal
from x2i_app.ui.tabs import TABS

_GENERATES = {tab.name for tab in TABS}
_KEY = "x2i.candidate"  # of a request's Candidate in its ASGI scope


class _Candidate:
    """A request for a job. is_submitted: whether its job has reached the engine, which counts it from then on."""

    def __init__(self, session: str | None):
        self.session = session or id(self)
        self.is_submitted = False


class Admission:
    """Counts the requests for a job between this check and the engine's queue.

    A request spends some time in Gradio's own queue before its job reaches the engine's queue. Without this count, a
    hundred simultaneous requests would all find the engine's queue empty, and all would be admitted.
    Not thread-safe: use it only in the event loop.
    """

    def __init__(self, engine: Engine):
        self._engine = engine
        self._in_middleware: set[_Candidate] = set()

    @contextmanager
    def admit(self, function: Any, session: str | None, scope: Any) -> Iterator[None]:
        """Handle a request inside the block. function: Gradio's, of the endpoint.

        Raises Refusal (429) if the request is for a job and the queue has no room for it.
        """
        if function.api_name not in _GENERATES:
            yield
            return
        try:
            self._engine.check_room(self._pending(scope["app"].get_blocks()._queue))
        except QueueFullError as error:
            raise Refusal(429, str(error)) from None
        candidate = scope[_KEY] = _Candidate(session)
        self._in_middleware.add(candidate)
        try:
            yield
        finally:
            self._in_middleware.discard(candidate)

    def _pending(self, queue: Any) -> int:
        """How many admitted jobs have not reached the engine, at most WAITING_JOBS_PER_SESSION of each session."""
        batches = [*(each.queue for each in queue.event_queue_per_concurrency_id.values()), *queue.active_jobs]
        in_gradio = {event.request.scope.get(_KEY) for events in batches for event in events or ()}
        candidates = [one for one in in_gradio | self._in_middleware if one and not one.is_submitted]
        per_session = Counter(candidate.session for candidate in candidates)
        return sum(min(count, WAITING_JOBS_PER_SESSION) for count in per_session.values())


def mark_submitted(request: gr.Request) -> None:
    """Stop counting this request, because its job goes to the engine now."""
    candidate = request.request.scope.get(_KEY) if request.request else None
    if candidate:
        candidate.is_submitted = True
