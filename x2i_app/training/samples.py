"""What is drawn while something learns to draw: one PNG every some steps, so that a training can be seen."""

import textwrap
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import torch
from accelerate import PartialState
from diffusers import FlowMatchEulerDiscreteScheduler, FluxPipeline
from PIL import Image, ImageDraw, ImageOps

from x2i_app.training.captions import CaptionBatches
from x2i_app.training.comparison import FluxParts
from x2i_app.training.distill_options import DistillOptions
from x2i_app.training.image_data import ImageBatches

_TILE, _GAP, _NAME, _LINE = 256, 8, 32, 14  # pixels
_LINES, _CHARACTERS = 4, 40  # of a caption
_PAPER, _INK = (255, 255, 255), (32, 34, 46)

# Of what is trained and a sample's source picture: inside of it FLUX draws with them; of None, without.
Act = Callable[[torch.nn.Module | None, Image.Image | None], AbstractContextManager[None]]


class Drawing:
    """FLUX.1 as its own pipeline draws. side: of a picture, in pixels. The VAE is moved to `device`."""

    def __init__(self, flux: FluxParts, device: torch.device, side: int, num_inference_steps: int, guidance: float):
        self.device = device
        self.scheduler = FlowMatchEulerDiscreteScheduler.from_config(flux.scheduler.config)
        nothing = dict.fromkeys(("text_encoder", "tokenizer", "text_encoder_2", "tokenizer_2"))
        self.pipeline = FluxPipeline(self.scheduler, flux.vae.to(device), transformer=flux.transformer, **nothing)
        self.pipeline.set_progress_bar_config(disable=True)
        self.options = {"width": side, "height": side, "guidance_scale": guidance}
        self.options |= {"num_inference_steps": num_inference_steps}

    def __call__(self, seed: int, prompt_embeds: torch.Tensor, pooled: torch.Tensor) -> Image.Image:
        """prompt_embeds: (1, S, joint). pooled: (1, pooled). seed: of the noise."""
        dtype = self.pipeline.transformer.dtype
        return self.pipeline(
            prompt_embeds=prompt_embeds.to(self.device, dtype),
            pooled_prompt_embeds=pooled.to(self.device, dtype),
            generator=torch.Generator().manual_seed(seed),
            **self.options,
        ).images[0]


class SampleSheets:
    """Called with an AlignNet and a step, writes samples/step-00000100.png into `directory`: a caption a column.

    The first captions of the corpus are drawn, each from the noise of its own seed. What the teacher draws of them is
    drawn once.
    """

    def __init__(
        self, flux: FluxParts, batches: CaptionBatches, options: DistillOptions, directory: Path, device: torch.device
    ):
        self.batches, self.directory, self.device = batches, directory, device
        self.draw = Drawing(flux, device, options.resolution, options.num_inference_steps, options.guidance_scale)
        self.captions = batches.states.captions[: options.samples]
        self._taught: list[Image.Image] = []

    @torch.no_grad()
    def __call__(self, align_net: torch.nn.Module, step: int) -> None:
        batches = [self.batches.complete(self.batches.read([index])) for index in range(len(self.captions))]
        if not self._taught:
            self._taught = [self.draw(i, b["prompt_embeds"], b["pooled"]) for i, b in enumerate(batches)]
        states = (batch["hidden_states"].to(self.device, torch.float32) for batch in batches)
        drawn = [self.draw(index, *align_net(each)) for index, each in enumerate(states)]
        _write(self.directory, step, self.captions, {"teacher": self._taught, f"student, step {step}": drawn})


class ImageSheets:
    """Called with a LoRA or a LightControl and a step, writes such a sheet: one of the first pictures a column.

    Below its words are its source, if it has one, the picture itself, and what FLUX draws of the words from the noise
    of its own seed, without what is trained (drawn once) and with it. name: of what is trained.
    """

    def __init__(self, draw: Drawing, batches: ImageBatches, count: int, directory: Path, name: str, act: Act):
        self.draw, self.batches, self.directory, self.name, self.act = draw, batches, directory, name, act
        images = batches.images[:count]
        self.words = [image.words for image in images]
        self.sources = [image.image(image.source) if image.source else None for image in images]
        self._rows = {"source": self.sources} if all(self.sources) else {}
        self._rows["picture"] = [image.image(image.target) for image in images]

    @torch.no_grad()
    def __call__(self, trained: torch.nn.Module, step: int) -> None:
        without = f"without {self.name}"
        if without not in self._rows:
            self._rows[without] = self._draw_all(None)
        drawn = self._draw_all(trained)
        _write(self.directory, step, self.words, self._rows | {f"{self.name}, step {step}": drawn})

    def _draw_all(self, trained: torch.nn.Module | None) -> list[Image.Image]:
        drawn = []
        for index, source in enumerate(self.sources):
            read = self.batches.conditioning[index]
            with self.act(trained, source):
                drawn.append(self.draw(index, read["prompt_embeds"][None], read["pooled"][None]))
        return drawn


def _write(directory: Path, step: int, captions: Sequence[str], rows: dict[str, list[Image.Image]]) -> None:
    """By the first process alone. All of them have drawn, as none can with a FLUX that is in parts."""
    if not PartialState().is_main_process:
        return
    path = directory / "samples" / f"step-{step:08d}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    compose(captions, rows).save(path.with_suffix(".tmp"), "PNG")
    path.with_suffix(".tmp").replace(path)


def compose(captions: Sequence[str], rows: dict[str, list[Image.Image]]) -> Image.Image:
    """Rows of pictures below each other, each with its name, and the captions on top."""
    step = _TILE + _GAP
    head = _GAP + _LINES * _LINE
    sheet = Image.new("RGB", (_GAP + len(captions) * step, head + len(rows) * (_NAME + step)), _PAPER)
    draw = ImageDraw.Draw(sheet)
    for column, caption in enumerate(captions):
        draw.text((_GAP + column * step, _GAP), _wrapped(caption), fill=_INK)
    for row, (name, images) in enumerate(rows.items()):
        top = head + row * (_NAME + step)
        draw.text((_GAP, top + _GAP), name, fill=_INK)
        for column, image in enumerate(images):
            tile = ImageOps.fit(image.convert("RGB"), (_TILE, _TILE), Image.Resampling.BICUBIC)
            sheet.paste(tile, (_GAP + column * step, top + _NAME))
    return sheet


def _wrapped(caption: str) -> str:
    """What the built-in font can show of a caption on some lines."""
    shown = caption.encode("latin-1", "replace").decode("latin-1")
    return textwrap.fill(shown, _CHARACTERS, max_lines=_LINES, placeholder=" ...")
