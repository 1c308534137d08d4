"""Whisper's files: what is damaged, lies about itself or would run code is refused in one sentence."""

import io
import pickle
import zipfile
from pathlib import Path

import pytest
import torch
from media.tiny_whisper import ENGLISH, hear, refused_checkpoint, trained_checkpoint


@pytest.fixture
def content():
    """What is in a checkpoint, to be damaged."""
    return torch.load(io.BytesIO(trained_checkpoint()), weights_only=True)


class Bomb:
    """Unpickling it creates a file."""

    def __init__(self, canary: Path):
        self.canary = canary

    def __reduce__(self):
        return Path.touch, (self.canary,)


@pytest.mark.parametrize("protocol", ["zip", "legacy", "pickle"])
def test_code_in_pickles_is_not_run(tmp_path, monkeypatch, content, protocol):
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    canary, path = tmp_path / "canary", tmp_path / "bomb.pt"
    content["model_state_dict"]["encoder.ln_post.bias"] = Bomb(canary)
    if protocol == "pickle":
        path.write_bytes(pickle.dumps(Bomb(canary)))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=protocol == "zip")
    refused_checkpoint(hear, path, contains="not a Whisper checkpoint")
    assert not canary.exists()


def test_a_legacy_file(tmp_path, content):
    torch.save(content, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    assert hear(tmp_path / "old.pt").text == ENGLISH


BYTES = {
    "empty": b"",
    "web page": b"<!DOCTYPE html><html>404</html>",
    "pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n",
    "pickle opcodes": b"\x80\x02" + b"(" * 5000,
}


@pytest.mark.parametrize("data", BYTES.values(), ids=BYTES.keys())
def test_other_files_are_refused(tmp_path, data):
    (tmp_path / "a.pt").write_bytes(data)
    refused_checkpoint(hear, tmp_path / "a.pt", contains="'a.pt'")


def test_a_cut_file(tmp_path):
    data = trained_checkpoint()
    for length in (100, len(data) // 2, len(data) - 1):
        (tmp_path / "cut.pt").write_bytes(data[:length])
        refused_checkpoint(hear, tmp_path / "cut.pt", contains="damaged")


def test_a_zip_bomb(tmp_path):
    with zipfile.ZipFile(tmp_path / "bomb.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb/data/0", bytes(30 * 10**6))
    refused_checkpoint(hear, tmp_path / "bomb.pt", max_bytes=20 * 10**6, contains="0.0 GB")


DIMENSIONS = {
    "missing": ({"n_mels": None}, "dimensions"),
    "layers": ({"n_text_layer": 10**12}, "n_text_layer of 'lie.pt' is '1000000000000'"),
    "digits": ({"n_text_layer": 10**5000}, "damaged"),
    "boolean": ({"n_audio_layer": True}, "n_audio_layer of 'lie.pt' is 'True'"),
    "negative": ({"n_audio_state": -32}, "n_audio_state"),
    "English only": ({"n_vocab": 51_864}, "no multilingual Whisper"),
    "heads": ({"n_audio_head": 5}, "do not match"),
    "halves": ({"n_text_state": 64}, "do not match"),
    "layers not there": ({"n_text_layer": 2}, "lacks decoder.blocks.1."),
    "beyond the budget": ({"n_audio_state": 1280, "n_text_state": 1280, "n_text_layer": 32}, "GB of memory"),
}


@pytest.mark.parametrize(("change", "contains"), DIMENSIONS.values(), ids=DIMENSIONS.keys())
def test_wrong_dimensions(tmp_path, content, change, contains):
    content["dims"] = {key: value for key, value in (content["dims"] | change).items() if value is not None}
    torch.save(content, tmp_path / "lie.pt")
    refused_checkpoint(hear, tmp_path / "lie.pt", contains=contains)


WEIGHTS = {
    "missing": (None, "lacks decoder.ln.bias"),
    "shape": (torch.zeros(33), "has shape (33,); expected (32,)"),
    "NaN": (torch.full((32,), torch.nan), "not finite"),
    "integers": (torch.zeros(32, dtype=torch.int64), "not finite"),
    "sparse": (torch.zeros(32).to_sparse(), "damaged"),
    "no tensor": ([0.0] * 32, "damaged"),
}


@pytest.mark.parametrize(("value", "contains"), WEIGHTS.values(), ids=WEIGHTS.keys())
def test_unsuitable_weights(tmp_path, content, value, contains):
    weights = content["model_state_dict"] | {"decoder.ln.bias": value}
    content["model_state_dict"] = {key: value for key, value in weights.items() if value is not None}
    torch.save(content, tmp_path / "bad.pt")
    refused_checkpoint(hear, tmp_path / "bad.pt", contains=contains)


def test_weights_of_another_model(tmp_path, content):
    content["model_state_dict"]["decoder.ln2.bias"] = torch.zeros(32)
    for wrong in (content, [torch.zeros(3)], {"dims": content["dims"]}, {"model_state_dict": {}}):
        torch.save(wrong, tmp_path / "other.pt")
        refused_checkpoint(hear, tmp_path / "other.pt", contains="'other.pt'")
