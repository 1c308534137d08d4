"""4-bit weights on disk: the second start reads them, draws the same pixels, and makes bad entries again."""

import errno
import json
import os
import shutil
import struct
import subprocess
import sys

import numpy as np
import pytest
import torch
from encoders.internvl_checkpoint_factory import save_internvl
from encoders.minicpm_o_factory import save_minicpm_o
from factories import save_qwen_omni, save_qwen_vl

from x2i_app.encoders import load_encoder
from x2i_app.loading import build, kept_weights
from x2i_app.loading.kept_weights import KeptWeights
from x2i_app.loading.quantization import quantize
from x2i_app.loading.sources import find_sources
from x2i_app.settings import ASSETS

CPU = torch.device("cpu")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty folder for the entries, also of small models."""
    monkeypatch.setattr(kept_weights, "folder", lambda: tmp_path / "quantized")
    monkeypatch.setattr(kept_weights, "_LEAST_BYTES", 0)
    return tmp_path / "quantized"


def draw(sources, told=None):
    watch = None if told is None else lambda reading: told.append(reading.action)
    pipeline = build.build_pipeline(sources, "8gb", "cpu", watch=watch, keep_quantized=True)
    generator = torch.Generator().manual_seed(0)
    image = pipeline("a red house", width=64, height=64, num_inference_steps=1, generator=generator).images[0]
    return np.asarray(image)


def test_second_start(folder, monkeypatch):
    """It reads the entries, quantizes nothing, and draws the same pixels. The answers' head is still found."""
    monkeypatch.setattr(build, "_SECONDS_BETWEEN_REPORTS", 0)
    sources, told = find_sources("x2i-tiny"), []
    first = draw(sources, told)
    assert {path.name.split("-")[0] for path in folder.iterdir()} == {"mllm", "flux"}
    assert {"Keeping the MLLM in 4 bit", "Keeping FLUX in 4 bit", "Reading FLUX"} <= set(told)
    sizes = sum(path.stat().st_size for path in folder.iterdir())
    times = {path: path.stat().st_mtime_ns for path in folder.iterdir()}

    monkeypatch.setattr("x2i_app.loading.quantization.quantize_layer", None)
    monkeypatch.setattr("x2i_app.loading.flux_file.quantize_layer", None)
    told.clear()
    second = draw(sources, told)
    assert set(told) == {"Reading the MLLM in 4 bit", "Reading FLUX in 4 bit"}
    assert np.array_equal(first, second)
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == times
    whole = sum((ASSETS / f"x2i-tiny/{name}.safetensors").stat().st_size for name in ("mllm/model",))
    assert sizes < 2 * whole


def test_useless_entries_are_deleted(folder, tmp_path):
    """Those whose model is gone, and a file that a killed process has begun; nothing else in the folder."""
    kept = []
    for name in ("gone", "there", "new"):
        (tmp_path / name).mkdir()
        save_qwen_vl(tmp_path / name)
        files = sorted((tmp_path / name).rglob("*.safetensors"))
        kept.append(KeptWeights("the MLLM", files, torch.float32, "cpu"))
    for entry in kept[:2]:
        entry.keep(load(entry, "qwen2.5-vl", torch.float32)[0].model)
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    begun = [folder / f"flux-0.{process}" for process in (ended.pid, os.getppid())]
    others = [folder / name for name in ("notes.txt", "damaged.safetensors")]
    for path in (*begun, *others):
        path.write_bytes(b"x")
    shutil.rmtree(tmp_path / "gone")
    kept[2].keep(load(kept[2], "qwen2.5-vl", torch.float32)[0].model)
    assert set(folder.iterdir()) == {kept[1].path, kept[2].path, begun[1], *others}


def test_switched_off(folder):
    build.load_pipeline("x2i-tiny", "8gb", "cpu", keep_quantized=False)
    assert not folder.exists()


FAMILIES = {
    "qwen2.5-vl": (save_qwen_vl, torch.float32),
    "qwen2.5-omni": (save_qwen_omni, torch.bfloat16),
    "internvl2.5": (save_internvl, torch.bfloat16),
    "minicpm-o": (save_minicpm_o, torch.float32),
}


def states(encoder):
    return encoder.encode(prompt="a red house").hidden_states


def load(kept, family, dtype):
    """An encoder in 4 bit, and whether its weights were read from the entry."""
    filled = []

    def fill(model):
        filled.append(kept.fill(model))
        return filled[0]

    encoder = load_encoder(family, kept.files[0].parent, dtype=dtype, fill=fill)
    quantize(encoder.model, "nf4", CPU)
    return encoder, filled[0]


