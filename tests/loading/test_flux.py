"""A FLUX.1 folder: each weight known, none missing, the classes those of FLUX.1, and nothing of it ever run."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from x2i_app.errors import CheckpointError
from x2i_app.loading.flux import load_flux
from x2i_app.loading.skeletons import build_skeleton
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


def test_a_lost_weight_is_never_made_up(directory, part):
    change_weights(directory / part, lambda weights: weights.pop(KEYS[part]))
    assert f"The {part} of flux lacks 1 weights, among them {KEYS[part]}" in refusal(directory)


def test_a_weight_without_a_place_is_refused(directory, part):
    change_weights(directory / part, lambda weights: weights.update({"evil.extra": torch.zeros(3)}))
    assert f"The {part} of flux has no place for 1 weights, among them evil.extra" in refusal(directory)


def test_a_weight_of_another_shape_is_refused(directory, part):
    key, shapes = KEYS[part], []

    def shorten(weights):
        shapes.append(list(weights[key].shape))
        weights[key] = weights[key][:-1].contiguous()
        shapes.append(list(weights[key].shape))

    change_weights(directory / part, shorten)
    said = refusal(directory)
    assert said.endswith(f"{key} expected shape torch.Size({shapes[0]}), but got torch.Size({shapes[1]})")


def test_a_pickle_is_never_opened(directory, part):
    (file,) = (directory / part).glob("*.safetensors")
    torch.save(load_file(file), file.with_suffix(".bin"))
    file.unlink()
    assert "flux cannot be loaded as a FLUX.1 model in diffusers layout" in refusal(directory)


@pytest.mark.parametrize("name", ["transformer/config.json", "vae/config.json", "scheduler/scheduler_config.json"])
@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"_class_name": "DDIMScheduler"}, "is of the class 'DDIMScheduler'; FLUX.1 has "),
        ([1], "cannot be loaded as a FLUX.1 model"),
        (None, "cannot be loaded as a FLUX.1 model"),
    ],
)
def test_a_part_of_another_class_or_without_a_configuration_is_refused(directory, name, config, words):
    (directory / name).write_text(json.dumps(config)) if config else (directory / name).unlink()
    assert words in refusal(directory)


@pytest.mark.parametrize(
    ("name", "field"),
    [("transformer", "num_layers"), ("transformer", "num_single_layers"), ("vae", "layers_per_block")],
)
def test_a_billion_layers_are_refused_before_the_first_is_made(directory, name, field):
    path = directory / name / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {field: 1_000_000_000}))
    assert f"{name}/config.json says {field} is 1e+09; at most 1000 are read;" in refusal(directory)
    with pytest.raises(CheckpointError, match="at most 1000 are read"):
        build_skeleton("x2i-tiny", flux=directory)
