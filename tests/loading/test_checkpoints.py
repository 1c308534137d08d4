"""AlignNet weights in every released form, and everything that is not one of them."""

import pickle

import pytest
import torch
from safetensors.torch import save_file

from x2i_app.errors import CheckpointError
from x2i_app.loading import load_alignnet
from x2i_app.models import AlignNet

CONFIG = {"num_states": 3, "hidden_size": 6, "joint_dim": 4, "pooled_dim": 2}


def make(fusion="conv", **changes) -> AlignNet:
    torch.manual_seed(0)
    return AlignNet(**CONFIG | {"fusion": fusion} | changes).to(torch.bfloat16)


def write_bin(path, align_net):
    torch.save(align_net.state_dict(), path)


def write_bin_of_distributed_training(path, align_net):
    torch.save({f"module.{key}": value for key, value in align_net.state_dict().items()}, path)


def write_comfyui(path, align_net):
    config = {"in_channels": 3, "input_dim": 6, "use_cnn": True}
    torch.save({"config": config, "state_dict": align_net.state_dict()}, path)


def write_safetensors(path, align_net):
    save_file(align_net.state_dict(), path)


def write_folder(path, align_net):
    align_net.save_pretrained(path)


FORMS = {
    "released.bin": write_bin,
    "distributed.bin": write_bin_of_distributed_training,
    "comfyui.pt": write_comfyui,
    "ours.safetensors": write_safetensors,
    "folder": write_folder,
}


@pytest.mark.parametrize("fusion", ["conv", "scale"])
@pytest.mark.parametrize("name", FORMS)
def test_every_form_loads_with_its_fusion_found(tmp_path, name, fusion):
    original = make(fusion)
    FORMS[name](tmp_path / name, original)
    loaded = load_alignnet(tmp_path / name)
    assert (loaded.config.fusion, loaded.dtype, loaded.training) == (fusion, torch.bfloat16, False)
    for key, value in original.state_dict().items():
        assert torch.equal(loaded.state_dict()[key], value)
    assert load_alignnet(tmp_path / name, dtype=torch.float32).dtype is torch.float32


def test_a_kernel_of_another_size_is_read_off_the_weights(tmp_path):
    write_bin(tmp_path / "a.bin", make(kernel_size=3))
    assert load_alignnet(tmp_path / "a.bin").config.kernel_size == 3


def test_a_file_for_another_mllm_says_which_key_got_and_expected(tmp_path):
    write_bin(tmp_path / "a.bin", make())
    with pytest.raises(CheckpointError, match=r"conv.weight has the shape \(1, 3, 5, 5\), expected \(1, 29, 5, 5\)"):
        load_alignnet(tmp_path / "a.bin", num_states=29)
    with pytest.raises(CheckpointError, match=r"has the shape \(6,\), expected \(9,\)|\(4, 6\), expected \(4, 9\)"):
        load_alignnet(tmp_path / "a.bin", hidden_size=9)


def test_a_missing_an_unknown_and_an_integer_weight_are_refused_by_name(tmp_path):
    weights = make().state_dict()
    torch.save({k: v for k, v in weights.items() if k != "mlp.fc.1.bias"}, tmp_path / "missing.bin")
    torch.save(weights | {"mlp.extra": torch.zeros(1)}, tmp_path / "extra.bin")
    torch.save(weights | {"conv.bias": torch.zeros(1, dtype=torch.int64)}, tmp_path / "integer.bin")
    for name, words in (
        ("missing", "lacks mlp.fc.1.bias"),
        ("extra", "mlp.extra"),
        ("integer", "conv.bias is torch.int64"),
    ):
        with pytest.raises(CheckpointError, match=words):
            load_alignnet(tmp_path / f"{name}.bin")


def test_a_configuration_that_contradicts_the_weights_is_refused(tmp_path):
    make().save_pretrained(tmp_path / "a")
    make(kernel_size=3).save_pretrained(tmp_path / "b")
    (tmp_path / "a/config.json").write_text((tmp_path / "b/config.json").read_text())
    with pytest.raises(CheckpointError, match=r"config\.json says kernel_size is 3"):
        load_alignnet(tmp_path / "a")


