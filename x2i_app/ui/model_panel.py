"""The model panel: what is loaded and, if the owner allows it, loading another model or none."""

import asyncio
import html
import re
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future
from typing import Any

import gradio as gr

from x2i_app.presets import FLUX_MODELS
from x2i_app.serving.engine import Engine
from x2i_app.serving.model_manager import plan_model
from x2i_app.settings import PROFILES
from x2i_app.ui.context import IMMEDIATE, PRIVATE, Panel
from x2i_app.ui.i18n import DEFAULT, PageError, Text, language_of, translate
from x2i_app.ui.tabs import unconverted

_POLL_SECONDS = 0.2


class ModelPanel(Panel):
    """Folded. choices: preset, FLUX model and memory profile; facts: what is loaded."""

    def build(self) -> None:
        settings = self.engine.settings
        with gr.Accordion(Text("model"), open=False, elem_id="model") as self.section:
            with gr.Row(visible=settings.may_switch):
                preset = gr.Dropdown(self.engine.choices, label=Text("label.preset"), elem_id="model-preset")
                flux = gr.Dropdown(
                    ["", *FLUX_MODELS],
                    label=Text("label.flux"),
                    info=Text("flux.hint"),
                    allow_custom_value=settings.is_private,
                    elem_id="model-flux",
                )
                profile = gr.Dropdown(list(PROFILES), label=Text("label.profile"), elem_id="model-profile")
            with gr.Row(visible=settings.may_switch):
                self.change = gr.Button(Text("model.change"), variant="primary", size="md", elem_id="model-change")
                self.unload = gr.Button(Text("model.unload"), size="md", elem_id="model-unload")
            self.facts = gr.HTML(label="model", elem_id="facts")  # filled when the section is opened
        self.choices = [unconverted(component) for component in (preset, flux, profile)]
        for component, value in zip(self.choices, self._chosen(), strict=True):
            component.value = value
        self.model_outputs = [self.facts, *self.choices]
        self._built_for = settings

    def connect(self) -> None:
        outputs = self._page_outputs()

        def refresh_if_changed(request: gr.Request):
            return [gr.skip()] * len(outputs) if self.engine.settings == self._built_for else self.refresh(request)

        # The page was built for one model. Pages that are opened later show the model that is loaded then.
        self.context.page.load(refresh_if_changed, None, outputs, **IMMEDIATE)
        endpoint = {"api_visibility": "undocumented", "concurrency_limit": None, "show_progress": "hidden"}
        changed = self.change.click(
            switch_handler(self.engine), self.choices, self.facts, api_name="switch", **endpoint
        )
        unloaded = self.unload.click(unload_handler(self.engine), None, self.facts, api_name="unload", **endpoint)
        self.refresh_on(changed.then)
        self.refresh_on(unloaded.then)
        gr.on(
            [choice.input for choice in self.choices],
            needs_handler(self.engine),
            self.choices,
            self.facts,
            api_visibility="private",
            concurrency_limit=1,
            show_progress="hidden",
        )

        async def show(request: gr.Request) -> AsyncIterator[str]:
            language = language_of(request)
            yield show_facts(self.engine, language)
            while self.engine.status.state == "loading":
                await asyncio.sleep(_POLL_SECONDS)
                yield show_facts(self.engine, language)

        self.section.expand(show, None, self.facts, **PRIVATE)

    def refresh_on(self, event: Callable) -> None:
        """Show the loaded model everywhere on the page when `event` happens."""
        event(self.refresh, None, self._page_outputs(), **IMMEDIATE)

    def _page_outputs(self) -> list[gr.blocks.Block]:
        return [output for panel in self.context.panels for output in panel.model_outputs]

    def refresh(self, request: gr.Request) -> list[Any]:
        """Values for the loaded model, of every panel."""
        language = language_of(request)
        return [value for panel in self.context.panels for value in panel.model_values(language)]

    def model_values(self, language: str) -> list[str]:
        return [show_facts(self.engine, language), *self._chosen()]

    def _chosen(self) -> list[str]:
        """Values of `choices`: preset, FLUX model ("" for the preset's own), profile."""
        settings = self.engine.settings
        return [settings.preset, settings.flux or "", settings.profile]


