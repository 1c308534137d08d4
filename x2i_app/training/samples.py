"""What teacher and student draw of some captions, side by side in one PNG, so that a training can be seen."""

import textwrap
from pathlib import Path

import torch
from diffusers import FlowMatchEulerDiscreteScheduler, FluxPipeline
from PIL import Image, ImageDraw

from x2i_app.training.captions import CaptionBatches
from x2i_app.training.comparison import FluxParts
from x2i_app.training.distill_options import DistillOptions

_TILE, _GAP, _NAME, _LINE = 256, 8, 32, 14  # pixels
_LINES, _CHARACTERS = 4, 40  # of a caption
_PAPER, _INK = (255, 255, 255), (32, 34, 46)


class SampleSheets:
    """Called with an AlignNet and a step, writes samples/step-00000100.png into `directory`: a caption a column.

    The first captions of the corpus are drawn, each from the noise of its own seed. What the teacher draws of them is
    drawn once. The VAE is moved to `device`.
    """

    def __init__(
        self, flux: FluxParts, batches: CaptionBatches, options: DistillOptions, directory: Path, device: torch.device
    ):
        self.batches, self.options, self.directory, self.device = batches, options, directory / "samples", device
        nothing = dict.fromkeys(("text_encoder", "tokenizer", "text_encoder_2", "tokenizer_2"))
        scheduler = FlowMatchEulerDiscreteScheduler.from_config(flux.scheduler.config)
        self.pipeline = FluxPipeline(scheduler, flux.vae.to(device), transformer=flux.transformer, **nothing)
        self.pipeline.set_progress_bar_config(disable=True)
        self.captions = batches.states.captions[: options.samples]
        self._taught: list[Image.Image] = []

    @torch.no_grad()
    def __call__(self, align_net: torch.nn.Module, step: int) -> None:
        batches = [self.batches.complete(self.batches.read([index])) for index in range(len(self.captions))]
        if not self._taught:
            self._taught = [self._draw(i, b["prompt_embeds"], b["pooled"]) for i, b in enumerate(batches)]
        states = (batch["hidden_states"].to(self.device, torch.float32) for batch in batches)
        drawn = [self._draw(index, *align_net(each)) for index, each in enumerate(states)]
        self.directory.mkdir(parents=True, exist_ok=True)
        sheet = compose(self.captions, {"teacher": self._taught, f"student, step {step}": drawn})
        sheet.save(self.directory / f"step-{step:08d}.png")

    def _draw(self, seed: int, prompt_embeds: torch.Tensor, pooled: torch.Tensor) -> Image.Image:
        dtype = self.pipeline.transformer.dtype
        return self.pipeline(
            prompt_embeds=prompt_embeds.to(self.device, dtype),
            pooled_prompt_embeds=pooled.to(self.device, dtype),
            width=self.options.resolution,
            height=self.options.resolution,
            num_inference_steps=self.options.num_inference_steps,
            guidance_scale=self.options.guidance_scale,
            generator=torch.Generator().manual_seed(seed),
        ).images[0]


def compose(captions: list[str], rows: dict[str, list[Image.Image]]) -> Image.Image:
    """Rows of pictures below each other, each with its name, and the captions on top."""
    step = _TILE + _GAP
    head = _GAP + _LINES * _LINE
    sheet = Image.new("RGB", (_GAP + len(captions) * step, head + len(rows) * (_NAME + step)), _PAPER)
    draw = ImageDraw.Draw(sheet)
    for column, caption in enumerate(captions):
        draw.text((_GAP + column * step, _GAP), _wrapped(caption), fill=_INK)
    for row, (name, pictures) in enumerate(rows.items()):
        top = head + row * (_NAME + step)
        draw.text((_GAP, top + _GAP), name, fill=_INK)
        for column, picture in enumerate(pictures):
            sheet.paste(picture.convert("RGB").resize((_TILE, _TILE)), (_GAP + column * step, top + _NAME))
    return sheet


def _wrapped(caption: str) -> str:
    """What the built-in font can show of a caption on some lines."""
    shown = caption.encode("latin-1", "replace").decode("latin-1")
    return textwrap.fill(shown, _CHARACTERS, max_lines=_LINES, placeholder=" ...")
