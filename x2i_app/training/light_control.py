"""`train light-control`: LightControl learns to keep what an instruction does not change.

It reads the source image and learns to bring FLUX to the edited one; all else is frozen. Source: arXiv 2503.06134,
section 3.3, and its public training code: flow matching at logit-normal timesteps.
"""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from diffusers import AutoencoderKL, FluxTransformer2DModel
from PIL import Image
from torch import nn
from torch.utils.data import Dataset

from x2i_app.errors import CheckpointError
from x2i_app.limits import Range, clean_numbers, validate_integer
from x2i_app.loading import load_light_control
from x2i_app.loading.hub import find_file
from x2i_app.loading.sizes import build_skeleton
from x2i_app.models import LightControl, controlled
from x2i_app.training.encoding import TensorCache, encode_teacher
from x2i_app.training.frozen import FluxParts, check_teacher, check_teacher_files, load_teacher
from x2i_app.training.image_data import TrainingImage
from x2i_app.training.job import ImageJob, save_trained
from x2i_app.training.loop import Evaluate, LoopOptions, train, training_device
from x2i_app.training.losses import FlowMatching, mean_over_groups
from x2i_app.training.preflight import check_drawing_model, trained_bytes


@dataclass(frozen=True, kw_only=True)
class LightControlJob(ImageJob):
    """Train a LightControl, which keeps what an instruction does not change, from pairs of images and instructions."""

    reader: Literal["mllm", "teacher"] = "mllm"
    """what reads the captions; with teacher, T5 and CLIP, a caption describes the edited image, not the change"""
    max_sequence_length: int = 512
    """with reader teacher: tokens of T5"""
    light_control: str | None = None
    """LightControl to start from; none: a new one"""
    widths: tuple[int, int, int] = (64, 128, 256)
    """channels of a new one; those of the published one are the default"""
    time_embed_dim: int = 256
    """width of a new one's timestep embedding"""
    loop: LoopOptions = field(default_factory=lambda: LoopOptions(steps=50_000, learning_rate=1e-5))
    """how to train"""

    def __post_init__(self):
        super().__post_init__()
        clean_numbers(self, {"max_sequence_length": Range(1, 512), "time_embed_dim": Range(1, 8192)})
        # Group normalization has 2 groups in the stem, and up to 8 in the blocks.
        allowed = [Range(multiple, 8192, multiple) for multiple in (2, 8, 8)]
        widths = tuple(validate_integer("widths", *each) for each in zip(self.widths, allowed, strict=True))
        object.__setattr__(self, "widths", widths)

    def show_plan(self) -> str:
        """What a step needs at this batch size, for three precisions of the frozen weights."""
        from x2i_app.training.plan import plan_images, show_images

        parts = build_skeleton(self.preset, self.mllm, self.flux)

        def add_light_control(transformer: FluxTransformer2DModel) -> tuple[nn.Module, Any]:
            sizes = len(transformer.transformer_blocks), transformer.inner_dim
            with torch.device("meta"):
                model = LightControl(*sizes, self.widths, self.time_embed_dim)
            flow_matching = FlowMatching(transformer, {})
            return model, lambda batch: _loss_of(model, flow_matching, batch)

        sides, optimizer = [self.resolution or parts.vae.config.sample_size], self.loop.optimizer
        checkpointing = self.gradient_checkpointing
        return show_images(plan_images(parts, add_light_control, self.batch_size, sides, optimizer, checkpointing))

    def run(self) -> Path:
        """Train, or continue a run; the folder of the trained LightControl, which `--light-control` takes."""
        # 1. Pairs of images, and what FLUX reads for each of them. What is wrong with the models or the disk is said
        # before a large one is read, and one of these is in memory at a time.
        images = self.read_images(with_source=True)
        transformer, vae = self.check_models()
        light_control = self._light_control(transformer)
        self.check_disk(images, trained_bytes(light_control), transformer, vae)
        conditioning = self.encode_conditioning(images)

        # 2. FLUX, and the batches
        flux = self.load_flux()
        batches = self.make_batches(images, conditioning, flux)

        # 3. Train LightControl and save it
        def conditioner(trained: LightControl | None, source: Image.Image) -> AbstractContextManager[None]:
            return controlled(flux.transformer, flux.scheduler, trained, source) if trained else nullcontext()

        drawn = range(len(images))[: self.samples]
        samples = self.make_samples(flux, batches, "LightControl", conditioner, self.loop.evaluate_every, drawn)
        train_light_control(light_control, flux, batches, self.output, self.loop, evaluate=samples)
        return save_trained(light_control, self.output / "light_control")

    def check_models(self) -> tuple[FluxTransformer2DModel, AutoencoderKL]:
        """As in `ImageJob`; with the teacher as reader, T5 and CLIP instead of the MLLM and AlignNet."""
        if self.reader == "mllm":
            return super().check_models()
        transformer, vae = check_drawing_model(self.flux_source)
        check_teacher(check_teacher_files(self.flux_source), transformer.config)
        return transformer, vae

    def encode_conditioning(self, images: Sequence[TrainingImage]) -> TensorCache:
        """What FLUX reads for every image: from the MLLM and AlignNet, or from T5 and CLIP."""
        if self.reader == "mllm":
            return super().encode_conditioning(images)
        teacher = load_teacher(self.flux_source, self.dtype).to(training_device())
        captions = [image.caption for image in images]
        return encode_teacher(teacher, captions, self.output, self.max_sequence_length, torch.bfloat16)

    def _light_control(self, transformer: FluxTransformer2DModel) -> LightControl:
        """The LightControl to start from, or a new one. Raises CheckpointError for one of another FLUX model."""
        torch.manual_seed(self.loop.seed)
        sizes = len(transformer.transformer_blocks), transformer.inner_dim
        if self.light_control:
            light_control = load_light_control(find_file(self.light_control).path, dtype=torch.float32)
            own = light_control.config.num_blocks, light_control.config.dim
            if own[0] > sizes[0] or own[1] != sizes[1]:
                raise CheckpointError(
                    f"{self.light_control} has {own[0]} blocks of width {own[1]}, and FLUX has {sizes[0]} of width "
                    f"{sizes[1]}; start from the LightControl of this FLUX model, or from a new one."
                )
            light_control.requires_grad_(True)
        else:
            light_control = LightControl(*sizes, self.widths, self.time_embed_dim)
        return light_control.to(training_device())


