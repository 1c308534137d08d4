"""Whether this machine computes in bfloat16, or only pretends to."""

import platform

import torch


def has_fast_bfloat16(device: torch.device | str) -> bool:
    """Whether a matrix product in bfloat16 is no slower on `device` than one in float32.

    A CPU without instructions for it converts number by number: on an AMD EPYC with AVX2, one took 40 times as long.
    """
    kind = torch.device(device).type
    if kind == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if kind != "cpu":
        return False
    if not hasattr(torch.cpu, "get_capabilities"):  # before torch 2.10: slow, but right
        return False
    able = torch.cpu.get_capabilities()
    names = ("bf16",) if platform.machine().lower() in ("arm64", "aarch64") else ("avx512_bf16", "amx_bf16")
    return any(able.get(name, False) for name in names)
