"""AlignNet and LightControl from the files that hold their weights.

Others wrote these files, so reading is safe (no code is run) and strict (every key and shape is checked), and each
error names the file and the key.
"""

import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from x2i_app.errors import CheckpointError
from x2i_app.load_lock import one_at_a_time
from x2i_app.loading.files import SAFETENSORS, check_file
from x2i_app.models import AlignNet, LightControl

WEIGHTS_NAME = "diffusion_pytorch_model.safetensors"  # the file that diffusers' save_pretrained writes


@one_at_a_time
def load_alignnet(
    path: str | Path,
    *,
    num_states: int | None = None,
    hidden_size: int | None = None,
    dtype: torch.dtype | None = None,
) -> AlignNet:
    """Load an AlignNet from any form in which its weights exist, in evaluation mode on the CPU.

    path: a .bin or .pt pickle of tensors or a .safetensors file, both as in `read_weights`, or a folder that
    `AlignNet.save_pretrained` wrote.
    num_states, hidden_size: L and H of the MLLM that it must fit; None takes the file's.
    dtype: None keeps the file's.

    The kind of fusion and every size are read from the weights; a config.json beside them must agree.
    Raises CheckpointError, which names the file and the key at fault with its shape, got and expected.
    """
    path = _weights_file(path)
    weights = read_weights(path)
    config = _alignnet_config(path, weights)
    config |= {k: v for k, v in (("num_states", num_states), ("hidden_size", hidden_size)) if v is not None}
    _check_sidecar(path, "AlignNet", config)
    with torch.device("meta"):
        align_net = AlignNet(**config)
    return _fill(path, align_net, weights, dtype or weights["mlp.layernorm.weight"].dtype)


def read_alignnet_config(path: Path) -> dict[str, Any]:
    """The sizes of the AlignNet in a file. Raises CheckpointError if it holds none."""
    return _alignnet_config(path, read_weights(path))


def _alignnet_config(path: Path, weights: dict[str, torch.Tensor]) -> dict[str, Any]:
    def shape(key, ndim):
        if key not in weights or weights[key].ndim != ndim:
            raise CheckpointError(f"{path.name} lacks {key}, or its shape is wrong; this is not an AlignNet.")
        return weights[key].shape

    joint_dim, hidden_size = shape("mlp.projector.0.weight", 2)
    config = {"hidden_size": hidden_size, "joint_dim": joint_dim, "pooled_dim": shape("mlp.fc.1.weight", 2)[0]}
    if "cha_scale" in weights:
        return config | {"fusion": "scale", "num_states": shape("cha_scale", 4)[1]}
    _, num_states, kernel_size, _ = shape("conv.weight", 4)
    if kernel_size % 2 == 0:
        raise CheckpointError(f"{path.name}: conv.weight has a kernel of {kernel_size}; expected an odd number.")
    return config | {"fusion": "conv", "num_states": num_states, "kernel_size": kernel_size}


@one_at_a_time
def load_light_control(path: str | Path, *, dtype: torch.dtype | None = None) -> LightControl:
    """Load a LightControl, in evaluation mode on the CPU.

    path: a .bin or .pt pickle of tensors or a .safetensors file, both as in `read_weights`, or a folder that
    `LightControl.save_pretrained` wrote. dtype: None keeps the file's.

    Every size is read from the weights; a config.json beside them must agree. Raises CheckpointError, which names the
    file and the key at fault with its shape, got and expected.
    """
    path = _weights_file(path)
    weights = read_weights(path)
    config = _light_control_config(path, weights)
    _check_sidecar(path, "LightControl", config)
    try:
        with torch.device("meta"):
            light_control = LightControl(**config)
    except (ValueError, RuntimeError) as error:  # channels that the number of groups does not divide
        raise CheckpointError(f"{path.name} has sizes that no LightControl has ({error}); use the original.") from error
    return _fill(path, light_control, weights, dtype or weights[_STEM_WIDTHS[0]].dtype)


# Weights whose first dimension is a size of the configuration: `widths`, `dim` and `time_embed_dim`.
_STEM_WIDTHS = ("0.embedding.0.weight", "0.embedding.6.weight", "0.mid_convs.0.0.weight")
_TOKEN_WIDTH, _TIME_WIDTH = "0.mid_convs.1.weight", "0.time_embedding.linear_1.weight"


