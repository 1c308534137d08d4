"""LightControl weights in every form, and everything that is not one."""

import pickle

import pytest
import torch
from safetensors.torch import save_file

from x2i_app.errors import CheckpointError
from x2i_app.loading import load_light_control
from x2i_app.models import LightControl

SMALL = {"num_blocks": 3, "dim": 24, "widths": [6, 8, 16], "time_embed_dim": 6}


def make(**changes) -> LightControl:
    torch.manual_seed(0)
    light_control = LightControl(**SMALL | changes)
    for parameter in light_control.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return light_control


FORMS = {
    "trained.bin": lambda path, net: torch.save(net.state_dict(), path),
    "distributed.pt": lambda path, net: torch.save({f"module.{k}": v for k, v in net.state_dict().items()}, path),
    "ours.safetensors": lambda path, net: save_file(net.state_dict(), path),
    "folder": lambda path, net: net.save_pretrained(path),
}


@pytest.mark.parametrize("name", FORMS)
def test_every_form_loads_with_its_sizes_read_off_the_weights(tmp_path, name):
    original = make()
    FORMS[name](tmp_path / name, original)
    loaded = load_light_control(tmp_path / name)
    assert {key: loaded.config[key] for key in SMALL} == SMALL
    assert not loaded.training
    assert not any(parameter.requires_grad for parameter in loaded.parameters())
    image, timestep = torch.rand(1, 3, 32, 32), torch.tensor([300.0])
    for expected, got in zip(original.eval()(image, timestep), loaded(image, timestep), strict=True):
        torch.testing.assert_close(got, expected)
    assert load_light_control(tmp_path / name, dtype=torch.bfloat16).dtype is torch.bfloat16


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda w: w.pop("1.mid_convs.0.3.bias"), r"lacks 1.mid_convs.0.3.bias \(16,\)"),
        (lambda w: w.update({"1.extra": torch.zeros(1)}), "has 1.extra, which this model does not know"),
        (lambda w: w.update({"0.mid_convs.1.bias": torch.zeros(9)}), r"has the shape \(9,\), expected \(24,\)"),
        (lambda w: w.update({"2.embedding.0.bias": torch.full((6,), float("nan"))}), "not finite"),
        (lambda w: w.pop("0.mid_convs.1.weight"), "lacks 0.mid_convs.1.weight .* this is no LightControl"),
        (lambda w: w.update({"0.embedding.0.weight": torch.zeros(7, 3, 3, 3)}), "sizes that no LightControl has"),
    ],
)
def test_weights_that_are_not_whole_are_refused_by_name(tmp_path, spoil, words):
    weights = dict(make().state_dict())
    spoil(weights)
    save_file(weights, tmp_path / "a.safetensors")
    with pytest.raises(CheckpointError, match=words):
        load_light_control(tmp_path / "a.safetensors")


def test_a_configuration_that_says_otherwise_and_a_pickle_with_code_are_refused(tmp_path):
    make().save_pretrained(tmp_path / "a")
    config = tmp_path / "a" / "config.json"
    config.write_text(config.read_text().replace('"dim": 24', '"dim": 3072'))
    with pytest.raises(CheckpointError, match=r"says dim is 3072, but .* was made for 24"):
        load_light_control(tmp_path / "a")
    (tmp_path / "code.bin").write_bytes(pickle.dumps({"0.embedding.0.weight": print}))
    with pytest.raises(CheckpointError, match="was not opened"):
        load_light_control(tmp_path / "code.bin")
