"""What the frozen models make of captions and images, computed once and kept on the disk, or for each batch."""

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import PartialState
from diffusers import AutoencoderKL
from PIL import Image
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from tqdm.auto import tqdm

from x2i_app.encoders import MLLMEncoder, NativeEncoder
from x2i_app.errors import TrainingError
from x2i_app.models import AlignNet
from x2i_app.request import Turn
from x2i_app.training.frozen import TeacherText
from x2i_app.training.image_data import TrainingImage, bucket_size, to_pixels

Compute = Callable[[Sequence[str]], Sequence[dict[str, torch.Tensor]]]

_FINGERPRINT_VALUES = 256  # of each weight
# Captions are encoded, and kept in memory, in shards of about this many bytes of states.
_SHARD_BYTES = 2**28
TYPICAL_TOKENS = 64  # of a caption, to estimate sizes
_SHARD_SIZES = (16, 1024)
_CONDITIONING_SHARD, _LATENTS_SHARD = 16, 64  # samples; 64 latents of 1024 x 1024 pixels are 33 MB


class TensorCache:
    """Named tensors for each key, e.g. a caption: cache[i] is the dictionary of the key with index i.

    Shards of some keys each are written under a temporary name and then renamed, so a process killed at any moment
    leaves complete shards, and the next one continues after them. A shard carries the fingerprint of what it was made
    from and is made again when that changes.

    directory: where the shards are. fingerprint: of everything but the keys that the tensors depend on.
    """

    def __init__(self, directory: Path, keys: Sequence[str], fingerprint: str, shard_size: int):
        self.directory = directory
        self.keys = list(keys)
        self.fingerprint = fingerprint
        self.shard_size = shard_size
        self._open: dict[int, Any] = {}

    def fill(self, compute: Compute, title: str) -> None:
        """Compute the shards that are missing, each process its share. compute: keys -> a dictionary for each key.

        Raises TrainingError if the disk is full or not writable, and what `compute` raises.
        """
        self._open.clear()
        self.directory.mkdir(parents=True, exist_ok=True)
        process = PartialState()
        missing = [shard for shard in range(self._count()) if not self._is_complete(shard)]
        process.wait_for_everyone()  # before one of them writes, so that all have the same list
        ours = missing[process.process_index :: process.num_processes]
        silent = not ours or not process.is_main_process
        for shard in tqdm(ours, desc=title, unit="shard", disable=silent, dynamic_ncols=True):
            rows = compute(self._keys(shard))
            self._write(shard, {f"{index}.{name}": t for index, row in enumerate(rows) for name, t in row.items()})
        process.wait_for_everyone()

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        shard, position = divmod(index, self.shard_size)
        file, names = self._read(shard)
        return {name: file.get_tensor(f"{position}.{name}") for name in names}

    def sizes(self, name: str, dim: int) -> list[int]:
        """The size of one dimension of a tensor for every key, without reading the tensors."""
        found = []
        for index in range(len(self)):
            shard, position = divmod(index, self.shard_size)
            found.append(self._read(shard)[0].get_slice(f"{position}.{name}").get_shape()[dim])
        return found

    def __getstate__(self):
        return self.__dict__ | {"_open": {}}  # every process opens its own files

    def _count(self) -> int:
        return -(-len(self.keys) // self.shard_size)

    def _keys(self, shard: int) -> list[str]:
        return self.keys[shard * self.shard_size : (shard + 1) * self.shard_size]

    def _path(self, shard: int) -> Path:
        return self.directory / f"{shard:05d}.safetensors"

    def _made_from(self, shard: int) -> str:
        return hashlib.sha256(json.dumps([self.fingerprint, self._keys(shard)]).encode()).hexdigest()

    def _is_complete(self, shard: int) -> bool:
        try:
            with safe_open(self._path(shard), framework="pt") as file:
                return (file.metadata() or {}).get("made_from") == self._made_from(shard)
        except (OSError, SafetensorError):
            return False

    def _write(self, shard: int, tensors: dict[str, torch.Tensor]) -> None:
        path = self._path(shard)
        temporary = path.with_suffix(".tmp")
        tensors = {name: tensor.contiguous().cpu() for name, tensor in tensors.items()}
        try:
            save_file(tensors, temporary, metadata={"made_from": self._made_from(shard)})
            temporary.replace(path)
        except (OSError, SafetensorError) as error:
            temporary.unlink(missing_ok=True)
            raise TrainingError(
                f"{path} cannot be written ({str(error).splitlines()[0]}); free some space and start again to continue."
            ) from error

    def _read(self, shard: int) -> tuple[Any, list[str]]:
        """An open shard and the names of the tensors of each key."""
        if shard not in self._open:
            file = safe_open(self._path(shard), framework="pt")
            names = [key.removeprefix("0.") for key in file.keys() if key.startswith("0.")]  # noqa: SIM118 (no dict)
            self._open[shard] = file, names
        return self._open[shard]


def fingerprint(*parts: Any) -> str:
    """A hash of modules, by some values of every weight, and of other objects, by their `repr`."""
    digest = hashlib.sha256()
    for part in parts:
        if not isinstance(part, torch.nn.Module):
            digest.update(repr(part).encode())
            continue
        for name, weight in part.state_dict().items():
            digest.update(f"{name} {weight.dtype} {tuple(weight.shape)}".encode())
            flat = weight.detach().flatten()
            some = flat[:: max(1, len(flat) // _FINGERPRINT_VALUES)][:_FINGERPRINT_VALUES]
            digest.update(some.float().cpu().numpy().tobytes())
    return digest.hexdigest()


def encode_states(encoder: MLLMEncoder, captions: Sequence[str], directory: Path, dtype: torch.dtype) -> TensorCache:
    """The MLLM's `hidden_states` (L, S, H) of every caption, in the folder `states` of `directory`.

    They are read from there, and computed if they are missing or were made by another model. Each row of equal ones at
    the end, as padding often gives, is stored once, with their number S as `rows`.
    encoder: reads a caption as it reads the prompt of a request. dtype: of what is kept.
    """

    def read(texts: Sequence[str]) -> list[dict[str, torch.Tensor]]:
        encoded = encoder.encode_batch([[Turn(text)] for text in texts])
        return [_without_repeated_rows(states.hidden_states[0].to(dtype)) for states in encoded]

    model = getattr(encoder, "base", encoder.model)  # a language-model head changes no states
    chat_template = getattr(encoder.processor, "chat_template", None)
    made_by = fingerprint(model, encoder.family, encoder.spec, chat_template, dtype)
    size = _shard_size(encoder.num_states * encoder.hidden_size * TYPICAL_TOKENS * dtype.itemsize)
    states = TensorCache(directory / "states", captions, made_by, size)
    states.fill(read, "MLLM")
    return states


def encode_teacher(
    teacher: TeacherText, captions: Sequence[str], directory: Path, max_sequence_length: int, dtype: torch.dtype
) -> TensorCache:
    """T5's `prompt_embeds` (T, joint) and CLIP's `pooled` (pooled,), likewise, in the folder `teacher`."""

    def teach(texts: Sequence[str]) -> list[dict[str, torch.Tensor]]:
        rows = zip(*teacher.encode(texts, max_sequence_length), strict=True)
        return [{"prompt_embeds": tokens.to(dtype), "pooled": pooled.to(dtype)} for tokens, pooled in rows]

    made_by = fingerprint(teacher.text_encoder, teacher.text_encoder_2, max_sequence_length, dtype)
    size = _shard_size(teacher.joint_dim * max_sequence_length * dtype.itemsize)
    embeddings = TensorCache(directory / "teacher", captions, made_by, size)
    embeddings.fill(teach, "T5 and CLIP")
    return embeddings


def encode_conditioning(
    images: Sequence[TrainingImage], encoder: MLLMEncoder, align_net: AlignNet, directory: Path, dtype: torch.dtype
) -> TensorCache:
    """AlignNet's `prompt_embeds` (S, joint) and `pooled` (pooled,) of every image's caption and source."""
    by_name = {image.name: image for image in images}

    @torch.no_grad()
    def read(names: Sequence[str]) -> list[dict[str, torch.Tensor]]:
        rows = []
        for image in map(by_name.get, names):
            source = [image.open(image.source)] if image.source else []
            states = encoder.encode(image.caption, source).hidden_states
            prompt_embeds, pooled = align_net(states.to(align_net.device, align_net.dtype))
            rows.append({"prompt_embeds": prompt_embeds[0].to(dtype), "pooled": pooled[0].to(dtype)})
        return rows

    made_by = fingerprint(encoder.base, align_net, encoder.family, encoder.spec, dtype)
    cache = TensorCache(directory / "conditioning", [image.name for image in images], made_by, _CONDITIONING_SHARD)
    cache.fill(read, "MLLM and AlignNet")
    return cache


def encode_latents(
    vae: AutoencoderKL,
    names: Sequence[str],
    open_named: Callable[[str], Image.Image],
    directory: Path,
    resolution: int,
    dtype: torch.dtype,
    buckets: bool = False,
    folder: str = "latents",
) -> TensorCache:
    """`latents` (C, resolution/8, resolution/8) of every image's middle square, scaled for the transformer.

    names: each stands for all that its image depends on; a new name is encoded again. The VAE computes where it is.
    buckets: of nearly the whole image instead, in one of the sizes of `bucket_size`. folder: for them in `directory`.
    """

    @torch.no_grad()
    def encode(chosen: Sequence[str]) -> list[dict[str, torch.Tensor]]:
        rows = []
        for name in chosen:
            image = open_named(name)
            size = bucket_size(*image.size, resolution) if buckets else (resolution, resolution)
            pixels = to_pixels(image, size)[None].to(vae.device, vae.dtype)
            mean = vae.encode(pixels).latent_dist.mean[0]
            rows.append({"latents": ((mean - vae.config.shift_factor) * vae.config.scaling_factor).to(dtype)})
        return rows

    made_by = fingerprint(vae, resolution, dtype, *(("buckets",) if buckets else ()))
    latents = TensorCache(directory / folder, names, made_by, _LATENTS_SHARD)
    latents.fill(encode, "VAE")
    return latents


class LiveStates:
    """In place of a cache: the MLLM stays in memory and reads the captions of each batch.

    For a 7B model a cached caption of 60 tokens takes 12 MB of disk space; reading it live, 1 % of a training step.
    """

    def __init__(self, encoder: NativeEncoder, captions: Sequence[str]):
        if encoder.spec.states != "prompt":
            raise TrainingError(
                "This MLLM's answers are distilled, and their length is not known before; set cache_states to true."
            )
        self.encoder, self.keys = encoder, list(captions)

    def sizes(self, name: str, dim: int) -> list[int]:
        """The number of tokens in the prompt of every caption."""
        silent = not PartialState().is_main_process
        texts = tqdm(self.keys, desc="counting tokens", dynamic_ncols=True, disable=silent)
        return [self.encoder.count_tokens([Turn(text)]) for text in texts]

    def read(self, indices: Sequence[int]) -> dict[str, torch.Tensor]:
        """hidden_states (B, L, S, H) of captions of one length."""
        encoded = self.encoder.encode_batch([[Turn(self.keys[index])] for index in indices])
        return {"hidden_states": torch.cat([states.hidden_states for states in encoded])}


class LiveTeacher:
    """In place of a cache: T5 and CLIP stay in memory. At 512 tokens each caption saves 4 MB of disk space."""

    def __init__(self, teacher: TeacherText, captions: Sequence[str], max_sequence_length: int):
        self.teacher, self.keys, self.max_sequence_length = teacher, list(captions), max_sequence_length

    def read(self, indices: Sequence[int]) -> dict[str, torch.Tensor]:
        """prompt_embeds (B, T, joint) and pooled (B, pooled)."""
        texts = [self.keys[index] for index in indices]
        return dict(zip(("prompt_embeds", "pooled"), self.teacher.encode(texts, self.max_sequence_length), strict=True))


def _shard_size(caption_bytes: int) -> int:
    return int(np.clip(_SHARD_BYTES // caption_bytes, *_SHARD_SIZES))


def _without_repeated_rows(states: torch.Tensor) -> dict[str, torch.Tensor]:
    """States (L, S, H) with only one of the equal rows at their end, and S as `rows`."""
    differs = (states != states[:, -1:]).any(dim=2).any(dim=0)
    kept = int(differs.nonzero().max()) + 2 if differs.any() else 1
    return {"hidden_states": states[:, :kept], "rows": torch.tensor(states.shape[1])}
