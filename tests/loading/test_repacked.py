"""The reference's repacked MLLM: one pickle with a configuration, weights and a processor, all real objects."""

import copy
import pickle
import zipfile

import pytest
import torch
from huggingface_hub import constants
from transformers import Qwen2_5_VLForConditionalGeneration, Qwen2_5_VLProcessor

from x2i_app.encoders import load_encoder
from x2i_app.errors import CheckpointError, LoadingStoppedError
from x2i_app.loading import repacked
from x2i_app.loading.sources import find_sources
from x2i_app.settings import ASSETS

PARTS = {"flux": "x2i-tiny", "alignnet": ASSETS / "x2i-tiny/align_net"}


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HOME", str(tmp_path / "home"))
    return tmp_path / "home/x2i/mllm"


@pytest.fixture(scope="module")
def content(qwen_vl_directory):
    """What the reference's nodes put into the file: x2i_comfyui/model.py, QwenVL2_5.transform."""
    model = Qwen2_5_VLForConditionalGeneration.from_pretrained(qwen_vl_directory)
    processor = Qwen2_5_VLProcessor.from_pretrained(qwen_vl_directory)
    return {"config": model.config, "state_dict": model.state_dict(), "processor": processor}


@pytest.fixture
def file(content, tmp_path):
    torch.save(content, tmp_path / "qwen2.5-vl-3b-instruct.pt")
    return tmp_path / "qwen2.5-vl-3b-instruct.pt"


def test_it_is_the_model_that_was_packed(file, home, qwen_vl_directory, monkeypatch):
    monkeypatch.setattr(repacked, "_SHARD_BYTES", 100_000)  # several files with an index, as for a released model
    reports = []
    sources = find_sources("custom:qwen2.5-vl", mllm=file, **PARTS, report=lambda progress: reports.append(progress))
    assert (sources.mllm.parent, [path.name for path in home.iterdir()]) == (home, [sources.mllm.name])
    assert len(list(sources.mllm.glob("*.safetensors"))) > 1
    assert str(reports[-1]).startswith("Unpacking qwen2.5-vl-3b-instruct.pt: ")
    assert reports[-1].done == reports[-1].total
    found, expected = (load_encoder("qwen2.5-vl", folder) for folder in (sources.mllm, qwen_vl_directory))
    image = torch.rand(3, 40, 60, generator=torch.Generator().manual_seed(0)).mul(255).byte().permute(1, 2, 0).numpy()
    for given in ({"images": [image]}, {"videos": [(image[None].repeat(4, 0), 2.0)]}):
        states = [encoder.encode(prompt="a red house", **given).hidden_states for encoder in (found, expected)]
        assert torch.equal(*states)
    assert found.encode(prompt="a", reason=True).answer
    assert repacked.unpack(file) == sources.mllm  # not written again


def test_a_tied_head_is_written_once(content, file):
    weights = dict(content["state_dict"])
    weights["lm_head.weight"] = next(value for key, value in weights.items() if "embed_tokens" in key)
    torch.save(content | {"state_dict": weights}, file)
    assert load_encoder("qwen2.5-vl", repacked.unpack(file)).encode(prompt="a").hidden_states.isfinite().all()


class Packed:
    """A tokenizer that is pickled with another state."""

    def __init__(self, state, tokenizer):
        self.state = state | {"_tokenizer": tokenizer._tokenizer} if isinstance(state, dict) else state
        self.kind = type(tokenizer)

    def __reduce__(self):
        return self.kind, (), self.state


class Hostile:
    """Writes a file if it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_no_code_of_a_file_runs(content, file, home, tmp_path):
    for place in ("config", "processor", "state_dict", "more"):
        torch.save({"config": content["config"]} | content | {place: Hostile(tmp_path / "ran")}, file)
        with pytest.raises(CheckpointError, match=r"names (_io|io)\.open, which no MLLM needs, and was not opened"):
            repacked.unpack(file)
    content["processor"].tokenizer.hostile = Hostile(tmp_path / "ran")
    try:
        torch.save(content, file)
    finally:
        del content["processor"].tokenizer.hostile
    with pytest.raises(CheckpointError, match="was not opened"):
        find_sources("custom:qwen2.5-vl", mllm=file, **PARTS)
    assert not (tmp_path / "ran").exists()
    assert not home.exists()


def test_other_files_are_refused(content, file, home, monkeypatch):
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointError, match="is cut or damaged"):
        find_sources("custom:qwen2.5-vl", mllm=file, **PARTS)
    shared = torch.zeros(1).expand(10**9)
    for weights, sentence in (
        (content["state_dict"] | {"a": shared}, "but its weights claim"),
        ({"a": "text"}, "is one file, and an MLLM needs its configuration"),
    ):
        torch.save(content | {"state_dict": weights}, file)
        with pytest.raises(CheckpointError, match=sentence):
            repacked.unpack(file)
    torch.save({"state_dict": content["state_dict"]}, file)
    assert not repacked.is_repacked(file)
    with pytest.raises(CheckpointError, match="is one file, and an MLLM needs its configuration"):
        find_sources("custom:qwen2.5-vl", mllm=file, **PARTS)
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/data.pkl", pickle.dumps("Qwen2_5_VLConfig", 2))
    with pytest.raises(CheckpointError, match="has compressed entries"):
        repacked.unpack(file)
    knot = {}
    knot["knot"] = knot
    for tokenizer, sentence in (({"init_kwargs": knot}, "cut or damaged"), ([], "The tokenizer of .* is missing")):
        packed = copy.deepcopy(content["processor"])
        packed.__dict__["tokenizer"] = Packed(tokenizer, content["processor"].tokenizer)
        torch.save(content | {"processor": packed}, file)
        with pytest.raises(CheckpointError, match=sentence):
            repacked.unpack(file)
    file.write_bytes(whole)

    def stop(progress):
        raise LoadingStoppedError("stopped")

    with pytest.raises(LoadingStoppedError):
        repacked.unpack(file, stop)
    monkeypatch.setattr(constants, "HF_HOME", str(file))  # no folder, so that nothing can be written
    with pytest.raises(CheckpointError, match=r"cannot be unpacked into .*; make room, or set HF_HOME"):
        repacked.unpack(file)
    monkeypatch.setattr(constants, "HF_HOME", str(home.parents[1]))
    monkeypatch.setattr(repacked, "SPARE_BYTES", 10**18)  # more than any disk has
    with pytest.raises(CheckpointError, match=r"is unpacked once, which needs .* of disk"):
        repacked.unpack(file)
    assert not list(home.iterdir())  # nothing is left of what failed
