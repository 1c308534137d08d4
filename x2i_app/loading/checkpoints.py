"""Reading weights that somebody else wrote: safely (never code), strictly (every key), with words for what is wrong."""

import json
import zipfile
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from x2i_app.errors import CheckpointError
from x2i_app.load_lock import one_at_a_time
from x2i_app.loading.files import check_file
from x2i_app.models import AlignNet

_ZIP = b"PK\x03\x04"
WEIGHTS_NAME = "diffusion_pytorch_model.safetensors"  # what diffusers' save_pretrained writes


@one_at_a_time
def load_alignnet(
    path: str | Path,
    *,
    num_states: int | None = None,
    hidden_size: int | None = None,
    dtype: torch.dtype | None = None,
) -> AlignNet:
    """An AlignNet from any form in which its weights exist, in evaluation mode on the CPU.

    path: a .bin or .pt pickle of tensors (with or without a `module.` prefix on its keys, or wrapped as
    {"config", "state_dict"}), a .safetensors file, or a folder that `AlignNet.save_pretrained` wrote.
    num_states, hidden_size: L and H of the MLLM it must fit; None believes the file.
    dtype: None keeps the file's.

    The fusion kind and every size are read off the weights; a configuration beside them must agree.
    Raises CheckpointError, which names the file and, where one is to blame, the key with its shape, got and expected.
    """
    path = Path(path)
    if path.is_dir():
        path = path / WEIGHTS_NAME
    state_dict = without_prefix(path, read_state_dict(path))
    config = _config_from_weights(path, state_dict)
    config |= {k: v for k, v in (("num_states", num_states), ("hidden_size", hidden_size)) if v is not None}
    check_sidecar(path, "AlignNet", config)
    with torch.device("meta"):
        align_net = AlignNet(**config)
    check_state_dict(path, state_dict, align_net)
    align_net.load_state_dict(state_dict, strict=True, assign=True)
    align_net.requires_grad_(False)
    return align_net.to(dtype=dtype or state_dict["mlp.layernorm.weight"].dtype).eval()


def read_state_dict(path: Path) -> dict[str, torch.Tensor]:
    """Named tensors of a .safetensors, .bin or .pt file; nothing in it is ever executed.

    A wrapper {"config": ..., "state_dict": {...}} is opened. Raises CheckpointError for anything else.
    """
    check_file(path)
    _check_archive(path)
    try:
        if path.suffix.lower() == ".safetensors":
            with safe_open(path, framework="pt") as file:
                return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except SafetensorError as error:
        raise CheckpointError(f"{path.name} is cut or damaged ({error}); download it again.") from error
    except Exception as error:  # torch.load raises anything, from EOFError to UnpicklingError
        reason = str(error).split("\n")[0][:120] or type(error).__name__
        raise CheckpointError(
            f"{path.name} is damaged or holds more than tensors, and was not opened ({reason}); use the released file."
        ) from error
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        content = content["state_dict"]
    if not isinstance(content, dict) or not all(isinstance(value, torch.Tensor) for value in content.values()):
        raise CheckpointError(f"{path.name} holds no dictionary of named tensors; use the released file.")
    for key in content:
        if not isinstance(key, str):
            raise CheckpointError(f"{path.name} calls a weight {key!r}, which is no name; use the released file.")
    _check_bytes(path, content)
    return content


def _check_archive(path: Path) -> None:
    """PyTorch stores tensors as they are, each once; packed or overlapping ones could become more than the memory."""
    with path.open("rb") as file:
        if file.read(len(_ZIP)) != _ZIP:  # by which torch.load too tells archives from the older form
            return
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except Exception as error:  # hostile bytes make it raise anything
        reason = str(error).split("\n")[0][:120] or type(error).__name__
        raise CheckpointError(f"{path.name} is cut or damaged ({reason}); download it again.") from error
    if packed := [entry.filename for entry in entries if entry.compress_type != zipfile.ZIP_STORED]:
        raise CheckpointError(f"{path.name} has compressed entries ({packed[0]!r}); save it with torch.save.")
    claimed, there = sum(entry.file_size for entry in entries), path.stat().st_size
    if claimed > there:
        raise CheckpointError(
            f"{path.name} has {there:,} bytes but its entries claim {claimed:,}; save it with torch.save."
        )


