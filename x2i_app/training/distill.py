"""Attention distillation: AlignNet learns to speak to a FLUX transformer as T5 and CLIP do, from English text alone.

Teacher and student are one transformer, run twice on the same noisy latents: first over T5's and CLIP's embeddings of a
caption, then over AlignNet's of the MLLM's hidden states. What leaves the attention of every block is pulled together,
block by block as it appears. Neither pictures nor the MLLM are needed while training: states and embeddings of all
captions are computed first and kept on the disk. Source: arXiv 2503.06134, section 3, and its public training code.
"""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from accelerate import PartialState
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, FluxPipeline, FluxTransformer2DModel
from diffusers.pipelines.flux.pipeline_flux import calculate_shift, retrieve_timesteps
from torch.nn.attention import SDPBackend, sdpa_kernel

from x2i_app.errors import CheckpointError, InvalidRequestError, TrainingError
from x2i_app.models import AlignNet
from x2i_app.pipeline import X2IPipeline
from x2i_app.request import Range, validate_integer, validate_number
from x2i_app.training.cache import CaptionCache
from x2i_app.training.captions import CaptionBatches, encode_captions
from x2i_app.training.loop import LoopOptions, train
from x2i_app.training.losses import attention_kl
from x2i_app.training.options import option
from x2i_app.training.taps import tap_attention
from x2i_app.training.teacher import TeacherText

_ALLOWED = {
    "batch_size": Range(1, 65536),
    "resolution": Range(16, 8192, 16),
    "num_inference_steps": Range(1, 1000),
    "max_sequence_length": Range(1, 512),
}
_SHARE = Range(0, 1)
_POSITIVE = Range(1e-6, 1e6)
_WEIGHT = Range(0, 1e6)


@dataclass(frozen=True)
class DistillOptions:
    """What teacher and student are compared on. The defaults are the public training code's, but for `match_text`.

    Raises InvalidRequestError for a value that is not allowed.
    """

    batch_size: int = option(1, help="captions a step; fewer come where fewer have states of one length")
    resolution: int = option(1024, help="side in pixels of the picture that is never painted")
    max_sequence_length: int = option(512, help="T5's tokens")
    temperature: float = option(3.0, help="of the distributions that are compared, as in attention_kl")
    sigmas: Literal["first", "path"] = option(
        "first", help="where on the way to a picture: on pure noise, or also along the teacher's own way"
    )
    path_share: float = option(
        1.0, help="share of the captions that go some steps of that way; the others stay at noise"
    )
    num_inference_steps: int = option(4, help="steps of that way")
    guidance_scale: float = option(3.5, help="for transformers that take one")
    output_weight: float = option(0.0, help="of the mean squared difference of the velocities, added to the loss")
    match_text: bool = option(False, help="compare text rows too; AlignNet's and T5's must then be equally many")

    def __post_init__(self):
        for name, allowed in _ALLOWED.items():
            validate_integer(name, getattr(self, name), allowed)
        validate_number("path_share", self.path_share, _SHARE)
        if self.path_share != 1 and self.sigmas != "path":
            raise InvalidRequestError(f"path_share is {self.path_share}, which only counts with sigmas: path.")
        validate_number("temperature", self.temperature, _POSITIVE)
        validate_number("output_weight", self.output_weight, _WEIGHT)


def distill(
    pipeline: X2IPipeline,
    teacher: TeacherText,
    captions: Sequence[str],
    directory: Path,
    options: DistillOptions,
    loop_options: LoopOptions,
) -> None:
    """Train the pipeline's AlignNet in place; nothing else changes.

    teacher: the text encoders that the pipeline's FLUX transformer was made for. captions: English texts.
    directory: for checkpoints, history, and what is computed once: `states` (of the MLLM: L x H values a token, 2 bytes
    each in mixed precision, so 12 MB for 60 tokens of a 7B model and 0.1 MB of x2i-tiny) and `teacher`.
    A run that was killed goes on where it was, in either phase.

    The MLLM and the teacher compute where they are; the transformer is moved to accelerate's device, in its own dtype,
    and stays there, frozen. `pipeline.transformer.enable_gradient_checkpointing()` before the call saves memory.

    Raises CheckpointError if the teacher does not fit the transformer, InvalidRequestError for a caption that the MLLM
    cannot take, TrainingError as `train` does, for text lengths that differ under `match_text`, and without captions.
    """
    check_teacher(teacher, pipeline.transformer.config)
    if not captions:
        raise TrainingError("There are no captions to distil from; give some English sentences.")
    dtype = cache_dtype(loop_options)
    with PartialState().main_process_first():
        cached = encode_captions(
            pipeline.encoder, teacher, captions, Path(directory), options.max_sequence_length, dtype
        )
    flux = FluxParts(pipeline.transformer, pipeline.vae, pipeline.scheduler)
    distill_cached(pipeline.align_net, flux, *cached, directory, options, loop_options)


