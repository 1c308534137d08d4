"""The training loop: losses fall, an interrupted run ends as an uninterrupted one, and what goes wrong is named."""

import json
import random
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import nn
from torch.utils.data import Dataset

from x2i_app.errors import TrainingError
from x2i_app.training.checkpoints import newest_checkpoint, prune_checkpoints, save_checkpoint
from x2i_app.training.loop import LoopOptions, train

OPTIONS = LoopOptions(steps=60, learning_rate=1e-2, warmup_steps=5, mixed_precision="no", checkpoint_every=7, workers=0)


@dataclass(frozen=True)
class Sines(Dataset):
    """x and sin x; `bad_step` is where the data goes wrong, `pause` makes a step last."""

    bad_step: int | None = None
    pause: float = 0.0

    def __getitem__(self, step):
        time.sleep(self.pause)
        x = torch.linspace(-3, 3, 32)[torch.randperm(32, generator=torch.Generator().manual_seed(step))][:16, None]
        return {"x": x, "y": torch.full_like(x, torch.nan) if step == self.bad_step else x.sin()}


def network():
    torch.manual_seed(1)
    convolution = nn.Sequential(nn.Unflatten(1, (1, 16)), nn.Conv1d(1, 4, 3, padding=1), nn.Flatten())
    return nn.Sequential(nn.Linear(1, 16), nn.GELU(), convolution, nn.GELU(), nn.Linear(64, 1))


def loss(model, batch):
    noisy = batch["x"] + 0.01 * torch.randn_like(batch["x"])  # randomness inside the step must be repeatable too
    return {"squared": nn.functional.mse_loss(model(noisy), batch["y"])}


def history(directory):
    return [json.loads(line) for line in (directory / "history.jsonl").read_text().splitlines()]


def run(directory, options=OPTIONS, data=None, **further):
    model = network()
    train(model, data or Sines(), loss, directory, options, title="sines", **further)
    return model


def newest_step(directory):
    found = newest_checkpoint(directory)
    return found and found[0]


def equal(a, b):
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_losses_fall_and_are_drawn(tmp_path, optimizer):
    run(tmp_path, replace(OPTIONS, steps=200, optimizer=optimizer))
    lines = history(tmp_path)
    assert [line["step"] for line in lines] == list(range(19, 200, 20))
    assert lines[-1]["squared"] < 0.2 * lines[0]["squared"]
    assert lines[-1]["learning_rate"] < 0.1 * OPTIONS.learning_rate
    assert Image.open(tmp_path / "loss.png").size[0] >= 600


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_an_interrupted_run_ends_as_an_uninterrupted_one(tmp_path, optimizer):
    options = replace(OPTIONS, optimizer=optimizer)
    whole = run(tmp_path / "whole", options)
    for stop in (3, 20, 21, 48):
        run(tmp_path / "parts", options, stop_at=stop)
    parts = run(tmp_path / "parts", options)
    assert equal(whole, parts)
    first, second = (newest_checkpoint(tmp_path / name)[1] for name in ("whole", "parts"))
    for name, optimiser in (("AdamW", "AdamW"), ("_Muon", "_Muon")):
        if name in first:
            for key, state in first[optimiser]["state"].items():
                for entry, value in state.items():
                    assert torch.equal(torch.as_tensor(value), torch.as_tensor(second[optimiser]["state"][key][entry]))


def test_killed_at_random_it_goes_on_from_the_last_checkpoint(tmp_path):
    options = replace(OPTIONS, steps=300, checkpoint_every=10)
    script = (
        "import sys; from pathlib import Path; sys.path[:0] = ['tests', 'tests/training']\n"
        "from test_loop import *\n"
        f"run(Path(sys.argv[1]), {options!r}, Sines(pause=0.004))\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "killed")]
    rng, kills = random.Random(3), 0
    while True:
        process = subprocess.Popen(command, cwd=Path(__file__).parents[2], stderr=subprocess.DEVNULL)
        if kills < 4:
            wait_for_first = time.monotonic() + 120
            before = newest_step(tmp_path / "killed")
            while newest_step(tmp_path / "killed") == before and process.poll() is None:
                assert time.monotonic() < wait_for_first
                time.sleep(0.02)
            time.sleep(rng.uniform(0, 0.2))
            process.send_signal(signal.SIGKILL)
            kills += 1
        code = process.wait(timeout=120)
        if code == 0:
            break
        assert code == -signal.SIGKILL
    assert kills == 4
    whole = newest_checkpoint(tmp_path / "killed")[1]
    run(tmp_path / "whole", options)
    for key, value in newest_checkpoint(tmp_path / "whole")[1]["model"].items():
        assert torch.equal(value, whole["model"][key])
    assert [line["step"] for line in history(tmp_path / "killed")] == sorted(
        {line["step"] for line in history(tmp_path / "killed")}
    )


def test_a_loss_that_is_not_finite_stops_with_its_step_and_name(tmp_path):
    with pytest.raises(TrainingError, match=r"At step 12 the squared is nan"):
        run(tmp_path, data=Sines(bad_step=12))
    assert newest_checkpoint(tmp_path)[0] == 7  # what was good is kept


def test_a_checkpoint_of_another_model_is_refused(tmp_path):
    run(tmp_path, stop_at=7)
    with pytest.raises(TrainingError, match="of another model"):
        train(nn.Linear(1, 1), Sines(), loss, tmp_path, OPTIONS, title="other")


def test_damaged_and_half_written_checkpoints_are_passed_over(tmp_path):
    state = {"model": nn.Linear(2, 2), "ema": None}
    for step in (1, 2, 3, 4):
        save_checkpoint(tmp_path, step, state)
    (tmp_path / "step-00000004" / "state.pt").write_bytes(b"<html>")
    (tmp_path / "step-00000003" / "state.pt").write_bytes((tmp_path / "step-00000002" / "state.pt").read_bytes()[:700])
    (tmp_path / "tmp-step-00000009").mkdir()
    assert newest_checkpoint(tmp_path)[0] == 2
    prune_checkpoints(tmp_path, keep=3)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000002", "step-00000003", "step-00000004"]


def test_a_pickle_in_a_checkpoint_is_not_run(tmp_path):
    class Bomb:
        def __reduce__(self):
            return Path.touch, (tmp_path / "ran",)

    (tmp_path / "step-00000001").mkdir()
    torch.save({"step": 1, "model": Bomb()}, tmp_path / "step-00000001" / "state.pt")
    assert newest_checkpoint(tmp_path) is None
    assert not (tmp_path / "ran").exists()
