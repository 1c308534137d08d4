"""Captions as both sides of the distillation read them, and batches of captions of one length."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from accelerate import PartialState
from torch.utils.data import Dataset
from tqdm.auto import tqdm

from x2i_app.encoders import MLLMEncoder, NativeEncoder
from x2i_app.errors import TrainingError
from x2i_app.request import Turn
from x2i_app.training.batching import Epochs
from x2i_app.training.cache import CaptionCache, fingerprint
from x2i_app.training.teacher import TeacherText

# Captions are encoded, and kept in memory, as many at a time as have this many bytes of states, by a guess.
_SHARD_BYTES = 2**28
_USUAL_TOKENS = 64
_SHARD_SIZES = (16, 1024)


def encode_captions(
    encoder: MLLMEncoder,
    teacher: TeacherText,
    captions: Sequence[str],
    directory: Path,
    max_sequence_length: int,
    dtype: torch.dtype,
) -> tuple[CaptionCache, CaptionCache]:
    """What `encode_states` and `encode_teacher` make of the captions."""
    states = encode_states(encoder, captions, directory, dtype)
    return states, encode_teacher(teacher, captions, directory, max_sequence_length, dtype)


def encode_states(encoder: MLLMEncoder, captions: Sequence[str], directory: Path, dtype: torch.dtype) -> CaptionCache:
    """The MLLM's `hidden_states` (L, S, H) of every caption, in `directory`'s folder `states`.

    They are read from there, and computed where they are not there yet, or were made by another model.
    encoder: reads a caption as it reads the prompt of a request. dtype: of what is kept.
    """

    def read(texts: Sequence[str]) -> list[dict[str, torch.Tensor]]:
        encoded = encoder.encode_batch([[Turn(text)] for text in texts])
        return [_without_repeated_rows(states.hidden_states[0].to(dtype)) for states in encoded]

    model = getattr(encoder, "base", encoder.model)  # a head changes no states
    chat_template = getattr(encoder.processor, "chat_template", None)
    made_by = fingerprint(model, encoder.family, encoder.spec, chat_template, dtype)
    size = _shard_size(encoder.num_states * encoder.hidden_size * _USUAL_TOKENS * dtype.itemsize)
    states = CaptionCache(directory / "states", captions, made_by, size)
    states.fill(read, "MLLM")
    return states


def encode_teacher(
    teacher: TeacherText, captions: Sequence[str], directory: Path, max_sequence_length: int, dtype: torch.dtype
) -> CaptionCache:
    """T5's `prompt_embeds` (T, joint) and CLIP's `pooled` (pooled,), likewise, in `directory`'s folder `teacher`."""

    def teach(texts: Sequence[str]) -> list[dict[str, torch.Tensor]]:
        rows = zip(*teacher.encode(texts, max_sequence_length), strict=True)
        return [{"prompt_embeds": tokens.to(dtype), "pooled": pooled.to(dtype)} for tokens, pooled in rows]

    made_by = fingerprint(teacher.text_encoder, teacher.text_encoder_2, max_sequence_length, dtype)
    size = _shard_size(teacher.joint_dim * max_sequence_length * dtype.itemsize)
    embeddings = CaptionCache(directory / "teacher", captions, made_by, size)
    embeddings.fill(teach, "T5 and CLIP")
    return embeddings


