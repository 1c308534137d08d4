"""The conversation of the tab Image + Text: the earlier prompts and results, which the next prompt refers to."""

import filecmp
import html
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr

from x2i_app.errors import X2IError
from x2i_app.notes import readable_answer
from x2i_app.request import Turn
from x2i_app.ui.browser import send_shown_image
from x2i_app.ui.context import PRIVATE, PageContext, Panel
from x2i_app.ui.history import HistoryItem, existing
from x2i_app.ui.history_panel import shown_item
from x2i_app.ui.i18n import Text, language_of
from x2i_app.ui.progress import outputs
from x2i_app.ui.result_panel import selected_path
from x2i_app.ui.thumbnails import thumbnail
from x2i_app.ui.turns import as_json, extend, read_json

if TYPE_CHECKING:
    from x2i_app.ui.tab_panel import TabPanel


class Conversation(Panel):
    """Whether to keep editing the result, the turns so far, and the buttons that undo a turn or start over."""

    def __init__(self, context: PageContext, panel: "TabPanel"):
        self.panel = panel
        super().__init__(context)

    def build(self) -> None:
        with gr.Row(elem_id="conversation-actions"):
            self.is_on = gr.Checkbox(
                False,
                label=Text("conversation.continue"),
                container=False,
                scale=3,
                min_width=220,
                elem_id="keep-editing",
            )
            self.undo = gr.Button(
                Text("conversation.undo"), size="sm", min_width=88, elem_id="undo", elem_classes="turn-action"
            )
            self.restart = gr.Button(
                Text("conversation.restart"), size="sm", min_width=112, elem_id="start-over", elem_classes="turn-action"
            )
        self.shown = gr.HTML("", label="conversation", container=False, elem_id="conversation")

    def connect(self) -> None:
        result = self.context.result
        history, image, prompt = (self.panel.input(name) for name in ("history", "image", "prompt"))
        given = [self.is_on, history, result.job, result.images, image, prompt]
        only_shown = send_shown_image(given.index(result.images))
        self.panel.generated.success(self.add_turn, given, [history, image, prompt], js=only_shown, **PRIVATE)

        def toggle(is_on: bool, value: Any, *rest: Any):
            # On: continue with the result that is shown. Off: the next prompt starts a new image.
            return self.add_turn(is_on, value, *rest) if is_on else ([], gr.skip(), gr.skip())

        self.is_on.input(toggle, given, [history, image, prompt], js=only_shown, **PRIVATE).success(
            show, [self.is_on, history], self.shown, **PRIVATE
        )
        result.images.select(choose_result, [self.is_on, history, result.images], history, **PRIVATE)
        items = self.context.history.items
        self.undo.click(undo_turn, [history, items], [history, image, prompt, *result.outputs], **PRIVATE)
        self.restart.click(lambda: [], None, history, **PRIVATE)
        for event in (history.change, self.panel.place.select):
            event(show, [self.is_on, history], self.shown, **PRIVATE)

    def add_turn(
        self,
        is_on: bool,
        value: Any,
        job_id: str,
        images: list | None,
        image: str | None,
        prompt: str | None,
        selected: int = 0,
    ):
        """Add the shown result to the conversation, and empty the inputs."""
        job = self.engine.get(job_id) if isinstance(job_id, str) and is_on else None
        if not job or not job.result:
            return gr.skip(), gr.skip(), gr.skip()
        turns, request = read_json(value), job.result.request
        if turns and len(turns) != len(request.history):
            return gr.skip(), gr.skip(), gr.skip()  # the conversation has changed while the job ran
        # What was typed or added while the job ran stays.
        return (
            as_json(extend(turns, job.result, selected_path(images, selected))),
            None if (image,) == request.images else gr.skip(),
            "" if (prompt or "") == request.prompt else gr.skip(),
        )


def _is_result_of(item: HistoryItem, turn: Turn, result: str | None) -> bool:
    """Whether an image of the session is a turn's result. The results of a continued conversation are not known."""
    if result is None:
        return (item.request.prompt, item.answer or "") == (turn.prompt, turn.answer)
    # Gradio copies some files into folders of its own.
    return item.path == result or (Path(result).is_file() and filecmp.cmp(item.path, result, shallow=False))


def choose_result(is_on: bool, value: Any, images: list | None, event: gr.SelectData):
    """If a job made several images, the conversation continues with the selected one."""
    turns = read_json(value) if is_on and type(event.index) is int else []
    if not turns or turns[-1][1] not in [path for path, _ in images or []]:
        return gr.skip()  # the shown images are not the last turn's
    return as_json([*turns[:-1], (turns[-1][0], selected_path(images, event.index))])


def undo_turn(request: gr.Request, value: Any, items: list[HistoryItem]):
    """Remove the last turn, put its image and prompt back into the inputs, and show the result before it, if any."""
    turns = read_json(value)
    if not turns:
        return gr.skip(), gr.skip(), gr.skip(), *outputs()
    last = turns[-1][0]
    shown = next((item for item in existing(items) if _is_result_of(item, *turns[-2])), None) if turns[:-1] else None
    return (
        as_json(turns[:-1]),
        next(iter(last.images), None),
        last.prompt,
        *shown_item(shown, language_of(request)),
    )


def show(request: gr.Request, is_on: bool, history: Any) -> str:
    """The conversation as HTML; prompts and answers are escaped."""
    language = language_of(request)
    turns = read_json(history)
    if not turns:
        hint = html.escape(Text("conversation.hint").to(language))
        return f'<div class="turns"><p>{hint}</p></div>' if is_on else ""
    name = Text("label.history").to(language)
    shown = "".join(_show_turn(turn, result) for turn, result in turns)
    return f'<div class="turns" tabindex="0" role="group" aria-label="{name}"><ol>{shown}</ol></div>'


def _show_turn(turn: Turn, result: str | None) -> str:
    images = "".join(_show_image(path) for path in turn.images)
    text = f"<span><b>{html.escape(turn.prompt)}</b><br>{html.escape(readable_answer(turn.answer))}</span>"
    return f"<li>{images}{text}{_show_image(result) if result else ''}</li>"


def _show_image(path: str) -> str:
    try:
        return f'<img src="{thumbnail(path)}" alt="">'  # the text beside it says what it is
    except X2IError:
        return ""  # Gradio has deleted it, as it is older than a day; the next request says so
