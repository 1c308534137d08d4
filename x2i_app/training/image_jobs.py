"""`train light-control` and `train lora`: from names of models and pictures with words to a file that the app takes."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch
from accelerate import PartialState
from diffusers import FluxTransformer2DModel
from PIL import Image

from x2i_app.limits import Range, validate_integer, validate_number
from x2i_app.loading import load_light_control
from x2i_app.loading.build import load_encoder_and_alignnet
from x2i_app.loading.flux import load_flux
from x2i_app.loading.hub import find_file
from x2i_app.loading.sources import find_sources
from x2i_app.models import LightControl, controlled
from x2i_app.training.cache import CaptionCache
from x2i_app.training.captions import encode_teacher
from x2i_app.training.comparison import FluxParts
from x2i_app.training.data import Broken
from x2i_app.training.image_data import ImageBatches, TrainingImage, read_conditioning, read_images, read_latents
from x2i_app.training.light_control import train_light_control
from x2i_app.training.loop import LoopOptions
from x2i_app.training.lora import TARGETS, train_lora
from x2i_app.training.parts import default_flux, load_teacher
from x2i_app.training.precision import training_device
from x2i_app.training.samples import Act, Drawing, ImageSheets

_ALLOWED = {
    "resolution": Range(16, 8192, 16),
    "batch_size": Range(1, 65536),
    "max_broken": Range(0, 1e9),
    "samples": Range(1, 64),
    "num_inference_steps": Range(1, 1000),
}


@dataclass(frozen=True, kw_only=True)
class _ImageJob:
    """What both have in common: data, models, and how much at a time."""

    config: Path | None = None
    """YAML file of the options below; flags win over it"""
    output: Path
    """folder of checkpoints, caches, history and what is trained"""
    data: tuple[str, ...]
    """pictures with words: folders, .tar shards, patterns; a .jpg beside a .png is its source"""
    caption_field: str = "caption"
    """field of the words in JSON, where there is no .txt"""
    max_broken: int = 10
    """samples that may be broken before the run stops"""
    preset: str = "x2i-tiny"
    """whose MLLM, AlignNet and FLUX model, or custom:FAMILY"""
    mllm: str | None = None
    """MLLM: a folder or hub id instead of the preset's"""
    flux: str | None = None
    """FLUX.1 model instead of the preset's"""
    alignnet: str | None = None
    """AlignNet instead of the preset's"""
    resolution: int = 1024
    """side of a picture in pixels"""
    batch_size: int = 1
    """samples a step"""
    gradient_checkpointing: bool = True
    """compute FLUX's blocks twice instead of keeping them"""
    samples: int = 4
    """pictures whose words are drawn, with and without what is trained, at an evaluation"""
    num_inference_steps: int = 4
    """steps of drawing them"""
    guidance_scale: float = 3.5
    """of drawing them, for transformers that take one"""
    loop: LoopOptions
    """how to train"""

    def __post_init__(self):
        for name, allowed in _ALLOWED.items():
            validate_integer(name, getattr(self, name), allowed)
        validate_number("guidance_scale", self.guidance_scale, Range(0, 1e3))

    def _prepare(self, *, with_source: bool) -> tuple[FluxParts, ImageBatches]:
        """FLUX on the device, and the batches."""
        device = training_device()
        dtype = torch.float32 if device.type == "cpu" else torch.bfloat16
        images = read_images(self.data, self.caption_field, Broken(self.max_broken), with_source=with_source)
        # One large model at a time: what reads the words is gone before FLUX comes.
        conditioning = self._read_words(images, dtype, device)
        flux = FluxParts(*load_flux(self._flux_source, dtype))
        latents = read_latents(images, flux.vae.to(device), self.output / "latents", self.resolution, torch.bfloat16)
        transformer = flux.transformer.to(device)
        if self.gradient_checkpointing:
            transformer.enable_gradient_checkpointing()
        elif device.type == "cpu":  # where fused attention takes several times as long to go back
            transformer.set_attention_backend("_native_math")
        batches = ImageBatches(images, conditioning, latents, self.resolution, self.batch_size, self.loop.seed)
        return flux, batches

    def _sheets(self, flux: FluxParts, batches: ImageBatches, name: str, act: Act) -> ImageSheets | None:
        if not self.loop.evaluate_every:
            return None
        drawing = Drawing(flux, flux.transformer.device, self.resolution, self.num_inference_steps, self.guidance_scale)
        return ImageSheets(drawing, batches, self.samples, self.output, name, act)

    @property
    def _flux_source(self) -> str:
        return self.flux or default_flux(self.preset)

    def _read_words(self, images: Sequence[TrainingImage], dtype: torch.dtype, device: torch.device) -> CaptionCache:
        """What FLUX reads of every picture's words: here AlignNet's, of the MLLM's states."""
        encoder, align_net = load_encoder_and_alignnet(
            find_sources(self.preset, self.mllm, self._flux_source, self.alignnet), dtype
        )
        encoder.model.to(device)
        return read_conditioning(images, encoder, align_net.to(device), self.output / "conditioning", torch.bfloat16)