@pytest.mark.parametrize("family", FAMILIES)
def test_families(folder, tmp_path, family):
    """Every family gets the weights and the buffers that its own code would have read, to the bit."""
    save, dtype = FAMILIES[family]
    (tmp_path / "model").mkdir()
    model = save(tmp_path / "model")
    kept = KeptWeights("the MLLM", sorted(model.glob("*.safetensors")), dtype, "cpu")
    made, was_filled = load(kept, family, dtype)
    assert not was_filled
    kept.keep(made.model)
    read, was_filled = load(kept, family, dtype)
    assert was_filled
    first, second = (dict((*each.named_parameters(), *each.named_buffers())) for each in (made.model, read.model))
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        assert second[name].dtype == tensor.dtype, name
        assert torch.equal(second[name], tensor), name
    assert read.model.training is made.model.training
    assert torch.equal(states(read), states(made))


@pytest.fixture
def kept(folder, tmp_path):
    """An entry of a tiny model."""
    model = save_qwen_vl(tmp_path / "model")
    kept = KeptWeights("the MLLM", sorted(model.glob("*")), torch.float32, "cpu")
    kept.keep(load(kept, "qwen2.5-vl", torch.float32)[0].model)
    return kept


def cut(kept):
    os.truncate(kept.path, kept.path.stat().st_size - 100)


def empty(kept):
    kept.path.write_bytes(b"")


def one_bit(kept):
    content = bytearray(kept.path.read_bytes())
    content[-5] ^= 1
    kept.path.write_bytes(content)


def other_model(kept):
    """The entry of another model under this one's name."""
    other = save_qwen_vl(kept.files[0].parent.with_name("other"), seed=1)
    entry = KeptWeights("the MLLM", sorted(other.glob("*")), torch.float32, "cpu")
    entry.keep(load(entry, "qwen2.5-vl", torch.float32)[0].model)
    shutil.copy(entry.path, kept.path)


def with_header(change):
    def make(kept):
        content = kept.path.read_bytes()
        (length,) = struct.unpack_from("<Q", content)
        header = json.loads(content[8 : 8 + length])
        change(header, header["__metadata__"])
        text = json.dumps(header).encode()
        kept.path.write_bytes(struct.pack("<Q", len(text)) + text + content[8 + length :])

    return make


def rename(header, _):
    name = next(name for name in header if name.endswith("norm.weight"))
    header["stranger"] = header.pop(name)


def no_sums(header, metadata):
    metadata["crc32"] = "{}"


def no_source(header, metadata):
    del metadata["source"]


def newer_source(kept):
    os.utime(kept.files[0], ns=(1, 1))


BAD = [cut, empty, one_bit, other_model, newer_source, *map(with_header, (rename, no_sums, no_source))]
NAMES = ["cut", "empty", "one_bit", "other_model", "newer_source", "renamed", "no_sums", "no_source"]


@pytest.mark.parametrize("spoil", BAD, ids=NAMES)
def test_bad_entries_are_made_again(kept, spoil):
    before = states(load(kept, "qwen2.5-vl", torch.float32)[0])
    spoil(kept)
    encoder, was_filled = load(kept, "qwen2.5-vl", torch.float32)
    assert not was_filled
    assert torch.equal(states(encoder), before)
    kept.keep(encoder.model)
    encoder, was_filled = load(kept, "qwen2.5-vl", torch.float32)
    assert was_filled
    assert torch.equal(states(encoder), before)


def test_another_version_makes_its_own(kept, monkeypatch):
    monkeypatch.setattr(kept_weights, "version", lambda name: "0.1")
    assert not load(kept, "qwen2.5-vl", torch.float32)[1]


def test_an_entry_is_whole_or_absent(kept):
    """A stop or a full disk while an entry is written leaves the older one, and nothing beside it."""
    encoder = load_encoder("qwen2.5-vl", kept.files[0].parent, dtype=torch.float32)
    quantize(encoder.model, "nf4", CPU)
    before = kept.path.read_bytes()

    def stop(*_):
        raise KeyboardInterrupt

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(KeyboardInterrupt):
        KeptWeights("the MLLM", kept.files, kept.dtype, "cpu", stop).keep(encoder.model)
    KeptWeights("the MLLM", kept.files, kept.dtype, "cpu", full).keep(encoder.model)  # the model is used all the same
    assert kept.path.read_bytes() == before
    assert list(kept.path.parent.iterdir()) == [kept.path]


@pytest.mark.parametrize("limit", ["_SPARE_BYTES", "_LEAST_BYTES"])
def test_what_is_not_kept(kept, monkeypatch, limit):
    """Nothing is written on a nearly full disk, nor of a small model."""
    encoder, _ = load(kept, "qwen2.5-vl", torch.float32)
    kept.path.unlink()
    monkeypatch.setattr(kept_weights, limit, 2**40)
    kept.keep(encoder.model)
    assert not kept.path.exists()
