"""A request put back into the page: which tab it belongs to, and the values of that tab's inputs and the settings."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr

from x2i_app.errors import X2IError
from x2i_app.media.metadata import is_hash
from x2i_app.request import SETTINGS, GenerationRequest
from x2i_app.ui.conversation import KINDS, as_thread
from x2i_app.ui.mask_editor import painting_values
from x2i_app.ui.tabs import TABS, Tab


def tab_of(request: GenerationRequest) -> str:
    """The name of the tab that asks for this."""
    words, images, kinds = request.prompt.strip(), len(request.images), set(request.turn.modalities) - {"text"}
    if not kinds:
        return "text" if not request.history else "image_text"
    if kinds == {"image"}:
        if images == 1 and (words or request.control_strength or request.history or request.paints):
            return "image_text"
        return "fusion" if words else "image"
    if kinds == {"video"} and len(request.videos) == 1:
        return "video"
    if kinds == {"audio"} and len(request.audios) == 1:
        return "audio"
    return "fusion"


def values_of(request: GenerationRequest, settings: list[str]) -> dict[str, list[Any]]:
    """For each tab's name, and "settings", an update of each of its components; those of other tabs stay.

    Files that are not here, which stand as hashes, are left out.
    """
    home = tab_of(request)
    values: dict[str, list[Any]] = {tab.name: _of_tab(tab, request, tab.name == home) for tab in TABS}
    named = {name: getattr(request, SETTINGS[name]) for name in settings}
    values["settings"] = [gr.skip() if value is None and name != "seed" else value for name, value in named.items()]
    return values


def _of_tab(tab: Tab, request: GenerationRequest, is_home: bool) -> list[Any]:
    if not is_home:
        return [gr.skip() for _ in tab.parameters]
    images, videos, audios = (
        [file for file in files if not is_hash(file)] for files in (request.images, request.videos, request.audios)
    )
    known = {
        "prompt": request.prompt,
        "images": images or None,
        "image": next(iter(images), None),
        "video": next(iter(videos), None),
        "audio": next(iter(audios), None),
        "message": {"text": request.prompt, "files": [*images, *videos, *audios]},
        "control": request.control_strength,
        "history": _thread(request),
        **painting_values(request),
    }
    if is_hash(request.mask):
        known["mask"] = None  # the note says so
    return [known.get(name, gr.skip()) for name in tab.parameters]


def _thread(request: GenerationRequest) -> list[dict[str, Any]]:
    """The conversation so far, with the files that are here; of the pictures only what this request drew from."""
    turns = [
        replace(turn, **{kind: [f for f in getattr(turn, kind) if not is_hash(f)] for kind in KINDS})
        for turn in request.history
    ]
    drawn = request.source_image if not is_hash(request.source_image) else None
    return as_thread([(turn, drawn if turn is turns[-1] else None) for turn in turns])


def files_in(tab: Tab, values: tuple[Any, ...]) -> list[Any]:
    """The media files that a tab holds now, as far as they are still there; none if what it holds is no request yet."""
    try:
        fields = tab.fill(*values)
    except X2IError:
        return []
    files = (file for kind in ("images", "videos", "audios") for file in fields.get(kind, ()))
    return [file for file in files if Path(file).is_file()]
