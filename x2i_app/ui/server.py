"""Serving the page: up first, the model after, and nothing past the gate."""

import logging
import os
import sys

from starlette.middleware import Middleware

from x2i_app.errors import InvalidRequestError
from x2i_app.serving.engine import Engine
from x2i_app.settings import Settings
from x2i_app.ui.browser import ON_LOAD
from x2i_app.ui.http.access import Hosts
from x2i_app.ui.http.admission import Lobby
from x2i_app.ui.http.middleware import Gate
from x2i_app.ui.http.uploads import UPLOAD_BYTES
from x2i_app.ui.i18n import texts
from x2i_app.ui.i18n.gradio_strings import GRADIO_WORDS
from x2i_app.ui.i18n.languages import translations
from x2i_app.ui.layout import build_page
from x2i_app.ui.mask_editor import PAINTER_CSS
from x2i_app.ui.theme import CSS, Theme
from x2i_app.ui.zero_gpu import ZeroGpuEngine, is_zero_gpu

_SESSIONS = 400  # whose state Gradio remembers, about 0.25 MB each
_OTHER_EVENTS = 64  # that go on beside jobs that wait: a running one, those that are just refused, other buttons


def serve(settings: Settings, engine: Engine | None = None) -> None:
    """Put the page up, then let the engine load behind it, then block until interrupted.

    engine: one that has not started; None makes the one that suits the place.

    Raises InvalidRequestError if the port is taken, or if it would be shared with everybody and that was not asked for.
    """
    if settings.share and not (settings.login or settings.share_openly):
        raise InvalidRequestError(
            "A share link lets everybody in who has it; set X2I_LOGIN to name:password, or add --share-openly."
        )
    _log_to_terminal()
    engine = engine or (ZeroGpuEngine(settings) if is_zero_gpu() else Engine(settings))
    page = build_page(engine)
    page.queue(default_concurrency_limit=None)
    hosts = Hosts(settings, os.environ)
    has_login, mcp = bool(settings.login), _load_mcp(engine) if settings.mcp else None
    lobby = Lobby(engine)
    gate = Middleware(Gate, hosts=hosts, has_login=has_login, status=lambda: engine.status, lobby=lobby, mcp=mcp)
    try:
        _, url, share_url = page.launch(
            server_name=settings.host,
            server_port=settings.port or None,
            root_path=settings.root_path or None,
            share=settings.share,
            auth=tuple(settings.login.split(":", 1)) if settings.login else None,
            theme=Theme(),
            css=CSS + PAINTER_CSS,
            js=ON_LOAD,
            i18n=translations(GRADIO_WORDS),
            footer_links=["api"],
            prevent_thread_lock=True,
            quiet=True,
            show_error=False,
            app_kwargs={"middleware": [gate]} | ({"lifespan": mcp.lifespan} if mcp else {}),
            state_session_capacity=_SESSIONS,
            max_file_size=UPLOAD_BYTES,  # so that the page refuses what is larger before it sends it
            # Gradio follows so many events at once and lets others wait unheard, before they reach our queue.
            max_threads=settings.queue_size + _OTHER_EVENTS,
            # Whatever the environment says: no second way in beside the gate, and nothing about visitors kept.
            enable_monitoring=False,
            run_history=False,
            mcp_server=False,  # ours is another one
            pwa=False,
            ssr_mode=False,
            num_workers=0,
        )
    except OSError as error:
        raise InvalidRequestError(
            f"Port {settings.port} of {settings.host} cannot be had; choose another with --port, or 0 for any free one."
        ) from error
    if share_url:
        hosts.add(share_url)
    if settings.share and not share_url:
        print(texts.NO_SHARE_LINK, file=sys.stderr, flush=True)
    print(f"{texts.TITLE}: {share_url or url}", flush=True)
    engine.start()
    try:
        page.block_thread()
    finally:
        engine.close()


def _load_mcp(engine: Engine):
    try:
        from x2i_app.ui.http.mcp_server import McpServer  # an extra, which may be missing
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "mcp":
            raise
        raise InvalidRequestError(
            "--mcp needs the package mcp, which is not installed; install it with: pip install 'mcp>=1.30,<2'"
        ) from None
    return McpServer(engine, engine.settings.root_path)


def _log_to_terminal() -> None:
    """Where each part of a model was found, and how far downloads are: lines, which also a container's log can show."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(message)s"))
    log = logging.getLogger("x2i_app")
    log.setLevel(logging.INFO)
    log.addHandler(handler)
