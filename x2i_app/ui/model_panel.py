"""The model panel: what is loaded, and where that is allowed, another model in its place, or none."""

import asyncio
import html
import re
from collections.abc import AsyncIterator
from concurrent.futures import Future
from dataclasses import dataclass

import gradio as gr

from x2i_app.errors import EngineError, InvalidRequestError, X2IError
from x2i_app.presets import FLUX_MODELS
from x2i_app.serving.engine import Engine
from x2i_app.settings import PROFILES
from x2i_app.ui.handlers import as_gradio_error
from x2i_app.ui.i18n import texts
from x2i_app.ui.i18n.languages import language_of
from x2i_app.ui.i18n.model_needs import needs as needs_words
from x2i_app.ui.loras import Loras, build_loras
from x2i_app.ui.tabs import unconverted

_POLL_SECONDS = 0.2


@dataclass
class Panel:
    """Its components; `choices` are those that follow the model, `loras` what each request asks for beside it."""

    section: gr.Accordion
    preset: gr.Dropdown
    flux: gr.Dropdown
    profile: gr.Dropdown
    change: gr.Button
    unload: gr.Button
    facts: gr.HTML
    loras: Loras

    @property
    def choices(self) -> list[gr.components.Component]:
        """What the user chooses by."""
        return [self.preset, self.flux, self.profile]


def build_panel(engine: Engine) -> Panel:
    """The panel, folded; without its controls where visitors may not change the model."""
    may = engine.settings.may_switch
    with gr.Accordion(texts.MODEL, open=False, elem_id="model") as section:
        with gr.Row(visible=may):
            preset = unconverted(
                gr.Dropdown(engine.model.choices, label=texts.LABELS["preset"], elem_id="model-preset")
            )
            flux = unconverted(
                gr.Dropdown(
                    ["", *FLUX_MODELS],
                    label=texts.LABELS["flux"],
                    info=texts.FLUX_HINT,
                    allow_custom_value=engine.settings.is_private,
                    elem_id="model-flux",
                )
            )
            profile = unconverted(gr.Dropdown(list(PROFILES), label=texts.LABELS["profile"], elem_id="model-profile"))
        with gr.Row(visible=may):
            change = gr.Button(texts.CHANGE, variant="primary", size="md", elem_id="model-change")
            unload = gr.Button(texts.UNLOAD, size="md", elem_id="model-unload")
        facts = gr.HTML(label="model", elem_id="facts")  # told when it is opened
        loras = build_loras(engine)
    panel = Panel(section, preset, flux, profile, change, unload, facts, loras)
    for component, value in zip(panel.choices, chosen(engine), strict=True):
        component.value = value
    return panel


def chosen(engine: Engine) -> list[str]:
    """What the choices stand at: preset, FLUX ("" for the preset's own), profile."""
    settings = engine.settings
    return [settings.preset, settings.flux or "", settings.profile]


def connect_panel(engine: Engine, panel: Panel, refresh, outputs: list[gr.components.Component]) -> None:
    """refresh: what gives the rest of the page, `outputs`, its new values once the model has changed."""
    hidden = {"api_visibility": "undocumented", "concurrency_limit": None, "show_progress": "hidden"}

    def look(request: gr.Request) -> str:
        return show_facts(engine, language_of(request))

    changed = panel.change.click(change_handler(engine), panel.choices, panel.facts, api_name="switch", **hidden)
    unloaded = panel.unload.click(unload_handler(engine), None, panel.facts, api_name="unload", **hidden)
    for done in (changed, unloaded):
        done.then(refresh, None, outputs, api_visibility="private", queue=False, show_progress="hidden")
    gr.on(
        [choice.input for choice in panel.choices],
        needs_handler(engine),
        panel.choices,
        panel.facts,
        api_visibility="private",
        concurrency_limit=1,
        show_progress="hidden",
    )
    panel.section.expand(look, None, panel.facts, api_visibility="private", queue=False, show_progress="hidden")


