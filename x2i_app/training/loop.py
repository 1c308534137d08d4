"""One training loop for everything that this project trains: resumable, with averaged weights, seen while it runs.

A batch is a function of its number, and so is the randomness inside a step. That is why a checkpoint needs neither a
place in the data nor the state of a generator, why a resumed run equals an uninterrupted one, and why N processes do
what one does that accumulates N batches: of step s, process r of N takes the batches (s * accumulate + a) * N + r.
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import gather_object, send_to_device
from diffusers.training_utils import EMAModel
from torch import nn
from torch.utils.data import DataLoader, Dataset
from tqdm.auto import tqdm

from x2i_app.errors import TrainingError
from x2i_app.training.checkpoints import newest_checkpoint, prune_checkpoints, save_checkpoint, written_to
from x2i_app.training.history import History
from x2i_app.training.loop_options import LoopOptions
from x2i_app.training.optimizers import build_optimizers
from x2i_app.training.plots import plot_losses
from x2i_app.training.precision import training_device

ComputeLoss = Callable[[nn.Module, Any], Mapping[str, torch.Tensor]]
Evaluate = Callable[[nn.Module, int], None]

_AVERAGED = 25  # steps that one point of the history averages over, fewer in a short run
_PLOT_SECONDS = 30  # drawing takes as long as some steps of a small model


def train(
    model: nn.Module,
    data: Dataset,
    compute_loss: ComputeLoss,
    directory: Path,
    options: LoopOptions,
    *,
    title: str,
    stop_at: int | None = None,
    evaluate: Evaluate | None = None,
) -> None:
    """Train `model` in place up to `options.steps`, from the newest complete checkpoint in `directory` if there is one.

    data: data[number] is a whole batch; in one process that does not accumulate, of the step of that number.
    compute_loss(model, batch): named scalar terms, each a mean over the batch, whose tensors are on the model's device;
    their sum is minimised. stop_at: leave earlier, with a checkpoint, as if interrupted. evaluate(model, steps done):
    called every `options.evaluate_every` steps and at the end, in every process, with the averaged weights in `model`.
    At the end those are in `model`, and `directory` holds history.jsonl and loss.png.

    Raises TrainingError naming step and term where a loss is not finite, and where the disk is full.
    """
    with written_to(directory):
        directory.mkdir(parents=True, exist_ok=True)
    run = _Run(model, directory, options, title)
    last = min(options.steps, stop_at or options.steps)
    batches = _batches(data, run, last)
    bar = tqdm(
        range(run.start, last),
        desc=title,
        initial=run.start,
        total=options.steps,
        dynamic_ncols=True,
        mininterval=1.0,
        disable=not run.is_main,
    )
    for step in bar:
        run.do_step(step, batches, compute_loss)
        bar.set_postfix(run.told, refresh=False)
        done = step + 1
        if done % options.checkpoint_every == 0 or done == last:
            run.save(done)
        due = options.evaluate_every and done % options.evaluate_every == 0
        if evaluate and (due or done == options.steps):
            run.evaluate(evaluate, done)
    run.finish(averaged=last == options.steps)


class _Run:
    """A model with all that it is trained with, in one of the processes that train it."""

    def __init__(self, model: nn.Module, directory: Path, options: LoopOptions, title: str):
        self.model, self.directory, self.options, self.title = model, directory, options, title
        # accelerate keeps the precision of a process' first run for all later ones, unless it is made to forget it.
        AcceleratorState._reset_state()
        self.accelerator = Accelerator(
            mixed_precision=options.precision(training_device()),
            log_with="tensorboard" if options.tensorboard else None,
            project_dir=directory / "logs" if options.tensorboard else None,
        )
        _refuse_fsdp(self.accelerator)
        self.is_main = self.accelerator.is_main_process
        model.to(self.accelerator.device)  # before the optimisers see its weights
        optimizers = build_optimizers(
            model, options.optimizer, options.learning_rate, options.weight_decay, options.betas
        )
        self.parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self.ema = None
        if options.ema_decay:
            self.ema = EMAModel(self.parameters, options.ema_decay, use_ema_warmup=True, power=0.75)
        self.state = {"model": model, "ema": self.ema} | {type(part).__name__: part for part in optimizers}
        self.start = _resume(self.state, directory)
        # Only the forward pass needs accelerate's wrapping; checkpoints keep the plain module's names.
        self.wrapped, *self.optimizers = self.accelerator.prepare(model, *optimizers)
        self.wrapped.train()
        self.history = None
        if self.is_main:
            averaged = min(_AVERAGED, max(1, options.steps // 10))
            self.history = History(directory / "history.jsonl", self.start, averaged)
        if options.tensorboard:
            with written_to(directory):
                self.accelerator.init_trackers(title)
        self.told: dict[str, str] = {}
        self._next_plot = time.monotonic() + _PLOT_SECONDS

    def numbers(self, last: int) -> range:
        """Of the batches of this process, in order."""
        processes, parts = self.accelerator.num_processes, self.options.accumulate
        first = self.accelerator.process_index
        return range(self.start * parts * processes + first, last * parts * processes, processes)

    def do_step(self, step: int, batches: Iterator[tuple[int, Any]], compute_loss: ComputeLoss) -> None:
        """Gradients of this step's batches, and the optimisers' step."""
        parts, count, samples = self.options.accumulate, 0, 0
        sums: dict[str, torch.Tensor] = {}
        for _ in range(parts):
            number, batch = next(batches)
            batch = send_to_device(batch, self.accelerator.device)
            count, samples = count + 1, samples + _count_samples(batch)
            torch.manual_seed(self.options.seed * 1_000_003 + number)
            # Processes exchange their gradients once a step.
            with self.accelerator.no_sync(self.wrapped) if count < parts else nullcontext():
                with self.accelerator.autocast():
                    terms = compute_loss(self.wrapped, batch)
                self.accelerator.backward(sum(terms.values()) / parts)
            for name, term in terms.items():
                sums[name] = sums.get(name, 0) + term.detach() / parts
        # A gradient's norm is finite only if every gradient is, so one look covers both.
        norm = self.accelerator.clip_grad_norm_(self.parameters, self.options.max_grad_norm or math.inf)
        values = self._values(step, sums, norm)
        learning_rate = self.options.learning_rate * _learning_rate_factor(step, self.options)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = learning_rate
            optimizer.step()
            optimizer.zero_grad()
        if self.ema:
            self.ema.step(self.parameters)
        self._tell(step, values, learning_rate, samples * self.accelerator.num_processes)

    def save(self, done: int) -> None:
        """A checkpoint and the picture of the losses, by the main process."""
        if self.is_main:
            about = {
                "title": self.title,
                "options": asdict(self.options),
                "processes": self.accelerator.num_processes,
                "torch": torch.__version__,
                "weights": {name: list(value.shape) for name, value in self.model.state_dict().items()},
            }
            save_checkpoint(self.directory, done, self.state, about)
            prune_checkpoints(self.directory, self.options.keep, newest=done)
            if time.monotonic() > self._next_plot:
                self._plot()
        self.accelerator.wait_for_everyone()

    def evaluate(self, evaluate: Evaluate, done: int) -> None:
        """With the averaged weights in the model for as long as it takes."""
        if self.ema:
            self.ema.store(self.parameters)
            self.ema.copy_to(self.parameters)
        self.model.eval()
        with torch.no_grad(), written_to(self.directory):
            evaluate(self.model, done)
        self.wrapped.train()
        if self.ema:
            self.ema.restore(self.parameters)

    def finish(self, averaged: bool) -> None:
        """averaged: it is the end, and leaves the averaged weights in the model."""
        if self.is_main and averaged:
            self._plot()
        for tracker in self.accelerator.trackers:  # end_training would also part the processes
            tracker.finish()
        self.accelerator.free_memory()
        if self.ema and averaged:
            self.ema.copy_to(self.parameters)
        self.model.eval()

    def _plot(self) -> None:
        with written_to(self.directory):
            plot_losses(self.directory / "history.jsonl", self.directory / "loss.png", self.title)
        self._next_plot = time.monotonic() + _PLOT_SECONDS

    def _values(self, step: int, terms: Mapping[str, torch.Tensor], norm: torch.Tensor | float) -> dict[str, float]:
        """Means over the processes. Raises TrainingError in all of them if one of them has one that is not finite."""
        found = torch.stack([*(term.float() for term in terms.values()), torch.as_tensor(norm).float()])
        self._check_finite(step, dict(zip([*terms, "gradient norm"], found.tolist(), strict=True)))
        if self.accelerator.num_processes > 1:
            found = self.accelerator.reduce(found, "mean")
        return dict(zip(terms, found.tolist(), strict=False))

    def _check_finite(self, step: int, values: Mapping[str, float]) -> None:
        wrong = [f"{name} is {value}" for name, value in values.items() if not math.isfinite(value)][:1]
        if self.accelerator.num_processes > 1:
            # Whoever left alone would let the others wait for it; and only the one whose loss it is knows its name.
            count = self.accelerator.reduce(torch.tensor(len(wrong), device=self.accelerator.device), "sum")
            wrong = sorted(gather_object(wrong), key=lambda words: words.startswith("gradient norm")) if count else []
        if wrong:
            raise TrainingError(
                f"At step {step} the {wrong[0]}; lower the learning rate, or look at the data of that step."
            )

    def _tell(self, step: int, values: dict[str, float], learning_rate: float, samples: int) -> None:
        if self.history is None or not self.history.add(step, values, learning_rate, samples):
            return
        speed = self.history.samples_per_second
        self.told = {name: f"{value:.4f}" for name, value in self.history.latest.items()}
        self.told["samples/s"] = f"{speed:.3g}"
        self.accelerator.log({**self.history.latest, "learning_rate": learning_rate, "samples/s": speed}, step=step)


def _batches(data: Dataset, run: _Run, last: int) -> Iterator[tuple[int, Any]]:
    """This process' batches with their numbers."""
    workers = run.options.workers
    loader = DataLoader(
        data,
        batch_size=None,
        sampler=run.numbers(last),
        num_workers=workers,
        prefetch_factor=4 if workers else None,
        worker_init_fn=_calm_worker,
    )
    return zip(run.numbers(last), loader, strict=True)


def _count_samples(batch: Any) -> int:
    """Rows of a batch: of its first tensor, if it has one."""
    values = batch.values() if isinstance(batch, Mapping) else batch if isinstance(batch, (list, tuple)) else [batch]
    return next((len(value) for value in values if isinstance(value, torch.Tensor) and value.ndim), 1)


def _refuse_fsdp(accelerator: Accelerator) -> None:
    if accelerator.distributed_type in ("FSDP", "DEEPSPEED", "MEGATRON_LM"):
        raise TrainingError(
            f"accelerate is set to {accelerator.distributed_type}, but what is trained here is small and wants a whole "
            "copy in every process; launch it as MULTI_GPU and shard the frozen FLUX model with `shard: true`."
        )


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


def _calm_worker(_):
    torch.set_num_threads(1)