def _light_control_config(path: Path, weights: dict[str, torch.Tensor]) -> dict[str, Any]:
    for key in (*_STEM_WIDTHS, _TOKEN_WIDTH, _TIME_WIDTH):
        if key not in weights or weights[key].ndim != (2 if key == _TIME_WIDTH else 4):
            raise CheckpointError(f"{path.name} lacks {key}, or its shape is wrong; this is no LightControl.")
    blocks = {int(first) for first in (key.split(".")[0] for key in weights) if first.isdecimal()}
    return {
        "num_blocks": len(blocks),
        "dim": len(weights[_TOKEN_WIDTH]),
        "widths": [len(weights[key]) for key in _STEM_WIDTHS],
        "time_embed_dim": len(weights[_TIME_WIDTH]),
    }


def _weights_file(path: str | Path) -> Path:
    return Path(path) / WEIGHTS_NAME if Path(path).is_dir() else Path(path)


def _fill(path: Path, module, weights: dict[str, torch.Tensor], dtype: torch.dtype):
    """The module with these weights, ready for use."""
    check_state_dict(path, weights, module)
    module.load_state_dict(weights, strict=True, assign=True)
    # nn.Module's own `to`: diffusers' warns about modules that must stay in float32, which these do not have.
    return torch.nn.Module.to(module.requires_grad_(False), dtype).eval()


# ----- Reading -------------------------------------------------------------------------------------------------------

_ZIP = b"PK\x03\x04"
# Under these keys training frameworks and ComfyUI's nodes wrap the weights: {"config": ..., "state_dict": {...}}.
_WRAPPERS = ("state_dict", "model_state_dict", "module", "model", "ema", "align_net", "alignnet", "proj")
_WRAPPERS += ("params_ema", "params")  # of upscalers
_MAX_WRAPPERS = 3  # around one another; a pickle may also wrap itself
# DistributedDataParallel and torch.compile put the first two in front of every key, in either order; the others are
# names of the module in a larger one.
_PREFIXES = ("module.", "_orig_mod.", "model.", "align_net.", "alignnet.", "proj.")


def read_weights(path: Path) -> dict[str, torch.Tensor]:
    """As `read_state_dict`, without prefixes such as `module.` and `_orig_mod.`.

    Raises CheckpointError also if two keys differ only in these prefixes.
    """
    weights: dict[str, torch.Tensor] = {}
    for key, value in read_state_dict(path).items():
        name = key
        while prefix := next((each for each in _PREFIXES if name.startswith(each)), None):
            name = name.removeprefix(prefix)
        if name in weights:
            raise CheckpointError(f"{path.name} has {name} twice, with different prefixes; keep one.")
        weights[name] = value
    return weights


def read_state_dict(path: Path) -> dict[str, torch.Tensor]:
    """Named tensors of a .safetensors, .bin or .pt file; nothing in it is executed.

    The content decides which kind it is, whatever its name. A dictionary that holds the weights under "state_dict",
    "module" or another of the usual keys is opened. Raises CheckpointError.
    """
    check_file(path)
    check_archive(path)
    try:
        if _is_safetensors(path):
            with safe_open(path, framework="pt") as file:
                return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
        with path.open("rb") as file:  # by its name, torch.load would read some pickles as safetensors
            content = torch.load(file, map_location="cpu", weights_only=True)
    except SafetensorError as error:
        raise CheckpointError(f"{path.name} is cut or damaged ({error}); download it again.") from error
    except Exception as error:  # torch.load raises anything, from EOFError to UnpicklingError
        reason = str(error).split("\n")[0][:120] or type(error).__name__
        raise CheckpointError(
            f"{path.name} is damaged or holds more than tensors, and was not opened ({reason}); use the released file."
        ) from error
    for _ in range(_MAX_WRAPPERS):
        if isinstance(content, dict):
            content = next((content[key] for key in _WRAPPERS if isinstance(content.get(key), dict)), content)
    if not isinstance(content, dict) or not all(isinstance(value, torch.Tensor) for value in content.values()):
        raise CheckpointError(f"{path.name} holds no dictionary of named tensors; use the released file.")
    for key in content:
        if not isinstance(key, str):
            raise CheckpointError(f"{path.name} has a weight with the key {key!r}, which is no text; use the original.")
    _check_bytes(path, content)
    return content


def _is_safetensors(path: Path) -> bool:
    with path.open("rb") as file:
        head = file.read(9)
    return head[8:] == b"{" or (path.suffix.lower() in SAFETENSORS and not head.startswith(_ZIP))


