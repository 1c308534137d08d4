"""Transcribes speech with OpenAI's Whisper (arXiv 2212.04356), for MLLMs without audio input.

Whisper supports about a hundred languages and detects which one is spoken. Its memory budget is separate from the
pipeline's: float32 weights, on the CPU by default, are loaded for the first audio that is not silent and freed by
`unload`. Numbers of parameters, from Whisper's README, and memory:

    tiny 39 M, 0.2 GB    base 74 M, 0.3 GB     small 244 M, 1.0 GB
    turbo 809 M, 3.2 GB  medium 769 M, 3.1 GB  large 1,550 M, 6.2 GB

Importing this module imports neither torch nor whisper. ffmpeg does not have to be on PATH.
"""

import re
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from x2i_app.errors import CheckpointError, MediaError
from x2i_app.load_lock import one_at_a_time
from x2i_app.media.audio import load_audio
from x2i_app.media.guard import CAPS, MediaCaps, show_name

WHISPER_SIZES = {"tiny": 39, "base": 74, "small": 244, "medium": 769, "turbo": 809, "large": 1550}  # M parameters

_RATE = 16_000  # Hz; Whisper's own sampling rate
_PARAMETER_BYTES = 4  # in memory; files store float16, whisper loads them as float32
_SILENCE = 1e-3  # -60 dBFS, in the loudest tenth of a second
_NO_SPEECH = {"no_speech_threshold": 0.6, "logprob_threshold": -1.0}  # whisper drops a window that exceeds both

# Allowed dimensions: multilingual models up to large-v3. Other files are refused before a model is built.
_DIMS = {"n_mels": (80, 128), "n_audio_ctx": (1500,), "n_vocab": (51_865, 51_866), "n_text_ctx": (448,)}
_LARGE_V3 = (("state", 1280), ("head", 20), ("layer", 32))
_DIMS |= {f"n_{half}_{key}": range(1, most + 1) for half in ("audio", "text") for key, most in _LARGE_V3}


@dataclass(frozen=True)
class Transcript:
    """A transcription.

    text: what is spoken, in its own language, without line breaks; empty if there is no speech.
    language: ISO 639 code such as "en"; None if there is no speech.
    no_speech: Whisper's probability that there is no speech, 0 to 1; the lowest of all segments.
    """

    text: str
    language: str | None
    no_speech: float


class Transcriber:
    """A Whisper model that is loaded when it is first needed. Not thread-safe.

    model: a name in WHISPER_SIZES, whose weights whisper takes from its own cache folder or downloads, checking their
    SHA-256; or the path of a file in Whisper's .pt format.
    device: a torch device, "cpu" or "cuda..."; whisper computes in float16 on CUDA only.
    max_bytes: memory budget for the weights. max_seconds: time limit for one transcription, without loading.

    Raises CheckpointError for an unknown name, or a model that exceeds the budget.
    """

    def __init__(
        self, model: str | Path = "base", device: str = "cpu", *, max_bytes: int = 10**9, max_seconds: float = 300
    ):
        self.model, self.device = model, device
        self.max_bytes, self.max_seconds = max_bytes, max_seconds
        self._whisper = None
        if model in WHISPER_SIZES:
            _check_budget(f"Whisper's {model} model", WHISPER_SIZES[model] * 10**6 * _PARAMETER_BYTES, max_bytes)
        elif isinstance(model, str) and not model.endswith(".pt"):
            choices = f"{', '.join(WHISPER_SIZES)}, or the path of a .pt file"
            raise CheckpointError(f"There is no Whisper model {show_name(model)}; choose {choices}.")

    @property
    def loaded(self) -> bool:
        """Whether the weights are in memory."""
        return self._whisper is not None

    def transcribe(self, source: Any, caps: MediaCaps = CAPS) -> Transcript:
        """Transcribe speech in any language. Deterministic: the same audio gives the same text.

        source: as in `load_audio`. Raises MediaError for audio that cannot be read or takes too long, and
        CheckpointError if the model cannot be loaded.
        """
        samples = load_audio(source, _RATE, caps).samples
        if _is_silent(samples):
            return Transcript("", None, 1.0)
        if not self.loaded:
            self._whisper = self._load()
        whisper = self._whisper
        with _deadline(whisper.decoder, self.max_seconds), _seeded(whisper.device):
            result = whisper.transcribe(samples, fp16=whisper.device.type == "cuda", **_NO_SPEECH)
        # Not the result's own text, which can contain language tokens.
        segments = [segment for segment in result["segments"] if segment["text"].strip()]
        text = re.sub(r"[\s\x00-\x1f\x7f-\x9f]+", " ", "".join(s["text"] for s in segments)).strip()
        no_speech = min((segment["no_speech_prob"] for segment in segments), default=1.0)
        return Transcript(text, result["language"] if text else None, no_speech)

    def unload(self) -> None:
        """Free the model's memory; the next transcription loads it again."""
        whisper, self._whisper = self._whisper, None
        if whisper is not None and whisper.device.type != "cpu":
            from x2i_app.devices import return_unused_memory

            del whisper
            return_unused_memory()

    @one_at_a_time
    def _load(self):
        import torch

        with torch.random.fork_rng(devices=[]):  # whisper initializes weights at random before it loads them
            is_named = self.model in WHISPER_SIZES
            whisper = _load_named(self.model) if is_named else _load_file(Path(self.model), self.max_bytes)
        return whisper.requires_grad_(False).eval().to(self.device)


def _is_silent(samples: np.ndarray) -> bool:
    """Whether every tenth of a second is silent; a constant offset counts as silence."""
    length = _RATE // 10
    return all(samples[start : start + length].std() < _SILENCE for start in range(0, len(samples), length))


