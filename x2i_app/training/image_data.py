"""Pictures with words, and perhaps with a source picture, as a LoRA and a LightControl learn from them.

What the frozen models make of a sample, the MLLM with AlignNet of its words and source, the VAE of its picture, is
computed once and kept on the disk; batches are then a function of their step.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from diffusers import AutoencoderKL
from PIL import Image, UnidentifiedImageError
from torch.utils.data import Dataset
from tqdm.auto import tqdm

from x2i_app.encoders import MLLMEncoder
from x2i_app.errors import TrainingError, X2IError
from x2i_app.models import AlignNet
from x2i_app.request import validate_text
from x2i_app.training.batching import Epochs
from x2i_app.training.cache import CaptionCache, fingerprint
from x2i_app.training.data import Broken, Sample, find_samples
from x2i_app.training.images import encode_images, open_image, to_square

_SOURCES, _TARGETS = ("jpg", "jpeg", "webp"), ("png",)
_SHARD = 16  # samples


@dataclass(frozen=True)
class TrainingImage:
    """words: a caption, or an instruction where there is a source. target, source: names of the sample's parts.

    name: of this sample with this content, as caches know it.
    """

    sample: Sample
    words: str
    target: str
    source: str | None
    name: str

    def image(self, part: str) -> Image.Image:
        """A part as an RGB picture. Raises OSError, ValueError."""
        return open_image(self.sample.read(part))


def read_images(
    sources: Sequence[str], caption_field: str, broken: Broken, *, with_source: bool
) -> list[TrainingImage]:
    """Samples of a .png picture, or any single one, and their words: a .txt part or a field of a .json part.

    A .jpg or .webp beside a .png is its source. with_source: every sample must have one.
    Raises TrainingError if there are none, or more are broken than may be.
    """
    images = []
    samples = [sample for source in sources for sample in find_samples(source, broken)]
    for sample in tqdm(samples, desc="pictures", dynamic_ncols=True, disable=not PartialState().is_main_process):
        try:
            images.append(_image(sample, caption_field, with_source))
        except (LookupError, OSError, ValueError, X2IError) as error:
            broken.add(sample.key, error)
    if not images:
        raise TrainingError(f"There are no pictures with words in {', '.join(map(str, sources))}.")
    return images


def _image(sample: Sample, caption_field: str, with_source: bool) -> TrainingImage:
    found = [part for part in sample.parts if part in (*_SOURCES, *_TARGETS)]
    if not found:
        raise LookupError(f"it has no picture, only {', '.join(sorted(sample.parts))}")
    target = next((part for part in found if part in _TARGETS), found[0])
    source = next((part for part in found if part in _SOURCES and part != target), None)
    if with_source and source is None:
        raise LookupError("it has no source picture, a .jpg beside the .png")
    if not {"txt", "json"} & sample.parts.keys():
        raise LookupError("it has no words, a .txt (or .json) of the same name")
    words = sample.read("txt").decode("utf-8") if "txt" in sample.parts else sample.read_json()[caption_field]
    words = validate_text("its caption", words).strip()
    digest = hashlib.sha256(words.encode())
    for part in filter(None, (target, source)):
        content = sample.read(part)
        digest.update(content)
        try:
            open_image(content)
        except (UnidentifiedImageError, OSError) as error:
            raise ValueError(f"its .{part} is no readable picture") from error
    return TrainingImage(sample, words, target, source, f"{sample.key} {digest.hexdigest()}")


def read_conditioning(
    images: Sequence[TrainingImage], encoder: MLLMEncoder, align_net: AlignNet, directory: Path, dtype: torch.dtype
) -> CaptionCache:
    """`prompt_embeds` (S, joint) and `pooled` (pooled,) of every picture's words and source, kept in `directory`."""
    by_name = {image.name: image for image in images}

    @torch.no_grad()
    def read(names: Sequence[str]) -> list[dict[str, torch.Tensor]]:
        rows = []
        for image in map(by_name.get, names):
            source = [image.image(image.source)] if image.source else []
            states = encoder.encode(image.words, source).hidden_states
            prompt_embeds, pooled = align_net(states.to(align_net.device, align_net.dtype))
            rows.append({"prompt_embeds": prompt_embeds[0].to(dtype), "pooled": pooled[0].to(dtype)})
        return rows

    made_by = fingerprint(encoder.base, align_net, encoder.family, encoder.spec, dtype)
    cache = CaptionCache(directory, [image.name for image in images], made_by, _SHARD)
    cache.fill(read, "MLLM and AlignNet")
    return cache


def read_latents(
    images: Sequence[TrainingImage], vae: AutoencoderKL, directory: Path, resolution: int, dtype: torch.dtype
) -> CaptionCache:
    """`latents` (C, resolution/8, resolution/8) of every picture as the transformer sees them, kept in `directory`."""
    by_name = {image.name: image for image in images}

    def open_named(name: str) -> Image.Image:
        return by_name[name].image(by_name[name].target)

    return encode_images(vae, [image.name for image in images], open_named, directory, resolution, dtype)


@dataclass(frozen=True)
class ImageBatches(Dataset):
    """batches[number]: samples whose words have one length, as `Epochs` chooses them.

    Each is a dictionary of `prompt_embeds` (B, S, joint), `pooled` (B, pooled), `latents` (B, C, resolution/8,
    resolution/8) and, if all have one, `source` (B, 3, resolution, resolution) in [-1, 1].
    """

    images: Sequence[TrainingImage]
    conditioning: CaptionCache
    latents: CaptionCache
    resolution: int
    batch_size: int
    seed: int

    @cached_property
    def _epochs(self) -> Epochs:
        return Epochs(self.conditioning.sizes("prompt_embeds", dim=0), self.batch_size, self.seed)

    def __getitem__(self, number: int) -> dict[str, Any]:
        chosen = self._epochs[number].tolist()
        rows = [self.conditioning[index] | self.latents[index] for index in chosen]
        batch = {name: torch.stack([row[name].float() for row in rows]) for name in rows[0]}
        images = [self.images[index] for index in chosen]
        if all(image.source for image in images):
            sources = [to_square(image.image(image.source), self.resolution) for image in images]
            batch["source"] = torch.stack(sources)
        return batch