@dataclass(frozen=True, kw_only=True)
class LightControlJob(_ImageJob):
    """Train a LightControl, which keeps what an instruction leaves alone, from pairs of pictures and instructions."""

    reader: Literal["mllm", "teacher"] = "mllm"
    """of the words; teacher is T5 and CLIP, and the words then say what is to be seen, not what changes"""
    max_sequence_length: int = 512
    """T5's tokens, where it reads"""
    light_control: str | None = None
    """LightControl to start from instead of a fresh one"""
    widths: tuple[int, int, int] = (64, 128, 256)
    """channels of a fresh one, the published ones"""
    time_embed_dim: int = 256
    """width of its timesteps"""
    loop: LoopOptions = field(default_factory=lambda: LoopOptions(steps=50_000, learning_rate=1e-5))
    """how to train"""

    def __post_init__(self):
        super().__post_init__()
        validate_integer("max_sequence_length", self.max_sequence_length, Range(1, 512))
        # Group normalisation has 2 groups in the stem, and up to 8 after it.
        for width, multiple in zip(self.widths, (2, 8, 8), strict=True):
            validate_integer("widths", width, Range(multiple, 8192, multiple))
        validate_integer("time_embed_dim", self.time_embed_dim, Range(1, 8192))

    def run(self) -> Path:
        """Train, or go on; the folder of the trained LightControl, which `--light-control` takes."""
        flux, batches = self._prepare(with_source=True)
        transformer = flux.transformer
        torch.manual_seed(self.loop.seed)
        if self.light_control:
            light_control = load_light_control(find_file(self.light_control).path, dtype=torch.float32)
            light_control.requires_grad_(True)
        else:
            sizes = len(transformer.transformer_blocks), transformer.inner_dim
            light_control = LightControl(*sizes, self.widths, self.time_embed_dim)
        light_control.to(transformer.device)

        def condition(batch):
            return tuple(batch[name].to(transformer.device) for name in ("prompt_embeds", "pooled"))

        def act(trained: LightControl | None, source: Image.Image) -> AbstractContextManager[None]:
            return controlled(transformer, flux.scheduler, trained, source) if trained else nullcontext()

        train_light_control(
            light_control,
            transformer,
            dict(flux.scheduler.config),
            batches,
            condition,
            self.output,
            self.loop,
            evaluate=self._sheets(flux, batches, "LightControl", act),
        )
        directory = self.output / "light_control"
        if PartialState().is_main_process:
            light_control.bfloat16().save_pretrained(directory)
        PartialState().wait_for_everyone()
        return directory

    def _read_words(self, images: Sequence[TrainingImage], dtype: torch.dtype, device: torch.device) -> CaptionCache:
        if self.reader == "mllm":
            return super()._read_words(images, dtype, device)
        teacher = load_teacher(self._flux_source, dtype)
        for part in (teacher.text_encoder, teacher.text_encoder_2):
            part.to(device)
        words = [image.words for image in images]
        return encode_teacher(teacher, words, self.output, self.max_sequence_length, torch.bfloat16)


@dataclass(frozen=True, kw_only=True)
class LoRAJob(_ImageJob):
    """Train a LoRA for FLUX.1 under X2I: a style or a thing, from a few pictures with words, or edits with sources."""

    rank: int = 16
    """of the low rank matrices"""
    alpha: float | None = None
    """their scale is alpha / rank; none: the rank"""
    targets: tuple[str, ...] = TARGETS
    """ends of the names of the layers that get some"""
    loop: LoopOptions = field(
        default_factory=lambda: LoopOptions(steps=1000, learning_rate=1e-4, warmup_steps=20, ema_decay=None)
    )
    """how to train"""

    def __post_init__(self):
        super().__post_init__()
        validate_integer("rank", self.rank, Range(1, 4096))

    def run(self) -> Path:
        """Train, or go on; the LoRA's file, which `--lora` takes."""
        flux, batches = self._prepare(with_source=False)
        about = {
            "x2i.preset": self.preset,
            "x2i.samples": str(len(batches.images)),
            "x2i.steps": str(self.loop.steps),
            "modelspec.resolution": f"{self.resolution}x{self.resolution}",
        }

        def act(trained: torch.nn.Module | None, _: Image.Image | None) -> AbstractContextManager[None]:
            return nullcontext() if trained else _without_adapters(flux.transformer)

        return train_lora(
            flux.transformer,
            dict(flux.scheduler.config),
            batches,
            self.output,
            self.loop,
            rank=self.rank,
            alpha=self.alpha,
            targets=self.targets,
            about=about,
            evaluate=self._sheets(flux, batches, "LoRA", act),
        )


@contextmanager
def _without_adapters(transformer: FluxTransformer2DModel) -> Iterator[None]:
    transformer.disable_adapters()
    try:
        yield
    finally:
        transformer.enable_adapters()