@contextmanager
def _deadline(decoder, seconds: float) -> Iterator[None]:
    """Stop at the first token after the time limit: Whisper can decode each window up to six times."""
    end = time.monotonic() + seconds

    def check(*_):
        if time.monotonic() > end:
            raise MediaError(f"Transcribing the audio takes longer than {seconds:g} s; use shorter audio.")

    handle = decoder.register_forward_pre_hook(check)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def _seeded(device) -> Iterator[None]:
    """Seed the random numbers, which Whisper uses if greedy decoding fails, and restore their state afterwards."""
    import torch

    from x2i_app.devices import CARDS

    generator = torch.default_generator
    if device.type in CARDS:
        generator = torch.get_device_module(device).default_generators[device.index or 0]
    state = generator.get_state()
    generator.manual_seed(0)
    try:
        yield
    finally:
        generator.set_state(state)


def _check_budget(name: str, needed: int, max_bytes: int) -> None:
    if needed > max_bytes:
        fits = [m for m, size in WHISPER_SIZES.items() if size * 10**6 * _PARAMETER_BYTES <= max_bytes]
        advice = f"choose {' or '.join(fits)}, or raise the budget" if fits else "raise the budget"
        raise CheckpointError(
            f"{name} needs {needed / 1e9:,.1f} GB of memory; up to {max_bytes / 1e9:,.1f} GB are allowed, so {advice}."
        )


def _load_named(name: str):
    """Load one of OpenAI's models. `whisper.load_model` checks the SHA-256 and unpickles with weights_only=True."""
    import whisper

    try:
        return whisper.load_model(name, device="cpu")
    except Exception as error:  # a download can raise any exception
        reason = str(error).split(". ")[0][:120] or type(error).__name__
        raise CheckpointError(
            f"Whisper's {name} model is not in the cache and cannot be downloaded ({reason}); "
            "connect to the internet, or set the path of its .pt file."
        ) from error


def _load_file(path: Path, max_bytes: int):
    """Load a file in Whisper's .pt format: {"dims": {...}, "model_state_dict": {...}}. No code in it is run."""
    import torch
    from whisper.model import ModelDimensions, Whisper

    name = show_name(path)
    if not path.is_file():
        raise CheckpointError(f"There is no file {name} for Whisper; check the path.")
    try:
        size = path.stat().st_size
        if zipfile.is_zipfile(path):  # its entries can be compressed
            with zipfile.ZipFile(path) as archive:
                size = max(size, sum(entry.file_size for entry in archive.infolist()))
        _check_budget(name, size, max_bytes)
        content = torch.load(path, map_location="cpu", weights_only=True)
        dims, weights = content["dims"], content["model_state_dict"]
        _check_dims(name, dims)
        shapes = _shapes(ModelDimensions(**dims))
        _check_budget(name, sum(shape.numel() for shape in shapes.values()) * _PARAMETER_BYTES, max_bytes)
        _check_weights(name, weights, shapes)
        whisper = Whisper(ModelDimensions(**dims))
        whisper.load_state_dict(weights, strict=True)
    except CheckpointError:
        raise
    except Exception as error:  # torch.load and zipfile raise any exception for hostile files
        raise CheckpointError(
            f"{name} is damaged or not a Whisper checkpoint; use a .pt file of openai-whisper."
        ) from error
    return whisper


def _check_dims(name: str, dims: dict[str, int]) -> None:
    if dims.keys() != _DIMS.keys():
        raise CheckpointError(f"{name} has no Whisper dimensions; use a .pt file of openai-whisper.")
    for key, allowed in _DIMS.items():
        if type(got := dims[key]) is not int or got not in allowed:
            got = str(got)[:20]
            raise CheckpointError(
                f"{key} of {name} is {got!r}, which no multilingual Whisper has; use a .pt file of openai-whisper."
            )
    state = dims["n_audio_state"]
    if dims["n_text_state"] != state or state % dims["n_audio_head"] or state % dims["n_text_head"]:
        raise CheckpointError(f"{name} has widths and heads that do not match; use a .pt file of openai-whisper.")


def _shapes(dims) -> dict[str, Any]:
    """Key and shape of every weight, without allocating them. (A complete Whisper cannot be built on "meta".)"""
    import torch
    from whisper.model import AudioEncoder, TextDecoder

    with torch.device("meta"):
        encoder = AudioEncoder(dims.n_mels, dims.n_audio_ctx, dims.n_audio_state, dims.n_audio_head, dims.n_audio_layer)
        decoder = TextDecoder(dims.n_vocab, dims.n_text_ctx, dims.n_text_state, dims.n_text_head, dims.n_text_layer)
    weights = torch.nn.ModuleDict({"encoder": encoder, "decoder": decoder}).state_dict()
    return {key: value.shape for key, value in weights.items()}


def _check_weights(name: str, weights: dict[str, Any], shapes: dict[str, Any]) -> None:
    """Compare keys and shapes. Raises CheckpointError for the first difference."""
    for key in shapes.keys() - weights.keys():
        raise CheckpointError(f"{name} lacks {key}; use a complete file.")
    for key in weights.keys() - shapes.keys():
        raise CheckpointError(
            f"{name} has {str(key)[:80]!r}, which is not in a Whisper of its dimensions; use another file."
        )
    for key, shape in shapes.items():
        if weights[key].shape != shape:
            got = tuple(weights[key].shape)
            raise CheckpointError(f"{key} of {name} has shape {got}; expected {tuple(shape)}, so use another file.")
        if not (weights[key].is_floating_point() and weights[key].isfinite().all()):
            raise CheckpointError(f"{key} of {name} has values that are not finite; use another file.")