def _shard_size(caption_bytes: int) -> int:
    return int(np.clip(_SHARD_BYTES // caption_bytes, *_SHARD_SIZES))


def _without_repeated_rows(states: torch.Tensor) -> dict[str, torch.Tensor]:
    """States (L, S, H) whose last rows are equal, as those of padding often are, with one of them, and S as `rows`."""
    differs = (states != states[:, -1:]).any(dim=2).any(dim=0)
    kept = int(differs.nonzero().max()) + 2 if differs.any() else 1
    return {"hidden_states": states[:, :kept], "rows": torch.tensor(states.shape[1])}


class LiveStates:
    """In place of a cache: the MLLM stays in memory and reads the captions of a batch when the batch is trained on.

    A caption of 60 tokens costs 12 MB of a disk's room for a 7B model, or a hundredth of a training step's time.
    """

    def __init__(self, encoder: NativeEncoder, captions: Sequence[str]):
        if encoder.spec.states != "prompt":
            raise TrainingError("This MLLM's answers are distilled, and how long those are is not known; use a cache.")
        self.encoder, self.captions = encoder, list(captions)

    def sizes(self, name: str, dim: int) -> list[int]:
        """How many tokens every caption has in its prompt."""
        texts = tqdm(
            self.captions, desc="counting tokens", dynamic_ncols=True, disable=not PartialState().is_main_process
        )
        return [self.encoder.count_tokens([Turn(text)]) for text in texts]

    def read(self, captions: Sequence[int]) -> dict[str, torch.Tensor]:
        """hidden_states (B, L, S, H) of captions of one length."""
        encoded = self.encoder.encode_batch([[Turn(self.captions[index])] for index in captions])
        return {"hidden_states": torch.cat([states.hidden_states for states in encoded])}


class LiveTeacher:
    """In place of a cache: T5 and CLIP stay in memory. At 512 tokens a caption saves 4 MB of a disk's room."""

    def __init__(self, teacher: TeacherText, captions: Sequence[str], max_sequence_length: int):
        self.teacher, self.captions, self.max_sequence_length = teacher, list(captions), max_sequence_length

    def read(self, captions: Sequence[int]) -> dict[str, torch.Tensor]:
        """prompt_embeds (B, T, joint) and pooled (B, pooled)."""
        texts = [self.captions[index] for index in captions]
        return dict(zip(("prompt_embeds", "pooled"), self.teacher.encode(texts, self.max_sequence_length), strict=True))


class CaptionBatches(Dataset):
    """batches[number]: captions whose states have one length, as `Epochs` chooses them.

    Each is a dictionary of what is cached: hidden_states (B, L, S, H), prompt_embeds (B, T, joint), pooled (B, pooled),
    and latents (B, C, H/8, W/8) where there are pictures. `captions`, (B,), says which; `complete` adds what is
    computed live.
    """

    def __init__(
        self,
        states: CaptionCache | LiveStates,
        embeddings: CaptionCache | LiveTeacher,
        batch_size: int,
        seed: int,
        latents: CaptionCache | None = None,
    ):
        sources = [source for source in (states, embeddings, latents) if source is not None]
        self.caches = [source for source in sources if isinstance(source, CaptionCache)]
        self.live = [source for source in sources if not isinstance(source, CaptionCache)]
        self.states = states
        self.embeddings = embeddings
        self.lengths = states.sizes("hidden_states", dim=1)
        self._epochs = Epochs(self.lengths, batch_size, seed)

    def captions(self, number: int) -> np.ndarray:
        """Which captions are in a batch, each once."""
        return self._epochs[number]

    def __getitem__(self, number: int) -> dict[str, torch.Tensor]:
        return self.read(self.captions(number))

    def read(self, captions: Sequence[int]) -> dict[str, torch.Tensor]:
        """What is cached of captions whose states have one length."""
        rows = [{name: value for cache in self.caches for name, value in cache[int(i)].items()} for i in captions]
        batch = {name: torch.stack([row[name] for row in rows]) for name in rows[0]}
        if "rows" in batch:
            states = batch["hidden_states"]
            repeated = states[:, :, -1:].expand(-1, -1, int(batch.pop("rows")[0]) - states.shape[2], -1)
            batch["hidden_states"] = torch.cat((states, repeated), dim=2)
        return batch | {"captions": torch.as_tensor(np.asarray(captions))}

    @torch.no_grad()
    def complete(self, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """A batch with what is computed live; not for the processes that make batches."""
        for source in self.live:
            batch |= source.read(batch["captions"].tolist())
        return batch

    def __getstate__(self):
        return self.__dict__ | {"live": [], "states": None, "embeddings": None}  # models stay where they are
