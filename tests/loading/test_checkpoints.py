"""AlignNet and LightControl: every format of their weights, and files that must be refused."""

import json
import pickle

import pytest
import torch
from safetensors.torch import save_file

from x2i_app.errors import CheckpointError
from x2i_app.loading import load_alignnet, load_light_control
from x2i_app.models import AlignNet, LightControl

CONFIG = {"num_states": 3, "hidden_size": 6, "joint_dim": 4, "pooled_dim": 2}


def make(fusion="conv", **changes) -> AlignNet:
    torch.manual_seed(0)
    return AlignNet(**CONFIG | {"fusion": fusion} | changes).to(torch.bfloat16)


def prefixed(prefix, weights):
    return {f"{prefix}{key}": value for key, value in weights.items()}


def optimizer(weights):
    return {"param_groups": [{"lr": 1e-4}], "state": {0: {"step": 3, "exp_avg": torch.zeros(2)}}}


# How weights are saved as a pickle: by torch.save, by ComfyUI's nodes, by DeepSpeed and by other trainers.
PICKLES = {
    "plain": lambda weights: weights,
    "distributed": lambda weights: prefixed("module.", weights),
    "compiled": lambda weights: prefixed("_orig_mod.", weights),
    "both": lambda weights: prefixed("module._orig_mod.", weights),
    "both, swapped": lambda weights: prefixed("_orig_mod.module.", weights),
    "comfyui": lambda weights: {"config": {"in_channels": 3, "use_cnn": True}, "state_dict": weights},
    "deepspeed": lambda weights: {"module": prefixed("module.", weights), "optimizer": optimizer(weights), "step": 3},
    "trainer": lambda weights: {"epoch": 1, "model": weights, "optimizer": optimizer(weights)},
    "pytorch": lambda weights: {"epoch": 1, "model_state_dict": weights, "optimizer_state_dict": optimizer(weights)},
    "average": lambda weights: {"ema": weights, "decay": 0.99},
    "part": lambda weights: prefixed("model.align_net.", weights),
    "two wrappers": lambda weights: {"model": {"state_dict": weights}},
}
FORMATS = {f"{name}.pt": save for name, save in PICKLES.items()} | {"plain.bin": PICKLES["plain"]}
FORMATS["pickle.safetensors"] = PICKLES["plain"]  # under the other kind's name


def write(path, module):
    """Save the module in the format that the path's name stands for."""
    if path.name in FORMATS:
        torch.save(FORMATS[path.name](module.state_dict()), path)
    elif path.suffix:  # also "safetensors.bin"
        save_file(module.state_dict(), path)
    else:
        module.save_pretrained(path)


ALL_FORMATS = [*FORMATS, "weights.safetensors", "safetensors.bin", "folder"]


@pytest.mark.parametrize("fusion", ["conv", "scale"])
@pytest.mark.parametrize("name", ALL_FORMATS)
def test_alignnet_formats(tmp_path, name, fusion):
    """Every format gives the same weights, and the kind of fusion is found."""
    original = make(fusion)
    write(tmp_path / name, original)
    loaded = load_alignnet(tmp_path / name)
    assert (loaded.config.fusion, loaded.dtype, loaded.training) == (fusion, torch.bfloat16, False)
    assert not any(parameter.requires_grad for parameter in loaded.parameters())
    assert loaded.state_dict().keys() == original.state_dict().keys()
    for key, value in original.state_dict().items():
        assert torch.equal(loaded.state_dict()[key], value)
    assert load_alignnet(tmp_path / name, dtype=torch.float32).dtype is torch.float32


def test_kernel_size(tmp_path):
    write(tmp_path / "plain.bin", make(kernel_size=3))
    assert load_alignnet(tmp_path / "plain.bin").config.kernel_size == 3


def test_other_mllm(tmp_path):
    """A file for another MLLM: the error names the key with its shape, got and expected."""
    write(tmp_path / "plain.bin", make())
    with pytest.raises(CheckpointError, match=r"conv.weight has the shape \(1, 3, 5, 5\), expected \(1, 29, 5, 5\)"):
        load_alignnet(tmp_path / "plain.bin", num_states=29)
    with pytest.raises(CheckpointError, match=r"has the shape \(6,\), expected \(9,\)|\(4, 6\), expected \(4, 9\)"):
        load_alignnet(tmp_path / "plain.bin", hidden_size=9)


