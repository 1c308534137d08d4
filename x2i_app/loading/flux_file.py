"""A FLUX.1 transformer in one safetensors file, under Black Forest Labs' names, as most fine-tunes are, or diffusers'.

diffusers' own converter is not used: it takes the width 3072 for granted, and it copies the 7 GB of weights that are
split, where slices here stay mapped from the file. Its `from_single_file` also downloads a configuration; here every
size but the three axes of a head is read from the weights. The tests compare the names with those of the converter.
"""

import re
from collections.abc import Iterator, Mapping
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
# Other parts of all-in-one files: the VAE comes from the base model, T5 and CLIP are not needed.
_OTHER_PARTS = ("text_encoders.", "vae.", "first_stage_model.", "conditioner.", "cond_stage_model.")

# Keys beside a scaled 8-bit weight: its scale, for which ComfyUI has had two names, and hints for 8-bit kernels.
_SCALES = (".scale_weight", ".weight_scale")
_KERNEL_HINTS = (".scale_input", ".input_scale", ".comfy_quant", "scaled_fp8")
_EIGHT_BIT = (torch.float8_e4m3fn, torch.float8_e5m2)

_QKV = ("to_q", "to_k", "to_v")
_ADDED_QKV = ("add_q_proj", "add_k_proj", "add_v_proj")
# Black Forest Labs' module -> diffusers' modules: several where one matrix holds what diffusers has in several.
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
    """Load the transformer on the CPU, in evaluation mode.

    base_config: the configuration of the model that it is a fine-tune of; sizes read from the file override it.
    Raises CheckpointError: another architecture, a missing or unknown weight, quantized numbers.
    """
    state_dict = to_diffusers(path, _read(path, dtype))
    with torch.device("meta"):
        transformer = build_transformer(path, base_config, _sizes(path, state_dict))
    check_names_and_shapes(path, state_dict, transformer)
    transformer.load_state_dict(state_dict, strict=True, assign=True)
    return transformer.requires_grad_(False).eval()


def read_sizes(path: Path) -> dict[str, Any]:
    """The part of a transformer's configuration that a file tells, from its header alone. Errors as for loading."""
    with _opened(path) as file:
        shapes = {name: file.get_slice(key).get_shape() for key, name in _names(file)}
    weights = {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}
    return _sizes(path, to_diffusers(path, weights))


def build_transformer(path: Path, base_config: Mapping[str, Any], sizes: Mapping[str, Any]) -> FluxTransformer2DModel:
    """A transformer without weights. sizes: override the base model's. Raises CheckpointError for sizes that clash."""
    config = {"axes_dims_rope": (16, 56, 56), **base_config, **sizes}
    try:
        transformer = FluxTransformer2DModel.from_config(config)
    except (ValueError, TypeError, ArithmeticError, RuntimeError) as error:
        raise CheckpointError(f"{path.name} has sizes that make no FLUX.1 transformer ({error}).") from error
    head, axes = transformer.config.attention_head_dim, transformer.config.axes_dims_rope
    if head != sum(axes):
        raise CheckpointError(f"{path.name} has attention heads of {head} channels; its base model has {sum(axes)}.")
    return transformer


