"""A FLUX.1 transformer in one safetensors file: Black Forest Labs' names, as most fine-tunes come, or diffusers' own.

diffusers' `from_single_file` takes the width 3072 for granted and fetches a configuration from the hub; here every
size but the head's three axes is read off the weights, and every weight must have its place.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from diffusers import FluxTransformer2DModel
from safetensors import SafetensorError, safe_open

from x2i_app.errors import CheckpointError
from x2i_app.loading.checkpoints import check_names_and_shapes
from x2i_app.loading.files import check_file

_PREFIXES = ("model.diffusion_model.", "diffusion_model.", "transformer.")
# All-in-one files carry these parts too; the VAE comes from the base model, T5 and CLIP are not needed.
_OTHER_PARTS = ("text_encoders.", "vae.", "first_stage_model.", "conditioner.", "cond_stage_model.")

# Beside a scaled 8-bit weight, under the two names that ComfyUI has given it: what the weight is to be multiplied with,
# and what only kernels that compute in 8 bit need.
_SCALES = (".scale_weight", ".weight_scale")
_OF_KERNELS = (".scale_input", ".input_scale", ".comfy_quant", "scaled_fp8")
_EIGHT_BIT = (torch.float8_e4m3fn, torch.float8_e5m2)

_QKV = ("to_q", "to_k", "to_v")
_ADDED_QKV = ("add_q_proj", "add_k_proj", "add_v_proj")
# Black Forest Labs' module -> diffusers'; several where diffusers keeps apart what they keep in one matrix.
_TOP = {
    "img_in": ("x_embedder",),
    "txt_in": ("context_embedder",),
    "final_layer.linear": ("proj_out",),
    "final_layer.adaLN_modulation.1": ("norm_out.linear",),
} | {
    f"{theirs}.{layer}": (f"time_text_embed.{ours}.linear_{number}",)
    for theirs, ours in (
        ("time_in", "timestep_embedder"),
        ("vector_in", "text_embedder"),
        ("guidance_in", "guidance_embedder"),
    )
    for layer, number in (("in_layer", 1), ("out_layer", 2))
}
_DOUBLE = {
    "img_mod.lin": ("norm1.linear",),
    "txt_mod.lin": ("norm1_context.linear",),
    "img_attn.qkv": tuple(f"attn.{name}" for name in _QKV),
    "txt_attn.qkv": tuple(f"attn.{name}" for name in _ADDED_QKV),
    "img_attn.norm.query_norm": ("attn.norm_q",),
    "img_attn.norm.key_norm": ("attn.norm_k",),
    "txt_attn.norm.query_norm": ("attn.norm_added_q",),
    "txt_attn.norm.key_norm": ("attn.norm_added_k",),
    "img_attn.proj": ("attn.to_out.0",),
    "txt_attn.proj": ("attn.to_add_out",),
    "img_mlp.0": ("ff.net.0.proj",),
    "img_mlp.2": ("ff.net.2",),
    "txt_mlp.0": ("ff_context.net.0.proj",),
    "txt_mlp.2": ("ff_context.net.2",),
}
_SINGLE = {
    "modulation.lin": ("norm.linear",),
    "linear1": (*(f"attn.{name}" for name in _QKV), "proj_mlp"),
    "linear2": ("proj_out",),
    "norm.query_norm": ("attn.norm_q",),
    "norm.key_norm": ("attn.norm_k",),
}
_BLOCKS = {"double_blocks": ("transformer_blocks", _DOUBLE), "single_blocks": ("single_transformer_blocks", _SINGLE)}


def load_transformer_file(path: Path, base_config: dict[str, Any], dtype: torch.dtype) -> FluxTransformer2DModel:
    """The transformer, on the CPU in evaluation mode.

    base_config: of the model it is a fine-tune of; what the file itself says of sizes goes before it.
    Raises CheckpointError: another architecture, a weight too many or too few, quantised numbers.
    """
    state_dict = to_diffusers(path, _read(path, dtype))
    config = base_config | _sizes(path, state_dict)
    with torch.device("meta"):
        transformer = FluxTransformer2DModel.from_config(config)
    check_names_and_shapes(path, state_dict, transformer)
    transformer.load_state_dict(state_dict, strict=True, assign=True)
    return transformer.requires_grad_(False).eval()


def read_sizes(path: Path) -> dict[str, Any]:
    """What a file says of a transformer's configuration; of its weights only the shapes are read. Raises as loading."""
    with _opened(path) as file:
        shapes = {name: file.get_slice(key).get_shape() for key, name in _names(file)}
    weights = {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}
    return _sizes(path, to_diffusers(path, weights))


