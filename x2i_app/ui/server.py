"""Serving the page: first the page, then the model in the background, and every request through RequestGuard."""

import errno
import logging
import os
import sys
import tempfile
import time

import gradio as gr
from gradio.tunneling import CURRENT_TUNNELS
from starlette.middleware import Middleware

from x2i_app.errors import EngineError, InvalidRequestError
from x2i_app.hosting import ask_directly
from x2i_app.media.isolation import isolate_decoding, warm_up
from x2i_app.serving.engine import Engine
from x2i_app.serving.zero_gpu import ZeroGpuWorker, is_zero_gpu
from x2i_app.settings import Settings
from x2i_app.ui.browser import ON_LOAD
from x2i_app.ui.http.access import Hosts
from x2i_app.ui.http.admission import Admission
from x2i_app.ui.http.clients import Clients
from x2i_app.ui.http.connections import bounded_server
from x2i_app.ui.http.limits import HTTP_LIMITS, HttpLimits
from x2i_app.ui.http.log_limits import EscapedFormatter, limit_log
from x2i_app.ui.http.middleware import RequestGuard
from x2i_app.ui.http.openai_api import OpenAiApi
from x2i_app.ui.i18n import translations
from x2i_app.ui.layout import build_page
from x2i_app.ui.mask_editor import MASK_EDITOR_CSS
from x2i_app.ui.page import TITLE
from x2i_app.ui.theme import CSS, Theme
from x2i_app.workspace import forget, kill_with_program

_SPARE_SESSIONS = 100  # of Gradio's own limit, which SessionStates never lets it reach; about 0.25 MB each
_OTHER_EVENTS = 16  # beside the jobs that wait and the page's functions: requests that are being refused
_POLL_SECONDS = 0.1
_TELL_SECONDS, _SHUTDOWN_SECONDS = 2, 1  # at the end: for the last messages, and for open connections
# After which a thread that is busy in Python lets another one go on. With Python's 5 ms, the event loop and the thread
# that draws waited so long at each step while functions of the page ran.
_TURN_SECONDS = 0.001
_FULL = (errno.ENOSPC, errno.EROFS)
_NO_SHARE_LINK = (
    "x2i: there is no share link: Gradio's tunnel could not be downloaded or reached, or this is a Space, which is "
    "public already. The page runs on this machine only; to show it to others, set --host, or put a web server in "
    "front of it and set --root-path."
)


def _launch_isolated(page: gr.Blocks, engine: Engine) -> tuple[str, str | None]:
    """As `launch`, with files decoded in child processes from the first request on; if it fails, as before."""
    was_isolated = isolate_decoding()
    try:
        return launch(page, engine)
    except BaseException:
        isolate_decoding(was_isolated)
        raise


def serve(settings: Settings, engine: Engine | None = None) -> None:
    """Show the page, load the model in the background, and serve until stopped by an exception, such as Ctrl-C's.

    engine: one that has not started. None creates the engine that suits this machine.
    Raises InvalidRequestError if the port is taken, or if a share link would be open to everybody by accident.
    """
    if settings.share and not (settings.login or settings.share_openly):
        raise InvalidRequestError(
            "Everybody who has the share link could use the app; set X2I_LOGIN to name:password, or add --share-openly."
        )
    _log_to_terminal()
    engine = engine or (Engine(settings, ZeroGpuWorker(settings) if is_zero_gpu() else None))
    try:
        page = build_page(engine)
        url, share_url = _launch_isolated(page, engine)
    except OSError as error:  # Gradio copies the examples of the page there
        folder = tempfile.gettempdir()
        raise EngineError(
            f"The temporary folder {folder!r} cannot be written ({error.strerror}); free some space, or set TMPDIR to "
            "a folder on another disk."
        ) from error
    limit_log()
    warm_up()
    for tunnel in CURRENT_TUNNELS:
        if tunnel.proc:
            kill_with_program(tunnel.proc.pid)
    if settings.share and not share_url:
        print(_NO_SHARE_LINK, file=sys.stderr, flush=True)
    print(f"{TITLE}: {share_url or url}", flush=True)
    engine.start()
    try:
        while page.is_running:
            time.sleep(_POLL_SECONDS)
    finally:
        close(page, engine)


