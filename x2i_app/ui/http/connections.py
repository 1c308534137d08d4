"""The connections of the server: one HTTP parser with limits on headers, time-outs, and a cap on how many there are.

Gradio configures uvicorn itself and takes no options for it. By default uvicorn chooses among parsers by what is
installed, one of which reads headers without end, and keeps a connection that sends nothing forever.
"""

import asyncio
import logging
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from types import SimpleNamespace
from typing import Any

import h11
import uvicorn
from gradio import http_server
from uvicorn.protocols.http.h11_impl import H11Protocol

from x2i_app.ui.http.limits import HttpLimits

logger = logging.getLogger(__name__)

_BACKLOG = 64  # connections that are accepted at once, before any of them can be refused
_READ_BYTES = 64 * 1024  # at once, from one connection, so that the others have their turn
_PIECES, _PIECE_BYTES = 1000, 16  # a body in more pieces than this has pieces of this many bytes on average
_CLOSE = b"\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
_BUSY = b"HTTP/1.1 503 Service Unavailable" + _CLOSE
_LATE = b"HTTP/1.1 408 Request Timeout" + _CLOSE


@contextmanager
def bounded_server(limits: HttpLimits, is_shared: Callable[[str], bool]) -> Iterator[None]:
    """The server that Gradio starts inside the block has these limits.

    is_shared: whether an address has no limit of its own, because it is a proxy or the owner.
    """
    config = partial(
        uvicorn.Config,
        http=partial(_Protocol, pool=_Pool(limits, is_shared)),
        ws="none",
        proxy_headers=False,  # RequestGuard decides which proxies it believes
        backlog=_BACKLOG,
        h11_max_incomplete_event_size=limits.header_bytes,
        timeout_keep_alive=round(limits.idle_seconds),
        server_header=False,
    )
    original = http_server.uvicorn
    http_server.uvicorn = SimpleNamespace(Config=config)
    try:
        yield
    finally:
        http_server.uvicorn = original


@dataclass
class _Pool:
    """All connections of one server. idle: those without a request, the oldest first."""

    limits: HttpLimits
    is_shared: Callable[[str], bool]
    per_address: Counter[str] = field(default_factory=Counter)
    idle: "OrderedDict[_Protocol, None]" = field(default_factory=OrderedDict)

    def add(self, connection: "_Protocol") -> bool:
        """Count a connection. False if there is no room for it; one without a request makes room."""
        address = connection.address
        self.per_address[address] += 1
        if self.per_address[address] > self.limits.connections_per_address and not self.is_shared(address):
            return False
        if self.per_address.total() > self._most():
            if not self.idle:
                return False
            self.idle.popitem(last=False)[0].end(_BUSY)
        return True

    def remove(self, connection: "_Protocol") -> None:
        self.idle.pop(connection, None)
        self.per_address[connection.address] -= 1
        if not self.per_address[connection.address]:
            del self.per_address[connection.address]

    def _most(self) -> int:
        """How many connections there may be: at most half of the files that this process may open."""
        try:
            import resource
        except ImportError:  # Windows
            return self.limits.connections
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        return self.limits.connections if soft == resource.RLIM_INFINITY else min(self.limits.connections, soft // 2)


class _Connection(h11.Connection):
    """h11's parser, which also limits a request's headers and the number of pieces of its body."""

    def __init__(self, limits: HttpLimits):
        super().__init__(h11.SERVER, limits.header_bytes)
        self._limits = limits
        self._pieces = self._bytes = 0

    def next_event(self) -> Any:
        """As h11's. Raises RemoteProtocolError, which ends the connection with 400."""
        event = super().next_event()
        if isinstance(event, h11.Request):
            self._pieces = self._bytes = 0
            size = len(event.target) + sum(len(name) + len(value) for name, value in event.headers)
            if len(event.headers) > self._limits.headers or size > self._limits.header_bytes:
                raise h11.RemoteProtocolError("too many headers", error_status_hint=431)
        elif isinstance(event, h11.Data):
            self._pieces += 1
            self._bytes += len(event.data)
            if self._pieces > _PIECES and self._bytes < self._pieces * _PIECE_BYTES:
                raise h11.RemoteProtocolError("a body in tiny pieces")
        return event


class _Protocol(H11Protocol):
    """uvicorn's parser in Python, with limits."""

    def __init__(self, *args: Any, pool: _Pool, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.conn = _Connection(pool.limits)
        self.address = ""
        self._pool = pool
        self._head_timer: asyncio.TimerHandle | None = None
        self._write_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:
        super().connection_made(transport)
        if hasattr(transport, "max_size"):  # of asyncio's transports
            transport.max_size = _READ_BYTES
        self.address = self.client[0] if self.client else ""
        if self._pool.add(self):
            self._expect_head()
        else:
            logger.warning("refused a connection: there are too many")
            self.end(_BUSY)

    def connection_lost(self, exc: Exception | None) -> None:
        self._pool.remove(self)
        for timer in (self._head_timer, self._write_timer):
            if timer:
                timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        super().data_received(data)
        if self.conn.their_state is h11.IDLE and self._head_timer is None:
            self._expect_head()  # the next request on this connection has begun to arrive

    def handle_events(self) -> None:
        super().handle_events()
        if self.conn.their_state is h11.IDLE:
            return
        self._pool.idle.pop(self, None)
        if self._head_timer:
            self._head_timer.cancel()
            self._head_timer = None

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.timeout_keep_alive_task:
            self._pool.idle[self] = None

    def _should_upgrade(self) -> bool:
        return False  # there is no websocket

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._write_timer is None:
            self._write_timer = self.loop.call_later(self._pool.limits.write_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._write_timer:
            self._write_timer.cancel()
            self._write_timer = None

    def _expect_head(self) -> None:
        self._pool.idle[self] = None
        self._head_timer = self.loop.call_later(self._pool.limits.head_seconds, self.end, _LATE)

    def end(self, answer: bytes) -> None:
        """Close the connection with a whole response."""
        if not self.transport.is_closing():
            self.transport.write(answer)
            self.transport.close()
