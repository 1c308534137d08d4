"""Transcription by Whisper: texts, silence, loading, downloads and limits."""

import gc
import hashlib
import http.server
import subprocess
import sys
import threading
import weakref
from functools import partial

import numpy as np
import pytest
import soundfile
import torch
import whisper
from media.tiny_whisper import (
    CHINESE,
    DIMS,
    ENGLISH,
    HIGH,
    HISS,
    LARGE_V3,
    LOW,
    RATE,
    hear,
    refused_checkpoint,
    save,
    tone,
    trained_checkpoint,
    trained_whisper,
)
from whisper.model import ModelDimensions, Whisper
from whisper.tokenizer import get_tokenizer

from x2i_app.media.transcription import Transcriber, Transcript

NO_SPEECH = Transcript("", None, 1.0)


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """So small a model is faster on one."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def checkpoint(tmp_path):
    path = tmp_path / "tiny_speech.pt"
    path.write_bytes(trained_checkpoint())
    return path


@pytest.fixture
def no_network(monkeypatch, tmp_path):
    """An empty cache folder, and a proxy that refuses."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    return tmp_path / "whisper"


@pytest.mark.parametrize(("audio", "text", "language"), [(LOW, ENGLISH, "en"), (HIGH, CHINESE, "zh")])
def test_text_and_language(checkpoint, monkeypatch, audio, text, language):
    monkeypatch.setenv("PATH", "")  # no ffmpeg
    transcript = Transcriber(checkpoint).transcribe((audio, RATE))
    assert (transcript.text, transcript.language) == (text, language)
    assert 0 <= transcript.no_speech < 0.1


def test_large_v3_dimensions(tmp_path):
    assert hear(save(tmp_path / "v3.pt", trained_whisper(**LARGE_V3))).text == ENGLISH


@pytest.mark.parametrize("audio", [LOW, HIGH, HISS], ids=["low", "high", "hiss"])
def test_transcript_equals_whispers_own(checkpoint, audio):
    own = whisper.transcribe(whisper.load_model(str(checkpoint), device="cpu"), audio, fp16=False)
    transcript = Transcriber(str(checkpoint)).transcribe((audio, RATE))
    assert transcript.text == own["text"].strip()
    assert transcript.language == (own["language"] if own["segments"] else None)
    assert transcript.no_speech == min((s["no_speech_prob"] for s in own["segments"]), default=1.0)


def test_a_stereo_file_of_another_rate(checkpoint, tmp_path):
    left = tone(1200, rate=44_100)
    soundfile.write(tmp_path / "a.flac", np.stack([left, left], axis=1), 44_100)
    assert Transcriber(checkpoint).transcribe(tmp_path / "a.flac").text == CHINESE


def test_noise_is_not_speech(checkpoint):
    transcriber = Transcriber(checkpoint)
    assert transcriber.transcribe((HISS, RATE)) == NO_SPEECH
    assert transcriber.loaded  # Whisper itself said so


SILENCES = {
    "zeros": np.zeros(RATE, np.float32),
    "one sample": np.ones(1, np.float32),
    "hum": tone(50, 2, amplitude=0.001),
    "offset": np.full(RATE + 7, 0.3, np.float32),
}


@pytest.mark.parametrize("audio", SILENCES.values(), ids=SILENCES.keys())
def test_silence_does_not_load_the_model(audio):
    assert Transcriber("there_is_no.pt").transcribe((audio, RATE)) == NO_SPEECH


