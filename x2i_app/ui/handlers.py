"""What happens on a click or an API call: a request is filled and queued; `running` shows what becomes of it."""

import inspect
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.utils import get_upload_folder

from x2i_app.errors import X2IError
from x2i_app.request import SETTINGS, GenerationRequest
from x2i_app.serving.engine import Engine
from x2i_app.serving.jobs import Job
from x2i_app.ui.http.admission import mark_submitted
from x2i_app.ui.http.disk_space import check_disk_space
from x2i_app.ui.i18n import texts
from x2i_app.ui.loras import lora_pairs
from x2i_app.ui.progress import Audience, as_gradio_error
from x2i_app.ui.tabs import Tab


def drawing_handler(engine: Engine, tab: Tab, audience: Audience) -> Callable[..., AsyncIterator[tuple]]:
    """The function of a tab's button and endpoint.

    It takes the tab's own values, then one for each of SETTINGS, then the LoRAs. While the job goes on it yields
    running.OUTPUTS.
    """
    names = (*tab.parameters, *SETTINGS, "loras")

    async def draw(request, *values):
        mark_submitted(request)
        given = dict(zip(names, values, strict=True))
        job = _submit(engine, tab, given, request)
        async for moment in audience.watch(job, request):
            yield moment

    # Gradio names an endpoint's parameters after the function's, and finds `request` by its annotation.
    parameter = inspect.Parameter
    draw.__signature__ = inspect.Signature(
        [parameter("request", parameter.POSITIONAL_OR_KEYWORD)]
        + [parameter(name, parameter.POSITIONAL_OR_KEYWORD, default=None) for name in names]
    )
    draw.__annotations__ = {"request": gr.Request}
    draw.__name__ = tab.name
    draw.__doc__ = texts.HINTS[tab.name].en
    return draw


def _submit(engine: Engine, tab: Tab, given: dict[str, Any], request: gr.Request) -> Job:
    try:
        fields = tab.fill(*(given[name] for name in tab.parameters))
        settings = {field: given[name] for name, field in SETTINGS.items() if given[name] is not None}
        asked = GenerationRequest(**fields, **settings, loras=lora_pairs(given["loras"], engine.settings))
        check_disk_space(Path(get_upload_folder()))  # before it is drawn in vain
        if asked.paints:  # it keeps the picture's own size; the page always sends one
            asked = replace(asked, width=None, height=None)
        return engine.submit(asked, request.session_hash or "", preview=True)
    except X2IError as error:
        raise as_gradio_error(error) from error
