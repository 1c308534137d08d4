"""The memory that a step of attention distillation needs on one card, found by a step on the meta device."""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from torch import nn
from torch.utils.checkpoint import checkpoint

from x2i_app.loading.plan import GIB, OVERHEAD
from x2i_app.loading.quantization import scratch_bytes, stored_bytes
from x2i_app.loading.report import PRECISIONS, table
from x2i_app.loading.sizes import FusedAttention, LiveBytes, Parts
from x2i_app.specs import Precision
from x2i_app.training.distill import DistillationLoss, DistillOptions
from x2i_app.training.frozen import FluxParts

# Bytes for each parameter of AlignNet in float32: itself, AdamW's two moments, and its average.
_KEPT_BYTES = 4 * (1 + 2 + 1)


@dataclass(frozen=True)
class DistillPlan:
    """Bytes of a distillation step at one precision of FLUX's weights.

    weights: of the transformer. align_net: its weights, their average and the optimiser's moments. work: the peak of
    all other tensors during the step, gradients included. overhead: beside tensors.
    """

    precision: Precision
    weights: int
    align_net: int
    work: int
    overhead: int = OVERHEAD

    @property
    def needed(self) -> int:
        """Bytes that must be free."""
        return self.weights + self.align_net + self.work + self.overhead


def plan_distillation(
    parts: Parts, options: DistillOptions | None = None, gradient_checkpointing: bool = True
) -> list[DistillPlan]:
    """Plans of a step with FLUX in 16 bit and in 4 bit. parts: a skeleton, whose AlignNet and transformer are used."""
    options = options or DistillOptions()
    align_net, transformer = parts.align_net, parts.transformer
    align_net.float().requires_grad_(True)
    if gradient_checkpointing:
        transformer.enable_gradient_checkpointing(_checkpoint)
    work = _take_step(parts, options)
    kept = _KEPT_BYTES * sum(parameter.numel() for parameter in align_net.parameters())
    return [
        DistillPlan(precision, stored_bytes(transformer, precision), kept, work + scratch_bytes(transformer, precision))
        for precision in ("full", "nf4")
    ]


def show_distillation(plans: Sequence[DistillPlan]) -> str:
    """A Markdown table of the plans, in GiB."""
    rows = [
        (
            PRECISIONS[plan.precision],
            *(f"{count / GIB:.2f}" for count in (plan.weights, plan.align_net, plan.work, plan.needed)),
        )
        for plan in plans
    ]
    return table(("FLUX", "its weights", "AlignNet and optimizer", "a step", "needed"), rows)


def _take_step(parts: Parts, options: DistillOptions) -> int:
    """Peak bytes of tensors during a forward and a backward pass of the code that trains."""
    device = torch.device("meta")
    align_net, transformer = parts.align_net, parts.transformer
    count, tokens, dtype = options.batch_size, options.max_sequence_length, transformer.dtype
    sizes = transformer.config.joint_attention_dim, transformer.config.pooled_projection_dim
    states = count, align_net.config.num_states, tokens, align_net.config.hidden_size
    flux = FluxParts(transformer, parts.vae, FlowMatchEulerDiscreteScheduler())
    with LiveBytes([align_net, transformer]) as live:
        batch = {
            "prompt_embeds": torch.empty(count, tokens, sizes[0], dtype=dtype, device=device),
            "pooled": torch.empty(count, sizes[1], dtype=dtype, device=device),
            "hidden_states": torch.empty(states, dtype=dtype, device=device),
        }
        with _AllTrue():
            loss = sum(DistillationLoss(flux, options, device)(align_net, batch).values())
        loss.backward()
    return live.peak


class _AllTrue(FusedAttention):
    """Tensors on the meta device have no values: a test of one, e.g. whether all losses are finite, gives True."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func is torch.Tensor.__bool__:
            return True
        return super().__torch_function__(func, types, args, kwargs)


def _checkpoint(module: nn.Module | Callable[..., Any], *args: Any) -> Any:
    """diffusers' gradient checkpointing, with fused attention also in the second run of a block."""
    return checkpoint(module, *args, use_reentrant=False, context_fn=lambda: (nullcontext(), FusedAttention()))