def test_config_contradicts(tmp_path):
    """A config.json that says something else than the weights is refused."""
    make().save_pretrained(tmp_path / "a")
    make(kernel_size=3).save_pretrained(tmp_path / "b")
    (tmp_path / "a/config.json").write_text((tmp_path / "b/config.json").read_text())
    with pytest.raises(CheckpointError, match=r"config\.json says kernel_size is 3"):
        load_alignnet(tmp_path / "a")


def test_config_of_other_class(tmp_path):
    """A config.json of another model in the same folder does not matter."""
    make().save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"_class_name": "FluxTransformer2DModel", "kernel_size": 3}))
    assert load_alignnet(tmp_path).config.kernel_size == 5


class Bomb:
    """Unpickled, it writes a file."""

    def __init__(self, canary):
        self.canary = canary

    def __reduce__(self):
        return open, (str(self.canary), "w")


@pytest.mark.parametrize("suffix", [".bin", ".pt"])
@pytest.mark.parametrize("forced", [False, True])
def test_pickled_code(tmp_path, monkeypatch, suffix, forced):
    """A pickle with code is refused and the code does not run, even if the environment allows it."""
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


def test_pickle_that_wraps_itself(tmp_path):
    content = {}
    content["model"] = content
    torch.save(content, tmp_path / "a.pt")
    with pytest.raises(CheckpointError, match="no dictionary of named tensors"):
        load_alignnet(tmp_path / "a.pt")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"<!doctype html><title>Sign in</title>", "web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "Git LFS pointer"),
        (b"\x00" * 100, "damaged"),
    ],
)
@pytest.mark.parametrize("suffix", [".bin", ".safetensors"])
def test_no_weights_file(tmp_path, content, message, suffix):
    path = tmp_path / f"weights{suffix}"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=message) as error:
        load_alignnet(path)
    assert f"weights{suffix}" in str(error.value)


def test_unreadable_file(tmp_path):
    """A cut file, a missing file and a file of another kind."""
    write(tmp_path / "whole.safetensors", make())
    whole = (tmp_path / "whole.safetensors").read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "notes.txt").write_text("weights")
    for name, message in (
        ("cut.safetensors", "cut or damaged"),
        ("gone.bin", "no file"),
        ("notes.txt", "no weights file"),
    ):
        with pytest.raises(CheckpointError, match=message):
            load_alignnet(tmp_path / name)


@pytest.mark.parametrize("content", [torch.zeros(3), {"conv.weight": 3}, {"state_dict": {"conv.weight": 3}}, [1]])
def test_no_state_dict(tmp_path, content):
    torch.save(content, tmp_path / "a.bin")
    with pytest.raises(CheckpointError, match="no dictionary of named tensors"):
        load_alignnet(tmp_path / "a.bin")


def weights_with(**changes):
    return make().state_dict() | {key.replace("__", "."): value for key, value in changes.items()}


def weights_without(key):
    return {name: value for name, value in make().state_dict().items() if name != key}


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (lambda: weights_without("mlp.fc.1.bias"), r"lacks mlp.fc.1.bias \(2,\)"),
        (lambda: weights_without("mlp.projector.0.weight"), "lacks mlp.projector.0.weight, .* not an AlignNet"),
        (lambda: weights_with(mlp__extra=torch.zeros(1)), "has mlp.extra, which this model does not have"),
        (lambda: weights_with(conv__bias=torch.zeros(1, dtype=torch.int64)), "conv.bias is torch.int64"),
        (lambda: {1: torch.zeros(2), **make().state_dict()}, "has a weight with the key 1, which is no text"),
        (lambda: weights_with(conv__weight=torch.zeros(1, 3, 4, 4)), "conv.weight has a kernel of 4; expected an odd"),
        (lambda: weights_with(conv__bias=torch.tensor([torch.nan])), "conv.bias has numbers that are not finite"),
        (lambda: weights_with(mlp__fc__1__bias=torch.tensor([0.0, torch.inf])), "mlp.fc.1.bias has numbers that are"),
        (lambda: weights_with(conv__bias=torch.zeros(1, device="meta")), "conv.bias is without its numbers"),
        (lambda: weights_with(conv__bias=torch.zeros(1).to_sparse()), "conv.bias is stored as torch.sparse_coo"),
        (lambda: weights_with(mlp__fc__1__bias=torch.zeros(1).expand(2)), "mlp.fc.1.bias repeats one number"),
        (lambda: weights_with(module__conv__bias=torch.zeros(1)), "has conv.bias twice"),
        (lambda: weights_with(_orig_mod__conv__bias=torch.zeros(1)), "has conv.bias twice"),
    ],
)
def test_bad_weights(tmp_path, weights, message):
    """The error names the file and the key."""
    torch.save(weights(), tmp_path / "a.bin")
    with pytest.raises(CheckpointError, match=f"a.bin.*{message}") as raised:
        load_alignnet(tmp_path / "a.bin")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("content", ["[1]", "3", "{"])
