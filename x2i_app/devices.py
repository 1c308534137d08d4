"""The devices that torch computes on: which is the fastest, what they can, and how their memory is given back."""

import gc
import platform

import torch

# Devices that report their free memory and that bitsandbytes computes on.
CARDS = ("cuda", "xpu")
_FASTEST_FIRST = (*CARDS, "mps", "cpu")


def is_available(kind: str) -> bool:
    """Whether this machine has such a device, of CARDS, mps or cpu, and torch was built for it."""
    return kind == "cpu" or torch.get_device_module(kind).is_available()


def best_device() -> str:
    """The fastest device of this machine."""
    return next(filter(is_available, _FASTEST_FIRST))


def has_fast_bfloat16(device: torch.device | str = "cpu") -> bool:
    """Whether a matrix product on `device` is at least as fast in bfloat16 as in float32.

    A CPU without instructions for bfloat16 (AVX512-BF16, AMX, or an Arm's) converts each number: on an AMD EPYC with
    AVX2 that took 40 times as long.
    """
    kind = torch.device(device).type
    if kind in CARDS:
        return torch.get_device_module(kind).is_bf16_supported(including_emulation=False)
    if kind != "cpu" or not torch.backends.mkldnn.is_available():
        return False
    if not hasattr(torch.cpu, "get_capabilities"):  # before torch 2.10; float32 always works
        return False
    abilities = torch.cpu.get_capabilities()
    names = ("bf16",) if platform.machine().lower() in ("arm64", "aarch64") else ("avx512_bf16", "amx_bf16")
    return any(abilities.get(name, False) for name in names)


def return_unused_memory() -> None:
    """Give back to the devices what tensors had that nothing refers to any more."""
    gc.collect()  # modules and hooks refer to each other
    for kind in filter(is_available, _FASTEST_FIRST):
        if kind != "cpu":
            torch.get_device_module(kind).empty_cache()
