"""Who listens: a client posts a request, and reads what becomes of it by another one, or never does.

Gradio runs what was posted whether anybody listens or not, and keeps its messages for ever. Here a job that nobody has
listened to for a while is stopped, and messages that nobody has fetched are dropped. Not thread-safe: use it only in
the event loop.
"""

import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import parse_qs

from starlette.types import Scope

from x2i_app.ui.http.access import API

KEY = "x2i.listeners"  # of the Listeners in a request's ASGI scope
_STREAM = re.compile(rf"{API}/(?:queue/data|call/(?:v2/)?\w+/(\w+))")
_POSTS = re.compile(rf"{API}/(queue/join|call/.+)")
_SWEEP_SECONDS = 5.0
_CROWD = 1000  # sessions with messages; of more than 2,000, Gradio forgets the oldest, whoever listens
_SESSION_LENGTH = 64  # characters; `payloads.check_call` refuses longer ones
_MOST_SESSIONS = 20_000  # of which it is known when they were heard last
_KEPT_FACTOR = 4  # messages are kept so many times longer than a job runs unheard


class Listeners:
    """Which sessions have an open stream. A request without a session has one of its own, named by its event's id.

    seconds: how long a job may be unheard.
    """

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic):
        self.seconds = seconds
        self._clock = clock
        self._open: Counter[str] = Counter()
        self._heard_at: dict[str, float] = {}
        self._swept_at = clock()

    @contextmanager
    def listening(self, scope: Scope, path: str) -> Iterator[None]:
        """Serve a GET request inside the block. If it is for a stream, its session is listened to meanwhile."""
        stream = _STREAM.fullmatch(path)
        if not stream:
            yield
            return
        queue = scope["app"].get_blocks()._queue
        session = _session_of(queue, stream[1]) if stream[1] else _query(scope, "session_hash")
        self._open[session] += 1
        try:
            yield
        finally:
            self._open[session] -= 1
            if not self._open[session]:
                del self._open[session]
            self._note(session)

    def _note(self, session: str) -> None:
        """Somebody has listened to a session until now. Of too many sessions, the oldest note goes."""
        self._heard_at.pop(session, None)
        if len(session) <= _SESSION_LENGTH:  # of a longer one, no job can come
            self._heard_at[session] = self._clock()
        while len(self._heard_at) > _MOST_SESSIONS:
            del self._heard_at[next(iter(self._heard_at))]

    def unheard_seconds(self, request: Any) -> float:
        """For how long nobody has listened to a gr.Request; 0 for one whose own response is the stream."""
        scope = request.request.scope
        if not _POSTS.fullmatch(scope["path"].rstrip("/")):
            return 0.0
        session = request.session_hash or ""
        if self._open[session]:
            return 0.0
        return self._clock() - self._heard_at.setdefault(session, self._clock())

    def sweep(self, queue: Any) -> None:
        """Drop the messages of sessions to which nobody has listened for long. queue: Gradio's."""
        now, is_crowded = self._clock(), len(queue.pending_messages_per_session) > _CROWD
        if now - self._swept_at < min(_SWEEP_SECONDS, self.seconds) and not is_crowded:
            return
        self._swept_at = now
        kept = _SWEEP_SECONDS if is_crowded else _KEPT_FACTOR * self.seconds
        for session in list(queue.pending_messages_per_session):
            if not self._open[session] and now - self._heard_at.setdefault(session, now) > kept:
                queue.pending_messages_per_session.pop(session, None)
                queue.pending_event_ids_session.pop(session, None)
        known = queue.pending_messages_per_session
        self._heard_at = {each: at for each, at in self._heard_at.items() if each in known or now - at < kept}
        self._open += Counter()  # drops zeros


def listeners_of(request: Any) -> Listeners | None:
    """The listeners of the server that serves this gr.Request; None outside of a server."""
    return request.request.scope.get(KEY) if getattr(request, "request", None) else None


def _query(scope: Scope, name: str) -> str:
    return next(iter(parse_qs(scope["query_string"].decode("latin-1")).get(name, ())), "")


def _session_of(queue: Any, event_id: str) -> str:
    """The session of an event, as Gradio's route finds it."""
    if event := queue.event_ids_to_events.get(event_id):
        return event.session_hash
    return next((each for each, ids in queue.pending_event_ids_session.items() if event_id in ids), event_id)
