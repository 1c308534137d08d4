"""On from the picture that is shown: it is held against what it was made from, or a tab begins with it."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr
from PIL import ImageOps

from x2i_app.errors import X2IError
from x2i_app.media import load_image
from x2i_app.request import GenerationRequest
from x2i_app.serving.engine import Engine
from x2i_app.ui.browser import SHOW_TABS
from x2i_app.ui.conversation import image_at
from x2i_app.ui.handlers import as_gradio_error
from x2i_app.ui.history import Kept
from x2i_app.ui.i18n import texts
from x2i_app.ui.tabs import Tab

_QUIET: dict[str, Any] = {"api_visibility": "private", "concurrency_limit": None, "show_progress": "hidden"}
_SESSION_SECONDS = 86_400


@dataclass
class Onward:
    """uses: for each tab's name, the button that gives it the picture. place: which of the pictures is looked at."""

    uses: dict[str, gr.Button]
    place: gr.State
    fold: gr.Accordion
    is_open: gr.State
    slider: gr.ImageSlider


def build_onward() -> Onward:
    """The buttons and the fold under the picture, always there, so that nothing moves when one arrives."""
    with gr.Row(elem_id="onward"):
        uses = {
            name: gr.Button(words, size="sm", min_width=96, elem_id=f"use-{name}") for name, words in texts.USE.items()
        }
    with gr.Accordion(texts.BEFORE_AFTER, open=False, elem_id="before-after") as fold:
        gr.Markdown(texts.BEFORE_AFTER_HINT)
        slider = gr.ImageSlider(
            label=texts.BEFORE_AFTER,
            show_label=False,
            type="filepath",
            format="png",
            interactive=False,
            buttons=[],
            height=322,  # of the pictures and a border
            max_height=320,
        )
    place, is_open = (gr.State(value, time_to_live=_SESSION_SECONDS) for value in (0, False))
    return Onward(uses, place, fold, is_open, slider)


def connect_onward(
    engine: Engine,
    onward: Onward,
    result: Any,
    kept: gr.State,
    tabs: gr.Tabs,
    drawn: Sequence[tuple],
    looks: Sequence[Callable],
) -> None:
    """Let pictures go on.

    result: the right side of the page; kept: this visit's pictures; drawn: each tab with its button and inputs; looks:
        for each tab, what makes it look again at what it was given after an event.
    """
    shown = [result.images, result.job, kept]

    async def compare(is_open: bool, place: int, images: list | None, job: str, kept: list[Kept]):
        if not is_open:
            return gr.skip()  # nothing is read or sent for who does not look
        request, after = _request_of(engine, job, kept), image_at(images, place)
        before = first_image(request) if request else None
        if before is None or after is None:
            return None
        try:
            return await asyncio.to_thread(_pair, before, after)
        except X2IError as error:
            raise as_gradio_error(error) from error

    state = [onward.is_open, onward.place, *shown]
    for event, is_open in ((onward.fold.expand, True), (onward.fold.collapse, False)):
        event(lambda is_open=is_open: is_open, None, onward.is_open, **_QUIET).success(
            compare, state, onward.slider, **_QUIET
        )

    def select(event: gr.SelectData):
        return event.index if type(event.index) is int else 0

    result.images.select(select, None, onward.place, **_QUIET).success(compare, state, onward.slider, **_QUIET)
    # New pictures, or one of this visit that is looked at again.
    result.report.change(lambda: 0, None, onward.place, **_QUIET).success(compare, state, onward.slider, **_QUIET)

    for (tab, _, inputs), look_after in zip(drawn, looks, strict=True):
        if tab.name in onward.uses:
            look_after(_connect_use(onward, onward.uses[tab.name], tab, inputs, result, tabs))


def _connect_use(onward: Onward, button: gr.Button, tab: Tab, inputs: list, result: Any, tabs: gr.Tabs) -> Any:
    target = inputs[0]

    def use(place: int, images: list | None, given: Any):
        image = image_at(images, place)
        if image is None:
            raise gr.Error(texts.NOTHING_YET, duration=10, title=texts.FAILED.en, print_exception=False)
        return gr.Tabs(selected=tab.name), with_image(tab.parameters[0], given, image)

    used = button.click(use, [onward.place, result.images, target], [tabs, target], **_QUIET)
    used.success(None, None, None, js=SHOW_TABS, api_visibility="private")
    return used


def with_image(parameter: str, given: Any, image: str) -> Any:
    """The value of a tab's input once it has this picture: in the place of another, or beside those `given`."""
    if parameter == "images":
        return [*(given or []), (image, None)]
    if parameter == "message":
        message = given or {}
        return {"text": message.get("text") or "", "files": [*(message.get("files") or []), image]}
    return image


def first_image(request: GenerationRequest) -> Any:
    """What a picture is held against: what was kept to or painted on, or the first that was shown; None without one."""
    if request.source is not None:
        return request.source
    return next((image for turn in (request, *reversed(request.history)) for image in turn.images), None)


def _pair(before: Any, after: str) -> tuple[Any, str]:
    """Both as large, so that they lie on each other; read by `media`, as no browser shows a TIFF or heeds its size."""
    image = load_image(after)
    return ImageOps.contain(load_image(before), image.size), after


def _request_of(engine: Engine, job: str, kept: list[Kept]) -> GenerationRequest | None:
    known = engine.get(job) if isinstance(job, str) else None
    if known:
        return known.request
    return next((image.request for image in kept if image.job == job), None)
