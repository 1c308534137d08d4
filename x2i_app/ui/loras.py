"""LoRAs on the page: those of this machine to choose from, one's own to upload, each with its weight.

What is chosen is one value, a list of files and weights, which every tab's request takes; for programs it is the
parameter `loras`. A file is a name from the list, or an upload; no other path, and no name of the hub, is followed.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import gradio as gr
from gradio.data_classes import FileData, GradioModel, GradioRootModel
from pydantic import ConfigDict, Strict

from x2i_app.errors import InvalidRequestError, X2IError
from x2i_app.limits import LIMITS, show_value
from x2i_app.media import Recipe
from x2i_app.serving.engine import Engine
from x2i_app.settings import ASSETS, Settings
from x2i_app.ui.i18n import texts
from x2i_app.ui.progress import as_gradio_error

_SUFFIX = ".safetensors"
_QUIET: dict[str, Any] = {"api_visibility": "private", "concurrency_limit": None, "show_progress": "hidden"}


class LoraChoice(GradioModel):
    """file: an upload, or the name of one of this machine; weight: 1 is as trained."""

    # Gradio's description of endpoints cannot read `"additionalProperties": false`.
    model_config = ConfigDict(extra="forbid", json_schema_extra=lambda schema: schema.pop("additionalProperties"))

    file: FileData | str
    weight: Annotated[float, Strict()] = 1.0


class LoraChoices(GradioRootModel):
    """What the parameter `loras` holds."""

    root: list[LoraChoice]


@dataclass
class Loras:
    """value: what is chosen; the rows show it, one for each LoRA that a request may have."""

    value: gr.JSON
    rows: list[gr.Row]
    weights: list[gr.Slider]
    names: gr.Dropdown

    @property
    def outputs(self) -> list[gr.blocks.Block]:
        """What `show_loras` gives new values."""
        return [self.value, *self.rows, *self.weights]


def known_loras(settings: Settings) -> dict[str, Path]:
    """The LoRA files of this machine by name: the bundled ones, and those in `loras` in the models folder."""
    folders = (ASSETS / "examples/loras", Path(settings.models) / "loras")
    return {path.stem: path for folder in folders for path in sorted(folder.glob(f"*{_SUFFIX}"))}


def lora_pairs(choices: LoraChoices | None, settings: Settings) -> tuple[tuple[str, float], ...]:
    """What a request takes of it. Raises InvalidRequestError for a name that is not of this machine."""
    known = known_loras(settings)
    pairs = []
    for choice in choices.root if choices else ():
        if isinstance(choice.file, FileData):
            path = choice.file.path
        elif choice.file in known:
            path = str(known[choice.file])
        else:
            raise InvalidRequestError(
                f"There is no LoRA {show_value(choice.file)} here; choose from {', '.join(known) or 'none'}, or upload "
                f"a {_SUFFIX} file."
            )
        pairs.append((path, choice.weight))
    return tuple(pairs)


def lora_files(recipe: Recipe, choices: LoraChoices | None, settings: Settings) -> list[str]:
    """The LoRA files that are at hand for a recipe that asks for some: those chosen, and those of this machine."""
    if not recipe.request.loras:
        return []  # they need not be hashed then
    files = [*(path for path, _ in lora_pairs(choices, settings)), *map(str, known_loras(settings).values())]
    return [file for file in files if Path(file).is_file()]  # Gradio clears its folder of what is older than a day


def lora_choices(pairs: tuple[tuple[Any, float], ...], settings: Settings) -> list[dict[str, Any]]:
    """The value that stands for a request's LoRAs: the other way round."""
    names = {str(path): name for name, path in known_loras(settings).items()}
    return [{"file": names.get(str(file)) or _upload(str(file)), "weight": weight} for file, weight in pairs]


def _upload(path: str) -> dict[str, Any]:
    return {"path": path, "meta": {"_type": "gradio.FileData"}}


