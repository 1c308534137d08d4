"""A notice in a tab that the loaded model cannot serve, with a button that loads a model that can."""

import gradio as gr

from x2i_app.presets import presets_that_take
from x2i_app.serving.engine import Engine
from x2i_app.specs import Modality
from x2i_app.ui.context import PRIVATE, PageContext, Panel
from x2i_app.ui.i18n import Text
from x2i_app.ui.model_panel import switch_handler
from x2i_app.ui.tabs import Tab


class ModelNotice(Panel):
    """At the top of a tab, and hidden while the model can serve it."""

    def __init__(self, context: PageContext, tab: Tab):
        self.tab = tab
        super().__init__(context)

    def build(self) -> None:
        missing = missing_modality(self.engine, self.tab)
        self.message = gr.Markdown(Text(f"unsupported.{missing}") if missing else "", visible=bool(missing))
        self.load = gr.Button(
            f"{Text('model.load_other')} {preset_for(missing)}" if missing else "",
            visible=bool(missing) and self.engine.settings.may_switch,
            elem_id=f"load-{self.tab.name}",
        )
        self.model_outputs = [self.message, self.load]

    def connect(self) -> None:
        model, switch = self.context.model, switch_handler(self.engine)

        async def load(request: gr.Request):
            missing = missing_modality(self.engine, self.tab)
            async for facts in switch(request, preset_for(missing) if missing else "", "", ""):
                yield gr.Accordion(open=True), facts

        loaded = self.load.click(load, None, [model.section, model.facts], **PRIVATE)
        model.refresh_on(loaded.then)

    def model_values(self, language: str) -> list[gr.components.Component]:
        missing = missing_modality(self.engine, self.tab)
        if not missing:
            return [gr.Markdown("", visible=False), gr.Button("", visible=False)]
        message = Text(f"unsupported.{missing}").to(language)
        button = f"{Text('model.load_other').to(language)} {preset_for(missing)}"
        return [
            gr.Markdown(message, visible=True),
            gr.Button(button, visible=self.engine.settings.may_switch),
        ]


def missing_modality(engine: Engine, tab: Tab) -> Modality | None:
    """The modality of the tab's input that the model does not support; None if there is none or it is unknown yet."""
    preset = engine.preset
    # Whisper transcribes audio for an MLLM that cannot hear.
    needed = [modality for modality in tab.modalities if preset and modality != "audio"]
    return next((modality for modality in needed if modality not in preset.encoding.modalities), None)


def preset_for(modality: Modality) -> str:
    """The first preset of the registry that supports a modality, which is the bundled one if it does."""
    return presets_that_take(modality)[0]
