"""Serving the page: first the page, then the model in the background, and every request through RequestGuard."""

import logging
import os
import sys

import gradio as gr
from starlette.middleware import Middleware

from x2i_app.errors import InvalidRequestError
from x2i_app.serving.engine import Engine
from x2i_app.serving.zero_gpu import ZeroGpuWorker, is_zero_gpu
from x2i_app.settings import Settings
from x2i_app.ui.browser import ON_LOAD
from x2i_app.ui.http.access import Hosts
from x2i_app.ui.http.admission import Admission
from x2i_app.ui.http.limits import HTTP_LIMITS, HttpLimits
from x2i_app.ui.http.middleware import RequestGuard
from x2i_app.ui.i18n import translations
from x2i_app.ui.layout import build_page
from x2i_app.ui.mask_editor import MASK_EDITOR_CSS
from x2i_app.ui.page import TITLE
from x2i_app.ui.theme import CSS, Theme

_SESSIONS = 400  # whose state Gradio keeps, about 0.25 MB each
_OTHER_EVENTS = 64  # beside the jobs that wait: the running job, requests that are being refused, other buttons
_NO_SHARE_LINK = (
    "x2i: there is no share link: Gradio's tunnel could not be downloaded or reached, or this is a Space, which is "
    "public already. The page runs on this machine only; to show it to others, set --host, or put a web server in "
    "front of it and set --root-path."
)


def serve(settings: Settings, engine: Engine | None = None) -> None:
    """Show the page, load the model in the background, and serve until interrupted.

    engine: one that has not started. None creates the engine that suits this machine.
    Raises InvalidRequestError if the port is taken, or if a share link would be open to everybody by accident.
    """
    if settings.share and not (settings.login or settings.share_openly):
        raise InvalidRequestError(
            "Everybody who has the share link could use the app; set X2I_LOGIN to name:password, or add --share-openly."
        )
    _log_to_terminal()
    engine = engine or (Engine(settings, ZeroGpuWorker(settings) if is_zero_gpu() else None))
    page = build_page(engine)
    url, share_url = launch(page, engine)
    if settings.share and not share_url:
        print(_NO_SHARE_LINK, file=sys.stderr, flush=True)
    print(f"{TITLE}: {share_url or url}", flush=True)
    engine.start()
    try:
        page.block_thread()
    finally:
        engine.close()


def launch(page: gr.Blocks, engine: Engine, limits: HttpLimits = HTTP_LIMITS) -> tuple[str, str | None]:
    """Start the page's server in a thread, behind RequestGuard. Returns the local URL, and the share link or None."""
    settings = engine.settings
    hosts = Hosts(settings, os.environ)
    mcp = _load_mcp(engine) if settings.mcp else None
    guard = Middleware(
        RequestGuard,
        hosts=hosts,
        has_login=bool(settings.login),
        status=lambda: engine.status,
        admission=Admission(engine),
        mcp=mcp,
        limits=limits,
    )
    page.queue(default_concurrency_limit=None)
    try:
        _, url, share_url = page.launch(
            server_name=settings.host,
            server_port=settings.port or None,
            root_path=settings.root_path or None,
            share=settings.share,
            auth=tuple(settings.login.split(":", 1)) if settings.login else None,
            theme=Theme(),
            css=CSS + MASK_EDITOR_CSS,
            js=ON_LOAD,
            i18n=translations(),
            footer_links=["api"],
            prevent_thread_lock=True,
            quiet=True,
            show_error=False,
            app_kwargs={"middleware": [guard]} | ({"lifespan": mcp.lifespan} if mcp else {}),
            state_session_capacity=_SESSIONS,
            max_file_size=limits.upload_bytes,  # the page refuses a larger file before it sends it
            # Gradio handles this many events at once; any more would wait in Gradio and not in the engine's queue.
            max_threads=settings.queue_size + _OTHER_EVENTS,
            # Set here, so that no environment variable opens another way in or keeps data about users.
            enable_monitoring=False,
            run_history=False,
            mcp_server=False,  # Gradio's; the app has its own
            pwa=False,
            ssr_mode=False,
            num_workers=0,
        )
    except OSError as error:
        raise InvalidRequestError(
            f"Port {settings.port} of {settings.host} is in use; choose another with --port, or 0 for a free one."
        ) from error
    if share_url:
        hosts.add(share_url)
    return url, share_url


def _load_mcp(engine: Engine):
    try:
        from x2i_app.ui.http.mcp_server import McpServer  # needs the optional package mcp
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "mcp":
            raise
        raise InvalidRequestError(
            "--mcp needs the package mcp, which is not installed; install it with: pip install 'mcp>=1.30,<2'"
        ) from None
    return McpServer(engine, engine.settings.root_path)


def _log_to_terminal() -> None:
    """Print where each part of a model was found, and the progress of downloads."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(message)s"))
    log = logging.getLogger("x2i_app")
    log.setLevel(logging.INFO)
    log.addHandler(handler)
