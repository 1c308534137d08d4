"""The result: the images and their preview, progress and Stop, what the model understood, and how it was made."""

import html
from typing import Any

import gradio as gr

from x2i_app.serving.eta import Work
from x2i_app.ui.context import BROWSER_ONLY, PRIVATE, Panel
from x2i_app.ui.i18n import DEFAULT, Text, language_of
from x2i_app.ui.progress import OUTPUTS, cancel_handler, resume_handler, status_handler
from x2i_app.ui.queue_panel import QueuePanel

# Parts of a result's report, and the names under which people see them.
_REPORTED = {
    "prompt": "label.prompt",
    "preset": "label.preset",
    "seeds": "label.seed",
    "width": "label.width",
    "height": "label.height",
    "steps": "label.steps",
    "guidance": "label.guidance",
    "control": "label.control",
    "loras": "label.loras",
    "seconds": "report.seconds",
}


class ResultPanel(Panel):
    """The right side of the page. `outputs` are what a job shows, in the order of progress.OUTPUTS.

    shown: says what is shown, as JSON; its change event is that of the result.
    """

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
        self.context.queue = QueuePanel(self.context)
        # Plain text, never Markdown or HTML: an uploaded recording may say anything.
        self.answer = gr.Textbox(
            label=Text("answer"), lines=5, max_lines=40, placeholder=" ", interactive=False, elem_id="answer"
        )
        with gr.Accordion(Text("report"), open=False, elem_id="report-section"):
            self.details = gr.HTML("", label="details", elem_id="details", container=False)
        self.report = gr.JSON(label="report", show_label=False, elem_id="report", elem_classes="not-shown")
        self.job = gr.Textbox(label="job", visible=False)
        self.shown = gr.Textbox(label="shown", show_label=False, elem_classes="not-shown")
        self.outputs = [getattr(self, name) for name in OUTPUTS]

    def connect(self) -> None:
        page = self.context.page

        def show(request: gr.Request, report: dict[str, Any] | None) -> str:
            return show_report(report, language_of(request))

        # A JSON component says that it has changed whenever anything near it has, at each click on an image too.
        text = "(report, job) => JSON.stringify([report, job])"
        self.report.change(None, [self.report, self.job], self.shown, js=text, **BROWSER_ONLY)
        self.shown.change(show, self.report, self.details, **PRIVATE)
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
        both = [last_job, self.context.queue.job]
        self.job.change(None, self.job, both, js="job => [job || ' ', job]", **BROWSER_ONLY)
        kept = [last_job, self.context.queue.kept]
        page.load(resume_handler(self.context.followers), kept, self.outputs, **PRIVATE)
        asked, state = gr.Textbox("", label="job", visible=False), gr.JSON(label="status", visible=False)
        page.load(status_handler(self.engine), asked, state, api_name="status", concurrency_limit=None, queue=False)


def show_report(report: dict[str, Any] | None, language: str = DEFAULT) -> str:
    """How the images were made, as HTML; what was not used is left out."""
    if not isinstance(report, dict):
        return ""
    cells = "".join(
        f"<dt>{html.escape(Text(label).to(language))}</dt><dd>{html.escape(_as_text(report[name], language))}</dd>"
        for name, label in _REPORTED.items()
        if report.get(name)
    )
    return f"<dl>{cells}</dl>"


def _as_text(value: Any, language: str) -> str:
    comma = Text("comma").to(language)
    if isinstance(value, dict) and value.keys() == set(Work._fields):  # seconds of each phase
        return Text("report.phases").to(language, **value)
    if isinstance(value, dict):
        return comma.join(f"{name}: {part}" for name, part in value.items())
    return comma.join(map(str, value)) if isinstance(value, list) else str(value)


def selected_path(images: list | None, index: int = 0) -> str | None:
    """The file of a gallery's selected image; of the first one if none is selected."""
    paths = [path for path, _ in images or []]
    return paths[index] if 0 <= index < len(paths) else next(iter(paths), None)
