"""Untrusted audio -> mono samples at one sampling rate.

libsndfile decodes WAV, FLAC, OGG, MP3, AIFF, CAF, AU and W64 in blocks. An ffmpeg process with limits decodes what it
cannot read, other kinds of audio, and the audio of videos. The duration is that of the decoded samples: headers can be
wrong, because recorders and pipes write 0 or the largest number where they do not know the length yet.
"""

import os
import re
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np

from x2i_app.errors import MediaError
from x2i_app.media.budget import current_budget
from x2i_app.media.ffmpeg import decode, remux
from x2i_app.media.guard import CAPS, MediaCaps, check_duration, is_path, show_name, show_value, sniff
from x2i_app.media.isolation import in_child, reading

_MIN_RATE, _MAX_RATE = 1_000, 384_000  # Hz
_BLOCK_VALUES = 2**20  # decoded at once, over all channels
_MAX_CHANNELS = 64  # of an array; more channels mean that its axes are swapped
_MAX_AMPLITUDE = 2.0  # floats up to here are clipped; larger ones are not scaled to [-1, 1]
_UNKNOWN_LENGTH = 2**36  # frames; libsndfile gives the largest integer where a header has no length
_SHORT = 0.8  # of the length in the header; without an index, that of an MP3 file is an estimate
_MOST_CHUNKS = 100  # of a WAV file that are looked at
_LEAST_REST = 2**14  # bytes behind the samples, so that a few odd ones do not count
_CHUNK = re.compile(rb"[A-Za-z0-9][A-Za-z0-9 _]{3}")  # the name of one
_NAME = "The audio"


@dataclass(frozen=True, eq=False)
class AudioClip:
    """Audio in memory. samples: (N,) float32 in [-1, 1], mono. rate: sampling rate in Hz.

    is_incomplete: the file was cut, and this is what is left of it.
    """

    samples: np.ndarray
    rate: int
    is_incomplete: bool = False

    @property
    def duration(self) -> float:
        """Duration in seconds."""
        return len(self.samples) / self.rate


def load_audio(source: Any, rate: int = 16_000, caps: MediaCaps = CAPS) -> AudioClip:
    """Read audio as mono samples at `rate` Hz. Channels are averaged; soxr (HQ) changes the sampling rate.

    source: the path of an audio file or of a video with audio (guard.KINDS); a pair (samples, sampling rate in Hz),
    where samples is an array (N,) or (N, channels) of floats in [-1, 1] or of integers of up to 32 bits; or an
    AudioClip. Unsigned integers are centered at the middle of their range, as in 8-bit WAV files.
    Raises MediaError for anything else, and for audio that is damaged, empty, not finite or longer than the limit.
    """
    _check_rate("rate", rate)
    if is_path(source):
        with reading():
            clip = _from_file(source, int(rate), caps)
        current_budget().charge("audio_seconds", clip.duration)
        return clip
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
    name, kind = show_name(path), sniff(path, "audio", caps)
    found = _Samples()
    is_longer = kind.name == "WAV" and _goes_on(path)
    if kind.in_libsndfile and not is_longer:
        found = _Samples(*_read_samples(os.fsdecode(path), name, rate, caps))
        if not found.problem:
            return AudioClip(found.samples, rate, found.end_early)
    try:  # ffmpeg reads more codecs, and files whose header has no length
        with remux(path, "audio", caps, ["-ignore_length", "1"] if is_longer else []) as stream:
            check_duration(name, stream.duration, caps.audio_seconds)
            wav, _ = decode(stream, ["-map", "0:a:0", "-c:a", "pcm_s16le", "-f", "wav"], "audio.wav", caps)
            decoded = _Samples(*_read_samples(wav, name, rate, caps))
            if decoded.problem:
                raise MediaError(decoded.problem)
            clip = AudioClip(decoded.samples, rate)
    except MediaError:
        if found.problem == _no_samples(name):
            raise MediaError(found.problem) from None
        raise
    is_short = clip.duration < _SHORT * found.announced
    return replace(clip, is_incomplete=is_short or (stream.is_incomplete and not found.problem))


