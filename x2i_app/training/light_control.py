"""LightControl learns to keep what an instruction leaves alone: source picture in, edited picture out.

The transformer is frozen; so is whatever makes its text. Source: arXiv 2503.06134, section 3.3, and its public training
code: flow matching at logit-normal timesteps.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from diffusers import FluxTransformer2DModel
from torch import nn
from torch.utils.data import Dataset

from x2i_app.models import LightControl
from x2i_app.training.flow import FlowMatching
from x2i_app.training.loop import Evaluate, LoopOptions, train

# A batch of the data -> prompt_embeds (B, S, joint), pooled (B, pooled) of what is to be drawn.
Condition = Callable[[dict[str, Any]], tuple[torch.Tensor, torch.Tensor]]


def train_light_control(
    light_control: LightControl,
    transformer: FluxTransformer2DModel,
    scheduler_config: dict[str, Any],
    data: Dataset,
    condition: Condition,
    directory: Path,
    options: LoopOptions,
    *,
    stop_at: int | None = None,
    evaluate: Evaluate | None = None,
) -> None:
    """Train in place, resumably; `stop_at`, `evaluate` and errors as of `train`.

    data[step]: a dictionary with source (B, 3, H, W) in [-1, 1], latents (B, C, H/8, W/8) of the edited picture as the
    transformer sees them, and what `condition` needs.
    """
    transformer.requires_grad_(False).eval()
    flow = FlowMatching(transformer, scheduler_config)

    def compute_loss(model: nn.Module, batch: dict[str, Any]) -> dict[str, torch.Tensor]:
        device = transformer.device
        with torch.no_grad():
            prompt_embeds, pooled = condition(batch)
        source = batch["source"].to(device)
        latents = batch["latents"].to(device)
        return {"flow": flow(latents, prompt_embeds, pooled, lambda timestep: model(source, timestep))}

    further = {"title": "LightControl", "stop_at": stop_at, "evaluate": evaluate}
    train(light_control, data, compute_loss, Path(directory), options, **further)
