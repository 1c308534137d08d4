"""`python -m x2i_app train` as people run it, over whole tiny models in their own folders."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import torch
import yaml
from conftest import free_port
from encoders.new_families_factory import save_qwen3_vl
from PIL import Image
from safetensors.torch import load_file
from training.tiny import CAPTIONS
from waiting import wait_until

from x2i_app import cli
from x2i_app.cli import main
from x2i_app.loading import load_pipeline
from x2i_app.loading.checkpoints import WEIGHTS_NAME
from x2i_app.miniature import training_data
from x2i_app.miniature.align import align_job
from x2i_app.miniature.control import control_job
from x2i_app.miniature.recipe import RECIPE
from x2i_app.options import parse
from x2i_app.presets import FLUX_MODELS, PRESETS
from x2i_app.training import JOBS
from x2i_app.training.checkpoints import newest_checkpoint

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


def read_job(name: str, config: str | Path, *flags: str):
    return parse(JOBS[name], ["--config", str(config), *flags], prog="x2i train")


def train(*arguments: str | Path) -> int:
    return main(["train", *map(str, arguments)])


@pytest.fixture
def config(tmp_path, qwen_vl_directory, flux_directory) -> Path:
    captions = tmp_path / "captions.jsonl"
    captions.write_text("".join(json.dumps({"caption": caption}) + "\n" for caption in CAPTIONS))
    file = tmp_path / "distill.yaml"
    models = {"preset": "custom:qwen2.5-vl", "mllm": str(qwen_vl_directory), "flux": str(flux_directory)}
    file.write_text(yaml.safe_dump(TINY | models | {"captions": [str(captions)], "output": str(tmp_path / "run")}))
    return file


def test_distill_own_models(tmp_path, config, qwen_vl_directory, flux_directory, capsys):
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
    trained = load_file(run / "align_net" / WEIGHTS_NAME)
    for folder in ("align_net", "step-00000006"):
        shutil.rmtree(run / folder)
    assert train("distill", "--config", run / "settings.yaml") == 0
    for name, value in load_file(run / "align_net" / WEIGHTS_NAME).items():
        assert torch.equal(value, trained[name])


def test_distill_a_new_family(tmp_path):
    """An AlignNet for a Qwen3-VL from x2i-tiny's teacher, as docs/TRAINING.md does it, draws."""
    captions, mllm = tmp_path / "captions.txt", save_qwen3_vl(tmp_path / "mllm")
    captions.write_text("".join(f"a {color} house with <|image_pad|> and </s>\n" for color in ("red", "green", "blue")))
    job = ("distill", "--captions", captions, "--mllm", mllm, "--output", tmp_path / "run", "--resolution", 64)
    few = ("--steps", 1, "--max-sequence-length", 32, "--workers", 0, "--no-gradient-checkpointing")
    assert train(*job, *few) == 0
    given = {"mllm": mllm, "flux": "x2i-tiny", "alignnet": tmp_path / "run/align_net"}
    pipeline = load_pipeline("custom:qwen3-vl", "cpu", **given)
    assert pipeline.align_net.config.num_states == 5
    assert pipeline(prompt="a red house", width=64, height=64, num_inference_steps=1).images[0].size == (64, 64)


def test_captions(tmp_path, capsys):
    corpus = tmp_path / "corpus.txt"
    good = [f"a house number {number} on a hill" for number in range(20)]
    bad = [
        "house",
        "ein Haus " * 150,
        "see https://example.com for more",
        "一座 红色 的 房子",
        " A  House number 3 on a HILL",
    ]
    corpus.write_text("\n".join(good + bad))
    assert train("captions", "--captions", corpus, "--output", tmp_path / "clean") == 0
    said = capsys.readouterr().out
    for reason in ("1 too short", "1 too long", "1 with a web address", "1 not in English letters", "1 a repetition"):
        assert reason in said
    assert "25 captions read" in said
    assert said.endswith(f"20 written\n{tmp_path / 'clean' / 'captions.jsonl'}\n")
    records = (tmp_path / "clean" / "captions.jsonl").read_text().splitlines()
    assert sorted(json.loads(record)["caption"] for record in records) == sorted(good)
    train("captions", "--captions", corpus, "--output", tmp_path / "few", "--count", "5")
    assert (tmp_path / "few" / "captions.jsonl").read_text().splitlines() == records[:5]


