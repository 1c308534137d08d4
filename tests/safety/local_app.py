"""The app's server in the test's own process, with limits that a test chooses. Its model is never loaded."""

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
    """A running server, its page, its engine, which has not started, and the folder of its uploads."""

    url: str
    page: Page
    engine: Engine
    uploads: Path


@contextmanager
def local_app(limits: HttpLimits, **settings) -> Iterator[LocalApp]:
    """Start the server for the block. It takes about a second."""
    # Other tests write to Gradio's usual folder at the same time.
    with tempfile.TemporaryDirectory() as folder, patch.dict(os.environ, GRADIO_TEMP_DIR=folder):
        engine = Engine(Settings(port=0, **settings))
        page = build_page(engine)
        was_isolated = isolate_decoding()  # as in `serve`
        url, _ = launch(page, engine, limits)
        try:
            yield LocalApp(url.rstrip("/"), page, engine, Path(folder))
        finally:
            page.close(verbose=False)
            engine.close()
            isolate_decoding(was_isolated)
