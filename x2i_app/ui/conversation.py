"""The conversation of the tab Image + Text: what was asked and drawn so far, and what the next words are about.

It lives in the page, as the endpoint's parameter `history`: a JSON list of turns, oldest first, each with `prompt`,
`images`, `videos`, `audios` (uploaded files), `answer`, and `picture`, which is what was drawn. The server keeps none.
"""

import html
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import gradio as gr

from x2i_app.errors import InvalidRequestError, X2IError
from x2i_app.media import load_image
from x2i_app.request import GenerationResult, Turn, as_turn, show_value
from x2i_app.serving.engine import Engine
from x2i_app.ui.i18n import conversation as texts
from x2i_app.ui.i18n.languages import language_of
from x2i_app.ui.i18n.texts import LABELS
from x2i_app.ui.progress import as_address

_QUIET: dict[str, Any] = {"api_visibility": "private", "concurrency_limit": None, "show_progress": "hidden"}
KINDS = ("images", "videos", "audios")
_THUMBNAIL = 56  # pixels
_REMEMBERED = 256  # thumbnails, of about 2 KB


def read_thread(history: Any) -> list[tuple[Turn, str | None]]:
    """The turns of a thread and the picture of each. Raises InvalidRequestError for what is none."""
    if history is None:
        return []
    if not isinstance(history, list):
        raise InvalidRequestError(f"history is {show_value(history)}; it must be a list of turns.")
    return [_read_turn(turn) for turn in history]


def _read_turn(value: Any) -> tuple[Turn, str | None]:
    if not isinstance(value, dict):
        return as_turn(value), None
    fields = dict(value)
    image = fields.pop("picture", None)
    for kind in KINDS:
        if isinstance(fields.get(kind), list):
            fields[kind] = [_path(file) for file in fields[kind]]
    return as_turn(fields), image and _path(image)


def _path(file: Any) -> str:
    # The gate has seen of such objects that their files were uploaded here; a bare name may be any file's.
    if isinstance(file, dict) and isinstance(file.get("path"), str):
        return file["path"]
    raise InvalidRequestError(f"history names the file {show_value(file)}; upload it, and give what came back as path.")


def as_thread(turns: Sequence[tuple[Turn, str | None]]) -> list[dict[str, Any]]:
    """The same as JSON, which `read_thread` reads again."""
    return [
        {"prompt": turn.prompt, "answer": turn.answer, "picture": image and as_file(image)}
        | {kind: [as_file(path) for path in getattr(turn, kind) if isinstance(path, str)] for kind in KINDS}
        for turn, image in turns
    ]


def as_file(path: str) -> dict[str, Any]:
    """A file of this app as it stands in JSON."""
    return {"path": path, "meta": {"_type": "gradio.FileData"}}


def extend(
    turns: Sequence[tuple[Turn, str | None]], result: GenerationResult, image: str | None
) -> list[tuple[Turn, str | None]]:
    """The thread that a result ends: the turns before it, of which `turns` may know the pictures, and its own."""
    request = result.request
    before = list(turns) if len(turns) == len(request.history) else [(turn, None) for turn in request.history]
    own = request.turn
    return [*before, (Turn(own.prompt, own.images, own.videos, own.audios, result.answer or ""), image)]


@dataclass
class Thread:
    """Its components: shown, whether one goes on with what was drawn, and the buttons."""

    goes_on: gr.Checkbox
    shown: gr.HTML
    undo: gr.Button
    new: gr.Button
    tab: gr.Tab | None = None

    def render(self, tab: gr.Tab) -> None:
        """Put them into a tab, where the page stands now."""
        self.tab = tab
        with gr.Row(elem_id="talk"):
            self.goes_on.render()
            self.undo.render()
            self.new.render()
        self.shown.render()


def build_thread() -> Thread:
    """The components, which are rendered in their tab."""
    return Thread(
        gr.Checkbox(False, label=texts.GO_ON, container=False, scale=3, min_width=220, elem_id="go-on", render=False),
        gr.HTML("", label="thread", container=False, elem_id="thread", render=False),
        gr.Button(texts.UNDO, size="sm", min_width=88, elem_id="undo-turn", elem_classes="of-turns", render=False),
        gr.Button(texts.ANEW, size="sm", min_width=112, elem_id="new-thread", elem_classes="of-turns", render=False),
    )


