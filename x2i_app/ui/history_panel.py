"""What can be done with a picture once it is there: its seed again or a new one, four more like it, all its settings
back from its file, and the pictures of this visit to look at, compare and take away.
"""

from dataclasses import dataclass, replace
from typing import Any

import gradio as gr

from x2i_app.errors import X2IError
from x2i_app.media import Recipe, read_recipe
from x2i_app.media.metadata import is_hash
from x2i_app.request import GenerationRequest
from x2i_app.serving.engine import Engine
from x2i_app.ui.browser import MAKE_NOW
from x2i_app.ui.handlers import as_gradio_error
from x2i_app.ui.history import Discreet, Kept, pack, present, remember
from x2i_app.ui.i18n import texts
from x2i_app.ui.i18n.languages import language_of
from x2i_app.ui.loras import LoraChoices, Loras, lora_choices, lora_files, show_loras
from x2i_app.ui.restore import files_in, tab_of, values_of
from x2i_app.ui.tabs import Tab

_QUIET: dict[str, Any] = {"api_visibility": "private", "concurrency_limit": None, "show_progress": "hidden"}
_MORE = 4
_SESSION_SECONDS = 86_400


@dataclass
class After:
    """The components of this part of the page."""

    keep_seed: gr.Button
    new_seed: gr.Button
    more: gr.Button


@dataclass
class Restore:
    """Where a picture's file is dropped; what is said of it; and what it asks for, while its files are awaited."""

    file: gr.File
    note: gr.HTML
    recipe: gr.State


@dataclass
class Session:
    """The strip below: this visit's pictures."""

    kept: gr.State
    picked: gr.State
    hint: gr.Markdown
    shelf: gr.Column
    strip: gr.Gallery
    reuse: gr.Button
    compare: gr.ImageSlider
    pack: gr.Button
    file: gr.DownloadButton


def build_after() -> After:
    """The buttons under the picture."""
    with gr.Row(elem_id="after"):
        keep_seed = gr.Button(texts.KEEP_SEED, size="sm", min_width=96, elem_id="keep-seed")
        new_seed = gr.Button(texts.NEW_SEED, size="sm", min_width=96, elem_id="new-seed")
        more = gr.Button(texts.MORE, size="sm", min_width=96, elem_id="more")
    return After(keep_seed, new_seed, more)


def build_restore() -> Restore:
    """The folded section with the place to drop a picture's file."""
    with gr.Accordion(texts.RESTORE, open=False, elem_id="restore"):
        file = gr.File(label=texts.RESTORE_FILE, file_types=[".png"], height=120)
        note = gr.HTML("", label="restored", elem_id="restored", container=False)
    return Restore(file, note, gr.State(None, time_to_live=_SESSION_SECONDS))


def build_session() -> Session:
    """The strip of this visit's pictures, which says what it is for until there is one."""
    with gr.Accordion(texts.SESSION, open=True, elem_id="visit"):
        hint = gr.Markdown(texts.SESSION_HINT)
        with gr.Column(visible=False) as shelf:
            strip = gr.Gallery(
                label=texts.SESSION,
                show_label=False,
                format="png",
                type="filepath",
                interactive=False,
                allow_preview=False,
                height=136,
                object_fit="contain",
                buttons=[],
                elem_id="strip",
            )
            with gr.Row():
                reuse = gr.Button(texts.REUSE, size="sm", min_width=96, elem_id="reuse")
                pack_all = gr.Button(texts.PACK, size="sm", min_width=96, elem_id="pack")
            with gr.Accordion(texts.COMPARE, open=False, elem_id="compare"):
                slider = {"type": "filepath", "format": "png", "interactive": False, "buttons": [], "max_height": 384}
                compare = gr.ImageSlider(label=texts.COMPARE, show_label=False, height=386, **slider)
            file = gr.DownloadButton(texts.PACK, elem_id="pack-file", elem_classes="unseen")
    kept, picked = (gr.State([], time_to_live=_SESSION_SECONDS) for _ in range(2))
    return Session(kept, picked, hint, shelf, strip, reuse, compare, pack_all, file)


