"""How to train, whatever is trained."""

from dataclasses import dataclass
from typing import Literal

import torch

from x2i_app.limits import MAX_SEED, Range, validate_integer, validate_number
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

    steps: int
    """optimiser steps in all"""
    learning_rate: float = 1e-3
    """its peak"""
    warmup_steps: int = 100
    """until the learning rate has its peak"""
    # A straight line to zero: a run whose steps are raised before it goes on as if it had always been longer.
    decay_share: float = 0.4
    """share of the steps, the last ones, over which the learning rate falls to 0"""
    # Muon (with AdamW's step size) needs far fewer steps, and leaves embeddings and vectors to AdamW.
    optimizer: Literal["adamw", "adamw8bit", "muon"] = "adamw"
    """adamw8bit saves memory, muon learns matrices and convolutions in fewer steps"""
    weight_decay: float = 0.01
    """of matrices and convolutions only"""
    betas: tuple[float, float] = (0.9, 0.99)
    """AdamW's"""
    accumulate: int = 1
    """batches a step and process, whose gradients are averaged"""
    max_grad_norm: float = 1.0
    """gradients are clipped to it; 0: they are not"""
    ema_decay: float | None = 0.999
    """of the averaged weights that come out; none: no average"""
    mixed_precision: Literal["auto", "no", "bf16"] = "auto"
    """bf16, no (32 bit), or auto: bf16 where the machine has instructions for it"""
    checkpoint_every: int = 250
    """steps between checkpoints"""
    keep: int = 2
    """newest checkpoints that stay"""
    workers: int = 1
    """processes that make batches"""
    evaluate_every: int = 0
    """steps between pictures, for what can draw some; 0: none"""
    tensorboard: bool = False
    """write TensorBoard's files into the folder logs"""
    seed: int = 0
    """of everything random"""

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
