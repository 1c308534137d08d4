"""What a tab's Generate button and endpoint do: fill a request, queue it, and follow the job."""

import inspect
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.utils import get_upload_folder

from x2i_app.request import SETTINGS, GenerationRequest
from x2i_app.serving.engine import Engine
from x2i_app.serving.jobs import Job
from x2i_app.ui.http.admission import mark_submitted
from x2i_app.ui.http.disk_space import check_disk_space
from x2i_app.ui.i18n import Text
from x2i_app.ui.loras import lora_pairs
from x2i_app.ui.progress import JobFollowers
from x2i_app.ui.tabs import Tab, check_input


def generate_handler(followers: JobFollowers, tab: Tab) -> Callable[..., AsyncIterator[tuple]]:
    """The function of a tab's button and endpoint.

    It takes the tab's own values, then one for each of SETTINGS, then the LoRAs. While the job runs it yields values of
    progress.OUTPUTS. Raises X2IError.
    """
    names = (*tab.parameters, *SETTINGS, "loras")

    async def generate(request, *values):
        mark_submitted(request)
        job = _submit(followers.engine, tab, dict(zip(names, values, strict=True)), request)
        async for update in followers.follow(job, request):
            yield update

    # Gradio names an endpoint's parameters after the function's, and finds `request` by its annotation.
    parameter = inspect.Parameter
    generate.__signature__ = inspect.Signature(
        [parameter("request", parameter.POSITIONAL_OR_KEYWORD)]
        + [parameter(name, parameter.POSITIONAL_OR_KEYWORD, default=None) for name in names]
    )
    generate.__annotations__ = {"request": gr.Request}
    generate.__name__ = tab.name
    generate.__doc__ = Text(f"hint.{tab.name}").en
    return generate


def _submit(engine: Engine, tab: Tab, given: dict[str, Any], request: gr.Request) -> Job:
    fields = tab.fill(*(given[name] for name in tab.parameters))
    check_input(tab, fields)
    settings = {field: given[name] for name, field in SETTINGS.items() if given[name] is not None}
    asked = GenerationRequest(**fields, **settings, loras=lora_pairs(given["loras"], engine.settings))
    check_disk_space(Path(get_upload_folder()))  # before the job, not when its image is written
    if asked.paints:  # the result has the source's size, whatever the sliders say
        asked = asked.with_values(width=None, height=None)
    return engine.submit(asked, request.session_hash or "", preview=True)
