"""Judges that compare: CLIP, DINO, and the pixels that an edit must keep."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers import (
    BitImageProcessor,
    CLIPConfig,
    CLIPModel,
    CLIPProcessor,
    Dinov2Config,
    Dinov2Model,
    PreTrainedConfig,
)

from x2i_app.encoders.weights import LOADING_ERRORS, load_strictly, short_message
from x2i_app.errors import CheckpointError
from x2i_app.evaluation.judges import Measured, Sample
from x2i_app.loading.hub import find_directory

CLIP_SCORE, CLIP_SIMILARITY, PSNR = "CLIP score", "CLIP image similarity", "PSNR of what stays (dB)"
DINO_SIMILARITY, DINO_KEPT = "DINO image similarity", "DINO similarity of what stays"

_FILES = ["*.json", "*.safetensors", "*.txt"]
_LEAST_ERROR = 1 / 12  # mean square error of rounding to 8 bits: equal images have 58.9 dB, not infinity
_LEAST_KEPT = 0.05  # share of the pixels; below it, as when the sky changes, nothing is compared
_GRAY = 128  # what an edit may change is this in both images


class CLIPJudge:
    """CLIP score (Hessel et al. 2021, arXiv 2104.08718): 100 x the cosine of image and text, at least 0; and the cosine

    of the image and its source, -1 to 1. Texts are cut after 77 tokens, as CLIP reads no more.
    """

    def __init__(self, model: CLIPModel, processor: CLIPProcessor, name: str, directory: Path | None = None):
        self.name, self.directory, self.notes = name, directory, ()
        self._model, self._processor = model.eval(), processor

    @classmethod
    def load(cls, source: str, device: torch.device, models: str | None = None) -> "CLIPJudge":
        """From a folder or a hub id in transformers' format. Raises CheckpointError."""
        directory, config = find_clip(source, models)
        processor = _load_processor(CLIPProcessor, directory, "CLIP")
        # Older files have position ids, which are no weights.
        left_out = ("text_model.embeddings.position_ids", "vision_model.embeddings.position_ids")
        model = load_strictly(CLIPModel, directory, "CLIP", config, torch.float32, left_out)
        return cls(model.to(device), processor, directory.name, directory)

    @torch.no_grad()
    def judge(self, sample: Sample) -> Measured:
        scores = {}
        image = self._image(sample.image)
        if sample.text:
            scores[CLIP_SCORE] = 100 * max(0.0, float(image @ self._text(sample.text)))
        if sample.source is not None:
            scores[CLIP_SIMILARITY] = float(image @ self._image(sample.source))
        return Measured(scores=scores)

    def _image(self, image: Image.Image) -> torch.Tensor:
        pixels = self._processor(images=image, return_tensors="pt")["pixel_values"].to(self._model.device)
        return _unit(self._model.get_image_features(pixel_values=pixels))

    def _text(self, text: str) -> torch.Tensor:
        length = self._model.config.text_config.max_position_embeddings
        inputs = self._processor(text=[text], return_tensors="pt", truncation=True, max_length=length)
        return _unit(self._model.get_text_features(**inputs.to(self._model.device)))


def _unit(features: Any) -> torch.Tensor:
    pooled = features if isinstance(features, torch.Tensor) else features.pooler_output
    return torch.nn.functional.normalize(pooled[0].float(), dim=0)


