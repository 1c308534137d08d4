"""The result: the images and their preview, progress and Stop, what the model understood, and how it was made."""

import gradio as gr

from x2i_app.ui.context import BROWSER_ONLY, PRIVATE, Panel
from x2i_app.ui.i18n import Text
from x2i_app.ui.progress import OUTPUTS, cancel_handler, resume_handler, status_handler


class ResultPanel(Panel):
    """The right side of the page. `outputs` are what a job shows, in the order of progress.OUTPUTS."""

    def build(self) -> None:
        with gr.Column(elem_id="result-view"):
            self.images = gr.Gallery(
                label=Text("result.images"),
                show_label=False,
                format="png",
                type="filepath",
                interactive=False,
                object_fit="contain",
                columns=2,
                height="28rem",
                buttons=["download", "fullscreen"],
                elem_id="result-images",
            )
            self.preview = gr.HTML(
                "",
                label="preview",
                html_template='{{#if value}}<img src="{{value}}" alt="">{{/if}}',  # the progress says what it is
                container=False,
                elem_id="preview",
            )
            gr.Markdown(Text("result.empty"), elem_id="empty-hint")
        with gr.Row(elem_id="job"):
            self.progress = gr.HTML("", label="progress", elem_id="progress", container=False, scale=5)
            self.stop = gr.Button(Text("stop"), variant="stop", size="md", min_width=88, scale=0, elem_id="stop")
        # Plain text, never Markdown or HTML: an uploaded recording may say anything.
        self.answer = gr.Textbox(
            label=Text("answer"), lines=3, max_lines=3, placeholder=" ", interactive=False, elem_id="answer"
        )
        with gr.Accordion(Text("report"), open=False, elem_id="report-section"):
            self.report = gr.JSON(label="report", show_label=False, elem_id="report")
        self.job = gr.Textbox(label="job", visible=False)
        self.outputs = [getattr(self, name) for name in OUTPUTS]

    def connect(self) -> None:
        page = self.context.page
        # The answer of `cancel` is not shown as progress: it might arrive later than the job's last update.
        answer = gr.Textbox(label="cancel", visible=False)
        self.stop.click(
            cancel_handler(self.engine),
            self.job,
            answer,
            api_name="cancel",
            concurrency_limit=None,
            queue=False,
            show_progress="hidden",
        )
        # The browser keeps the id of its last job, and asks for that job when the page is opened again.
        last_job = gr.BrowserState("", storage_key="x2i-job", secret="x2i")
        self.job.change(None, self.job, last_job, js="job => job", **BROWSER_ONLY)
        page.load(resume_handler(self.context.followers), last_job, self.outputs, **PRIVATE)
        asked, state = gr.Textbox("", label="job", visible=False), gr.JSON(label="status", visible=False)
        page.load(status_handler(self.engine), asked, state, api_name="status", concurrency_limit=None, queue=False)


def selected_path(images: list | None, index: int) -> str | None:
    """The file of a gallery's selected image; of the first one if none is selected."""
    paths = [path for path, _ in images or []]
    return paths[index] if 0 <= index < len(paths) else next(iter(paths), None)
