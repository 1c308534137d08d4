"""The build, stage by stage, for real and in short: losses fall, kills do no harm, and a bundle comes out."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from PIL import Image

from x2i_app.miniature import build
from x2i_app.miniature.autoencoder import encode_images, reconstruction_psnr
from x2i_app.miniature.control import write_edits
from x2i_app.miniature.pixels import to_tensor
from x2i_app.miniature.pool import image_pool, pool_scene
from x2i_app.miniature.sentences import describe
from x2i_app.pipeline import X2IPipeline
from x2i_app.training.data import Broken
from x2i_app.training.image_data import read_images

STEPS = 30


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A whole build of a few steps a stage: the work folder and the bundle."""
    root = tmp_path_factory.mktemp("build")
    build.main(["--output", str(root / "bundle"), "--work", str(root / "work"), "--short", str(STEPS)])
    return root / "work", root / "bundle"


@pytest.mark.parametrize("stage", ["vae", "mllm", "teacher", "align"])
def test_losses_of_every_stage_fall(built, stage):
    lines = [json.loads(line) for line in (built[0] / stage / "history.jsonl").read_text().splitlines()]
    terms = [name for name in lines[0] if name not in ("step", "learning_rate", "seconds_per_step")]
    totals = [sum(line[name] for name in terms) for line in lines]
    assert totals[-1] < 0.97 * totals[0]
    assert (built[0] / stage / "loss.png").is_file()


def test_the_bundle_draws_and_answers(built):
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


def test_only_align_net_differs_from_the_pipeline_that_was_distilled(built):
    for path in sorted((built[0] / "pipeline" / "final").rglob("*.safetensors")):
        name = path.relative_to(built[0] / "pipeline" / "final")
        same = path.read_bytes() == (built[1] / name).read_bytes()
        assert same == (name.parts[0] != "align_net"), name


def test_the_tokenizers_that_a_stage_began_with_are_those_it_ends_with(built):
    for kept, used in (
        ("mllm/tokenizer/final", "mllm/final"),
        ("teacher/tokenizers/final/tokenizer", "pipeline/final/tokenizer"),
        ("teacher/tokenizers/final/tokenizer_2", "pipeline/final/tokenizer_2"),
    ):
        words = [json.loads((built[0] / folder / "tokenizer.json").read_text())["model"] for folder in (kept, used)]
        assert words[0] == words[1], used
        assert len(words[0]["vocab"]) > 100


def test_a_build_that_is_done_does_nothing_again(built, tmp_path):
    started = time.monotonic()
    build.main(["--output", str(tmp_path / "again"), "--work", str(built[0]), "--short", str(STEPS)])
    assert time.monotonic() - started < 30
    assert sorted(p.name for p in (tmp_path / "again").iterdir()) == sorted(p.name for p in built[1].iterdir())


