"""The memory that a step of training needs on one card, found by a step on the meta device."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import FlowMatchEulerDiscreteScheduler, FluxTransformer2DModel
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

    weights: of the transformer. align_net: its weights, their average and the optimizer's moments. work: the peak of
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


# ----- A LoRA and a LightControl --------------------------------------------------------------------------------------

_CARDS = (8, 12, 16, 24, 32, 48, 80)  # GiB
_PRECISIONS: tuple[Precision, ...] = ("full", "int8", "nf4")
# Bytes for each trained number beside the float32 one: two moments, and prodigy's two sums.
_OPTIMIZER_BYTES = {"adamw": 8, "adamw8bit": 2, "muon": 4, "prodigy": 16}
_CONDITIONING_TOKENS = 512  # that FLUX reads of a caption, at most


@dataclass(frozen=True)
class ImagePlan:
    """Bytes of a step of `train lora` or `train light-control` at one precision and resolution.

    weights: of FLUX, and what is trained with it. kept: the optimizer's states. work: the peak of all other tensors.
    before: while captions are read by the MLLM and AlignNet, which leave the card before FLUX comes.
    """

    precision: Precision
    resolution: int
    weights: int
    kept: int
    work: int
    before: int

    @property
    def needed(self) -> int:
        """Bytes that must be free, for the largest of both."""
        return max(self.weights + self.kept + self.work, self.before) + OVERHEAD

    @property
    def card(self) -> int | None:
        """GiB of the smallest common card that is enough, with a tenth of it for the screen and other programs."""
        return next((size for size in _CARDS if self.needed <= 0.9 * size * GIB), None)


def plan_images(
    parts: Parts,
    add_trained: Callable[
        [FluxTransformer2DModel], tuple[nn.Module, Callable[[Mapping[str, torch.Tensor]], torch.Tensor]]
    ],
    batch_size: int,
    resolutions: Sequence[int],
    optimizer: str,
    gradient_checkpointing: bool = True,
) -> list[ImagePlan]:
    """Plans for FLUX in 16, 8 and 4 bit. parts: a skeleton, whose transformer gets what is trained.

    add_trained: the trained module, which is in or beside the transformer, and the loss of a batch.
    """
    transformer = parts.transformer.requires_grad_(False)
    stored = {precision: stored_bytes(transformer, precision) for precision in _PRECISIONS}
    scratch = {precision: scratch_bytes(transformer, precision) for precision in _PRECISIONS}
    before = {p: stored_bytes(parts.mllm, p) + stored_bytes(parts.align_net) for p in _PRECISIONS}
    if gradient_checkpointing:
        transformer.enable_gradient_checkpointing(_checkpoint)
    trained, loss = add_trained(transformer)
    count = sum(parameter.numel() for parameter in trained.parameters() if parameter.requires_grad)
    plans = []
    for resolution in resolutions:
        work = _image_step(parts, trained, loss, batch_size, resolution)
        for precision in _PRECISIONS:
            kept = count * (4 + _OPTIMIZER_BYTES[optimizer])
            plans.append(
                ImagePlan(precision, resolution, stored[precision], kept, work + scratch[precision], before[precision])
            )
    return plans


def show_images(plans: Sequence[ImagePlan]) -> str:
    """A Markdown table of the plans, in GiB."""
    rows = [
        (
            PRECISIONS[plan.precision],
            f"{plan.resolution} x {plan.resolution}",
            *(f"{count / GIB:.2f}" for count in (plan.before, plan.weights, plan.kept, plan.work, plan.needed)),
            f"{plan.card} GB" if plan.card else "none",
        )
        for plan in plans
    ]
    names = ("FLUX", "images", "MLLM, before", "FLUX's weights", "trained", "a step", "needed", "smallest card")
    return table(names, rows)


def _image_step(parts: Parts, trained: nn.Module, loss: Callable, batch_size: int, resolution: int) -> int:
    """Peak bytes of tensors, gradients included, during a forward and a backward pass."""
    transformer, device = parts.transformer, torch.device("meta")
    sizes = transformer.config.joint_attention_dim, transformer.config.pooled_projection_dim
    side, channels = resolution // 8, transformer.config.in_channels // 4
    with LiveBytes([transformer, trained]) as live:
        batch = {
            "latents": torch.empty(batch_size, channels, side, side, device=device),
            "prompt_embeds": torch.empty(batch_size, _CONDITIONING_TOKENS, sizes[0], device=device),
            "pooled": torch.empty(batch_size, sizes[1], device=device),
            "source": torch.empty(batch_size, 3, resolution, resolution, device=device),
        }
        with _AllTrue():
            value = loss(batch)
        value.backward()
    peak = live.peak
    for parameter in trained.parameters():
        parameter.grad = None
    return peak
