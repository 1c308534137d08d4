"""A FLUX.1 folder in diffusers layout: every weight is known, none is missing, and no code in it is run."""

import json
import re
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from x2i_app.errors import CheckpointError
from x2i_app.loading.flux import find_flux, load_flux
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
    assert re.match(rf"(The {part} of )?flux lacks .*{KEYS[part]}", refusal(directory))


def test_unknown_weight(directory, part):
    change_weights(directory / part, lambda weights: weights.update({"evil.extra": torch.zeros(3)}))
    assert re.match(rf"(The {part} of )?flux has .*evil.extra", refusal(directory))


def test_wrong_shape(directory, part):
    key, shapes = KEYS[part], []

    def shorten(weights):
        shapes.append(list(weights[key].shape))
        weights[key] = weights[key][:-1].contiguous()
        shapes.append(list(weights[key].shape))

    change_weights(directory / part, shorten)
    said = refusal(directory).replace("(", "[").replace(")", "]")
    assert key in said
    assert all(str(shape) in said for shape in shapes)


def test_no_pickle(directory, part):
    (file,) = (directory / part).glob("*.safetensors")
    torch.save(load_file(file), file.with_suffix(".bin"))
    file.unlink()
    assert re.match("The transformer of flux has no .safetensors file|flux cannot be loaded", refusal(directory))


def test_other_parts_do_not_matter(directory):
    """Text encoders are never loaded, so that it does not matter what a downloaded folder has of them."""
    for name in ("text_encoder", "text_encoder_2"):
        (directory / name).mkdir()
        (directory / name / "config.json").write_text('{"num_hidden_layers": 1e9')
        (directory / name / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:1")
        (directory / name / "model.safetensors.index.json").write_text('{"weight_map": {"a": "gone.safetensors"}}')
    (directory / "flux1-schnell.safetensors").write_text("version https://git-lfs.github.com/spec/v1")
    assert find_flux(directory).base == directory
    assert load_flux(directory, torch.float32)


def test_several_files(directory):
    """Shards by their index, beside a copy in another precision that is not read."""
    folder = directory / "transformer"
    weights = load_file(folder / "diffusion_pytorch_model.safetensors")
    (folder / "diffusion_pytorch_model.safetensors").unlink()
    names = sorted(weights)
    shards = {"a-1.safetensors": names[:50], "a-2.safetensors": names[50:]}
    for file, part in shards.items():
        save_file({name: weights[name] for name in part}, folder / file)
    save_file(
        {name: value.half() for name, value in weights.items()}, folder / "diffusion_pytorch_model.fp16.safetensors"
    )
    index = {"weight_map": {name: file for file, part in shards.items() for name in part}}
    (folder / "diffusion_pytorch_model.safetensors.index.json").write_text(json.dumps(index))
    found = load_flux(directory, torch.float32)[0].state_dict()
    assert all(torch.equal(found[name], value.float()) for name, value in weights.items())


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


def test_a_file_of_another_kind(tmp_path):
    """It is there, and nobody looks for a folder of this name on the hub."""
    for name in ("flux1-dev.ckpt", "model_index.json"):
        (tmp_path / name).write_bytes(b"x")
        with pytest.raises(CheckpointError, match=rf"{re.escape(name)} is no FLUX model that can be read; use a .safe"):
            find_flux(tmp_path / name)
