"""The way from the gate to the engine's queue: one too many is refused before Gradio makes anything of its request."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import gradio as gr

from x2i_app.errors import QueueFullError
from x2i_app.serving.engine import JOBS_PER_SESSION, Engine
from x2i_app.ui.http.payloads import Refusal
from x2i_app.ui.tabs import TABS

_DRAWING = {tab.name for tab in TABS}
_GUEST = "x2i.guest"  # in the ASGI scope of a request to draw


class _Guest:
    """Who wants a job. arrived: whether the engine has been asked."""

    def __init__(self, session: str | None):
        self.session = session or id(self)
        self.arrived = False


class Lobby:
    """Who is on the way. Of a hundred that come at once, a look at the queue alone, still empty, would let all in.

    Used in the event loop alone.
    """

    def __init__(self, engine: Engine):
        self._engine = engine
        self._passing: set[_Guest] = set()

    @contextmanager
    def room_for(self, function: Any, session: str | None, scope: Any) -> Iterator[None]:
        """Serve a request in the block. Raises Refusal where it asks for a job and there is no room for one."""
        if function.api_name not in _DRAWING:
            yield
            return
        try:
            self._engine.check_room(self._coming(scope["app"].get_blocks()._queue))
        except QueueFullError as error:
            raise Refusal(429, str(error)) from None
        guest = scope[_GUEST] = _Guest(session)
        self._passing.add(guest)
        try:
            yield
        finally:
            self._passing.discard(guest)

    def _coming(self, queue: Any) -> int:
        """How many are on the way, at the gate or with Gradio; of one session no more than may wait."""
        batches = [*(each.queue for each in queue.event_queue_per_concurrency_id.values()), *queue.active_jobs]
        guests = {event.request.scope.get(_GUEST) for events in batches for event in events or ()}
        sessions = Counter(guest.session for guest in guests | self._passing if guest and not guest.arrived)
        return sum(min(count, JOBS_PER_SESSION) for count in sessions.values())


def arrived(request: gr.Request) -> None:
    """The engine is asked now: whoever is let in waits in its queue."""
    guest = request.request.scope.get(_GUEST) if request.request else None
    if guest:
        guest.arrived = True
