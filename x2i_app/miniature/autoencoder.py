"""First stage of x2i-tiny: the VAE learns to encode and decode renders."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch.nn.functional import avg_pool2d
from torch.utils.data import Dataset

from x2i_app.miniature.pixels import to_tensor
from x2i_app.miniature.pool import ImagePool
from x2i_app.training.loop import LoopOptions, train

# Mostly squared error; a little absolute error sharpens edges, a little KL divergence keeps latents smooth and small.
_ABSOLUTE_WEIGHT = 0.05
_KL_WEIGHT = 1e-4
# A transformer of this size does not learn latents that are nearly white noise over the image. Latents that stay
# readable with noise, and at half their size, are smooth.
_NOISE = 0.12  # of the latents' standard deviation
_HALF_WEIGHT = 0.25


@dataclass(frozen=True)
class ImageBatches(Dataset):
    """Random images, float (B, 3, H, W) in [-1, 1]; a function of the step.

    pools: each with images of one size, the smallest first. Of four batches three have windows of half the smallest
    width and height, which take a quarter of the time; the fourth has a quarter as many whole images of the first pool.
    """

    pools: tuple[ImagePool, ...]
    batch_size: int
    seed: int = 0

    def __getitem__(self, step: int) -> torch.Tensor:
        rng = np.random.default_rng((self.seed, step))
        is_whole = step % 4 == 0
        images = self.pools[0 if is_whole else step % len(self.pools)].images
        count = max(1, self.batch_size // 4) if is_whole else self.batch_size
        side = self.pools[0].images.shape[1] // (1 if is_whole else 2)
        indices = rng.integers(len(images), size=count)
        corners = rng.integers(images.shape[1] - side + 1, size=(count, 2))
        windows = (images[i, y : y + side, x : x + side] for i, (y, x) in zip(indices, corners, strict=True))
        return to_tensor(np.stack(list(windows)))


def train_vae(
    vae: AutoencoderKL, pools: tuple[ImagePool, ...], directory: Path, options: LoopOptions, batch_size: int
) -> None:
    """Train in place, then set shift and scale so that latents have mean 0 and standard deviation 1.

    pools, batch_size: as in `ImageBatches`.
    """
    train(vae, ImageBatches(pools, batch_size, options.seed), _loss, directory, options, title="VAE")
    latents = encode_images(vae, pools[0].images[:1000])
    vae.register_to_config(shift_factor=0.0, scaling_factor=1.0)
    shift, deviation = latents.mean().item(), latents.std().item()
    vae.register_to_config(shift_factor=round(shift, 5), scaling_factor=round(1 / deviation, 5))


def _loss(vae, images):
    posterior = vae.encode(images).latent_dist
    latents = posterior.sample()
    latents = latents + _NOISE * latents.detach().std() * torch.randn_like(latents)
    error = vae.decode(latents).sample.float() - images
    half = vae.decode(avg_pool2d(latents, 2)).sample.float() - avg_pool2d(images, 2)
    # Kullback-Leibler divergence from the unit normal distribution, averaged over latent values.
    kl = 0.5 * (posterior.mean.float().square() + posterior.var.float() - 1 - posterior.logvar.float()).mean()
    return {
        "squared": error.square().mean(),
        "absolute": _ABSOLUTE_WEIGHT * error.abs().mean(),
        "half size": _HALF_WEIGHT * half.square().mean(),
        "kl": _KL_WEIGHT * kl,
    }


@torch.no_grad()
def encode_images(vae: AutoencoderKL, images: np.ndarray, batch_size: int = 32) -> torch.Tensor:
    """uint8 (N, H, W, 3) -> latents (N, C, H/8, W/8) for the DiT: the posterior's mean, shifted and scaled."""
    config = vae.config
    parts = []
    for start in range(0, len(images), batch_size):
        batch = to_tensor(images[start : start + batch_size]).to(vae.device, vae.dtype)
        parts.append((vae.encode(batch).latent_dist.mean - config.shift_factor) * config.scaling_factor)
    return torch.cat(parts)


@torch.no_grad()
def reconstruction_psnr(
    vae: AutoencoderKL, images: np.ndarray, batch_size: int = 32, device: torch.device | None = None
) -> float:
    """Mean peak signal-to-noise ratio in dB of images, uint8 (N, H, W, 3), that the VAE encodes and decodes.

    device: where the VAE computes, if it is offloaded to another device until it is called.
    """
    ratios = []
    for start in range(0, len(images), batch_size):
        batch = to_tensor(images[start : start + batch_size])
        latents = vae.encode(batch.to(device or vae.device, vae.dtype)).latent_dist.mean
        drawn = vae.decode(latents).sample.float().cpu().clamp(-1, 1)
        # Pixel values have a range of 2, so the squared peak is 4.
        ratios.append(10 * torch.log10(4 / (drawn - batch).square().mean(dim=(1, 2, 3))))
    return torch.cat(ratios).mean().item()
