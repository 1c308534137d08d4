"""A request put back into the page: the tab it belongs to, and the values of that tab's inputs and of the settings.

The request comes from an image file that is dropped in, or from an image of this session.
"""

import html
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr

from x2i_app.controlnet import CONTROLNET_SETTINGS
from x2i_app.errors import X2IError
from x2i_app.media import Recipe, read_recipe
from x2i_app.media.metadata import is_hash
from x2i_app.request import LATER_SETTINGS, SETTINGS, GenerationRequest
from x2i_app.ui.context import PRIVATE, STATE_SECONDS, Panel
from x2i_app.ui.history import HistoryItem, existing
from x2i_app.ui.i18n import DEFAULT, Text, language_of
from x2i_app.ui.loras import LoraChoices, lora_choices, lora_files, show_loras
from x2i_app.ui.mask_editor import inpaint_values, mask_values
from x2i_app.ui.progress import note_text
from x2i_app.ui.tab_panel import TabPanel
from x2i_app.ui.tabs import TABS, Tab
from x2i_app.ui.turns import KINDS, as_json

_FILE_INPUTS = (gr.Image, gr.Gallery, gr.Video, gr.Audio, gr.MultimodalTextbox)


class RestorePanel(Panel):
    """Where an image file is dropped. recipe: what its metadata says, while the input files are not all there yet."""

    def build(self) -> None:
        with gr.Accordion(Text("restore"), open=False, elem_id="restore"):
            self.file = gr.File(
                label=Text("restore.file"), file_types=[".png", ".jpg", ".jpeg", ".webp", ".avif"], height=120
            )
            self.note = gr.HTML("", label="restored", elem_id="restored", container=False)
        self.recipe = gr.State(None, time_to_live=STATE_SECONDS)

    @property
    def outputs(self) -> list[gr.blocks.Block]:
        """The components of which `values` gives the values."""
        context = self.context
        settings, loras = context.settings.values, context.loras.outputs
        return [
            context.tab_group,
            *settings,
            *context.tab_inputs,
            *loras,
            *context.settings.later,
            *context.controlnet.components,
            *context.video_parts,
        ]

    def values(self, request: GenerationRequest) -> list[Any]:
        """Values of `outputs` that show a request."""
        values = values_of(request)
        inputs = [value for panel in self.context.tabs for value in values[panel.tab.name]]
        loras = lora_choices([pair for pair in request.loras if not is_hash(pair[0])], self.engine.settings)
        return [
            gr.Tabs(selected=tab_of(request)),
            *values["settings"],
            *inputs,
            *show_loras(loras),
            *values["later"],
            *controlnet_values(request),
            *(part for panel in self.context.tabs if panel.tab.takes_video for part in request.video_part),
        ]

    def connect(self) -> None:
        context, loras = self.context, self.context.loras.value
        given = [self.file, loras, context.history.items, *context.tab_inputs]
        self.file.change(self.restore_file, given, [self.recipe, self.note, *self.outputs], **PRIVATE)
        for panel in context.tabs:
            for component in panel.inputs:
                if isinstance(component, _FILE_INPUTS):
                    component.change(
                        self._update_note(panel), [self.recipe, loras, *panel.inputs], self.note, **PRIVATE
                    )

    def restore_file(
        self, request: gr.Request, path: str | None, choices: LoraChoices | None, items: list[HistoryItem], *inputs
    ) -> list[Any]:
        """Read an image file, and put its settings into the page."""
        if not path:
            return [None, "", *(gr.skip() for _ in self.outputs)]
        recipe = read_recipe(path).for_flux(self.engine.flux, self.engine.has_controlnet)
        files = [*lora_files(recipe, choices, self.engine.settings), *(item.path for item in existing(items))]
        given = list(inputs)
        for panel in self.context.tabs:
            values, given = given[: len(panel.inputs)], given[len(panel.inputs) :]
            files += files_in(panel.tab, values)
        complete = recipe.with_known(files)
        # An earlier result is in no tab's input and cannot be removed from one: do not ask for it later.
        recipe = replace(recipe, request=replace(recipe.request, source_image=complete.source_image))
        return [recipe, _note(recipe, files, language_of(request)), *self.values(complete)]

    def _update_note(self, panel: TabPanel):
        """While input files are missing, say which ones."""

        def update_note(request: gr.Request, recipe: Recipe | None, choices: LoraChoices | None, *values):
            if recipe is None or panel.tab.name != tab_of(recipe.request):
                return gr.skip()
            files = [*files_in(panel.tab, values), *lora_files(recipe, choices, self.engine.settings)]
            return _note(recipe, files, language_of(request))

        return update_note


