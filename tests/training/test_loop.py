"""The training loop: losses fall, a resumed run ends as an uninterrupted one, and errors are named."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from conftest import file_size_limit
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn
from torch.optim.optimizer import register_optimizer_step_pre_hook
from training import forking
from training.forking import OPTIONS, Sines, loss, network

from x2i_app.errors import InvalidRequestError, TrainingError
from x2i_app.training.checkpoints import newest_checkpoint, prune_checkpoints, save_checkpoint
from x2i_app.training.loop import LoopOptions, train
from x2i_app.training.optimizers import build_optimizers
from x2i_app.training.reports import describe_run

CHECKPOINT = Path(__file__).parents[1] / "fixtures" / "training_checkpoint" / "step-00000007"


def history(directory):
    return [json.loads(record) for record in (directory / "history.jsonl").read_text().splitlines()]


def run(directory, options=OPTIONS, data=None, **further):
    model = network()
    train(model, data or Sines(), loss, directory, options, title="sines", **further)
    return model


def steps_of(directory):
    return [record["step"] for record in history(directory)]


class Filled(nn.Module):
    """A module that only has a state."""

    def __init__(self, state):
        super().__init__()
        self.state = state

    def state_dict(self):
        return self.state


def newest_step(directory):
    found = newest_checkpoint(directory)
    return found and found[0]


def equal(a, b):
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_losses_fall(tmp_path, optimizer):
    """And are recorded and plotted."""
    run(tmp_path, replace(OPTIONS, steps=200, optimizer=optimizer))
    records = history(tmp_path)
    assert [record["step"] for record in records] == list(range(19, 200, 20))
    assert records[-1]["squared"] < 0.2 * records[0]["squared"]
    assert records[-1]["learning_rate"] < 0.1 * OPTIONS.learning_rate
    assert all(0 < record["seconds_per_step"] < 60 for record in records)
    assert Image.open(tmp_path / "loss.png").size[0] >= 600


@pytest.mark.parametrize("optimizer", ["adamw", "adamw8bit", "muon", "prodigy"])
def test_resumed_run(tmp_path, optimizer):
    """An interrupted run ends with the same bits as an uninterrupted one."""
    options = replace(OPTIONS, optimizer=optimizer)
    whole = run(tmp_path / "whole", options)
    for stop in (3, 20, 21, 48):
        run(tmp_path / "parts", options, stop_at=stop)
    parts = run(tmp_path / "parts", options)
    assert equal(whole, parts)
    first, second = (newest_checkpoint(tmp_path / name)[1] for name in ("whole", "parts"))
    assert len(tensors(first)) > 3 * len(tensors(first["model"]))  # weights, averages, and the optimizer's states
    assert all(torch.equal(a, b) for a, b in zip(tensors(first), tensors(second), strict=True))


@pytest.fixture(scope="module")
def forked(tmp_path_factory):
    """The folder of forking.py, which forks before torch has threads that a child would wait for."""
    directory = tmp_path_factory.mktemp("forked")
    command = [sys.executable, str(Path(__file__).with_name("forking.py")), str(directory)]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", timeout=400, check=False)
    assert done.returncode == 0, done.stderr
    return directory


def told(directory, scenario):
    return json.loads((directory / f"{scenario}.json").read_text())


def test_kills(forked, tmp_path):
    """Killed at twenty random points, a run loses only the steps since its last checkpoint."""
    kills = told(forked, "kills")
    assert len(kills) == 20
    for reached, kept in kills:
        assert kept >= reached // 3 * 3  # a checkpoint every 3 steps
    assert len({reached for reached, _ in kills}) > 5
    run(tmp_path, replace(OPTIONS, steps=150, checkpoint_every=3))
    whole, killed = newest_checkpoint(tmp_path)[1], newest_checkpoint(forked / "killed")[1]
    assert whole.keys() == killed.keys()
    for name in ("model", "AdamW"):
        for ours, theirs in zip(tensors(killed[name]), tensors(whole[name]), strict=True):
            assert torch.equal(ours, theirs)
    assert steps_of(forked / "killed") == steps_of(tmp_path)


def test_kills_while_saving(forked):
    """Killed fifty times while it saves, a process always leaves a complete checkpoint."""
    found = told(forked, "saves")
    assert len(found["kills"]) == 50
    for saved, newest, whole, _ in found["kills"]:
        assert whole
        assert saved <= newest <= saved + 1  # killed between the rename and the record of it
    assert sum(begun > 0 for *_, begun in found["kills"]) > 5  # kills that came in the middle of writing
    assert found["names"] == [f"step-{found['kills'][-1][1]:08d}"]


@pytest.mark.parametrize("part", range(10))
def test_full_disk_in_a_checkpoint(tmp_path, part):
    """A disk that is full anywhere in a checkpoint leaves the old one."""
    state = {"model": network()}
    save_checkpoint(tmp_path, 1, state)
    size = (tmp_path / "step-00000001" / "state.pt").stat().st_size
    before = sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*"))
    with (
        file_size_limit(size * part // 10),
        pytest.raises(TrainingError, match=r"step 2 cannot be written .* free some space and start again"),
    ):
        save_checkpoint(tmp_path, 2, state)
    assert sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*")) == before
    assert newest_step(tmp_path) == 1
    save_checkpoint(tmp_path, 2, state)
    assert newest_step(tmp_path) == 2


def tensors(values):
    """Every tensor in nested dictionaries and lists."""
    if isinstance(values, torch.Tensor):
        return [values]
    inner = values.values() if isinstance(values, dict) else values if isinstance(values, list) else []
    return [tensor for value in inner for tensor in tensors(value)]


def test_full_disk_in_a_run(tmp_path):
    """Only the steps since the last checkpoint are lost."""
    run(tmp_path, stop_at=7)
    before = sorted(path.name for path in tmp_path.iterdir())
    with (
        file_size_limit(4000),
        pytest.raises(TrainingError, match=r"The checkpoint of step 14 cannot be written .*earlier ones are kept"),
    ):
        run(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == before
    resumed = run(tmp_path)
    assert equal(resumed, run(tmp_path / "whole"))


def test_cut_record_of_history(tmp_path):
    """It is dropped, and the resumed run writes it again."""
    run(tmp_path, stop_at=21)
    with (tmp_path / "history.jsonl").open("a") as file:
        file.write('{"step": 12, "squ')
    run(tmp_path)
    assert steps_of(tmp_path) == list(range(5, 60, 6))


@pytest.mark.parametrize("data", ["same batches", "doubled batch"])
def test_gradients_of_two_processes(forked, tmp_path, data):
    """They are those of one process with twice as many samples in each step."""
    found = torch.load(forked / "gradients.pt", weights_only=True)
    options = replace(OPTIONS, steps=3, max_grad_norm=1e9, accumulate=2 if data == "same batches" else 1)
    expected = forking.record_gradients(
        network(), Sines() if data == "same batches" else forking.Doubled(), tmp_path / "one", options, forking.quiet
    )
    assert len(found) == len(expected) == 3 * len(list(network().parameters()))
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-7)
    losses = [[record["squared"] for record in history(path)] for path in (forked / "ranks", tmp_path / "one")]
    assert losses[0] == pytest.approx(losses[1])


def test_infinite_loss_in_one_of_two_processes(forked):
    """Both stop, with its name."""
    for rank in range(2):
        assert told(forked, f"wrong-{rank}") == (
            "At step 2 the second layer is inf; lower the learning rate, or look at the data of that step."
        )


def test_two_processes_share_a_cache(forked):
    """Each computes its share of what is missing."""
    assert [told(forked, f"filled-{rank}") for rank in range(2)] == [["1"], ["3"]]


def test_tensorboard(tmp_path):
    run(tmp_path, replace(OPTIONS, tensorboard=True))
    events = EventAccumulator(str(tmp_path / "logs" / "sines")).Reload()
    assert set(events.Tags()["scalars"]) == {"squared", "learning_rate", "samples/s"}
    assert [event.step for event in events.Scalars("squared")] == steps_of(tmp_path)


def test_evaluation(tmp_path):
    """It gets the averaged weights, and changes nothing."""
    evaluations = []

    def look(model, step):
        assert not model.training
        evaluations.append((step, [parameter.clone() for parameter in model.parameters()]))
        torch.rand(3)

    evaluated = run(tmp_path / "evaluated", replace(OPTIONS, evaluate_every=25), evaluate=look)
    assert [step for step, _ in evaluations] == [25, 50, 60]
    assert all(torch.equal(a, b) for a, b in zip(evaluations[-1][1], evaluated.parameters(), strict=True))
    assert equal(evaluated, run(tmp_path / "plain"))
    own = newest_checkpoint(tmp_path / "evaluated")[1]["model"]
    assert not equal(evaluated, Filled(own))


def test_infinite_loss(tmp_path):
    with pytest.raises(TrainingError, match=r"At step 12 the squared is nan"):
        run(tmp_path, data=Sines(bad_step=12))
    assert newest_checkpoint(tmp_path)[0] == 7  # what was good is kept


def test_checkpoint_of_another_model(tmp_path):
    run(tmp_path, stop_at=7)
    with pytest.raises(TrainingError, match="of another model"):
        train(nn.Linear(1, 1), Sines(), loss, tmp_path, OPTIONS, title="other")


def test_damaged_checkpoints_are_ignored(tmp_path):
    state = {"model": nn.Linear(2, 2), "ema": None}
    for step in (1, 2, 3, 4):
        save_checkpoint(tmp_path, step, state)
    damaged = tmp_path / "step-00000004" / "state.pt"
    damaged.write_bytes(b"<" * damaged.stat().st_size)
    (tmp_path / "step-00000003" / "state.pt").write_bytes((tmp_path / "step-00000002" / "state.pt").read_bytes()[:700])
    (tmp_path / "tmp-step-00000009").mkdir()
    assert newest_checkpoint(tmp_path)[0] == 2
    # The one just saved stays; later ones are damaged.
    prune_checkpoints(tmp_path, keep=1, newest=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000002"]


def test_gradient_clipping(tmp_path):
    def gradient(limit):
        directory, options = tmp_path / str(limit), replace(OPTIONS, steps=1, max_grad_norm=limit)
        found = forking.record_gradients(network(), Sines(), directory, options)
        return torch.cat([each.flatten() for each in found]).norm().item()

    assert gradient(0.001) == pytest.approx(0.001, rel=1e-3)
    assert gradient(0) == pytest.approx(gradient(1e9))


def test_pickle_in_a_checkpoint_is_not_run(tmp_path):
    class Bomb:
        def __reduce__(self):
            return Path.touch, (tmp_path / "ran",)

    (tmp_path / "step-00000001").mkdir()
    torch.save({"step": 1, "model": Bomb()}, tmp_path / "step-00000001" / "state.pt")
    assert newest_checkpoint(tmp_path) is None
    assert not (tmp_path / "ran").exists()


class Moved:
    """A tensor that records the device it was moved to."""

    def __init__(self, value, device=None):
        self.value, self.device = value, device

    def to(self, device, **_):
        """As a tensor does."""
        return Moved(self.value.to(device), device)


def test_batches_are_moved_to_the_device(tmp_path):
    class Packed(Sines):
        """Within a list, as a batch may be of several."""

        def __getitem__(self, number):
            return [{name: Moved(value) for name, value in super().__getitem__(number).items()}]

    def unpacked_loss(model, batches):
        (batch,) = batches
        assert all(part.device == next(model.parameters()).device for part in batch.values())
        return loss(model, {name: part.value for name, part in batch.items()})

    train(network(), Packed(), unpacked_loss, tmp_path, replace(OPTIONS, steps=2), title="packed")


@pytest.mark.parametrize(
    ("warmup_steps", "step", "share"),
    [
        (4, 0, 0.25),  # the first step of the warm-up is not 0
        (4, 2, 0.75),
        (4, 3, 1),
        (4, 5, 1),
        (0, 0, 1),
        (1, 0, 1),
        (4, 6, 1),  # the fall begins: 40 % of ten steps
        (4, 8, 0.5),
        (4, 9, 0.25),  # 0 would come after the last step
        (20, 9, 0.25),
    ],
)
def test_learning_rate(warmup_steps, step, share):
    """It rises to its peak, stays, and falls to 0."""
    options = LoopOptions(steps=10, learning_rate=2e-3, warmup_steps=warmup_steps, decay_share=0.4)
    assert options.learning_rate_at(step) == pytest.approx(2e-3 * share)


def test_cosine():
    """Half of a cosine from the peak to 0."""
    options = LoopOptions(steps=4, learning_rate=1.0, warmup_steps=0, decay_share=1.0, decay="cosine")
    assert [options.learning_rate_at(step) for step in range(4)] == pytest.approx(
        [1, 0.853553, 0.5, 0.146447], abs=1e-5
    )


def test_report_at_the_start(tmp_path, capsys):
    """What a step takes, how many epochs the steps are, and for how long."""
    run(tmp_path, replace(OPTIONS, accumulate=2))
    report = next(row for row in capsys.readouterr().err.splitlines() if "samples/s, about" in row)
    assert "sines: batch_size 16 x accumulate 2 x 1 device = 32 samples a step; 60 steps = 1,920 samples;" in report
    data = SimpleNamespace(batch_size=8, mean_batch_size=4.5, count=90)
    told = describe_run("AlignNet", data, replace(OPTIONS, steps=100), 2, 9, speed=0.5, start=40)
    assert told == (
        "AlignNet: batch_size 8 (4.5 on average, as a batch holds captions of one length) x accumulate 1 x 2 devices "
        "= 9 samples a step; 100 steps, 40 of them done before = 900 samples = 10 epochs of 90; 0.5 samples/s, about "
        "18 min left"
    )


def test_full_disk_before_the_first_step(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=10))
    with pytest.raises(TrainingError, match=r"checkpoints and a new one need about .* has 0.0 GB free"):
        run(tmp_path)
    assert not list(tmp_path.glob("step-*"))


def test_what_an_evaluation_returns(tmp_path):
    """Numbers are in the history and the plot, images in TensorBoard."""
    shown = {"held_out": 0.5, "samples": Image.new("RGB", (8, 8), "red")}
    run(tmp_path, replace(OPTIONS, evaluate_every=30, tensorboard=True), evaluate=lambda *_: shown)
    assert [record["step"] for record in history(tmp_path) if "held_out" in record] == [29, 59]
    events = EventAccumulator(str(tmp_path / "logs" / "sines")).Reload()
    assert events.Tags()["images"] == ["samples"]
    assert [event.value for event in events.Scalars("held_out")] == [0.5, 0.5]


def test_an_evaluation_that_fails(tmp_path):
    """The model has its own weights back, and not their average: a notebook may train it further."""

    def fail(*_):
        raise ValueError("no sheet")

    model = network()
    with pytest.raises(ValueError, match="no sheet"):
        train(model, Sines(), loss, tmp_path / "a", replace(OPTIONS, evaluate_every=7), title="sines", evaluate=fail)
    stopped = run(tmp_path / "b", stop_at=7)
    assert all(map(torch.equal, model.parameters(), stopped.parameters()))


def test_trackers_must_be_installed():
    with pytest.raises(InvalidRequestError, match=r"trackers has 'aim', which is not installed; .*tensorboard"):
        LoopOptions(steps=1, trackers=("aim",))


def test_learning_rate_of_the_optimizer(tmp_path):
    """Every step has the rate of its number, in all groups of parameters."""
    rates = []
    handle = register_optimizer_step_pre_hook(
        lambda optimizer, *_: rates.append({group["lr"] for group in optimizer.param_groups})
    )
    options = replace(OPTIONS, steps=7)
    run(tmp_path, options)
    handle.remove()
    assert rates == [{options.learning_rate_at(step)} for step in range(7)]


def test_kept_checkpoints(tmp_path):
    run(tmp_path, replace(OPTIONS, steps=25, keep=3))
    assert sorted(path.name for path in tmp_path.glob("step-*")) == [f"step-{step:08d}" for step in (14, 21, 25)]


def test_manifest(tmp_path):
    """A checkpoint says what it is of."""
    run(tmp_path, stop_at=7)
    manifest = json.loads((tmp_path / "step-00000007" / "manifest.json").read_text())
    assert (manifest["title"], manifest["step"], manifest["processes"]) == ("sines", 7, 1)
    assert manifest["options"]["learning_rate"] == OPTIONS.learning_rate
    assert manifest["weights"]["0.weight"] == [16, 1]


def test_checkpoint_of_an_earlier_version(tmp_path):
    """A run that was begun by the version of November 2026 continues: same step, weights, averages and optimizers."""
    shutil.copytree(CHECKPOINT, tmp_path / "step-00000007")
    options = replace(OPTIONS, optimizer="muon")
    resumed, whole = run(tmp_path, options), run(tmp_path / "whole", options)
    for ours, theirs in zip(resumed.parameters(), whole.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4)  # it was written on another machine
    assert newest_checkpoint(tmp_path)[1].keys() == {"step", "model", "ema", "AdamW", "_Muon"}


def test_weight_decay_and_embeddings():
    """Only matrices and convolutions decay, and embeddings stay with AdamW."""
    model = nn.Sequential(nn.Embedding(3, 4), nn.Linear(4, 4), nn.LayerNorm(4))
    (adamw,) = build_optimizers(model, "adamw", 0.1, 0.01, (0.9, 0.99))
    decays = {id(p): group["weight_decay"] for group in adamw.param_groups for p in group["params"]}
    assert [decays[id(p)] for p in model.parameters()] == [0.01, 0.01, 0.0, 0.0, 0.0]
    assert adamw.param_groups[0]["betas"] == (0.9, 0.99)
    adamw, muon = build_optimizers(model, "muon", 0.1, 0.01, (0.9, 0.99))
    assert [p.shape for group in muon.param_groups for p in group["params"]] == [(4, 4)]
    assert model[0].weight in {p for group in adamw.param_groups for p in group["params"]}


def test_frozen_parameters_stay(tmp_path):
    model = network()
    model[0].requires_grad_(False)
    before = model[0].weight.clone()
    train(model, Sines(), loss, tmp_path, replace(OPTIONS, steps=3), title="sines")
    assert torch.equal(model[0].weight, before)


@pytest.mark.parametrize(
    ("name", "value"),
    [("steps", 0), ("warmup_steps", -1), ("decay_share", 1.1), ("ema_decay", 2), ("keep", 0), ("accumulate", 1.5)],
)
def test_wrong_options(name, value):
    with pytest.raises(InvalidRequestError, match=f"{name} is {value}; it must be"):
        LoopOptions(**{"steps": 1, name: value})


def test_whole_numbers_of_any_type():
    """A range has no end of 2.0, so what counts as whole is kept as an integer."""
    options = LoopOptions(steps=2.0, seed=np.int64(3), learning_rate=1, warmup_steps=np.float32(1))
    kept = (options.steps, options.seed, options.warmup_steps, options.learning_rate)
    assert kept == (2, 3, 1, 1.0)
    assert [type(value) for value in kept] == [int, int, int, float]
    assert LoopOptions(steps=1, evaluate_every=None).evaluate_every is None
    with pytest.raises(InvalidRequestError, match="seed is None; it must be a number"):
        LoopOptions(steps=1, seed=None)


def test_accelerate_set_to_fsdp(tmp_path, monkeypatch):
    monkeypatch.setattr(Accelerator, "distributed_type", "FSDP")
    with pytest.raises(TrainingError, match="launch it as MULTI_GPU"):
        run(tmp_path)
