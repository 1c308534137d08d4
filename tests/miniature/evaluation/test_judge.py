"""The judge can be trained, and the bundled one reads at least 99 % of fresh renders correctly."""

import json

import numpy as np
import pytest
import torch

from x2i_app.errors import CheckpointError
from x2i_app.miniature.evaluation.attributes import Reading, Tally, compare
from x2i_app.miniature.evaluation.command import JUDGE
from x2i_app.miniature.evaluation.judge import Judge
from x2i_app.miniature.evaluation.judge_training import (
    CONDITIONS,
    JudgeBatches,
    accuracies,
    blur,
    compute_loss,
    labels,
    main,
    train_judge,
)
from x2i_app.miniature.pixels import to_tensor
from x2i_app.miniature.pool import ImagePool, pool_image
from x2i_app.miniature.world import Scene, Thing, draw_scene


def fresh(count: int, split: str | None, seed: int = 8_001) -> ImagePool:
    """Renders on which nothing was trained."""
    drawn = [pool_image(index, split, seed) for index in range(count)]
    images = [draw_scene(scene, 128, moment, seed) for scene, moment, seed in drawn]
    return ImagePool([scene for scene, *_ in drawn], np.stack([np.asarray(image) for image in images]))


@pytest.fixture(scope="module")
def judge() -> Judge:
    return Judge.load(JUDGE)


@pytest.mark.parametrize("split", [None, "test"], ids=["any pair", "held-out pairs"])
def test_the_bundled_judge_is_99_percent_right(judge, split):
    found = accuracies(judge, fresh(300, split))
    assert list(found) == list(CONDITIONS)
    for condition, tally in found.items():
        assert min(tally.accuracy, *tally.by_attribute.values()) >= 0.99, condition


def test_images_of_any_size(judge):
    pool = fresh(20, None)
    for size in (96, 256):
        drawn = to_tensor([draw_scene(scene, size, seed=index) for index, scene in enumerate(pool.scenes)])
        assert sum(map(compare, judge.read(drawn), pool.scenes), Tally()).accuracy >= 0.98


def test_reading_one_image(judge):
    scene = Scene("rain", "sea", (Thing("boat", "yellow", "left", "small"), Thing("star", "white", "right")))
    assert judge.read(to_tensor([draw_scene(scene, 128)])) == [Reading(scene.sky, scene.ground, scene.things)]


def test_the_bundled_judge_is_small():
    assert sum(file.stat().st_size for file in JUDGE.iterdir()) < 1_500_000


def test_training_lowers_the_loss(tmp_path):
    torch.manual_seed(0)
    untrained = Judge()
    trained = train_judge(tmp_path, steps=16, images=250)
    batch = JudgeBatches(fresh(48, None), batch_size=48)[0]
    with torch.no_grad():
        first, last = (float(sum(compute_loss(one, batch).values())) for one in (untrained, trained))
    assert last < 0.8 * first
    assert train_judge(tmp_path, steps=16, images=250).state_dict()["trunk.0.weight"].isfinite().all(), "resumed"


def test_training_batches(judge):
    """A batch is a function of the step, and degraded, mirrored images fit their labels."""
    pool = fresh(64, None)
    batches = JudgeBatches(pool, batch_size=32)
    (images, wanted), (again, _), (others, _) = batches[3], batches[3], batches[4]
    assert torch.equal(images, again)
    assert not torch.equal(images, others)
    assert images.shape == (32, 3, 128, 128)
    wanteds = torch.stack([batches[step][1] for step in range(6)]).flatten(0, 1)
    readings = [found for step in range(6) for found in judge.read(batches[step][0])]
    right = [labels([Scene(r.sky, r.ground, r.things)])[0].equal(row) for r, row in zip(readings, wanteds, strict=True)]
    assert np.mean(right) > 0.95
    assert wanted.shape == (32, 11)


def test_labels_of_a_scene():
    scene = Scene("night", "street", (Thing("tree", "blue", "left", "small"), Thing("house", "red", "right", "large")))
    assert labels([scene]).tolist() == [[1, 4, 1, 12, 0, 4, -100, 0, 0, -100, 1]]


def test_blur_is_gaussian():
    image = torch.zeros(2, 3, 41, 41)
    image[:, :, 20, 20] = 1.0
    soft = blur(image, torch.tensor([0.0, 1.2]))
    assert torch.allclose(soft[0], image[0], atol=1e-6)
    across = soft[1, 0].sum(0)
    offsets = torch.arange(41) - 20
    assert across.sum() == pytest.approx(1, abs=1e-5)
    assert float((across * offsets**2).sum()) ** 0.5 == pytest.approx(1.2, abs=0.02)


def test_saving_and_loading(judge, tmp_path):
    judge.save(tmp_path)
    images = to_tensor(fresh(8, None).images)
    assert Judge.load(tmp_path).read(images) == judge.read(images)


@pytest.mark.parametrize("damage", ["config", "width", "weights", "key"])
def test_a_damaged_folder_is_refused(judge, tmp_path, damage):
    judge.save(tmp_path)
    if damage == "config":
        (tmp_path / "config.json").write_text("{}x", encoding="utf-8")
    elif damage == "width":
        config = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
        (tmp_path / "config.json").write_text(json.dumps(config | {"hidden": 64}), encoding="utf-8")
    elif damage == "weights":
        (tmp_path / "model.safetensors").write_bytes(b"not weights at all")
    else:
        (tmp_path / "config.json").write_text('{"depth": 3}', encoding="utf-8")
    with pytest.raises(CheckpointError):
        Judge.load(tmp_path)


def test_the_command_needs_an_output(capsys):
    with pytest.raises(SystemExit):
        main([])
    assert "--output" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--steps", "0"], "--steps is 0"),
        (["--images", "-5"], "--images is -5"),
        (["--pictures", "0"], "--images is 0"),
        ([], "no readable config.json"),
    ],
    ids=" ".join,
)
def test_the_command_refuses_bad_input(tmp_path, capsys, arguments, said):
    """It also never overwrites another model's folder."""
    (tmp_path / "config.json").write_text('{"model_type": "another"}')
    with pytest.raises(SystemExit) as stopped:
        main([*arguments, "--output", str(tmp_path), "--work", str(tmp_path / "work")])
    (message,) = capsys.readouterr().err.splitlines()
    assert stopped.value.code == 2
    assert said in message
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]
