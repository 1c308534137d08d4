"""What can be done with the shown result: its seed, more like it, use it as input, compare it with its original."""

from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

import anyio
import gradio as gr
from PIL import ImageOps

from x2i_app.errors import X2IError
from x2i_app.media import load_image, save_image
from x2i_app.media.images import image_size
from x2i_app.request import GenerationRequest
from x2i_app.serving.engine import Engine
from x2i_app.settings import FORMATS
from x2i_app.ui.browser import (
    ACTUAL_SIZE,
    COPY_IMAGE,
    COPY_PROMPT,
    SCROLL_TO_TABS,
    SEED_OF_SHOWN_IMAGE,
    send_shown_image,
)
from x2i_app.ui.context import BROWSER_ONLY, PRIVATE, STATE_SECONDS, Panel
from x2i_app.ui.enlarge import enlarge, redraw_item
from x2i_app.ui.handlers import generate
from x2i_app.ui.history import HistoryItem, existing, with_room
from x2i_app.ui.history_panel import shown_item
from x2i_app.ui.http.clients import client_of
from x2i_app.ui.http.uploads import count_stored
from x2i_app.ui.i18n import PageError, Text, language_of
from x2i_app.ui.image_files import read_format
from x2i_app.ui.progress import outputs, show_failure
from x2i_app.ui.result_panel import selected_path
from x2i_app.ui.tab_panel import TabPanel

_MORE = 4
_SCALES = (2, 4)
_SAVED_AS = ("png", "jpg", "webp")
_USED_BY = ("image_text", "image", "fusion")  # tabs that can take a result as input