def switch_handler(engine: Engine) -> Callable[..., AsyncIterator[str]]:
    """Load another model, and show what is being done."""

    async def switch(request: gr.Request, preset: str, flux: str, profile: str) -> AsyncIterator[str]:
        """Load another model: preset, FLUX model, memory profile. What is empty stays as it is."""
        done = engine.switch(_settings_for(engine, preset, flux, profile))
        async for facts in _follow(engine, done, language_of(request)):
            yield facts

    return switch


def unload_handler(engine: Engine) -> Callable[..., AsyncIterator[str]]:
    """Unload the model."""

    async def unload(request: gr.Request) -> AsyncIterator[str]:
        """Unload the model and free its memory. The next job loads it again."""
        _check_allowed(engine)
        async for facts in _follow(engine, engine.unload(), language_of(request)):
            yield facts

    return unload


def needs_handler(engine: Engine) -> Callable[..., str]:
    """Say what the chosen model would need before it is loaded."""

    def needs(request: gr.Request, preset: str, flux: str, profile: str) -> str:
        settings = _settings_for(engine, preset, flux, profile)
        plan = plan_model(settings)
        language = language_of(request)
        text = Text(f"model.needs_{plan.where}").to(
            language,
            preset=settings.preset,
            profile=plan.profile,
            files=f"{2 * sum(part.parameters for part in plan.parts) / 1e9:.3g}",  # of 16 bits each
            memory=f"{plan.needed / 2**30:.1f}",
        )
        return f'<p role="status">{html.escape(text)}</p>{show_facts(engine, language)}'

    return needs


def _settings_for(engine: Engine, preset: Any, flux: Any, profile: Any):
    """The settings with these choices. Raises X2IError if one is unknown or not allowed."""
    _check_allowed(engine)
    preset, flux, profile = (value if isinstance(value, str) else "" for value in (preset, flux, profile))
    # Folders of this machine and ids of the hub are for its owner: strangers choose from the lists.
    is_listed = preset in ("", *engine.choices) and flux in ("", *FLUX_MODELS, engine.settings.flux)
    if not engine.settings.is_private and not is_listed:
        raise PageError("error.listed_models_only")
    return engine.settings_for(preset, flux, profile)


def _check_allowed(engine: Engine) -> None:
    if not engine.settings.may_switch:
        raise PageError("error.no_switch")


async def _follow(engine: Engine, done: "Future[None]", language: str) -> AsyncIterator[str]:
    shown = None
    while not done.done():
        status = engine.status
        phase = Text("model.loading" if status.state == "loading" else "model.finding")
        text = f"{phase.to(language)}{Text('stop_mark').to(language)}{translate(status.detail, language)}"
        if text != shown:
            shown = text
            yield f'<p role="status">{html.escape(text)}</p><progress></progress>'
        await asyncio.sleep(_POLL_SECONDS)
    yield show_facts(engine, language)
    done.result()  # raises what went wrong


def show_facts(engine: Engine, language: str = DEFAULT) -> str:
    """What is loaded, as HTML: its state, the FLUX model with its license, and where each part was found."""
    status, flux = engine.status, engine.flux
    rows = {
        Text("model.state").to(
            language
        ): f"{Text(f'state.{status.state}').to(language)} {translate(status.detail, language)}".strip(),
        "FLUX": Text("model.flux_guidance" if flux.guidance_embeds else "model.flux").to(
            language,
            name=flux.name,
            steps=flux.num_inference_steps,
            guidance=f"{flux.guidance_scale:g}",
            license=flux.license,
        ),
        Text("label.profile").to(language): engine.settings.profile,
    } | _sources(engine)
    cells = "".join(f"<dt>{html.escape(name)}</dt><dd>{html.escape(value)}</dd>" for name, value in rows.items())
    return f"<dl>{cells}</dl>"


def _sources(engine: Engine) -> dict[str, str]:
    """Where each part was found. Strangers see only the last name of a path."""
    found = engine.sources
    return found if engine.settings.is_private else {name: re.split(r"[/\\]", path)[-1] for name, path in found.items()}
