"""Weights in the forms in which FLUX models are shared, read tensor by tensor: a whole model is never in memory twice.

Read are .safetensors files in 32, 16 and 8 bit floating point (8 bit with or without scales), bitsandbytes' 4 and 8
bit, and GGUF. Other forms are known by the names of their tensors, and refused by their own name.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf
import torch
from bitsandbytes.functional import QuantState
from diffusers.quantizers.gguf.utils import SUPPORTED_GGUF_QUANT_TYPES, GGUFParameter, dequantize_gguf_tensor
from safetensors import SafetensorError, safe_open

from x2i_app.errors import CheckpointError
from x2i_app.loading.files import GGUF, check_file
from x2i_app.loading.quantization import dequantize_flat

# Keys beside a weight. Its scale, for which ComfyUI has had two names, and hints for 8-bit kernels.
_SCALES = (".scale_weight", ".weight_scale")
_KERNEL_HINTS = (".scale_input", ".input_scale", ".comfy_quant", "scaled_fp8", ".weight_format")
# bitsandbytes' own: what follows the name of a 4-bit weight, and the scales of an 8-bit one.
_FOUR_BIT = (".absmax", ".quant_map", ".nested_absmax", ".nested_quant_map")
_FOUR_BIT_STATE = ".quant_state.bitsandbytes__"
_SCB = ".SCB"
_EIGHT_BIT = (torch.float8_e4m3fn, torch.float8_e5m2)
_UNQUANTIZED = {
    gguf.GGMLQuantizationType.F32: torch.float32,
    gguf.GGMLQuantizationType.F16: torch.float16,
    gguf.GGMLQuantizationType.BF16: torch.bfloat16,
}
# Forms that are not read, by the end of a key.
_OTHER_FORMS = {
    "nunchaku (SVDQuant)": (".qweight", ".wscales", ".smooth_factor", ".smooth"),
    "NVFP4": (".weight_scale_2", ".weight_global_scale"),
    "optimum-quanto": ("._data", ".weight._scale", ".input_qtype"),
    "FP8 in blocks": (".weight_scale_inv",),
    "GPTQ": (".qzeros", ".g_idx"),
    "torchao": (".weight_scale_and_zero",),
}
READABLE = "use the model in bf16, fp16, fp8, bitsandbytes' NF4, or GGUF"

# Smaller files are checked for NaN when they are loaded. Larger ones are only mapped, unless their numbers are
# converted anyway: a check would read all of them.
_CHECKED_BYTES = 2**31


@dataclass(frozen=True)
class Stored:
    """One weight in a file. shape: of the whole weight. key: in the file. quantization: of GGUF, None for numbers."""

    key: str
    shape: tuple[int, ...]
    file: int = 0
    quantization: gguf.GGMLQuantizationType | None = None


class WeightFiles:
    """The weights of one model in open files, by name. path: the file or folder, for error messages."""

    def __init__(self, path: Path):
        self.path = path
        self.weights: dict[str, Stored] = {}
        self.bytes = 0  # of all files

    def read(self, name: str) -> torch.Tensor:
        """A weight as stored, or dequantized to float32; a GGUFParameter if its form is GGUF's.

        Raises CheckpointError: numbers of another kind than floating point, or that are not finite.
        """
        raise NotImplementedError

    def check_finite(self, key: str, value: torch.Tensor, is_converted: bool) -> None:
        """Raises CheckpointError for NaN or infinity. is_converted: the numbers are read anyway."""
        is_checked = is_converted or value.ndim < 2 or self.bytes <= _CHECKED_BYTES
        if is_checked and not value.float().isfinite().all():
            raise CheckpointError(
                f"{self.path.name}: {key} has numbers that are not finite (NaN or infinite); download the model again."
            )

    def cannot_be_read(self, form: str, key: str) -> CheckpointError:
        """The error about a form that is not read."""
        return CheckpointError(
            f"{self.path.name} is in the form of {form} (it has {key}), which cannot be read; {READABLE}."
        )


@contextmanager
def open_weights(
    path: Path, files: Sequence[Path] = (), mark: tuple[str, ...] = (), other_parts: tuple[str, ...] = ()
) -> Iterator[WeightFiles]:
    """Open the weights of a model.

    path: a file, or the folder of `files`, for error messages. mark: names of which the model has one; what stands in
    front of it in the file stands in front of all its weights. other_parts: how the names of other models in the same
    file begin.
    Raises CheckpointError for a file that is cut, damaged, or in a form that cannot be read.
    """
    files = list(files) or [path]
    for file in files:
        check_file(file)
    if path.suffix.lower() == GGUF:
        yield _GGUFFile(path, mark)
        return
    with ExitStack() as stack:
        try:
            opened = [stack.enter_context(safe_open(file, framework="pt")) for file in files]
        except SafetensorError as error:
            raise CheckpointError(f"{path.name} is cut or damaged ({error}); download it again.") from error
        except OSError as error:
            raise CheckpointError(f"{path.name} cannot be opened; check its permissions.") from error
        found = _SafetensorsFiles(path, opened, mark, other_parts)
        found.bytes = sum(file.stat().st_size for file in files)
        yield found


def _prefix(keys: Iterable[str], mark: tuple[str, ...]) -> str:
    """What stands in front of the names of the model that has one of `mark`."""
    found = [key.removesuffix(name) for key in keys for name in mark if key == name or key.endswith(f".{name}")]
    return min(found, key=len, default="")


class _SafetensorsFiles(WeightFiles):
    def __init__(self, path: Path, files: list[safe_open], mark: tuple[str, ...], other_parts: tuple[str, ...]):
        super().__init__(path)
        self.files = files
        places = {key: number for number, file in enumerate(files) for key in file.keys()}  # noqa: SIM118
        prefix = _prefix(places, mark)
        self._beside: dict[str, int] = {}  # keys of scales and states
        for key, number in places.items():
            if not key.startswith(prefix) or (not prefix and key.startswith(other_parts)):
                continue
            name = key.removeprefix(prefix)
            if key.endswith((*_SCALES, *_KERNEL_HINTS, *_FOUR_BIT, _SCB)) or _FOUR_BIT_STATE in key:
                self._beside[name] = number
                continue
            for form, ends in _OTHER_FORMS.items():
                if key.endswith(ends):
                    raise self.cannot_be_read(form, key)
            shape = tuple(files[number].get_slice(key).get_shape())
            self.weights[name] = Stored(key, shape, number)
        self._prefix = prefix
        for name in self._beside:
            if name.endswith(".comfy_quant"):
                self._check_form(name)
            elif _FOUR_BIT_STATE in name:
                self._set_shape(name)

    def _get(self, name: str, number: int) -> torch.Tensor:
        return self.files[number].get_tensor(self._prefix + name)

    def _check_form(self, name: str) -> None:
        """ComfyUI writes beside each quantized layer what its form is."""
        form = self._read_json(name).get("format")
        if form is not None and not str(form).startswith("float8"):
            raise self.cannot_be_read(str(form)[:40], self._prefix + name)

    def _read_json(self, name: str) -> dict[str, Any]:
        try:
            content = json.loads(bytes(self._get(name, self._beside[name]).flatten().tolist()))
            if not isinstance(content, dict):
                raise ValueError
        except (ValueError, TypeError, RecursionError) as error:
            raise CheckpointError(f"{self.path.name}: {name} is damaged; download the model again.") from error
        return content

    def _set_shape(self, name: str) -> None:
        """The shape of a 4-bit weight stands in its state; the file has its bytes in one column."""
        weight = name.partition(_FOUR_BIT_STATE)[0]
        shape = self._read_json(name).get("shape")
        if weight not in self.weights or not isinstance(shape, list) or not all(isinstance(n, int) for n in shape):
            raise CheckpointError(f"{self.path.name}: {name} is damaged; download the model again.")
        self.weights[weight] = Stored(self.weights[weight].key, tuple(shape), self.weights[weight].file)

    def read(self, name: str) -> torch.Tensor:
        """As in WeightFiles."""
        stored = self.weights[name]
        value = self.files[stored.file].get_tensor(stored.key)
        scale = self._beside_weight(name, _SCALES)
        if value.dtype == torch.uint8 and (state := self._four_bit_state(name)):
            value = self._dequantized_four_bit(name, value, state)
        elif value.dtype == torch.int8 and (scales := self._beside_weight(name, (_SCB,))) is not None:
            value = value.float() * self._per_row(stored.key, value, scales) / 127
        elif not value.is_floating_point() or (scale is not None and value.dtype not in _EIGHT_BIT):
            kind = str(value.dtype).removeprefix("torch.")
            raise CheckpointError(
                f"{self.path.name} is quantized in a form that cannot be read ({stored.key} is {kind}); {READABLE}."
            )
        elif scale is not None:
            value = value.float() * self._per_row(stored.key, value, scale)
        elif value.dtype in _EIGHT_BIT:
            value = value.float()
        else:
            self.check_finite(stored.key, value, is_converted=False)
            return value
        self.check_finite(stored.key, value, is_converted=True)
        return value

    def _beside_weight(self, name: str, ends: tuple[str, ...]) -> torch.Tensor | None:
        module = name.removesuffix(".weight")
        found = [module + end for end in ends if module + end in self._beside]
        return self._get(found[0], self._beside[found[0]]) if found and name.endswith(".weight") else None

    def _per_row(self, key: str, value: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
        """A scale that is one number for all of a weight or one for each row."""
        if scale.numel() not in (1, *value.shape[:1]) or not scale.is_floating_point():
            raise CheckpointError(
                f"{self.path.name}: the scale of {key} has the shape {tuple(scale.shape)}; expected one number for "
                "each row."
            )
        return scale.float().reshape(-1, *[1] * (value.ndim - 1))

    def _four_bit_state(self, name: str) -> dict[str, torch.Tensor]:
        beside = [key for key in self._beside if key.startswith(f"{name}.")]
        return {key.removeprefix(f"{name}."): self._get(key, self._beside[key]) for key in beside}

    def _dequantized_four_bit(self, name: str, value: torch.Tensor, state: dict[str, torch.Tensor]) -> torch.Tensor:
        try:
            quant_state = QuantState.from_dict(state, device=torch.device("cpu"))
            quant_state.dtype = torch.float32
            found = dequantize_flat(value, quant_state)
        except (KeyError, ValueError, RuntimeError, AssertionError, AttributeError, TypeError) as error:
            reason = str(error).split("\n")[0][:120] or type(error).__name__
            raise CheckpointError(
                f"{self.path.name}: the 4-bit weight {name} is damaged ({reason}); download the model again."
            ) from error
        return found


class _GGUFFile(WeightFiles):
    """The file is mapped, so that its weights take memory only while they are used."""

    def __init__(self, path: Path, mark: tuple[str, ...]):
        super().__init__(path)
        self.bytes = path.stat().st_size
        try:
            reader = gguf.GGUFReader(path, "c")  # copied when written to, which nobody does; torch wants it writable
            self._tensors = {tensor.name: tensor for tensor in reader.tensors}
            field = reader.get_field("general.architecture")
            architecture = str(field.contents()) if field else "flux"
        except Exception as error:  # hostile bytes make the reader raise anything
            reason = str(error).split("\n")[0][:120] or type(error).__name__
            raise CheckpointError(f"{path.name} is cut or damaged ({reason}); download it again.") from error
        if architecture != "flux":
            raise CheckpointError(
                f"{path.name} is a GGUF file of {architecture[:40]}, not of FLUX.1; use another file."
            )
        prefix = _prefix(self._tensors, mark)
        for key, tensor in self._tensors.items():
            kind = tensor.tensor_type
            if kind not in (*_UNQUANTIZED, *SUPPORTED_GGUF_QUANT_TYPES):
                raise self.cannot_be_read(f"GGUF {kind.name}", key)
            shape = tuple(int(size) for size in reversed(tensor.shape))
            self.weights[key.removeprefix(prefix)] = Stored(key, shape, 0, None if kind in _UNQUANTIZED else kind)

    def read(self, name: str) -> torch.Tensor:
        """As in WeightFiles."""
        stored = self.weights[name]
        tensor = self._tensors[stored.key]
        data = torch.from_numpy(tensor.data)
        if stored.quantization is not None:
            return GGUFParameter(data, quant_type=stored.quantization)
        value = data if data.is_floating_point() else data.view(_UNQUANTIZED[tensor.tensor_type])
        value = value.reshape(stored.shape)
        self.check_finite(stored.key, value, is_converted=False)
        return value


def rows_of(value: torch.Tensor, pick: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
    """What `pick` takes of the rows of a weight (out, in); in GGUF's form a row is a row of bytes (out, bytes)."""
    if isinstance(value, GGUFParameter):
        return GGUFParameter(pick(value.as_tensor()), quant_type=value.quant_type)
    return pick(value)


def expanded(value: torch.Tensor) -> torch.Tensor:
    """A weight as floating-point numbers: dequantized if it is in GGUF's form, else as it is."""
    return dequantize_gguf_tensor(value) if isinstance(value, GGUFParameter) else value
