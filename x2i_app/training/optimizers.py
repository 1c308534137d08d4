"""The optimisers of the training loop."""

import torch
from torch import nn


def build_optimizers(
    model: nn.Module, name: str, learning_rate: float, weight_decay: float, betas: tuple[float, float]
) -> list[torch.optim.Optimizer]:
    """Over what `model` trains. Matrices and convolutions decay; gains and biases do not.

    name: "adamw"; "adamw8bit", bitsandbytes', whose states take 2 bytes a weight instead of 8; or "muon", torch's for
    matrices and convolutions, with AdamW for embeddings and vectors.
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
        optimizers.append(_adamw(name)(groups, learning_rate, betas))
    if hidden:
        optimizers.append(_Muon(hidden, learning_rate, weight_decay))
    return optimizers


def _adamw(name):
    if name != "adamw8bit":
        return torch.optim.AdamW
    from bitsandbytes.optim import AdamW8bit  # heavy, and only for who asks for it

    return AdamW8bit


class _Muon(torch.optim.Muon):
    """torch's Muon, which takes matrices, over parameters of any shape: a convolution's kernel is a row an output."""

    def __init__(self, parameters, learning_rate, weight_decay):
        self._sources = parameters
        matrices = [nn.Parameter(parameter.data.flatten(1)) for parameter in parameters]  # the same memory
        super().__init__(matrices, learning_rate, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw")

    def step(self, closure=None):
        for matrix, source in zip(self.param_groups[0]["params"], self._sources, strict=True):
            matrix.grad = None if source.grad is None else source.grad.flatten(1)
        return super().step(closure)

    def zero_grad(self, set_to_none=True):
        for source in self._sources:
            source.grad = None
