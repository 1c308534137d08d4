"""What a LoRA adds to the output of a layer, for each way in which trainers write a change of a weight.

The weights of the model stay as they are, so a change works on 4-bit and 8-bit layers too and leaves no trace.

Sources: LoRA, arXiv 2106.09685; LoHa, arXiv 2108.06098; LoKr, arXiv 2309.14859; DoRA, arXiv 2402.09353.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace

import torch
from torch import nn
from torch.nn.functional import linear, rms_norm

# Rows of a matrix, or numbers of a bias, as slices in the order that they are wanted in.
Rows = tuple[slice, ...]


def take(tensor: torch.Tensor, rows: Rows, dim: int = 0) -> torch.Tensor:
    """These rows of a tensor along `dim`: a view if they are one slice."""
    parts = [tensor.movedim(dim, 0)[each] for each in rows]
    return (parts[0] if len(parts) == 1 else torch.cat(parts)).movedim(0, dim)


@dataclass(frozen=True)
class Change:
    """A change of one layer. Tensors are float32 on the CPU when read; `to` moves and casts them."""

    @property
    def example(self) -> torch.Tensor:
        """One of its tensors; all have the same device and dtype."""
        first = getattr(self, fields(self)[0].name)
        return first.example if isinstance(first, Change) else first

    def to(self, device: torch.device, dtype: torch.dtype | None = None) -> "Change":
        """The same change with its tensors on a device."""
        if device == self.example.device and dtype in (None, self.example.dtype):
            return self
        moved = {
            each.name: value.to(device, dtype)
            for each in fields(self)
            if isinstance(value := getattr(self, each.name), torch.Tensor | Change)
        }
        return replace(self, **moved)

    def rows(self, rows: Rows) -> "Change":
        """The change of a layer that has only these rows of the matrix."""
        raise NotImplementedError

    def added(self, layer: nn.Module, x: torch.Tensor, output: torch.Tensor) -> torch.Tensor:
        """What is added to `output`, which the layer made of x (..., in)."""
        raise NotImplementedError


@dataclass(frozen=True)
class MatrixChange(Change):
    """A change of a linear layer's matrix (out, in)."""

    def matrix(self) -> torch.Tensor:
        """The matrix (out, in) that is added to the weight."""
        raise NotImplementedError

    def multiply(self, x: torch.Tensor) -> torch.Tensor:
        """x (..., in) times the matrix: (..., out)."""
        return linear(x, self.matrix())

    def added(self, layer: nn.Module, x: torch.Tensor, output: torch.Tensor) -> torch.Tensor:
        """As in Change."""
        return self.multiply(x)


@dataclass(frozen=True)
class LowRank(MatrixChange):
    """LoRA: up @ down. down: (rank, in). up: (out, rank), with the scale in it."""

    down: torch.Tensor
    up: torch.Tensor

    def matrix(self) -> torch.Tensor:
        """As in MatrixChange."""
        return self.up @ self.down

    def multiply(self, x: torch.Tensor) -> torch.Tensor:
        """As in MatrixChange, without making the matrix."""
        return linear(linear(x, self.down), self.up)

    def rows(self, rows: Rows) -> "LowRank":
        """As in Change."""
        return LowRank(self.down, take(self.up, rows))


@dataclass(frozen=True)
class Hadamard(MatrixChange):
    """LoHa: (up @ down) * (other_up @ other_down), element by element. The scale is in `up`."""

    up: torch.Tensor
    down: torch.Tensor
    other_up: torch.Tensor
    other_down: torch.Tensor

    def matrix(self) -> torch.Tensor:
        """As in MatrixChange."""
        return (self.up @ self.down) * (self.other_up @ self.other_down)

    def rows(self, rows: Rows) -> "Hadamard":
        """As in Change."""
        return replace(self, up=take(self.up, rows), other_up=take(self.other_up, rows))