def test_bad_config(tmp_path, content):
    make().save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(CheckpointError, match=r"config\.json beside .* is no"):
        load_alignnet(tmp_path)


# ----- LightControl --------------------------------------------------------------------------------------------------

SMALL = {"num_blocks": 3, "dim": 24, "widths": [6, 8, 16], "time_embed_dim": 6}


def make_light_control() -> LightControl:
    torch.manual_seed(0)
    light_control = LightControl(**SMALL)
    for parameter in light_control.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return light_control


@pytest.mark.parametrize("name", ["plain.bin", "distributed.pt", "trainer.pt", "weights.safetensors", "folder"])
def test_light_control_formats(tmp_path, name):
    """Every format gives the same outputs; the sizes are read from the weights."""
    original = make_light_control()
    write(tmp_path / name, original)
    loaded = load_light_control(tmp_path / name)
    assert {key: loaded.config[key] for key in SMALL} == SMALL
    assert not loaded.training
    assert not any(parameter.requires_grad for parameter in loaded.parameters())
    image, timestep = torch.rand(1, 3, 32, 32), torch.tensor([300.0])
    for expected, got in zip(original.eval()(image, timestep), loaded(image, timestep), strict=True):
        torch.testing.assert_close(got, expected)
    assert load_light_control(tmp_path / name, dtype=torch.bfloat16).dtype is torch.bfloat16


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda w: w.pop("1.mid_convs.0.3.bias"), r"lacks 1.mid_convs.0.3.bias \(16,\)"),
        (lambda w: w.update({"1.extra": torch.zeros(1)}), "has 1.extra, which this model does not have"),
        (lambda w: w.update({"0.mid_convs.1.bias": torch.zeros(9)}), r"has the shape \(9,\), expected \(24,\)"),
        (lambda w: w.update({"2.embedding.0.bias": torch.full((6,), float("nan"))}), "not finite"),
        (lambda w: w.pop("0.mid_convs.1.weight"), "lacks 0.mid_convs.1.weight, .* this is no LightControl"),
        (lambda w: w.update({"0.embedding.0.weight": torch.zeros(7, 3, 3, 3)}), "sizes that no LightControl has"),
    ],
)
def test_bad_light_control(tmp_path, spoil, message):
    weights = dict(make_light_control().state_dict())
    spoil(weights)
    save_file(weights, tmp_path / "a.safetensors")
    with pytest.raises(CheckpointError, match=message):
        load_light_control(tmp_path / "a.safetensors")


def test_light_control_config_and_code(tmp_path):
    """A config.json that says something else, and a pickle with code, are refused."""
    make_light_control().save_pretrained(tmp_path / "a")
    config = tmp_path / "a" / "config.json"
    config.write_text(config.read_text().replace('"dim": 24', '"dim": 3072'))
    with pytest.raises(CheckpointError, match=r"says dim is 3072, but .* was made for 24"):
        load_light_control(tmp_path / "a")
    (tmp_path / "code.bin").write_bytes(pickle.dumps({"0.embedding.0.weight": print}))
    with pytest.raises(CheckpointError, match="was not opened"):
        load_light_control(tmp_path / "code.bin")
