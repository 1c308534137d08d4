"""One training loop for everything that this project trains: resumable, with averaged weights and a live history.

A batch is a function of its number, and so are the random numbers within a step. So a checkpoint needs no position in
the data and no state of a generator, a resumed run equals an uninterrupted one, and N processes do what one process
does that accumulates N batches: at step s, process r of N takes the batches (s * accumulate + a) * N + r.
"""

import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from accelerate import Accelerator, PartialState
from accelerate.state import AcceleratorState
from accelerate.tracking import get_available_trackers
from accelerate.utils import gather_object, parse_flag_from_env, send_to_device
from diffusers.training_utils import EMAModel
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Dataset
from tqdm.auto import tqdm

from x2i_app.devices import has_fast_bfloat16
from x2i_app.errors import InvalidRequestError, TrainingError
from x2i_app.limits import MAX_SEED, Range, clean_numbers, show_value
from x2i_app.training.checkpoints import (
    check_disk_for_checkpoints,
    newest_checkpoint,
    prune_checkpoints,
    save_checkpoint,
    written_to,
)
from x2i_app.training.optimizers import build_optimizers
from x2i_app.training.reports import History, describe_run

ComputeLoss = Callable[[nn.Module, Any], Mapping[str, torch.Tensor]]
# What it returns is shown by name: numbers in the history, images in TensorBoard and other trackers.
Evaluate = Callable[[nn.Module, int], "Mapping[str, float | Image.Image] | None"]

_INTEGERS = {
    "steps": Range(1, 1e9),
    "warmup_steps": Range(0, 1e9),
    "checkpoint_every": Range(1, 1e9),
    "keep": Range(1, 1e6),
    "accumulate": Range(1, 1e6),
    "evaluate_every": Range(0, 1e9),
    "workers": Range(0, 256),
    "seed": Range(0, MAX_SEED),
}
_TIMED_STEPS = 3  # after the first one, which is slower
_NUMBERS = {
    "learning_rate": Range(0, 1e3),
    "decay_share": Range(0, 1),
    "weight_decay": Range(0, 1e3),
    "max_grad_norm": Range(0, 1e9),
    "ema_decay": Range(0, 1),
}


@dataclass(frozen=True)
class LoopOptions:
    """How to train."""

    steps: int | None
    """optimizer steps of the whole run; none, only for a LoRA: from the number of images"""
    learning_rate: float | None = 1e-3
    """peak learning rate; none, only for a LoRA: the optimizer prodigy finds it"""
    warmup_steps: int = 100
    """steps over which the learning rate rises to its peak"""
    # A straight line to zero: a run whose steps are raised before it continues as if it had always been longer.
    decay_share: float = 0.4
    """share of the steps, the last ones, over which the learning rate falls to 0"""
    decay: Literal["linear", "cosine"] = "linear"
    """how it falls"""
    # Muon (with AdamW's step size) needs far fewer steps, and leaves embeddings and vectors to AdamW.
    optimizer: Literal["adamw", "adamw8bit", "muon", "prodigy"] = "adamw"
    """adamw8bit saves memory; muon needs fewer steps for matrices and convolutions; prodigy finds the learning rate"""
    weight_decay: float = 0.01
    """weight decay of matrices and convolutions"""
    betas: tuple[float, float] = (0.9, 0.99)
    """betas of AdamW"""
    accumulate: int = 1
    """batches for each step and device, whose gradients are averaged: each multiplies the samples of a step"""
    max_grad_norm: float = 1.0
    """the norm that gradients are clipped to; 0: no clipping"""
    ema_decay: float | None = 0.999
    """decay of the averaged weights, which are the result; none: no average"""
    mixed_precision: Literal["auto", "no", "bf16"] = "auto"
    """bf16, no (32 bit), or auto: bf16 if the machine has instructions for it"""
    checkpoint_every: int = 250
    """steps between checkpoints"""
    keep: int = 2
    """how many checkpoints are kept, the newest ones"""
    workers: int = 1
    """processes that prepare batches"""
    evaluate_every: int | None = 0
    """steps between sheets of sample images; 0: none; none, only for a LoRA: a tenth of the steps"""
    tensorboard: bool = False
    """write TensorBoard files to the folder logs"""
    trackers: tuple[str, ...] = ()
    """further programs that accelerate reports to, such as wandb or trackio, if they are installed"""
    seed: int = 0
    """seed of everything random"""

    def __post_init__(self):
        """Raises InvalidRequestError for a value that is not allowed."""
        clean_numbers(self, _INTEGERS, _NUMBERS)
        known = [str(tracker) for tracker in get_available_trackers()]
        for name in self.trackers:
            if name not in known:
                raise InvalidRequestError(
                    f"trackers has {show_value(name)}, which is not installed; install it, or choose of "
                    f"{', '.join(known) or 'none'}."
                )

    def precision(self, device: torch.device | str) -> Literal["no", "bf16"]:
        """`mixed_precision` on a device, as accelerate names it."""
        if self.mixed_precision == "auto":
            return "bf16" if has_fast_bfloat16(device) else "no"
        return self.mixed_precision

    def learning_rate_at(self, step: int) -> float:
        """Rises over the warm-up steps, the first of which is not 0; stays at the peak; falls to 0 after the last."""
        warmup = (step + 1) / max(1, self.warmup_steps)
        decay = (self.steps - step) / max(1.0, self.decay_share * self.steps)
        if self.decay == "cosine":
            decay = (1 - math.cos(math.pi * min(1.0, decay))) / 2
        return self.learning_rate * min(1.0, warmup, decay)


