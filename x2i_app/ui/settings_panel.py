"""The settings that all tabs share: size, steps, number of images, guidance, seed, reasoning, metadata."""

import math
from typing import Any

import gradio as gr

from x2i_app.limits import LIMITS, Range
from x2i_app.media.images import open_image
from x2i_app.request import SETTINGS
from x2i_app.ui.context import BROWSER_ONLY, PRIVATE, Panel
from x2i_app.ui.i18n import PageError, Text
from x2i_app.ui.tabs import unconverted

SHAPES = ("1:1", "4:3", "3:2", "16:9", "3:4", "2:3", "9:16")


class SettingsPanel(Panel):
    """components: by the names of SETTINGS; values: the same in that order, as each tab's button sends them."""

    def build(self) -> None:
        flux = self.engine.flux
        with gr.Accordion(Text("settings"), open=False, elem_id="settings"):
            with gr.Row():
                width = _slider("width", LIMITS.width, flux.resolution)
                height = _slider("height", LIMITS.height, flux.resolution)
            with gr.Row(elem_id="sizes"):
                self.shape = gr.Dropdown(
                    list(SHAPES),
                    value="1:1",
                    label=Text("size.shape"),
                    interactive=True,
                    elem_id="shape",
                    min_width=96,
                    scale=2,
                )
                self.swap = gr.Button(Text("size.swap"), size="sm", min_width=96, elem_id="swap")
                self.match = gr.Button(Text("size.match"), size="sm", min_width=96, elem_id="match")
            with gr.Row():
                steps = _slider("steps", LIMITS.num_inference_steps, flux.num_inference_steps)
                count = _slider("count", LIMITS.num_images_per_prompt, 1)
            guidance = _slider(
                "guidance", LIMITS.guidance_scale, flux.guidance_scale, step=0.1, visible=flux.guidance_embeds
            )
            seed = unconverted(gr.Number(None, label=Text("label.seed"), info=Text("seed.hint"), precision=0))
            reason = unconverted(gr.Checkbox(False, label=Text("label.reason"), visible=not self._always_answers()))
            has_metadata = self.engine.settings.metadata
            self.metadata = gr.Checkbox(has_metadata, label=Text("metadata"), visible=has_metadata)
        self.components = {
            "width": width,
            "height": height,
            "steps": steps,
            "guidance": guidance,
            "seed": seed,
            "count": count,
            "reason": reason,
        }
        self.values = [self.components[name] for name in SETTINGS]
        self.model_outputs = [width, height, steps, guidance, reason]

    def connect(self) -> None:
        size = [self.components["width"], self.components["height"]]
        self.swap.click(None, size, size, js="(width, height) => [height, width]", **BROWSER_ONLY)

        def set_shape(shape: str):
            width, height = (float(part) for part in shape.split(":")) if shape in SHAPES else (1, 1)
            return size_of_shape(width, height, self.engine.flux.resolution)

        def match_image(*given):
            path = next((path for value in given for path in _paths(value)), None)
            if path is None:
                raise PageError("error.no_image_in_tab")
            with open_image(path) as image:
                return size_of_shape(*image.size, self.engine.flux.resolution)

        self.shape.input(set_shape, self.shape, size, **PRIVATE)
        images = [component for component in self.context.tab_inputs if isinstance(component, (gr.Image, gr.Gallery))]
        self.match.click(match_image, images, size, **PRIVATE)
        # Gradio shows an empty number as 0, which would be a seed: the browser empties it.
        self.context.page.load(None, None, self.components["seed"], js="() => null", **BROWSER_ONLY)

        def set_metadata(request: gr.Request, is_written: bool):
            self.context.opt_out.set(request.session_hash, is_written is False)

        self.metadata.input(set_metadata, self.metadata, None, **PRIVATE)

    def model_values(self, language: str) -> list[Any]:
        flux = self.engine.flux
        return [
            flux.resolution,
            flux.resolution,
            flux.num_inference_steps,
            gr.Slider(value=flux.guidance_scale, visible=flux.guidance_embeds),
            gr.Checkbox(value=False, visible=not self._always_answers()),
        ]

    def _always_answers(self) -> bool:
        """Whether the model's AlignNet reads the MLLM's answer, so that there is nothing to choose."""
        preset = self.engine.preset
        return preset is not None and preset.encoding.states != "prompt"


def _slider(name: str, allowed: Range, value: float, step: float = 1, **options: Any) -> gr.Slider:
    step = allowed.step or step
    return unconverted(gr.Slider(allowed.low, allowed.high, value, step=step, label=Text(f"label.{name}"), **options))


def size_of_shape(width: float, height: float, resolution: int) -> tuple[int, int]:
    """(width, height) in pixels of the shape width:height, with about resolution x resolution pixels.

    Both are multiples of 16 within what a request allows.
    """
    scale = resolution / math.sqrt(width * height)
    return _allowed(width * scale), _allowed(height * scale)


def _allowed(side: float) -> int:
    limit = LIMITS.width
    return int(min(max(limit.step * round(side / limit.step), limit.low), limit.high))


def _paths(value: Any) -> list[str]:
    """The files in the value of an image input or a gallery."""
    if isinstance(value, str):
        return [value]
    return [item[0] for item in value or [] if isinstance(item, (list, tuple)) and item]
