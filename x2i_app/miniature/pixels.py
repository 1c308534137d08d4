"""Images as tensors for the miniature's models."""

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image


def to_tensor(images: np.ndarray | Sequence[Image.Image | np.ndarray]) -> torch.Tensor:
    """RGB images of one size, or uint8 (B, H, W, 3) -> float (B, 3, H, W) in [-1, 1]."""
    if not isinstance(images, np.ndarray):
        images = np.stack([np.asarray(image) for image in images])
    return torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).float() / 127.5 - 1


def to_image(image: torch.Tensor) -> Image.Image:
    """Float (3, H, W) in [-1, 1], and beyond by rounding -> RGB image."""
    pixels = ((image.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    return Image.fromarray(pixels.permute(1, 2, 0).cpu().numpy())
