"""MLLM families as encoders; `load_encoder` chooses the class."""

from dataclasses import replace
from pathlib import Path
from typing import get_args

import torch

from x2i_app.encoders.base import Conversation, HiddenStates, MLLMEncoder
from x2i_app.encoders.internvl import InternVLEncoder
from x2i_app.encoders.minicpm_o import MiniCPMOEncoder
from x2i_app.encoders.native import NativeEncoder
from x2i_app.encoders.qwen import QwenOmniEncoder, QwenVLEncoder
from x2i_app.errors import UnknownPresetError
from x2i_app.load_lock import one_at_a_time
from x2i_app.presets import get_family
from x2i_app.specs import EncodingSpec, MLLMSpec, Template

__all__ = ["Conversation", "HiddenStates", "MLLMEncoder", "NativeEncoder", "encoder_class", "load_encoder"]

_CLASSES: dict[str, type[MLLMEncoder]] = {
    cls.family: cls for cls in (QwenVLEncoder, QwenOmniEncoder, InternVLEncoder, MiniCPMOEncoder)
}


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
) -> MLLMEncoder:
    """Load an encoder from a folder in the family's own on-disk format, onto the CPU.

    template: format of the prompt, one of specs.Template; None uses the spec's. spec: how inputs are prepared; None
    uses the family's own. expected: depth and width that the model must have. dtype: "auto" keeps the file's.
    Raises UnknownPresetError or CheckpointError.
    """
    cls = encoder_class(family)
    spec = spec or get_family(family)
    if template:
        if template not in get_args(Template):
            raise UnknownPresetError(f"There is no template {template!r}; choose {' or '.join(get_args(Template))}.")
        spec = replace(spec, template=template)
    return cls.load(directory, spec, expected=expected, dtype=dtype)
