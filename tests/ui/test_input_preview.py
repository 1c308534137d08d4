"""The preview of the input shows what the encoder sees and hears."""

import base64
import io
import re
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from x2i_app.errors import MediaError
from x2i_app.media import load_video
from x2i_app.presets import get_preset
from x2i_app.serving.engine import Engine
from x2i_app.settings import ASSETS, Settings
from x2i_app.ui.input_preview import describe_audio, describe_message, describe_video, sample_video

VIDEO = str(ASSETS / "examples/videos/rocket-at-night.mp4")
AUDIO = str(ASSETS / "examples/audios/rain-at-sea.wav")
IMAGE = str(ASSETS / "examples/images/boat-at-sunset.png")
TINY = get_preset("x2i-tiny").encoding
DEAF = get_preset("qwen2.5-vl-3b").encoding


def test_frames():
    """The frames and times are those that the encoder samples."""
    spec = replace(TINY, video_fps=2.0, max_video_frames=5)
    video = sample_video(VIDEO, spec)
    clip = load_video(VIDEO, fps=2.0, max_frames=5, max_pixels=spec.max_video_pixels)
    assert video.times == pytest.approx([number / clip.fps for number in range(5)])
    assert (video.duration, video.has_audio) == (clip.duration, clip.has_audio)
    for address, frame in zip(video.frames, clip.frames, strict=True):
        shown = Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2])))
        assert shown.size == frame.shape[1::-1]
        assert np.abs(np.asarray(shown, float) - frame).mean() < 8  # JPEG


def test_video():
    shown = describe_video(VIDEO, TINY, "en")
    assert shown.count("<img") == shown.count("<li>") == 4
    assert "sees 4 frames of this video of 4.0 s" in shown
    assert "The video's sound is not used. To use it, add it as audio." in shown
    assert describe_video(VIDEO, replace(TINY, modalities=("text",)), "en") == "", "the tab's notice says it"


def test_part_of_a_video():
    """Only its frames are shown, with their times in the whole video."""
    video = sample_video(VIDEO, TINY, (1.5, 3.5))
    assert video.times == pytest.approx([1.5, 2.5])
    assert video.duration == pytest.approx(2.0)
    whole = sample_video(VIDEO, replace(TINY, video_fps=2.0))
    assert video.frames == whole.frames[3:6:2]
    assert "2 frames of this video of 2.0 s" in describe_video(VIDEO, TINY, "en", (1.5, 3.5))
    chip = describe_message({"files": [VIDEO]}, TINY, "en", (None, 0.05))
    assert 'data-kind="video">Video 1: 1 frame, its sound' in chip
    too_late = describe_message({"files": [VIDEO]}, TINY, "zh", (9, None))
    assert 'data-kind="video" class=unused' in too_late
    assert "从 9 秒到 4.0 秒没有内容" in too_late


def test_broken_video(tmp_path):
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"\0\0\0\x20ftypisom" + bytes(500))
    with pytest.raises(MediaError, match=r"broken\.mp4"):
        describe_video(str(broken), TINY, "en")


def test_audio():
    """A model that hears gets the audio, another one the transcript."""
    assert "hears the audio directly: 4.0 s" in describe_audio(AUDIO, TINY, "en")
    assert "Whisper transcribes the speech in these 4.0 s" in describe_audio(AUDIO, DEAF, "en")
    assert "模型会直接听这段音频：4.0 秒" in describe_audio(AUDIO, TINY, "zh")


def test_message(tmp_path):
    """A multimodal message has one chip for each part, numbered by kind."""
    other = tmp_path / "<b>.pdf"
    other.write_bytes(b"%PDF-1.7")
    files = [VIDEO, IMAGE, str(other), AUDIO, IMAGE]
    shown = describe_message({"text": "all of it", "files": files}, DEAF, "en")
    chips = [re.sub("<.+?>", "", chip) for chip in shown.split("</li>")]
    assert chips[0] == "Video 1: 4 frames, its sound is not used"
    assert chips[1] == "Image 1: 256 x 256"
    assert "is a PDF document; use" in chips[2]
    assert "class=unused" in shown.split("</li>")[2]
    assert chips[3] == "Audio 1: 4.0 s, transcribed"
    assert chips[4] == "Image 2: 256 x 256"
    assert chips[5] == "Prompt"
    assert "<b>" not in shown
    assert describe_message({"text": " ", "files": []}, DEAF, "en") == ""


def test_unsupported_file():
    """A file that the model cannot take says so, and names presets that can."""
    blind = replace(DEAF, modalities=("text", "image"))
    shown = describe_message({"text": "", "files": [VIDEO, AUDIO]}, blind, "en")
    assert "This model does not support video. Presets that support it: x2i-tiny" in shown
    assert shown.count("class=unused") == 1, "Whisper transcribes the audio"


def test_encoding_of_custom_model():
    """It is known once the model is loaded."""
    assert Engine(Settings(preset="custom:qwen2.5-vl")).encoding is None
    assert Engine(Settings()).encoding == TINY
