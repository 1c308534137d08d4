"""Weights of linear layers in 8 or 4 bit, by bitsandbytes, on a card and on a CPU.

diffusers' and transformers' own quantization is not used: the first refuses a CPU, and both work only on models loaded
by their `from_pretrained`. So tests on a CPU run the same code as a card.

Sources: LLM.int8(), arXiv 2208.07339; NF4 and double quantization, arXiv 2305.14314.
"""

import logging
from collections.abc import Iterator
from copy import copy
from typing import Any

import bitsandbytes as bnb
import torch
from bitsandbytes.functional import QuantState, dequantize_4bit
from torch import nn
from torch.nn.functional import linear

from x2i_app.load_lock import one_at_a_time
from x2i_app.specs import Precision

# Activations above this are multiplied in 16 bit, section 3.2 of LLM.int8().
_OUTLIER_THRESHOLD = 6.0
# NF4: weights that share a scale; scales that share a scale; bytes of the two tables of values and of one offset.
_BLOCK, _BLOCK_OF_SCALES, _TABLES = 64, 256, 16 * 4 + 256 * 4 + 4


@one_at_a_time
def quantize(module: nn.Module, precision: Precision, device: torch.device) -> None:
    """Replace every linear layer of `module`, except a language-model head, by one with smaller weights, in place.

    precision: "full" changes nothing. device: where the layers are quantized, one at a time; 4-bit weights return to
    the device they came from, 8-bit weights stay. Quantized layers stay as they are. Biases, norms and embeddings keep
    their dtype.
    """
    if precision == "full":
        return
    # By name: a list of the layers would keep the large weights until the last one is quantized.
    for parent, name in [(parent, name) for parent, name, _ in _linear_layers(module)]:
        layer = getattr(parent, name)
        home = layer.weight.device
        sizes = (layer.in_features, layer.out_features, layer.bias is not None)
        with torch.device("meta"):
            if precision == "nf4":
                small = Linear4bit(*sizes, compute_dtype=layer.weight.dtype)
            else:
                small = Linear8bit(*sizes, has_fp16_weights=False, threshold=_OUTLIER_THRESHOLD)
        if precision == "nf4":
            weight = bnb.nn.Params4bit(layer.weight.data, quant_type="nf4", compress_statistics=True)
        else:
            weight = bnb.nn.Int8Params(layer.weight.data, requires_grad=False, has_fp16_weights=False)
        # The first move quantizes. The statistics of 8-bit weights would not move back with them.
        small.weight = weight.to(device).to(home if precision == "nf4" else device)
        small.bias = layer.bias
        setattr(parent, name, small.train(layer.training).requires_grad_(False))


def _linear_layers(module: nn.Module) -> Iterator[tuple[nn.Module, str, nn.Linear]]:
    """(parent, name, layer) of every linear layer to quantize."""
    for parent in module.modules():
        for name, child in parent.named_children():
            # bitsandbytes' layers are subclasses. The head may share its weight with the embedding, and it decides
            # every word of an answer, so it stays in full precision.
            if type(child) is nn.Linear and name != "lm_head":
                yield parent, name, child


class Linear4bit(bnb.nn.Linear4bit):
    """bitsandbytes' 4-bit layer without two faults of version 0.50 on CPUs.

    A block is a run of 64 numbers of the matrix, row after row. The CPU kernels begin a new block with each row: where
    a row ends inside a block they use the wrong scales, and read past the last one.

    On a CPU with AVX512-BF16 the first forward pass repacks the weight, with scales in bfloat16. When the state dict is
    read, as diffusers does to load a LoRA, the weight is unpacked and gets scales made from those, not the first ones.
    """

    _scales: QuantState | None = None  # before the weight was repacked; a few % of its bytes

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x: (..., in_features) -> (..., out_features), in x's dtype."""
        state = self.weight.quant_state
        if x.device.type != "cpu":
            return super().forward(x)
        if self.in_features % state.blocksize == 0:
            before = None if _is_packed(state) else copy(state)
            output = super().forward(x)
            if before and _is_packed(state):
                self._scales = before
            return output
        weight = _dequantize(self.weight.data, state).to(self.compute_dtype)
        return linear(x.to(weight.dtype), weight, self.bias).to(x.dtype)

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        state = self.weight.quant_state
        if _is_packed(state):
            super()._save_to_state_dict({}, prefix, keep_vars)  # unpacks
            vars(state).update(vars(self._scales))
        super()._save_to_state_dict(destination, prefix, keep_vars)


