"""The settings that all tabs share: size, steps, number of images, guidance, seed, reasoning, metadata."""

import html
import json
import math
from dataclasses import replace
from typing import Any

import gradio as gr

from x2i_app.limits import LIMITS, Range
from x2i_app.media.images import image_size
from x2i_app.request import FAST_STEPS, LATER_SETTINGS, SETTINGS, TRUE_CFG_SCALE
from x2i_app.settings import FORMATS
from x2i_app.specs import FluxSpec
from x2i_app.ui.context import BROWSER_ONLY, PRIVATE, Panel
from x2i_app.ui.i18n import PageError, Text, language_of
from x2i_app.ui.tabs import unconverted

SHAPES = ("1:1", "4:3", "3:2", "16:9", "3:4", "2:3", "9:16")
_FAR_LARGER = 1.7  # times the pixels of the model's own size: from here on, things repeat
# The shape that a width and a height have, within the rounding to multiples of 16; none if they have another.
_SHAPE_OF_SIZE = f"""(width, height) => {json.dumps(SHAPES)}.find(shape => {{
  const [w, h] = shape.split(":").map(Number), area = Math.sqrt(width * height / (w * h));
  return Math.abs(w * area - width) <= 8 && Math.abs(h * area - height) <= 8;
}}) ?? null"""


class SettingsPanel(Panel):
    """components: by the names of SETTINGS and LATER_SETTINGS; values, later: the same, in the order of each.

    format: of the image files.
    """

    def build(self) -> None:
        flux = self.engine.flux
        with gr.Accordion(Text("settings"), open=False, elem_id="settings"):
            with gr.Row():
                width = _slider("width", _sizes(flux), flux.resolution)
                height = _slider("height", _sizes(flux), flux.resolution)
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
            self.size_note = gr.HTML("", label="size", elem_id="size-note", container=False)
            with gr.Row():
                steps = _slider("steps", LIMITS.num_inference_steps, flux.num_inference_steps)
                count = _slider("count", LIMITS.num_images_per_prompt, 1)
            guidance = _slider(
                "guidance", LIMITS.guidance_scale, flux.guidance_scale, step=0.1, visible=flux.guidance_embeds
            )
            seed = unconverted(gr.Number(None, label=Text("label.seed"), info=Text("seed.hint"), precision=0))
            reason = unconverted(gr.Checkbox(False, label=Text("label.reason"), visible=not self._always_answers()))
            form = self.engine.settings.image_format
            self.format = unconverted(
                gr.Dropdown(list(FORMATS), value=form, label=Text("label.format"), interactive=True, elem_id="format")
            )
            negative, scale, fast = self._build_later()
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
            "negative_prompt": negative,
            "true_cfg_scale": scale,
            "fast": fast,
        }
        self.values = [self.components[name] for name in SETTINGS]
        self.later = [self.components[name] for name in LATER_SETTINGS]
        for component in (self.format, *self.later):
            component.may_be_left_out = True
        self.model_outputs = [width, height, steps, guidance, reason, negative, scale, fast]

    def _build_later(self) -> list[gr.components.Component]:
        """What only some FLUX models can: a negative prompt, and skipping most of FLUX in some steps."""
        flux = self.engine.flux
        negative = gr.Textbox(
            label=Text("label.negative_prompt"),
            lines=1,
            max_lines=4,
            visible=flux.true_cfg,
            elem_id="negative-prompt",
        )
        scale = _slider(
            "true_cfg_scale",
            LIMITS.true_cfg_scale,
            TRUE_CFG_SCALE,
            step=0.1,
            info=Text("true_cfg.hint"),
            visible=flux.true_cfg,
        )
        fast = gr.Checkbox(
            False, label=Text("label.fast"), info=Text("fast.hint"), visible=has_many_steps(flux), elem_id="fast"
        )
        return [unconverted(negative), scale, unconverted(fast)]

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
            return size_of_shape(*image_size(path), self.engine.flux.resolution)

        self.shape.input(set_shape, self.shape, size, **PRIVATE)
        images = [component for component in self.context.tab_inputs if isinstance(component, (gr.Image, gr.Gallery))]
        self.match.click(match_image, images, size, **PRIVATE)

        def note_size(request: gr.Request, width: Any, height: Any) -> str:
            return size_note(width, height, self.engine.flux.resolution, language_of(request))

        for side in size:
            side.change(None, size, self.shape, js=_SHAPE_OF_SIZE, **BROWSER_ONLY)
            side.release(note_size, size, self.size_note, **PRIVATE)
            side.change(note_size, size, self.size_note, **(PRIVATE | {"trigger_mode": "always_last"}))

        def set_metadata(request: gr.Request, is_written: bool):
            self.context.opt_out.set(request.session_hash, is_written is False)

        self.metadata.input(set_metadata, self.metadata, None, **PRIVATE)

    def model_values(self, language: str) -> list[Any]:
        flux = self.engine.flux
        side = gr.Slider(value=flux.resolution, maximum=_sizes(flux).high)
        return [
            side,
            side,
            flux.num_inference_steps,
            gr.Slider(value=flux.guidance_scale, visible=flux.guidance_embeds),
            gr.Checkbox(value=False, visible=not self._always_answers()),
            gr.Textbox(value="", visible=flux.true_cfg),
            gr.Slider(value=TRUE_CFG_SCALE, visible=flux.true_cfg),
            gr.Checkbox(value=False, visible=has_many_steps(flux)),
        ]

    def _always_answers(self) -> bool:
        """Whether the model's AlignNet reads the MLLM's answer, so that there is nothing to choose."""
        preset = self.engine.preset
        return preset is not None and preset.encoding.states != "prompt"


def _slider(name: str, allowed: Range, value: float, step: float = 1, **options: Any) -> gr.Slider:
    step = allowed.step or step
    return unconverted(gr.Slider(allowed.low, allowed.high, value, step=step, label=Text(f"label.{name}"), **options))


def has_many_steps(flux: FluxSpec) -> bool:
    """Whether a model runs enough steps to skip a part of them."""
    return flux.num_inference_steps >= FAST_STEPS


def _sizes(flux: FluxSpec) -> Range:
    """Sides that the page offers: up to twice the model's own. Programs may ask for any within LIMITS."""
    return replace(LIMITS.width, high=min(LIMITS.width.high, 2 * flux.resolution))


def size_note(width: Any, height: Any, resolution: int, language: str) -> str:
    """What to expect of a size with far more pixels than the model was trained for, as HTML; empty for others."""
    numbers = [side for side in (width, height) if isinstance(side, (int, float))]
    if len(numbers) < 2 or width * height <= _FAR_LARGER * resolution**2:
        return ""
    return f'<p role="status">{html.escape(Text("size.large").to(language, side=resolution))}</p>'


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
