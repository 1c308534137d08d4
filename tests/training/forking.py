"""Trainings in processes that are forked, killed and connected: tests/training/forking.py FOLDER

The libraries are imported once and every child is a fork, so that twenty kills take seconds. What each of the three
scenarios has seen is left in the folder, as JSON.
"""

import gc
import json
import mmap
import os
import random
import signal
import socket
import struct
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # when run as a script

import torch
from torch import nn
from torch.optim.optimizer import register_optimizer_step_pre_hook
from torch.utils.data import Dataset

from x2i_app.errors import TrainingError
from x2i_app.training.checkpoints import newest_checkpoint, prune_checkpoints, save_checkpoint
from x2i_app.training.encoding import TensorCache
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


@dataclass(frozen=True)
class Doubled(Dataset):
    """Batch n holds the rows of the batches 2n and 2n + 1."""

    def __getitem__(self, step):
        first, second = Sines()[2 * step], Sines()[2 * step + 1]
        return {name: torch.cat((first[name], second[name])) for name in first}


def quiet(model, batch):
    """The loss without noise, which would differ between one large batch and two small ones."""
    return {"squared": nn.functional.mse_loss(model(batch["x"]), batch["y"])}


def record_gradients(model, data, directory, options, compute_loss=quiet) -> list[torch.Tensor]:
    """Of every parameter, when the optimizer is about to use them."""
    found = []

    def look(optimizer, args, kwargs):
        found.extend(p.grad.clone() for group in optimizer.param_groups for p in group["params"])

    handle = register_optimizer_step_pre_hook(look)
    train(model, data, compute_loss, directory, options, title="sines")
    handle.remove()
    return found


@dataclass(frozen=True)
class Watched(Sines):
    """Writes the step that a batch is for where another process sees it."""

    board: mmap.mmap | None = None

    def __getitem__(self, step):
        self.board[:8] = struct.pack("q", step)
        return super().__getitem__(step)


def fork(work: Callable[[], object]) -> int:
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        except SystemExit as stopped:
            code = stopped.code
        finally:
            if code:
                traceback.print_exc()
            os._exit(code)
    return child


def wait_for(goal: int, board: mmap.mmap, child: int) -> None:
    """Until the child has written this step to the board."""
    while struct.unpack("q", board[:8])[0] < goal:
        assert os.waitpid(child, os.WNOHANG) == (0, 0), "it ended before it was killed"
        time.sleep(0.0005)


def kills(directory: Path) -> None:
    """Kill a training twenty times at random moments, then let it end; tells step and newest checkpoint of each."""
    options = replace(OPTIONS, steps=150, checkpoint_every=3)
    board, rng, told = mmap.mmap(-1, 8), random.Random(3), []

    def work():
        train(network(), Watched(pause=0.002, board=board), loss, directory / "killed", options, title="sines")

    while len(told) < 20:
        before = newest_step(directory / "killed")
        board[:8] = struct.pack("q", -1)
        child = fork(work)
        # A few steps on from where it was; a tenth of them at most, so that all twenty kills find it alive.
        goal = before + rng.randrange(8)
        wait_for(goal, board, child)
        time.sleep(rng.uniform(0, 0.02))
        os.kill(child, signal.SIGKILL)
        assert os.waitpid(child, 0)[1] == signal.SIGKILL, "it ended before it was killed"
        told.append((struct.unpack("q", board[:8])[0], newest_step(directory / "killed")))
        assert told[-1][1] >= before
    assert os.waitpid(fork(work), 0)[1] == 0
    tell(directory, "kills", told)


