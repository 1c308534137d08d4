"""The dtype that a machine is fast in, and Muon in both dtypes."""

import pytest
import torch

from x2i_app.training import LoopOptions
from x2i_app.training.optimizers import build_optimizers


@pytest.mark.parametrize(("abilities", "fast"), [({"avx2": True}, False), ({"avx512_bf16": True}, True), ({}, False)])
def test_auto_precision(abilities, fast, monkeypatch):
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: abilities)
    assert LoopOptions(steps=1).precision("cpu") == ("bf16" if fast else "no")


@pytest.mark.parametrize("asked", ["no", "bf16"])
def test_precision_as_given(asked):
    assert LoopOptions(steps=1, mixed_precision=asked).precision("cpu") == asked


@pytest.mark.parametrize("fast", [False, True])
@pytest.mark.parametrize("shape", [(32, 16), (16, 48), (8, 4, 3, 3)])
def test_muon_equals_torchs(shape, fast, monkeypatch):
    """torch's iterates in bfloat16, of 8 bits; alike within what those leave of steps of 0.02."""
    monkeypatch.setattr("x2i_app.training.optimizers.has_fast_bfloat16", lambda device: fast)
    torch.manual_seed(0)
    layer = torch.nn.Module()
    layer.weight = torch.nn.Parameter(torch.randn(shape))
    begun = layer.weight.detach().clone()
    matrix = torch.nn.Parameter(begun.flatten(1).clone())
    (own,) = build_optimizers(layer, "muon", 0.02, 0.05, (0.9, 0.99))
    wanted = torch.optim.Muon([matrix], 0.02, weight_decay=0.05, adjust_lr_fn="match_rms_adamw")
    for _ in range(5):
        gradient = torch.randn(shape)
        layer.weight.grad, matrix.grad = gradient, gradient.flatten(1)
        own.step()
        wanted.step()
    assert (layer.weight - begun).abs().mean() > 0.01
    assert torch.allclose(layer.weight.flatten(1), matrix, atol=1e-3)
