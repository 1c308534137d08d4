"""An MLLM that cannot hear reads what a real Whisper writes down, and the user is told."""

import subprocess

import numpy as np
import pytest
import torch
from imageio_ffmpeg import get_ffmpeg_exe
from media.tiny_whisper import ENGLISH, HISS, LOW, RATE, trained_checkpoint

from x2i_app.encoders import load_encoder
from x2i_app.errors import UnsupportedModalityError
from x2i_app.media.transcription import Transcriber
from x2i_app.notes import INCOMPLETE, SILENT_VIDEO
from x2i_app.settings import ASSETS


@pytest.fixture(scope="module")
def transcriber(tmp_path_factory):
    path = tmp_path_factory.mktemp("whisper") / "tiny.pt"
    path.write_bytes(trained_checkpoint())
    return Transcriber(path)


@pytest.fixture
def encoder(qwen_vl_directory, transcriber):
    encoder = load_encoder("qwen2.5-vl", qwen_vl_directory, dtype=torch.float32)
    encoder.transcriber = transcriber
    return encoder


def test_speech_becomes_part_of_the_prompt(encoder):
    """A note quotes the transcript."""
    heard = encoder.encode(prompt="draw it", audios=[(LOW, RATE)])
    read = encoder.encode(prompt=f"draw it\n{ENGLISH}")
    assert torch.equal(heard.hidden_states, read.hidden_states)
    assert heard.notes == (f"qwen2.5-vl cannot hear, so Whisper transcribed the speech (en): {ENGLISH!r}",)
    assert read.notes == ()


def test_speech_without_a_prompt(encoder):
    heard = encoder.encode(audios=[(LOW, RATE)])
    assert torch.equal(heard.hidden_states, encoder.encode(prompt=ENGLISH).hidden_states)


@pytest.mark.parametrize("audio", [HISS, np.zeros(RATE, np.float32)], ids=["hiss", "silence"])
def test_audio_without_speech_is_refused(encoder, audio):
    """The message names presets that support any audio."""
    with pytest.raises(
        UnsupportedModalityError, match=r"No speech was found.*presets that support any audio: x2i-tiny"
    ):
        encoder.encode(prompt="draw it", audios=[(audio, RATE)])


def test_a_note_says_that_a_videos_audio_is_unused(encoder):
    talking = encoder.encode(videos=[ASSETS / "examples/videos/rocket-at-night.mp4"])
    assert talking.notes == (SILENT_VIDEO,)
    silent = encoder.encode(videos=[(np.zeros((3, 32, 32, 3), np.uint8), 1.0)])
    assert silent.notes == ()


def test_a_note_says_that_a_file_is_incomplete(encoder, tmp_path):
    """What is left of a video that was cut is used."""
    source = ("-f", "lavfi", "-i", "testsrc=s=64x48:r=10:d=4")
    subprocess.run([get_ffmpeg_exe(), "-v", "error", *source, tmp_path / "a.mkv"], check=True, timeout=60)
    whole = (tmp_path / "a.mkv").read_bytes()
    (tmp_path / "a.mkv").write_bytes(whole[: len(whole) // 2])
    (note,) = encoder.encode(videos=[tmp_path / "a.mkv"]).notes
    assert note.template == INCOMPLETE
    assert "The video file is incomplete; its first " in note