def _note(recipe: Recipe, files: list[Any], language: str) -> str:
    text = " ".join([restored_text(recipe.missing(files), language), *(note_text(n, language) for n in recipe.notes)])
    return f'<p role="status">{html.escape(text)}</p>'


def restored_text(missing: Mapping[str, int], language: str = DEFAULT) -> str:
    """The message about restored settings. missing: how many input files are not added yet, by kind."""
    text = Text("restore.done").to(language)
    if missing:
        files = [Text(f"restore.{kind}").to(language, count=count) for kind, count in missing.items()]
        text += " " + Text("restore.add_files").to(language, files=Text("comma").to(language).join(files))
    return text


def tab_of(request: GenerationRequest) -> str:
    """The name of the tab that a request belongs to."""
    has_prompt, images, kinds = bool(request.prompt.strip()), len(request.images), {*request.turn.modalities} - {"text"}
    reference = request.reference is not None
    if not kinds:
        return "text" if not request.history else "image_text"
    if kinds == {"image"}:
        if images == 1 and (has_prompt or request.control_strength or request.history or request.paints or reference):
            return "image_text"
        return "fusion" if has_prompt else "image"
    if kinds == {"video"} and len(request.videos) == 1:
        return "video"
    if kinds == {"audio"} and len(request.audios) == 1:
        return "audio"
    return "fusion"


def values_of(request: GenerationRequest) -> dict[str, list[Any]]:
    """For each tab's name, and for "settings" and "later" ones, the value of each component.

    Components of other tabs keep theirs. Input files of which only the hash is known are left out.
    """
    name = tab_of(request)
    values: dict[str, list[Any]] = {tab.name: _tab_values(tab, request, tab.name == name) for tab in TABS}
    settings = {setting: getattr(request, field) for setting, field in SETTINGS.items()}
    later = {name: getattr(request, field) for name, field in LATER_SETTINGS.items()}
    values["later"] = [gr.skip() if value is None else value for value in later.values()]
    values["settings"] = [gr.skip() if value is None and key != "seed" else value for key, value in settings.items()]
    return values


def controlnet_values(request: GenerationRequest) -> list[Any]:
    """For each component of the ControlNet panel."""
    values = {name: getattr(request, name) for name in CONTROLNET_SETTINGS}
    image = None if is_hash(request.controlnet_image) else request.controlnet_image  # the note asks for it
    return list((values | {"controlnet_image": image, "controlnet_kind": request.controlnet_kind or ""}).values())


def _tab_values(tab: Tab, request: GenerationRequest, is_its_own: bool) -> list[Any]:
    if not is_its_own:
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
        "history": _conversation(request),
        **inpaint_values(request),
        **mask_values(request),
        "reference": None,
        "edit": request.reference is not None,
    }
    if is_hash(request.mask):
        known["mask"] = None  # the note asks for it
    return [known.get(name, gr.skip()) for name in tab.parameters]


def _conversation(request: GenerationRequest) -> list[dict[str, Any]]:
    """The conversation so far with the files that exist; of the results only the one that this request changed."""
    turns = [
        replace(turn, **{kind: [f for f in getattr(turn, kind) if not is_hash(f)] for kind in KINDS})
        for turn in request.history
    ]
    result = request.source_image if not is_hash(request.source_image) else None
    return as_json([(turn, result if turn is turns[-1] else None) for turn in turns])


def files_in(tab: Tab, values: tuple[Any, ...]) -> list[Any]:
    """The input files of a tab that exist; none if its values are no valid request yet."""
    try:
        fields = tab.fill(*values)
    except X2IError:
        return []
    files = (file for kind in ("images", "videos", "audios") for file in fields.get(kind, ()))
    return [file for file in files if Path(file).is_file()]
