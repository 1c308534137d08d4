"""A pool of audio features on disk: to synthesise audio takes longer than to train on it."""

import random
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from transformers import WhisperFeatureExtractor

from x2i_app.media.edges import at_one_level, without_silence
from x2i_app.miniature.audio import audio, sounding
from x2i_app.miniature.conversations import Shown, random_audio
from x2i_app.miniature.pool import run_in_processes, save_array
from x2i_app.miniature.scene import Split

SECONDS = 4.0
RATE = 16_000
_CHUNK = 100
_VOICED_SHARE = 0.75


@dataclass(frozen=True)
class AudioPool:
    """recipes: of N audios. features: float16 (N, mel bins, frames), from the feature extractor."""

    recipes: list[Shown]
    features: np.ndarray

    @property
    def by_voice(self) -> tuple[tuple[Shown, ...], tuple[Shown, ...]]:
        """The recipes with at least one voice, and those with only a sky and a ground."""
        voiced = [bool(sounding(recipe.scene).kinds) for recipe in self.recipes]
        return (
            tuple(recipe for recipe, has in zip(self.recipes, voiced, strict=True) if has),
            tuple(recipe for recipe, has in zip(self.recipes, voiced, strict=True) if not has),
        )


def hear(extractor: WhisperFeatureExtractor, samples: np.ndarray) -> np.ndarray:
    """Samples (N,) at 16 kHz -> float16 (mel bins, frames): features without the padding to the full length.

    The samples are cleaned as the encoder's (`EncodingSpec.trims_media`).
    """
    return _features(extractor, at_one_level(without_silence(samples, RATE)))


def _features(extractor, samples):
    heard = extractor(
        samples, sampling_rate=RATE, padding="max_length", return_attention_mask=True, return_tensors="np"
    )
    return heard["input_features"][0, :, : heard["attention_mask"][0].sum()].astype(np.float16)


def audio_pool(
    directory: Path,
    count: int,
    extractor: WhisperFeatureExtractor,
    *,
    split: Split | None = "train",
    seed: int = 0,
    processes: int = 2,
) -> AudioPool:
    """`count` random audios of 4 seconds, three in four with a voice; made in parallel and cached in `directory`.

    A run that was stopped resumes after its last complete chunk. The same arguments give the same pool.
    """
    directory.mkdir(parents=True, exist_ok=True)
    starts = range(0, count, _CHUNK)
    paths = [directory / f"{split}-{seed}-{start:07d}.npy" for start in starts]
    tasks = list(zip(paths, starts, strict=True))
    missing = [(path, start, extractor, split, seed) for path, start in tasks if not path.exists()]
    if missing:
        run_in_processes(_make, missing, processes, title="audio", unit=f"x{_CHUNK}")
    features = np.concatenate([np.load(path) for path in paths])[:count]
    return AudioPool([_recipe(index, split, seed) for index in range(count)], features)


def _recipe(index, split, seed):
    rng = random.Random(f"sounds {seed} {split} {index}")
    return random_audio(rng, split, voiced=rng.random() < _VOICED_SHARE)


def _make(task):
    path, start, extractor, split, seed = task
    recipes = (_recipe(index, split, seed) for index in range(start, start + _CHUNK))
    features = []
    for recipe in recipes:
        samples = audio(recipe.scene, SECONDS, RATE, recipe.seed)
        cleaned = at_one_level(without_silence(samples, RATE))
        features.append(_features(extractor, np.pad(cleaned, (0, len(samples) - len(cleaned)))))  # all of one length
    save_array(path, np.stack(features))
