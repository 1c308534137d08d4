"""A FLUX.1 transformer from its weights' files, under Black Forest Labs' names, as most fine-tunes are, or diffusers'.

diffusers' own converter and loaders are not used: they take the width 3072 for granted, hold all weights in 16 bit
before the first one is quantized, and copy the 7 GB of weights that are split, where slices here stay mapped from the
file. Every size but the three axes of a head is read from the weights. The tests compare the names with those of the
converter.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from diffusers import FluxTransformer2DModel
from diffusers.quantizers.gguf.utils import GGUFParameter
from torch import nn

from x2i_app.errors import CheckpointError
from x2i_app.loading.checkpoints import check_shapes
from x2i_app.loading.flux_names import BLOCKS, SWAPPED, TOP
from x2i_app.loading.kept_weights import KeptWeights
from x2i_app.loading.quantization import is_quantizable, quantize_layer, use_gguf_layer
from x2i_app.loading.weight_files import READABLE, WeightFiles, expanded, open_weights, rows_of
from x2i_app.specs import Precision

# Weights of which every FLUX.1 transformer has one, by Black Forest Labs' name and by diffusers'.
_MARK = ("img_in.weight", "x_embedder.weight")
# Other parts of all-in-one files: the VAE comes from the base model, T5 and CLIP are not needed.
_OTHER_PARTS = ("text_encoders.", "vae.", "first_stage_model.", "conditioner.", "cond_stage_model.", "model_ema.")


class Part(NamedTuple):
    """Where a transformer's weight is: rows of a weight in the file. is_swapped: its halves are in the other order."""

    name: str
    rows: slice
    is_swapped: bool = False

    def take(self, value: torch.Tensor) -> torch.Tensor:
        """The weight, from the file's. A slice of the same storage, unless it is swapped."""
        if self.is_swapped:
            shift, scale = value.chunk(2)
            return torch.cat([scale, shift])
        return value if self.rows == slice(None) else value[self.rows]


def load_transformer_weights(
    path: Path,
    config: Mapping[str, Any],
    dtype: torch.dtype,
    precision: Precision = "full",
    device: torch.device | None = None,
    stays: bool = False,
    files: Sequence[Path] = (),
    watch: Callable[[int], None] | None = None,
    kept: KeptWeights | None = None,
) -> FluxTransformer2DModel:
    """Load the transformer on the CPU, in evaluation mode, one weight at a time.

    path: a file, or the folder of `files`. config: the configuration of the model that a file is a fine-tune of, whose
    sizes the file's override; or of the folder. dtype: of what is not quantized. precision, device, stays: as in
    `quantize`; weights in GGUF's form stay as they are. watch: called with the bytes of each weight; what it raises
    stops loading. kept: where weights in NF4 are kept for the next time.
    Raises CheckpointError: another architecture, a missing or unknown weight, a form that cannot be read, NaN.
    """
    device = device or torch.device("cpu")
    with open_weights(path, files, _MARK, _OTHER_PARTS) as weights:
        parts, transformer = _match(weights, path, config, files)
        # Layers in GGUF's form are not quantized.
        kept = None if any(stored.quantization for stored in weights.weights.values()) else kept
        if kept and kept.fill(transformer):
            return transformer.requires_grad_(False).eval()
        for name, stored in weights.weights.items():
            value = weights.read(name)
            for part in parts[name]:
                _set_weight(weights, transformer, part, value, dtype, precision, device, stays)
            if watch:
                watch(value.nbytes)
            del value, stored
    if kept:
        kept.keep(transformer)
    return transformer.requires_grad_(False).eval()


def check_transformer_weights(path: Path, config: Mapping[str, Any], files: Sequence[Path]) -> FluxTransformer2DModel:
    """The transformer on the meta device, whose names and shapes are those of the files; only headers are read.

    The arguments and errors are as for loading.
    """
    with open_weights(path, files, _MARK, _OTHER_PARTS) as weights:
        return _match(weights, path, config, files)[1]


def _match(
    weights: WeightFiles, path: Path, config: Mapping[str, Any], files: Sequence[Path]
) -> tuple[dict[str, list[Part]], FluxTransformer2DModel]:
    """The parts of each weight in the files, and the transformer on the meta device that they fit."""
    parts, shapes = _find_parts(weights)
    with torch.device("meta"):
        transformer = build_transformer(path, config, {} if files else _sizes(path, shapes))
    check_shapes(path, shapes, transformer)
    return parts, transformer