def test_caption_filters(tmp_path):
    """The limits are inclusive: of words, and of the share of Latin letters. The earlier names of options work."""
    (tmp_path / "corpus.txt").write_text("a b\na b c\na b c d\na b c d e\naé bc de fgh ij\nsee www.x.org a b")

    def kept(*arguments):
        train("captions", "--captions", tmp_path / "corpus.txt", "--output", tmp_path / "out", *arguments)
        records = (tmp_path / "out" / "captions.jsonl").read_text().splitlines()
        return {json.loads(record)["caption"] for record in records}

    assert kept("--min-length", 3, "--max-length", 4) == {"a b c", "a b c d"}
    assert kept("--min-words", "4", "--max_words=4") == {"a b c d"}
    assert "aé bc de fgh ij" in kept("--latin-share", "0.9")
    assert "aé bc de fgh ij" not in kept("--latin-share", "0.91")
    (tmp_path / "old.yaml").write_text("min_words: 5\nmax_words: 5\nlatin_share: 1\n")
    assert kept("--config", tmp_path / "old.yaml") == {"a b c d e"}
    settings = yaml.safe_load((tmp_path / "out" / "settings.yaml").read_text())
    assert settings["min_length"] == 5
    assert "config" not in settings


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["distill"], "Missing from x2i train distill: --output"),
        (["distill", "--output", "x", "--captions", "nowhere.txt"], "There is no 'nowhere.txt'"),
        (
            ["distill", "--output", "x", "--captions", "y", "--steps", "many"],
            "--steps: 'many' is not a whole number",
        ),
        (["distill", "--config", "nowhere.yaml"], "'nowhere.yaml' cannot be read"),
        (["paint"], "'paint' is not a command; choose one of captions, distill"),
    ],
)
def test_bad_input(capsys, monkeypatch, tmp_path, arguments, said):
    monkeypatch.chdir(tmp_path)
    try:
        status = train(*arguments)
    except SystemExit as stopped:
        status = stopped.code
    error = capsys.readouterr().err
    assert status == 2
    assert said in error
    assert len(error.splitlines()) == 1


def test_help(capsys):
    assert {name: job.__doc__.splitlines()[0] for name, job in JOBS.items()} == cli.TRAININGS
    for name in JOBS:
        with pytest.raises(SystemExit) as stopped:
            train(name, "--help")
        assert stopped.value.code == 0
        assert "--output" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "job"),
    [
        ("distill", align_job(Path("bundle"), Path("work"), RECIPE.align, seed=0)),
        ("light-control", control_job(Path("bundle"), Path("work"), RECIPE.control, seed=0)),
    ],
)
def test_configs_of_the_miniature(name, job):
    shipped = read_job(name, f"configs/miniature-{name}.yaml")
    names = ("config", "output", "captions", "data", "mllm", "flux")
    places = {name: getattr(shipped, name) for name in names if hasattr(job, name)}
    assert replace(job, **places) == shipped
    sources = {"distill": "captions", "light-control": "edits", "lora": "striped"}
    assert training_data.KINDS[sources[name]].output in (
        *getattr(shipped, "captions", ()),
        *getattr(shipped, "data", ()),
    )


@pytest.mark.parametrize("path", sorted(Path("configs").glob("distill-*.yaml")), ids=lambda path: path.stem)
def test_configs(path):
    job = read_job("distill", path, "--captions", "captions.jsonl", "--output", "runs/mine")
    assert job.loop.steps * job.loop.accumulate >= 12_500
    assert PRESETS[job.preset]
    assert FLUX_MODELS[job.flux]


def launch(*arguments: str | Path | int) -> list[str]:
    """The command that starts two processes with the real launcher."""
    launcher = ("-m", "accelerate.commands.launch", "--config_file", "configs/accelerate-8-cards.yaml")
    return [sys.executable, *launcher, "--num_processes", "2", "--main_process_port", "0", *map(str, arguments)]