def _is_packed(state: QuantState) -> bool:
    return getattr(state, "packing_format_for_cpu", False)


def _dequantize(packed: torch.Tensor, state: QuantState) -> torch.Tensor:
    """The whole matrix. It is unpacked as a single row, so that its blocks are those it was quantized in."""
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


class Linear8bit(bnb.nn.Linear8bitLt):
    """bitsandbytes' 8-bit layer, without its log message in every pass that inputs are cast to float16."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x: (..., in_features) -> (..., out_features), in x's dtype."""
        _kernel_logger.addFilter(_is_no_cast_message)
        try:
            return super().forward(x)
        finally:
            _kernel_logger.removeFilter(_is_no_cast_message)


_kernel_logger = logging.getLogger("bitsandbytes.autograd._functions")


def _is_no_cast_message(record: logging.LogRecord) -> bool:
    return "inputs will be cast" not in str(record.msg)


# ----- Bytes ---------------------------------------------------------------------------------------------------------


def stored_bytes(module: nn.Module, precision: Precision = "full") -> int:
    """Bytes that the weights and buffers of a module will have once quantized. Works on the meta device."""
    whole = {tensor: tensor.nbytes for tensor in (*module.parameters(), *module.buffers())}
    if precision != "full":
        for _, _, layer in _linear_layers(module):
            whole[layer.weight] = quantized_bytes(layer, precision)
    return sum(whole.values())


def quantized_bytes(layer: nn.Linear, precision: Precision) -> int:
    """Bytes that the weight of a linear layer will have with its scales, without its bias."""
    count = layer.weight.numel()
    if precision == "int8":
        return count + 4 * layer.out_features
    if precision == "nf4":
        scales = -(-count // _BLOCK)
        return -(-count // 2) + scales + 4 * -(-scales // _BLOCK_OF_SCALES) + _TABLES
    return layer.weight.nbytes


def scratch_bytes(module: nn.Module, precision: Precision) -> int:
    """Bytes that a quantized module needs while it runs: its largest 4-bit layer, dequantized for a moment."""
    if precision != "nf4":
        return 0
    return max((layer.weight.nbytes for _, _, layer in _linear_layers(module)), default=0)


def held_bytes(module: nn.Module) -> int:
    """Bytes that a loaded module holds: weights, buffers, and the scales that bitsandbytes keeps beside them."""
    held = {id(tensor): tensor.nbytes for tensor in (*module.parameters(), *module.buffers())}
    for child in module.modules():
        for tensor in _statistics(child):
            held[id(tensor)] = tensor.nbytes
    return sum(held.values())


def _statistics(layer: nn.Module) -> list[torch.Tensor]:
    weight = getattr(layer, "weight", None)
    kept = [getattr(owner, "SCB", None) for owner in (weight, getattr(layer, "state", None))]  # 8 bit
    state = getattr(weight, "quant_state", None)  # 4 bit; on a CPU the first pass makes its scales whole
    for part in (state, getattr(state, "state2", None)):
        kept += [getattr(part, name, None) for name in ("absmax", "code", "offset")]
    return [tensor for tensor in kept if isinstance(tensor, torch.Tensor)]


def let_statistics_follow(module: nn.Module) -> None:
    """Move the scales of every 4-bit layer to its input before it runs: block-wise offload moves weights only."""
    for layer in module.modules():
        if getattr(getattr(layer, "weight", None), "quant_state", None) is not None:
            layer.register_forward_pre_hook(_follow)


def _follow(layer: nn.Module, args: tuple[torch.Tensor, ...]) -> None:
    layer.weight.quant_state.to(args[0].device)
