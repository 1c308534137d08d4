"""What a tab's Generate button and endpoint do: fill a request, queue it, and follow the job."""

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import anyio
import gradio as gr
from gradio.utils import get_upload_folder

from x2i_app.errors import X2IError
from x2i_app.media.budget import InputBudget, InputLimits
from x2i_app.media.checks import check_files
from x2i_app.request import LATER_SETTINGS, SETTINGS, VIDEO_SETTINGS, GenerationRequest
from x2i_app.serving.engine import Engine
from x2i_app.serving.jobs import Job, JobLimits
from x2i_app.ui.controlnet_panel import controlnet_fields
from x2i_app.ui.http.admission import mark_submitted
from x2i_app.ui.http.clients import Client, client_of
from x2i_app.ui.http.disk_space import check_disk_space
from x2i_app.ui.i18n import Text, language_of
from x2i_app.ui.image_files import read_format
from x2i_app.ui.loras import lora_pairs
from x2i_app.ui.progress import JobFollowers, outputs, show_failure
from x2i_app.ui.tabs import Tab, check_input

_SUBMITTED_AT_ONCE = 64  # requests whose files are opened; those of one client one after the other


def generate_handler(followers: JobFollowers, tab: Tab) -> Callable[..., AsyncIterator[tuple]]:
    """The function of a tab's button and endpoint.

    It takes a value for each of the tab's `endpoint_parameters`. While the job runs it yields values of
    progress.OUTPUTS. Raises X2IError.
    """
    names = tab.endpoint_parameters

    async def generate_tab(request, *values):
        given = dict(zip(names, values, strict=True))
        wanted = partial(_request_of, followers.engine, tab, given)
        async for update in generate(followers, wanted, request, given["format"]):
            yield update

    # Gradio names an endpoint's parameters after the function's, and finds `request` by its annotation.
    parameter = inspect.Parameter
    generate_tab.__signature__ = inspect.Signature(
        [parameter("request", parameter.POSITIONAL_OR_KEYWORD)]
        + [parameter(name, parameter.POSITIONAL_OR_KEYWORD, default=None) for name in names]
    )
    generate_tab.__annotations__ = {"request": gr.Request}
    generate_tab.__name__ = tab.name
    generate_tab.__doc__ = Text(f"hint.{tab.name}").en
    return generate_tab


async def generate(
    followers: JobFollowers, wanted: Callable[[], GenerationRequest], request: gr.Request, format: Any = None
) -> AsyncIterator[tuple]:
    """Queue a job for a page or a program, and yield values of progress.OUTPUTS until it has ended. Raises X2IError."""
    try:
        job = await submit(followers, wanted, request, format)
    except X2IError as error:
        yield outputs(progress=show_failure(error, language_of(request)))
        raise
    async for update in followers.follow(job, request):
        yield update


async def submit(
    followers: JobFollowers, wanted: Callable[[], GenerationRequest], request: gr.Request, format: Any = None
) -> Job:
    """Queue a job for a page or a program. Raises X2IError."""
    client = client_of(request)
    budget = InputBudget(InputLimits(), client.owner, is_job=False)
    function = partial(_submit, followers, wanted, request, format, client, budget)
    try:
        # In a thread: files are opened, and the event loop serves everybody.
        job = await anyio.to_thread.run_sync(function, limiter=_limiter(), abandon_on_cancel=True)
    except asyncio.CancelledError:
        budget.cancel()
        raise
    mark_submitted(request)
    return job


def _submit(
    followers: JobFollowers,
    wanted: Callable[[], GenerationRequest],
    request: gr.Request,
    format: Any,
    client: Client,
    budget: InputBudget,
) -> Job:
    engine, form = followers.engine, read_format(format)
    with budget.spending():
        asked = wanted()
        # Before the job takes the worker: a file that takes long to read keeps only its own sender waiting.
        check_files(asked)
    budget.check()
    check_disk_space(Path(get_upload_folder()))  # before the job, not when its image is written
    limits = JobLimits(engine.settings.most_job_seconds, InputLimits())
    job = engine.submit(asked, request.session_hash or "", True, client.address, limits)
    followers.files.set_format(job, form)
    return job


def _request_of(engine: Engine, tab: Tab, given: dict[str, Any]) -> GenerationRequest:
    if given.get("edit", False) is None:  # by position, as before there was this parameter
        given["edit"] = engine.flux.takes_reference
    fields = tab.fill(*(given[name] for name in tab.parameters))
    check_input(tab, fields)
    if not given["negative_prompt"]:
        given["true_cfg_scale"] = None  # the slider has a value before there is something to avoid
    settings = {field: given[name] for name, field in (SETTINGS | LATER_SETTINGS).items() if given[name] is not None}
    settings |= controlnet_fields(given) | {name: given.get(name) for name in VIDEO_SETTINGS}
    asked = GenerationRequest(**fields, **settings, loras=lora_pairs(given["loras"], engine.settings))
    # An edited or inpainted result has the source's size, whatever the sliders say.
    has_own_size = asked.paints or asked.reference is not None
    return asked.with_values(width=None, height=None) if has_own_size else asked


@cache
def _limiter() -> anyio.CapacityLimiter:
    return anyio.CapacityLimiter(_SUBMITTED_AT_ONCE)
