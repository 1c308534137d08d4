"""LoRAs: choose one of this machine's or upload a file, each with its weight.

The choice is one value, a list of files and weights, which every tab's request takes. For programs it is the parameter
`loras`. A file is a name from the list or an upload; any other path, and any id of the hub, is refused.
"""

import html
from pathlib import Path
from typing import Annotated, Any

import gradio as gr
from gradio.data_classes import FileData, GradioModel, GradioRootModel
from pydantic import ConfigDict, Strict

from x2i_app.errors import InvalidRequestError, X2IError
from x2i_app.limits import LIMITS, show_value
from x2i_app.media import Recipe
from x2i_app.prompts import known_loras
from x2i_app.settings import Settings
from x2i_app.ui.context import BROWSER_ONLY, PRIVATE, Panel
from x2i_app.ui.i18n import PageError, Text, language_of

_SUFFIX = ".safetensors"
# Puts a trigger word at the end of the prompt of the open tab, once; a tab without a prompt leaves it to the first tab.
_ADD_WORD = """
element.addEventListener("click", event => {
  const word = event.target.closest("[data-word]")?.dataset.word;
  if (!word) return;
  const boxes = [...document.querySelectorAll("#tabs [role=tabpanel] textarea")];
  const box = boxes.find(each => each.checkVisibility()) ?? boxes[0];
  if (!box.value.includes(word)) box.value = [box.value.trim().replace(/,$/, ""), word].filter(Boolean).join(", ");
  box.dispatchEvent(new Event("input", {bubbles: true}));
  box.focus();
});
"""


class LoraChoice(GradioModel):
    """file: an upload, or the name of one of this machine; weight: 1 is as trained."""

    # Gradio's description of endpoints cannot read `"additionalProperties": false`.
    model_config = ConfigDict(extra="forbid", json_schema_extra=lambda schema: schema.pop("additionalProperties"))

    file: FileData | str
    weight: Annotated[float, Strict()] = 1.0


class LoraChoices(GradioRootModel):
    """The value of the parameter `loras`."""

    root: list[LoraChoice]


def lora_pairs(choices: LoraChoices | None, settings: Settings) -> tuple[tuple[str, float], ...]:
    """(path, weight) of each choice, for a request. Raises InvalidRequestError for a name that is not on the list."""
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
    """The files in which a recipe's LoRAs may be found: those that are chosen, and those of this machine."""
    if not recipe.request.loras:
        return []  # so that no file is hashed
    files = [*(path for path, _ in lora_pairs(choices, settings)), *map(str, known_loras(settings).values())]
    return [file for file in files if Path(file).is_file()]  # Gradio deletes files that are older than a day


def lora_choices(pairs: tuple[tuple[Any, float], ...], settings: Settings) -> list[dict[str, Any]]:
    """The parameter's value for a request's (path, weight) pairs: the inverse of `lora_pairs`."""
    names = {str(path): name for name, path in known_loras(settings).items()}
    return [{"file": names.get(str(file)) or _upload(str(file)), "weight": weight} for file, weight in pairs]


def _upload(path: str) -> dict[str, Any]:
    return {"path": path, "meta": {"_type": "gradio.FileData"}}


