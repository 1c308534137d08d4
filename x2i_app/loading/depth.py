"""Depth maps of photos, for ControlNets that follow them, by a model that the user has."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image

from x2i_app.errors import CheckpointError
from x2i_app.loading.hub import models_folder
from x2i_app.quiet import quiet

if TYPE_CHECKING:
    from transformers import DPTImageProcessor, PreTrainedModel

FOLDER = "depth"  # in the folder with models
_GRAY = 16  # levels by which the channels of a gray image may differ, as in a JPEG file


def find_depth_model(models: str | Path | None = None) -> Path | None:
    """The first folder in `models`/depth, or that folder itself if the model is in it; None without one."""
    folder = models_folder(models) / FOLDER
    found = (each for each in (folder, *sorted(folder.glob("*"))) if (each / "config.json").is_file())
    return next(found, None)


class DepthEstimator:
    """Makes depth maps with a Depth Anything or DPT model of transformers, which is loaded for the first one.

    folder: as on the hub, with safetensors weights. It runs on the CPU, so that FLUX keeps the card.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self._parts: tuple[DPTImageProcessor, PreTrainedModel] | None = None  # None until the first photo

    @torch.no_grad()
    def __call__(self, image: Image.Image) -> Image.Image:
        """The depth map of an RGB image, of the same size: white is near. A gray image is taken for one, and stays.

        Raises CheckpointError if the model cannot be loaded.
        """
        if shows_depth(image):
            return image
        self._parts = self._parts or self._load()
        processor, model = self._parts
        with quiet():
            depth = model(**processor(images=image, return_tensors="pt")).predicted_depth.float()
        size = (image.height, image.width)
        depth = torch.nn.functional.interpolate(depth[:, None], size, mode="bicubic", align_corners=False)[0, 0]
        config = model.config
        if getattr(config, "depth_estimation_type", "relative") == "metric":  # a distance
            depth = -depth
        levels = 255 * (depth - depth.min()) / (depth.max() - depth.min()).clamp(min=1e-6)
        return Image.fromarray(levels.round().byte().numpy()).convert("RGB")

    def _load(self) -> "tuple[DPTImageProcessor, PreTrainedModel]":
        from transformers import DepthAnythingForDepthEstimation, DPTForDepthEstimation, DPTImageProcessor

        known = {"depth_anything": DepthAnythingForDepthEstimation, "dpt": DPTForDepthEstimation}
        own = {"local_files_only": True}
        try:
            kind = json.loads((self.folder / "config.json").read_text(encoding="utf-8"))["model_type"]
            with quiet():
                processor = DPTImageProcessor.from_pretrained(self.folder, **own)
                model = known[kind].from_pretrained(self.folder, use_safetensors=True, dtype=torch.float32, **own)
        except (OSError, ValueError, KeyError, RuntimeError, TypeError) as error:
            raise CheckpointError(
                f"{self.folder.name} holds no depth model that can be read; take one in transformers layout, such as "
                "depth-anything/Depth-Anything-V2-Small-hf, with safetensors weights."
            ) from error
        return processor, model.eval()


def shows_depth(image: Image.Image) -> bool:
    """Whether an RGB image is gray, as depth maps are and photos are not."""
    pixels = np.asarray(image).astype(np.int16)
    return bool((pixels.max(axis=2) - pixels.min(axis=2) <= _GRAY).mean() > 0.99)