def train_light_control(
    light_control: LightControl,
    flux: FluxParts,
    batches: Dataset,
    directory: Path,
    options: LoopOptions,
    *,
    stop_at: int | None = None,
    evaluate: Evaluate | None = None,
) -> None:
    """Train a LightControl in place, resumably; FLUX stays as it is. `stop_at`, `evaluate` and errors as of `train`.

    batches[step]: a dictionary with source (B, 3, H, W) in [-1, 1], latents (B, C, H/8, W/8) of the edited image,
    prompt_embeds (B, S, joint) and pooled (B, pooled); or a list of such groups.
    """
    transformer = flux.transformer.requires_grad_(False).eval()
    flow_matching = FlowMatching(transformer, dict(flux.scheduler.config))

    def compute_loss(model: nn.Module, batch: Any) -> dict[str, torch.Tensor]:
        return {"flow": mean_over_groups(batch, lambda group: _loss_of(model, flow_matching, group))}

    further = {"title": "LightControl", "stop_at": stop_at, "evaluate": evaluate}
    train(light_control, batches, compute_loss, Path(directory), options, **further)


def _loss_of(model: nn.Module, flow_matching: FlowMatching, group: Mapping[str, torch.Tensor]) -> torch.Tensor:
    names = ("source", "latents", "prompt_embeds", "pooled")
    source, *inputs = (group[name].to(flow_matching.transformer.device) for name in names)
    return flow_matching(*inputs, residuals=lambda timestep: model(source, timestep))