class LoraPanel(Panel):
    """Folded, beside the prompt. value: the choice; one row, with a weight, for each LoRA that a request may have.

    triggers: buttons that put a trigger word of a chosen LoRA into the prompt.
    """

    def build(self) -> None:
        # Not in the section: what is not on the page, as in a closed one, has no change events.
        self.value = gr.JSON([], label=Text("label.loras"), show_label=False, elem_classes="not-shown")
        self.value.data_model, self.value.api_info = LoraChoices, LoraChoices.model_json_schema
        self.files = gr.Textbox("", label="LoRA files", show_label=False, elem_classes="not-shown")
        with gr.Accordion(Text("label.loras"), open=False, elem_id="loras"):
            self._build_section()

    def _build_section(self) -> None:
        gr.Markdown(Text("lora.hint"))
        with gr.Row(elem_id="lora-add"):
            self.names = gr.Dropdown(
                list(known_loras(self.engine.settings)),
                value=None,
                label=Text("lora.add"),
                interactive=True,
                elem_id="lora-names",
                min_width=160,
                scale=2,
            )
            self.upload = gr.UploadButton(
                Text("lora.upload"), file_types=[_SUFFIX], size="sm", elem_id="lora-upload", min_width=120, scale=1
            )
        low, high = LIMITS.lora_weight.low, LIMITS.lora_weight.high
        self.rows, self.weights, self.removers = [], [], []
        for number in range(1, LIMITS.loras + 1):
            with gr.Row(visible=False, elem_id=f"lora-{number}", elem_classes="lora") as row:
                weight = gr.Slider(low, high, 1, step=0.05, label=Text("label.lora_weight"), interactive=True, scale=4)
                remove = gr.Button(Text("lora.remove"), size="sm", min_width=88, scale=0)
            self.rows.append(row)
            self.weights.append(weight)
            self.removers.append(remove)
        self.triggers = gr.HTML("", label="trigger words", container=False, elem_id="lora-words", js_on_load=_ADD_WORD)
        self.outputs = [self.value, *self.rows, *self.weights]

    def connect(self) -> None:
        self.names.select(add_known, [self.value, self.names], [*self.outputs, self.names], **PRIVATE)
        self.upload.upload(add_upload, [self.value, self.upload], self.outputs, **PRIVATE)
        for index, (weight, remove) in enumerate(zip(self.weights, self.removers, strict=True)):

            def remove_one(choices: LoraChoices | None, index=index):
                chosen = _as_list(choices)
                return show_loras(chosen[:index] + chosen[index + 1 :])

            remove.click(remove_one, self.value, self.outputs, **PRIVATE)
            # In the browser: while a slider moves, the server is not asked.
            set_weight = (
                f"(loras, weight) => loras && [loras.map((lora, i) => i === {index} ? {{...lora, weight}} : lora)]"
            )
            weight.change(None, [self.value, weight], self.value, js=set_weight, **BROWSER_ONLY)
        # Only another choice of files asks the server, and no weight.
        files = "loras => JSON.stringify((loras ?? []).map(lora => lora.file.path ?? lora.file))"
        self.value.change(None, self.value, self.files, js=files, **BROWSER_ONLY)

        def show_triggers(request: gr.Request, choices: LoraChoices | None) -> str:
            return triggers_html(choices, self.engine.settings, language_of(request))

        self.files.change(show_triggers, self.value, self.triggers, **PRIVATE)


def triggers_html(choices: LoraChoices | None, settings: Settings, language: str) -> str:
    """A button for each trigger word of the chosen LoRAs, as HTML; a LoRA that names none has no row."""
    from x2i_app.loading.lora_file import triggers

    rows = ""
    for path, _ in lora_pairs(choices, settings):
        try:
            found = triggers(path)
        except X2IError:
            continue  # Gradio deletes files that are older than a day; the next job says so
        title = html.escape(Text("lora.words").to(language, name=Path(path).stem))
        buttons = "".join(
            f'<button type="button" data-word="{html.escape(word)}">{html.escape(word)}</button>' for word in found
        )
        rows += f'<p role="group" aria-label="{title}">{title} {buttons}</p>' if found else ""
    return rows


def _add(choices: LoraChoices | None, file: str | dict[str, Any]) -> list[Any]:
    chosen = _as_list(choices)
    if len(chosen) >= LIMITS.loras:
        raise PageError("error.too_many_loras", count=LIMITS.loras)
    return show_loras([*chosen, {"file": file, "weight": 1.0}])


def add_known(choices: LoraChoices | None, name: str | None) -> list[Any]:
    """Add a LoRA of this machine's, and empty the dropdown."""
    return [*(_add(choices, name) if name else _unchanged()), None]


def add_upload(choices: LoraChoices | None, path: str | None) -> list[Any]:
    """Add an uploaded LoRA. Raises X2IError if the file is none."""
    from x2i_app.loading.lora import check_lora

    if not path:
        return _unchanged()
    check_lora(path)
    return _add(choices, _upload(path))


def _unchanged() -> list[Any]:
    return [gr.skip() for _ in range(1 + 2 * LIMITS.loras)]


def show_loras(chosen: list[dict[str, Any]]) -> list[Any]:
    """Values of `LoraPanel.outputs` for a choice."""
    shown = chosen[: LIMITS.loras]
    hidden = LIMITS.loras - len(shown)
    rows = [gr.Row(visible=True) for _ in shown] + [gr.Row(visible=False)] * hidden
    weights = [gr.Slider(value=lora["weight"], label=_name(lora["file"])) for lora in shown]
    return [chosen, *rows, *weights, *[gr.skip()] * hidden]


def _name(file: str | dict[str, Any]) -> str:
    return file if isinstance(file, str) else Path(file["path"]).stem


def _as_list(choices: LoraChoices | None) -> list[dict[str, Any]]:
    return choices.model_dump() if choices else []
