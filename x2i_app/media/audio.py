"""Untrusted audio -> mono samples at one sampling rate.

WAV, FLAC, OGG and MP3 are decoded by libsndfile in blocks; the audio of M4A files and videos is decoded by an ffmpeg
process with limits. The duration is checked in the header and again while decoding, because headers can be wrong.
"""

import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np

from x2i_app.errors import MediaError
from x2i_app.media.ffmpeg import decode, remux
from x2i_app.media.guard import CAPS, MediaCaps, check_duration, is_path, show_name, show_value, sniff

_MIN_RATE, _MAX_RATE = 1_000, 384_000  # Hz
_BLOCK_VALUES = 2**20  # decoded at once, over all channels
_MAX_CHANNELS = 64  # of an array; more channels mean that its axes are swapped
_MAX_AMPLITUDE = 2.0  # floats up to here are clipped; larger ones are not scaled to [-1, 1]
_NAME = "The audio"


@dataclass(frozen=True, eq=False)
class AudioClip:
    """Audio in memory. samples: (N,) float32 in [-1, 1], mono. rate: sampling rate in Hz."""

    samples: np.ndarray
    rate: int

    @property
    def duration(self) -> float:
        """Duration in seconds."""
        return len(self.samples) / self.rate


def load_audio(source: Any, rate: int = 16_000, caps: MediaCaps = CAPS) -> AudioClip:
    """Read audio as mono samples at `rate` Hz. Channels are averaged; soxr (HQ) changes the sampling rate.

    source: the path of a WAV, FLAC, OGG, MP3 or M4A file, or of a video with audio; a pair (samples, sampling rate in
    Hz), where samples is an array (N,) or (N, channels) of floats in [-1, 1] or of integers of up to 32 bits; or an
    AudioClip. Unsigned integers are centered at the middle of their range, as in 8-bit WAV files.
    Raises MediaError for anything else, and for audio that is damaged, empty, not finite or longer than the limit.
    """
    _check_rate("rate", rate)
    if is_path(source):
        return _from_file(source, int(rate), caps)
    if isinstance(source, AudioClip):
        source = (source.samples, source.rate)
    if isinstance(source, (list, tuple)) and len(source) == 2:
        return _from_pair(*source, int(rate), caps)
    raise MediaError(f"The audio is {show_value(source)}; it must be a file or a pair (samples, sampling rate in Hz).")


def _check_rate(name, rate):
    number = isinstance(rate, Real) and not isinstance(rate, bool)
    if not (number and _MIN_RATE <= rate <= _MAX_RATE and rate == int(rate)):
        raise MediaError(
            f"{name} is {show_value(rate)}; it must be a whole number of Hz, {_MIN_RATE:,} to {_MAX_RATE:,}."
        )


def _from_file(path: str | os.PathLike, rate: int, caps: MediaCaps) -> AudioClip:
    name = show_name(path)
    if sniff(path, "audio", caps).demuxer is None:
        return _from_audio_file(os.fsdecode(path), name, rate, caps)
    with remux(path, "audio", caps) as stream:
        check_duration(name, stream.duration, caps.audio_seconds)
        wav, _ = decode(stream, ["-map", "0:a:0", "-c:a", "pcm_s16le", "-f", "wav"], "audio.wav", caps)
        return _from_audio_file(wav, name, rate, caps)


def _from_audio_file(path: str | Path, name: str, rate: int, caps: MediaCaps) -> AudioClip:
    import soundfile

    try:
        with soundfile.SoundFile(path) as file:
            _check_rate(f"The sampling rate of {name}", file.samplerate)
            check_duration(name, file.frames / file.samplerate, caps.audio_seconds)
            samples = _to_mono(_blocks(file), file.samplerate, rate, name, caps)
    except MediaError:
        raise
    except Exception as error:  # decoders raise any exception for hostile files
        raise MediaError(f"{name} is damaged or cannot be decoded; convert it to WAV.") from error
    return AudioClip(samples, rate)


def _blocks(file) -> Iterator[np.ndarray]:
    """Blocks (n, channels) of float32 until the end of the file, whatever its header says."""
    frames = max(1, _BLOCK_VALUES // file.channels)
    while len(block := file.read(frames, dtype="float32", always_2d=True)):
        yield block


def _from_pair(samples: Any, source_rate: Any, rate: int, caps: MediaCaps) -> AudioClip:
    _check_rate("The sampling rate of the pair (samples, sampling rate in Hz)", source_rate)
    try:
        samples = np.asarray(samples)
    except ValueError:
        raise MediaError(f"{_NAME} has rows of different lengths; it must be an array (N,) or (N, channels).") from None
    if samples.ndim not in (1, 2) or (samples.ndim == 2 and not 1 <= samples.shape[1] <= _MAX_CHANNELS):
        raise MediaError(
            f"{_NAME} is an array of shape {samples.shape}; it must be (N,) or (N, channels), "
            f"with up to {_MAX_CHANNELS} channels."
        )
    check_duration(_NAME, len(samples) / source_rate, caps.audio_seconds)
    samples = _to_float(samples if samples.ndim == 2 else samples[:, None])
    return AudioClip(_to_mono([samples], int(source_rate), rate, _NAME, caps), rate)


def _to_float(samples):
    """Samples of any allowed dtype as float32 in [-1, 1]."""
    dtype = samples.dtype
    if dtype.kind == "f":
        if samples.size and np.abs(samples).max() > _MAX_AMPLITUDE:
            raise MediaError(f"{_NAME} has floats outside -1 to 1; scale them, or use int16.")
        return samples.astype(np.float32)
    if dtype.kind not in "iu" or dtype.itemsize > 4:
        raise MediaError(f"{_NAME} is an array of {dtype}; it must be floats from -1 to 1, or int16.")
    half = 2.0 ** (8 * dtype.itemsize - 1)
    middle = half if dtype.kind == "u" else 0.0
    return ((samples - middle) / half).astype(np.float32)


def _to_mono(blocks: Iterable[np.ndarray], source_rate: int, rate: int, name: str, caps: MediaCaps) -> np.ndarray:
    """Samples (N,), float32 in [-1, 1], at `rate` from blocks (n, channels) at `source_rate`."""
    import soxr

    deadline = time.monotonic() + caps.child_seconds
    resampler = soxr.ResampleStream(source_rate, rate, 1, dtype="float32", quality="HQ")
    count, parts = 0, []
    for block in blocks:
        if time.monotonic() > deadline:
            raise MediaError(f"{name} takes longer than {caps.child_seconds:g} s to read; use shorter audio.")
        count += len(block)
        check_duration(name, count / source_rate, caps.audio_seconds)
        mono = block.mean(axis=1, dtype=np.float32)
        if not np.isfinite(mono).all():
            raise MediaError(f"{name} has samples that are not finite (NaN or infinite); export it again.")
        parts.append(resampler.resample_chunk(mono) if rate != source_rate else mono)
    if count and rate != source_rate:
        parts.append(resampler.resample_chunk(np.empty(0, np.float32), last=True))
    samples = np.concatenate(parts) if parts else np.empty(0, np.float32)
    if not samples.size:
        raise MediaError(f"{name} has no samples; use audio with a duration above 0.")
    return np.clip(samples, -1, 1)