def check_archive(path: Path) -> None:
    """Raise CheckpointError for an archive that could expand to more than the memory, or is cut.

    PyTorch stores each tensor once and uncompressed.
    """
    with path.open("rb") as file:
        if file.read(len(_ZIP)) != _ZIP:  # torch.load tells archives from the older format in the same way
            return
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except Exception as error:  # hostile bytes make it raise anything
        reason = str(error).split("\n")[0][:120] or type(error).__name__
        raise CheckpointError(f"{path.name} is cut or damaged ({reason}); download it again.") from error
    if packed := [entry.filename for entry in entries if entry.compress_type != zipfile.ZIP_STORED]:
        raise CheckpointError(f"{path.name} has compressed entries ({packed[0]!r}); save it with torch.save.")
    claimed, present = sum(entry.file_size for entry in entries), path.stat().st_size
    if claimed > present:
        raise CheckpointError(
            f"{path.name} has {present:,} bytes but its entries claim {claimed:,}; save it with torch.save."
        )


def _check_bytes(path: Path, state_dict: dict[str, torch.Tensor]) -> None:
    """Tensors that share memory fit into few bytes, and need many as soon as they are cast or moved."""
    dense = [value for value in state_dict.values() if value.layout == torch.strided and not value.is_meta]
    claimed, present = sum(value.numel() * value.element_size() for value in dense), path.stat().st_size
    if claimed > present:
        raise CheckpointError(
            f"{path.name} has {present:,} bytes but its weights claim {claimed:,}: some share memory; save each whole."
        )


# ----- Checking ------------------------------------------------------------------------------------------------------


def check_state_dict(path: Path, state_dict: dict[str, torch.Tensor], module: torch.nn.Module) -> None:
    """Check every name, shape and number against a module. Raises CheckpointError about the first fault."""
    check_shapes(path, {key: tuple(value.shape) for key, value in state_dict.items()}, module)
    for key, value in state_dict.items():
        if not value.is_floating_point():
            raise CheckpointError(f"{path.name}: {key} is {value.dtype}, expected floating point numbers.")
        _check_numbers(path, key, value)


def check_shapes(path: Path, shapes: Mapping[str, tuple[int, ...]], module: torch.nn.Module) -> None:
    """Check names and shapes against a module. Raises CheckpointError about the first difference."""
    expected = {key: tuple(value.shape) for key, value in module.state_dict().items()}
    for key in expected.keys() - shapes.keys():
        raise CheckpointError(f"{path.name} lacks {key} {expected[key]}; use a file made for this model.")
    for key in shapes.keys() - expected.keys():
        raise CheckpointError(f"{path.name} has {key}, which this model does not have; use a file made for it.")
    for key, shape in expected.items():
        if shapes[key] != shape:
            raise CheckpointError(
                f"{path.name}: {key} has the shape {shapes[key]}, expected {shape}; use the matching file."
            )


def _check_numbers(path: Path, key: str, value: torch.Tensor) -> None:
    if value.layout != torch.strided or value.is_meta:
        kind = "without its numbers" if value.is_meta else f"stored as {value.layout}"
        raise CheckpointError(f"{path.name}: {key} is {kind}, expected an ordinary tensor; save it again.")
    if any(step == 0 and size > 1 for step, size in zip(value.stride(), value.shape, strict=True)):
        raise CheckpointError(f"{path.name}: {key} repeats one number instead of storing each; save it whole.")
    if not value.float().isfinite().all():
        raise CheckpointError(f"{path.name}: {key} has numbers that are not finite (NaN or infinite); train it again.")


def _check_sidecar(path: Path, class_name: str, config: dict[str, Any]) -> None:
    """The config.json of this class beside the weights must agree with them."""
    sidecar = path.parent / "config.json"
    if not sidecar.is_file():
        return
    try:
        claimed = json.loads(sidecar.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CheckpointError(
            f"{sidecar.name} beside {path.name} is not valid JSON ({error}); save it again."
        ) from error
    if not isinstance(claimed, dict):
        raise CheckpointError(
            f"{sidecar.name} beside {path.name} is no dictionary of names and values; save it again, or remove it."
        )
    if claimed.get("_class_name") != class_name:
        return
    for key, value in config.items():
        if claimed.get(key, value) != value:
            raise CheckpointError(
                f"{sidecar.name} says {key} is {claimed[key]!r}, but {path.name} was made for {value!r}; "
                "keep the two files of one model together."
            )