def check_teacher(teacher: TeacherText, flux: Mapping[str, Any]) -> None:
    """flux: a FLUX transformer's configuration. Raises CheckpointError if it reads other widths than they write."""
    reads = (flux["joint_attention_dim"], flux["pooled_projection_dim"])
    if (teacher.joint_dim, teacher.pooled_dim) != reads:
        raise CheckpointError(
            f"The teacher writes embeddings of width {teacher.joint_dim} and {teacher.pooled_dim}, but FLUX reads "
            f"{reads[0]} and {reads[1]}; use the text encoders of that FLUX model."
        )


def cache_dtype(loop_options: LoopOptions) -> torch.dtype:
    """Of what is computed once and kept on the disk."""
    return torch.bfloat16 if loop_options.mixed_precision == "bf16" else torch.float32


class FluxParts(NamedTuple):
    """A FLUX.1 model without its text encoders."""

    transformer: FluxTransformer2DModel
    vae: AutoencoderKL
    scheduler: FlowMatchEulerDiscreteScheduler


def distill_cached(
    align_net: AlignNet,
    flux: FluxParts,
    states: CaptionCache,
    embeddings: CaptionCache,
    directory: Path,
    options: DistillOptions,
    loop_options: LoopOptions,
) -> None:
    """`distill` from what its frozen models made of the captions, when neither of them need be in memory any more.

    states, embeddings: of `encode_states` and `encode_teacher`, over the same captions.
    """
    device = PartialState().device
    batches = CaptionBatches(states, embeddings, options.batch_size, loop_options.seed)
    flux.transformer.requires_grad_(False).eval()
    if flux.transformer.device != device:
        flux.transformer.to(device)
    own_dtype = align_net.dtype
    align_net.float().requires_grad_(True)  # small steps vanish in bfloat16
    try:
        task = _Distillation(flux, options, device)
        train(align_net, batches, task.compute_loss, Path(directory), loop_options, title="AlignNet")
    finally:
        align_net.requires_grad_(False).eval()
        if own_dtype != align_net.dtype:
            align_net.to(own_dtype)