def close(page: gr.Blocks, engine: Engine) -> None:
    """End the share link, tell every waiting client why its job ends, then stop the engine and the server."""
    for tunnel in CURRENT_TUNNELS:
        if tunnel.proc:
            forget(tunnel.proc.pid)
            tunnel.kill()
    engine.close()
    # Gradio ends the clients' streams without a reason as soon as its queue is closed.
    deadline = time.monotonic() + _TELL_SECONDS
    while _has_listeners(page) and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)
    if page.server:
        page.server.config.timeout_graceful_shutdown = _SHUTDOWN_SECONDS
    page.close(verbose=False)


def _has_listeners(page: gr.Blocks) -> bool:
    """Whether a job runs or waits in Gradio's queue, or a client has not received all messages about its own."""
    queue = page._queue
    waiting = any(events.queue for events in queue.event_queue_per_concurrency_id.values())
    messages = any(not each.empty() for each in queue.pending_messages_per_session.values())
    return waiting or messages or any(queue.active_jobs)


def launch(page: gr.Blocks, engine: Engine, limits: HttpLimits = HTTP_LIMITS) -> tuple[str, str | None]:
    """Start the page's server in a thread, behind RequestGuard. Returns the local URL, and the share link or None."""
    _choose_backend()
    sys.setswitchinterval(_TURN_SECONDS)
    settings = engine.settings
    hosts, clients = Hosts(settings, os.environ), Clients(settings, os.environ)
    mcp = _load_mcp(engine) if settings.mcp else None
    openai = OpenAiApi(engine, limits) if settings.openai_api else None
    guard = Middleware(
        RequestGuard,
        hosts=hosts,
        clients=clients,
        has_login=bool(settings.login),
        status=lambda: engine.status,
        admission=Admission(engine, limits),
        mcp=mcp,
        openai=openai,
        limits=limits,
    )
    page.queue(default_concurrency_limit=None)
    ask_directly(settings.host)  # Gradio asks its page at this address
    try:
        with bounded_server(limits, clients.is_shared):
            _, url, share_url = page.launch(
                server_name=f"[{settings.host}]" if ":" in settings.host else settings.host,
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
                state_session_capacity=limits.sessions + _SPARE_SESSIONS,
                max_file_size=limits.upload_bytes,  # the page refuses a larger file before it sends it
                # Gradio handles this many events at once; any more would wait in Gradio and not in the engine's queue.
                max_threads=settings.queue_size + limits.functions + _OTHER_EVENTS,
                # Set here, so that no environment variable opens another way in or keeps data about users.
                enable_monitoring=False,
                run_history=False,
                mcp_server=False,  # Gradio's; the app has its own
                pwa=False,
                ssr_mode=False,
                num_workers=0,
                # Gradio would ask its own page once more, and give up if a busy machine takes longer than 3 s.
                _frontend=False,
            )
    except OSError as error:
        if error.errno in _FULL:
            raise
        raise InvalidRequestError(
            f"Port {settings.port} of {settings.host} is in use; choose another with --port, or 0 for a free one."
        ) from error
    url = url.replace("//[::]:", "//[::1]:")  # all addresses; browsers open one
    if share_url:
        hosts.add(share_url)
    return url, share_url


def _choose_backend() -> None:
    """Tell matplotlib that nothing is shown in windows.

    Gradio asks for its backend before each function of the page, on the event loop. The first time, matplotlib would
    look for one there, and for all fonts of the machine: nobody would be answered for a second or more.
    """
    import matplotlib

    matplotlib.use("agg")


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
    handler.setFormatter(EscapedFormatter("%(message)s"))
    log = logging.getLogger("x2i_app")
    log.setLevel(logging.INFO)
    log.addHandler(handler)
