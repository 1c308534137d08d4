"""One training loop for everything that this project trains: resumable, with averaged weights, seen while it runs.

A batch is a function of its step, and so is the randomness inside a step. That is why a checkpoint needs neither a
place in the data nor the state of a generator, and why a resumed run equals an uninterrupted one.
"""

import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from diffusers.training_utils import EMAModel
from torch import nn
from torch.utils.data import DataLoader, Dataset
from tqdm.auto import tqdm

from x2i_app.errors import TrainingError
from x2i_app.request import MAX_SEED, Range, validate_integer, validate_number
from x2i_app.training.checkpoints import newest_checkpoint, prune_checkpoints, save_checkpoint
from x2i_app.training.options import option
from x2i_app.training.plots import plot_losses

ComputeLoss = Callable[[nn.Module, Any], Mapping[str, torch.Tensor]]
_WHOLE = {
    "steps": Range(1, 1e9),
    "warmup_steps": Range(0, 1e9),
    "checkpoint_every": Range(1, 1e9),
    "keep": Range(1, 1e6),
    "workers": Range(0, 256),
    "seed": Range(0, MAX_SEED),
}
_REAL = {
    "learning_rate": Range(0, 1e3),
    "decay_share": Range(0, 1),
    "weight_decay": Range(0, 1e3),
    "max_grad_norm": Range(0, 1e9),
    "ema_decay": Range(0, 1),
}
_AVERAGED = 25  # steps that one point of the history averages over, fewer in a short run


@dataclass(frozen=True)
class LoopOptions:
    """How to train. Raises InvalidRequestError for a value that is not allowed."""

    steps: int = option(help="optimiser steps in all")
    learning_rate: float = option(1e-3, help="its peak")
    warmup_steps: int = option(100, help="until the learning rate has its peak")
    # A straight line to zero: a run whose steps are raised before it goes on as if it had always been longer.
    decay_share: float = option(0.4, help="share of the steps, the last ones, over which the learning rate falls to 0")
    # Muon (torch's, with AdamW's step size) needs far fewer steps, and leaves embeddings and vectors to AdamW.
    optimizer: Literal["adamw", "muon"] = option("adamw", help="muon is for matrices and convolutions")
    weight_decay: float = option(0.01, help="of matrices and convolutions only")
    betas: tuple[float, float] = option((0.9, 0.99), help="AdamW's")
    max_grad_norm: float = option(1.0, help="gradients are clipped to it")
    ema_decay: float | None = option(0.999, help="of the averaged weights that come out; none: no average")
    mixed_precision: Literal["no", "bf16"] = option("bf16", help="accelerate's")
    checkpoint_every: int = option(250, help="steps between checkpoints")
    keep: int = option(2, help="newest checkpoints that stay")
    workers: int = option(1, help="processes that make batches")
    seed: int = option(0, help="of everything random")

    def __post_init__(self):
        for name, allowed in _WHOLE.items():
            validate_integer(name, getattr(self, name), allowed)
        for name, allowed in _REAL.items():
            if (value := getattr(self, name)) is not None:
                validate_number(name, value, allowed)


