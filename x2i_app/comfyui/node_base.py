"""What all nodes share: how ComfyUI reads them, the kinds of their inputs, and what they pass on.

An input is (type, options); a list of choices is a type too. https://docs.comfy.org/custom-nodes
"""

from dataclasses import dataclass
from functools import wraps
from typing import Any

import torch

from x2i_app.comfyui import host
from x2i_app.encoders import MLLMEncoder
from x2i_app.errors import OutOfMemoryError, forget_frames
from x2i_app.loading.memory import is_out_of_memory
from x2i_app.models import AlignNet
from x2i_app.quiet import quiet


@dataclass(frozen=True)
class Mllm:
    """What *X2I Load MLLM* returns. preset: its name; None for the user's own folder."""

    encoder: MLLMEncoder
    managed: host.Managed
    preset: str | None


@dataclass(frozen=True)
class Aligner:
    """What *X2I Load AlignNet* returns."""

    align_net: AlignNet
    managed: host.Managed


class _OutOfMemory(OutOfMemoryError, torch.OutOfMemoryError):
    """For the user it is our sentence; ComfyUI recognizes torch's class, and unloads all models."""


def explained(run):
    """A decorator for what a node runs: what runs out of memory says what to do, and keeps nothing in memory."""

    @wraps(run)
    def explained(self, *args, **kwargs):
        try:
            with quiet(), torch.inference_mode():
                return run(self, *args, **kwargs)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            forget_frames(error)
        raise _OutOfMemory(f"There is not enough memory; {self.SMALLER}.")

    return explained


class Node:
    """What ComfyUI reads of every node; a node's docstring is its description. SMALLER: what needs less memory."""

    CATEGORY = "X2I"
    SEARCH_ALIASES: tuple[str, ...] = ()
    SMALLER = "close other programs, or choose smaller models"

    def __init_subclass__(cls):
        cls.DESCRIPTION = cls.__doc__


Input = tuple[Any, dict[str, Any]]


def node_input(kind: str | list[str], tooltip: str, **options: Any) -> Input:
    return kind, {"tooltip": tooltip, **options}


def prompt_input(tooltip: str, default: str = "") -> Input:
    return node_input("STRING", tooltip, multiline=True, default=default, dynamicPrompts=True)


def path_input(tooltip: str) -> Input:
    return node_input("STRING", tooltip, default="")


def number_input(tooltip: str, default: float, least: float, most: float, step: float = 0.1) -> Input:
    return node_input("FLOAT", tooltip, default=default, min=least, max=most, step=step)
