"""The images of this session below the page: shown again, compared, used again, downloaded."""

from typing import Any

import gradio as gr

from x2i_app.ui.context import BROWSER_ONLY, PRIVATE, STATE_SECONDS, Panel
from x2i_app.ui.history import HistoryItem, add_job, existing, zip_images
from x2i_app.ui.i18n import PageError, Text, language_of


class HistoryPanel(Panel):
    """A row of thumbnails. items: HistoryItems, newest first; selected: indices of the last two that were clicked."""

    def build(self) -> None:
        with gr.Accordion(Text("history"), open=True, elem_id="history"):
            self.hint = gr.Markdown(Text("history.hint"))
            with gr.Column(visible=False) as self.content:
                self.gallery = gr.Gallery(
                    label=Text("history"),
                    show_label=False,
                    format="png",
                    type="filepath",
                    interactive=False,
                    allow_preview=False,
                    height=136,
                    object_fit="contain",
                    buttons=[],
                    elem_id="history-images",
                )
                with gr.Row():
                    self.reuse = gr.Button(Text("history.reuse"), size="sm", min_width=96, elem_id="reuse")
                    self.download = gr.Button(Text("history.download"), size="sm", min_width=96, elem_id="download-all")
                with gr.Accordion(Text("history.compare"), open=False, elem_id="compare-history"):
                    self.compare = gr.ImageSlider(
                        label=Text("history.compare"),
                        show_label=False,
                        type="filepath",
                        format="png",
                        interactive=False,
                        buttons=[],
                        height=386,
                        max_height=384,
                    )
                self.file = gr.DownloadButton(
                    Text("history.download"), elem_id="download-file", elem_classes="not-shown"
                )
        self.items, self.selected = (gr.State([], time_to_live=STATE_SECONDS) for _ in range(2))

    def connect(self) -> None:
        result = self.context.result
        self.context.result.report.change(
            self.add_result,
            [self.items, result.job],
            [self.items, self.selected, self.gallery, self.content, self.hint],
            **PRIVATE,
        )
        shown = [self.selected, result.images, result.report, self.compare, result.job, result.progress]

        def select_item(request: gr.Request, items: list[HistoryItem], selected: list[int], event: gr.SelectData):
            items, index = existing(items), event.index
            if type(index) is not int or not 0 <= index < len(items):
                return [gr.skip() for _ in shown]
            selected = [*(other for other in selected if other != index), index][-2:]
            item, pair = items[index], tuple(items[each].path for each in selected if each < len(items))
            return (
                selected,
                [item.path],
                _report(item),
                pair if len(pair) == 2 else gr.skip(),
                item.job,
                _caption(item, language_of(request)),
            )

        self.gallery.select(select_item, [self.items, self.selected], shown, **PRIVATE)

        def reuse(items: list[HistoryItem], selected: list[int]):
            return self.context.restore.values(self.selected_item(items, selected).request)

        self.reuse.click(reuse, [self.items, self.selected], self.context.restore.outputs, **PRIVATE)

        def download_all(items: list[HistoryItem]):
            if not existing(items):
                raise PageError("error.no_result")
            return zip_images(existing(items))

        self.download.click(download_all, self.items, self.file, **PRIVATE).success(
            None, None, None, js="() => document.querySelector('#download-file').click()", **BROWSER_ONLY
        )

    def add_result(self, items: list[HistoryItem], job: str):
        """Add the images of a finished job."""
        finished = self.engine.get(job) if isinstance(job, str) else None
        added = existing(add_job(items, finished, self.context.followers.files, self.engine.settings.preset))
        selected = gr.skip() if len(added) == len(items) else []  # the indices of the others have changed
        gallery = [(item.path, item.caption) for item in added]
        return added, selected, gallery, gr.Column(visible=bool(added)), gr.Markdown(visible=not added)

    @staticmethod
    def selected_item(items: list[HistoryItem], selected: list[int]) -> HistoryItem:
        """The item that was selected last, or else the newest. Raises PageError if there is none."""
        items = existing(items)
        if not items:
            raise PageError("error.no_result")
        return items[selected[-1] if selected and selected[-1] < len(items) else 0]


def _caption(item: HistoryItem, language: str) -> str:
    made = item.request
    text = Text("progress.shown").to(
        language, seed=made.seed, width=made.width, height=made.height, steps=made.num_inference_steps
    )
    return f"<p>{text}</p>"


def _report(item: HistoryItem) -> dict[str, Any]:
    request = item.request
    return {
        "seeds": [request.seed],
        "width": request.width,
        "height": request.height,
        "steps": request.num_inference_steps,
        "guidance": request.guidance_scale,
        "control": request.control_strength,
        "loras": request.lora_weights,
        "prompt": request.prompt,
        "preset": item.preset,
    }
