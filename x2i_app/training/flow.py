"""Flow matching: what FLUX.1, a LightControl and a LoRA learn, to tell the way from a picture's latents to noise."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import exp
from typing import Any

import torch
from diffusers import FluxPipeline, FluxTransformer2DModel
from diffusers.pipelines.flux.pipeline_flux import calculate_shift

Residuals = Callable[[torch.Tensor], Sequence[torch.Tensor]]

# diffusers' own, where a scheduler's configuration does not say.
_SHIFT = {"base_image_seq_len": 256, "max_image_seq_len": 4096, "base_shift": 0.5, "max_shift": 1.15}


@dataclass(frozen=True)
class FlowMatching:
    """The loss of latents under a transformer.

    scheduler_config: of the pipeline, whose shift towards noise the noise levels follow. lean: added to the normally
    distributed logit of a noise level before that shift; above 0 there is more noise. guidance_scale: for transformers
    that take one.
    """

    transformer: FluxTransformer2DModel
    scheduler_config: dict[str, Any]
    lean: float = 0.0
    guidance_scale: float = 3.5

    def __call__(
        self,
        latents: torch.Tensor,
        prompt_embeds: torch.Tensor,
        pooled: torch.Tensor,
        residuals: Residuals | None = None,
    ) -> torch.Tensor:
        """Mean squared error of the velocity from `latents` (B, C, H, W) to noise, at logit-normal noise levels.

        residuals: timesteps (B,) in 0..1000 -> what is added after each double block.
        """
        count, channels, height, width = latents.shape
        device = latents.device
        tokens = FluxPipeline._pack_latents(latents, count, channels, height, width)
        noise = torch.randn_like(tokens)
        sigmas = torch.sigmoid(self.lean + torch.randn(count, 1, 1, device=device))
        sigmas = shift_sigmas(sigmas, tokens.shape[1], self.scheduler_config)
        guidance = None
        if self.transformer.config.guidance_embeds:
            guidance = torch.full((count,), self.guidance_scale, device=device)
        dtype = self.transformer.dtype
        velocity = self.transformer(
            hidden_states=((1 - sigmas) * tokens + sigmas * noise).to(dtype),
            encoder_hidden_states=prompt_embeds.to(dtype),
            pooled_projections=pooled.to(dtype),
            timestep=sigmas.flatten().to(dtype),
            guidance=guidance,
            img_ids=FluxPipeline._prepare_latent_image_ids(count, height // 2, width // 2, device, dtype),
            txt_ids=torch.zeros(prompt_embeds.shape[1], 3, device=device, dtype=dtype),
            controlnet_block_samples=residuals and residuals(1000 * sigmas.flatten()),
            return_dict=False,
        )[0]
        return torch.nn.functional.mse_loss(velocity.float(), noise - tokens)


def flow_shift(scheduler_config: Mapping[str, Any], tokens: int) -> float:
    """mu: how far FluxPipeline shifts the noise levels of a picture of so many tokens towards noise; their exponent."""
    return calculate_shift(tokens, *(scheduler_config.get(name, usual) for name, usual in _SHIFT.items()))


def shift_sigmas(sigmas: torch.Tensor, tokens: int, scheduler_config: Mapping[str, Any]) -> torch.Tensor:
    """Noise levels, 0 to 1, shifted as the scheduler shifts them when it draws."""
    if scheduler_config.get("use_dynamic_shifting"):
        shift = exp(flow_shift(scheduler_config, tokens))
    else:
        shift = scheduler_config.get("shift", 1.0)
    return shift * sigmas / (1 + (shift - 1) * sigmas)
