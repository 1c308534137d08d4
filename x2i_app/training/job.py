"""Training jobs: frozen dataclasses of everything that decides a run, each with a method that does all of it."""

import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import torch
import yaml
from accelerate import PartialState
from diffusers import AutoencoderKL, FluxTransformer2DModel
from PIL import Image
from torch import nn

from x2i_app.errors import TrainingError
from x2i_app.limits import Range, clean_numbers
from x2i_app.loading.build import load_encoder_and_alignnet
from x2i_app.loading.flux import load_flux
from x2i_app.loading.quantization import quantize
from x2i_app.loading.sources import find_sources
from x2i_app.options import as_values, read_file
from x2i_app.presets import known_flux, similar_flux
from x2i_app.specs import Precision
from x2i_app.training.batches import ImageBatches
from x2i_app.training.checkpoints import check_disk, check_disk_for_checkpoints, newest_step
from x2i_app.training.encoding import TYPICAL_TOKENS, TensorCache, encode_conditioning, encode_latents
from x2i_app.training.frozen import FluxParts, default_flux, preset_of, quantize_frozen
from x2i_app.training.image_data import TrainingImage, read_images
from x2i_app.training.loop import LoopOptions, training_device
from x2i_app.training.preflight import check_drawing_model, check_readers
from x2i_app.training.reports import Sampler, write_sheet
from x2i_app.training.samples import Broken

# A context in which FLUX draws with what is trained, for a sample's source image; of None, without it.
Conditioner = Callable[[nn.Module | None, Image.Image | None], AbstractContextManager[None]]

_CACHES = ("latents", "source-latents", "conditioning")  # folders in that of a run

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
    plan: bool = False
    """only say how much memory a step needs, for cards of 8 GB to 80 GB; nothing is loaded"""

    def show_plan(self) -> str:
        """The memory that a step needs, as a table. Raises X2IError's kinds for a model of unknown sizes."""
        return "This job loads no model."

    def run(self) -> Path:
        """Train, or continue a run; the file or folder of what was trained. Raises X2IError's kinds."""
        raise NotImplementedError


def run_job(job: Job) -> int:
    """Run a job in this process, one of those that `accelerate launch` started or the only one; the exit status."""
    if job.plan:
        print(job.show_plan())
        return 0
    training_device()
    if PartialState().is_main_process:
        tell_differences(job)
        write_settings(job)
    made = job.run()
    if PartialState().is_main_process:
        print(made)
    PartialState().destroy_process_group()
    return 0


def tell_differences(job: Job) -> None:
    """Say which settings differ from those of the run that this one continues, if it continues one."""
    file, found = job.output / "settings.yaml", newest_step(job.output)
    if found is None or not file.is_file():
        return
    before, now = read_file(file), as_values(job)
    changed = [
        f"{name} {before.get(name)} -> {value}"
        for name, value in now.items()
        if name not in ("config", "output", "plan") and before.get(name, value) != value
    ]
    if changed:
        print(f"Continues the run at step {found} with other settings: {', '.join(changed)}.", file=sys.stderr)


