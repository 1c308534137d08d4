"""Parts of the losses: the distance between two attention outputs, and flow matching.

`distill.py` adds up the distances of all layers and weighs the terms.

Source of both: arXiv 2503.06134, sections 3 and 3.3, and its public training code.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from math import exp
from typing import Any, Literal

import torch
from diffusers import FluxPipeline, FluxTransformer2DModel, attention_backend
from diffusers.pipelines.flux.pipeline_flux import calculate_shift

Stream = Literal["image", "text"]
Receive = Callable[[str, Stream, torch.Tensor], None]
Residuals = Callable[[torch.Tensor], Sequence[torch.Tensor]]

# Added to a token's standard deviation, as in the public code.
_EPS = 1e-7

# How many values are processed at once: about 25 MB of float32 intermediates, however large the tensors are.
_CHUNK = 2**20

# diffusers' own values for a scheduler's configuration that has none.
_SHIFT = {"base_image_seq_len": 256, "max_image_seq_len": 4096, "base_shift": 0.5, "max_shift": 1.15}


@contextmanager
def tap_attention(
    transformer: FluxTransformer2DModel, receive: Receive, streams: Sequence[Stream] = ("image",)
) -> Iterator[None]:
    """Call `receive(name, stream, tensor)` for every attention output as it appears, while the context lasts.

    name: module and stream, e.g. "transformer_blocks.0.attn/image" or "single_transformer_blocks.3.attn/text".
    tensor: (B, tokens, C), part of the running graph. A double block has an image and a text stream; the output of a
    single block, text first, is split at the text's length. streams: which to receive, image before text.
    """
    text_length = 0

    def measure(_, args, kwargs):
        nonlocal text_length
        text = kwargs["encoder_hidden_states"] if "encoder_hidden_states" in kwargs else args[1]
        text_length = text.shape[1]

    def report(name: str, image: torch.Tensor, text: torch.Tensor) -> None:
        parts = {"image": image, "text": text}
        for stream in ("image", "text"):
            if stream in streams:
                receive(f"{name}/{stream}", stream, parts[stream])

    def on_double(name: str):
        return lambda _, args, output: report(name, output[0], output[1])

    def on_single(name: str):
        return lambda _, args, output: report(name, output[:, text_length:], output[:, :text_length])

    with ExitStack() as hooks:
        hooks.callback(transformer.register_forward_pre_hook(measure, with_kwargs=True).remove)
        for kind, make in (("transformer_blocks", on_double), ("single_transformer_blocks", on_single)):
            for index, block in enumerate(getattr(transformer, kind)):
                hooks.callback(block.attn.register_forward_hook(make(f"{kind}.{index}.attn")).remove)
        yield


def attention_kl(teacher: torch.Tensor, student: torch.Tensor, temperature: float = 3.0) -> torch.Tensor:
    """KL(student || teacher) over the channels of every token, summed over tokens, divided by the batch size.

    teacher, student: (B, ..., C), of any floating dtype; only the student gets a gradient.
    Each token's vector is normalized to mean 0 and standard deviation 1 and divided by `temperature`; the softmax over
    its channels is the distribution that is compared. The deviation is the unbiased one (C - 1), torch's default and
    so the public code's. Compared with dividing by C it makes the distributions flatter by a factor sqrt(1 - 1/C).

    Returns a float32 scalar (float64 for float64). The same pass computes the gradient, over rows in float32 chunks,
    because differences of nearly equal distributions vanish in bfloat16. Only that gradient is kept for the backward
    pass, in the student's dtype, so the teacher's tensor can be freed at once. It is also kept inside gradient
    checkpointing, where the loss is neither dropped nor computed again. There is no second derivative.

    Raises ValueError if the shapes differ or a token has fewer than 2 channels.
    """
    if teacher.shape != student.shape or student.ndim < 2 or student.shape[-1] < 2:
        raise ValueError(
            f"The teacher's shape is {tuple(teacher.shape)} and the student's {tuple(student.shape)}; "
            "they must be equal, (B, ..., C), with at least 2 channels."
        )
    with torch.autograd.graph.saved_tensors_hooks(_unchanged, _unchanged):
        return _AttentionKL.apply(student, teacher, temperature)


def _unchanged(tensor):
    return tensor


class _AttentionKL(torch.autograd.Function):
    @staticmethod
    def forward(ctx, student, teacher, temperature):
        dtype = torch.promote_types(student.dtype, torch.float32)
        loss = torch.zeros((), dtype=dtype, device=student.device)
        gradient = torch.empty_like(student, memory_format=torch.contiguous_format) if student.requires_grad else None
        kept = _chunks(gradient) if student.requires_grad else iter(lambda: None, 0)
        for ours, theirs, place in zip(_chunks(student), _chunks(teacher), kept, strict=False):
            divergence, slope = _compare(ours.to(dtype), theirs.to(dtype), temperature, place is not None)
            loss += divergence
            if place is not None:
                place.copy_(slope.div_(len(student)))
        ctx.save_for_backward(gradient)
        return loss / len(student)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad_output):
        (gradient,) = ctx.saved_tensors
        return gradient * grad_output.to(gradient.dtype), None, None


def _chunks(tensor: torch.Tensor) -> Iterator[torch.Tensor]:
    """The rows (N, C) of a tensor (B, ..., C) in chunks, which are views if it is contiguous."""
    channels = tensor.shape[-1]
    samples = max(1, _CHUNK // tensor[0].numel())
    for part in tensor.split(samples):
        yield from part.reshape(-1, channels).split(max(1, _CHUNK // channels))


def _compare(
    student: torch.Tensor, teacher: torch.Tensor, temperature: float, want_gradient: bool
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Sum of the divergences of rows (N, C), and its gradient with respect to the student's rows."""
    normal, std = _normalize(student)
    log_p = torch.log_softmax(normal / temperature, dim=-1)
    difference = log_p - torch.log_softmax(_normalize(teacher)[0] / temperature, dim=-1)
    p = log_p.exp_()
    divergence = (p * difference).sum(dim=-1, keepdim=True)
    if not want_gradient:
        return divergence.sum(), None
    # `gradient` is the derivative by the normalized values. It sums to zero over the channels, as a softmax's gradient
    # does; so only the deviation's part of the normalization's derivative remains.
    gradient = difference.sub_(divergence).mul_(p).div_(temperature)
    slope = (gradient * normal).sum(dim=-1, keepdim=True) / (student.shape[-1] - 1)
    # If all channels of a token are equal, the deviation is 0: zero instead of 0 / 0.
    radial = normal.mul_(slope / std.clamp_min(torch.finfo(std.dtype).tiny))
    return divergence.sum(), gradient.div_(std + _EPS).sub_(radial)


