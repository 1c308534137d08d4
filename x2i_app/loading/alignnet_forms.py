"""The forms in which an AlignNet is kept: diffusers' folder, one safetensors file, and the reference's for ComfyUI."""

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from x2i_app.errors import CheckpointError, InvalidRequestError
from x2i_app.loading.checkpoints import load_alignnet
from x2i_app.models import AlignNet


def convert_alignnet(source: str | Path, output: Path) -> AlignNet:
    """Write an AlignNet in another form, with the same numbers in the same dtype; it is returned.

    source: as in `load_alignnet`. output: a .pt file for the reference's ComfyUI nodes, a .safetensors file, or a
    folder as `AlignNet.save_pretrained` writes it; it must not exist yet.
    Raises InvalidRequestError for another output, CheckpointError for a source that cannot be read.
    """
    form = output.suffix.lower()
    if output.exists() or form not in ("", ".pt", ".safetensors"):
        raise InvalidRequestError(
            f"--output is {str(output)!r}; give a new .pt file for ComfyUI, a new .safetensors file, or a new folder."
        )
    align_net = load_alignnet(source)
    weights = {name: value.contiguous() for name, value in align_net.state_dict().items()}
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        if form == ".pt":
            torch.save({"config": comfyui_config(align_net), "state_dict": weights}, output)
        elif form:
            save_file(weights, output, metadata={"format": "pt"})
        else:
            align_net.save_pretrained(output)
    except (OSError, RuntimeError) as error:
        raise CheckpointError(f"{str(output)!r} cannot be written ({error}); choose another --output.") from error
    return align_net


def comfyui_config(align_net: AlignNet) -> dict[str, Any]:
    """The arguments with which the reference's ComfyUI nodes build the module (their class Proj).

    num_layers, num_heads and head_dim are of a T5 that use_t5 leaves out; the nodes want them all the same.
    """
    sizes = align_net.config
    return {
        "in_channels": sizes.num_states,
        "kernel_size": sizes.kernel_size,
        "input_dim": sizes.hidden_size,
        "output_dim0": sizes.pooled_dim,
        "output_dim1": sizes.joint_dim,
        "num_layers": 2,
        "num_heads": max(1, sizes.hidden_size // 128),
        "norm_eps": align_net.mlp.layernorm.eps,
        "head_dim": 128,
        "use_t5": False,
        "use_scale": sizes.fusion == "scale",
        "use_cnn": sizes.fusion == "conv",
    }
