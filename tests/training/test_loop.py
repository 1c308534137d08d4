"""The training loop: losses fall, an interrupted run ends as an uninterrupted one, and what goes wrong is named."""

import json
import resource
import signal
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn
from training import forking
from training.forking import OPTIONS, Sines, loss, network

from x2i_app.errors import TrainingError
from x2i_app.training.checkpoints import newest_checkpoint, prune_checkpoints, save_checkpoint
from x2i_app.training.loop import train


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


@pytest.mark.parametrize("optimizer", ["adamw", "adamw8bit", "muon"])
def test_an_interrupted_run_ends_as_an_uninterrupted_one(tmp_path, optimizer):
    options = replace(OPTIONS, optimizer=optimizer)
    whole = run(tmp_path / "whole", options)
    for stop in (3, 20, 21, 48):
        run(tmp_path / "parts", options, stop_at=stop)
    parts = run(tmp_path / "parts", options)
    assert equal(whole, parts)
    first, second = (newest_checkpoint(tmp_path / name)[1] for name in ("whole", "parts"))
    assert len(tensors(first)) > 3 * len(tensors(first["model"]))  # weights, averages, and the optimiser's states
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


def test_killed_at_twenty_random_points_it_loses_the_last_interval_alone(forked, tmp_path):
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
    assert [line["step"] for line in history(forked / "killed")] == [line["step"] for line in history(tmp_path)]


def test_killed_fifty_times_while_it_saves_there_is_always_a_whole_checkpoint(forked):
    found = told(forked, "saves")
    assert len(found["kills"]) == 50
    for saved, newest, whole, _ in found["kills"]:
        assert whole
        assert saved <= newest <= saved + 1  # killed between the rename and the word about it
    assert sum(begun > 0 for *_, begun in found["kills"]) > 5  # kills that came in the middle of writing
    assert found["names"] == [f"step-{found['kills'][-1][1]:08d}"]


@pytest.mark.parametrize("part", range(10))
def test_a_disk_that_is_full_anywhere_in_a_checkpoint_keeps_the_old_one(tmp_path, part):
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


@contextmanager
def file_size_limit(size):
    """The kernel refuses what a file has beyond this size, as it would on a full disk."""
    usual = resource.getrlimit(resource.RLIMIT_FSIZE)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, usual[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, usual)
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)


def tensors(values):
    """Every tensor in nested dictionaries and lists."""
    if isinstance(values, torch.Tensor):
        return [values]
    inner = values.values() if isinstance(values, dict) else values if isinstance(values, list) else []
    return [tensor for value in inner for tensor in tensors(value)]


def test_a_full_disk_loses_the_last_interval_alone(tmp_path):
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


def test_a_cut_line_of_history_is_made_again(tmp_path):
    run(tmp_path, stop_at=21)
    with (tmp_path / "history.jsonl").open("a") as file:
        file.write('{"step": 12, "squ')
    run(tmp_path)
    assert [line["step"] for line in history(tmp_path)] == list(range(5, 60, 6))


@pytest.mark.parametrize("data", ["same batches", "doubled batch"])
def test_two_processes_find_the_gradients_of_one_with_twice_as_much(forked, tmp_path, data):
    found = torch.load(forked / "gradients.pt", weights_only=True)
    options = replace(OPTIONS, steps=3, max_grad_norm=1e9, accumulate=2 if data == "same batches" else 1)
    expected = forking.record_gradients(
        network(), Sines() if data == "same batches" else forking.Doubled(), tmp_path / "one", options, forking.quiet
    )
    assert len(found) == len(expected) == 3 * len(list(network().parameters()))
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-7)
    assert [line["squared"] for line in history(forked / "ranks")] == pytest.approx(
        [line["squared"] for line in history(tmp_path / "one")]
    )


def test_what_is_not_finite_in_one_of_two_processes_stops_both_with_its_name(forked):
    for rank in range(2):
        assert told(forked, f"wrong-{rank}") == (
            "At step 2 the second layer is inf; lower the learning rate, or look at the data of that step."
        )


def test_what_is_missing_of_a_cache_is_shared_by_two_processes(forked):
    assert [told(forked, f"filled-{rank}") for rank in range(2)] == [["1"], ["3"]]


def test_tensorboard_is_told(tmp_path):
    run(tmp_path, replace(OPTIONS, tensorboard=True))
    events = EventAccumulator(str(tmp_path / "logs" / "sines")).Reload()
    assert set(events.Tags()["scalars"]) == {"squared", "learning_rate", "samples/s"}
    assert [event.step for event in events.Scalars("squared")] == [line["step"] for line in history(tmp_path)]


def test_evaluation_sees_averaged_weights_and_changes_nothing(tmp_path):
    seen = []

    def look(model, step):
        assert not model.training
        seen.append((step, [parameter.clone() for parameter in model.parameters()]))
        torch.rand(3)

    evaluated = run(tmp_path / "evaluated", replace(OPTIONS, evaluate_every=25), evaluate=look)
    assert [step for step, _ in seen] == [25, 50, 60]
    assert all(torch.equal(a, b) for a, b in zip(seen[-1][1], evaluated.parameters(), strict=True))
    assert equal(evaluated, run(tmp_path / "plain"))


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
    damaged = tmp_path / "step-00000004" / "state.pt"
    damaged.write_bytes(b"<" * damaged.stat().st_size)
    (tmp_path / "step-00000003" / "state.pt").write_bytes((tmp_path / "step-00000002" / "state.pt").read_bytes()[:700])
    (tmp_path / "tmp-step-00000009").mkdir()
    assert newest_checkpoint(tmp_path)[0] == 2
    # The one just saved stays, however few may, and those after it are what they were found to be.
    prune_checkpoints(tmp_path, keep=1, newest=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000002"]


def test_gradients_are_clipped_to_their_limit_and_not_at_all_where_it_is_0(tmp_path):
    def gradient(limit):
        directory, options = tmp_path / str(limit), replace(OPTIONS, steps=1, max_grad_norm=limit)
        found = forking.record_gradients(network(), Sines(), directory, options)
        return torch.cat([each.flatten() for each in found]).norm().item()

    assert gradient(0.001) == pytest.approx(0.001, rel=1e-3)
    assert gradient(0) == pytest.approx(gradient(1e9))


def test_a_pickle_in_a_checkpoint_is_not_run(tmp_path):
    class Bomb:
        def __reduce__(self):
            return Path.touch, (tmp_path / "ran",)

    (tmp_path / "step-00000001").mkdir()
    torch.save({"step": 1, "model": Bomb()}, tmp_path / "step-00000001" / "state.pt")
    assert newest_checkpoint(tmp_path) is None
    assert not (tmp_path / "ran").exists()


class Luggage:
    """A tensor that knows where it was brought."""

    def __init__(self, value, device=None):
        self.value, self.device = value, device

    def to(self, device, **_):
        """As a tensor does."""
        return Luggage(self.value.to(device), device)


def test_batches_are_brought_to_where_the_model_is(tmp_path):
    class Packed(Sines):
        """Within a list, as a batch may be of several."""

        def __getitem__(self, number):
            return [{name: Luggage(value) for name, value in super().__getitem__(number).items()}]

    def unpacked_loss(model, batches):
        (batch,) = batches
        assert all(part.device == next(model.parameters()).device for part in batch.values())
        return loss(model, {name: part.value for name, part in batch.items()})

    train(network(), Packed(), unpacked_loss, tmp_path, replace(OPTIONS, steps=2), title="packed")
