"""Captions as both sides of the distillation read them, and batches of captions of one length."""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import Dataset

from x2i_app.encoders import MLLMEncoder
from x2i_app.request import Turn
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
        return [{"hidden_states": states.hidden_states[0].to(dtype)} for states in encoded]

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


class CaptionBatches(Dataset):
    """batches[step]: captions whose states have one length, so that nothing is padded; a function of seed and step.

    Each is a dictionary: hidden_states (B, L, S, H), prompt_embeds (B, T, joint), pooled (B, pooled). A length comes as
    often as it has captions. B is smaller than `batch_size` where a length has fewer.
    """

    def __init__(self, states: CaptionCache, embeddings: CaptionCache, batch_size: int, seed: int):
        self.states = states
        self.embeddings = embeddings
        self.batch_size = batch_size
        self.seed = seed
        self.lengths = states.sizes("hidden_states", dim=1)
        buckets = defaultdict(list)
        for caption, length in enumerate(self.lengths):
            buckets[length].append(caption)
        self.buckets = {length: np.array(bucket) for length, bucket in buckets.items()}

    def captions(self, step: int) -> np.ndarray:
        """Which captions are in a batch, each once."""
        generator = np.random.default_rng((self.seed, step))
        bucket = self.buckets[self.lengths[generator.integers(len(self.lengths))]]
        return generator.choice(bucket, min(self.batch_size, len(bucket)), replace=False)

    def __getitem__(self, step: int) -> dict[str, torch.Tensor]:
        rows = [self.states[int(caption)] | self.embeddings[int(caption)] for caption in self.captions(step)]
        return {name: torch.stack([row[name] for row in rows]) for name in rows[0]}