def _goes_on(path: str | os.PathLike) -> bool:
    """Whether samples follow where a WAV file's header ends them, as after a crash: what follows is no chunk."""
    with Path(os.fsdecode(path)).open("rb") as file:
        file.seek(12)
        for _ in range(_MOST_CHUNKS):
            header = file.read(8)
            size = int.from_bytes(header[4:], "little")
            file.seek(size, os.SEEK_CUR)
            if header[:4] == b"data":
                rest = file.read(_LEAST_REST)
                is_chunk = _CHUNK.match(rest) or _CHUNK.match(rest, 1)  # an odd size may have a byte behind it
                return len(rest) == _LEAST_REST and any(rest) and not is_chunk
            file.seek(size % 2, os.SEEK_CUR)
    return False


@dataclass(frozen=True, eq=False)
class _Samples:
    """What libsndfile read: samples (N,), and whether the file ends earlier than its header says.

    announced: seconds according to the header, 0 if it has no length. problem: why there are no samples.
    """

    samples: np.ndarray | None = None
    end_early: bool = False
    announced: float = 0.0
    problem: str = ""


def _no_samples(name: str) -> str:
    return f"{name} has no samples; use audio with a duration above 0."


@in_child
def _read_samples(
    path: str | Path, name: str, rate: int, caps: MediaCaps
) -> tuple[np.ndarray | None, bool, float, str]:
    """The fields of _Samples. Raises MediaError for what is wrong whoever reads the file."""
    import soundfile

    announced = 0.0
    try:
        with soundfile.SoundFile(path) as file:
            announced = file.frames / file.samplerate if file.frames < _UNKNOWN_LENGTH else 0.0
            _check_rate(f"The sampling rate of {name}", file.samplerate)
            blocks = _Blocks(file)
            samples = _to_mono(blocks, file.samplerate, rate, name, caps, file.frames)
            return samples, blocks.end_early, announced, "" if samples.size else _no_samples(name)
    except MediaError:
        raise
    except Exception:  # noqa: BLE001 - decoders raise any exception for hostile files
        return None, False, announced, f"{name} is damaged or cannot be decoded; convert it to WAV."


class _Blocks:
    """Blocks (n, channels) of float32 until the end of the file, whatever its header says.

    end_early: after the last block, whether there was clearly less than the header says, or the end was damaged.
    """

    def __init__(self, file):
        self._file = file
        self.end_early = False

    def __iter__(self) -> Iterator[np.ndarray]:
        size, count = max(1, _BLOCK_VALUES // self._file.channels), 0
        while len(block := self._read(size, count)):
            count += len(block)
            yield block
        if self._file.frames < _UNKNOWN_LENGTH and count < _SHORT * self._file.frames:
            self.end_early = True

    def _read(self, size, count):
        import soundfile

        try:
            return self._file.read(size, dtype="float32", always_2d=True)
        except soundfile.LibsndfileError:
            if not count:
                raise
            self.end_early = True
            return ()


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
    samples = _to_mono([samples], int(source_rate), rate, _NAME, caps)
    if not samples.size:
        raise MediaError(_no_samples(_NAME))
    return AudioClip(samples, rate)


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


def _to_mono(
    blocks: Iterable[np.ndarray], source_rate: int, rate: int, name: str, caps: MediaCaps, announced: int = 0
) -> np.ndarray:
    """Samples (N,), float32 in [-1, 1], at `rate` from blocks (n, channels) at `source_rate`.

    announced: samples according to the header, which a message about too many quotes; headers can be wrong.
    """
    import soxr

    deadline = time.monotonic() + caps.child_seconds
    resampler = soxr.ResampleStream(source_rate, rate, 1, dtype="float32", quality="HQ")
    count, parts = 0, []
    for block in blocks:
        if time.monotonic() > deadline:
            raise MediaError(f"{name} takes longer than {caps.child_seconds:g} s to read; use shorter audio.")
        count += len(block)
        is_long = count / source_rate > caps.audio_seconds
        check_duration(name, max(count, announced if is_long else 0) / source_rate, caps.audio_seconds)
        mono = block.mean(axis=1, dtype=np.float32)
        if not np.isfinite(mono).all():
            raise MediaError(f"{name} has samples that are not finite (NaN or infinite); export it again.")
        parts.append(resampler.resample_chunk(mono) if rate != source_rate else mono)
    if count and rate != source_rate:
        parts.append(resampler.resample_chunk(np.empty(0, np.float32), last=True))
    samples = np.concatenate(parts) if parts else np.empty(0, np.float32)
    return np.clip(samples, -1, 1)
