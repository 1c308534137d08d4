"""Weights in 4 bit, kept on disk after they were quantized once: the next start reads only a quarter of the bytes.

An entry is a safetensors file in `folder()`, with what it was made from and a checksum of each tensor in its metadata.
An entry that is cut, damaged, or was made from other files or by another version is made again.
"""

import hashlib
import json
import logging
import os
import shutil
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import bitsandbytes as bnb
import numpy as np
import psutil
import torch
from huggingface_hub import constants
from safetensors import SafetensorError, safe_open
from torch import nn

from x2i_app.disk import flush
from x2i_app.loading.quantization import Linear4bit

logger = logging.getLogger(__name__)

_VERSION = 1  # of the entries; those of another are made again
_LEAST_BYTES = 2**29  # of the weights to quantize: fewer take no time worth the disk space
_SPARE_BYTES = 4 * 2**30  # left free on the disk
_STATE = ".quant_state.bitsandbytes__nf4"
_SCALES = ("absmax", "quant_map", "nested_absmax", "nested_quant_map")
_DTYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}

Watch = Callable[[str, int, int], None]  # what is done, bytes of a tensor, bytes of all


def folder() -> Path:
    """Where the entries are: beside the hub's cache."""
    return Path(constants.HF_HOME) / "x2i" / "quantized"


