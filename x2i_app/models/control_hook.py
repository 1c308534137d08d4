"""How LightControl gets into a FLUX transformer: by a pre-forward hook, as the transformer's own ControlNet residuals.

It therefore works under every pipeline that calls a FluxTransformer2DModel, and is gone when the block ends.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from math import ceil
from typing import Any

import numpy as np
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, FluxTransformer2DModel
from PIL import Image, ImageOps

from x2i_app.models.light_control import PIXELS, LightControl


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
    """Inside the block `transformer` is told what `image` looks like.

    image: RGB; cut around its middle to the shape of the picture that is drawn. strength: 0 changes nothing, 1 is as
    trained. start, end: the part of the scheduler's steps that are told, from 0 to 1, as in diffusers' ControlNets.
    """
    hook = LightControlHook(light_control, scheduler, image, strength, start, end)
    # Of torch's own kind: diffusers' and accelerate's replace `forward`, and memory offload removes theirs on the way.
    handle = transformer.register_forward_pre_hook(hook, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()


class LightControlHook:
    """Puts `controlnet_block_samples` into each call; the stems are computed at the first and kept."""

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
    def __call__(self, transformer: FluxTransformer2DModel, arguments: tuple, named: dict[str, Any]):
        """As torch calls it; every pipeline of diffusers names the arguments."""
        timestep = 1000 * named["timestep"][:1].float()  # of a whole batch, as pictures are drawn in step
        if not self.strength or not self._is_told(timestep):
            return None
        drawn, size = _drawn_tokens(named["img_ids"])
        hidden_states, net = named["hidden_states"], self.light_control
        if self.stems is None:
            self.stems = net.stems(_to_tensor(self.image, size).to(net.device, net.dtype))
        residuals = net.residuals(self.stems, timestep.to(net.device))
        for block, one in enumerate(residuals):  # one by one, as all of them twice would be 1 GiB
            residuals[block] = _place(self.strength * one.to(hidden_states), drawn)
        count = len(transformer.transformer_blocks)
        # Blocks that have no net are told nothing.
        residuals += [torch.zeros_like(residuals[0])] * (count - len(residuals))
        for block, other in enumerate(_others(named, count)):
            residuals[block] = residuals[block] + other
        return arguments, named | {"controlnet_block_samples": residuals, "controlnet_blocks_repeat": False}

    def _is_told(self, timestep: torch.Tensor) -> bool:
        if self.start <= 0 and self.end >= 1:
            return True
        timesteps = self.scheduler.timesteps.to(timestep)
        step, count = int((timesteps - timestep).abs().argmin()), len(timesteps)
        return step / count >= self.start and (step + 1) / count <= self.end


def _drawn_tokens(img_ids: torch.Tensor) -> tuple[torch.Tensor, tuple[int, int]]:
    """Which tokens (T,) are of the picture being drawn, not of one beside it as Kontext has; and its size in pixels."""
    drawn = img_ids[:, 0] == 0
    height, width = (PIXELS * (int(img_ids[drawn, axis].max()) + 1) for axis in (1, 2))
    return drawn, (width, height)


def _place(residual: torch.Tensor, drawn: torch.Tensor) -> torch.Tensor:
    if residual.shape[1] == len(drawn):
        return residual
    placed = residual.new_zeros(len(residual), len(drawn), residual.shape[2])
    placed[:, drawn] = residual
    return placed


def _others(named: dict[str, Any], count: int) -> Sequence[torch.Tensor]:
    """What a ControlNet beside adds after each of the `count` blocks, told as FluxTransformer2DModel shares it out."""
    samples = named.get("controlnet_block_samples")
    if not samples:
        return ()
    if named.get("controlnet_blocks_repeat"):
        return [samples[block % len(samples)] for block in range(count)]
    return [samples[block // ceil(count / len(samples))] for block in range(count)]


def _to_tensor(image: Image.Image, size: tuple[int, int]) -> torch.Tensor:
    """(1, 3, H, W) in [-1, 1]. size: (W, H) in pixels."""
    pixels = np.asarray(ImageOps.fit(image.convert("RGB"), size, Image.Resampling.BICUBIC))
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float() / 127.5 - 1