def saves(directory: Path) -> None:
    """Kill a process fifty times while it saves, one checkpoint after another; tells what was found each time.

    That is: the last step that was saved for certain, the newest checkpoint's step, whether that is whole and no folder
    of a later name is there, and how many others were begun.
    """
    torch.set_num_threads(1)  # a pool of OpenMP threads does not survive a fork: the child would wait for it for ever
    board, rng, told, saved = mmap.mmap(-1, 8), random.Random(4), [], directory / "saved"
    saved.mkdir()

    def work():
        start = newest_step(saved)
        for step in range(start + 1, start + 10_000):
            save_checkpoint(saved, step, {"model": Filled(step)})
            board[:8] = struct.pack("q", step)
            prune_checkpoints(saved, keep=2, newest=step)

    while len(told) < 50:
        before = newest_step(saved)
        child = fork(work)
        wait_for(before + 1, board, child)
        time.sleep(rng.uniform(0, 0.03))
        os.kill(child, signal.SIGKILL)
        assert os.waitpid(child, 0)[1] == signal.SIGKILL, "it ended before it was killed"
        step, state = newest_checkpoint(saved)
        whole = all(bool((state["model"][name] == step).all()) for name in ("first", "last"))
        whole &= max(path.name for path in saved.glob("step-*")) == f"step-{step:08d}"
        told.append((struct.unpack("q", board[:8])[0], step, whole, len(list(saved.glob("tmp-*")))))
    prune_checkpoints(saved, keep=1, newest=step)
    tell(directory, "saves", {"kills": told, "names": sorted(path.name for path in saved.iterdir())})


@dataclass(frozen=True)
class Filled:
    """A state of 4 MB in which every number is the step."""

    step: int

    def state_dict(self):
        return {name: torch.full((500_000,), self.step, dtype=torch.float32) for name in ("first", "last")}


def newest_step(directory: Path) -> int:
    found = newest_checkpoint(directory)
    return found[0] if found else 0


def ranks(directory: Path) -> None:
    """Two gloo processes train together, fill a cache of which some is there, and meet a loss that is not finite.

    The first one's gradients are written to gradients.pt.
    """
    (directory / "cache").mkdir()
    cache = TensorCache(directory / "cache", ["0", "1", "2", "3"], "of this test", shard_size=1)
    for shard in (0, 2):
        cache._write(shard, {"0.value": torch.zeros(1)})

    def work(rank: int) -> None:
        options = replace(OPTIONS, steps=3, max_grad_norm=1e9)
        found = record_gradients(network(), Sines(), directory / "ranks", options)
        if rank == 0:
            torch.save(found, directory / "gradients.pt")
        filled = []
        cache.fill(lambda texts: filled.extend(texts) or [{"value": torch.ones(1)} for _ in texts], "ones")
        tell(directory, f"filled-{rank}", filled)
        try:
            train(network(), Sines(bad_step=5), broken, directory / "wrong", OPTIONS, title="wrong")
        except TrainingError as error:
            tell(directory, f"wrong-{rank}", str(error))

    fork_two(work)


def broken(model, batch):
    """Where the data went wrong, one more term that is infinite, and whose gradient is not."""
    terms = {"squared": nn.functional.mse_loss(model(batch["x"]), batch["y"].nan_to_num())}
    return terms | ({"second layer": torch.tensor(torch.inf)} if batch["y"].isnan().any() else {})


def tell(directory: Path, name: str, found: object) -> None:
    (directory / f"{name}.json").write_text(json.dumps(found))


def fork_two(work: Callable[[int], None]) -> None:
    """`work` in two processes, to its end."""
    assert all(os.waitpid(child, 0)[1] == 0 for child in start_two(work))


def start_two(work: Callable[[int], None]) -> list[int]:
    """`work` begins in two processes that find each other as torchrun's do."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    def start(rank: int) -> None:
        place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        os.environ.update({name: str(value) for name, value in place.items()}, ACCELERATE_USE_CPU="true")
        work(rank)

    return [fork(lambda rank=rank: start(rank)) for rank in range(2)]


if __name__ == "__main__":
    gc.freeze()  # what is imported is not looked through again in every child
    for scenario in (kills, saves, ranks):
        scenario(Path(sys.argv[1]))
