"""LoRAs for FLUX's transformer: safetensors files in the formats that diffusers reads, its own and kohya's among them.

A file is checked before diffusers reads it: no pickle is opened, and every weight must fit a layer.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import FluxPipeline, FluxTransformer2DModel
from diffusers.loaders.lora_base import LORA_ADAPTER_METADATA_KEY, LORA_WEIGHT_NAME_SAFE
from safetensors import SafetensorError, safe_open

from x2i_app.errors import CheckpointError
from x2i_app.limits import LIMITS
from x2i_app.load_lock import one_at_a_time
from x2i_app.loading.checkpoints import read_state_dict
from x2i_app.loading.files import check_file
from x2i_app.pipeline import X2IPipeline
from x2i_app.quiet import quiet

_SUFFIX = ".safetensors"
_TRANSFORMER, _TEXT_ENCODERS = "transformer.", ("text_encoder.", "text_encoder_2.")
_CONVERSION_ERRORS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    NotImplementedError,
    RuntimeError,
    TypeError,
    ValueError,
)
_DOWN, _UP = ".lora_A.weight", ".lora_B.weight"


@dataclass(frozen=True)
class LoRA:
    """A LoRA as diffusers loads it.

    state_dict: the low-rank matrices A and B by the transformer's layer names; B is multiplied by alpha / rank.
    metadata: of the file.
    """

    state_dict: dict[str, torch.Tensor]
    metadata: dict[str, str]


def read_lora(path: str | Path, transformer: FluxTransformer2DModel) -> LoRA:
    """Read a LoRA for this transformer from a .safetensors file, or a folder that diffusers or `train lora` wrote.

    Weights for text encoders, which X2I does not have, are left out. Raises CheckpointError, which names the file and
    the weight that fits no layer, has another shape than its layer, or a rank above LIMITS.lora_rank.
    """
    path = _file(path)
    metadata = _read_header(path)
    weights = read_state_dict(path)
    _check_source(path, weights)
    try:
        # Given a dictionary, diffusers only converts names and numbers; it opens no file.
        named, alphas = FluxPipeline.lora_state_dict(weights, return_alphas=True)
    except _CONVERSION_ERRORS as error:
        reason = str(error).split("\n")[0][:200] or type(error).__name__
        raise CheckpointError(f"{path.name} cannot be read as a LoRA for FLUX.1 ({reason}).") from error
    state_dict = {
        key.removeprefix(_TRANSFORMER): value for key, value in named.items() if not key.startswith(_TEXT_ENCODERS)
    }
    _check(path, state_dict, transformer)
    scales = _scales(state_dict, alphas or {}, metadata)
    scaled = {
        key: value * scales[key.removesuffix(_UP)] if key.endswith(_UP) else value for key, value in state_dict.items()
    }
    return LoRA(scaled, metadata)


def check_lora(source: str | Path) -> None:
    """Check a LoRA's header, before a job uses the file. Raises CheckpointError, which names no folder.

    Whether it fits a FLUX model is checked when it is read for that model.
    """
    _read_header(_file(source))


def _read_header(path: Path) -> dict[str, str]:
    """The metadata of a file of the right kind and size."""
    if path.suffix.lower() != _SUFFIX:
        raise CheckpointError(f"{path.name} is no {_SUFFIX} file; other files may hold code; convert it first.")
    try:
        check_file(path)
        with safe_open(path, framework="pt") as file:
            count, metadata = len(file.keys()), file.metadata() or {}
    except SafetensorError as error:
        raise CheckpointError(f"{path.name} is cut or damaged ({error}); download it again.") from error
    except OSError as error:  # its own message contains the whole path
        raise CheckpointError(f"{path.name} cannot be opened; check its permissions.") from error
    if count > LIMITS.lora_tensors:
        raise CheckpointError(
            f"{path.name} has {count:,} tensors and {LIMITS.lora_tensors:,} are allowed; use a LoRA for FLUX.1."
        )
    return metadata


def _check(path: Path, state_dict: dict[str, torch.Tensor], transformer: FluxTransformer2DModel) -> None:
    if not state_dict:
        raise CheckpointError(f"{path.name} holds nothing for FLUX's transformer; use a LoRA for FLUX.1.")
    layers = {
        name: (layer.in_features, layer.out_features)
        for name, layer in transformer.named_modules()
        if isinstance(layer, torch.nn.Linear)
    }
    # Once a LoRA is loaded, peft wraps the layer.
    layers = {name.removesuffix(".base_layer"): sizes for name, sizes in layers.items()}
    for key, value in state_dict.items():
        is_down = key.endswith(_DOWN)
        name = key.removesuffix(_DOWN).removesuffix(_UP)
        if name == key or name not in layers or name + (_UP if is_down else _DOWN) not in state_dict:
            raise CheckpointError(
                f"{path.name} has {key}, which fits no layer of this FLUX model; use a LoRA made for it."
            )
        rank = state_dict[name + _DOWN].shape[0] if state_dict[name + _DOWN].ndim else 0
        if rank > LIMITS.lora_rank:
            raise CheckpointError(
                f"{path.name}: {key} has the rank {rank:,} and {LIMITS.lora_rank} is allowed; train it again with a "
                "smaller rank."
            )
        expected = (rank, layers[name][0]) if is_down else (layers[name][1], rank)
        if tuple(value.shape) != expected or not rank:
            raise CheckpointError(
                f"{path.name}: {key} has the shape {tuple(value.shape)}, expected {expected}; use a LoRA made for this "
                "FLUX model."
            )
        if not value.is_floating_point() or not value.isfinite().all():
            raise CheckpointError(f"{path.name}: {key} has values that are not finite numbers; train it again.")


def _check_source(path: Path, weights: dict[str, torch.Tensor]) -> None:
    """Refuse what would make diffusers' conversion hang, or what it would drop silently."""
    for key, value in weights.items():
        if "dora_scale" in key:
            raise CheckpointError(f"{path.name} is a DoRA, which cannot be read; use a LoRA.")
        if key.endswith("alpha") and not (value.numel() == 1 and 0 < value.item() < float("inf")):
            raise CheckpointError(f"{path.name}: {key} must be one number above 0; train it again.")


