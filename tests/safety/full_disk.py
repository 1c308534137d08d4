"""A full disk for the running app, by the limit that Linux puts on the size of a process's files."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import psutil

FREE_BYTES = 5_000


@contextmanager
def full_disk(app) -> Iterator[None]:
    """Inside the block the app cannot write more than FREE_BYTES to any file.

    The limit counts for the app's log too, so the log is emptied first and gets its old text back at the end.
    Otherwise the limit would have to be as large as the log, and an image of the same size could be written.
    """
    process = psutil.Process(app.process.pid)
    limits = process.rlimit(psutil.RLIMIT_FSIZE)
    log = app.log.read_text()
    os.truncate(app.log, 0)
    process.rlimit(psutil.RLIMIT_FSIZE, (FREE_BYTES, limits[1]))
    try:
        yield
    finally:
        process.rlimit(psutil.RLIMIT_FSIZE, limits)
        app.log.write_text(log + app.log.read_text())