def change_handler(engine: Engine):
    """Change the model, and tell what is being done meanwhile."""

    async def switch(request: gr.Request, preset: str, flux: str, profile: str) -> AsyncIterator[str]:
        """Change the model: preset, FLUX model, memory profile; empty ones stay as they are."""
        _check_allowed(engine)
        try:
            names = [name if isinstance(name, str) else "" for name in (preset, flux, profile)]
            _check_named(engine, *names[:2])
            done = engine.switch(engine.model.settings_for(*names))
        except X2IError as error:
            raise as_gradio_error(error) from error
        async for words in _follow(engine, done, language_of(request)):
            yield words

    return switch


def unload_handler(engine: Engine):
    """Let the model go."""

    async def unload(request: gr.Request) -> AsyncIterator[str]:
        """Let the model go and give its memory back; the next picture loads it again."""
        _check_allowed(engine)
        async for words in _follow(engine, engine.unload(), language_of(request)):
            yield words

    return unload


def needs_handler(engine: Engine):
    """Say what a model needs that is chosen and not loaded yet."""

    def needs(request: gr.Request, preset: str, flux: str, profile: str) -> str:
        _check_allowed(engine)
        try:
            names = [name if isinstance(name, str) else "" for name in (preset, flux, profile)]
            _check_named(engine, *names[:2])
            settings = engine.model.settings_for(*names)
            plan = engine.model.plan(settings)
        except X2IError as error:
            raise as_gradio_error(error) from error
        files = 2 * sum(part.parameters for part in plan.parts)  # bytes, of 16 bits each
        words = needs_words(settings.preset, plan.profile, files, plan.needed, plan.where, language_of(request))
        return f'<p role="status">{html.escape(words)}</p>{show_facts(engine, language_of(request))}'

    return needs


async def _follow(engine: Engine, done: "Future[None]", language: str) -> AsyncIterator[str]:
    said = None
    while not done.done():
        status = engine.status
        doing = texts.LOADING if status.state == "loading" else texts.FINDING
        words = f"{doing.to(language)}. {status.detail}"
        if words != said:
            said = words
            yield f'<p role="status">{html.escape(words)}</p><progress></progress>'
        await asyncio.sleep(_POLL_SECONDS)
    if error := done.exception():
        yield show_facts(engine, language)
        raise as_gradio_error(error if isinstance(error, X2IError) else EngineError(texts.FAILED.en))
    yield show_facts(engine, language)


def show_facts(engine: Engine, language: str = "en") -> str:
    """What is loaded, as HTML: its state, the FLUX model with its licence, and where each part was found."""
    status, flux = engine.status, engine.flux
    rows = {
        texts.STATE.to(language): f"{texts.STATES[status.state].to(language)} {status.detail}".strip(),
        "FLUX": texts.about_flux(flux, language),
        texts.LABELS["profile"].to(language): engine.settings.profile,
    } | _sources(engine)
    cells = "".join(f"<dt>{html.escape(name)}</dt><dd>{html.escape(value)}</dd>" for name, value in rows.items())
    return f"<dl>{cells}</dl>"


def _sources(engine: Engine) -> dict[str, str]:
    """Where each part was found; strangers see of a path the last name alone."""
    found = engine.model.sources
    return found if engine.settings.is_private else {name: re.split(r"[/\\]", said)[-1] for name, said in found.items()}


def _check_allowed(engine: Engine) -> None:
    if not engine.settings.may_switch:
        raise as_gradio_error(EngineError(texts.NO_SWITCH))


def _check_named(engine: Engine, preset: str, flux: str) -> None:
    """Folders of this machine, and names of the hub, are its owner's to give: strangers choose from the lists."""
    known = (preset in ("", *engine.model.choices), flux in ("", *FLUX_MODELS, engine.settings.flux))
    if not engine.settings.is_private and not all(known):
        raise as_gradio_error(InvalidRequestError(texts.NO_NAMES))