def to_diffusers(path: Path, state_dict: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The same weights under diffusers' names. path: for the words if there is none for one of them."""
    if "x_embedder.weight" in state_dict:
        return state_dict
    if "img_in.weight" not in state_dict:
        raise CheckpointError(f"{path.name} has neither img_in nor x_embedder; it is no FLUX.1 transformer.")
    width = state_dict["img_in.weight"].shape[0]
    converted = {}
    for key in list(state_dict):
        names, value = _renamed(path, key), state_dict.pop(key)
        if key.startswith("final_layer.adaLN_modulation."):
            shift, scale = value.chunk(2)  # diffusers reads them the other way round
            value = torch.cat([scale, shift])
        converted |= zip(names, _split(path, key, value, width, len(names)), strict=True)
    return converted


def _renamed(path: Path, key: str) -> list[str]:
    module, _, kind = key.rpartition(".")
    parts = module.split(".", 2)
    prefix, names = "", _TOP
    if parts[0] in _BLOCKS and len(parts) == 3:
        blocks, names = _BLOCKS[parts[0]]
        prefix, module = f"{blocks}.{parts[1]}.", parts[2]
    if module not in names or kind not in ("weight", "bias", "scale"):
        raise CheckpointError(
            f"{path.name} has {key}, which no FLUX.1 transformer has; single files can be read whose "
            "weights are floating point numbers of 32, 16 or 8 bit."
        )
    kind = "weight" if kind == "scale" else kind  # of RMSNorm
    return [f"{prefix}{name}.{kind}" for name in names[module]]


def _split(path: Path, key: str, value: torch.Tensor, width: int, count: int) -> tuple[torch.Tensor, ...]:
    if count == 1:
        return (value,)
    rest = value.shape[0] - 3 * width
    sizes = [width] * 3 + [rest] * (count - 3)
    if sum(sizes) != value.shape[0] or rest < 0:
        raise CheckpointError(f"{path.name}: {key} has {value.shape[0]} rows, which is not 3 times {width} and more.")
    return tuple(part.clone() for part in value.split(sizes))


@contextmanager
def _opened(path: Path) -> Iterator[safe_open]:
    check_file(path)
    if path.suffix.lower() != ".safetensors":
        raise CheckpointError(f"{path.name} is no safetensors file; no other kind of file of a FLUX model is opened.")
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except SafetensorError as error:
        raise CheckpointError(f"{path.name} is cut or damaged ({error}); download it again.") from error


def _names(file: safe_open) -> list[tuple[str, str]]:
    """Of each of the transformer's weights the key, and the name without what is in front of all of them."""
    keys = [key for key in file.keys() if not key.startswith(_OTHER_PARTS)]  # noqa: SIM118 (not a dict)
    keys = [key for key in keys if not key.endswith((*_SCALES, *_OF_KERNELS))]
    prefix = next((p for p in _PREFIXES if keys and all(key.startswith(p) for key in keys)), "")
    return [(key, key.removeprefix(prefix)) for key in keys]


def _read(path: Path, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    with _opened(path) as file:
        every = list(file.keys())
        scales = {_scaled(key): file.get_tensor(key) for key in every if key.endswith(_SCALES)}
        return {name: _plain(path, key, file.get_tensor(key), scales.get(key)).to(dtype) for key, name in _names(file)}


def _scaled(key: str) -> str:
    """The weight that a scale is for."""
    return f"{key.rpartition('.')[0]}.weight"


def _plain(path: Path, key: str, value: torch.Tensor, scale: torch.Tensor | None) -> torch.Tensor:
    """The numbers that a weight and its scale stand for: one scale for all of it, or one a row."""
    if not value.is_floating_point() or (scale is not None and value.dtype not in _EIGHT_BIT):
        raise CheckpointError(
            f"{path.name} is quantised in a way that is not read here ({key} is {str(value.dtype).split('.')[1]}); "
            "take the model's file in 16 or 8 bit floating point, of which the memory profiles make 4 bit."
        )
    if scale is None:
        return value
    if scale.numel() not in (1, len(value)) or not scale.is_floating_point():
        raise CheckpointError(
            f"{path.name}: the scale of {key} has the shape {tuple(scale.shape)}; expected one number a row."
        )
    return value.float() * scale.float().reshape(-1, *[1] * (value.ndim - 1))


def _sizes(path: Path, state_dict: dict[str, torch.Tensor]) -> dict[str, Any]:
    """What a configuration would say."""

    def count(blocks: str) -> int:
        numbers = [int(found[1]) for key in state_dict if (found := re.match(rf"{blocks}\.(\d+)\.", key))]
        return max(numbers, default=-1) + 1

    def shape(key: str, ndim: int) -> tuple[int, ...]:
        if key not in state_dict or state_dict[key].ndim != ndim:
            raise CheckpointError(f"{path.name} lacks {key} or it is misshapen; it is no FLUX.1 transformer.")
        return tuple(state_dict[key].shape)

    width, channels = shape("x_embedder.weight", 2)
    (head,) = shape("transformer_blocks.0.attn.norm_q.weight", 1)
    outputs = shape("proj_out.weight", 2)[0]
    return {
        "in_channels": channels,
        "out_channels": None if outputs == channels else outputs,
        "num_layers": count("transformer_blocks"),
        "num_single_layers": count("single_transformer_blocks"),
        "attention_head_dim": head,
        "num_attention_heads": width // head,
        "joint_attention_dim": shape("context_embedder.weight", 2)[1],
        "pooled_projection_dim": shape("time_text_embed.text_embedder.linear_1.weight", 2)[1],
        "guidance_embeds": "time_text_embed.guidance_embedder.linear_1.weight" in state_dict,
    }
