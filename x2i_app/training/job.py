"""Training jobs: frozen dataclasses of everything that decides a run, each with a method that does all of it."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import torch
import yaml
from accelerate import PartialState
from PIL import Image
from torch import nn

from x2i_app.errors import TrainingError
from x2i_app.limits import Range, validate_integer, validate_number
from x2i_app.loading.build import load_encoder_and_alignnet
from x2i_app.loading.flux import load_flux
from x2i_app.loading.sources import find_sources
from x2i_app.options import as_values
from x2i_app.training.batches import ImageBatches
from x2i_app.training.data import Broken, TrainingImage, read_images
from x2i_app.training.encoding import TensorCache, encode_conditioning, encode_latents
from x2i_app.training.frozen import FluxParts, default_flux
from x2i_app.training.loop import LoopOptions, training_device
from x2i_app.training.reports import Sampler, write_sheet

# A context in which FLUX draws with what is trained, for a sample's source image; of None, without it.
Conditioner = Callable[[nn.Module | None, Image.Image | None], AbstractContextManager[None]]

_INTEGERS = {
    "resolution": Range(16, 8192, 16),
    "batch_size": Range(1, 65536),
    "max_broken": Range(0, 1e9),
    "samples": Range(1, 64),
    "num_inference_steps": Range(1, 1000),
}


@dataclass(frozen=True, kw_only=True)
class Job:
    """The options of every job. The first line of a job's docstring is its help."""

    config: Path | None = None
    """YAML file with any of these options; flags win over it"""
    output: Path
    """folder for checkpoints, caches, history, samples and what is trained"""

    def run(self) -> Path:
        """Train, or continue a run; the file or folder of what was trained. Raises X2IError's kinds."""
        raise NotImplementedError


def run_job(job: Job) -> int:
    """Run a job in this process, one of those that `accelerate launch` started or the only one; the exit status."""
    training_device()
    if PartialState().is_main_process:
        write_settings(job)
    made = job.run()
    if PartialState().is_main_process:
        print(made)
    PartialState().destroy_process_group()
    return 0


def write_settings(job: Job) -> None:
    """Write the job to settings.yaml in its folder, a file for `--config`. Raises TrainingError."""
    values = as_values(job)
    values.pop("config")
    try:
        job.output.mkdir(parents=True, exist_ok=True)
        (job.output / "settings.yaml").write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")
    except OSError as error:
        raise TrainingError(
            f"{str(job.output)!r} cannot be written ({error.strerror}); choose another --output."
        ) from error


def save_trained(model: nn.Module, directory: Path) -> Path:
    """Save a model in bfloat16 by the main process; its folder, which is complete when any process returns."""
    if PartialState().is_main_process:
        model.bfloat16().save_pretrained(directory)
    PartialState().wait_for_everyone()
    return directory