def train(
    model: nn.Module,
    data: Dataset,
    compute_loss: ComputeLoss,
    directory: Path,
    options: LoopOptions,
    *,
    title: str,
    stop_at: int | None = None,
) -> None:
    """Train `model` in place up to `options.steps`, from the newest complete checkpoint in `directory` if there is one.

    data: data[step] is the whole batch of that step. compute_loss(model, batch): named scalar terms; their sum is
    minimised. stop_at: leave earlier, with a checkpoint, as if interrupted. At the end the averaged weights are in
    `model`, and `directory` holds history.jsonl and loss.png.

    Raises TrainingError naming step and term where a loss is not finite.
    """
    directory.mkdir(parents=True, exist_ok=True)
    # accelerate keeps the precision of a process' first run for all later ones, unless it is made to forget it.
    AcceleratorState._reset_state()
    accelerator = Accelerator(mixed_precision=options.mixed_precision)
    optimizers = _optimizers(model, options)
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    ema = EMAModel(parameters, options.ema_decay, use_ema_warmup=True, power=0.75) if options.ema_decay else None
    state = {"model": model, "ema": ema} | {type(part).__name__: part for part in optimizers}
    start = _resume(state, directory)
    # Only the forward pass needs accelerate's wrapping; checkpoints keep the plain module's names.
    wrapped, *wrapped_optimizers = accelerator.prepare(model, *optimizers)
    last = min(options.steps, stop_at or options.steps)
    history = _History(directory / "history.jsonl", start, min(_AVERAGED, max(1, options.steps // 10)))
    wrapped.train()
    batches = DataLoader(
        data,
        batch_size=None,
        sampler=range(start, last),
        num_workers=options.workers,
        prefetch_factor=4 if options.workers else None,
        worker_init_fn=_calm_worker,
    )
    bar = tqdm(batches, desc=title, initial=start, total=options.steps, dynamic_ncols=True, mininterval=1.0)
    for step, batch in enumerate(bar, start):
        torch.manual_seed(options.seed * 1_000_003 + step)
        with accelerator.autocast():
            terms = compute_loss(wrapped, batch)
        accelerator.backward(sum(terms.values()))
        # A gradient's norm is finite only if every gradient is, so one look covers both.
        norm = accelerator.clip_grad_norm_(parameters, options.max_grad_norm)
        values = {name: term.item() for name, term in terms.items()}
        _check_finite(step, values, float(norm))
        learning_rate = options.learning_rate * _learning_rate_factor(step, options)
        for optimizer in wrapped_optimizers:
            for group in optimizer.param_groups:
                group["lr"] = learning_rate
            optimizer.step()
            optimizer.zero_grad()
        if ema:
            ema.step(parameters)
        history.add(step, values, learning_rate)
        bar.set_postfix({name: f"{value:.4f}" for name, value in history.latest.items()}, refresh=False)
        done = step + 1
        if done % options.checkpoint_every == 0 or done == last:
            save_checkpoint(directory, done, state)
            prune_checkpoints(directory, options.keep)
            plot_losses(directory / "history.jsonl", directory / "loss.png", title)
    accelerator.free_memory()
    if ema and last == options.steps:
        ema.copy_to(parameters)
    model.eval()


def _optimizers(model, options):
    """AdamW alone, or Muon for hidden matrices and AdamW for the rest. Matrices decay; gains and biases do not."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    hidden = []
    if options.optimizer == "muon":
        embeddings = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
        hidden = [p for p in trained if p.ndim > 1 and id(p) not in embeddings]
    taken = {id(parameter) for parameter in hidden}
    others = [parameter for parameter in trained if id(parameter) not in taken]
    groups = [
        {"params": [p for p in others if p.ndim > 1], "weight_decay": options.weight_decay},
        {"params": [p for p in others if p.ndim <= 1], "weight_decay": 0.0},
    ]
    optimizers = [torch.optim.AdamW([g for g in groups if g["params"]], options.learning_rate, options.betas)]
    if hidden:
        optimizers.append(_Muon(hidden, options))
    return optimizers


class _Muon(torch.optim.Muon):
    """torch's Muon, which takes matrices, over parameters of any shape: a convolution's kernel is a row an output."""

    def __init__(self, parameters, options):
        self._sources = parameters
        matrices = [nn.Parameter(parameter.data.flatten(1)) for parameter in parameters]  # the same memory
        super().__init__(
            matrices, options.learning_rate, weight_decay=options.weight_decay, adjust_lr_fn="match_rms_adamw"
        )

    def step(self, closure=None):
        for matrix, source in zip(self.param_groups[0]["params"], self._sources, strict=True):
            matrix.grad = None if source.grad is None else source.grad.flatten(1)
        return super().step(closure)

    def zero_grad(self, set_to_none=True):
        for source in self._sources:
            source.grad = None


def _learning_rate_factor(step, options):
    """Share of the peak learning rate at a step: up, along, down."""
    decay_steps = max(1.0, options.decay_share * options.steps)
    return min(1.0, (step + 1) / max(1, options.warmup_steps), (options.steps - step) / decay_steps)


def _resume(state, directory):
    found = newest_checkpoint(directory)
    if found is None:
        return 0
    step, values = found
    try:
        for name, part in state.items():
            if part is not None:
                part.load_state_dict(values[name])
    except (KeyError, RuntimeError, ValueError) as error:
        raise TrainingError(
            f"The checkpoint of step {step} in {directory} is of another model ({str(error).splitlines()[0]}); "
            "train in another folder or remove that one."
        ) from error
    return step


def _check_finite(step, values, norm):
    for name, value in {**values, "gradient norm": norm}.items():
        if not math.isfinite(value):
            raise TrainingError(
                f"At step {step} the {name} is {value}; lower the learning rate, or look at the data of that step."
            )


def _calm_worker(_):
    torch.set_num_threads(1)


class _History:
    """Means over some steps, one JSON line each; lines of steps that a resumed run does again are dropped."""

    def __init__(self, path: Path, start: int, averaged: int):
        self.path, self.averaged, self.latest = path, averaged, {}
        self._sums, self._count, self._since = {}, 0, time.monotonic()
        lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
        kept = [line for line in lines if json.loads(line)["step"] < start]
        path.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")

    def add(self, step: int, values: Mapping[str, float], learning_rate: float) -> None:
        for name, value in values.items():
            self._sums[name] = self._sums.get(name, 0.0) + value
        self._count += 1
        if (step + 1) % self.averaged:
            return
        self.latest = {name: value / self._count for name, value in self._sums.items()}
        seconds = (time.monotonic() - self._since) / self._count
        line = {"step": step, **self.latest, "learning_rate": learning_rate, "seconds_per_step": round(seconds, 4)}
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        self._sums, self._count, self._since = {}, 0, time.monotonic()
