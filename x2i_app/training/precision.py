"""Where training computes, and whether in bfloat16."""

import platform

import torch
from accelerate import PartialState
from accelerate.utils import parse_flag_from_env


def training_device() -> torch.device:
    """The one that accelerate gives this process. The first call also lets launched processes find each other."""
    # Unless a CPU is asked for, they do not where there is no card, and each would train alone, in the folder of the
    # others; and who asks first decides for the process.
    on_cpu = parse_flag_from_env("ACCELERATE_USE_CPU") or not torch.accelerator.is_available()
    return PartialState(cpu=on_cpu).device


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
