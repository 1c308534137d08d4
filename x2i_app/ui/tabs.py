"""The six tabs: which components each shows, what its examples are, and which part of a request they fill."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gradio as gr
from gradio.data_classes import ImageData

from x2i_app.errors import InvalidRequestError
from x2i_app.media import is_animation, sniff
from x2i_app.request import LIMITS
from x2i_app.settings import ASSETS
from x2i_app.specs import Modality
from x2i_app.ui.conversation import read_thread
from x2i_app.ui.i18n.texts import CONTROL_HINT, LABELS
from x2i_app.ui.image_gallery import build_images
from x2i_app.ui.mask_editor import PAINTING, SEND_MASK, build_painter, painting_fields

EXAMPLES = ASSETS / "examples"


@dataclass(frozen=True)
class Tab:
    """name: also its HTTP endpoint. modalities: what a model must take to serve it. parameters: names of its inputs.

    build: makes the components, in the order of `parameters`. fill: their values -> fields of a GenerationRequest.
    examples: rows of such values, for all or the first of the components.
    prepare: JavaScript, a function of the values that are about to be sent, which gives those to send.
    """

    name: str
    modalities: tuple[Modality, ...]
    parameters: tuple[str, ...]
    build: Callable[[], list[gr.components.Component]]
    fill: Callable[..., dict[str, Any]]
    examples: Callable[[], list[list[Any]]]
    prepare: str = "values => values"


def _image_file(label: str, **options: Any) -> gr.Image:
    """An image input that hands over the uploaded file as it is.

    Gradio's own look at it would use every decoder that Pillow has, before `media` could see it.
    """
    image = gr.Image(label=label, type="filepath", format="png", height=280, **options)
    image.preprocess = _uploaded_path
    return image


def _uploaded_path(payload: ImageData | None) -> str | None:
    if payload and not payload.path:
        raise gr.Error("The picture came as a link; upload the file itself.", print_exception=False)
    return payload and payload.path


def unconverted(component: gr.components.Component) -> gr.components.Component:
    """The same component, handing over what came as it came.

    Gradio's own conversions make text of numbers and numbers of truth, before the request's validator could refuse.
    """
    component.preprocess = lambda value: value
    return component


def _read(name: str) -> Any:
    return json.loads((EXAMPLES / name).read_text(encoding="utf-8"))


def _example(name: str) -> str:
    return str(EXAMPLES / name)


def _examples(kind: str) -> list[str]:
    return [str(path) for path in sorted((EXAMPLES / kind).iterdir())]


def _words(label: str, lines: int = 2) -> gr.Textbox:
    return unconverted(gr.Textbox(label=LABELS[label], lines=lines, max_lines=8, max_length=LIMITS.prompt_bytes))


def _text(value: Any) -> Any:
    return "" if value is None else value


TEXT = Tab(
    name="text",
    modalities=("text",),
    parameters=("prompt",),
    build=lambda: [_words("prompt", lines=3)],
    fill=lambda prompt: {"prompt": _text(prompt)},
    examples=lambda: [[example["text"]] for example in _read("prompts.json")],
)

IMAGE = Tab(
    name="image",
    modalities=("image",),
    parameters=("images",),
    build=lambda: [build_images()],
    fill=lambda images: {"images": [path for path, _caption in images or []]},
    examples=lambda: [[[path]] for path in _examples("images")] + [[_examples("images")[:2]]],
)


def _control() -> gr.Slider:
    """How closely to keep to the picture; a model without LightControl does not show it."""
    allowed = LIMITS.control_strength
    return unconverted(
        gr.Slider(
            allowed.low,
            allowed.high,
            1,
            step=0.1,
            label=LABELS["control"],
            info=CONTROL_HINT,
            elem_id="control",
            interactive=True,
        )
    )


def _build_image_text() -> list[gr.components.Component]:
    image, prompt, control = _image_file(LABELS["image"]), _words("instruction"), _control()
    history = gr.JSON(label=LABELS["history"], elem_classes="unseen")
    mask = _image_file(LABELS["mask"], elem_classes="unseen")
    return [image, prompt, control, history, *map(_unless_file, build_painter(image, mask))]


def _unless_file(component: gr.components.Component) -> gr.components.Component:
    return component if isinstance(component, gr.Image) else unconverted(component)


def _fill_image_text(
    image: str | None, prompt: str | None, control: float | None, history: Any, *painting: Any
) -> dict[str, Any]:
    """With a picture of its own a turn is about that; without one, about the last that was drawn."""
    turns = read_thread(history)
    if len(turns) > LIMITS.turns:
        raise InvalidRequestError(f"The conversation has {len(turns)} turns and may have {LIMITS.turns}; begin anew.")
    fields = {"images": [image] if image else [], "prompt": _text(prompt), "history": [turn for turn, _ in turns]}
    fields |= painting_fields(*painting)
    drawn = turns[-1][1] if turns and not image else None
    if drawn:
        fields["source_image"] = drawn
    # Without a picture there is nothing to keep to, and the slider may stay where it is.
    return fields | ({"control_strength": control} if (image or drawn) and control is not None else {})


IMAGE_TEXT = Tab(
    name="image_text",
    modalities=("image", "text"),
    parameters=("image", "prompt", "control", "history", *PAINTING),
    build=_build_image_text,
    fill=_fill_image_text,
    examples=lambda: [[_example(edit["image"]), edit["instruction"]] for edit in _read("edits.json")],
    prepare=SEND_MASK,
)

VIDEO = Tab(
    name="video",
    modalities=("video",),
    parameters=("video", "prompt"),
    build=lambda: [gr.Video(label=LABELS["video"], sources=["upload"], height=300), _words("words", lines=1)],
    fill=lambda video, prompt: {"videos": [video] if video else [], "prompt": _text(prompt)},
    examples=lambda: [[path] for path in _examples("videos")],
)

AUDIO = Tab(
    name="audio",
    modalities=("audio",),
    parameters=("audio", "prompt"),
    build=lambda: [gr.Audio(label=LABELS["audio"], type="filepath"), _words("words", lines=1)],
    fill=lambda audio, prompt: {"audios": [audio] if audio else [], "prompt": _text(prompt)},
    examples=lambda: [[path] for path in _examples("audios")],
)


_FILES = ("images", "videos", "audios")


def _fill_fusion(message: dict[str, Any] | None) -> dict[str, Any]:
    """Files are told apart by what is in them, whatever they are called."""
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
            label=LABELS["message"],
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
        for mix in _read("fusion.json")
    ],
)

TABS: tuple[Tab, ...] = (TEXT, IMAGE, IMAGE_TEXT, VIDEO, AUDIO, FUSION)
