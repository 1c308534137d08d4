"""Weights of linear layers in 8 or 4 bit, by bitsandbytes, on a card and on a CPU.

diffusers' and transformers' own quantization is not used: the first refuses a CPU, and both work only on models loaded
by their `from_pretrained`. So tests on a CPU run the same code as a card.

Sources: LLM.int8(), arXiv 2208.07339; NF4 and double quantization, arXiv 2305.14314.
"""

import ctypes
import logging
import sys
from collections.abc import Callable, Iterator
from copy import copy
from functools import cache
from typing import Any

import bitsandbytes as bnb
import torch
from bitsandbytes.functional import (
    QuantState,
    _convert_weight_packed_for_cpu_inverse,
    dequantize_4bit,
    get_4bit_type,
    quantize_blockwise,
)
from diffusers.quantizers.gguf.utils import GGUFLinear, GGUFParameter, dequantize_gguf_tensor
from torch import nn
from torch.nn.functional import linear

from x2i_app.load_lock import one_at_a_time
from x2i_app.specs import Precision

# Activations above this are multiplied in 16 bit, section 3.2 of LLM.int8().
_OUTLIER_THRESHOLD = 6.0
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # glibc's numbers of these options, from its malloc.h
_CPU_ROWS = 32  # a CPU's packed format groups this many rows
# NF4: weights that share a scale; scales that share a scale; bytes of the two tables of values and of one offset.
_BLOCK, _BLOCK_OF_SCALES, _TABLES = 64, 256, 16 * 4 + 256 * 4 + 4


@one_at_a_time
def quantize(
    module: nn.Module,
    precision: Precision,
    device: torch.device,
    stays: bool = False,
    watch: Callable[[int], None] | None = None,
) -> None:
    """Replace every linear layer of `module`, except a language-model head, by one with smaller weights, in place.

    precision: "full" changes nothing. device: where the layers are quantized, one at a time; 4-bit weights return to
    the device they came from, unless `stays`; 8-bit weights stay. Layers that are already quantized are kept; 4-bit
    ones that transformers loaded get the class Linear4bit. Biases, norms and embeddings keep their dtype.
    watch: called with the bytes of each weight before it is quantized; what it raises stops it.
    """
    for layer in module.modules():
        if type(layer) is bnb.nn.Linear4bit:  # of a folder that bitsandbytes quantized
            layer.__class__ = Linear4bit
    if precision == "full":
        return
    # By name: a list of the layers would keep the large weights until the last one is quantized.
    for parent, name in [(parent, name) for parent, name, _ in _linear_layers(module)]:
        if watch:
            watch(getattr(parent, name).weight.nbytes)
        quantize_layer(parent, name, precision, device, stays)


def quantize_layer(
    parent: nn.Module, name: str, precision: Precision, device: torch.device, stays: bool = False
) -> None:
    """Quantize one linear layer, `parent.name`, as `quantize` does. Its bias may still be on the meta device."""
    layer = getattr(parent, name)
    home = layer.weight.device
    sizes = (layer.in_features, layer.out_features, layer.bias is not None)
    with torch.device("meta"):
        if precision == "nf4":
            small = Linear4bit(*sizes, compute_dtype=layer.weight.dtype)
        else:
            small = Linear8bit(*sizes, has_fp16_weights=False, threshold=_OUTLIER_THRESHOLD)
    if precision == "nf4" and device.type == "cpu":
        _keep_heap_compact()
        weight = _nf4_on_cpu(layer.weight.data.to(device))
    elif precision == "nf4":
        weight = bnb.nn.Params4bit(layer.weight.data, quant_type="nf4", compress_statistics=True)
    else:
        weight = bnb.nn.Int8Params(layer.weight.data, requires_grad=False, has_fp16_weights=False)
    # bitsandbytes quantizes a weight when it is first moved to a device. The statistics of 8-bit weights would not move
    # back with them.
    small.weight = weight.to(device)
    if precision == "nf4" and not stays:
        small.weight = small.weight.to(home)
    small.bias = layer.bias
    setattr(parent, name, small.train(layer.training).requires_grad_(False))


def _nf4_on_cpu(weight: torch.Tensor) -> bnb.nn.Params4bit:
    """A weight in NF4, by bitsandbytes' 8-bit kernel, which is three times as fast on a CPU as its 4-bit code.

    The 8-bit kernel gets a table of 256 values: each of NF4's 16 values, repeated 16 times. Values halfway between two
    of NF4's may be rounded to the other one: 0.02 % of the bytes differ.
    """
    code = get_4bit_type("nf4", device=torch.device("cpu"))
    flat = weight.reshape(-1)
    numbers, scales = torch.ops.bitsandbytes.quantize_blockwise(flat, code.repeat_interleave(16), _BLOCK)
    numbers = nn.functional.pad(numbers, (0, len(numbers) % 2)) >> 4
    packed = ((numbers[::2] << 4) | numbers[1::2]).unsqueeze(1)
    offset = scales.mean()
    absmax, state2 = quantize_blockwise(scales - offset, blocksize=_BLOCK_OF_SCALES)
    given = {"shape": weight.shape, "dtype": weight.dtype, "blocksize": _BLOCK, "quant_type": "nf4"}
    state = QuantState(absmax, code=code, offset=offset, state2=state2, **given)
    return bnb.nn.Params4bit(
        packed, quant_state=state, blocksize=_BLOCK, quant_type="nf4", compress_statistics=True, bnb_quantized=True
    )


