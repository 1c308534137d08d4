"""Predicted images: at each step, the finished image as FLUX predicts it at that moment.

FLUX predicts a velocity v. Along the straight path of flow matching, the latents without noise are x0 = x - sigma * v.
Decoding them with the VAE would take longer than a step of x2i-tiny, so one linear map turns the channels of each
latent pixel into colors. Previews only read what the transformer returns and change nothing that is drawn.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL, FluxPipeline, FluxTransformer2DModel
from PIL import Image

from x2i_app.settings import ASSETS

# Red, green and blue in [-1, 1] for each of the 16 latent channels of FLUX.1's VAE, and the color at zero. Published
# in ComfyUI's `latent_formats.py`, where they were fitted on real images.
_FLUX_WEIGHT = (
    (-0.0346, 0.0244, 0.0681),
    (0.0034, 0.0210, 0.0687),
    (0.0275, -0.0668, -0.0433),
    (-0.0174, 0.0160, 0.0617),
    (0.0859, 0.0721, 0.0329),
    (0.0004, 0.0383, 0.0115),
    (0.0405, 0.0861, 0.0915),
    (-0.0236, -0.0185, -0.0259),
    (-0.0245, 0.0250, 0.1180),
    (0.1008, 0.0755, -0.0421),
    (-0.0515, 0.0201, 0.0011),
    (0.0428, -0.0012, -0.0036),
    (0.0817, 0.0765, 0.0749),
    (-0.1264, -0.0522, -0.1103),
    (-0.0280, -0.0881, -0.0499),
    (-0.1262, -0.0982, -0.0778),
)
_FLUX_BIAS = (-0.0329, -0.0718, -0.0851)
_FLUX_SCALING, _FLUX_SHIFT = 0.3611, 0.1159  # identify FLUX.1's VAE
_RIDGE = 0.1  # keeps the fit stable if a channel hardly varies
_FIT_SIDE = 128  # pixels


class LatentProjection:
    """A linear map of latents to pixels: weight (channels, 3 * patch**2) and bias (3 * patch**2), in [-1, 1].

    patch: side of the square of pixels that one latent pixel becomes; 1 gives a small image, 8 one of full size.
    """

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor):
        self.weight, self.bias = weight, bias
        self.patch = int((len(bias) // 3) ** 0.5)

    @classmethod
    def of(cls, vae: AutoencoderKL, images: Sequence[Image.Image]) -> "LatentProjection":
        """The published map for FLUX.1's own VAE; for any other VAE, one that is fitted on `images`."""
        config = vae.config
        if (config.latent_channels, config.scaling_factor, config.shift_factor) == (16, _FLUX_SCALING, _FLUX_SHIFT):
            # With their dtypes: another thread that loads a model changes torch's default one for a while.
            return cls(*(torch.tensor(values, dtype=torch.float32) for values in (_FLUX_WEIGHT, _FLUX_BIAS)))
        return cls.fitted(vae, images)

    @classmethod
    @torch.no_grad()
    def fitted(cls, vae: AutoencoderKL, images: Sequence[Image.Image]) -> "LatentProjection":
        """Ridge regression from the latents of `images` to their pixels."""
        patch = 2 ** (len(vae.config.block_out_channels) - 1)
        inputs, targets = [], []
        for source in images:
            pixels = np.asarray(source.convert("RGB").resize((_FIT_SIDE, _FIT_SIDE)))
            image = torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float() / 127.5 - 1
            latents = vae.encode(image.to(vae.device, vae.dtype)).latent_dist.mode()
            latents = (latents - vae.config.shift_factor) * vae.config.scaling_factor
            inputs.append(latents[0].flatten(1).T.double().cpu())
            targets.append(torch.nn.functional.unfold(image, patch, stride=patch)[0].T.double())
        x, y = torch.cat(inputs), torch.cat(targets)
        x_mean, y_mean = x.mean(0), y.mean(0)
        x = x - x_mean
        weight = torch.linalg.solve(x.T @ x + _RIDGE * torch.eye(x.shape[1], dtype=x.dtype), x.T @ (y - y_mean))
        return cls(weight.float(), (y_mean - x_mean @ weight).float())

    def __call__(self, latents: torch.Tensor) -> Image.Image:
        """Latents (channels, height, width), scaled as in the pipeline -> an image `patch` times as wide and high."""
        height, width = latents.shape[1:]
        if self.weight.device != latents.device:
            self.weight, self.bias = self.weight.to(latents.device), self.bias.to(latents.device)
        colors = latents.float().flatten(1).T @ self.weight + self.bias
        pixels = torch.nn.functional.pixel_shuffle(colors.T.reshape(-1, height, width), self.patch)
        pixels = ((pixels.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
        return Image.fromarray(pixels.permute(1, 2, 0).contiguous().cpu().numpy())


@contextmanager
def predictions(transformer: FluxTransformer2DModel, show: Callable[[torch.Tensor], None]) -> Iterator[None]:
    """Inside the block, `show` is called with the predicted x0 (B, tokens, 4 * channels) of each step, in float32.

    Works for every pipeline that calls a FluxTransformer2DModel. The hook is removed when the block ends.
    """

    shown = None

    def hook(_module: torch.nn.Module, _arguments: tuple, named: dict[str, Any], output: Any) -> None:
        nonlocal shown
        if shown is not None and torch.equal(shown, named["timestep"]):
            return  # the second call of a step is that of the negative prompt
        shown = named["timestep"]
        velocity = output[0].float()
        # FLUX Fill and Kontext also read tokens or channels of their input image, which come after the noise.
        noisy = named["hidden_states"][:, : velocity.shape[1], : velocity.shape[2]].float()
        sigma = named["timestep"].float().view(-1, 1, 1)  # 1 is noise alone
        show(noisy - sigma * velocity)

    handle = transformer.register_forward_hook(hook, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()


class Previewer:
    """Predicted images of the pipelines over one VAE. A map that must be fitted is fitted on the bundled examples."""

    def __init__(self, vae: AutoencoderKL):
        images = [Image.open(path) for path in sorted((ASSETS / "examples" / "images").glob("*.png"))]
        self.projection = LatentProjection.of(vae, images)
        self._vae_scale = 2 ** (len(vae.config.block_out_channels) - 1)

    def watch(
        self, transformer: FluxTransformer2DModel, width: int, height: int, show: Callable[[Image.Image], None]
    ) -> AbstractContextManager[None]:
        """A `with` block in which `show` is called at each step with the prediction of the first image of the batch.

        width, height: of the images that are drawn, in pixels.
        """

        tokens = (height // (2 * self._vae_scale)) * (width // (2 * self._vae_scale))

        def decode(x0: torch.Tensor) -> None:
            # The tokens of a reference image come after those of the image.
            latents = FluxPipeline._unpack_latents(x0[:1, :tokens], height, width, self._vae_scale)
            show(self.projection(latents[0]))

        return predictions(transformer, decode)
