"""The app's server in the test's own process, with limits that a test chooses."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple
from unittest.mock import patch

from x2i_app.media.isolation import isolate_decoding
from x2i_app.serving.engine import Engine
from x2i_app.settings import Settings
from x2i_app.ui.http.limits import HttpLimits
from x2i_app.ui.layout import build_page
from x2i_app.ui.page import Page
from x2i_app.ui.server import launch


class LocalApp(NamedTuple):
    """A running server, its page, its engine, and the folder of its uploads."""

    url: str
    page: Page
    engine: Engine
    uploads: Path


@contextmanager
def local_app(limits: HttpLimits, *, draws: bool = False, isolated: bool = True, **settings) -> Iterator[LocalApp]:
    """Start the server for the block. It takes about a second.

    draws: load the model; without one, jobs wait. isolated: decode files in child processes, as `serve` does.
    """
    # Other tests write to Gradio's usual folder at the same time.
    with tempfile.TemporaryDirectory() as folder, patch.dict(os.environ, GRADIO_TEMP_DIR=folder):
        engine = Engine(Settings(port=0, **settings))
        page = build_page(engine)
        was_isolated = isolate_decoding(isolated)
        url, _ = launch(page, engine, limits)
        if draws:
            engine.start()
        try:
            yield LocalApp(url.rstrip("/"), page, engine, Path(folder))
        finally:
            page.close(verbose=False)
            engine.close()
            isolate_decoding(was_isolated)