def to_diffusers(path: Path, state_dict: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Rename the weights, which are taken out of `state_dict`, as diffusers does. path: for error messages.

    Weights that are split become slices of the same storage. Raises CheckpointError for an unknown name.
    """
    if "x_embedder.weight" in state_dict:
        return state_dict
    if "img_in.weight" not in state_dict:
        raise CheckpointError(f"{path.name} has neither img_in nor x_embedder; this is no FLUX.1 transformer.")
    width = state_dict["img_in.weight"].shape[0]
    converted = {}
    for key in list(state_dict):
        names, value = _diffusers_names(path, key), state_dict.pop(key)
        if key.startswith("final_layer.adaLN_modulation."):
            shift, scale = value.chunk(2)  # diffusers has them in the other order
            value = torch.cat([scale, shift])
        converted |= zip(names, _split(path, key, value, width, len(names)), strict=True)
    return converted


def _diffusers_names(path: Path, key: str) -> list[str]:
    module, _, kind = key.rpartition(".")
    parts = module.split(".", 2)
    prefix, names = "", _TOP
    if parts[0] in _BLOCKS and len(parts) == 3:
        blocks, names = _BLOCKS[parts[0]]
        prefix, module = f"{blocks}.{parts[1]}.", parts[2]
    if module not in names or kind not in ("weight", "bias", "scale"):
        raise CheckpointError(
            f"{path.name} has {key}, which no FLUX.1 transformer has; use a file whose weights are floating point "
            "numbers of 32, 16 or 8 bit."
        )
    kind = "weight" if kind == "scale" else kind  # of RMSNorm
    return [f"{prefix}{name}.{kind}" for name in names[module]]


def _split(path: Path, key: str, value: torch.Tensor, width: int, count: int) -> tuple[torch.Tensor, ...]:
    if count == 1:
        return (value,)
    rest = value.shape[0] - 3 * width
    sizes = [width] * 3 + [rest] * (count - 3)
    if sum(sizes) != value.shape[0] or rest < 0:
        raise CheckpointError(f"{path.name}: {key} has {value.shape[0]} rows; expected 3 times {width} or more.")
    return value.split(sizes)


@contextmanager
def _opened(path: Path) -> Iterator[safe_open]:
    check_file(path)
    if path.suffix.lower() != ".safetensors":
        raise CheckpointError(f"{path.name} is no .safetensors file; use the FLUX model in that format.")
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except SafetensorError as error:
        raise CheckpointError(f"{path.name} is cut or damaged ({error}); download it again.") from error


def _names(file: safe_open) -> list[tuple[str, str]]:
    """(key, name) of each weight of the transformer; the name lacks the prefix that all keys share."""
    keys = [key for key in file.keys() if not key.startswith(_OTHER_PARTS)]  # noqa: SIM118 (not a dict)
    keys = [key for key in keys if not key.endswith((*_SCALES, *_KERNEL_HINTS))]
    prefix = next((p for p in _PREFIXES if keys and all(key.startswith(p) for key in keys)), "")
    return [(key, key.removeprefix(prefix)) for key in keys]


def _read(path: Path, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    with _opened(path) as file:
        keys = list(file.keys())
        scales = {f"{key.rpartition('.')[0]}.weight": file.get_tensor(key) for key in keys if key.endswith(_SCALES)}
        return {
            name: _dequantized(path, key, file.get_tensor(key), scales.get(key)).to(dtype) for key, name in _names(file)
        }


def _dequantized(path: Path, key: str, value: torch.Tensor, scale: torch.Tensor | None) -> torch.Tensor:
    """The weight times its scale, which is one number for all of it or one for each row."""
    if not value.is_floating_point() or (scale is not None and value.dtype not in _EIGHT_BIT):
        raise CheckpointError(
            f"{path.name} is quantized in a format that cannot be read ({key} is {str(value.dtype).split('.')[1]}); "
            "use the model's file in 16-bit or 8-bit floating point, which the memory profiles quantize to 4 bit."
        )
    if scale is None:
        return value
    if scale.numel() not in (1, *value.shape[:1]) or not scale.is_floating_point():
        raise CheckpointError(
            f"{path.name}: the scale of {key} has the shape {tuple(scale.shape)}; expected one number for each row."
        )
    return value.float() * scale.float().reshape(-1, *[1] * (value.ndim - 1))


def _sizes(path: Path, state_dict: dict[str, torch.Tensor]) -> dict[str, Any]:
    """The sizes of a configuration, read from the weights' names and shapes."""

    def count(blocks: str) -> int:
        return len({found[1] for key in state_dict if (found := re.match(rf"{blocks}\.(\d+)\.", key))})

    def shape(key: str, ndim: int) -> tuple[int, ...]:
        if key not in state_dict or state_dict[key].ndim != ndim:
            raise CheckpointError(f"{path.name} lacks {key} or it is misshapen; this is no FLUX.1 transformer.")
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
        "num_attention_heads": width // max(1, head),
        "joint_attention_dim": shape("context_embedder.weight", 2)[1],
        "pooled_projection_dim": shape("time_text_embed.text_embedder.linear_1.weight", 2)[1],
        "guidance_embeds": "time_text_embed.guidance_embedder.linear_1.weight" in state_dict,
    }