class _Distillation:
    """The loss of a batch of captions."""

    def __init__(self, flux: FluxParts, options: DistillOptions, device: torch.device):
        self.transformer = flux.transformer
        self.options = options
        self.device = device
        self.scheduler = FlowMatchEulerDiscreteScheduler.from_config(flux.scheduler.config)
        # FLUX packs two by two latents, each of which is `shrink` pixels wide, into a token.
        shrink = 2 ** (len(flux.vae.config.block_out_channels) - 1)
        side = options.resolution // (2 * shrink)
        dtype = self.transformer.dtype
        self.img_ids = FluxPipeline._prepare_latent_image_ids(1, side, side, device, dtype)
        self.streams = ("image", "text") if options.match_text else ("image",)

    def compute_loss(self, align_net: torch.nn.Module, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Terms of the loss. batch: of CaptionBatches."""
        device, dtype = self.device, self.transformer.dtype
        prompt_embeds, pooled = batch["prompt_embeds"].to(device, dtype), batch["pooled"].to(device, dtype)
        hidden_states = batch["hidden_states"].to(device, torch.float32)
        self._check_lengths(hidden_states.shape[2], prompt_embeds.shape[1])
        # The teacher's outputs, from when it says them until the student has said its own.
        waiting: dict[str, torch.Tensor] = {}
        with torch.no_grad():
            latents, timestep = self._go_along(prompt_embeds, pooled)
            with tap_attention(self.transformer, lambda name, _, output: waiting.update({name: output}), self.streams):
                wanted = self._predict(latents, timestep, prompt_embeds, pooled)
        layers: dict[str, torch.Tensor] = {}

        def compare(name: str, _: str, output: torch.Tensor) -> None:
            layers[name] = attention_kl(waiting.pop(name), output, self.options.temperature)

        prompt_embeds, pooled = align_net(hidden_states)
        with tap_attention(self.transformer, compare, self.streams), self._fast_gradients():
            velocity = self._predict(latents, timestep, prompt_embeds.to(dtype), pooled.to(dtype))
        terms = _sum(layers)
        if self.options.output_weight:
            error = torch.nn.functional.mse_loss(velocity.float(), wanted.float())
            terms["output"] = self.options.output_weight * error
        return terms

    def _check_lengths(self, ours: int, theirs: int) -> None:
        if self.options.match_text and ours != theirs:
            raise TrainingError(
                f"AlignNet gives {ours} text rows and T5 {theirs}, but match_text compares row with row; pad the "
                "MLLM's tokens to max_sequence_length, or leave match_text off."
            )

    def _go_along(self, prompt_embeds: torch.Tensor, pooled: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Latents (B, tokens, channels) on the teacher's way from noise to a picture, and the timestep (B,) of each."""
        count, tokens, options = len(pooled), len(self.img_ids), self.options
        channels = self.transformer.config.in_channels
        latents = torch.randn(count, tokens, channels, device=self.device).to(self.transformer.dtype)
        timesteps = self._timesteps(tokens)
        along = torch.rand(count) < (options.path_share if options.sigmas == "path" else 0)
        # Most steps first, so that those that still have some to go are in front.
        steps = (torch.randint(options.num_inference_steps, (count,)) * along).sort(descending=True).values
        for step, time in enumerate(timesteps[: steps[0]]):
            going = slice(int((steps > step).sum()))
            velocity = self._predict(latents[going], time.expand(going.stop), prompt_embeds[going], pooled[going])
            latents[going] = self.scheduler.step(velocity, time, latents[going], return_dict=False)[0]
        return latents, timesteps[steps.to(timesteps.device)]

    def _timesteps(self, tokens: int) -> torch.Tensor:
        """The timesteps (0-1000) at which FluxPipeline would call the transformer; the scheduler starts anew."""
        config, steps = self.scheduler.config, self.options.num_inference_steps
        names = {"base_image_seq_len": 256, "max_image_seq_len": 4096, "base_shift": 0.5, "max_shift": 1.15}
        mu = calculate_shift(tokens, *(config.get(name, usual) for name, usual in names.items()))
        sigmas = None if config.get("use_flow_sigmas") else np.linspace(1.0, 1 / steps, steps)
        timesteps, _ = retrieve_timesteps(self.scheduler, steps, self.device, sigmas=sigmas, mu=mu)
        self.scheduler.set_begin_index(0)
        return timesteps

    def _predict(
        self, latents: torch.Tensor, timestep: torch.Tensor, prompt_embeds: torch.Tensor, pooled: torch.Tensor
    ) -> torch.Tensor:
        """The velocity, (B, tokens, channels), as FluxPipeline asks for it."""
        guidance = None
        if self.transformer.config.guidance_embeds:
            guidance = torch.full((len(latents),), self.options.guidance_scale, device=self.device)
        return self.transformer(
            hidden_states=latents,
            timestep=timestep.to(latents.dtype) / 1000,
            guidance=guidance,
            pooled_projections=pooled,
            encoder_hidden_states=prompt_embeds,
            txt_ids=self.img_ids.new_zeros(prompt_embeds.shape[1], 3),
            img_ids=self.img_ids,
            return_dict=False,
        )[0]

    def _fast_gradients(self) -> AbstractContextManager:
        """On a CPU, PyTorch's flash attention takes twice as long as plain arithmetic to go back in bfloat16."""
        # Checkpointing runs blocks again outside of this context, and must then take the same way.
        plain = self.device.type == "cpu" and not self.transformer.gradient_checkpointing
        return sdpa_kernel(SDPBackend.MATH) if plain else nullcontext()


def _sum(layers: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The layers' losses in one term, unless one of them is not finite: the loop then needs its name."""
    losses = torch.stack(list(layers.values()))
    return {"attention": losses.sum()} if losses.isfinite().all() else layers
