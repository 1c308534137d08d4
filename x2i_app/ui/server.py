"""Serving the page: up first, the model after."""

from x2i_app.engine import Engine
from x2i_app.errors import InvalidRequestError
from x2i_app.media import CAPS
from x2i_app.settings import Settings
from x2i_app.ui import texts
from x2i_app.ui.layout import build_page
from x2i_app.ui.theme import CSS, build_theme


def serve(settings: Settings) -> None:
    """Put the page up, then let the engine load behind it, then block until interrupted.

    Raises InvalidRequestError if the port is taken.
    """
    engine = Engine(settings)
    page = build_page(engine)
    page.queue(default_concurrency_limit=None)
    try:
        _, url, share_url = page.launch(
            server_name=settings.host,
            server_port=settings.port or None,
            share=settings.share,
            theme=build_theme(),
            css=CSS,
            max_file_size=CAPS.file_bytes,
            enable_monitoring=False,
            show_error=False,
            footer_links=["api"],
            prevent_thread_lock=True,
            quiet=True,
        )
    except OSError as error:
        raise InvalidRequestError(
            f"Port {settings.port} of {settings.host} cannot be had; choose another with --port, or 0 for any free one."
        ) from error
    print(f"{texts.TITLE}: {share_url or url}", flush=True)
    engine.start()
    try:
        page.block_thread()
    finally:
        engine.close()
