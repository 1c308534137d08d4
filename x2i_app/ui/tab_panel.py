"""One tab of the page: what it is for, its inputs, the Generate button, its examples."""

import gradio as gr

from x2i_app.ui.context import PageContext, Panel
from x2i_app.ui.conversation import Conversation
from x2i_app.ui.handlers import generate_handler
from x2i_app.ui.i18n import Text
from x2i_app.ui.input_preview import InputPreview
from x2i_app.ui.model_notice import ModelNotice
from x2i_app.ui.tabs import Tab
from x2i_app.ui.theme import NARROW


class TabPanel(Panel):
    """A tab. inputs: components in the order of `Tab.parameters`; generated: the event of its button's job."""

    def __init__(self, context: PageContext, tab: Tab):
        self.tab = tab
        super().__init__(context)

    def build(self) -> None:
        with gr.Tab(Text(f"tab.{self.tab.name}"), id=self.tab.name) as self.place:
            gr.Markdown(Text(f"hint.{self.tab.name}"))
            ModelNotice(self.context, self.tab)
            self.inputs = self.tab.build()
            self.preview = InputPreview(self.context, self)
            self.button = gr.Button(Text("generate"), variant="primary", size="lg", elem_id=f"generate-{self.tab.name}")
            if "history" in self.tab.parameters:
                Conversation(self.context, self)
            self._build_examples()
        if "control" in self.tab.parameters:
            control = self.input("control")
            control.visible = self.engine.has_light_control
            control.value = 1 if control.visible else 0
            self.model_outputs = [control]

    def input(self, parameter: str) -> gr.components.Component:
        """The component of a parameter."""
        return self.inputs[self.tab.parameters.index(parameter)]

    def _build_examples(self) -> None:
        examples = self.tab.examples()
        shown = gr.Examples(
            examples,
            self.inputs[: len(examples[0])],
            examples_per_page=6,
            label=Text("examples"),
            cache_examples=False,
            api_visibility="private",
            elem_id=f"examples-{self.tab.name}",
        )
        shown.dataset.headers = []  # Gradio would show its translations' raw JSON there
        if self.tab.name == "fusion":
            self.preview.refresh_on(shown.load_input_event.success)

    def connect(self) -> None:
        context = self.context
        self.generated = self.button.click(
            generate_handler(context.followers, self.tab),
            [*self.inputs, *context.settings.values, context.model.loras.value],
            context.result.outputs,
            # On a phone the result is above the button: scroll there.
            js="(...values) => { if (innerWidth <= NARROW) document.getElementById('result-view').scrollIntoView(); "
            "return (PREPARE)(values); }".replace("NARROW", str(NARROW)).replace("PREPARE", self.tab.prepare),
            api_name=self.tab.name,
            api_description=Text(f"hint.{self.tab.name}").en,
            concurrency_limit=None,
            show_progress="hidden",  # the page has its own
        )

    def model_values(self, language: str) -> list[gr.Slider]:
        control = self.engine.has_light_control
        return [gr.Slider(value=1 if control else 0, visible=control) for _ in self.model_outputs]
