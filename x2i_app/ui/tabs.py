"""The six tabs: which components each shows, what its examples are, and which part of a request they fill."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.data_classes import FileData, ImageData

from x2i_app.controlnet import CONTROLNET_SETTINGS
from x2i_app.media import modality_of
from x2i_app.request import LATER_SETTINGS, LIMITS, SETTINGS, VIDEO_SETTINGS
from x2i_app.settings import ASSETS
from x2i_app.specs import Modality
from x2i_app.ui.i18n import LANGUAGES, PageError, Text
from x2i_app.ui.image_gallery import IMAGE_TYPES, build_image_gallery
from x2i_app.ui.mask_editor import INPAINT, MASK_OPTIONS, SEND_MASK, build_mask_editor, inpaint_fields
from x2i_app.ui.turns import read_json

EXAMPLES = ASSETS / "examples"
_FILES = ("images", "videos", "audios")
COMMON = (*SETTINGS, "loras", "format")  # what every endpoint takes after its own inputs


@dataclass(frozen=True)
class Tab:
    """name: also its HTTP endpoint. modalities: what a model must support to serve it. parameters: of the endpoint.

    build: makes the components, in the order of `parameters`. fill: their values -> fields of a GenerationRequest.
    examples: rows of such values, for all or the first of the components, in a language of the page.
    prepare: JavaScript, a function that takes the values before they are sent and returns what is sent.
    later: the last of `parameters`, which came after the endpoint was published.
    """

    name: str
    modalities: tuple[Modality, ...]
    parameters: tuple[str, ...]
    build: Callable[[], list[gr.components.Component]]
    fill: Callable[..., dict[str, Any]]
    examples: Callable[[str], list[list[Any]]]
    prepare: str = "values => values"
    later: tuple[str, ...] = ()

    @property
    def endpoint_parameters(self) -> tuple[str, ...]:
        """All parameters of the endpoint in their order: later ones are last, so that calls by position stay valid."""
        first = self.parameters[: len(self.parameters) - len(self.later)]
        last = VIDEO_SETTINGS if self.takes_video else ()
        return (*first, *COMMON, *self.later, *LATER_SETTINGS, *CONTROLNET_SETTINGS, *last)

    @property
    def takes_video(self) -> bool:
        """Whether a video may be among its inputs."""
        return "video" in self.modalities or not self.modalities


def check_input(tab: Tab, fields: dict[str, Any]) -> None:
    """Raise PageError, which says what to add, if a tab's fields contain no input at all."""
    prompt = fields.get("prompt", "")
    has_prompt = not isinstance(prompt, str) or bool(prompt.strip())  # the request refuses what is no text
    if tab is IMAGE_TEXT:  # an instruction changes an image: one that is given, or one of the conversation
        has_prompt = has_prompt and bool(fields.get("history"))
    if not has_prompt and not any(fields.get(name) for name in (*_FILES, "source_image", "mask", "reference")):
        raise PageError(f"empty.{tab.name}")


def unconverted(component: gr.components.Component) -> gr.components.Component:
    """The same component, which hands over values as they came.

    Gradio converts numbers to text and truth values to numbers, so that the request could not refuse them.
    """
    component.preprocess = lambda value: value
    return component


def image_file(name: str, **options: Any) -> gr.Image:
    """An image input that hands over the uploaded file itself.

    Gradio would first decode it with every decoder that Pillow has, before `media` checks it.
    """
    image = gr.Image(
        label=Text(f"label.{name}"),
        type="filepath",
        format="png",
        height=280,
        buttons=["download", "fullscreen"],
        **options,
    )
    image.preprocess = _uploaded_path
    return image


def _uploaded_path(payload: ImageData | None) -> str | None:
    if payload and not payload.path:
        raise PageError("error.image_link")
    return payload and payload.path


def _unprobed(component: gr.components.Component) -> gr.components.Component:
    """The same component, which shows a file as it is.

    Gradio would run the system's ffmpeg on it, if there is one, without any limit and with all its protocols.
    """
    component.postprocess = lambda path: path and FileData(path=str(path), orig_name=Path(path).name)
    return component


def _textbox(name: str, rows: int) -> gr.Textbox:
    """Without a limit of characters, at which a browser would cut a pasted prompt in silence; the server says it."""
    label = Text(f"label.{name}")
    return unconverted(gr.Textbox(label=label, lines=rows, max_lines=8))


def _text(value: Any) -> Any:
    return "" if value is None else value


def _read_examples(name: str, language: str) -> list[dict[str, Any]]:
    """The page's own language first; then languages that the page does not have, which the model reads too."""
    rows = json.loads((EXAMPLES / name).read_text(encoding="utf-8"))
    own = [row for row in rows if row["language"] in ("", language)]
    return own + [row for row in rows if row["language"] and row["language"] not in LANGUAGES]


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
    examples=lambda language: [[example["text"]] for example in _read_examples("prompts.json", language)],
)