class Bomb:
    """Pickled, it asks the loader to write a file."""

    def __init__(self, canary):
        self.canary = canary

    def __reduce__(self):
        return open, (str(self.canary), "w")


@pytest.mark.parametrize("suffix", [".bin", ".pt"])
@pytest.mark.parametrize("forced", [False, True])
def test_a_pickle_with_code_is_refused_and_not_run(tmp_path, monkeypatch, suffix, forced):
    if forced:
        monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    canary, path = tmp_path / "canary", tmp_path / f"a{suffix}"
    torch.save({"conv.weight": Bomb(canary)}, path)
    with pytest.raises(CheckpointError, match="more than tensors"):
        load_alignnet(path)
    path.write_bytes(pickle.dumps(Bomb(canary)))
    with pytest.raises(CheckpointError):
        load_alignnet(path)
    assert not canary.exists()


def whole_file(tmp_path) -> bytes:
    write_safetensors(tmp_path / "whole.safetensors", make())
    return (tmp_path / "whole.safetensors").read_bytes()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"<!doctype html><title>Sign in</title>", "web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "Git LFS pointer"),
        (b"\x00" * 100, "damaged"),
    ],
)
@pytest.mark.parametrize("suffix", [".bin", ".safetensors"])
def test_what_is_no_weights_file_is_called_by_its_name(tmp_path, content, words, suffix):
    path = tmp_path / f"weights{suffix}"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=words) as error:
        load_alignnet(path)
    assert f"weights{suffix}" in str(error.value)


def test_a_cut_file_a_missing_file_and_another_kind_of_file(tmp_path):
    whole = whole_file(tmp_path)
    (tmp_path / "cut.safetensors").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "notes.txt").write_text("weights")
    for name, words in (
        ("cut.safetensors", "cut or damaged"),
        ("gone.bin", "no file"),
        ("notes.txt", "no weights file"),
    ):
        with pytest.raises(CheckpointError, match=words):
            load_alignnet(tmp_path / name)


def test_a_tensor_where_a_dictionary_should_be_is_refused(tmp_path):
    torch.save(torch.zeros(3), tmp_path / "a.bin")
    torch.save({"conv.weight": 3}, tmp_path / "b.bin")
    for name in "ab":
        with pytest.raises(CheckpointError, match="no dictionary of named tensors"):
            load_alignnet(tmp_path / f"{name}.bin")


def weights_with(**changes):
    return make().state_dict() | {key.replace("__", "."): value for key, value in changes.items()}


@pytest.mark.parametrize(
    ("weights", "words"),
    [
        (lambda: {1: torch.zeros(2), **make().state_dict()}, "calls a weight 1, which is no name"),
        (lambda: weights_with(conv__weight=torch.zeros(1, 3, 4, 4)), "conv.weight has a kernel of 4; expected an odd"),
        (lambda: weights_with(conv__bias=torch.tensor([torch.nan])), "conv.bias has numbers that are not finite"),
        (lambda: weights_with(mlp__fc__1__bias=torch.tensor([0.0, torch.inf])), "mlp.fc.1.bias has numbers that are"),
        (lambda: weights_with(conv__bias=torch.zeros(1, device="meta")), "conv.bias is without its numbers"),
        (lambda: weights_with(conv__bias=torch.zeros(1).to_sparse()), "conv.bias is stored as torch.sparse_coo"),
        (lambda: weights_with(mlp__fc__1__bias=torch.zeros(1).expand(2)), "mlp.fc.1.bias repeats one number"),
        (lambda: weights_with(module__conv__bias=torch.zeros(1)), "has conv.bias twice"),
    ],
)
def test_weights_that_are_not_plain_numbers_under_one_name_each_are_refused(tmp_path, weights, words):
    torch.save(weights(), tmp_path / "a.bin")
    with pytest.raises(CheckpointError, match=f"a.bin.*{words}") as raised:
        load_alignnet(tmp_path / "a.bin")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("claim", ["[1]", "3", "{"])
def test_a_configuration_that_is_no_dictionary_is_refused(tmp_path, claim):
    make().save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(claim)
    with pytest.raises(CheckpointError, match=r"config\.json beside .* is no"):
        load_alignnet(tmp_path)