class ResultActions(Panel):
    """The buttons under the result. Their space is always there, so that nothing moves when a result arrives."""

    def build(self) -> None:
        with gr.Row(elem_id="seed-actions", elem_classes="needs-result"):
            self.keep_seed = gr.Button(Text("seed.keep"), size="sm", min_width=96, elem_id="keep-seed")
            self.new_seed = gr.Button(Text("seed.new"), size="sm", min_width=96, interactive=False, elem_id="new-seed")
            self.more = gr.Button(Text("more"), size="sm", min_width=96, elem_id="more")
        with gr.Row(elem_id="take-away", elem_classes="needs-result"):
            self.download = gr.Button(Text("result.download"), size="sm", min_width=96, elem_id="download")
            self.form = gr.Dropdown(
                [(form.upper().replace("JPG", "JPEG"), form) for form in FORMATS if form in _SAVED_AS],
                value=form if (form := self.engine.settings.image_format) in _SAVED_AS else _SAVED_AS[0],
                label=Text("result.form"),
                show_label=False,
                container=False,
                min_width=88,
                elem_id="download-form",
            )
            self.file = gr.DownloadButton(
                Text("result.download"), elem_id="download-image-file", elem_classes="not-shown"
            )
            self.actual_size = gr.Button(Text("result.actual_size"), size="sm", min_width=96, elem_id="actual-size")
            self.copy_image = gr.Button(
                Text("result.copy_image"), size="sm", min_width=96, elem_id="copy-image", elem_classes="needs-clipboard"
            )
            self.copy_prompt = gr.Button(
                Text("result.copy_prompt"),
                size="sm",
                min_width=96,
                elem_id="copy-prompt",
                elem_classes="needs-clipboard",
            )
        with gr.Row(elem_id="use-as-input", elem_classes="needs-result"):
            self.uses = {
                name: gr.Button(Text(f"use.{name}"), size="sm", min_width=96, elem_id=f"use-{name}")
                for name in _USED_BY
            }
        with gr.Row(elem_id="enlarge", elem_classes="needs-result"):
            self.scales = {
                scale: gr.Button(Text(f"enlarge.{scale}"), size="sm", min_width=96, elem_id=f"enlarge-{scale}")
                for scale in _SCALES
            }
            self.redraw = gr.Checkbox(
                False, label=Text("enlarge.redraw"), container=False, min_width=96, elem_id="enlarge-redraw"
            )
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
        self.is_open = gr.State(False, time_to_live=STATE_SECONDS)

    def connect(self) -> None:
        self._connect_seed()
        self._connect_more()
        self._connect_download()
        self.actual_size.click(None, None, None, js=ACTUAL_SIZE, **BROWSER_ONLY)
        self.copy_image.click(None, None, None, js=COPY_IMAGE, **BROWSER_ONLY)
        self.copy_prompt.click(None, self.context.result.report, None, js=COPY_PROMPT, **BROWSER_ONLY)
        self._connect_compare()
        for scale, button in self.scales.items():
            self._connect_enlarge(button, scale)
        for panel in self.context.tabs:
            if panel.tab.name in self.uses:
                self._connect_use(self.uses[panel.tab.name], panel)

    def _connect_seed(self) -> None:
        seed, report = self.context.settings.components["seed"], self.context.result.report
        self.keep_seed.click(None, report, seed, js=SEED_OF_SHOWN_IMAGE, **BROWSER_ONLY)
        self.new_seed.click(None, None, seed, js="() => null", **BROWSER_ONLY)
        seed.change(show_seed, seed, self.new_seed, **PRIVATE)

    def _connect_download(self) -> None:
        result, items = self.context.result, self.context.history.items

        def save_as(images: list | None, form: str, items: list[HistoryItem]):
            path = selected_path(images)
            if path is None:
                raise PageError("error.no_result")
            return converted(path, read_format(form) or _SAVED_AS[0], items)

        self.download.click(
            save_as, [result.images, self.form, items], self.file, js=send_shown_image(0), **PRIVATE
        ).success(None, None, None, js="() => document.querySelector('#download-image-file').click()", **BROWSER_ONLY)

    def _connect_more(self) -> None:
        history, result = self.context.history, self.context.result

        async def generate_more(request: gr.Request, items: list[HistoryItem], selected: list[int]):
            wanted = replace(history.selected_item(items, selected).request, seed=None, num_images_per_prompt=_MORE)
            # The same input with new seeds: the engine remembers the encoding, so the MLLM does not run again.
            async for update in generate(self.context.followers, lambda: wanted, request):
                yield update

        self.more.click(
            generate_more,
            [history.items, history.selected],
            result.outputs,
            api_name="more",
            trigger_mode="multiple",
            **PRIVATE,
        )

    def _connect_enlarge(self, button: gr.Button, scale: int) -> None:
        result, history = self.context.result, self.context.history

        async def enlarge_shown(
            request: gr.Request,
            images: list | None,
            items: list[HistoryItem],
            search: Any,
            favorites: Any,
            key: Any,
            is_redrawn: Any = False,
        ):
            language, nothing = language_of(request), [gr.skip() for _ in history.shown]
            path = selected_path(images)
            item = next((item for item in existing(items) if item.path == path), None)
            if item is None:
                raise PageError("error.no_result")
            client = client_of(request)

            def tell(name: str, **values: int) -> tuple:
                sentence = Text(f"enlarge.{name}").to(language, **values)
                return *nothing, *outputs(progress=f'<p role="status">{sentence}</p>')

            yield tell("running")
            try:
                large = await anyio.to_thread.run_sync(enlarge, self.engine, item, scale, limiter=_enlarging())
                if is_redrawn is True:
                    async with aclosing(redraw_item(self.engine, large, item, client)) as updates:
                        async for update in updates:
                            if isinstance(update, HistoryItem):
                                large = update
                            else:
                                yield tell("part", number=update[0], count=update[1])
            except X2IError as error:
                yield *nothing, *outputs(progress=show_failure(error, language))
                raise

            def add() -> tuple:
                count_stored(request, [large.path])
                history.store.add(key, [large], client.owner)
                return *history.values(with_room([large, *items]), search, favorites), *shown_item(large, language)

            yield await anyio.to_thread.run_sync(add)  # it copies the image, and another one of the browser's may wait

        given = [result.images, history.items, *history.filters, history.key, self.redraw]
        button.click(enlarge_shown, given, [*history.shown, *result.outputs], js=send_shown_image(0), **PRIVATE)

    def _connect_compare(self) -> None:
        result, history = self.context.result, self.context.history

        async def compare(is_open: bool, images: list | None, job: str, items: list[HistoryItem], index: int = 0):
            if not is_open:
                return gr.skip()  # reads and sends nothing while the section is closed
            request, path = _request_of(self.engine, job, items), selected_path(images, index)
            original = original_image(request) if request else None
            if original is None or path is None:
                return None
            return await anyio.to_thread.run_sync(_pair, original, path, limiter=self.context.page.limiter)

        async def compare_selected(
            is_open: bool, images: list | None, job: str, items: list[HistoryItem], event: gr.SelectData
        ):
            return await compare(is_open, images, job, items, event.index if type(event.index) is int else 0)

        given = [self.is_open, result.images, result.job, history.items]
        shown = {"js": send_shown_image(given.index(result.images))} | PRIVATE
        for event, is_open in ((self.section.expand, True), (self.section.collapse, False)):
            event(lambda is_open=is_open: is_open, None, self.is_open, **PRIVATE).success(
                compare, given, self.slider, **shown
            )
        # With the event's own index: the browser marks the image as shown a moment later.
        result.images.select(compare_selected, given, self.slider, **PRIVATE)
        # A new result, or an image of the history that is shown again.
        result.shown.change(compare, given, self.slider, **shown)

    def _connect_use(self, button: gr.Button, panel: TabPanel) -> None:
        target = panel.inputs[0]

        def use(images: list | None, given: Any):
            path = selected_path(images)
            if path is None:
                raise PageError("error.no_result")
            return gr.Tabs(selected=panel.tab.name), with_image(panel.tab.parameters[0], given, path)

        given = [self.context.result.images, target]
        used = button.click(use, given, [self.context.tab_group, target], js=send_shown_image(0), **PRIVATE)
        used.success(None, None, None, js=SCROLL_TO_TABS, **BROWSER_ONLY)
        panel.preview.refresh_on(used.success)


@cache
def _enlarging() -> anyio.CapacityLimiter:
    return anyio.CapacityLimiter(1)  # an enlarged image takes up to 75 MB while it is made


def converted(path: str, form: str, items: Sequence[HistoryItem]) -> str:
    """Path of an image file in another format, with its settings if it has them; itself if it has that format."""
    source = Path(path)
    if source.suffix[1:] == form:
        return path
    texts = next((item.texts for item in items if item.path == path), {})
    target = source.with_suffix(f".{form}")
    if not target.is_file():
        with NamedTemporaryFile(dir=source.parent, delete=False) as unfinished:
            save_image(load_image(path), unfinished, texts, form)
        Path(unfinished.name).replace(target)
    return str(target)


def show_seed(request: gr.Request, seed: int | None) -> gr.Button:
    """The button that makes the seed random again says which seed is kept."""
    language = language_of(request)
    text = Text("seed.new").to(language) if seed is None else Text("seed.kept").to(language, seed=seed)
    return gr.Button(text, interactive=seed is not None)


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
    return ImageOps.contain(load_image(original), image_size(path)), path


def _request_of(engine: Engine, job_id: str, items: Sequence[HistoryItem]) -> GenerationRequest | None:
    job = engine.get(job_id) if isinstance(job_id, str) else None
    return job.request if job else next((item.request for item in items if item.job == job_id), None)
