"""Runs LightControl inside a FLUX transformer: a pre-forward hook that adds ControlNet residuals.

It works with every pipeline that calls a FluxTransformer2DModel, and is removed at the end of the block.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from math import ceil
from typing import Any

import numpy as np
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, FluxTransformer2DModel
from PIL import Image, ImageOps

from x2i_app.models.light_control import TOKEN_SIDE, LightControl


@contextmanager
def controlled(
    transformer: FluxTransformer2DModel,
    scheduler: FlowMatchEulerDiscreteScheduler,
    light_control: LightControl,
    image: Image.Image,
    strength: float = 1.0,
    start: float = 0.0,
    end: float = 1.0,
) -> Iterator[None]:
    """Inside the block, LightControl keeps what `transformer` generates close to `image`.

    image: RGB; center-cropped to the aspect ratio of the output. strength: 0 has no effect, 1 is as trained.
    start, end: the part of the scheduler's steps, 0 to 1, in which it is active. All steps of the schedule count, also
    those that image-to-image skips; diffusers' ControlNet pipelines count only the steps that are run.
    """
    hook = LightControlHook(light_control, scheduler, image, strength, start, end)
    # A hook of torch: those of diffusers and accelerate replace `forward`, and offloading can remove them meanwhile.
    handle = transformer.register_forward_pre_hook(hook, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()


class LightControlHook:
    """Adds `controlnet_block_samples` to each call. The stems are computed in the first call and reused."""

    def __init__(
        self,
        light_control: LightControl,
        scheduler: FlowMatchEulerDiscreteScheduler,
        image: Image.Image,
        strength: float,
        start: float,
        end: float,
    ):
        self.light_control, self.scheduler, self.image = light_control, scheduler, image
        self.strength, self.start, self.end = strength, start, end
        self.stems: list[torch.Tensor] | None = None

    @torch.no_grad()
    def __call__(self, transformer: FluxTransformer2DModel, args: tuple, kwargs: dict[str, Any]):
        """Called by torch before each forward; diffusers' pipelines pass all arguments by keyword."""
        timestep = 1000 * kwargs["timestep"][:1].float()  # equal for the whole batch
        if not self.strength or not self._is_active(timestep):
            return None
        is_generated, size = _generated_tokens(kwargs["img_ids"])
        hidden_states, net = kwargs["hidden_states"], self.light_control
        if self.stems is None:
            self.stems = net.stems(to_tensor(self.image, size).to(net.device, net.dtype))
        residuals = net.residuals(self.stems, timestep.to(net.device))
        for block, residual in enumerate(residuals):  # in place, as a second copy of all residuals would be 1 GiB
            residuals[block] = _expand(self.strength * residual.to(hidden_states), is_generated)
        num_blocks = len(transformer.transformer_blocks)
        # Blocks without a net get zeros.
        residuals += [torch.zeros_like(residuals[0])] * (num_blocks - len(residuals))
        for block, sample in enumerate(_controlnet_samples(kwargs, num_blocks)):
            residuals[block] = residuals[block] + sample
        return args, kwargs | {"controlnet_block_samples": residuals, "controlnet_blocks_repeat": False}

    def _is_active(self, timestep: torch.Tensor) -> bool:
        if self.start <= 0 and self.end >= 1:
            return True
        timesteps = self.scheduler.timesteps.to(timestep)
        step, num_steps = int((timesteps - timestep).abs().argmin()), len(timesteps)
        return step / num_steps >= self.start and (step + 1) / num_steps <= self.end


def _generated_tokens(img_ids: torch.Tensor) -> tuple[torch.Tensor, tuple[int, int]]:
    """A mask (T,) of the tokens of the generated image, and its (width, height) in pixels.

    Other tokens belong to a reference image, as FLUX.1 Kontext has; their first position id is not 0.
    """
    is_generated = img_ids[:, 0] == 0
    height, width = (TOKEN_SIDE * (int(img_ids[is_generated, axis].max()) + 1) for axis in (1, 2))
    return is_generated, (width, height)


def _expand(residual: torch.Tensor, is_generated: torch.Tensor) -> torch.Tensor:
    """A residual of the generated tokens as one of all tokens, with zeros for the others."""
    if residual.shape[1] == len(is_generated):
        return residual
    expanded = residual.new_zeros(len(residual), len(is_generated), residual.shape[2])
    expanded[:, is_generated] = residual
    return expanded


def _controlnet_samples(kwargs: dict[str, Any], num_blocks: int) -> Sequence[torch.Tensor]:
    """The samples of a ControlNet that runs as well, one per block, distributed as FluxTransformer2DModel does."""
    samples = kwargs.get("controlnet_block_samples")
    if not samples:
        return ()
    if kwargs.get("controlnet_blocks_repeat"):
        return [samples[block % len(samples)] for block in range(num_blocks)]
    return [samples[block // ceil(num_blocks / len(samples))] for block in range(num_blocks)]


def to_tensor(image: Image.Image, size: tuple[int, int]) -> torch.Tensor:
    """(1, 3, H, W) in [-1, 1]. size: (W, H) in pixels."""
    pixels = np.asarray(ImageOps.fit(image.convert("RGB"), size, Image.Resampling.BICUBIC))
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float() / 127.5 - 1