@dataclass(frozen=True)
class KeptWeights:
    """The entry of one part of a model in NF4.

    part: "the MLLM" or "FLUX". files: with its weights and its configuration. dtype: of what is not quantized.
    device: the type of the device that quantizes. watch: told of each tensor; what it raises stops the work.
    """

    part: str
    files: Sequence[Path]
    dtype: torch.dtype
    device: str
    watch: Watch | None = None

    @property
    def path(self) -> Path:
        """The entry's file. One with other dtypes, or of a source in another place, is an entry of its own."""
        key = json.dumps([self.part, *(str(file.absolute()) for file in self.files), str(self.dtype), self.device])
        return folder() / f"{self.part.split()[-1].lower()}-{hashlib.sha256(key.encode()).hexdigest()[:16]}.safetensors"

    def fill(self, module: nn.Module) -> bool:
        """Give a module without weights, on the meta device, those of the entry, on the CPU.

        Returns False, and leaves the module as it is, if there is no entry that fits.
        """
        try:
            if not self.path.is_file():
                return False
            tensors = self._read()
            layers, others = _sorted(module, tensors)
        except (OSError, ValueError, LookupError, TypeError, RuntimeError, SafetensorError) as error:
            logger.info("%s is made again: %s", self.path, error)
            return False
        for name, layer in layers.items():
            parent, _, child = name.rpartition(".")
            setattr(module.get_submodule(parent), child, layer)
        for name, tensor in others.items():
            _put(module, name, tensor)
        return True

    def keep(self, module: nn.Module) -> None:
        """Write the entry. Does nothing for a small model, or if the disk is nearly full or read-only, but says so."""
        if sum(layer.weight.numel() for layer in module.modules() if isinstance(layer, Linear4bit)) < _LEAST_BYTES // 2:
            return
        if len([*module.parameters()]) != len([*module.named_parameters(remove_duplicate=False)]):
            return  # weights that are shared would be stored twice
        tensors = dict(_tensors(module))
        size = sum(tensor.nbytes for tensor in tensors.values())
        temporary = self.path.with_suffix(f".{os.getpid()}")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            _remove_useless(self.path.parent)
            if shutil.disk_usage(self.path.parent).free < size + _SPARE_BYTES:
                logger.info("%s in 4 bit is not kept, as the disk of %s is nearly full.", self.part, self.path)
                return
            self._write(temporary, tensors, size)
            temporary.replace(self.path)
            logger.info("%s in 4 bit is kept for the next start: %s, %.1f GB", self.part, self.path, size / 1e9)
        except OSError as error:
            logger.info("%s in 4 bit is not kept: %s", self.part, error)
        finally:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)

    def _identity(self) -> str:
        status = [(str(file.absolute()), file.stat().st_size, file.stat().st_mtime_ns) for file in self.files]
        made_by = {"bitsandbytes": version("bitsandbytes"), "version": _VERSION, "device": self.device}
        return json.dumps({"part": self.part, "files": status, "dtype": str(self.dtype), **made_by})

    def _read(self) -> dict[str, torch.Tensor]:
        """The tensors of the entry, mapped from its file. Raises ValueError for one of another source or content."""
        tensors: dict[str, torch.Tensor] = {}
        size = self.path.stat().st_size
        with safe_open(self.path, framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("source") != self._identity():
                raise ValueError("it was made from other files, or by another version")
            sums = json.loads(metadata["crc32"])
            for name in file.keys():  # noqa: SIM118 (not a dict)
                tensors[name] = file.get_tensor(name)
                if zlib.crc32(_bytes(tensors[name])) != int(sums[name], 16):
                    raise ValueError(f"{name} is damaged")
                if self.watch:
                    self.watch(f"Reading {self.part} in 4 bit", tensors[name].nbytes, size)
        return tensors

    def _write(self, path: Path, tensors: dict[str, torch.Tensor], size: int) -> None:
        """safetensors' own `save_file` holds a copy of all tensors; this writes one after the other."""
        entries, end, sums = {}, 0, dict.fromkeys(tensors, "0" * 8)
        for name, tensor in tensors.items():
            offsets = [end, end + tensor.nbytes]
            entries[name] = {"dtype": _DTYPES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": offsets}
            end = offsets[1]

        def header() -> bytes:
            metadata = {"source": self._identity(), "crc32": json.dumps(sums)}
            text = json.dumps({"__metadata__": metadata, **entries}).encode()
            text += b" " * (-len(text) % 8)
            return len(text).to_bytes(8, "little") + text

        with path.open("wb") as file:
            file.write(header())
            for name, tensor in tensors.items():
                content = _bytes(tensor)
                sums[name] = f"{zlib.crc32(content):08x}"
                file.write(content)
                if self.watch:
                    self.watch(f"Keeping {self.part} in 4 bit", tensor.nbytes, size)
            file.seek(0)
            file.write(header())  # of the same length
            flush(file)


def _remove_useless(directory: Path) -> None:
    """Delete the entries of models that are no longer there, and what processes left that ended while they wrote."""
    for path in directory.iterdir():
        process = path.suffix.removeprefix(".")
        if process.isdecimal():
            is_useless = not psutil.pid_exists(int(process))
        else:
            is_useless = path.suffix == ".safetensors" and not all(source.exists() for source in _sources(path))
        if is_useless:
            with suppress(OSError):  # on Windows, while another process reads it
                size = path.stat().st_size
                path.unlink()
                logger.info("%s is deleted: %.1f GB that nothing uses", path, size / 1e9)


def _sources(entry: Path) -> list[Path]:
    """The files that an entry was made from; the entry itself, if it does not say so."""
    try:
        with safe_open(entry, framework="pt") as file:
            return [Path(name) for name, _, _ in json.loads(file.metadata()["source"])["files"]]
    except (SafetensorError, ValueError, LookupError, TypeError):
        return [entry]


def _tensors(module: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    """Every parameter and buffer by name, also buffers that state dicts leave out, and the scales of 4-bit weights."""
    for name, tensor in (*module.named_parameters(), *module.named_buffers()):
        yield name, tensor.detach()
        if isinstance(tensor, bnb.nn.Params4bit):
            for key, value in tensor.quant_state.as_dict(packed=True).items():
                yield f"{name}.{key}", value


def _sorted(module: nn.Module, tensors: dict[str, torch.Tensor]) -> tuple[dict[str, nn.Module], dict[str, Any]]:
    """The 4-bit layers by name, and the tensors of everything else. Raises ValueError for what does not fit."""
    expected = dict((*module.named_parameters(), *module.named_buffers()))
    layers: dict[str, nn.Module] = {}
    for key in [key for key in tensors if key.endswith(_STATE)]:
        weight = key.removesuffix(_STATE)
        name = weight.removesuffix(".weight")
        data = tensors.pop(weight)
        state = {part: tensors.pop(f"{weight}.{part}") for part in (*_SCALES, _STATE[1:])}
        layers[name] = _layer(module.get_submodule(name), data, state)
        if layers[name].weight.quant_state.shape != expected.pop(weight).shape:
            raise ValueError(f"{weight} has another shape")
    if wrong := expected.keys() ^ tensors.keys():
        raise ValueError(f"{min(wrong)} is on one side only")
    for name, tensor in tensors.items():
        if tensor.shape != expected[name].shape:
            raise ValueError(f"{name} has another shape")
    return layers, tensors


def _layer(layer: nn.Linear, data: torch.Tensor, state: dict[str, torch.Tensor]) -> Linear4bit:
    weight = bnb.nn.Params4bit.from_prequantized(data, state, device="cpu")
    with torch.device("meta"):
        has_bias = layer.bias is not None
        small = Linear4bit(layer.in_features, layer.out_features, has_bias, compute_dtype=weight.quant_state.dtype)
    small.weight = weight
    return small.train(layer.training).requires_grad_(False)


def _put(module: nn.Module, name: str, tensor: torch.Tensor) -> None:
    parent_name, _, child = name.rpartition(".")
    parent = module.get_submodule(parent_name)
    if child in parent._parameters:
        setattr(parent, child, nn.Parameter(tensor, requires_grad=False))
    else:
        parent._buffers[child] = tensor


def _bytes(tensor: torch.Tensor) -> np.ndarray:
    return tensor.cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
