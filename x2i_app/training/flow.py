"""Flow matching: what FLUX.1, a LightControl and a LoRA learn, to tell the way from a picture's latents to noise."""

from collections.abc import Callable, Sequence
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
        sigmas = self._shift(torch.sigmoid(self.lean + torch.randn(count, 1, 1, device=device)), tokens.shape[1])
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

    def _shift(self, sigmas: torch.Tensor, tokens: int) -> torch.Tensor:
        config = _SHIFT | {k: v for k, v in self.scheduler_config.items() if k in _SHIFT}
        if self.scheduler_config.get("use_dynamic_shifting"):
            shift = exp(calculate_shift(tokens, *(config[name] for name in _SHIFT)))
        else:
            shift = self.scheduler_config.get("shift", 1.0)
        return shift * sigmas / (1 + (shift - 1) * sigmas)
