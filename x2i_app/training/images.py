"""Pictures of a corpus: opened with care, cut to squares, and kept as latents."""

import io
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from PIL import Image, ImageOps

from x2i_app.training.cache import CaptionCache, fingerprint

_MAX_PIXELS = 2**26
_SHARD_SIZE = 64  # pictures, 33 MB at 1024 x 1024


def open_image(content: bytes) -> Image.Image:
    """An RGB picture, upright. Raises ValueError or OSError for what is none, or has more than 64 million pixels."""
    image = Image.open(io.BytesIO(content), formats=("JPEG", "PNG", "WEBP"))
    if image.width * image.height > _MAX_PIXELS:
        raise ValueError(f"it has {image.width} x {image.height} pixels")
    return ImageOps.exif_transpose(image).convert("RGB")


def to_square(image: Image.Image, side: int) -> torch.Tensor:
    """(3, side, side) in [-1, 1], of the middle square of an RGB picture."""
    pixels = np.array(ImageOps.fit(image, (side, side), Image.Resampling.BICUBIC))
    return torch.from_numpy(pixels).permute(2, 0, 1).float() / 127.5 - 1


def encode_images(
    vae: AutoencoderKL,
    names: Sequence[str],
    open_named: Callable[[str], Image.Image],
    directory: Path,
    resolution: int,
    dtype: torch.dtype,
) -> CaptionCache:
    """`latents` (C, resolution/8, resolution/8) of every picture's middle square as FLUX sees it, kept in `directory`.

    names: each says all that its picture depends on; made again is what has another one. The VAE computes where it is.
    """

    @torch.no_grad()
    def encode(chosen: Sequence[str]) -> list[dict[str, torch.Tensor]]:
        rows = []
        for name in chosen:
            pixels = to_square(open_named(name), resolution)[None].to(vae.device, vae.dtype)
            mean = vae.encode(pixels).latent_dist.mean[0]
            rows.append({"latents": ((mean - vae.config.shift_factor) * vae.config.scaling_factor).to(dtype)})
        return rows

    latents = CaptionCache(directory, names, fingerprint(vae, resolution, dtype), _SHARD_SIZE)
    latents.fill(encode, "VAE")
    return latents
