"""How to train, whatever is trained."""

from dataclasses import dataclass
from typing import Literal

import torch

from x2i_app.limits import MAX_SEED, Range, validate_integer, validate_number
from x2i_app.training.options import option
from x2i_app.training.precision import has_fast_bfloat16

_WHOLE = {
    "steps": Range(1, 1e9),
    "warmup_steps": Range(0, 1e9),
    "checkpoint_every": Range(1, 1e9),
    "keep": Range(1, 1e6),
    "accumulate": Range(1, 1e6),
    "evaluate_every": Range(0, 1e9),
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


@dataclass(frozen=True)
class LoopOptions:
    """How to train. Raises InvalidRequestError for a value that is not allowed."""

    steps: int = option(help="optimiser steps in all")
    learning_rate: float = option(1e-3, help="its peak")
    warmup_steps: int = option(100, help="until the learning rate has its peak")
    # A straight line to zero: a run whose steps are raised before it goes on as if it had always been longer.
    decay_share: float = option(0.4, help="share of the steps, the last ones, over which the learning rate falls to 0")
    # Muon (with AdamW's step size) needs far fewer steps, and leaves embeddings and vectors to AdamW.
    optimizer: Literal["adamw", "adamw8bit", "muon"] = option(
        "adamw", help="adamw8bit saves memory, muon learns matrices and convolutions in fewer steps"
    )
    weight_decay: float = option(0.01, help="of matrices and convolutions only")
    betas: tuple[float, float] = option((0.9, 0.99), help="AdamW's")
    accumulate: int = option(1, help="batches a step and process, whose gradients are averaged")
    max_grad_norm: float = option(1.0, help="gradients are clipped to it; 0: they are not")
    ema_decay: float | None = option(0.999, help="of the averaged weights that come out; none: no average")
    mixed_precision: Literal["auto", "no", "bf16"] = option(
        "auto", help="bf16, no (32 bit), or auto: bf16 where the machine has instructions for it"
    )
    checkpoint_every: int = option(250, help="steps between checkpoints")
    keep: int = option(2, help="newest checkpoints that stay")
    workers: int = option(1, help="processes that make batches")
    evaluate_every: int = option(0, help="steps between pictures, for what can draw some; 0: none")
    tensorboard: bool = option(False, help="write TensorBoard's files into the folder logs")
    seed: int = option(0, help="of everything random")

    def __post_init__(self):
        for name, allowed in _WHOLE.items():
            validate_integer(name, getattr(self, name), allowed)
        for name, allowed in _REAL.items():
            if (value := getattr(self, name)) is not None:
                validate_number(name, value, allowed)

    def precision(self, device: torch.device | str) -> Literal["no", "bf16"]:
        """`mixed_precision` on a device, as accelerate names it."""
        if self.mixed_precision == "auto":
            return "bf16" if has_fast_bfloat16(device) else "no"
        return self.mixed_precision
