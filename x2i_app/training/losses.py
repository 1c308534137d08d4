"""How far two attention outputs are apart, as X2I's distillation measures it.

Source: arXiv 2503.06134, section 3, and its public training code.
"""

from collections.abc import Iterator

import torch

# Added to a token's standard deviation, as in the public code.
_EPS = 1e-7

# Values that are worked on at a time: about 25 MB of float32 intermediates, however large the tensors are.
_CHUNK = 2**20


def attention_kl(teacher: torch.Tensor, student: torch.Tensor, temperature: float = 3.0) -> torch.Tensor:
    """KL(student || teacher) over the channels of every token, summed over tokens, divided by the batch size.

    teacher, student: (B, ..., C), of any floating dtype; gradient flows into the student alone.
    Each token's vector is first brought to mean 0 and standard deviation 1, then divided by `temperature`; the softmax
    over its channels is the distribution that is compared. The deviation is the unbiased one (C - 1), torch's default
    and so the public code's; against the biased one it makes the distributions flatter by a factor sqrt(1 - 1/C).

    Returns a float32 scalar (float64 for float64). The gradient is found in the same pass over rows in float32 chunks:
    differences of nearly equal distributions vanish in bfloat16. Kept for the backward pass is that gradient only, in
    the student's dtype, so the teacher's tensor may be freed at once. It is kept also inside gradient checkpointing,
    where the loss is therefore neither dropped nor computed again. No second derivative.

    Raises ValueError if the shapes differ or a token has one channel, or none.
    """
    if teacher.shape != student.shape or student.ndim < 2 or student.shape[-1] < 2:
        raise ValueError(
            f"The teacher's shape is {tuple(teacher.shape)} and the student's {tuple(student.shape)}; "
            "they must be equal, (B, ..., C), with at least 2 channels."
        )
    with torch.autograd.graph.saved_tensors_hooks(_as_it_is, _as_it_is):
        return _AttentionKL.apply(student, teacher, temperature)


def _as_it_is(tensor):
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
    """Rows (N, C) of a tensor (B, ..., C), some at a time: a view of it if it is contiguous."""
    channels = tensor.shape[-1]
    samples = max(1, _CHUNK // tensor[0].numel())
    for part in tensor.split(samples):
        yield from part.reshape(-1, channels).split(max(1, _CHUNK // channels))


def _compare(
    student: torch.Tensor, teacher: torch.Tensor, temperature: float, want_gradient: bool
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Divergence of rows (N, C), summed, and its gradient with respect to the student's."""
    normal, std = _normalise(student)
    log_p = torch.log_softmax(normal / temperature, dim=-1)
    difference = log_p - torch.log_softmax(_normalise(teacher)[0] / temperature, dim=-1)
    p = log_p.exp_()
    divergence = (p * difference).sum(dim=-1, keepdim=True)
    if not want_gradient:
        return divergence.sum(), None
    # With respect to the normalised values; it sums to zero over the channels, as a softmax's gradient does, so of the
    # normalisation's own derivative only the deviation's part is left.
    gradient = difference.sub_(divergence).mul_(p).div_(temperature)
    slope = (gradient * normal).sum(dim=-1, keepdim=True) / (student.shape[-1] - 1)
    # A token whose channels are all equal has no direction to grow in: zero instead of 0 / 0.
    radial = normal.mul_(slope / std.clamp_min(torch.finfo(std.dtype).tiny))
    return divergence.sum(), gradient.div_(std + _EPS).sub_(radial)


def _normalise(rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows with mean 0 and standard deviation 1, and the deviation that they had, (N, 1)."""
    std, mean = torch.std_mean(rows, dim=-1, keepdim=True)
    return (rows - mean).div_(std + _EPS), std