def training_device() -> torch.device:
    """The device that accelerate gives this process. The first call also connects processes that were launched."""
    # accelerate connects them without a GPU only if it is told to use the CPU. Else each would train by itself, in the
    # folder of the others. The first call in a process decides.
    on_cpu = parse_flag_from_env("ACCELERATE_USE_CPU") or not torch.accelerator.is_available()
    return PartialState(cpu=on_cpu).device


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

    data: data[number] is a whole batch; in one process that does not accumulate, the batch of the step of that number.
    compute_loss(model, batch): named scalar terms, each a mean over the batch, on the model's device; their sum is
    minimized. stop_at: leave earlier, with a checkpoint, as if interrupted. evaluate(model, steps done): called every
    `options.evaluate_every` steps and at the end, in every process, with the averaged weights in `model`.
    At the end `model` has the averaged weights, and `directory` holds history.jsonl and loss.png.

    Raises TrainingError naming step and term where a loss is not finite, and where the disk is full.
    """
    if options.steps is None or options.learning_rate is None:
        raise InvalidRequestError(f"steps or learning_rate is none; write both for the training of {title}.")
    with written_to(directory):
        directory.mkdir(parents=True, exist_ok=True)

    # 1. The model on its device, optimizers, averaged weights; all of them as in the newest checkpoint.
    accelerator = _accelerator(directory, options)
    model.to(accelerator.device)  # before the optimizers see its weights
    optimizers = build_optimizers(model, options.optimizer, options.learning_rate, options.weight_decay, options.betas)
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    ema = None
    if options.ema_decay:
        ema = EMAModel(parameters, options.ema_decay, use_ema_warmup=True, power=0.75)
    state = {"model": model, "ema": ema} | {type(each).__name__: each for each in optimizers}
    start, last = _resume(state, directory), min(options.steps, stop_at or options.steps)
    # Only the forward pass needs accelerate's wrapper; checkpoints keep the names of the plain module.
    wrapped, *optimizers = accelerator.prepare(model, *optimizers)
    wrapped.train()

    if start < last:
        check_disk_for_checkpoints(directory, sum(parameter.nbytes for parameter in parameters), options.keep)

    # 2. The batches of this process, and the history.
    numbers = _batch_numbers(accelerator, options, start, last)
    batches = zip(numbers, _load(data, numbers, options.workers), strict=True)
    history = History(directory, start, options.steps, title) if accelerator.is_main_process else None
    if accelerator.log_with:
        with written_to(directory):
            accelerator.init_trackers(title)
    began = None

    steps = tqdm(
        range(start, last),
        desc=title,
        initial=start,
        total=options.steps,
        dynamic_ncols=True,
        mininterval=1.0,
        disable=not accelerator.is_main_process,
    )
    for step in steps:
        # 3. Gradients of the loss
        terms, samples = _add_gradients(accelerator, wrapped, compute_loss, batches, options)
        # A gradient's norm is finite only if every gradient is.
        norm = accelerator.clip_grad_norm_(parameters, options.max_grad_norm or math.inf)
        terms = _mean_over_processes(accelerator, step, terms, norm)

        # 4. Update
        learning_rate = options.learning_rate_at(step)
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = learning_rate
            optimizer.step()
            optimizer.zero_grad()
        if ema:
            ema.step(parameters)

        # 5. History, and after the first steps what the run is and how long it will take
        counted = samples * accelerator.num_processes
        if history and step == start:
            began, timed = time.monotonic(), 0
        elif began and history:
            timed += counted
            if step == min(start + _TIMED_STEPS, last - 1):
                speed = timed / max(time.monotonic() - began, 1e-9)
                tqdm.write(
                    describe_run(title, data, options, accelerator.num_processes, counted, speed, start), sys.stderr
                )
        if history and history.add(step, terms, learning_rate, counted):
            steps.set_postfix(history.summary, refresh=False)
            accelerator.log(history.latest, step=step)

        # 6. Checkpoint
        done = step + 1
        if done % options.checkpoint_every == 0 or done == last:
            if accelerator.is_main_process:
                save_checkpoint(directory, done, state, _about(title, options, accelerator, model))
                prune_checkpoints(directory, options.keep, newest=done)
                history.plot_sometimes()
            accelerator.wait_for_everyone()

        # 7. Evaluation
        if evaluate and (done == options.steps or (options.evaluate_every and done % options.evaluate_every == 0)):
            with _averaged(ema, parameters), torch.no_grad(), written_to(directory):
                shown = evaluate(model.eval(), done) or {}
            _show(accelerator, history, shown, done)
            wrapped.train()

    # 8. The averaged weights stay in the model.
    if last == options.steps:
        if history:
            history.plot()
        if ema:
            ema.copy_to(parameters)
    for tracker in accelerator.trackers:  # accelerator.end_training would also end the group of processes
        tracker.finish()
    accelerator.free_memory()
    model.eval()


def _accelerator(directory: Path, options: LoopOptions) -> Accelerator:
    # accelerate keeps the precision of a process' first run for all later ones, unless its state is reset.
    AcceleratorState._reset_state()
    accelerator = Accelerator(
        mixed_precision=options.precision(training_device()),
        log_with=[*(("tensorboard",) if options.tensorboard else ()), *options.trackers] or None,
        project_dir=directory / "logs",
    )
    if accelerator.distributed_type in ("FSDP", "DEEPSPEED", "MEGATRON_LM"):
        raise TrainingError(
            f"accelerate is set to {accelerator.distributed_type}, but what is trained here is small and needs a whole "
            "copy in every process; launch it as MULTI_GPU and shard the frozen FLUX model with `shard: true`."
        )
    return accelerator


def _resume(state: Mapping[str, Any], directory: Path) -> int:
    """Load the newest checkpoint; the first step to do."""
    found = newest_checkpoint(directory)
    if found is None:
        return 0
    step, values = found
    try:
        for name, component in state.items():
            if component is not None:
                component.load_state_dict(values[name])
    except (KeyError, RuntimeError, ValueError) as error:
        raise TrainingError(
            f"The checkpoint of step {step} in {directory} is of another model ({str(error).splitlines()[0]}); "
            "train in another folder or remove that one."
        ) from error
    return step


def _batch_numbers(accelerator: Accelerator, options: LoopOptions, start: int, last: int) -> range:
    """Of the batches of this process, in order."""
    processes, parts = accelerator.num_processes, options.accumulate
    first = accelerator.process_index
    return range(start * parts * processes + first, last * parts * processes, processes)


def _load(data: Dataset, numbers: range, workers: int) -> DataLoader:
    return DataLoader(
        data,
        batch_size=None,
        sampler=numbers,
        num_workers=workers,
        prefetch_factor=4 if workers else None,
        worker_init_fn=_use_one_thread,
    )


def _use_one_thread(_: int) -> None:
    torch.set_num_threads(1)


def _add_gradients(
    accelerator: Accelerator,
    model: nn.Module,
    compute_loss: ComputeLoss,
    batches: Iterator[tuple[int, Any]],
    options: LoopOptions,
) -> tuple[dict[str, torch.Tensor], int]:
    """Gradients of this process' batches of one step; the terms of their mean loss, and how many samples they had."""
    sums: dict[str, torch.Tensor] = {}
    samples, parts = 0, options.accumulate
    for part in range(parts):
        number, batch = next(batches)
        batch = send_to_device(batch, accelerator.device)
        samples += _count_samples(batch)
        torch.manual_seed(options.seed * 1_000_003 + number)
        # Processes exchange their gradients once a step, with the last part.
        with accelerator.no_sync(model) if part < parts - 1 else nullcontext():
            with accelerator.autocast():
                terms = compute_loss(model, batch)
            accelerator.backward(sum(terms.values()) / parts)
        for name, term in terms.items():
            sums[name] = sums.get(name, 0) + term.detach() / parts
    return sums, samples