@pytest.fixture
def jobs(tmp_path, config, qwen_vl_directory) -> Path:
    """A folder with the configurations of all three jobs, whose results go beside it."""
    images, folder = tmp_path / "images", tmp_path / "jobs"
    images.mkdir()
    folder.mkdir()
    for index, caption in enumerate(CAPTIONS[:4]):
        shade = 60 * index
        Image.new("RGB", (64, 64), (shade, 99, 0)).save(images / f"{index}.jpg")
        Image.new("RGB", (64, 64), (shade, 0, 99)).save(images / f"{index}.png")
        (images / f"{index}.txt").write_text(caption)
    (images / "torn.png").write_bytes(b"PNG?")
    given = yaml.safe_load(config.read_text())
    common = {name: value for name, value in given.items() if name not in ("captions", "max_sequence_length")}
    common |= {"data": [str(images)], "batch_size": 2, "alignnet": str(tmp_path / "two-distill/align_net")}
    common |= {"samples": 2, "num_inference_steps": 1, "evaluate_every": 3}
    own = {
        "distill": given | {"shard": True, "checkpoint_every": 1, "sigmas": "path", "num_inference_steps": 3},
        "light-control": common | {"widths": [2, 8, 8], "time_embed_dim": 8},
        "lora": common | {"rank": 2},
    }
    for name, more in own.items():
        output = {"output": str(tmp_path / f"two-{name}")}
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(more | output))
    return folder


def test_two_processes(tmp_path, jobs):
    """Launched as two processes, all jobs end as one process that accumulates, also after one of the two was killed.

    With the real launcher; FLUX is sharded while AlignNet learns, and the second process cannot write to the disk.
    """
    made = {
        "distill": f"align_net/{WEIGHTS_NAME}",
        "light-control": f"light_control/{WEIGHTS_NAME}",
        "lora": "lora.safetensors",
    }
    begun = launch("-m", "x2i_app", "train", "distill", "--config", jobs / "distill.yaml")
    process = subprocess.Popen(begun, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_until(lambda: newest_checkpoint(tmp_path / "two-distill"), process=process)
    children = psutil.Process(process.pid).children()
    next(child for child in children if child.environ().get("RANK") == "1").kill()
    assert process.wait(120) != 0
    assert not (tmp_path / "two-distill/align_net").exists()

    command = launch(Path(__file__).with_name("launched.py"), jobs, *(free_port() for _ in made))
    done = subprocess.run(command, capture_output=True, encoding="utf-8", timeout=500, check=False)
    assert done.returncode == 0, done.stderr
    places = [tmp_path / f"two-{name}" / Path(file).parts[0] for name, file in made.items()]
    assert done.stdout.splitlines() == list(map(str, places))  # each of them once
    assert done.stderr.count("Left out") == 2  # the torn image, by one process of either job
    for name, file in made.items():
        if name != "distill":
            assert len(list((tmp_path / f"two-{name}/samples").glob("*.png"))) == 2
        single = ("--accumulate", "2", "--evaluate-every", "0", *(("--no-shard",) if name == "distill" else ()))
        for output, more in {"one": single, "start": (*single, "--learning-rate", "0")}.items():
            assert train(name, "--config", jobs / f"{name}.yaml", "--output", tmp_path / f"{output}-{name}", *more) == 0
        two, one, start = (all_weights(tmp_path / f"{run}-{name}" / file) for run in ("two", "one", "start"))
        # Weights are kept in bfloat16, and sums in other orders round otherwise: 0.052 was seen.
        assert (two - one).norm() <= 0.1 * (one - start).norm()
        assert (one - start).norm() > 0


def all_weights(path: Path) -> torch.Tensor:
    """In one row: the convolution's bias has no gradient but rounding errors, as the layer norm takes it away."""
    return torch.cat([value.float().flatten() for _, value in sorted(load_file(path).items())])


def test_shard_in_one_process(config, capsys):
    assert train("distill", "--config", config, "--shard") == 2
    assert "there is only one process" in capsys.readouterr().err