def _set_weight(
    weights: WeightFiles,
    transformer: FluxTransformer2DModel,
    part: Part,
    value: torch.Tensor,
    dtype: torch.dtype,
    precision: Precision,
    device: torch.device,
    stays: bool = False,
) -> None:
    """Put a weight into its module, quantized if the module's weight is to be."""
    module_name, _, kind = part.name.rpartition(".")
    parent_name, _, child = module_name.rpartition(".")
    parent = transformer.get_submodule(parent_name)
    module, value = getattr(parent, child), rows_of(value, part.take)
    is_matrix = kind == "weight" and is_quantizable(module, child)
    if isinstance(value, GGUFParameter) and is_matrix:
        use_gguf_layer(parent, child, value, dtype)
        return
    value = expanded(value)
    if value.dtype != dtype or (is_matrix and precision != "full"):
        weights.check_finite(part.name, value, is_converted=True)
    setattr(module, kind, nn.Parameter(value.to(dtype), requires_grad=False))
    if is_matrix and precision != "full":
        quantize_layer(parent, child, precision, device, stays)


def build_skeleton_of_file(path: Path, config: Mapping[str, Any], dtype: torch.dtype) -> FluxTransformer2DModel:
    """The transformer of a file on the meta device, from the file's header alone, with the layers that it would have.

    The arguments and errors are as for loading.
    """
    with open_weights(path, (), _MARK, _OTHER_PARTS) as weights, torch.device("meta"):
        parts, transformer = _match(weights, path, config, ())
        for name, stored in weights.weights.items():
            if stored.quantization is not None:
                value = weights.read(name).as_tensor().to("meta")
                value = GGUFParameter(value, quant_type=stored.quantization)
                for part in parts[name]:
                    if part.name.endswith(".weight") and value.ndim == 2:
                        _set_weight(weights, transformer, part, value, dtype, "full", torch.device("meta"))
    return transformer


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


# ----- Names ---------------------------------------------------------------------------------------------------------

Shapes = dict[str, tuple[int, ...]]


def _find_parts(weights: WeightFiles) -> tuple[dict[str, list[Part]], Shapes]:
    """The transformer's weights in each of the file's, and their shapes by diffusers' names."""
    return find_parts(weights.path, {name: stored.shape for name, stored in weights.weights.items()})


def find_parts(path: Path, shapes: Shapes) -> tuple[dict[str, list[Part]], Shapes]:
    """shapes: of the file's weights, by Black Forest Labs' names or diffusers'. Raises CheckpointError."""
    if "x_embedder.weight" in shapes:
        return {name: [Part(name, slice(None))] for name in shapes}, dict(shapes)
    if "img_in.weight" not in shapes or not shapes["img_in.weight"]:
        raise CheckpointError(f"{path.name} has neither img_in nor x_embedder; this is no FLUX.1 transformer.")
    width = shapes["img_in.weight"][0]
    parts: dict[str, list[Part]] = {}
    found: Shapes = {}
    for key, shape in shapes.items():
        names = _diffusers_names(path, key)
        if len(names) == 1:
            parts[key] = [Part(names[0], slice(None), key.startswith(f"{SWAPPED}."))]
            found[names[0]] = shape
            continue
        parts[key], start = [], 0
        for name, size in zip(names, _split(path, key, shape, width, len(names)), strict=True):
            parts[key].append(Part(name, slice(start, start + size)))
            found[name] = (size, *shape[1:])
            start += size
    return parts, found


def _diffusers_names(path: Path, key: str) -> list[str]:
    module, _, kind = key.rpartition(".")
    sections = module.split(".", 2)
    prefix, names = "", TOP
    if sections[0] in BLOCKS and len(sections) == 3:
        blocks, names = BLOCKS[sections[0]]
        prefix, module = f"{blocks}.{sections[1]}.", sections[2]
    if module not in names or kind not in ("weight", "bias", "scale"):
        raise CheckpointError(f"{path.name} has {key}, which no FLUX.1 transformer has; {READABLE}.")
    kind = "weight" if kind == "scale" else kind  # of RMSNorm
    return [f"{prefix}{name}.{kind}" for name in names[module]]


def _split(path: Path, key: str, shape: tuple[int, ...], width: int, count: int) -> list[int]:
    rows = shape[0] if shape else 0
    rest = rows - 3 * width
    sizes = [width] * 3 + [rest] * (count - 3)
    if sum(sizes) != rows or rest < 0:
        raise CheckpointError(f"{path.name}: {key} has {rows} rows; expected 3 times {width} or more.")
    return sizes


def _sizes(path: Path, shapes: Shapes) -> dict[str, Any]:
    """The sizes of a configuration, read from the weights' names and shapes."""

    def count(blocks: str) -> int:
        return len({found[1] for key in shapes if (found := re.match(rf"{blocks}\.(\d+)\.", key))})

    def shape(key: str, ndim: int) -> tuple[int, ...]:
        if key not in shapes or len(shapes[key]) != ndim:
            raise CheckpointError(f"{path.name} lacks {key}, or its shape is wrong; this is no FLUX.1 transformer.")
        return shapes[key]

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
        "guidance_embeds": "time_text_embed.guidance_embedder.linear_1.weight" in shapes,
    }