def _show(accelerator: Accelerator, history: History | None, shown: Mapping[str, Any], step: int) -> None:
    """What an evaluation returned: numbers in the history, and all of it in the trackers."""
    numbers = {name: value for name, value in shown.items() if isinstance(value, float)}
    images = {name: np.asarray(value)[None] for name, value in shown.items() if isinstance(value, Image.Image)}
    if history and numbers:
        history.note(step, numbers)
        accelerator.log(numbers, step=step)
    for tracker in accelerator.trackers:
        if images and hasattr(tracker, "log_images"):
            tracker.log_images(images, step=step, **({"dataformats": "NHWC"} if tracker.name == "tensorboard" else {}))


def _count_samples(batch: Any) -> int:
    """Size of a batch: that of its first tensor, if it has one; of a list of groups, their sum."""
    if isinstance(batch, list) and batch and all(isinstance(group, Mapping) for group in batch):
        return sum(map(_count_samples, batch))
    values = batch.values() if isinstance(batch, Mapping) else batch if isinstance(batch, (list, tuple)) else [batch]
    return next((len(value) for value in values if isinstance(value, torch.Tensor) and value.ndim), 1)


def _mean_over_processes(
    accelerator: Accelerator, step: int, terms: Mapping[str, torch.Tensor], norm: torch.Tensor | float
) -> dict[str, float]:
    """The terms' values. Raises TrainingError in all processes if one of them has a value that is not finite."""
    found = torch.stack([*(term.float() for term in terms.values()), torch.as_tensor(norm).float()])
    values = dict(zip([*terms, "gradient norm"], found.tolist(), strict=True))
    wrong = [f"{name} is {value}" for name, value in values.items() if not math.isfinite(value)][:1]
    if accelerator.num_processes > 1:
        # A process that left by itself would let the others wait; and only the one with the loss knows its name.
        count = accelerator.reduce(torch.tensor(len(wrong), device=accelerator.device), "sum")
        wrong = sorted(gather_object(wrong), key=lambda text: text.startswith("gradient norm")) if count else []
    if wrong:
        raise TrainingError(
            f"At step {step} the {wrong[0]}; lower the learning rate, or look at the data of that step."
        )
    if accelerator.num_processes > 1:
        found = accelerator.reduce(found, "mean")
    return dict(zip(terms, found.tolist(), strict=False))


@contextmanager
def _averaged(ema: EMAModel | None, parameters: list[nn.Parameter]) -> Iterator[None]:
    """The averaged weights in place of the model's own."""
    if ema is None:
        yield
        return
    ema.store(parameters)
    try:
        ema.copy_to(parameters)
        yield
    finally:
        ema.restore(parameters)


def _about(title: str, options: LoopOptions, accelerator: Accelerator, model: nn.Module) -> dict[str, Any]:
    """What the manifest of a checkpoint says for people who find it."""
    return {
        "title": title,
        "options": asdict(options),
        "processes": accelerator.num_processes,
        "torch": torch.__version__,
        "weights": {name: list(value.shape) for name, value in model.state_dict().items()},
    }
