"""What was computed before a kill is read and not computed again, unless it was made from something else."""

import os
import pickle
import signal

import pytest
import torch

from x2i_app.errors import TrainingError
from x2i_app.training.encoding import TensorCache, fingerprint

CAPTIONS = [f"caption {i}" for i in range(10)]


@pytest.fixture
def computed():
    return []


@pytest.fixture
def compute(computed):
    def run(texts):
        computed.append(list(texts))
        return [
            {"number": torch.full((2, len(text)), float(text.split()[-1])), "flag": torch.ones(1)} for text in texts
        ]

    return run


def filled(directory, compute, captions=CAPTIONS, made_by="one"):
    cache = TensorCache(directory, captions, made_by, shard_size=4)
    cache.fill(compute, "test")
    return cache


def test_tensors_of_every_key(tmp_path, compute, computed):
    cache = filled(tmp_path, compute)
    assert [len(texts) for texts in computed] == [4, 4, 2]
    assert len(cache) == 10
    assert [cache[i]["number"][0, 0].item() for i in range(10)] == list(range(10))
    assert cache[9]["flag"].shape == (1,)
    assert cache.sizes("number", dim=1) == [9] * 10
    copy = pickle.loads(pickle.dumps(cache))  # noqa: S301 (our own bytes, as a worker process gets them)
    assert torch.equal(copy[5]["number"], cache[5]["number"])


def test_shards_are_computed_once(tmp_path, compute, computed):
    filled(tmp_path, compute)
    computed.clear()
    filled(tmp_path, compute)
    assert computed == []
    (tmp_path / "00001.safetensors").write_bytes(b"cut off")
    assert filled(tmp_path, compute)[6]["number"][0, 0] == 6
    assert computed == [CAPTIONS[4:8]]


def test_other_keys_or_weights(tmp_path, compute, computed):
    filled(tmp_path, compute)
    computed.clear()
    filled(tmp_path, compute, captions=[*CAPTIONS[:9], "caption 42", "caption 43"])
    assert computed == [["caption 8", "caption 42", "caption 43"]]
    computed.clear()
    filled(tmp_path, compute, made_by="two")
    assert len(computed) == 3


def test_killed_process(tmp_path, compute, computed):
    def die_at_the_last(texts):
        if texts == CAPTIONS[8:]:
            os.kill(os.getpid(), signal.SIGKILL)
        return compute(texts)

    child = os.fork()
    if child == 0:
        filled(tmp_path, die_at_the_last)
    _, status = os.waitpid(child, 0)
    assert os.WTERMSIG(status) == signal.SIGKILL
    cache = filled(tmp_path, compute)
    assert computed == [CAPTIONS[8:]]
    assert [cache[i]["number"][0, 0].item() for i in range(10)] == list(range(10))


def test_unwritable_disk(tmp_path, compute):
    (tmp_path / "00000.safetensors").mkdir()
    with pytest.raises(TrainingError, match=r"00000.safetensors cannot be written .*; free some space"):
        filled(tmp_path, compute)


def test_fingerprint():
    module = torch.nn.Linear(40, 30)
    before = fingerprint(module, "compact", 5)
    assert fingerprint(module, "compact", 5) == before
    assert fingerprint(module, "padded", 5) != before
    with torch.no_grad():
        module.weight.mul_(1.001)
    assert fingerprint(module, "compact", 5) != before
