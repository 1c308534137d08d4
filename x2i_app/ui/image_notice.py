"""What the page does with an image file that was added: it shows one that browsers cannot, and offers its settings."""

import html
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr

from x2i_app.errors import X2IError
from x2i_app.media import modality_of, read_recipe, sniff
from x2i_app.media.images import load_thumbnail
from x2i_app.ui.context import PRIVATE, PageContext, Panel
from x2i_app.ui.history import HistoryItem
from x2i_app.ui.i18n import Text, language_of
from x2i_app.ui.loras import LoraChoices
from x2i_app.ui.progress import as_data_url

if TYPE_CHECKING:
    from x2i_app.ui.tab_panel import TabPanel

_UNSHOWN = ("HEIC", "TIFF")  # kinds that only some browsers show
_SIDE = 1024  # pixels of a preview; a mask is painted on it too
_CACHED = 32  # previews of about 150 KB, and prompts
_AT_ONCE = 2  # inputs that are read beside the running job
_MOST_LETTERS = 80  # of a prompt


class ImageNotice(Panel):
    """Under the input of a tab that takes images. The model gets the file as it is."""

    def __init__(self, context: PageContext, panel: "TabPanel"):
        self.panel = panel
        super().__init__(context)

    @property
    def _is_built(self) -> bool:
        return "image" in self.panel.tab.modalities or self.panel.tab.name == "fusion"

    def build(self) -> None:
        if not self._is_built:
            return
        name = self.panel.tab.name
        self.previews = gr.HTML("", label="previews", elem_id=f"previews-{name}", elem_classes="not-shown")
        with gr.Row(visible=False, elem_id=f"found-settings-{name}", elem_classes="found-settings") as self.offer:
            self.found = gr.HTML("", label="found settings", container=False, scale=3)
            self.use = gr.Button(Text("restore.use"), size="sm", min_width=120, scale=0, elem_id=f"use-settings-{name}")

    def connect(self) -> None:
        if not self._is_built:
            return
        context, given = self.context, self.panel.inputs[0]
        restore, offered = context.restore, [self.offer, self.found]
        options = PRIVATE | {"concurrency_id": "input-preview", "concurrency_limit": _AT_ONCE}
        given.change(self.show, given, [self.previews, self.offer], trigger_mode="always_last", **options)
        added = given.upload if hasattr(given, "upload") else given.input  # of a multimodal textbox
        added(self.find_settings, given, offered, trigger_mode="always_last", **options)

        def use_settings(
            request: gr.Request, value: Any, choices: LoraChoices | None, items: list[HistoryItem], *inputs: Any
        ):
            path, _ = _with_settings(value)
            return [*restore.restore_file(request, path, choices, items, *inputs), gr.Row(visible=False)]

        inputs = [given, context.loras.value, context.history.items, *context.tab_inputs]
        self.use.click(use_settings, inputs, [restore.recipe, restore.note, *restore.outputs, self.offer], **PRIVATE)

    @staticmethod
    def show(value: Any) -> tuple[str, Any]:
        """Previews of the files that a browser may not show, as HTML; and no offer once there is no image."""
        files = image_files(value)
        return "".join(map(preview_html, files)), gr.skip() if files else gr.Row(visible=False)

    @staticmethod
    def find_settings(request: gr.Request, value: Any) -> tuple[gr.Row, str]:
        """Offer the settings in an image file that was just added."""
        path, prompt = _with_settings(value)
        if path is None:
            return gr.Row(visible=False), ""
        short = prompt if len(prompt) <= _MOST_LETTERS else f"{prompt[:_MOST_LETTERS]}…"
        text = Text("restore.found" if short else "restore.found_no_prompt").to(language_of(request), prompt=short)
        return gr.Row(visible=True), f'<p role="status">{html.escape(text)}</p>'


def image_files(value: Any) -> list[str]:
    """The image files in the value of an image input, a gallery or a multimodal textbox."""
    if isinstance(value, dict):
        files = [path for path in value.get("files") or [] if isinstance(path, str)]
        return [path for path in files if _is_image(path)]
    if isinstance(value, list):
        return [item[0] for item in value if isinstance(item, list | tuple) and item and isinstance(item[0], str)]
    return [value] if isinstance(value, str) else []


def preview_html(path: str) -> str:
    """A hidden image, which the browser shows in place of the file (browser.py); empty if it can show the file."""
    try:
        if sniff(path, "image").name not in _UNSHOWN:
            return ""
        return f'<img data-preview-of="{html.escape(path)}" src="{_preview(path)}" alt="">'
    except X2IError:
        return ""  # the job itself will say so


@lru_cache(_CACHED)
def _preview(path: str) -> str:
    return as_data_url(load_thumbnail(path, _SIDE))


def _with_settings(value: Any) -> tuple[str | None, str]:
    """The last added image file that has settings, and their prompt."""
    found = ((path, _prompt_in(path)) for path in reversed(image_files(value)))
    return next(((path, prompt) for path, prompt in found if prompt is not None), (None, ""))


@lru_cache(_CACHED)
def _prompt_in(path: str) -> str | None:
    """The prompt in an image file's settings; None if it has none."""
    try:
        return read_recipe(path).request.prompt
    except X2IError:
        return None


def _is_image(path: str) -> bool:
    try:
        return Path(path).is_file() and modality_of(path) == "image"
    except X2IError:
        return False
