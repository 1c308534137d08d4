"""A 4-bit linear layer that means the same on a CPU as on a card, whatever its width.

A module of its own, as importing bitsandbytes takes seconds.
"""

import bitsandbytes as bnb
import torch
from bitsandbytes.functional import QuantState, dequantize_4bit
from torch.nn.functional import linear


class Linear4bit(bnb.nn.Linear4bit):
    """bitsandbytes' own, but on a CPU for rows that are no whole number of blocks.

    A block is so many numbers of the matrix, one row after the other. bitsandbytes 0.50's kernels for CPUs begin a new
    one with each row instead: where a row ends inside a block they take the wrong scales, and read past the last.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x: (..., in_features) -> (..., out_features), of x's dtype."""
        state = self.weight.quant_state
        if x.device.type != "cpu" or self.in_features % state.blocksize == 0:
            return super().forward(x)
        weight = _as_one_row(self.weight.data, state).to(self.compute_dtype)
        return linear(x.to(weight.dtype), weight, self.bias).to(x.dtype)


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
