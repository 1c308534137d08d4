"""What the page says that the model will see and hear is what the encoder sees and hears."""

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
from x2i_app.ui.input_preview import look_at_video, tell_audio, tell_mix, tell_video

VIDEO = str(ASSETS / "examples/videos/rocket-at-night.mp4")
AUDIO = str(ASSETS / "examples/audios/rain-at-sea.wav")
IMAGE = str(ASSETS / "examples/images/boat-at-sunset.png")
TINY = get_preset("x2i-tiny").encoding
DEAF = get_preset("qwen2.5-vl-3b").encoding


def test_the_frames_are_the_encoder_s_own():
    spec = replace(TINY, video_fps=2.0, max_video_frames=5)
    video = look_at_video(VIDEO, spec)
    clip = load_video(VIDEO, fps=2.0, max_frames=5, max_pixels=spec.max_video_pixels)
    assert video.times == pytest.approx([number / clip.fps for number in range(5)])
    for address, frame in zip(video.frames, clip.frames, strict=True):
        shown = Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2])))
        assert shown.size == frame.shape[1::-1]
        assert np.abs(np.asarray(shown, float) - frame).mean() < 8  # JPEG


def test_a_broken_video_is_one_sentence(tmp_path):
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"\0\0\0\x20ftypisom" + bytes(500))
    with pytest.raises(MediaError, match=r"broken\.mp4"):
        tell_video(str(broken), TINY, "x2i-tiny", "en")


def test_a_model_that_cannot_hear_is_said_to_read():
    assert "hears the sound itself: 4.0 s" in tell_audio(AUDIO, TINY, "x2i-tiny", "en")
    assert "Whisper writes down what is said in these 4.0 s" in tell_audio(AUDIO, DEAF, "qwen2.5-vl-3b", "en")
    assert "模型会直接听这段声音：4.0 秒" in tell_audio(AUDIO, TINY, "x2i-tiny", "zh")


def test_a_mix_is_told_piece_by_piece(tmp_path):
    other = tmp_path / "<b>.pdf"
    other.write_bytes(b"%PDF-1.7")
    files = [VIDEO, IMAGE, str(other), AUDIO, IMAGE]
    said = tell_mix({"text": "all of it", "files": files}, DEAF, "qwen2.5-vl-3b", "en")
    chips = [re.sub("<.+?>", "", chip) for chip in said.split("</li>")]
    assert chips[0] == "Film 1: 4 of its pictures seen, its sound is not heard"
    assert chips[1] == "Picture 1: seen, 256 x 256"
    assert "is a PDF document; send" in chips[2]
    assert "class=unused" in said.split("</li>")[2]
    assert chips[3] == "Sound 1: 4.0 s, its words written down"
    assert chips[4] == "Picture 2: seen, 256 x 256"
    assert chips[5] == "Words: read as they are"
    assert "<b>" not in said


def test_what_the_model_cannot_take_is_said_at_once():
    blind = replace(DEAF, modalities=("text", "image"))
    said = tell_mix({"text": "", "files": [VIDEO]}, blind, "some-model", "en")
    assert "some-model cannot take video. Presets that can: x2i-tiny" in said
    assert "class=unused" in said


def test_a_model_of_your_own_is_asked_once_it_is_loaded():
    assert Engine(Settings(preset="custom:qwen2.5-vl")).model.encoding is None
    assert Engine(Settings()).model.encoding == TINY
