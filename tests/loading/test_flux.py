"""A FLUX.1 folder in diffusers layout: every weight is known, none is missing, and no code in it is run."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from x2i_app.errors import CheckpointError
from x2i_app.loading.flux import load_flux
from x2i_app.loading.sizes import build_skeleton
from x2i_app.settings import ASSETS

KEYS = {"transformer": "proj_out.weight", "vae": "decoder.conv_out.weight"}


@pytest.fixture
def directory(tmp_path):
    for part in ("transformer", "vae", "scheduler"):
        shutil.copytree(ASSETS / "x2i-tiny" / part, tmp_path / "flux" / part)
    return tmp_path / "flux"


@pytest.fixture(params=KEYS)
def part(request):
    return request.param


def change_weights(directory, change):
    (file,) = directory.glob("*.safetensors")
    weights = load_file(file)
    change(weights)
    save_file(weights, file, metadata={"format": "pt"})


def refusal(directory):
    with pytest.raises(CheckpointError) as raised:
        load_flux(directory, torch.float32)
    assert "\n" not in str(raised.value)
    return str(raised.value)


def test_missing_weight(directory, part):
    change_weights(directory / part, lambda weights: weights.pop(KEYS[part]))
    assert f"The {part} of flux lacks 1 weights, among them {KEYS[part]}" in refusal(directory)


def test_unknown_weight(directory, part):
    change_weights(directory / part, lambda weights: weights.update({"evil.extra": torch.zeros(3)}))
    assert f"The {part} of flux has no place for 1 weights, among them evil.extra" in refusal(directory)


def test_wrong_shape(directory, part):
    key, shapes = KEYS[part], []

    def shorten(weights):
        shapes.append(list(weights[key].shape))
        weights[key] = weights[key][:-1].contiguous()
        shapes.append(list(weights[key].shape))

    change_weights(directory / part, shorten)
    assert refusal(directory).endswith(f"{key} expected shape torch.Size({shapes[0]}), but got torch.Size({shapes[1]})")


def test_no_pickle(directory, part):
    (file,) = (directory / part).glob("*.safetensors")
    torch.save(load_file(file), file.with_suffix(".bin"))
    file.unlink()
    assert "flux cannot be loaded as a FLUX.1 model in diffusers layout" in refusal(directory)


@pytest.mark.parametrize("name", ["transformer/config.json", "vae/config.json", "scheduler/scheduler_config.json"])
@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"_class_name": "DDIMScheduler"}, "is of the class 'DDIMScheduler'; FLUX.1 has "),
        ([1], "cannot be loaded as a FLUX.1 model"),
        (None, "cannot be loaded as a FLUX.1 model"),
    ],
)
def test_bad_config(directory, name, config, message):
    """A part of another class, or without a readable configuration."""
    (directory / name).write_text(json.dumps(config)) if config else (directory / name).unlink()
    assert message in refusal(directory)


@pytest.mark.parametrize(
    ("name", "field"),
    [("transformer", "num_layers"), ("transformer", "num_single_layers"), ("vae", "layers_per_block")],
)
def test_too_many_layers(directory, name, field):
    """A billion layers are refused before the first one is built."""
    path = directory / name / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {field: 1_000_000_000}))
    assert f"{name}/config.json says {field} is 1e+09; at most 1000 are allowed;" in refusal(directory)
    with pytest.raises(CheckpointError, match="at most 1000 are allowed"):
        build_skeleton("x2i-tiny", flux=directory)