class DINOJudge:
    """The cosine, -1 to 1, of the class tokens of an image and its source, as Ruiz et al. measure with DINO

    (arXiv 2208.12242), here with DINOv2 (arXiv 2304.07193). If a mask says what an edit may change, also the cosine of
    both images with that part gray.
    """

    def __init__(self, model: Dinov2Model, processor: BitImageProcessor, name: str, directory: Path | None = None):
        self.name, self.directory, self.notes = name, directory, ()
        self._model, self._processor = model.eval(), processor

    @classmethod
    def load(cls, source: str, device: torch.device, models: str | None = None) -> "DINOJudge":
        """From a folder or a hub id in transformers' format. Raises CheckpointError."""
        directory, config = find_dino(source, models)
        processor = _load_processor(BitImageProcessor, directory, "DINOv2")
        model = load_strictly(Dinov2Model, directory, "DINOv2", config, torch.float32, ())
        return cls(model.to(device), processor, directory.name, directory)

    def judge(self, sample: Sample) -> Measured:
        if sample.source is None:
            return Measured()
        scores = {DINO_SIMILARITY: self._cosine(sample.image, sample.source)}
        if (kept := _kept(sample)) is not None:
            one, other = (_with_gray(each, kept) for each in (sample.image, sample.source))
            scores[DINO_KEPT] = self._cosine(one, other)
        return Measured(scores=scores)

    @torch.no_grad()
    def _cosine(self, image: Image.Image, source: Image.Image) -> float:
        found = []
        for each in (image, source):
            pixels = self._processor(images=each.convert("RGB"), return_tensors="pt")["pixel_values"]
            found.append(_unit(self._model(pixel_values=pixels.to(self._model.device))))
        return float(found[0] @ found[1])


class PixelJudge:
    """PSNR, in dB, of the pixels that an edit must not change: where `changed` is black. It needs no weights."""

    name, directory, notes = "pixels", None, ()

    def judge(self, sample: Sample) -> Measured:
        kept, size = _kept(sample), sample.image.size
        if kept is None:
            return Measured()
        image, source = (np.asarray(each.convert("RGB").resize(size), float) for each in (sample.image, sample.source))
        error = np.square(image - source)[kept].mean()
        return Measured(scores={PSNR: float(10 * np.log10(255**2 / max(error, _LEAST_ERROR)))})


def _kept(sample: Sample) -> np.ndarray | None:
    """(H, W) of the image, True where it must be as its source; None if that is unknown, or too little to compare."""
    if sample.source is None or sample.changed is None:
        return None
    changed = sample.changed.convert("L").resize(sample.image.size, Image.Resampling.NEAREST)
    kept = np.asarray(changed) < 128
    return None if kept.mean() < _LEAST_KEPT else kept


def _with_gray(image: Image.Image, kept: np.ndarray) -> Image.Image:
    """The image in the size of `kept` (H, W), gray where that is False."""
    size = (kept.shape[1], kept.shape[0])
    return Image.fromarray(np.where(kept[..., None], np.asarray(image.convert("RGB").resize(size)), np.uint8(_GRAY)))


def find_clip(source: str, models: str | None = None) -> tuple[Path, CLIPConfig]:
    """The folder of a CLIP, and its configuration; no weights are read. Raises CheckpointError."""
    return _find(source, models, CLIPConfig, "CLIP")


def find_dino(source: str, models: str | None = None) -> tuple[Path, Dinov2Config]:
    """The folder of a DINOv2, and its configuration; no weights are read. Raises CheckpointError."""
    return _find(source, models, Dinov2Config, "DINOv2")


def _find(source: str, models: str | None, cls: type[PreTrainedConfig], what: str) -> tuple[Path, Any]:
    directory = find_directory(source, None, _FILES, models).path
    try:
        config = json.loads((directory / "config.json").read_text(encoding="utf-8"))
        if config.get("model_type") != cls.model_type:
            raise CheckpointError(f"{directory.name} holds a {config.get('model_type')!r}, not a {what}.")
        return directory, cls.from_pretrained(directory, local_files_only=True)
    except (*LOADING_ERRORS, AttributeError) as error:
        raise CheckpointError(f"{directory.name} holds no readable {what} ({short_message(error)}).") from error


def _load_processor(cls: Any, directory: Path, what: str) -> Any:
    try:
        return cls.from_pretrained(directory, local_files_only=True, trust_remote_code=False)
    except LOADING_ERRORS as error:
        raise CheckpointError(f"{directory.name} holds no readable {what} ({short_message(error)}).") from error
