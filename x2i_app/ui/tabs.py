"""The six tabs: which components each shows, what its examples are, and which part of a request they fill."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gradio as gr
from gradio.data_classes import ImageData

from x2i_app.media import is_animation, sniff
from x2i_app.request import LIMITS
from x2i_app.settings import ASSETS
from x2i_app.specs import Modality
from x2i_app.ui.i18n import PageError, Text
from x2i_app.ui.image_gallery import build_image_gallery
from x2i_app.ui.mask_editor import INPAINT, SEND_MASK, build_mask_editor, inpaint_fields
from x2i_app.ui.turns import read_json

EXAMPLES = ASSETS / "examples"
_FILES = ("images", "videos", "audios")


@dataclass(frozen=True)
class Tab:
    """name: also its HTTP endpoint. modalities: what a model must support to serve it. parameters: of the endpoint.

    build: makes the components, in the order of `parameters`. fill: their values -> fields of a GenerationRequest.
    examples: rows of such values, for all or the first of the components.
    prepare: JavaScript, a function that takes the values before they are sent and returns what is sent.
    """

    name: str
    modalities: tuple[Modality, ...]
    parameters: tuple[str, ...]
    build: Callable[[], list[gr.components.Component]]
    fill: Callable[..., dict[str, Any]]
    examples: Callable[[], list[list[Any]]]
    prepare: str = "values => values"


def check_input(tab: Tab, fields: dict[str, Any]) -> None:
    """Raise PageError, which says what to add, if a tab's fields contain no input at all."""
    prompt = fields.get("prompt", "")
    has_prompt = not isinstance(prompt, str) or bool(prompt.strip())  # the request refuses what is no text
    if not has_prompt and not any(fields.get(name) for name in (*_FILES, "source_image", "mask")):
        raise PageError(f"empty.{tab.name}")


def unconverted(component: gr.components.Component) -> gr.components.Component:
    """The same component, which hands over values as they came.

    Gradio converts numbers to text and truth values to numbers, so that the request could not refuse them.
    """
    component.preprocess = lambda value: value
    return component


def _image_file(name: str, **options: Any) -> gr.Image:
    """An image input that hands over the uploaded file itself.

    Gradio would first decode it with every decoder that Pillow has, before `media` checks it.
    """
    image = gr.Image(label=Text(f"label.{name}"), type="filepath", format="png", height=280, **options)
    image.preprocess = _uploaded_path
    return image


def _uploaded_path(payload: ImageData | None) -> str | None:
    if payload and not payload.path:
        raise PageError("error.image_link")
    return payload and payload.path


def _textbox(name: str, rows: int) -> gr.Textbox:
    label = Text(f"label.{name}")
    return unconverted(gr.Textbox(label=label, lines=rows, max_lines=8, max_length=LIMITS.prompt_bytes))


def _text(value: Any) -> Any:
    return "" if value is None else value


def _read_examples(name: str) -> Any:
    return json.loads((EXAMPLES / name).read_text(encoding="utf-8"))


def _example(name: str) -> str:
    return str(EXAMPLES / name)


def _example_files(kind: str) -> list[str]:
    return [str(path) for path in sorted((EXAMPLES / kind).iterdir())]


TEXT = Tab(
    name="text",
    modalities=("text",),
    parameters=("prompt",),
    build=lambda: [_textbox("prompt", rows=3)],
    fill=lambda prompt: {"prompt": _text(prompt)},
    examples=lambda: [[example["text"]] for example in _read_examples("prompts.json")],
)

IMAGE = Tab(
    name="image",
    modalities=("image",),
    parameters=("images",),
    build=lambda: [build_image_gallery()],
    fill=lambda images: {"images": [path for path, _caption in images or []]},
    examples=lambda: [[[path]] for path in _example_files("images")] + [[_example_files("images")[:2]]],
)


def _build_image_text() -> list[gr.components.Component]:
    image, prompt = _image_file("image"), _textbox("instruction", rows=2)
    allowed = LIMITS.control_strength
    control = gr.Slider(
        allowed.low,
        allowed.high,
        1,
        step=0.1,
        label=Text("label.control"),
        info=Text("control.hint"),
        elem_id="control",
        interactive=True,
    )
    history = gr.JSON(label=Text("label.history"), elem_classes="not-shown")
    mask = _image_file("mask", elem_classes="not-shown")
    mask, *numbers = build_mask_editor(image, mask)
    return [image, prompt, unconverted(control), history, mask, *map(unconverted, numbers)]


def _fill_image_text(
    image: str | None, prompt: str | None, control: float | None, history: Any, *inpaint: Any
) -> dict[str, Any]:
    """A turn with an image edits that image; a turn without one edits the last result."""
    turns = read_json(history)
    if len(turns) > LIMITS.turns:
        raise PageError("error.too_many_turns", turns=len(turns), most=LIMITS.turns)
    fields = {"images": [image] if image else [], "prompt": _text(prompt), "history": [turn for turn, _ in turns]}
    fields |= inpaint_fields(*inpaint)
    result = turns[-1][1] if turns and not image else None
    if result:
        fields["source_image"] = result
    # Without an image there is nothing to be similar to, wherever the slider is.
    return fields | ({"control_strength": control} if (image or result) and control is not None else {})


IMAGE_TEXT = Tab(
    name="image_text",
    modalities=("image", "text"),
    parameters=("image", "prompt", "control", "history", *INPAINT),
    build=_build_image_text,
    fill=_fill_image_text,
    examples=lambda: [[_example(edit["image"]), edit["instruction"]] for edit in _read_examples("edits.json")],
    prepare=SEND_MASK,
)

VIDEO = Tab(
    name="video",
    modalities=("video",),
    parameters=("video", "prompt"),
    build=lambda: [
        gr.Video(label=Text("label.video"), sources=["upload"], height=300),
        _textbox("optional_prompt", rows=1),
    ],
    fill=lambda video, prompt: {"videos": [video] if video else [], "prompt": _text(prompt)},
    examples=lambda: [[path] for path in _example_files("videos")],
)

AUDIO = Tab(
    name="audio",
    modalities=("audio",),
    parameters=("audio", "prompt"),
    build=lambda: [gr.Audio(label=Text("label.audio"), type="filepath"), _textbox("optional_prompt", rows=1)],
    fill=lambda audio, prompt: {"audios": [audio] if audio else [], "prompt": _text(prompt)},
    examples=lambda: [[path] for path in _example_files("audios")],
)


def _fill_fusion(message: dict[str, Any] | None) -> dict[str, Any]:
    """The content of a file, not its name, says what it is."""
    message = message or {}
    fields: dict[str, Any] = {"prompt": _text(message.get("text"))} | {kind: [] for kind in _FILES}
    for path in message.get("files") or []:
        modality = "video" if is_animation(path) else sniff(path).modality
        fields[f"{modality}s"].append(path)
    return fields


FUSION = Tab(
    name="fusion",
    modalities=(),
    parameters=("message",),
    build=lambda: [
        gr.MultimodalTextbox(
            label=Text("label.message"),
            file_count="multiple",
            file_types=["image", "video", "audio"],
            sources=["upload", "microphone"],
            submit_btn=False,
            lines=3,
        )
    ],
    fill=_fill_fusion,
    examples=lambda: [
        [{"text": mix["prompt"], "files": [_example(name) for kind in _FILES for name in mix[kind]]}]
        for mix in _read_examples("fusion.json")
    ],
)

TABS: tuple[Tab, ...] = (TEXT, IMAGE, IMAGE_TEXT, VIDEO, AUDIO, FUSION)
