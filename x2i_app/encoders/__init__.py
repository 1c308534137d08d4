"""MLLM families as encoders; `load_encoder` chooses the class."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import get_args

import torch
from torch import nn

from x2i_app.encoders.base import Conversation, HiddenStates, MLLMEncoder
from x2i_app.encoders.internvl import InternVLEncoder
from x2i_app.encoders.internvl3 import InternVL3Encoder
from x2i_app.encoders.minicpm_o import MiniCPMOEncoder
from x2i_app.encoders.native import NativeEncoder
from x2i_app.encoders.qwen import QwenOmniEncoder, QwenVLEncoder
from x2i_app.encoders.qwen3 import Qwen3OmniEncoder, Qwen3VLEncoder
from x2i_app.encoders.weights import check_quantization
from x2i_app.errors import InvalidRequestError, UnknownPresetError
from x2i_app.load_lock import one_at_a_time
from x2i_app.presets import FAMILIES, get_family
from x2i_app.specs import EncodingSpec, MLLMSpec, Template

__all__ = [
    "Conversation",
    "HiddenStates",
    "MLLMEncoder",
    "NativeEncoder",
    "check_quantization",
    "encoder_class",
    "family_of",
    "load_encoder",
    "register_family",
]

_CLASSES: dict[str, type[MLLMEncoder]] = {
    cls.family: cls
    for cls in (
        QwenVLEncoder,
        QwenOmniEncoder,
        Qwen3VLEncoder,
        Qwen3OmniEncoder,
        InternVLEncoder,
        InternVL3Encoder,
        MiniCPMOEncoder,
    )
}


def register_family(cls: type[MLLMEncoder], spec: EncodingSpec) -> None:
    """Add an MLLM family of your own: `custom:FAMILY` then means it, in `load_pipeline` and in training jobs.

    cls: an encoder whose `family` is the new name, mostly a NativeEncoder with the family's transformers classes,
    the processor's arguments for its media, and its position ids; docs/TRAINING.md has one in 20 lines.
    spec: which modalities it takes, and how they are prepared. Raises InvalidRequestError if the name is taken by
    another class.
    """
    if _CLASSES.get(cls.family, cls) is not cls:
        raise InvalidRequestError(f"There is a family {cls.family!r} already; give yours another name.")
    _CLASSES[cls.family] = cls
    FAMILIES[cls.family] = spec


def family_of(directory: str | Path) -> str | None:
    """The family of an MLLM's folder, by `model_type` in its config.json; None if there is none, or no such family."""
    try:
        content = json.loads((Path(directory) / "config.json").read_text(encoding="utf-8"))
        model_type = str(content["model_type"])
    except (OSError, ValueError, LookupError, TypeError):
        return None
    known = {cls.model_type or name.replace("-", "_").replace(".", "_"): name for name, cls in _CLASSES.items()}
    known |= _OTHER_TYPES
    begins = [start for start in known if model_type.startswith(start)]
    return known[max(begins, key=len)] if begins else None


_OTHER_TYPES = {"internvl_chat": "internvl2.5", "minicpmo": "minicpm-o"}  # types that are not called as the family


def encoder_class(family: str) -> type[MLLMEncoder]:
    """The encoder class of an MLLM family. Raises UnknownPresetError, which lists the families."""
    get_family(family)
    return _CLASSES[family]


@one_at_a_time
def load_encoder(
    family: str,
    directory: str | Path,
    template: Template | None = None,
    *,
    spec: EncodingSpec | None = None,
    expected: MLLMSpec | None = None,
    dtype: torch.dtype | str = "auto",
    fill: Callable[[nn.Module], bool] | None = None,
) -> MLLMEncoder:
    """Load an encoder from a folder in the family's own on-disk format, onto the CPU.

    template: format of the prompt, one of specs.Template; None uses the spec's. spec: how inputs are prepared; None
    uses the family's own. expected: depth and width that the model must have. dtype: "auto" keeps the file's.
    fill: gives a model on the meta device its weights; if it returns False, they are read from the folder.
    Raises UnknownPresetError or CheckpointError.
    """
    cls = encoder_class(family)
    check_quantization(Path(directory))
    spec = spec or get_family(family)
    if template:
        if template not in get_args(Template):
            raise UnknownPresetError(f"There is no template {template!r}; choose {' or '.join(get_args(Template))}.")
        spec = replace(spec, template=template)
    filled = {"fill": fill} if fill and issubclass(cls, NativeEncoder) else {}
    return cls.load(directory, spec, expected=expected, dtype=dtype, **filled)