def test_quiet_speech_is_not_silence():
    audio = np.zeros(20 * RATE, np.float32)
    audio[-RATE // 5 :] = tone(200, 0.2, amplitude=0.005)
    refused_checkpoint(Transcriber("there_is_no.pt").transcribe, (audio, RATE), contains="there_is_no.pt")


def test_transcription_is_deterministic(tmp_path):
    """With a model for which all tokens of a sentence and its end are equally likely, so that Whisper has to sample."""
    model = Whisper(ModelDimensions(**DIMS))
    tokens = get_tokenizer(True, num_languages=99)
    with torch.no_grad():
        model.decoder.positional_embedding.zero_()
        model.decoder.token_embedding.weight.zero_()
        model.decoder.token_embedding.weight[[*tokens.encode(ENGLISH), tokens.timestamp_begin], 0] = 20
        model.decoder.token_embedding.weight[tokens.eot, 0] = 20
        model.decoder.ln.weight.zero_()
        model.decoder.ln.bias.copy_(torch.eye(32)[0])
    transcriber = Transcriber(save(tmp_path / "babbler.pt", model))
    before = torch.get_rng_state()
    first = transcriber.transcribe((LOW[:RATE], RATE))
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(1)
    assert transcriber.transcribe((LOW[:RATE], RATE)) == first
    assert first.text


def test_loading_is_lazy(checkpoint):
    transcriber = Transcriber(checkpoint)
    assert not transcriber.loaded
    assert transcriber.transcribe((LOW, RATE)).text == ENGLISH
    model = weakref.ref(transcriber._whisper)
    transcriber.unload()
    transcriber.unload()
    gc.collect()
    assert (transcriber.loaded, model()) == (False, None)
    assert transcriber.transcribe((LOW, RATE)).text == ENGLISH


def test_importing_is_cheap():
    code = "import sys; from x2i_app.media.transcription import Transcriber; Transcriber('small')"
    code += "; print(*{'torch', 'whisper', 'numba'} & set(sys.modules))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (run.returncode, run.stdout.split(), run.stderr) == (0, [], "")


def test_the_time_limit(checkpoint, refused):
    transcriber = Transcriber(checkpoint, max_seconds=0)
    refused(transcriber.transcribe, (LOW, RATE), contains="longer than 0 s")
    transcriber.max_seconds = 300
    assert transcriber.transcribe((LOW, RATE)).text == ENGLISH


def test_invalid_audio_is_refused(refused):
    for source in ("missing.wav", LOW, (np.full(9, np.nan), RATE), None):
        refused(Transcriber("base").transcribe, source)


def test_unknown_models(tmp_path):
    refused_checkpoint(Transcriber, "gpt-9", contains="tiny, base, small")
    refused_checkpoint(Transcriber, "../base", contains="'base'")
    refused_checkpoint(hear, tmp_path / "missing.pt", contains="'missing.pt'")
    refused_checkpoint(hear, tmp_path, contains="There is no file")


def test_budget(checkpoint):
    refused_checkpoint(
        Transcriber, "medium", contains="needs 3.1 GB of memory; up to 1.0 GB are allowed, so choose tiny or base or"
    )
    assert not Transcriber("large", max_bytes=7 * 10**9).loaded
    refused_checkpoint(hear, checkpoint, max_bytes=10**6, contains="raise the budget")
    refused_checkpoint(hear, checkpoint, max_bytes=5 * 10**6, contains="0.0 GB are allowed")  # float16 doubles


def test_a_failed_download(no_network):
    refused_checkpoint(hear, "base", contains="cannot be downloaded")
    no_network.mkdir(exist_ok=True)
    (no_network / "base.pt").write_bytes(b"half a download")
    with pytest.warns(UserWarning, match="SHA256"):
        refused_checkpoint(hear, "base", contains="cannot be downloaded")


def test_download(checkpoint, no_network, monkeypatch, tmp_path):
    """Against a server of our own, whose `base` is the tiny model."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    digest = hashlib.sha256(checkpoint.read_bytes()).hexdigest()
    (tmp_path / digest).mkdir()
    served = tmp_path / digest / "base.pt"
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=tmp_path)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setitem(whisper._MODELS, "base", f"http://127.0.0.1:{server.server_port}/{digest}/base.pt")
        monkeypatch.setitem(whisper._ALIGNMENT_HEADS, "base", None)  # word timings of the real one
        served.write_bytes(checkpoint.read_bytes()[:-1] + b"x")
        refused_checkpoint(hear, "base", contains="SHA256")
        served.write_bytes(checkpoint.read_bytes())
        with pytest.warns(UserWarning, match="SHA256"):
            assert hear("base").text == ENGLISH
        server.shutdown()
    served.unlink()
    assert hear("base").text == ENGLISH