def _scales(
    state_dict: dict[str, torch.Tensor], alphas: dict[str, torch.Tensor], metadata: dict[str, str]
) -> dict[str, float]:
    """alpha / rank of every layer, or alpha / sqrt(rank) for rsLoRA (arXiv 2312.03732); 1 without an alpha.

    Only these numbers are read from the file's own configuration; peft never sees it.
    """
    try:
        config = json.loads(metadata.get(LORA_ADAPTER_METADATA_KEY, "{}"))
        alpha = config.get(f"{_TRANSFORMER}lora_alpha")
        pattern = config.get(f"{_TRANSFORMER}alpha_pattern") or {}
        is_rslora = bool(config.get(f"{_TRANSFORMER}use_rslora"))
        scales = {}
        for key, value in state_dict.items():
            if key.endswith(_DOWN):
                name, rank = key.removesuffix(_DOWN), len(value)
                own = alphas.get(f"{_TRANSFORMER}{name}.alpha", pattern.get(name, alpha))
                scales[name] = 1.0 if own is None else float(own) / (rank**0.5 if is_rslora else rank)
    except (AttributeError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"The configuration in the LoRA's metadata is damaged ({error}); save it again."
        ) from error
    return scales


@one_at_a_time
def use_loras(pipeline: X2IPipeline, loras: Sequence[tuple[str | Path, float]]) -> None:
    """Apply exactly these LoRAs to the pipeline's transformer, each with its weight: 0 is off, 1 is as trained.

    loras: pairs of a file or folder, as in `read_lora`, and a weight. Several are added up, as are the weights of a
    file that comes twice; an empty list removes all. A file with the same content is not loaded again.
    Raises CheckpointError, and then nothing has changed.
    """
    transformer = pipeline.transformer
    loaded = set(getattr(transformer, "peft_config", {}))
    weights: dict[str, float] = {}
    missing: dict[str, LoRA] = {}
    for source, weight in loras:
        path = _file(source)
        with path.open("rb") as file:
            name = f"lora_{hashlib.file_digest(file, 'sha256').hexdigest()[:16]}"
        if name not in loaded:
            missing[name] = read_lora(path, transformer)
        weights[name] = weights.get(name, 0.0) + weight
    if loaded and not weights:
        transformer.unload_lora()
        return
    for name in loaded - weights.keys():
        transformer.delete_adapters(name)
    with quiet():  # peft warns of a second LoRA
        for name, lora in missing.items():
            transformer.load_lora_adapter(lora.state_dict, adapter_name=name, prefix=None, _pipeline=pipeline)
    if weights:
        transformer.set_adapters(list(weights), list(weights.values()))


def _file(source: str | Path) -> Path:
    path = Path(source)
    if path.is_dir():
        path = path / LORA_WEIGHT_NAME_SAFE
    if not path.is_file():
        raise CheckpointError(f"There is no LoRA {path.name!r}; check its path.")
    return path