def write_settings(job: Job) -> None:
    """Write the job to settings.yaml in its folder, a file for `--config`. Raises TrainingError."""
    values = as_values(job)
    for name in ("config", "plan"):
        values.pop(name)
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
    """images with captions: folders, .tar shards, patterns; commas between. Pairs: folders source and target in one
    folder, or a .jpg beside a .png"""
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
    resolution: int | None = None
    """side of an image in pixels; none: the FLUX model's own"""
    batch_size: int = 1
    """samples of a step on one device, also if their captions differ in length; `accumulate` and devices multiply it"""
    precision: Precision = "full"
    """precision of the frozen weights of the MLLM and FLUX; nf4 takes a quarter of the memory"""
    gradient_checkpointing: bool = True
    """compute FLUX's blocks twice instead of keeping their activations"""
    samples: int = 4
    """captions that are drawn at every evaluation, with and without what is trained"""
    num_inference_steps: int | None = None
    """steps of the sample images; none: the FLUX model's own"""
    guidance_scale: float = 3.5
    """guidance scale of the sample images, for transformers that take one"""
    loop: LoopOptions
    """how to train"""

    def __post_init__(self):
        clean_numbers(self, _INTEGERS, {"guidance_scale": Range(0, 1e3)})

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

    def check_models(self) -> tuple[FluxTransformer2DModel, AutoencoderKL]:
        """FLUX's transformer on the meta device and its VAE, after the files of all models were checked.

        No large weights are read. Raises X2IError's kinds.
        """
        sources = find_sources(preset_of(self.preset, self.mllm), self.mllm, self.flux_source, self.alignnet)
        transformer, vae = check_drawing_model(sources.flux)
        check_readers(sources, transformer)
        return transformer, vae

    def check_disk(
        self, images: Sequence[TrainingImage], trained: int, transformer: FluxTransformer2DModel, vae: AutoencoderKL
    ) -> None:
        """Raise TrainingError if checkpoints, or latents and captions, do not fit the disk. trained: bytes."""
        check_disk_for_checkpoints(self.output, trained, self.loop.keep)
        side = (self.resolution or vae.config.sample_size) // 2 ** (len(vae.config.block_out_channels) - 1)
        values = vae.config.latent_channels * side**2 + transformer.config.joint_attention_dim * TYPICAL_TOKENS
        kept = sum(file.stat().st_size for name in _CACHES for file in self.output.glob(f"{name}/*"))
        needed = 2 * len(images) * values - kept
        check_disk(self.output, needed, f"The encoded images and captions of {len(images):,} samples")

    def encode_conditioning(self, images: Sequence[TrainingImage]) -> TensorCache:
        """What AlignNet gives FLUX for every image; MLLM and AlignNet are freed again."""
        sources = find_sources(preset_of(self.preset, self.mllm), self.mllm, self.flux_source, self.alignnet)
        encoder, align_net = load_encoder_and_alignnet(sources, self.dtype)
        quantize(encoder.model, self.precision, training_device())
        encoder.model.to(training_device())
        return encode_conditioning(images, encoder, align_net.to(training_device()), self.output, torch.bfloat16)

    def load_flux(self) -> FluxParts:
        """FLUX on the CPU, frozen."""
        flux = FluxParts(*load_flux(self.flux_source, self.dtype))
        flux.transformer.requires_grad_(False).eval()
        if self.gradient_checkpointing:
            flux.transformer.enable_gradient_checkpointing()
        return flux

    def side(self, flux: FluxParts) -> int:
        """Side of a square image in pixels."""
        return self.resolution or flux.vae.config.sample_size

    def make_batches(
        self,
        images: Sequence[TrainingImage],
        conditioning: TensorCache,
        flux: FluxParts,
        buckets: bool = False,
        references: bool = False,
    ) -> ImageBatches:
        """The batches of the run. The images' latents are computed here; then FLUX is moved to this process' device.

        The VAE has left the device by then, and comes back only to draw samples. buckets: as in `encode_latents`.
        references: FLUX reads the latents of the sources too.
        """
        by_name, device = {image.name: image for image in images}, training_device()
        names = [image.name for image in images]

        def encode(part: str, folder: str) -> TensorCache:
            def open_part(name: str) -> Image.Image:
                return by_name[name].open(getattr(by_name[name], part))

            size = self.side(flux), torch.bfloat16
            return encode_latents(flux.vae, names, open_part, self.output, *size, buckets, folder)

        flux.vae.to(device)
        latents = encode("target", "latents")
        sources = encode("source", "source-latents") if references else None
        flux.vae.to("cpu")
        quantize_frozen(flux.transformer, self.precision, device)
        flux.transformer.to(device)
        chosen = tuple(range(len(images)))
        return ImageBatches(images, conditioning, latents, self.batch_size, self.loop.seed, chosen, references=sources)

    def make_samples(
        self,
        flux: FluxParts,
        batches: ImageBatches,
        name: str,
        conditioner: Conditioner,
        every: int | None,
        drawn: Sequence[int],
        prompts: Sequence[str] = (),
    ) -> "ImageSamples | None":
        """`evaluate` for the loop, if sample images are wanted. name: of what is trained. every: steps between them.

        drawn: indices of what FLUX reads; they are images of the data, or `prompts` after these.
        """
        if not every:
            return None
        device, guided = flux.transformer.device, flux.transformer.config.guidance_embeds
        own = known_flux(self.flux_source) or similar_flux(guided)
        steps = self.num_inference_steps or own.num_inference_steps
        references = batches.references is not None
        draw = Sampler(flux, device, self.side(flux), steps, self.guidance_scale, references)
        return ImageSamples(draw, batches, drawn, prompts, self.output, name, conditioner)


class ImageSamples:
    """Writes a sheet for some images: source, image, and what FLUX draws with and without what is trained.

    Prompts that are no captions have only the last two rows.

    FLUX draws every image from the noise of its own seed, without what is trained only once. name: of what is trained.
    """

    def __init__(
        self,
        draw: Sampler,
        batches: ImageBatches,
        drawn: Sequence[int],
        prompts: Sequence[str],
        directory: Path,
        name: str,
        conditioner: Conditioner,
    ):
        self.draw, self.batches, self.drawn, self.directory = draw, batches, drawn, directory
        self.name, self.conditioner = name, conditioner
        images = [] if prompts else [batches.images[index] for index in drawn]
        self.captions = prompts or [image.caption for image in images]
        self.sources = [image.open(image.source) if image.source else None for image in images]
        self._rows = {"source": self.sources} if self.sources and all(self.sources) else {}
        if images:
            self._rows["image"] = [image.open(image.target) for image in images]
        self.sources = self.sources or [None] * len(drawn)

    def __call__(self, trained: nn.Module, step: int) -> dict[str, Image.Image | None]:
        """`evaluate` of the loop."""
        without = f"without {self.name}"
        if without not in self._rows:
            self._rows[without] = self._draw_all(None)
        rows = self._rows | {f"{self.name}, step {step}": self._draw_all(trained)}
        return {"samples": write_sheet(self.directory, step, self.captions, rows)}

    def _draw_all(self, trained: nn.Module | None) -> list[Image.Image]:
        drawn = []
        for seed, (index, source) in enumerate(zip(self.drawn, self.sources, strict=True)):
            conditioning = self.batches.conditioning[index]
            with self.conditioner(trained, source):
                embeds = conditioning["prompt_embeds"][None], conditioning["pooled"][None]
                image = self.draw(seed, *embeds, source if self.batches.references else None)
            drawn.append(image)
        return drawn
