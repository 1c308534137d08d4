"""How many bytes a computation holds at most, found by running it on the meta device, where nothing is computed."""

import weakref
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


def peak_bytes(compute: Callable[[], Any], modules: Iterable[torch.nn.Module]) -> int:
    """The most bytes of tensors alive at once while `compute` runs on the meta device, its inputs included.

    modules: whose weights are there anyway, and are not counted. Attention is counted as a fused kernel runs it, which
    never holds its matrix of tokens by tokens. What a library takes beside tensors is not seen.
    """
    with LiveBytes(modules) as live, FusedAttention():
        compute()
    return live.peak


class LiveBytes(TorchDispatchMode):
    """While it lasts, `now` and `peak` are the bytes of the storages that operations have made and nobody has freed."""

    def __init__(self, modules: Iterable[torch.nn.Module]):
        super().__init__()
        self.now = self.peak = 0
        self._known: dict[int, int] = {}
        for module in modules:
            for tensor in (*module.parameters(), *module.buffers()):
                self._known[tensor.untyped_storage()._cdata] = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        output = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(output):
            if isinstance(tensor, torch.Tensor):
                self._count(tensor.untyped_storage())
        return output

    def _count(self, storage: torch.UntypedStorage) -> None:
        if storage._cdata in self._known:
            return
        self._known[storage._cdata] = storage.nbytes()
        self.now += storage.nbytes()
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._forget, storage._cdata)

    def _forget(self, key: int) -> None:
        self.now -= self._known.pop(key)


class FusedAttention(TorchFunctionMode):
    """Attention on the meta device as FlashAttention does it: the output, and for the way back what went in."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func is scaled_dot_product_attention:
            return _Fused.apply(*args[:3]) if len(args) > 2 else _Fused.apply(*_named(args, kwargs))
        return func(*args, **(kwargs or {}))


def _named(args, kwargs):
    return (*args, *(kwargs[name] for name in ("query", "key", "value")[len(args) :]))


class _Fused(torch.autograd.Function):
    @staticmethod
    def forward(ctx, query, key, value):
        output = query.new_empty(*query.shape[:-1], value.shape[-1])
        ctx.save_for_backward(query, key, value, output)
        return output

    @staticmethod
    def backward(ctx, gradient):
        return tuple(map(torch.empty_like, ctx.saved_tensors[:3]))