@dataclass(frozen=True)
class Kronecker(MatrixChange):
    """LoKr: the Kronecker product of first (a, b), with the scale in it, and second (c, d), of a * c rows.

    chosen: those of its rows that the layer has; None is all.
    """

    first: torch.Tensor
    second: torch.Tensor
    chosen: Rows | None = None

    def matrix(self) -> torch.Tensor:
        """As in MatrixChange."""
        product = torch.kron(self.first, self.second)
        return product if self.chosen is None else take(product, self.chosen)

    def multiply(self, x: torch.Tensor) -> torch.Tensor:
        """As in MatrixChange, without making the matrix."""
        blocks = x.unflatten(-1, (self.first.shape[1], self.second.shape[1]))
        product = torch.matmul(self.first, linear(blocks, self.second)).flatten(-2)
        return product if self.chosen is None else take(product, self.chosen, dim=-1)

    def rows(self, rows: Rows) -> "Kronecker":
        """As in Change."""
        return replace(self, chosen=rows)


@dataclass(frozen=True)
class Difference(MatrixChange):
    """The whole difference (out, in) of a matrix."""

    difference: torch.Tensor

    def matrix(self) -> torch.Tensor:
        """As in MatrixChange."""
        return self.difference

    def rows(self, rows: Rows) -> "Difference":
        """As in Change."""
        return Difference(take(self.difference, rows))


@dataclass(frozen=True)
class BiasDifference(Change):
    """The difference (out,) of a bias."""

    difference: torch.Tensor

    def added(self, layer: nn.Module, x: torch.Tensor, output: torch.Tensor) -> torch.Tensor:
        """As in Change."""
        return self.difference

    def rows(self, rows: Rows) -> "BiasDifference":
        """As in Change."""
        return BiasDifference(take(self.difference, rows))


@dataclass(frozen=True)
class NormDifference(Change):
    """The difference (channels,) of an RMSNorm's weight."""

    difference: torch.Tensor

    def added(self, layer: nn.Module, x: torch.Tensor, output: torch.Tensor) -> torch.Tensor:
        """As in Change. An RMSNorm is linear in its weight."""
        return rms_norm(x, self.difference.shape, self.difference, layer.eps)

    def rows(self, rows: Rows) -> "NormDifference":
        """As in Change."""
        return NormDifference(take(self.difference, rows))


@dataclass(frozen=True)
class RowMagnitude(Change):
    """DoRA: (weight + change), of which each row is then multiplied by 1 + gain (out,)."""

    change: MatrixChange
    gain: torch.Tensor

    def added(self, layer: nn.Module, x: torch.Tensor, output: torch.Tensor) -> torch.Tensor:
        """As in Change."""
        whole = output if layer.bias is None else output - layer.bias
        return self.gain * whole + (1 + self.gain) * self.change.multiply(x)


@dataclass(frozen=True)
class ColumnMagnitude(Change):
    """DoRA along the other axis, as OneTrainer does by default: each column is multiplied by 1 + gain (in,)."""

    change: MatrixChange
    gain: torch.Tensor

    def added(self, layer: nn.Module, x: torch.Tensor, output: torch.Tensor) -> torch.Tensor:
        """As in Change."""
        whole = layer.forward(x * self.gain)  # not layer(...), which would add the change again
        whole = whole if layer.bias is None else whole - layer.bias
        return whole + self.change.multiply(x * (1 + self.gain))


def with_magnitude(
    change: MatrixChange, magnitude: torch.Tensor, weight: torch.Tensor, split: Callable[[Change], list[Change]]
) -> list[Change]:
    """DoRA's change for each of the layers that have the rows of `weight` (out, in), float32.

    magnitude: (out,) or (out, 1), the length of each row; (1, in), that of each column. split: divides a change among
    the layers.
    """
    changed = weight + change.matrix().to(weight.device)
    if magnitude.ndim == 2 and magnitude.shape[0] == 1 != len(weight):
        lengths = changed.norm(dim=0).clamp_min(torch.finfo(torch.float32).tiny)
        gain = magnitude.to(weight.device).flatten() / lengths - 1
        return [ColumnMagnitude(part, gain) for part in split(change)]
    lengths = changed.norm(dim=1).clamp_min(torch.finfo(torch.float32).tiny)
    gain = magnitude.to(weight.device).flatten() / lengths - 1
    gains = split(BiasDifference(gain))
    return [RowMagnitude(part, each.difference) for part, each in zip(split(change), gains, strict=True)]
