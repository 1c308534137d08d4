"""Pictures of a corpus as latents, for distillation along the noise levels of flow matching."""

import io
from collections.abc import Sequence
from pathlib import Path

import torch
from diffusers import AutoencoderKL, FluxPipeline
from diffusers.image_processor import VaeImageProcessor
from PIL import Image, ImageOps

from x2i_app.training.cache import CaptionCache, fingerprint
from x2i_app.training.data import Place

_MAX_PIXELS = 2**26
_SHARD_SIZE = 256


def open_picture(content: bytes) -> Image.Image:
    """An RGB picture, upright. Raises ValueError or OSError for what is none, or has more than 64 million pixels."""
    picture = Image.open(io.BytesIO(content), formats=("JPEG", "PNG", "WEBP"))
    if picture.width * picture.height > _MAX_PIXELS:
        raise ValueError(f"it has {picture.width} x {picture.height} pixels")
    return ImageOps.exif_transpose(picture).convert("RGB")


def encode_pictures(
    vae: AutoencoderKL,
    pictures: Sequence[Place],
    directory: Path,
    resolution: int,
    dtype: torch.dtype,
) -> CaptionCache:
    """`latents` (tokens, channels) of pictures as FLUX reads them, in `directory`'s folder `latents`.

    Each is cut to its middle square and scaled to `resolution`. The VAE computes where it is.
    """
    named = {str(place): place for place in pictures}
    processor = VaeImageProcessor(vae_scale_factor=2 ** len(vae.config.block_out_channels))

    @torch.no_grad()
    def encode(names: Sequence[str]) -> list[dict[str, torch.Tensor]]:
        rows = []
        for name in names:
            picture = ImageOps.fit(open_picture(named[name].read()), (resolution, resolution))
            pixels = processor.preprocess(picture).to(vae.device, vae.dtype)
            latents = vae.encode(pixels).latent_dist.mean
            latents = (latents - vae.config.shift_factor) * vae.config.scaling_factor
            rows.append({"latents": FluxPipeline._pack_latents(latents, *latents.shape)[0].to(dtype)})
        return rows

    made_by = fingerprint(vae, resolution, dtype)
    latents = CaptionCache(directory / "latents", list(map(str, pictures)), made_by, _SHARD_SIZE)
    latents.fill(encode, "VAE")
    return latents