@cache
def _keep_heap_compact() -> None:
    """Let glibc give large blocks back to the system at once.

    Quantizing and repacking make and free a large block for each layer. By default glibc then keeps ever larger ones in
    its heap, which holds twice as much as the weights in the end.
    """
    if sys.platform == "linux" and (mallopt := getattr(ctypes.CDLL(None), "mallopt", None)):
        for option in (_TRIM_THRESHOLD, _MMAP_THRESHOLD):
            mallopt(option, 2**20)


def is_quantizable(layer: nn.Module, name: str) -> bool:
    """Whether a module, called `name` by its parent, is a layer that `quantize` replaces.

    bitsandbytes' and GGUF's layers are subclasses. A language-model head may share its weight with the embedding, and
    it decides every word of an answer, so it stays in full precision.
    """
    return type(layer) is nn.Linear and name != "lm_head"


def _linear_layers(module: nn.Module) -> Iterator[tuple[nn.Module, str, nn.Linear]]:
    """(parent, name, layer) of every linear layer to quantize."""
    for parent in module.modules():
        for name, child in parent.named_children():
            if is_quantizable(child, name):
                yield parent, name, child


def use_gguf_layer(parent: nn.Module, name: str, weight: GGUFParameter, dtype: torch.dtype) -> None:
    """Replace a linear layer, `parent.name`, by one that keeps its weight as in a GGUF file and expands it to run.

    dtype: to expand it to. Works on the meta device.
    """
    layer = getattr(parent, name)
    with torch.device("meta"):
        small = GGUFLinear(layer.in_features, layer.out_features, layer.bias is not None, compute_dtype=dtype)
    small.weight, small.bias = weight, layer.bias
    setattr(parent, name, small.train(layer.training).requires_grad_(False))


def copy_gguf_layers(module: nn.Module, twin: nn.Module) -> None:
    """Give `twin`, on the meta device, the same layers in GGUF's form as `module` has."""
    for name, layer in module.named_modules():
        if isinstance(layer, GGUFLinear):
            parent, _, child = name.rpartition(".")
            weight = GGUFParameter(layer.weight.as_tensor().to("meta"), quant_type=layer.weight.quant_type)
            use_gguf_layer(twin.get_submodule(parent), child, weight, layer.compute_dtype)


class Linear4bit(bnb.nn.Linear4bit):
    """bitsandbytes' 4-bit layer that works around three faults of version 0.50 on CPUs.

    A block is a run of 64 numbers of the matrix, row after row. The CPU kernels begin a new block with each row: where
    a row ends inside a block they use the wrong scales, and read past the last one.

    On a CPU with AVX512-BF16 only layers with a multiple of 32 rows can be repacked; the others raise an error. The
    vision towers of Qwen2.5-VL and MiniCPM-o have layers with 3420 and 4304 rows.

    There the first forward pass repacks the weight, with scales in bfloat16. When the state dict is read, the weight is
    unpacked and gets scales computed from the bfloat16 ones, so the original scales would be lost.
    """

    _scales: QuantState | None = None  # before the weight was repacked; a few % of its bytes

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x: (..., in_features) -> (..., out_features), in x's dtype."""
        state = self.weight.quant_state
        if x.device.type != "cpu":
            return super().forward(x)
        if self.in_features % state.blocksize == 0 and self.out_features % _CPU_ROWS == 0:
            before = None if _is_packed(state) else copy(state)
            output = super().forward(x)
            if before and _is_packed(state):
                self._scales = before
            return output
        weight = dequantize_flat(self.weight.data, state).to(self.compute_dtype)
        return linear(x.to(weight.dtype), weight, self.bias).to(x.dtype)

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        state = self.weight.quant_state
        if _is_packed(state):
            super()._save_to_state_dict({}, prefix, keep_vars)  # unpacks
            vars(state).update(vars(self._scales))
        super()._save_to_state_dict(destination, prefix, keep_vars)


def _is_packed(state: QuantState) -> bool:
    return getattr(state, "packing_format_for_cpu", False)


def dequantize_flat(packed: torch.Tensor, state: QuantState) -> torch.Tensor:
    """The matrix (out, in) of a 4-bit weight. It is expanded as one row, so its blocks are those it was quantized in.

    packed: bytes with two numbers each, as bitsandbytes stores them. state: of these bytes.
    """
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


def dense_weight(layer: nn.Linear) -> torch.Tensor:
    """The weight (out, in) of a linear layer, quantized or not, in float32 on its device; the layer is not changed."""
    weight = layer.weight
    if isinstance(layer, GGUFLinear):
        return dequantize_gguf_tensor(weight).float()
    if (state := getattr(weight, "quant_state", None)) is not None:
        packed = weight.data
        if _is_packed(state):
            packed, state = _convert_weight_packed_for_cpu_inverse(packed, copy(state))
        return dequantize_flat(packed, state).float()
    if weight.dtype == torch.int8:
        scales = weight.SCB if weight.SCB is not None else layer.state.SCB  # the first pass moves them
        return weight.data.float() * scales.float().to(weight.device)[:, None] / 127
    return weight.data.float()


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


def linear_bytes(module: nn.Module) -> int:
    """Bytes of the weights that `quantize` would replace."""
    return sum(layer.weight.nbytes for _, _, layer in _linear_layers(module))


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


def let_statistics_follow(module: nn.Module) -> None:
    """Move the scales of every 4-bit layer to its input before it runs: block-wise offload moves weights only."""
    for layer in module.modules():
        if getattr(getattr(layer, "weight", None), "quant_state", None) is not None:
            layer.register_forward_pre_hook(_follow)


def _follow(layer: nn.Module, args: tuple[torch.Tensor, ...]) -> None:
    layer.weight.quant_state.to(args[0].device)
