"""A log that strangers cannot fill: few records of each kind in a while, and no control characters in any of them."""

import logging
import threading
import time
from collections.abc import Callable

from x2i_app.errors import escape_controls

_LOGGERS = ("asyncio", "uvicorn.error", "x2i_app")
_RECORDS, _SECONDS = 20, 10.0  # records of one kind in this time; "refused" is one kind, whatever was refused
_KINDS = 500


class LimitedLog(logging.Filter):
    """Passes up to `records` of each message, before its values are filled in, in `seconds`; then counts the others."""

    def __init__(self, records: int = _RECORDS, seconds: float = _SECONDS, clock: Callable[[], float] = time.monotonic):
        super().__init__()
        self._records, self._seconds, self._clock = records, seconds, clock
        self._kinds: dict[tuple, list[float]] = {}  # start of the interval, and how many records it had
        self._lock = threading.Lock()

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is logged. The first one after a pause says how many were left out."""
        kind, now = (record.name, record.levelno, str(record.msg)[:80]), self._clock()
        with self._lock:
            if len(self._kinds) >= _KINDS:
                self._kinds.clear()
            start, count = self._kinds.get(kind, (now, 0))
            left_out = 0
            if now - start >= self._seconds:
                left_out, start, count = max(0, count - self._records), now, 0
            self._kinds[kind] = [start, count + 1]
        if left_out:
            record.msg, record.args = f"{record.getMessage()} ({left_out:,} more like this were left out)", ()
        return count < self._records


class EscapedFormatter(logging.Formatter):
    """Shows a record's message with its control characters escaped; a traceback keeps its rows."""

    def format(self, record: logging.LogRecord) -> str:
        """One record as text."""
        message = escape_controls(record.getMessage()).replace("\n", "\\n")
        record = logging.makeLogRecord(vars(record) | {"msg": message, "args": ()})
        return super().format(record)


def limit_log() -> None:
    """Limit the records of the app, of uvicorn and of asyncio, which logs a row for each connection that fails."""
    for name in _LOGGERS:
        logger = logging.getLogger(name)
        targets = [logger, *logger.handlers]
        for target in targets:
            if not any(isinstance(each, LimitedLog) for each in target.filters):
                target.addFilter(_LIMITED)


_LIMITED = LimitedLog()