def _normalize(rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows with mean 0 and standard deviation 1, and the deviation that they had before, (N, 1)."""
    std, mean = torch.std_mean(rows, dim=-1, keepdim=True)
    return (rows - mean).div_(std + _EPS), std


@dataclass(frozen=True)
class FlowMatching:
    """The flow-matching loss of latents: a transformer predicts the velocity from them to noise.

    scheduler_config: of the pipeline; the noise levels are shifted as it says. noise_bias: added to the normally
    distributed logit of a noise level before that shift; above 0 there is more noise. guidance_scale: for transformers
    that take one.
    """

    transformer: FluxTransformer2DModel
    scheduler_config: dict[str, Any]
    noise_bias: float = 0.0
    guidance_scale: float = 3.5

    def __call__(
        self,
        latents: torch.Tensor,
        prompt_embeds: torch.Tensor,
        pooled: torch.Tensor,
        residuals: Residuals | None = None,
        weights: torch.Tensor | None = None,
        reference: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Mean squared error of the velocity, at logit-normal noise levels.

        latents: (B, C, H, W). prompt_embeds: (B, S, joint). pooled: (B, pooled). residuals: timesteps (B,) in 0..1000
        -> the residuals to add after each double block. weights: (B, 1, H, W), how much each error counts; None: alike.
        reference: (B, C, H, W), latents of the image that a FLUX.1 Kontext keeps to; it is read and not predicted.
        """
        count, channels, height, width = latents.shape
        device = latents.device
        tokens = FluxPipeline._pack_latents(latents, count, channels, height, width)
        noise = torch.randn_like(tokens)
        sigmas = torch.sigmoid(self.noise_bias + torch.randn(count, 1, 1, device=device))
        sigmas = shift_sigmas(sigmas, tokens.shape[1], self.scheduler_config)
        guidance = None
        if self.transformer.config.guidance_embeds:
            guidance = torch.full((count,), self.guidance_scale, device=device)
        dtype = self.transformer.dtype
        read = (1 - sigmas) * tokens + sigmas * noise
        img_ids = FluxPipeline._prepare_latent_image_ids(count, height // 2, width // 2, device, dtype)
        if reference is not None:  # as FluxKontextPipeline has it: further tokens, with a 1 on the first axis
            rows, columns = reference.shape[2:]
            read = torch.cat((read, FluxPipeline._pack_latents(reference, count, channels, rows, columns)), dim=1)
            places = FluxPipeline._prepare_latent_image_ids(count, rows // 2, columns // 2, device, dtype)
            places[:, 0] = 1
            img_ids = torch.cat((img_ids, places))
        with self._attention():
            velocity = self.transformer(
                hidden_states=read.to(dtype),
                encoder_hidden_states=prompt_embeds.to(dtype),
                pooled_projections=pooled.to(dtype),
                timestep=sigmas.flatten().to(dtype),
                guidance=guidance,
                img_ids=img_ids,
                txt_ids=torch.zeros(prompt_embeds.shape[1], 3, device=device, dtype=dtype),
                controlnet_block_samples=residuals and residuals(1000 * sigmas.flatten()),
                return_dict=False,
            )[0][:, : tokens.shape[1]]
        error = (velocity.float() - (noise - tokens)).square()
        if weights is None:
            return error.mean()
        weights = FluxPipeline._pack_latents(weights.expand_as(latents), count, channels, height, width)
        return (weights * error).sum() / weights.sum()

    def _attention(self) -> AbstractContextManager[None]:
        """On a CPU, plain matrix products: the backward pass of fused attention takes several times as long.

        Checkpointed blocks are computed again during the backward pass, outside of this context, so they stay fused.
        """
        is_plain = self.transformer.device.type == "cpu" and not self.transformer.is_gradient_checkpointing
        return attention_backend("_native_math") if is_plain else nullcontext()


def mean_over_groups(
    batch: Mapping[str, torch.Tensor] | Sequence[Mapping[str, torch.Tensor]],
    loss: Callable[[Mapping[str, torch.Tensor]], torch.Tensor],
) -> torch.Tensor:
    """The mean loss over all samples of a batch, which is a group of samples of one shape or a list of groups."""
    groups = [batch] if isinstance(batch, Mapping) else batch
    sizes = [len(group["latents"]) for group in groups]
    return sum(loss(group) * (size / sum(sizes)) for group, size in zip(groups, sizes, strict=True))


def flow_shift(scheduler_config: Mapping[str, Any], tokens: int) -> float:
    """FluxPipeline's mu for an image of this many tokens; exp(mu) is the factor that moves its noise levels up."""
    return calculate_shift(tokens, *(scheduler_config.get(name, default) for name, default in _SHIFT.items()))


def shift_sigmas(sigmas: torch.Tensor, tokens: int, scheduler_config: Mapping[str, Any]) -> torch.Tensor:
    """Noise levels, 0 to 1, shifted as the scheduler shifts them for drawing."""
    if scheduler_config.get("use_dynamic_shifting"):
        shift = exp(flow_shift(scheduler_config, tokens))
    else:
        shift = scheduler_config.get("shift", 1.0)
    return shift * sigmas / (1 + (shift - 1) * sigmas)
