"""Audio keeps its pitch, loudness and duration, whatever its format."""

import struct
from dataclasses import replace

import numpy as np
import pytest
import soundfile

from x2i_app.media import CAPS, AudioClip, load_audio


def tone(frequency=440, rate=44_100, seconds=1.0, amplitude=0.5):
    return amplitude * np.sin(2 * np.pi * frequency * np.arange(int(rate * seconds)) / rate)


def pitch(clip):
    """The strongest frequency, in Hz."""
    spectrum = np.abs(np.fft.rfft(clip.samples * np.hanning(len(clip.samples))))
    return np.argmax(spectrum) * clip.rate / len(clip.samples)


def loudness(samples):
    """The amplitude of a sine that is this loud."""
    return float(np.sqrt(2 * np.mean(np.square(samples))))


AUDIOS = [f"tone.{extension}" for extension in ("wav", "flac", "ogg", "mp3")]
TRACKS = ["tone.m4a", "sound_only.mp4", *(f"both.{extension}" for extension in ("mp4", "mov", "mkv", "webm", "avi"))]


@pytest.mark.parametrize(("name", "amplitude"), [(name, 0.5) for name in AUDIOS] + [(name, 0.125) for name in TRACKS])
def test_every_container(samples, name, amplitude):
    clip = load_audio(samples / name)
    assert clip.samples.dtype == np.float32
    assert clip.samples.ndim == 1
    assert clip.rate == 16_000
    assert clip.duration == pytest.approx(2, abs=0.1)
    assert pitch(clip) == pytest.approx(440, abs=1)
    assert np.abs(clip.samples).max() <= 1
    assert loudness(clip.samples) == pytest.approx(amplitude, rel=0.1)


@pytest.mark.parametrize("source_rate", [8000, 16_000, 22_050, 44_100, 48_000, 96_000])
@pytest.mark.parametrize("rate", [8000, 16_000, 48_000])
def test_resampling(source_rate, rate):
    clip = load_audio((tone(rate=source_rate), source_rate), rate=rate)
    assert clip.rate == rate
    assert len(clip.samples) == rate
    assert pitch(clip) == pytest.approx(440, abs=1)
    assert loudness(clip.samples) == pytest.approx(0.5, rel=0.01)


def test_resampling_does_not_alias():
    assert loudness(load_audio((tone(11_000), 44_100)).samples) < 0.005


def test_decoding_in_blocks(tmp_path):
    """A file decoded in several blocks equals the array."""
    samples = np.stack([tone(300, seconds=30), tone(500, seconds=30)], axis=1)  # more than one block
    soundfile.write(tmp_path / "a.wav", samples, 44_100, subtype="FLOAT")
    whole = load_audio((samples.astype(np.float32), 44_100))
    assert len(whole.samples) == 480_000
    assert load_audio(tmp_path / "a.wav").samples == pytest.approx(whole.samples, abs=1e-5)


def test_integers_are_scaled_by_their_range():
    for dtype, low, high in ((np.int8, -128, 127), (np.int16, -32_768, 32_767), (np.int32, -(2**31), 2**31 - 1)):
        samples = np.array([low, 0, high], dtype)
        assert load_audio((samples, 16_000)).samples == pytest.approx([-1, 0, 1], abs=0.01)
    assert load_audio((np.array([0, 128, 255], np.uint8), 16_000)).samples == pytest.approx([-1, 0, 1], abs=0.01)
    exact = load_audio((np.array([-32_768, 16_384], np.int16), 16_000)).samples
    assert exact.tolist() == [-1, 0.5]


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "IMA_ADPCM"])
def test_wav_subtypes(tmp_path, subtype):
    soundfile.write(tmp_path / "a.wav", tone(rate=16_000), 16_000, subtype=subtype)
    clip = load_audio(tmp_path / "a.wav")
    assert loudness(clip.samples) == pytest.approx(0.5, rel=0.05)
    assert pitch(clip) == pytest.approx(440, abs=1)


