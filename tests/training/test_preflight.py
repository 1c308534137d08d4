"""What is wrong with data, models or disk is said before the first large weight is read, in all three trainers."""

import json
import shutil
from types import SimpleNamespace

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from training.tiny import JOINT, POOLED, build_transformer

from x2i_app.cli import main
from x2i_app.encoders import encoder_class
from x2i_app.models import AlignNet, LightControl
from x2i_app.training import distill, job
from x2i_app.training.frozen import read_mllm_sizes

READERS = ((job, "load_encoder_and_alignnet"), (job, "load_flux"))
READERS += tuple((distill, name) for name in ("load_mllm", "load_teacher", "load_flux"))


@pytest.fixture
def run(tmp_path, qwen_vl_directory, flux_directory, monkeypatch, capsys):
    """Runs a trainer whose large models cannot be read; its exit status and the sentence it ends with."""

    def refuse(*_, **__):
        raise AssertionError("a large model is read")

    for module, name in READERS:
        monkeypatch.setattr(module, name, refuse)
    data = tmp_path / "data"
    data.mkdir()
    for index, color in enumerate(("red", "green")):
        Image.new("RGB", (64, 64), color).save(data / f"{index}.jpg")
        Image.new("RGB", (64, 64), "blue").save(data / f"{index}.png")
        (data / f"{index}.txt").write_text("make it blue")
    (tmp_path / "captions.txt").write_text("a red house\na green tree\n")
    save_alignnet(tmp_path / "align", qwen_vl_directory)

    def start(name, mllm=qwen_vl_directory, flux=flux_directory, **more):
        given = {"mllm": mllm, "flux": flux, "preset": "custom:qwen2.5-vl", "output": tmp_path / "run", "steps": 2}
        given |= {"captions": tmp_path / "captions.txt"} if name == "distill" else {"data": data}
        given |= {"alignnet": tmp_path / "align"} | more
        flags = [word for key, value in given.items() for word in (f"--{key.replace('_', '-')}", str(value))]
        status = main(["train", name, *flags])
        return status, capsys.readouterr().err.strip().splitlines()[-1]

    return start


def save_alignnet(directory, mllm, joint=JOINT, pooled=POOLED):
    sizes = read_mllm_sizes("custom:qwen2.5-vl", mllm)
    AlignNet(*sizes, joint_dim=joint, pooled_dim=pooled).save_pretrained(directory)
    return directory


def changed(source, target, file, **values):
    """A copy of a model's folder with other values in one of its configurations."""
    shutil.copytree(source, target)
    config = json.loads((target / file).read_text())
    (target / file).write_text(json.dumps(config | values))
    return target


@pytest.mark.parametrize("name", ["lora", "light-control", "distill"])
def test_what_is_wrong_is_said_before_a_large_model_is_read(name, run, tmp_path, qwen_vl_directory, flux_directory):
    """The order of things: with the same command, and nothing wrong, a model would be read next."""
    with pytest.raises(AssertionError, match="a large model is read"):
        run(name)

    wide = save_alignnet(tmp_path / "wide", qwen_vl_directory, joint=JOINT + 8)
    assert run(name, alignnet=wide) == (
        2,
        "x2i: wide writes embeddings of width 32 and 16, but FLUX reads 24 and 16; use the AlignNet of this "
        "FLUX model.",
    )

    deep = changed(flux_directory, tmp_path / "deep", "transformer/config.json", num_layers=3)
    status, said = run(name, flux=deep)
    assert status == 2
    assert "lacks transformer_blocks.2." in said

    masked = shutil.copytree(flux_directory, tmp_path / "masked")
    transformer = build_transformer()
    filled = type(transformer).from_config(dict(transformer.config) | {"in_channels": 28, "out_channels": 16})
    filled.save_pretrained(masked / "transformer")
    status, said = run(name, flux=masked)
    assert status == 2
    assert "masked reads 28 channels, and its latents have 16: it takes a mask" in said

    torn = shutil.copytree(qwen_vl_directory, tmp_path / "torn")
    (file,) = torn.glob("*.safetensors")
    weights = load_file(file)
    key = next(key for key in weights if key.endswith("layers.0.mlp.up_proj.weight"))
    save_file(weights | {key: weights[key][:-1].clone()}, file, metadata={"format": "pt"})
    status, said = run(name, mllm=torn)
    assert status == 2
    assert "up_proj.weight of torn has shape" in said


@pytest.mark.parametrize("name", ["lora", "light-control", "distill"])
def test_a_disk_too_small_for_checkpoints(name, run, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=10_000))
    status, said = run(name)
    assert status == 2
    assert "2 checkpoints and a new one need about" in said


def test_what_only_one_trainer_can_have_wrong(run, tmp_path, flux_directory):
    status, said = run("lora", targets="attn.nothing")
    assert (status, "FLUX has no such layers" in said) == (2, True)
    assert run("lora", holdout=2) == (2, "x2i: holdout is 2 of 2 images; leave at least one to learn from.")

    LightControl(2, 40, (2, 8, 8), 8).save_pretrained(tmp_path / "control")
    status, said = run("light-control", light_control=tmp_path / "control")
    assert (status, "has 2 blocks of width 40, and FLUX has 2 of width 32" in said) == (2, True)

    narrow = shutil.copytree(flux_directory, tmp_path / "narrow")
    config = json.loads((narrow / "transformer/config.json").read_text()) | {"joint_attention_dim": JOINT + 8}
    transformer = type(build_transformer()).from_config(config)
    transformer.save_pretrained(narrow / "transformer")
    for name, more in (("distill", {}), ("light-control", {"reader": "teacher"})):
        status, said = run(name, flux=narrow, **{"alignnet": "none", **more} if name == "distill" else more)
        assert (status, "The teacher writes embeddings of width 24 and 16, but FLUX reads 32" in said) == (2, True)


def test_checking_reads_no_values(qwen_vl_directory, monkeypatch):
    """The weights that the check sees are on the meta device."""
    cls, loaded = encoder_class("qwen2.5-vl"), []
    load = cls._load_model.__func__

    def spy(*arguments):
        loaded.append(load(*arguments))
        return loaded[-1]

    monkeypatch.setattr(cls, "_load_model", classmethod(spy))
    cls.check_weights(qwen_vl_directory)
    assert {weight.device for weight in loaded[0].parameters()} == {torch.device("meta")}