def _check_bytes(path: Path, state_dict: dict[str, torch.Tensor]) -> None:
    """Tensors that are views of one another fit into few bytes, and fill the memory once they are cast or moved."""
    dense = [value for value in state_dict.values() if value.layout == torch.strided and not value.is_meta]
    claimed, there = sum(value.numel() * value.element_size() for value in dense), path.stat().st_size
    if claimed > there:
        raise CheckpointError(
            f"{path.name} has {there:,} bytes but its weights claim {claimed:,}: some share numbers; save each whole."
        )


def check_state_dict(path: Path, state_dict: dict[str, torch.Tensor], module: torch.nn.Module) -> None:
    """Compare names and shapes both ways, and look at every number. Raises CheckpointError about the first fault."""
    check_names_and_shapes(path, state_dict, module)
    for key, value in state_dict.items():
        if not value.is_floating_point():
            raise CheckpointError(f"{path.name}: {key} is {value.dtype}, expected floating point numbers.")
        _check_content(path, key, value)


def check_names_and_shapes(path: Path, state_dict: dict[str, torch.Tensor], module: torch.nn.Module) -> None:
    """Compare names and shapes both ways. Raises CheckpointError about the first difference."""
    expected = {key: tuple(value.shape) for key, value in module.state_dict().items()}
    for key in expected.keys() - state_dict.keys():
        raise CheckpointError(f"{path.name} lacks {key} {expected[key]}; use a file made for this model.")
    for key in state_dict.keys() - expected.keys():
        raise CheckpointError(f"{path.name} has {key}, which this model does not know; use a file made for it.")
    for key, shape in expected.items():
        got = tuple(state_dict[key].shape)
        if got != shape:
            raise CheckpointError(f"{path.name}: {key} has the shape {got}, expected {shape}; use the matching file.")


def _check_content(path: Path, key: str, value: torch.Tensor) -> None:
    if value.layout != torch.strided or value.is_meta:
        kind = "without its numbers" if value.is_meta else f"stored as {value.layout}"
        raise CheckpointError(f"{path.name}: {key} is {kind}, expected an ordinary tensor; save it again.")
    if any(step == 0 and size > 1 for step, size in zip(value.stride(), value.shape, strict=True)):
        raise CheckpointError(f"{path.name}: {key} repeats one number in place of its own; save it whole.")
    if not value.float().isfinite().all():
        raise CheckpointError(f"{path.name}: {key} has numbers that are not finite (NaN or infinite); train it again.")


def without_prefix(path: Path, state_dict: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The same weights without the `module.` that some trainers put in front of every name."""
    named: dict[str, torch.Tensor] = {}
    for key, value in state_dict.items():
        name = key.removeprefix("module.")
        if name in named:
            raise CheckpointError(f"{path.name} has {name} twice, with `module.` in front and without; keep one.")
        named[name] = value
    return named


def _config_from_weights(path: Path, state_dict: dict[str, torch.Tensor]) -> dict[str, Any]:
    def shape(key, ndim):
        if key not in state_dict or state_dict[key].ndim != ndim:
            raise CheckpointError(f"{path.name} lacks {key} or it is misshapen; this is not an AlignNet.")
        return state_dict[key].shape

    joint_dim, hidden_size = shape("mlp.projector.0.weight", 2)
    config = {"hidden_size": hidden_size, "joint_dim": joint_dim, "pooled_dim": shape("mlp.fc.1.weight", 2)[0]}
    if "cha_scale" in state_dict:
        return config | {"fusion": "scale", "num_states": shape("cha_scale", 4)[1]}
    _, num_states, kernel_size, _ = shape("conv.weight", 4)
    if kernel_size % 2 == 0:
        raise CheckpointError(f"{path.name}: conv.weight has a kernel of {kernel_size}; expected an odd number.")
    return config | {"fusion": "conv", "num_states": num_states, "kernel_size": kernel_size}


def check_sidecar(path: Path, class_name: str, config: dict[str, Any]) -> None:
    """A class' config.json beside the weights is a claim about them: refuse it if the weights say otherwise."""
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