IMAGE = Tab(
    name="image",
    modalities=("image",),
    parameters=("images",),
    build=lambda: [build_image_gallery()],
    fill=lambda images: {"images": [path for path, _caption in images or []]},
    examples=lambda _: [[[path]] for path in _example_files("images")] + [[_example_files("images")[:2]]],
)


def _build_image_text() -> list[gr.components.Component]:
    image, prompt = image_file("image"), _textbox("instruction", rows=2)
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
    edit = gr.Checkbox(False, label=Text("label.edit"), info=Text("edit.hint"), elem_id="edit")
    history = gr.JSON(label=Text("label.history"), elem_classes="not-shown")
    mask, reference = (image_file(name, elem_classes="not-shown") for name in ("mask", "reference"))
    mask, *numbers = build_mask_editor(image, mask)
    return [
        image,
        prompt,
        unconverted(control),
        history,
        mask,
        *map(unconverted, numbers),
        reference,
        unconverted(edit),
    ]


def _fill_image_text(
    image: str | None, prompt: str | None, control: float | None, history: Any, *rest: Any
) -> dict[str, Any]:
    """A turn with an image edits that image; a turn without one edits the last result."""
    count = len(INPAINT) + len(MASK_OPTIONS)
    inpaint, (reference, edit) = rest[:count], (*rest[count:], None, None)[:2]
    turns = read_json(history)
    if len(turns) > LIMITS.turns:
        raise PageError("error.too_many_turns", turns=len(turns), most=LIMITS.turns)
    fields = {"images": [image] if image else [], "prompt": _text(prompt), "history": [turn for turn, _ in turns]}
    fields |= inpaint_fields(*inpaint)
    result = turns[-1][1] if turns and not image else None
    if edit and reference is None:
        reference = image or result
    if reference:
        fields["reference"] = reference
    elif result:
        fields["source_image"] = result
    # Without an image there is nothing to be similar to, wherever the slider is.
    return fields | ({"control_strength": control} if (image or result or reference) and control is not None else {})


_EDIT_LATER = (*MASK_OPTIONS, "reference", "edit")

IMAGE_TEXT = Tab(
    name="image_text",
    modalities=("image", "text"),
    parameters=("image", "prompt", "control", "history", *INPAINT, *_EDIT_LATER),
    build=_build_image_text,
    fill=_fill_image_text,
    examples=lambda language: [
        [_example(edit["image"]), edit["instruction"]] for edit in _read_examples("edits.json", language)
    ],
    prepare=SEND_MASK,
    later=_EDIT_LATER,
)

VIDEO = Tab(
    name="video",
    modalities=("video",),
    parameters=("video", "prompt"),
    build=lambda: [
        _unprobed(gr.Video(label=Text("label.video"), sources=["upload"], height=300, buttons=["download"])),
        _textbox("optional_prompt", rows=1),
    ],
    fill=lambda video, prompt: {"videos": [video] if video else [], "prompt": _text(prompt)},
    examples=lambda _: [[path] for path in _example_files("videos")],
)

AUDIO = Tab(
    name="audio",
    modalities=("audio",),
    parameters=("audio", "prompt"),
    build=lambda: [
        _unprobed(gr.Audio(label=Text("label.audio"), type="filepath", buttons=["download"])),
        _textbox("optional_prompt", rows=1),
    ],
    fill=lambda audio, prompt: {"audios": [audio] if audio else [], "prompt": _text(prompt)},
    examples=lambda _: [[path] for path in _example_files("audios")],
)


def _fill_fusion(message: dict[str, Any] | None) -> dict[str, Any]:
    """The content of a file, not its name, says what it is."""
    message = message or {}
    fields: dict[str, Any] = {"prompt": _text(message.get("text"))} | {kind: [] for kind in _FILES}
    for path in message.get("files") or []:
        fields[f"{modality_of(path)}s"].append(path)
    return fields


FUSION = Tab(
    name="fusion",
    modalities=(),
    parameters=("message",),
    build=lambda: [
        gr.MultimodalTextbox(
            label=Text("label.message"),
            file_count="multiple",
            file_types=[*IMAGE_TYPES, "video", "audio"],
            sources=["upload", "microphone"],
            submit_btn=False,
            lines=3,
        )
    ],
    fill=_fill_fusion,
    examples=lambda language: [
        [{"text": mix["prompt"], "files": [_example(name) for kind in _FILES for name in mix[kind]]}]
        for mix in _read_examples("fusion.json", language)
    ],
)

TABS: tuple[Tab, ...] = (TEXT, IMAGE, IMAGE_TEXT, VIDEO, AUDIO, FUSION)
