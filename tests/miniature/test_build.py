"""A short build with real training in every stage: losses fall, kills do no harm, and the bundle works."""

import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from PIL import Image
from waiting import wait_until

from x2i_app.miniature import build
from x2i_app.miniature.autoencoder import encode_images, reconstruction_psnr
from x2i_app.miniature.control import write_edits
from x2i_app.miniature.pixels import to_tensor
from x2i_app.miniature.pool import image_pool, pool_scene
from x2i_app.miniature.sentences import describe
from x2i_app.pipeline import X2IPipeline
from x2i_app.training.image_data import read_images
from x2i_app.training.samples import Broken

STEPS = 15


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A build with a few steps for each stage: the work folder and the bundle."""
    root = tmp_path_factory.mktemp("build")
    build.main(["--output", str(root / "bundle"), "--work", str(root / "work"), "--short", str(STEPS)])
    return root / "work", root / "bundle"


@pytest.mark.parametrize("stage", ["vae", "mllm", "teacher", "align"])
def test_losses_fall(built, stage):
    rows = [json.loads(row) for row in (built[0] / stage / "history.jsonl").read_text().splitlines()]
    terms = [name for name in rows[0] if name not in ("step", "learning_rate", "seconds_per_step")]
    totals = [sum(row[name] for name in terms) for row in rows]
    third = len(totals) // 3  # a single batch may be easy or hard
    assert sum(totals[-third:]) < 0.97 * sum(totals[:third])
    assert (built[0] / stage / "loss.png").is_file()


def test_the_bundle_works(built):
    pipeline = X2IPipeline.from_pretrained(built[1])
    pipeline.set_progress_bar_config(disable=True)
    output = pipeline(prompt="a red house on snow at night", num_inference_steps=2, width=128, height=128)
    assert output.images[0].size == (128, 128)
    weights = sum(path.stat().st_size for path in built[1].rglob("*.safetensors"))
    assert weights < 30e6
    image = Image.new("RGB", (128, 128), "red")
    output = pipeline(
        prompt="at night", images=[image], control_image=image, num_inference_steps=1, width=128, height=128
    )
    assert output.images[0].size == (128, 128)
    for name in ("text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2", "scheduler", "vae"):
        assert any((built[1] / name).iterdir())


def test_distillation_changes_only_align_net(built):
    for path in sorted((built[0] / "pipeline" / "final").rglob("*.safetensors")):
        name = path.relative_to(built[0] / "pipeline" / "final")
        same = path.read_bytes() == (built[1] / name).read_bytes()
        assert same == (name.parts[0] != "align_net"), name


def test_tokenizers_stay_the_same(built):
    for kept, used in (
        ("mllm/tokenizer/final", "mllm/final"),
        ("teacher/tokenizers/final/tokenizer", "pipeline/final/tokenizer"),
        ("teacher/tokenizers/final/tokenizer_2", "pipeline/final/tokenizer_2"),
    ):
        models = [json.loads((built[0] / folder / "tokenizer.json").read_text())["model"] for folder in (kept, used)]
        assert models[0] == models[1], used
        assert len(models[0]["vocab"]) > 100


def test_a_finished_build_is_not_repeated(built, tmp_path):
    before = {path: path.stat().st_ino for path in built[0].rglob("final")}
    build.main(["--output", str(tmp_path / "again"), "--work", str(built[0]), "--short", str(STEPS)])
    assert {path: path.stat().st_ino for path in built[0].rglob("final")} == before
    assert sorted(p.name for p in (tmp_path / "again").iterdir()) == sorted(p.name for p in built[1].iterdir())


def test_a_killed_stage_resumes(built, tmp_path):
    """A stage that is killed twice gives the same bytes as one that is not."""
    script = (
        "import sys\nfrom dataclasses import replace\nfrom pathlib import Path\nfrom x2i_app.miniature import build\n"
        f"recipe = build.RECIPE.shortened({STEPS})\n"
        "recipe = replace(recipe, vae=replace(recipe.vae, checkpoint_every=4))\n"
        "build.Builder(Path(sys.argv[1]), recipe).vae()\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path)]
    for reached in ("step-00000004", "step-00000012"):
        process = subprocess.Popen(command, cwd=Path(build.__file__).parents[2], stderr=subprocess.DEVNULL)
        wait_until((tmp_path / "vae" / reached).exists, process=process)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        assert not (tmp_path / "vae" / "final").exists()
    subprocess.run(command, cwd=Path(build.__file__).parents[2], stderr=subprocess.DEVNULL, check=True, timeout=300)
    ours = (tmp_path / "vae" / "final" / "diffusion_pytorch_model.safetensors").read_bytes()
    assert ours == (built[0] / "vae" / "final" / "diffusion_pytorch_model.safetensors").read_bytes()


def test_image_pools(tmp_path):
    """A pool is reproducible, a larger one starts with the smaller one, and it has only scenes of its split."""
    small = image_pool(tmp_path, 10, split="train", size=32, processes=1)
    large = image_pool(tmp_path, 300, split="train", size=32, processes=2)
    assert large.scenes[:10] == small.scenes
    assert (large.images[:10] == small.images).all()
    assert large.images.shape == (300, 32, 32, 3)
    assert not any(scene.held_out for scene in large.scenes)
    assert pool_scene(5, "train", 0)[0] == large.scenes[5] != pool_scene(5, "train", 1)[0]


def test_pools_of_edits(tmp_path):
    """Two pools differ by one edit in each image, and the shard for `train light-control` is lossless."""
    original, edited = (
        image_pool(tmp_path, 40, split="train", size=64, edited=edit, processes=1) for edit in (False, True)
    )
    assert all(one != other for one, other in zip(original.scenes, edited.scenes, strict=True))
    assert not any(scene.held_out for scene in edited.scenes)
    changed = (original.images != edited.images).any(axis=3).mean(axis=(1, 2))
    one_thing = [o.sky == e.sky and o.ground == e.ground for o, e in zip(original.scenes, edited.scenes, strict=True)]
    assert (changed > 0).all()
    assert max(share for share, is_thing in zip(changed, one_thing, strict=True) if is_thing) < 0.5
    write_edits((original, edited), tmp_path / "edits.tar", seed=0)
    samples = read_images([tmp_path / "edits.tar"], "caption", Broken(0), with_source=True)
    assert len(samples) == 80
    for index, sample in enumerate(samples):
        pair, side = divmod(index, 2)
        sides = (original.images[pair], edited.images[pair])
        assert (np.asarray(sample.open(sample.target)) == sides[side]).all()
        assert (np.asarray(sample.open(sample.source)) == sides[1 - side]).all()
    canonical = [
        sample.caption == describe((original, edited)[i % 2].scenes[i // 2]) for i, sample in enumerate(samples)
    ]
    assert 0.6 < sum(canonical) / len(canonical) < 1


def test_latents_and_psnr(built):
    vae = build.Builder(built[0], replace(build.RECIPE.shortened(STEPS))).vae()
    images = image_pool(built[0] / "images", 200, split="train").images
    latents = encode_images(vae, images)
    assert latents.shape == (200, 8, 16, 16)
    assert latents.mean().item() == pytest.approx(0, abs=0.02)
    assert latents.std().item() == pytest.approx(1, abs=0.02)
    drawn = vae.decode(vae.encode(to_tensor(images[:1])).latent_dist.mean).sample.clamp(-1, 1)
    mean_square = torch.mean((to_tensor(images[:1]) - drawn) ** 2).item()
    expected = 10 * torch.log10(torch.tensor(2**2 / mean_square)).item()
    assert reconstruction_psnr(vae, images[:1]) == pytest.approx(expected, abs=1e-3)


def test_the_command_needs_an_output(capsys):
    with pytest.raises(SystemExit) as stopped:
        build.main([])
    assert stopped.value.code == 2
    assert "--output is missing" in capsys.readouterr().err


def refusal(capsys, *arguments) -> str:
    """The message, in one row, with which the command refuses its arguments."""
    with pytest.raises(SystemExit) as stopped:
        build.main([*map(str, arguments), "--short", str(STEPS)])
    assert stopped.value.code == 2
    (message,) = capsys.readouterr().err.splitlines()
    return message


def test_only_a_bundle_is_replaced(built, tmp_path, capsys):
    work, _ = built
    bundle = shutil.copytree(built[1], tmp_path / "bundle")
    others = tmp_path / "others"
    others.mkdir()
    (others / "model_index.json").write_text('{"_class_name": "FluxPipeline"}')
    (tmp_path / "link").symlink_to(bundle)
    noted = shutil.copytree(bundle, tmp_path / "noted")
    (noted / "notes.txt").write_text("mine")
    for output in (tmp_path, others, noted, others / "model_index.json"):
        assert "exists and is no bundle" in refusal(capsys, "--output", output, "--work", work)
    assert "cannot be written" in refusal(capsys, "--output", "/proc/bundle", "--work", work)
    for output, busy in ((bundle, tmp_path / "link" / "work"), (work / "align" / "new", work)):
        assert "overlap" in refusal(capsys, "--output", output, "--work", busy)
    assert (noted / "notes.txt").read_text() == "mine"
    (tmp_path / "bundle.tmp").write_text("mine")
    (bundle / "vae" / "old.txt").write_text("of an earlier build")
    build.main(["--output", str(tmp_path / "link"), "--work", str(work), "--short", str(STEPS)])
    assert not (bundle / "vae" / "old.txt").exists()
    assert (bundle / "model_index.json").is_file()
    assert {path.name for path in tmp_path.iterdir()} == {"bundle", "bundle.tmp", "others", "link", "noted"}


def test_a_work_folder_has_one_recipe_and_seed(built, tmp_path, capsys):
    output = ("--output", tmp_path / "new")
    assert "of this recipe and seed" in refusal(capsys, *output, "--work", built[0], "--seed", 1)
    with pytest.raises(SystemExit):
        build.main(["--output", str(tmp_path / "new"), "--work", str(built[0])])
    assert "of this recipe and seed" in capsys.readouterr().err
    for content in (None, b"{", b"\xff", b"{}"):
        folder = tmp_path / "work"
        folder.mkdir(exist_ok=True)
        (folder / "thesis.txt").write_text("mine")
        if content is not None:
            (folder / "recipe.json").write_bytes(content)
        assert "of this recipe and seed" in refusal(capsys, *output, "--work", folder)
    assert "cannot be written" in refusal(capsys, *output, "--work", "/proc/work")
    assert "seed is -1" in refusal(capsys, *output, "--work", tmp_path / "none", "--seed", -1)
    with pytest.raises(SystemExit):
        build.main(["--output", str(tmp_path / "new"), "--short", "0"])
    assert "--short is 0" in capsys.readouterr().err
    assert {path.name for path in tmp_path.iterdir()} == {"work"}


def test_two_processes_run_a_stage_once(tmp_path):
    script = (
        "import sys\nfrom pathlib import Path\nfrom x2i_app.miniature import build\n"
        "builder = build.Builder(Path(sys.argv[1]), build.RECIPE.shortened(1))\n"
        "builder._stage('teacher/tokenizers', builder._teacher_tokenizers)\n"
    )
    root = Path(build.__file__).parents[2]
    processes = [subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], cwd=root) for _ in range(2)]
    assert [process.wait(timeout=200) for process in processes] == [0, 0]
    assert {path.name for path in (tmp_path / "teacher" / "tokenizers").iterdir()} >= {"final"}
    assert not (tmp_path / "teacher" / "tokenizers" / "tmp-final").exists()


def test_rendering_processes_end_with_their_parent(tmp_path):
    """Even if the parent is killed."""
    script = (
        "import sys\nfrom pathlib import Path\nfrom x2i_app.miniature.pool import image_pool\n"
        "if __name__ == '__main__':\n    image_pool(Path(sys.argv[1]), 100_000)\n"
    )
    (tmp_path / "drawing.py").write_text(script)
    environment = {**os.environ, "PYTHONPATH": str(Path(build.__file__).parents[2])}
    command = [sys.executable, str(tmp_path / "drawing.py"), str(tmp_path / "pool")]
    process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
    wait_until(lambda: list(tmp_path.glob("pool/*.npy")), process=process)
    workers = psutil.Process(process.pid).children(recursive=True)
    assert len(workers) >= 2
    process.kill()
    process.wait()
    wait_until(lambda: not any(map(_is_alive, workers)))


def _is_alive(process: psutil.Process) -> bool:
    """Whether the process runs; a zombie, whose parent has not asked for its exit status, does not."""
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
