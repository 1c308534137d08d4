"""`python -m x2i_app train` as people run it, over whole tiny models in their own folders."""

import json
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from accelerate.state import AcceleratorState
from diffusers import FlowMatchEulerDiscreteScheduler
from safetensors.torch import load_file
from training.tiny import CAPTIONS, build_transformer, build_vae, save_teacher

from x2i_app.cli import main
from x2i_app.loading import load_pipeline
from x2i_app.training.command import JOBS

TINY = {
    "resolution": 64,
    "max_sequence_length": 12,
    "batch_size": 4,
    "steps": 6,
    "warmup_steps": 1,
    "learning_rate": 1e-2,
    "mixed_precision": "no",
    "workers": 0,
}


def train(*arguments: str | Path) -> int:
    return main(["train", *map(str, arguments)])


@pytest.fixture(autouse=True)
def _accelerate_starts_anew():
    """Its state belongs to the process and would keep the first test's precision."""
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture(scope="session")
def flux_directory(tmp_path_factory) -> Path:
    """A whole tiny FLUX.1 model in diffusers layout, text encoders included."""
    directory = save_teacher(tmp_path_factory.mktemp("flux"))
    build_transformer().save_pretrained(directory / "transformer")
    build_vae().save_pretrained(directory / "vae")
    FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True).save_pretrained(directory / "scheduler")
    return directory


@pytest.fixture
def config(tmp_path, qwen_vl_directory, flux_directory) -> Path:
    captions = tmp_path / "captions.jsonl"
    captions.write_text("".join(json.dumps({"caption": caption}) + "\n" for caption in CAPTIONS))
    file = tmp_path / "distill.yaml"
    models = {"preset": "custom:qwen2.5-vl", "mllm": str(qwen_vl_directory), "flux": str(flux_directory)}
    file.write_text(yaml.safe_dump(TINY | models | {"captions": [str(captions)], "output": str(tmp_path / "run")}))
    return file


def test_an_align_net_for_ones_own_models_comes_out_and_draws(
    tmp_path, config, qwen_vl_directory, flux_directory, capsys
):
    assert train("distill", "--config", config, "--checkpoint-every", "3") == 0
    run = tmp_path / "run"
    assert capsys.readouterr().out.startswith(str(run / "align_net"))
    written = {path.name for path in run.iterdir()}
    assert {"align_net", "history.jsonl", "loss.png", "settings.yaml", "states", "teacher"} <= written
    assert yaml.safe_load((run / "settings.yaml").read_text())["checkpoint_every"] == 3
    pipeline = load_pipeline(
        "custom:qwen2.5-vl", "cpu", mllm=qwen_vl_directory, flux=flux_directory, alignnet=run / "align_net"
    )
    assert pipeline(prompt="a red house", width=64, height=64, num_inference_steps=1).images[0].size == (64, 64)

    # Started again from what it wrote down itself, it goes on from the checkpoint that is left, and ends the same.
    trained = load_file(run / "align_net" / "diffusion_pytorch_model.safetensors")
    for folder in ("align_net", "step-00000006"):
        shutil.rmtree(run / folder)
    assert train("distill", "--config", run / "settings.yaml") == 0
    for name, value in load_file(run / "align_net" / "diffusion_pytorch_model.safetensors").items():
        assert torch.equal(value, trained[name])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["distill"], "output is missing"),
        (["distill", "--output", "x", "--captions", "nowhere.txt"], "There is no 'nowhere.txt'"),
        (
            ["distill", "--output", "x", "--captions", "y", "--steps", "many"],
            "steps is 'many'; it must be a whole number",
        ),
        (["distill", "--config", "nowhere.yaml"], "'nowhere.yaml' cannot be read"),
        (["paint"], "invalid choice: 'paint'"),
    ],
)
def test_bad_input_is_one_line_and_status_2(capsys, monkeypatch, tmp_path, arguments, said):
    monkeypatch.chdir(tmp_path)
    try:
        status = train(*arguments)
    except SystemExit as stopped:
        status = stopped.code
    error = capsys.readouterr().err
    assert status == 2
    assert said in error
    assert len(error.splitlines()) == 1


def test_every_job_explains_itself(capsys):
    for name in JOBS:
        with pytest.raises(SystemExit) as stopped:
            train(name, "--help")
        assert stopped.value.code == 0
        assert "--learning-rate" in capsys.readouterr().out