def build_loras(engine: Engine) -> Loras:
    """A choice, an upload, and a row for each that is chosen."""
    value = gr.JSON([], label=texts.LABELS["loras"], visible=False)
    value.data_model, value.api_info = LoraChoices, LoraChoices.model_json_schema
    gr.Markdown(texts.LORA_HINT)
    with gr.Row(elem_id="lora-add"):
        names = gr.Dropdown(
            list(known_loras(engine.settings)),
            value=None,
            label=texts.LORA_ADD,
            interactive=True,
            elem_id="lora-names",
            min_width=160,
            scale=2,
        )
        upload = gr.UploadButton(
            texts.LORA_UPLOAD, file_types=[_SUFFIX], size="sm", elem_id="lora-upload", min_width=120, scale=1
        )
    allowed = LIMITS.lora_weight
    rows, weights, removers = [], [], []
    for place in range(LIMITS.loras):
        with gr.Row(visible=False, elem_id=f"lora-{place + 1}", elem_classes="lora") as row:
            weight = gr.Slider(
                allowed.low, allowed.high, 1, step=0.05, label=texts.LABELS["lora_weight"], interactive=True, scale=4
            )
            remove = gr.Button(texts.LORA_REMOVE, size="sm", min_width=88, scale=0)
        rows.append(row)
        weights.append(weight)
        removers.append(remove)
    loras = Loras(value, rows, weights, names)
    _connect(loras, upload, removers)
    return loras


def show_loras(chosen: list[dict[str, Any]]) -> list[Any]:
    """Updates of `Loras.outputs` for a value."""
    shown = chosen[: LIMITS.loras]
    spare = LIMITS.loras - len(shown)
    rows = [gr.Row(visible=True) for _ in shown] + [gr.Row(visible=False)] * spare
    weights = [gr.Slider(value=one["weight"], label=_name(one["file"])) for one in shown]
    return [chosen, *rows, *weights, *[gr.skip()] * spare]


def _name(file: str | dict[str, Any]) -> str:
    return file if isinstance(file, str) else Path(file["path"]).stem


def _connect(loras: Loras, upload: gr.UploadButton, removers: list[gr.Button]) -> None:
    def add(choices: LoraChoices | None, file: str | dict[str, Any]):
        chosen = _plain(choices)
        if len(chosen) >= LIMITS.loras:
            raise as_gradio_error(
                InvalidRequestError(f"{LIMITS.loras} LoRAs are chosen, which is all that can be mixed; remove one.")
            )
        return show_loras([*chosen, {"file": file, "weight": 1.0}])

    def add_known(choices: LoraChoices | None, name: str | None):
        return [*(add(choices, name) if name else [gr.skip() for _ in loras.outputs]), None]

    def add_upload(choices: LoraChoices | None, path: str | None):
        from x2i_app.loading.lora import check_lora

        if not path:
            return [gr.skip() for _ in loras.outputs]
        try:
            check_lora(path)
        except X2IError as error:
            raise as_gradio_error(error) from error
        return add(choices, _upload(path))

    loras.names.select(add_known, [loras.value, loras.names], [*loras.outputs, loras.names], **_QUIET)
    upload.upload(add_upload, [loras.value, upload], loras.outputs, **_QUIET)
    for place, (weight, remove) in enumerate(zip(loras.weights, removers, strict=True)):

        def drop(choices: LoraChoices | None, place=place):
            chosen = _plain(choices)
            return show_loras(chosen[:place] + chosen[place + 1 :])

        remove.click(drop, loras.value, loras.outputs, **_QUIET)
        # In the browser: a slider that is being drawn along asks the server nothing.
        weigh = f"(chosen, weight) => chosen && [chosen.map((one, at) => at === {place} ? {{...one, weight}} : one)]"
        weight.change(None, [loras.value, weight], loras.value, js=weigh, api_visibility="private")


def _plain(choices: LoraChoices | None) -> list[dict[str, Any]]:
    return choices.model_dump() if choices else []
