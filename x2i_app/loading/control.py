"""A LightControl from the files that hold its weights, as safely and strictly as AlignNet's."""

from pathlib import Path
from typing import Any

import torch

from x2i_app.errors import CheckpointError
from x2i_app.load_lock import one_at_a_time
from x2i_app.loading.checkpoints import (
    WEIGHTS_NAME,
    check_sidecar,
    check_state_dict,
    read_state_dict,
    without_prefix,
)
from x2i_app.models import LightControl

# Whose output channels, or (the last) inputs, are the configuration's sizes.
_FIRST, _MIDDLE, _LAST = "0.embedding.0.weight", "0.embedding.6.weight", "0.mid_convs.0.0.weight"
_TOKENS, _TIME = "0.mid_convs.1.weight", "0.time_embedding.linear_1.weight"


@one_at_a_time
def load_light_control(path: str | Path, *, dtype: torch.dtype | None = None) -> LightControl:
    """A LightControl in evaluation mode on the CPU.

    path: a .safetensors file, a .bin or .pt pickle of tensors (keys with or without `module.` in front), or a folder
    that `LightControl.save_pretrained` wrote. dtype: None keeps the file's.

    Every size is read off the weights; a configuration beside them must agree. Raises CheckpointError, which names the
    file and, where one is to blame, the key with its shape, got and expected.
    """
    path = Path(path)
    if path.is_dir():
        path = path / WEIGHTS_NAME
    state_dict = without_prefix(path, read_state_dict(path))
    config = _config_from_weights(path, state_dict)
    check_sidecar(path, "LightControl", config)
    try:
        with torch.device("meta"):
            light_control = LightControl(**config)
    except (ValueError, RuntimeError) as error:  # channels that its groups do not divide
        raise CheckpointError(f"{path.name} has sizes that no LightControl has ({error}); use the original.") from error
    check_state_dict(path, state_dict, light_control)
    light_control.load_state_dict(state_dict, strict=True, assign=True)
    light_control.requires_grad_(False)
    return light_control.to(dtype=dtype or state_dict[_FIRST].dtype).eval()


def _config_from_weights(path: Path, state_dict: dict[str, torch.Tensor]) -> dict[str, Any]:
    for key in (_FIRST, _MIDDLE, _LAST, _TOKENS, _TIME):
        if key not in state_dict or state_dict[key].ndim != (2 if key == _TIME else 4):
            raise CheckpointError(f"{path.name} lacks {key} or it is misshapen; this is no LightControl.")
    blocks = {int(first) for first in (key.split(".")[0] for key in state_dict) if first.isdecimal()}
    return {
        "num_blocks": len(blocks),
        "dim": len(state_dict[_TOKENS]),
        "widths": [len(state_dict[key]) for key in (_FIRST, _MIDDLE, _LAST)],
        "time_embed_dim": len(state_dict[_TIME]),
    }
