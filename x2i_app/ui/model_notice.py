"""Which tabs the loaded model can serve. One that it cannot says so, and its button loads a model that can."""

from dataclasses import dataclass

import gradio as gr

from x2i_app.presets import presets_that_take
from x2i_app.serving.engine import Engine
from x2i_app.specs import Modality
from x2i_app.ui.i18n import texts
from x2i_app.ui.model_panel import Panel, change_handler
from x2i_app.ui.tabs import Tab


@dataclass
class Notice:
    """What a tab says of the model: nothing as long as it can be served."""

    tab: Tab
    words: gr.Markdown
    load: gr.Button

    @property
    def outputs(self) -> list[gr.components.Component]:
        """What `show` gives new values."""
        return [self.words, self.load]

    def show(self, engine: Engine, language: str) -> list[gr.components.Component]:
        """Their values with the model of now."""
        missing = missing_modality(engine, self.tab)
        words = texts.cannot_take(engine.settings.preset, missing).to(language) if missing else ""
        load = texts.load_other(who_can(missing)).to(language) if missing else ""
        may = bool(missing) and engine.settings.may_switch
        return [gr.Markdown(words, visible=bool(missing)), gr.Button(load, visible=may)]


def missing_modality(engine: Engine, tab: Tab) -> Modality | None:
    """What of the tab's input the model cannot take; None if it can be served, or if that is not known yet."""
    preset = engine.preset
    # Whisper writes down what is said where the MLLM cannot hear.
    needed = [modality for modality in tab.modalities if preset and modality != "audio"]
    return next((modality for modality in needed if modality not in preset.encoding.modalities), None)


def who_can(modality: Modality) -> str:
    """The preset that is offered for it: the first of the registry, which is the bundled one if that can."""
    return presets_that_take(modality)[0]


def build_notice(engine: Engine, tab: Tab) -> Notice:
    """At the top of a tab."""
    missing = missing_modality(engine, tab)
    words = gr.Markdown(texts.cannot_take(engine.settings.preset, missing) if missing else "", visible=bool(missing))
    may = bool(missing) and engine.settings.may_switch
    load = gr.Button(texts.load_other(who_can(missing)) if missing else "", visible=may, elem_id=f"load-{tab.name}")
    return Notice(tab, words, load)


def connect_notices(engine: Engine, notices: list[Notice], panel: Panel, refresh, outputs: list) -> None:
    """refresh: as for the model panel, which shows what the loading is doing."""
    hidden = {"api_visibility": "private", "show_progress": "hidden"}
    for notice in notices:
        switch = change_handler(engine)

        async def load(request: gr.Request, tab=notice.tab, switch=switch):
            missing = missing_modality(engine, tab)
            async for facts in switch(request, who_can(missing) if missing else "", "", ""):
                yield gr.Accordion(open=True), facts

        loaded = notice.load.click(load, None, [panel.section, panel.facts], concurrency_limit=None, **hidden)
        loaded.then(refresh, None, outputs, queue=False, **hidden)
