"""One tab of the page: what it is for, its inputs, the Generate button, its examples."""

from typing import Any

import gradio as gr

from x2i_app.controlnet import CONTROLNET_SETTINGS
from x2i_app.request import VIDEO_SETTINGS
from x2i_app.ui.browser import CLICK_GENERATE
from x2i_app.ui.context import BROWSER_ONLY, PageContext, Panel
from x2i_app.ui.conversation import Conversation
from x2i_app.ui.handlers import generate_handler
from x2i_app.ui.i18n import DEFAULT, LANGUAGES, Text
from x2i_app.ui.image_notice import ImageNotice
from x2i_app.ui.input_preview import InputPreview
from x2i_app.ui.model_notice import ModelNotice
from x2i_app.ui.tabs import Tab, unconverted
from x2i_app.ui.theme import NARROW


class TabPanel(Panel):
    """A tab. inputs: components in the order of `Tab.parameters`; generated: the event of its button's job.

    video_part: components in the order of VIDEO_SETTINGS, if the tab takes a video.
    """

    def __init__(self, context: PageContext, tab: Tab):
        self.tab = tab
        super().__init__(context)

    def build(self) -> None:
        with gr.Tab(Text(f"tab.{self.tab.name}"), id=self.tab.name) as self.place:
            gr.Markdown(Text(f"hint.{self.tab.name}"))
            ModelNotice(self.context, self.tab)
            self.inputs = self.tab.build()
            self.video_part = self._build_video_part() if self.tab.takes_video else []
            self.preview = InputPreview(self.context, self)
            ImageNotice(self.context, self)
            self.button = gr.Button(Text("generate"), variant="primary", size="lg", elem_id=f"generate-{self.tab.name}")
            if "history" in self.tab.parameters:
                Conversation(self.context, self)
            self._build_examples()
        if "control" in self.tab.parameters:
            control = self.input("control")
            control.visible = self.engine.has_light_control
            edit = self.input("edit")
            edit.visible = edit.value = self.engine.flux.takes_reference
            control.value = self._control_value()
            self.model_outputs = [control, edit]
        for name in self.tab.later:
            self.input(name).may_be_left_out = True

    def _build_video_part(self) -> list[gr.components.Component]:
        with gr.Row(elem_classes="video-part"):
            part = [
                unconverted(gr.Number(None, label=Text(f"label.{name}"), minimum=0, min_width=120))
                for name in VIDEO_SETTINGS
            ]
        for component in part:
            component.may_be_left_out = True
        return part

    def input(self, parameter: str) -> gr.components.Component:
        """The component of a parameter."""
        return self.inputs[self.tab.parameters.index(parameter)]

    def _build_examples(self) -> None:
        """One list for each language whose examples differ; the browser shows that of its own (theme.py)."""
        by_language = {language: self.tab.examples(language) for language in LANGUAGES}
        if all(examples == by_language[DEFAULT] for examples in by_language.values()):
            self._build_example_list(by_language[DEFAULT], f"examples-{self.tab.name}")
            return
        for language, examples in by_language.items():
            suffix = "" if language == DEFAULT else f"-{language}"
            with gr.Column(elem_classes=f"only-{language}"):
                self._build_example_list(examples, f"examples-{self.tab.name}{suffix}")

    def _build_example_list(self, examples: list[list[Any]], elem_id: str) -> None:
        shown = gr.Examples(
            examples,
            self.inputs[: len(examples[0])],
            examples_per_page=6,
            label=Text("examples"),
            cache_examples=False,
            api_visibility="private",
            elem_id=elem_id,
        )
        shown.dataset.headers = []  # Gradio would show its translations' raw JSON there
        started = shown.load_input_event.success(None, None, None, js=CLICK_GENERATE, **BROWSER_ONLY)
        if self.tab.name == "fusion":
            self.preview.refresh_on(started.then)

    def connect(self) -> None:
        context = self.context
        given = context.settings.components | {"loras": context.loras.value, "format": context.settings.format}
        given |= dict(zip(CONTROLNET_SETTINGS, context.controlnet.components, strict=True))
        given |= dict(zip(self.tab.parameters, self.inputs, strict=True))
        given |= dict(zip(VIDEO_SETTINGS, self.video_part, strict=False))
        self.generated = self.button.click(
            generate_handler(context.followers, self.tab),
            [given[name] for name in self.tab.endpoint_parameters],
            context.result.outputs,
            # On a phone the result appears above the button: scroll there.
            js="(...values) => { if (innerWidth <= NARROW) scrollTo({top: 0}); return (PREPARE)(values); }".replace(
                "NARROW", str(NARROW)
            ).replace("PREPARE", self.tab.prepare),
            api_name=self.tab.name,
            api_description=Text(f"hint.{self.tab.name}").en,
            concurrency_limit=None,
            show_progress="hidden",  # the page has its own
            trigger_mode="multiple",  # each click queues a job
        )

    def model_values(self, language: str) -> list[gr.Slider]:
        if not self.model_outputs:
            return []
        control, edit = self.engine.has_light_control, self.engine.flux.takes_reference
        return [gr.Slider(value=self._control_value(), visible=control), gr.Checkbox(value=edit, visible=edit)]

    def _control_value(self) -> int:
        """Where LightControl starts: off if the FLUX model itself keeps to the image."""
        return int(self.engine.has_light_control and not self.engine.flux.takes_reference)