def test_a_stage_killed_twice_ends_as_one_that_was_not(built, tmp_path):
    script = (
        "import sys\nfrom dataclasses import replace\nfrom pathlib import Path\nfrom x2i_app.miniature import build\n"
        f"recipe = build.RECIPE.shortened({STEPS})\n"
        "recipe = replace(recipe, vae=replace(recipe.vae, checkpoint_every=4))\n"
        "build.Builder(Path(sys.argv[1]), recipe).vae()\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path)]
    for reached in ("step-00000004", "step-00000012"):
        process = subprocess.Popen(command, cwd=Path(build.__file__).parents[2], stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 200
        while not (tmp_path / "vae" / reached).exists():
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        assert not (tmp_path / "vae" / "final").exists()
    subprocess.run(command, cwd=Path(build.__file__).parents[2], stderr=subprocess.DEVNULL, check=True, timeout=300)
    ours = (tmp_path / "vae" / "final" / "diffusion_pytorch_model.safetensors").read_bytes()
    assert ours == (built[0] / "vae" / "final" / "diffusion_pytorch_model.safetensors").read_bytes()


def test_pools_are_repeatable_grow_and_keep_to_their_split(tmp_path):
    small = image_pool(tmp_path, 10, split="train", size=32, processes=1)
    large = image_pool(tmp_path, 300, split="train", size=32, processes=2)
    assert large.scenes[:10] == small.scenes
    assert (large.images[:10] == small.images).all()
    assert large.images.shape == (300, 32, 32, 3)
    assert not any(scene.held_out for scene in large.scenes)
    assert pool_scene(5, "train", 0)[0] == large.scenes[5] != pool_scene(5, "train", 1)[0]


def test_an_edited_pool_has_the_same_images_but_for_one_edit_each(tmp_path):
    before, after = (
        image_pool(tmp_path, 40, split="train", size=64, edited=edited, processes=1) for edited in (False, True)
    )
    assert all(one != other for one, other in zip(before.scenes, after.scenes, strict=True))
    assert not any(scene.held_out for scene in after.scenes)
    changed = (before.images != after.images).any(axis=3).mean(axis=(1, 2))
    one_thing = [b.sky == a.sky and b.ground == a.ground for b, a in zip(before.scenes, after.scenes, strict=True)]
    assert (changed > 0).all()
    assert max(share for share, is_thing in zip(changed, one_thing, strict=True) if is_thing) < 0.5
    write_edits((before, after), tmp_path / "edits.tar", seed=0)
    samples = read_images([tmp_path / "edits.tar"], "caption", Broken(0), with_source=True)
    assert len(samples) == 80
    for index, sample in enumerate(samples):
        pair, side = divmod(index, 2)
        sides = (before.images[pair], after.images[pair])
        # Nothing is lost, and what is shown is the other side of what is wanted.
        assert (np.asarray(sample.image(sample.target)) == sides[side]).all()
        assert (np.asarray(sample.image(sample.source)) == sides[1 - side]).all()
    canonical = [sample.words == describe((before, after)[i % 2].scenes[i // 2]) for i, sample in enumerate(samples)]
    assert 0.6 < sum(canonical) / len(canonical) < 1


def test_latents_have_mean_zero_and_deviation_one_and_psnr_counts_decibels(built):
    vae = build.Builder(built[0], replace(build.RECIPE.shortened(STEPS))).vae()
    images = image_pool(built[0] / "pictures", 250, split="train").images
    latents = encode_images(vae, images)
    assert latents.shape == (250, 16, 16, 16)
    assert latents.mean().item() == pytest.approx(0, abs=0.02)
    assert latents.std().item() == pytest.approx(1, abs=0.02)
    drawn = vae.decode(vae.encode(to_tensor(images[:1])).latent_dist.mean).sample.clamp(-1, 1)
    mean_square = torch.mean((to_tensor(images[:1]) - drawn) ** 2).item()
    expected = 10 * torch.log10(torch.tensor(2**2 / mean_square)).item()
    assert reconstruction_psnr(vae, images[:1]) == pytest.approx(expected, abs=1e-3)


def test_the_command_says_what_is_missing(capsys):
    with pytest.raises(SystemExit) as stopped:
        build.main([])
    assert stopped.value.code == 2
    assert "--output is missing" in capsys.readouterr().err


def refusal(capsys, *arguments) -> str:
    """What the command says, in one line, of what it does not begin."""
    with pytest.raises(SystemExit) as stopped:
        build.main([*map(str, arguments), "--short", str(STEPS)])
    assert stopped.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_what_is_no_bundle_is_not_replaced(built, tmp_path, capsys):
    work, _ = built
    bundle = shutil.copytree(built[1], tmp_path / "bundle")
    others = tmp_path / "others"
    others.mkdir()
    (others / "model_index.json").write_text('{"_class_name": "FluxPipeline"}')
    (tmp_path / "link").symlink_to(bundle)
    noted = shutil.copytree(bundle, tmp_path / "noted")
    (noted / "notes.txt").write_text("mine")
    for output in (tmp_path, others, noted, others / "model_index.json"):
        assert "is there, and not just a bundle" in refusal(capsys, "--output", output, "--work", work)
    assert "cannot be written" in refusal(capsys, "--output", "/proc/bundle", "--work", work)
    for output, busy in ((bundle, tmp_path / "link" / "work"), (work / "align" / "new", work)):
        assert "lie in one another" in refusal(capsys, "--output", output, "--work", busy)
    assert (noted / "notes.txt").read_text() == "mine"
    (tmp_path / "bundle.tmp").write_text("mine")
    (bundle / "vae" / "old.txt").write_text("of an earlier build")
    build.main(["--output", str(tmp_path / "link"), "--work", str(work), "--short", str(STEPS)])
    assert not (bundle / "vae" / "old.txt").exists()
    assert (bundle / "model_index.json").is_file()
    assert {path.name for path in tmp_path.iterdir()} == {"bundle", "bundle.tmp", "others", "link", "noted"}


def test_a_work_folder_is_of_one_recipe_and_seed(built, tmp_path, capsys):
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


def test_two_processes_that_want_one_stage_make_it_once(tmp_path):
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


def test_who_draws_ends_with_the_one_for_whom_it_draws(tmp_path):
    script = (
        "import sys\nfrom pathlib import Path\nfrom x2i_app.miniature.pool import picture_pool\n"
        "if __name__ == '__main__':\n    picture_pool(Path(sys.argv[1]), 100_000)\n"
    )
    (tmp_path / "drawing.py").write_text(script)
    environment = {**os.environ, "PYTHONPATH": str(Path(build.__file__).parents[2])}
    command = [sys.executable, str(tmp_path / "drawing.py"), str(tmp_path / "pool")]
    process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 100
    while not list(tmp_path.glob("pool/*.npy")):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    workers = psutil.Process(process.pid).children(recursive=True)
    assert len(workers) >= 2
    process.kill()
    process.wait()
    deadline = time.monotonic() + 20
    while any(map(_is_alive, workers)):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def _is_alive(process: psutil.Process) -> bool:
    """Not only waiting for somebody to ask how it ended, as in a container nobody may."""
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