def connect_thread(
    engine: Engine,
    thread: Thread,
    inputs: dict[str, gr.components.Component],
    made: Any,
    result: Any,
    place: gr.State,
) -> None:
    """inputs: of the tab, by name; made: the event of its button; result: the right side of the page; place: which of
    its pictures is looked at.
    """
    history, image, prompt = (inputs[name] for name in ("history", "image", "prompt"))

    def go_on(
        goes_on: bool,
        said: Any,
        job: str,
        images: list | None,
        image: str | None,
        prompt: str | None,
        place: int = 0,
    ):
        known = engine.get(job) if isinstance(job, str) and goes_on else None
        if not known or not known.result:
            return gr.skip(), gr.skip(), gr.skip()
        turns, request = read_thread(said), known.result.request
        if turns and len(turns) != len(request.history):
            return gr.skip(), gr.skip(), gr.skip()  # it answers a thread that has gone on, or began anew, meanwhile
        shown = image_at(images, place)
        # What was typed or added while it was drawn stays.
        is_sent = (image,) == request.images, (prompt or "") == request.prompt
        return (
            as_thread(extend(turns, known.result, shown)),
            None if is_sent[0] else gr.skip(),
            "" if is_sent[1] else gr.skip(),
        )

    given = [thread.goes_on, history, result.job, result.images, image, prompt]
    made.success(go_on, given, [history, image, prompt], **_QUIET)
    # Switched on, it goes on with the picture that is there; switched off, each picture stands alone again.
    thread.goes_on.input(
        lambda goes_on, said, *rest: go_on(goes_on, said, *rest) if goes_on else ([], gr.skip(), gr.skip()),
        [*given, place],
        [history, image, prompt],
        **_QUIET,
    ).success(show, [thread.goes_on, history], thread.shown, **_QUIET)

    def choose(goes_on: bool, said: Any, images: list | None, event: gr.SelectData):
        """Of several pictures the one that is picked is gone on with."""
        turns = read_thread(said) if goes_on and type(event.index) is int else []
        if not turns or turns[-1][1] not in [path for path, _ in images or []]:
            return gr.skip()  # the thread is about another one
        return as_thread([*turns[:-1], (turns[-1][0], image_at(images, event.index))])

    result.images.select(choose, [thread.goes_on, history, result.images], history, **_QUIET)

    def undo(said: Any):
        turns = read_thread(said)
        if not turns:
            return gr.skip(), gr.skip(), gr.skip()
        last = turns[-1][0]
        return as_thread(turns[:-1]), next(iter(last.images), None), last.prompt

    thread.undo.click(undo, history, [history, image, prompt], **_QUIET)
    thread.new.click(lambda: [], None, history, **_QUIET)
    for event in (history.change, thread.tab.select):
        event(show, [thread.goes_on, history], thread.shown, **_QUIET)


def image_at(images: list | None, place: int) -> str | None:
    """The file of the one of a gallery's pictures that is looked at; else of the first."""
    paths = [path for path, _ in images or []]
    return paths[place] if 0 <= place < len(paths) else next(iter(paths), None)


def show(request: gr.Request, goes_on: bool, history: Any) -> str:
    """The thread as HTML, in which whatever people and models say is text."""
    language = language_of(request)
    turns = read_thread(history)
    if not turns:
        return f'<div class="turns"><p>{html.escape(texts.HINT.to(language))}</p></div>' if goes_on else ""
    name = LABELS["history"].to(language)
    shown = "".join(_show_turn(turn, image) for turn, image in turns)
    return f'<div class="turns" tabindex="0" role="group" aria-label="{name}"><ol>{shown}</ol></div>'


def _show_turn(turn: Turn, image: str | None) -> str:
    shown = "".join(_show_image(path) for path in turn.images)
    drawn = _show_image(image) if image else ""
    words = f"<span><b>{html.escape(turn.prompt)}</b><br>{html.escape(turn.answer)}</span>"
    return f"<li>{shown}{words}{drawn}</li>"


def _show_image(path: str) -> str:
    try:
        return f'<img src="{_thumbnail(path)}" alt="">'  # the words beside it say as much
    except X2IError:
        return ""  # Gradio clears its folder of what is older than a day; the next request says so


@lru_cache(_REMEMBERED)
def _thumbnail(path: str) -> str:
    image = load_image(path)
    image.thumbnail((_THUMBNAIL, _THUMBNAIL))
    return as_address(image)
