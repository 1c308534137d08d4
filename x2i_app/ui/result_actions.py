"""What can be done with the shown result: its seed, more like it, use it as input, compare it with its original."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import gradio as gr
from PIL import ImageOps

from x2i_app.media import load_image
from x2i_app.request import GenerationRequest
from x2i_app.serving.engine import Engine
from x2i_app.ui.browser import CLICK_GENERATE, SCROLL_TO_TABS
from x2i_app.ui.context import BROWSER_ONLY, PRIVATE, STATE_SECONDS, Panel
from x2i_app.ui.history import HistoryItem
from x2i_app.ui.i18n import PageError, Text
from x2i_app.ui.result_panel import selected_path
from x2i_app.ui.tab_panel import TabPanel

_MORE = 4
_USED_BY = ("image_text", "image", "fusion")  # tabs that can take a result as input


class ResultActions(Panel):
    """The buttons under the result. They are always there, so that nothing moves when a result arrives.

    selected: index of the shown image among the job's images.
    """

    def build(self) -> None:
        with gr.Row(elem_id="seed-actions"):
            self.keep_seed = gr.Button(Text("seed.keep"), size="sm", min_width=96, elem_id="keep-seed")
            self.new_seed = gr.Button(Text("seed.new"), size="sm", min_width=96, elem_id="new-seed")
            self.more = gr.Button(Text("more"), size="sm", min_width=96, elem_id="more")
        with gr.Row(elem_id="use-as-input"):
            self.uses = {
                name: gr.Button(Text(f"use.{name}"), size="sm", min_width=96, elem_id=f"use-{name}")
                for name in _USED_BY
            }
        with gr.Accordion(Text("original"), open=False, elem_id="compare-original") as self.section:
            gr.Markdown(Text("original.hint"))
            self.slider = gr.ImageSlider(
                label=Text("original"),
                show_label=False,
                type="filepath",
                format="png",
                interactive=False,
                buttons=[],
                height=322,  # of the images and a border
                max_height=320,
            )
        self.selected, self.is_open = (gr.State(value, time_to_live=STATE_SECONDS) for value in (0, False))

    def connect(self) -> None:
        self._connect_seed()
        self._connect_compare()
        for panel in self.context.tabs:
            if panel.tab.name in self.uses:
                self._connect_use(self.uses[panel.tab.name], panel)

    def _connect_seed(self) -> None:
        seed, history = self.context.settings.components["seed"], self.context.history
        keep = "report => report?.seeds ? report.seeds[0] : null"
        self.keep_seed.click(None, self.context.result.report, seed, js=keep, **BROWSER_ONLY)
        self.new_seed.click(None, None, seed, js="() => null", **BROWSER_ONLY)

        def generate_more(items: list[HistoryItem], selected: list[int]):
            request = history.selected_item(items, selected).request
            return self.context.restore.values(replace(request, seed=None, num_images_per_prompt=_MORE))

        # The same input with new seeds: the engine remembers the encoding, so the MLLM does not run again.
        self.more.click(
            generate_more, [history.items, history.selected], self.context.restore.outputs, **PRIVATE
        ).success(None, None, None, js=CLICK_GENERATE, **BROWSER_ONLY)

    def _connect_compare(self) -> None:
        result, history = self.context.result, self.context.history

        async def compare(is_open: bool, index: int, images: list | None, job: str, items: list[HistoryItem]):
            if not is_open:
                return gr.skip()  # reads and sends nothing while the section is closed
            request, path = _request_of(self.engine, job, items), selected_path(images, index)
            original = original_image(request) if request else None
            if original is None or path is None:
                return None
            return await asyncio.to_thread(_pair, original, path)

        given = [self.is_open, self.selected, result.images, result.job, history.items]
        for event, is_open in ((self.section.expand, True), (self.section.collapse, False)):
            event(lambda is_open=is_open: is_open, None, self.is_open, **PRIVATE).success(
                compare, given, self.slider, **PRIVATE
            )

        def select_result(event: gr.SelectData):
            return event.index if type(event.index) is int else 0

        result.images.select(select_result, None, self.selected, **PRIVATE).success(
            compare, given, self.slider, **PRIVATE
        )
        # A new result, or an image of the history that is shown again.
        result.report.change(lambda: 0, None, self.selected, **PRIVATE).success(compare, given, self.slider, **PRIVATE)

    def _connect_use(self, button: gr.Button, panel: TabPanel) -> None:
        target = panel.inputs[0]

        def use(index: int, images: list | None, given: Any):
            path = selected_path(images, index)
            if path is None:
                raise PageError("error.no_result")
            return gr.Tabs(selected=panel.tab.name), with_image(panel.tab.parameters[0], given, path)

        given = [self.selected, self.context.result.images, target]
        used = button.click(use, given, [self.context.tab_group, target], **PRIVATE)
        used.success(None, None, None, js=SCROLL_TO_TABS, **BROWSER_ONLY)
        panel.preview.refresh_on(used.success)


def with_image(parameter: str, given: Any, path: str) -> Any:
    """The value of a tab's input with this image added to what is `given`, or in its place."""
    if parameter == "images":
        return [*(given or []), (path, None)]
    if parameter == "message":
        message = given or {}
        return {"text": message.get("text") or "", "files": [*(message.get("files") or []), path]}
    return path


def original_image(request: GenerationRequest) -> Any:
    """The image that a result is compared with: the source, or else the first input image; None without one."""
    if request.source is not None:
        return request.source
    return next((image for turn in (request, *reversed(request.history)) for image in turn.images), None)


def _pair(original: Any, path: str) -> tuple[Any, str]:
    """Both at the same size. `media` reads the original, since browsers show no TIFF and ignore EXIF sizes."""
    return ImageOps.contain(load_image(original), load_image(path).size), path


def _request_of(engine: Engine, job_id: str, items: Sequence[HistoryItem]) -> GenerationRequest | None:
    job = engine.get(job_id) if isinstance(job_id, str) else None
    return job.request if job else next((item.request for item in items if item.job == job_id), None)