@dataclass(frozen=True, kw_only=True)
class ImageJob(Job):
    """The options of jobs that learn from images with captions, and the steps that they share."""

    data: tuple[str, ...]
    """images with captions: folders, .tar shards, patterns; a .jpg beside a .png is its source; commas between"""
    caption_field: str = "caption"
    """field of a caption in JSON, where there is no .txt"""
    max_broken: int = 10
    """broken samples that are left out before the run stops"""
    preset: str = "x2i-tiny"
    """preset whose MLLM, AlignNet and FLUX model are used, or custom:FAMILY"""
    mllm: str | None = None
    """MLLM: a folder or a hub id instead of the preset's"""
    flux: str | None = None
    """FLUX.1 model instead of the preset's"""
    alignnet: str | None = None
    """AlignNet instead of the preset's"""
    resolution: int = 1024
    """side of an image in pixels"""
    batch_size: int = 1
    """samples for each batch"""
    gradient_checkpointing: bool = True
    """compute FLUX's blocks twice instead of keeping their activations"""
    samples: int = 4
    """captions that are drawn at every evaluation, with and without what is trained"""
    num_inference_steps: int = 4
    """steps of the sample images"""
    guidance_scale: float = 3.5
    """guidance scale of the sample images, for transformers that take one"""
    loop: LoopOptions
    """how to train"""

    def __post_init__(self):
        for name, allowed in _INTEGERS.items():
            validate_integer(name, getattr(self, name), allowed)
        validate_number("guidance_scale", self.guidance_scale, Range(0, 1e3))

    @property
    def flux_source(self) -> str:
        """Name, folder or hub id of the FLUX model."""
        return self.flux or default_flux(self.preset)

    @property
    def dtype(self) -> torch.dtype:
        """Of the frozen models."""
        return torch.float32 if training_device().type == "cpu" else torch.bfloat16

    def read_images(self, *, with_source: bool) -> list[TrainingImage]:
        """The images of `data`; with_source: every one must have a source image."""
        return read_images(self.data, self.caption_field, Broken(self.max_broken), with_source=with_source)

    def encode_conditioning(self, images: Sequence[TrainingImage]) -> TensorCache:
        """What AlignNet gives FLUX for every image; MLLM and AlignNet are freed again."""
        sources = find_sources(self.preset, self.mllm, self.flux_source, self.alignnet)
        encoder, align_net = load_encoder_and_alignnet(sources, self.dtype)
        encoder.model.to(training_device())
        return encode_conditioning(images, encoder, align_net.to(training_device()), self.output, torch.bfloat16)

    def load_flux(self) -> FluxParts:
        """FLUX on this process' device, frozen."""
        flux, device = FluxParts(*load_flux(self.flux_source, self.dtype)), training_device()
        flux.vae.to(device)
        flux.transformer.to(device).requires_grad_(False).eval()
        if self.gradient_checkpointing:
            flux.transformer.enable_gradient_checkpointing()
        elif device.type == "cpu":  # where the backward pass of fused attention takes several times as long
            flux.transformer.set_attention_backend("_native_math")
        return flux

    def make_batches(self, images: Sequence[TrainingImage], conditioning: TensorCache, flux: FluxParts) -> ImageBatches:
        """The batches of the run; the images' latents are computed here."""
        by_name = {image.name: image for image in images}

        def open_target(name: str) -> Image.Image:
            return by_name[name].open(by_name[name].target)

        latents = encode_latents(flux.vae, list(by_name), open_target, self.output, self.resolution, torch.bfloat16)
        return ImageBatches(images, conditioning, latents, self.resolution, self.batch_size, self.loop.seed)

    def make_samples(
        self, flux: FluxParts, batches: ImageBatches, name: str, conditioner: Conditioner
    ) -> "ImageSamples | None":
        """`evaluate` for the loop, if sample images are wanted. name: of what is trained."""
        if not self.loop.evaluate_every:
            return None
        device = flux.transformer.device
        draw = Sampler(flux, device, self.resolution, self.num_inference_steps, self.guidance_scale)
        return ImageSamples(draw, batches, self.samples, self.output, name, conditioner)


class ImageSamples:
    """Writes a sheet for the first images: source, image, and what FLUX draws with and without what is trained.

    FLUX draws every image from the noise of its own seed, without what is trained only once. name: of what is trained.
    """

    def __init__(
        self, draw: Sampler, batches: ImageBatches, count: int, directory: Path, name: str, conditioner: Conditioner
    ):
        self.draw, self.batches, self.directory, self.name, self.conditioner = (
            draw,
            batches,
            directory,
            name,
            conditioner,
        )
        images = batches.images[:count]
        self.captions = [image.caption for image in images]
        self.sources = [image.open(image.source) if image.source else None for image in images]
        self._rows = {"source": self.sources} if all(self.sources) else {}
        self._rows["image"] = [image.open(image.target) for image in images]

    def __call__(self, trained: nn.Module, step: int) -> None:
        """`evaluate` of the loop."""
        without = f"without {self.name}"
        if without not in self._rows:
            self._rows[without] = self._draw_all(None)
        rows = self._rows | {f"{self.name}, step {step}": self._draw_all(trained)}
        write_sheet(self.directory, step, self.captions, rows)

    def _draw_all(self, trained: nn.Module | None) -> list[Image.Image]:
        drawn = []
        for index, source in enumerate(self.sources):
            conditioning = self.batches.conditioning[index]
            with self.conditioner(trained, source):
                image = self.draw(index, conditioning["prompt_embeds"][None], conditioning["pooled"][None])
            drawn.append(image)
        return drawn
