"""The ControlNet panel: the image that the loaded ControlNet follows, and how strongly; hidden without a ControlNet."""

from collections.abc import Mapping
from typing import Any

import gradio as gr

from x2i_app.controlnet import CONTROLNET_KINDS, CONTROLNET_SETTINGS
from x2i_app.limits import LIMITS
from x2i_app.ui.context import Panel
from x2i_app.ui.i18n import Text
from x2i_app.ui.tabs import image_file, unconverted


class ControlNetPanel(Panel):
    """Folded. components: in the order of CONTROLNET_SETTINGS."""

    def build(self) -> None:
        has = self.engine.has_controlnet
        with gr.Accordion(Text("controlnet"), open=False, visible=has, elem_id="controlnet") as self.section:
            image = image_file("controlnet_image", elem_id="controlnet-image")
            kind = gr.Dropdown(
                ["", *CONTROLNET_KINDS],
                value="",
                label=Text("label.controlnet_kind"),
                info=Text("controlnet_kind.hint"),
                interactive=True,
                elem_id="controlnet-kind",
            )
            strength = self._slider("strength", 1, 0.1)
            with gr.Row():
                start, end = self._slider("start", 0, 0.05), self._slider("end", 1, 0.05)
        self.components = [image, unconverted(kind), strength, start, end]
        for component in self.components:
            component.may_be_left_out = True
        self.model_outputs = [self.section]

    @staticmethod
    def _slider(name: str, value: float, step: float) -> gr.Slider:
        name = f"controlnet_{name}"
        allowed = getattr(LIMITS, name)
        hint = {"info": Text("controlnet_strength.hint")} if name == "controlnet_strength" else {}
        label = Text(f"label.{name}")
        return unconverted(gr.Slider(allowed.low, allowed.high, value, step=step, label=label, **hint))

    def model_values(self, language: str) -> list[Any]:
        return [gr.Accordion(visible=self.engine.has_controlnet)]


def controlnet_fields(given: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a request. Without an image the sliders mean nothing, wherever they are."""
    if not given.get("controlnet_image"):
        return {}
    return {name: given[name] for name in CONTROLNET_SETTINGS if given.get(name) not in (None, "")}
