"""What attention distillation minimises: the distance of two runs of one FLUX transformer, layer by layer."""

from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

import numpy as np
import torch
from accelerate.utils import reduce
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, FluxPipeline, FluxTransformer2DModel
from diffusers.pipelines.flux.pipeline_flux import retrieve_timesteps
from torch.distributed.fsdp import FSDPModule
from torch.nn.attention import SDPBackend, sdpa_kernel

from x2i_app.errors import TrainingError
from x2i_app.training.distill_options import DistillOptions
from x2i_app.training.flow import flow_shift, shift_sigmas
from x2i_app.training.losses import attention_kl
from x2i_app.training.taps import tap_attention


class FluxParts(NamedTuple):
    """A FLUX.1 model without its text encoders."""

    transformer: FluxTransformer2DModel
    vae: AutoencoderKL
    scheduler: FlowMatchEulerDiscreteScheduler


class Comparison:
    """The loss of a batch of captions: how far apart are teacher and student, one transformer run twice."""

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
        for layer in self.transformer.modules():  # bitsandbytes' fast way for 4 bit on some CPUs has no way back
            if hasattr(layer, "support_avx512bf16_for_cpu"):
                layer.support_avx512bf16_for_cpu = False

    def compute_loss(self, align_net: torch.nn.Module, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Terms of the loss. batch: of CaptionBatches, complete."""
        device, dtype = self.device, self.transformer.dtype
        prompt_embeds, pooled = batch["prompt_embeds"].to(device, dtype), batch["pooled"].to(device, dtype)
        hidden_states = batch["hidden_states"].to(device, torch.float32)
        self._check_lengths(hidden_states.shape[2], prompt_embeds.shape[1])
        # The teacher's outputs, from when it says them until the student has said its own.
        waiting: dict[str, torch.Tensor] = {}
        with torch.no_grad():
            latents, timestep = self._noisy_latents(batch.get("latents"), prompt_embeds, pooled)
            with tap_attention(self.transformer, lambda name, _, output: waiting.update({name: output}), self.streams):
                wanted = self._predict(latents, timestep, prompt_embeds, pooled)
        layers: dict[str, torch.Tensor] = {}

        def compare(name: str, _: str, output: torch.Tensor) -> None:
            layers[name] = attention_kl(waiting.pop(name), output, self.options.temperature)

        prompt_embeds, pooled = align_net(self._blurred(hidden_states))
        with tap_attention(self.transformer, compare, self.streams), self._fast_gradients():
            velocity = self._predict(latents, timestep, prompt_embeds.to(dtype), pooled.to(dtype))
        terms = _sum(layers)
        if self.options.output_weight:
            error = torch.nn.functional.mse_loss(velocity.float(), wanted.float())
            terms["output"] = self.options.output_weight * error
        return terms

    def _blurred(self, states: torch.Tensor) -> torch.Tensor:
        """The MLLM's states (B, L, S, H), with noise in proportion to the size of each layer's.

        Captions are fewer than what is drawn later, and no picture or sound is among them: what lies near a caption's
        states must mean nearly the same.
        """
        if not self.options.state_noise:
            return states
        size = states.square().mean(dim=(2, 3), keepdim=True).sqrt()
        return states + self.options.state_noise * size * torch.randn_like(states)

    def _check_lengths(self, ours: int, theirs: int) -> None:
        if self.options.match_text and ours != theirs:
            raise TrainingError(
                f"AlignNet gives {ours} text rows and T5 {theirs}, but match_text compares row with row; pad the "
                "MLLM's tokens to max_sequence_length, or leave match_text off."
            )

    def _noisy_latents(
        self, images: torch.Tensor | None, prompt_embeds: torch.Tensor, pooled: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Latents (B, tokens, channels) and the timestep (B,), 0-1000, of each."""
        if self.options.sigmas != "logit_normal":
            return self._go_along(prompt_embeds, pooled)
        images = FluxPipeline._pack_latents(images.to(self.device), *images.shape)
        sigmas = torch.sigmoid(torch.randn(len(images), 1, 1, device=self.device))
        sigmas = shift_sigmas(sigmas, images.shape[1], self.scheduler.config)
        noisy = (1 - sigmas) * images + sigmas * torch.randn_like(images)
        return noisy.to(self.transformer.dtype), 1000 * sigmas.flatten()

    def _go_along(self, prompt_embeds: torch.Tensor, pooled: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Latents (B, tokens, channels) on the teacher's way from noise to a picture, and the timestep (B,) of each."""
        count, tokens, options = len(pooled), len(self.img_ids), self.options
        channels = self.transformer.config.in_channels
        latents = torch.randn(count, tokens, channels, device=self.device).to(self.transformer.dtype)
        timesteps = self._timesteps(tokens)
        along = torch.rand(count) < (options.path_share if options.sigmas == "path" else 0)
        # Most steps first, so that those that still have some to go are in front.
        steps = (torch.randint(options.num_inference_steps, (count,)) * along).sort(descending=True).values
        for step, time in enumerate(timesteps[: self._longest(steps[0])]):
            going = slice(max(1, int((steps > step).sum())))
            velocity = self._predict(latents[going], time.expand(going.stop), prompt_embeds[going], pooled[going])
            if step < steps[0]:
                latents[going] = self.scheduler.step(velocity, time, latents[going], return_dict=False)[0]
        return latents, timesteps[steps.to(timesteps.device)]

    def _longest(self, steps: torch.Tensor) -> int:
        """Of all processes where FLUX is in parts: it runs in all of them or in none."""
        if isinstance(self.transformer, FSDPModule):
            steps = reduce(steps.to(self.device), "max")
        return int(steps)

    def _timesteps(self, tokens: int) -> torch.Tensor:
        """The timesteps (0-1000) at which FluxPipeline would call the transformer; the scheduler starts anew."""
        config, steps = self.scheduler.config, self.options.num_inference_steps
        mu = flow_shift(config, tokens)
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