def test_channels_are_averaged(tmp_path, ffmpeg):
    left, right = np.full(16_000, 0.5), np.full(16_000, -0.25)
    stereo = np.stack([left, right], axis=1)
    assert load_audio((stereo, 16_000)).samples == pytest.approx(np.full(16_000, 0.125))
    assert load_audio((left[:, None], 16_000)).samples == pytest.approx(left)
    soundfile.write(tmp_path / "a.wav", stereo, 16_000)
    assert load_audio(tmp_path / "a.wav").samples == pytest.approx(np.full(16_000, 0.125), abs=1e-3)
    ffmpeg("-i", tmp_path / "a.wav", "-c:a", "alac", tmp_path / "a.m4a")
    assert load_audio(tmp_path / "a.m4a").samples == pytest.approx(np.full(16_000, 0.125), abs=1e-3)


def test_clips():
    clip = load_audio((tone(rate=16_000), 16_000))
    assert np.array_equal(load_audio(clip).samples, clip.samples)
    assert pitch(load_audio(clip, rate=24_000)) == pytest.approx(440, abs=1)
    assert load_audio(AudioClip(np.zeros(9, np.float32), 16_000.0)).rate == 16_000


def test_samples_above_1_are_clipped(tmp_path):
    assert np.abs(load_audio((tone(amplitude=1.2), 44_100)).samples).max() == 1
    soundfile.write(tmp_path / "a.wav", tone(amplitude=3.0), 44_100, subtype="FLOAT")
    assert np.abs(load_audio(tmp_path / "a.wav").samples).max() == 1


SECOND = np.zeros(16_000, np.float32)


@pytest.mark.parametrize(
    ("source", "part"),
    [
        ((16_000, SECOND), "The sampling rate of the pair"),
        ((SECOND, 0), "1,000 to 384,000"),
        ((SECOND, 44_100.5), "44100.5"),
        ((SECOND, float("nan")), "nan"),
        ((SECOND, None), "None"),
        ((SECOND, True), "True"),
        ((SECOND, "16000"), "type str"),
        ((SECOND, 10**5000), "thousands of digits"),
        ((np.zeros((2, 16_000)), 16_000), "(2, 16000)"),
        ((np.zeros((2, 2, 2)), 16_000), "(2, 2, 2)"),
        ((np.zeros((5, 0)), 16_000), "(5, 0)"),
        (([[1, 2], [3]], 16_000), "different lengths"),
        (("tone.wav", 16_000), "shape ()"),
        ((np.zeros(0), 16_000), "no samples"),
        ((np.zeros(0, np.int16), 16_000), "no samples"),
        ((np.zeros(1), 44_100), "no samples"),
        ((np.array([0.0, np.nan]), 16_000), "NaN"),
        ((np.array([0.0, np.inf]), 16_000), "outside -1 to 1"),
        ((np.array([0.0, 32_767.0]), 16_000), "outside -1 to 1"),
        ((np.zeros(5, np.int64), 16_000), "int64"),
        ((np.zeros(5, bool), 16_000), "bool"),
        ((np.zeros(5, complex), 16_000), "complex128"),
        ((np.zeros(5, object), 16_000), "object"),
        ((np.zeros(601_000, np.int8), 1000), "601.0 s"),
        (AudioClip(SECOND, 0), "sampling rate"),
    ],
)
def test_invalid_samples_are_refused(refused, source, part):
    refused(load_audio, source, contains=part)


@pytest.mark.parametrize("rate", [0, -1, 999, 10**6, 1.5, "16000", None, True])
def test_the_sampling_rate_is_checked(refused, rate):
    refused(load_audio, (SECOND, 16_000), rate=rate, contains="rate is")


def test_a_video_without_audio(samples, refused):
    refused(load_audio, samples / "silent.mp4", contains=["'silent.mp4'", "no audio stream"])


def test_a_long_flac_is_refused_by_its_header(tmp_path, refused):
    with soundfile.SoundFile(tmp_path / "long.flac", "w", 1000, 1) as file:
        for _ in range(36):
            file.write(np.zeros(1_000_000, np.int16))
    assert (tmp_path / "long.flac").stat().st_size < 500_000
    refused(load_audio, tmp_path / "long.flac", contains=["'long.flac'", "36,000.0 s", "600 s"])


