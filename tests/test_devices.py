"""The devices of a machine, which are asked in one place: cards of Intel count as those of NVIDIA do."""

import pytest
import torch

from x2i_app.devices import CARDS, best_device, has_fast_bfloat16, return_unused_memory
from x2i_app.loading import report
from x2i_app.loading.memory import MemoryUse
from x2i_app.loading.plan import GIB


def let_there_be(monkeypatch, *kinds):
    """A machine with these devices beside its CPU; no machine has all of them."""
    for kind in ("cuda", "xpu", "mps"):
        monkeypatch.setattr(torch.get_device_module(kind), "is_available", lambda kind=kind: kind in kinds)


@pytest.mark.parametrize(
    ("kinds", "best"),
    [((), "cpu"), (("mps",), "mps"), (("xpu",), "xpu"), (("xpu", "cuda"), "cuda")],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_best_device(monkeypatch, kinds, best):
    let_there_be(monkeypatch, *kinds)
    assert best_device() == best


@pytest.mark.parametrize("card", CARDS)
def test_the_plan_asks_the_card(monkeypatch, card):
    """A plan for this machine has no more memory than the card has free, whoever made it."""
    let_there_be(monkeypatch, card)
    free = {card: 3 * GIB}
    monkeypatch.setattr(report, "memory_use", lambda device: MemoryUse(0, 0, free[device.type]))
    (plan,) = report.plan_memory("x2i-tiny", ["auto"])
    assert (plan.where, plan.available) == ("card", 3 * GIB)


@pytest.mark.parametrize("kinds", [(), ("cuda",), ("xpu",), ("mps",), CARDS])
def test_unused_memory_goes_back_to_every_device(monkeypatch, kinds):
    let_there_be(monkeypatch, *kinds)
    asked = []
    for kind in ("cuda", "xpu", "mps"):
        monkeypatch.setattr(torch.get_device_module(kind), "empty_cache", lambda kind=kind: asked.append(kind))
    return_unused_memory()
    assert asked == list(kinds)


@pytest.mark.parametrize(
    ("machine", "abilities", "fast"),
    [
        ("x86_64", {"avx2": True}, False),
        ("x86_64", {"avx512_bf16": True}, True),
        ("AMD64", {"amx_bf16": True}, True),
        ("aarch64", {"bf16": True}, True),
        ("arm64", {"bf16": False}, False),
        ("x86_64", {"bf16": True}, False),
        ("x86_64", {}, False),
    ],
)
def test_fast_bfloat16(monkeypatch, machine, abilities, fast):
    monkeypatch.setattr("platform.machine", lambda: machine)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: abilities)
    assert has_fast_bfloat16() is has_fast_bfloat16("cpu") is fast
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    assert has_fast_bfloat16("cpu") is False, "then torch has no products of matrices in it"