def connect_after(
    engine: Engine,
    after: After,
    restored: Restore,
    session: Session,
    result: Any,
    tabs: gr.Tabs,
    drawn: list[tuple[Tab, gr.Button, list[gr.components.Component]]],
    settings: dict[str, gr.components.Component],
    loras: Loras,
    discreet: Discreet,
) -> None:
    """result: the right side of the page; drawn: each tab with its button and inputs; settings: components by name."""
    seed = settings["seed"]
    keep = "report => report?.seeds ? report.seeds[0] : null"
    after.keep_seed.click(None, result.report, seed, js=keep, api_visibility="private")
    after.new_seed.click(None, None, seed, js="() => null", api_visibility="private")

    def note_images(request: gr.Request, kept: list[Kept], job: str):
        new = present(remember(engine, kept, job, discreet.settings(engine.settings, request.session_hash or "")))
        picked = gr.skip() if len(new) == len(kept) else []  # the places of the others have changed
        return new, picked, _strip(new), gr.Column(visible=bool(new)), gr.Markdown(visible=not new)

    shelf = [session.kept, session.picked, session.strip, session.shelf, session.hint]
    result.report.change(note_images, [session.kept, result.job], shelf, **_QUIET)

    inputs_of_tabs = [component for _, _, inputs in drawn for component in inputs]
    home = [tabs, *settings.values(), *inputs_of_tabs, *loras.outputs]

    def put_back(request: GenerationRequest) -> list[Any]:
        values = values_of(request, list(settings))
        fields = [value for tab, _, _ in drawn for value in values[tab.name]]
        chosen = lora_choices([pair for pair in request.loras if not is_hash(pair[0])], engine.settings)
        return [gr.Tabs(selected=tab_of(request)), *values["settings"], *fields, *show_loras(chosen)]

    def restore(request: gr.Request, path: str | None, choices: LoraChoices | None, kept: list[Kept], *inputs):
        if not path:
            return [None, "", *(gr.skip() for _ in home)]
        try:
            recipe = read_recipe(path)
            files = [*lora_files(recipe, choices, engine.settings), *(image.path for image in present(kept))]
        except X2IError as error:
            raise as_gradio_error(error) from error
        given = list(inputs)
        for tab, _, components in drawn:
            values, given = given[: len(components)], given[len(components) :]
            files += files_in(tab, values)
        whole = recipe.with_known(files)
        # What was drawn in this visit is no file of a tab, and nobody takes it away: it is there for good.
        recipe = replace(recipe, request=replace(recipe.request, source_image=whole.source_image))
        return [recipe, _tell(recipe, files, language_of(request)), *put_back(whole)]

    given = [restored.file, loras.value, session.kept, *inputs_of_tabs]
    restored.file.change(restore, given, [restored.recipe, restored.note, *home], **_QUIET)
    for tab, _, inputs in drawn:
        _watch(engine, tab, inputs, loras, restored)

    def pick(request: gr.Request, kept: list[Kept], picked: list[int], event: gr.SelectData):
        here = present(kept)
        if type(event.index) is not int or not 0 <= event.index < len(here):
            return [gr.skip() for _ in shown]
        picked = [*(index for index in picked if index != event.index), event.index][-2:]
        chosen = here[event.index]
        pair = tuple(here[index].path for index in picked if index < len(here))
        return (
            picked,
            [chosen.path],
            _report(chosen),
            pair if len(pair) == 2 else gr.skip(),
            chosen.job,
            _say(chosen, request),
        )

    shown = [session.picked, result.images, result.report, session.compare, result.job, result.progress]
    session.strip.select(pick, [session.kept, session.picked], shown, **_QUIET)

    def chosen(kept: list[Kept], picked: list[int]) -> Kept:
        here = present(kept)
        if not here:
            raise gr.Error(texts.NOTHING_YET, duration=10, title=texts.FAILED.en, print_exception=False)
        return here[picked[-1] if picked and picked[-1] < len(here) else 0]

    def reuse(kept: list[Kept], picked: list[int]):
        return put_back(chosen(kept, picked).request)

    def ask_for_more(kept: list[Kept], picked: list[int]):
        return put_back(replace(chosen(kept, picked).request, seed=None, num_images_per_prompt=_MORE))

    session.reuse.click(reuse, [session.kept, session.picked], home, **_QUIET)
    # The same words and files with new seeds: the engine remembers what the MLLM understood of them.
    after.more.click(ask_for_more, [session.kept, session.picked], home, **_QUIET).success(
        None, None, None, js=MAKE_NOW, api_visibility="private"
    )

    def pack_all(kept: list[Kept]):
        if not present(kept):
            raise gr.Error(texts.NOTHING_YET, duration=10, title=texts.FAILED.en, print_exception=False)
        try:
            return pack(present(kept))
        except X2IError as error:
            raise as_gradio_error(error) from error

    session.pack.click(pack_all, session.kept, session.file, **_QUIET).success(
        None, None, None, js="() => document.querySelector('#pack-file').click()", api_visibility="private"
    )


def connect_discretion(metadata: gr.Checkbox, discreet: Discreet) -> None:
    """The switch that leaves the settings out of this visit's files."""

    def choose(request: gr.Request, written: bool):
        discreet.set(request.session_hash, written is False)

    metadata.input(choose, metadata, None, **_QUIET)


def _watch(engine: Engine, tab: Tab, inputs: list[gr.components.Component], loras: Loras, restored: Restore) -> None:
    """While a recipe waits for its files, say which of them have come."""

    def check(request: gr.Request, recipe: Recipe | None, choices: LoraChoices | None, *values):
        if recipe is None or tab.name != tab_of(recipe.request):
            return gr.skip()
        files = [*files_in(tab, values), *lora_files(recipe, choices, engine.settings)]
        return _tell(recipe, files, language_of(request))

    for component in inputs:
        if isinstance(component, (gr.Image, gr.Gallery, gr.Video, gr.Audio, gr.MultimodalTextbox)):
            component.change(check, [restored.recipe, loras.value, *inputs], restored.note, **_QUIET)


def _tell(recipe: Recipe, files: list[Any], language: str) -> str:
    return f'<p role="status">{texts.restored(recipe.missing(files), language)}</p>'


def _strip(kept: list[Kept]) -> list[tuple[str, str]]:
    return [(image.path, image.caption) for image in kept]


def _say(image: Kept, request: gr.Request) -> str:
    made = image.request
    said = texts.shown_again(made.seed, made.width, made.height, made.num_inference_steps, language_of(request))
    return f"<p>{said}</p>"


def _report(image: Kept) -> dict[str, Any]:
    request = image.request
    return {
        "seeds": [request.seed],
        "width": request.width,
        "height": request.height,
        "steps": request.num_inference_steps,
        "guidance": request.guidance_scale,
        "control": request.control_strength,
        "loras": request.lora_weights,
        "prompt": request.prompt,
        "preset": image.preset,
    }
