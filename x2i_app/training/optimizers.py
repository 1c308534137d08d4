"""The optimizers of the training loop."""

import torch
from torch import nn

from x2i_app.devices import has_fast_bfloat16


def build_optimizers(
    model: nn.Module, name: str, learning_rate: float, weight_decay: float, betas: tuple[float, float]
) -> list[torch.optim.Optimizer]:
    """Optimizers for the parameters that require gradients. Only matrices and convolutions have weight decay.

    name: "adamw"; "adamw8bit", bitsandbytes' AdamW, whose states take 2 bytes a weight instead of 8; "prodigy", which
    finds the learning rate (Mishchenko and Defazio 2023, arXiv 2306.06101): `learning_rate` multiplies it; or "muon",
    for matrices and convolutions, with AdamW for embeddings and vectors.
    """
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    hidden = []
    if name == "muon":
        embeddings = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
        hidden = [p for p in trained if p.ndim > 1 and id(p) not in embeddings]
    taken = {id(parameter) for parameter in hidden}
    others = [parameter for parameter in trained if id(parameter) not in taken]
    groups = [
        {"params": [p for p in others if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in others if p.ndim <= 1], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    optimizers = []
    if groups:
        make = _prodigy if name == "prodigy" else _adamw(name)
        optimizers.append(make(groups, learning_rate, betas))
    if hidden:
        optimizers.append(_Muon(hidden, learning_rate, weight_decay))
    return optimizers


def _adamw(name):
    if name != "adamw8bit":
        return torch.optim.AdamW
    from bitsandbytes.optim import AdamW8bit  # takes seconds to import

    return AdamW8bit


def _prodigy(groups, learning_rate, betas):
    from prodigyopt import Prodigy

    # The options are its authors' advice for diffusion models and for a warm-up. It only raises its first estimate of
    # the learning rate: from 1e-5, a LoRA of x2i-tiny learnt nothing in its first 45 steps of 150 and ended at 1.6e-3;
    # from its own, 1e-6, in 60. 1e-4 is what public recipes for a LoRA of FLUX.1 give AdamW.
    return Prodigy(groups, learning_rate, betas, d0=1e-4, use_bias_correction=True, safeguard_warmup=True)


class _Muon(torch.optim.Optimizer):
    """Muon (Jordan et al. 2024) over parameters of any shape: a convolution is a matrix with a row for each output.

    With the step size of AdamW (Liu et al. 2025, arXiv 2502.16982), so that one learning rate fits both. torch's own
    Muon always computes in bfloat16, which took 40 times as long on a CPU without instructions for it.
    """

    _MOMENTUM = 0.95
    _COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # of the quintic that brings singular values near 1 in 5 steps

    def __init__(self, parameters, learning_rate, weight_decay):
        super().__init__(parameters, {"lr": learning_rate, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._step(parameter, group["lr"], group["weight_decay"])

    def _step(self, parameter, learning_rate, weight_decay):
        state = self.state[parameter]
        if not state:
            state["momentum_buffer"] = torch.zeros_like(parameter)
        momentum = state["momentum_buffer"].lerp_(parameter.grad, 1 - self._MOMENTUM)
        update = self._orthogonal(parameter.grad.lerp(momentum, self._MOMENTUM).flatten(1))
        parameter.mul_(1 - learning_rate * weight_decay)
        size = 0.2 * max(update.shape) ** 0.5  # the root mean square of AdamW's updates
        parameter.add_(update.view_as(parameter), alpha=-learning_rate * size)

    def _orthogonal(self, matrix):
        """The nearest matrix with singular values of about 1, by the Newton-Schulz iteration."""
        a, b, c = self._COEFFICIENTS
        wide = matrix.T if matrix.shape[0] > matrix.shape[1] else matrix
        x = wide.to(torch.bfloat16 if has_fast_bfloat16(matrix.device) else torch.float32)
        x = x / x.norm().clamp(min=1e-7)  # no singular value above 1
        for _ in range(5):
            gram = x @ x.T
            x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
        return (x.T if wide is not matrix else x).to(matrix.dtype)
