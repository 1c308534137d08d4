"""Weights of linear layers in 8 or 4 bit, by bitsandbytes, on a card and on a CPU alike.

diffusers' and transformers' own ways are not taken: the first refuses a CPU, neither knows models that are not loaded
by `from_pretrained`, and so a test without a card would test something else than what runs on one.

Sources: LLM.int8(), arXiv 2208.07339; NF4 and double quantisation, arXiv 2305.14314.
"""

from collections.abc import Iterator

import torch
from torch import nn

from x2i_app.load_lock import one_at_a_time
from x2i_app.specs import Precision

# Activations beyond this are multiplied in 16 bit, section 3.2 of LLM.int8().
_OUTLIER_THRESHOLD = 6.0
# Weights that share a scale, scales that share a scale, and the bytes of the two tables of values and of one offset.
_BLOCK, _BLOCK_OF_SCALES, _TABLES = 64, 256, 16 * 4 + 256 * 4 + 4


@one_at_a_time
def quantize(module: nn.Module, precision: Precision, device: torch.device) -> None:
    """Swap every linear layer of `module` but a language-model head for one with smaller weights, in place.

    precision: of specs.Precision; "full" changes nothing. device: that quantises, a layer at a time; 4-bit weights
    go back where they were, 8-bit ones stay there. Layers that are quantised already stay as they are. Biases, norms
    and embeddings keep their dtype.
    """
    if precision == "full":
        return
    import bitsandbytes as bnb  # seconds, which nobody else should wait for

    from x2i_app.loading.four_bit import Linear4bit

    # By name: a list of the layers themselves would keep the large weights until the last one is small.
    for parent, name in [(parent, name) for parent, name, _ in _linear_layers(module)]:
        linear = getattr(parent, name)
        home = linear.weight.device
        sizes = (linear.in_features, linear.out_features, linear.bias is not None)
        if precision == "nf4":
            with torch.device("meta"):
                small = Linear4bit(*sizes, compute_dtype=linear.weight.dtype)
            weight = bnb.nn.Params4bit(linear.weight.data, quant_type="nf4", compress_statistics=True)
        else:
            with torch.device("meta"):
                small = bnb.nn.Linear8bitLt(*sizes, has_fp16_weights=False, threshold=_OUTLIER_THRESHOLD)
            weight = bnb.nn.Int8Params(linear.weight.data, requires_grad=False, has_fp16_weights=False)
        # The first move quantises. What bitsandbytes keeps beside 8-bit weights would not go home with them.
        small.weight = weight.to(device).to(home if precision == "nf4" else device)
        small.bias = linear.bias
        setattr(parent, name, small.train(linear.training).requires_grad_(False))


def _linear_layers(module: nn.Module) -> Iterator[tuple[nn.Module, str, nn.Linear]]:
    """Every linear layer that may be quantised, with its parent and its name there."""
    for parent in module.modules():
        for name, child in parent.named_children():
            # bitsandbytes' own are subclasses. The head may be the embedding, and weighs every word of an answer.
            if type(child) is nn.Linear and name != "lm_head":
                yield parent, name, child


def stored_bytes(module: nn.Module, precision: Precision = "full") -> int:
    """Bytes of the weights and buffers of a module that is not quantised yet, once it is. Runs on the meta device."""
    whole = {tensor: tensor.nbytes for tensor in (*module.parameters(), *module.buffers())}
    if precision != "full":
        for _, _, linear in _linear_layers(module):
            whole[linear.weight] = quantized_bytes(linear, precision)
    return sum(whole.values())


def quantized_bytes(linear: nn.Linear, precision: Precision) -> int:
    """Bytes of the weight of a linear layer with its scales, without its bias."""
    count = linear.weight.numel()
    if precision == "int8":
        return count + 4 * linear.out_features
    if precision == "nf4":
        scales = -(-count // _BLOCK)
        return -(-count // 2) + scales + 4 * -(-scales // _BLOCK_OF_SCALES) + _TABLES
    return linear.weight.nbytes


def scratch_bytes(module: nn.Module, precision: Precision) -> int:
    """Bytes that a quantised module takes while it computes: of its largest 4-bit layer, made whole for a moment."""
    if precision != "nf4":
        return 0
    return max((linear.weight.nbytes for _, _, linear in _linear_layers(module)), default=0)


def held_bytes(module: nn.Module) -> int:
    """Bytes that a loaded module really holds: weights, buffers, and what bitsandbytes keeps beside them."""
    held = {id(tensor): tensor.nbytes for tensor in (*module.parameters(), *module.buffers())}
    for child in module.modules():
        for tensor in _statistics(child):
            held[id(tensor)] = tensor.nbytes
    return sum(held.values())


def _statistics(layer: nn.Module) -> list[torch.Tensor]:
    weight = getattr(layer, "weight", None)
    kept = [getattr(owner, "SCB", None) for owner in (weight, getattr(layer, "state", None))]  # 8 bit
    state = getattr(weight, "quant_state", None)  # 4 bit; on a CPU its scales are made whole at the first pass
    for part in (state, getattr(state, "state2", None)):
        kept += [getattr(part, name, None) for name in ("absmax", "code", "offset")]
    return [tensor for tensor in kept if isinstance(tensor, torch.Tensor)]


def let_statistics_follow(module: nn.Module) -> None:
    """Make what a 4-bit layer keeps beside its weight go where its input is: block-wise offload moves weights only."""
    for layer in module.modules():
        if getattr(getattr(layer, "weight", None), "quant_state", None) is not None:
            layer.register_forward_pre_hook(_follow)


def _follow(layer: nn.Module, args: tuple[torch.Tensor, ...]) -> None:
    layer.weight.quant_state.to(args[0].device)