def test_long_audio_in_a_video_is_refused(tmp_path, ffmpeg, refused):
    ffmpeg(
        "-f", "lavfi", "-i", "anullsrc=r=8000:cl=mono", "-t", 700, "-c:a", "libopus", "-b:a", "6k", tmp_path / "a.webm"
    )
    refused(load_audio, tmp_path / "a.webm", contains=["700.0 s", "600 s"])


@pytest.mark.parametrize("frames", [0, 1_000, 10**9, 2**36 - 1])
def test_a_flac_header_with_a_wrong_length(tmp_path, frames):
    soundfile.write(tmp_path / "a.flac", tone(rate=16_000), 16_000)
    lie = bytearray((tmp_path / "a.flac").read_bytes())
    lie[21] = lie[21] & 0xF0 | frames >> 32  # 36 bits: the number of samples
    lie[22:26] = struct.pack(">I", frames & 0xFFFFFFFF)
    (tmp_path / "a.flac").write_bytes(lie)
    clip = load_audio(tmp_path / "a.flac")
    assert len(clip.samples) == (1_000 if frames == 1_000 else 16_000)
    assert clip.is_incomplete == (frames > 16_000)


def test_decoding_limits(tmp_path, refused):
    soundfile.write(tmp_path / "a.wav", np.zeros(30_000), 1000)
    refused(load_audio, tmp_path / "a.wav", caps=replace(CAPS, audio_seconds=20), contains="30.0 s")
    refused(load_audio, tmp_path / "a.wav", caps=replace(CAPS, child_seconds=-1), contains="takes longer")


def test_duration_is_checked_while_decoding(tmp_path, refused, monkeypatch):
    """A file that yields more samples than its header says, as a decoder that cannot seek may read it."""
    soundfile.write(tmp_path / "a.wav", np.zeros(30_000), 1000)
    monkeypatch.setattr(soundfile.SoundFile, "frames", property(lambda _: 1000))
    monkeypatch.setattr(soundfile.SoundFile, "seekable", lambda _: False)
    assert len(load_audio(tmp_path / "a.wav", rate=1000).samples) == 30_000
    refused(load_audio, tmp_path / "a.wav", caps=replace(CAPS, audio_seconds=20), contains="30.0 s")


def test_invalid_sampling_rates_are_refused(tmp_path, refused):
    for rate in (999, 400_000):
        soundfile.write(tmp_path / "a.wav", np.zeros(2000), rate)
        refused(load_audio, tmp_path / "a.wav", contains=["'a.wav'", str(rate)])


def test_empty_files_and_nan(tmp_path, refused):
    soundfile.write(tmp_path / "empty.wav", np.zeros(0), 16_000)
    refused(load_audio, tmp_path / "empty.wav", contains="no samples")
    soundfile.write(tmp_path / "nan.wav", np.array([0.0, np.nan, 0.0]), 16_000, subtype="FLOAT")
    refused(load_audio, tmp_path / "nan.wav", contains="NaN")


@pytest.mark.parametrize("name", ["tone.flac", "tone.ogg", "tone.mp3", "tone.wav", "tone.m4a", "both.webm"])
def test_cut_files(samples, tmp_path, refused, name):
    whole = (samples / name).read_bytes()
    (tmp_path / name).write_bytes(whole[:30])
    refused(load_audio, tmp_path / name, contains=f"'{name}'")
    (tmp_path / name).write_bytes(whole[: len(whole) // 2])
    if name in ("tone.ogg", "tone.m4a"):  # of this short OGG file, only the header is left
        refused(load_audio, tmp_path / name, contains=f"'{name}'")
    else:
        assert load_audio(tmp_path / name).duration == pytest.approx(1, abs=0.7)


def test_noise_with_a_signature_is_refused(tmp_path, refused):
    noise = bytes(np.random.default_rng(0).integers(0, 256, 3000, np.uint8))
    for head in (b"fLaC", b"OggS", b"ID3\x04", b"RIFF\0\0\0\0WAVE", b"\xff\xfb\x90\x64"):
        (tmp_path / "a.wav").write_bytes(head + noise)
        refused(load_audio, tmp_path / "a.wav", contains="'a.wav'")
