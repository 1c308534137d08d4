"""A 4-bit linear layer that means the same on a CPU as on a card, whatever its width, and stays the same.

A module of its own, as importing bitsandbytes takes seconds.
"""

from copy import copy
from typing import Any

import bitsandbytes as bnb
import torch
from bitsandbytes.functional import QuantState, dequantize_4bit
from torch.nn.functional import linear


class Linear4bit(bnb.nn.Linear4bit):
    """bitsandbytes' own, but for two things that version 0.50 does on CPUs.

    A block is so many numbers of the matrix, one row after the other. Its kernels for CPUs begin a new one with each
    row instead: where a row ends inside a block they take the wrong scales, and read past the last.

    Where a CPU has AVX512-BF16, the first pass packs the weight anew, with scales in bfloat16. Whoever asks for the
    state dict, as diffusers does to load a LoRA, has it unpacked, and scales made of those: other ones than before.
    """

    _scales: QuantState | None = None  # as they were before the weight was packed for the CPU; a few % of its bytes

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x: (..., in_features) -> (..., out_features), of x's dtype."""
        state = self.weight.quant_state
        if x.device.type != "cpu":
            return super().forward(x)
        if self.in_features % state.blocksize == 0:
            before = None if _is_packed(state) else copy(state)
            output = super().forward(x)
            if before and _is_packed(state):
                self._scales = before
            return output
        weight = _as_one_row(self.weight.data, state).to(self.compute_dtype)
        return linear(x.to(weight.dtype), weight, self.bias).to(x.dtype)

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        state = self.weight.quant_state
        if _is_packed(state):
            super()._save_to_state_dict({}, prefix, keep_vars)  # unpacks
            vars(state).update(vars(self._scales))
        super()._save_to_state_dict(destination, prefix, keep_vars)


def _is_packed(state: QuantState) -> bool:
    return getattr(state, "packing_format_for_cpu", False)


def _as_one_row(packed: torch.Tensor, state: QuantState) -> torch.Tensor:
    """The whole matrix: unpacked as a single row, its blocks are those that it was packed in."""
    flat = QuantState(
        state.absmax,
        shape=torch.Size((1, state.shape.numel())),
        code=state.code,
        blocksize=state.blocksize,
        quant_type=state.quant_type,
        dtype=state.dtype,
        offset=state.offset,
        state2=state.state2,
    )
    return dequantize_4bit(packed, flat).view(state.shape)
