"""Strict loading of MLLM weights: safetensors only, and every key and shape must match the model."""

import importlib.util
import json
from collections.abc import Callable, Collection, Iterable, Iterator, Sized
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError, safe_open
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.utils import logging as transformers_logging

from x2i_app.errors import CheckpointError

# What transformers and its helpers raise for damaged or unsuitable files.
LOADING_ERRORS = (
    OSError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    ArithmeticError,
    RuntimeError,
    StrictDataclassError,
    SafetensorError,
)


def load_strictly(
    cls: type[PreTrainedModel],
    directory: Path,
    family: str,
    config: PreTrainedConfig,
    dtype: torch.dtype | str,
    left_out: tuple[str, ...],
    key_mapping: dict[str, str] | None = None,
) -> PreTrainedModel:
    """Load a model from a folder's safetensors files onto the CPU.

    left_out: prefixes of weights that are ignored. key_mapping: patterns of keys, and what replaces them, besides those
    that transformers knows.
    Raises CheckpointError, naming a key, if the files and the configuration disagree on any weight or shape.
    """
    try:
        with quiet_loading(), _told_to_watch():
            model, report = cls.from_pretrained(
                directory,
                config=config,
                dtype=dtype,
                local_files_only=True,
                use_safetensors=True,  # a pickle may hold code
                ignore_mismatched_sizes=True,  # reported, and refused here
                output_loading_info=True,
                key_mapping=key_mapping,
                device_map={"": "meta"} if _without_values.get() else None,
            )
    except LOADING_ERRORS as error:
        raise CheckpointError(f"{directory.name} cannot be loaded as {family}: {short_message(error)}") from error
    # transformers only warns about these, and fills missing weights with random values.
    unknown = [key for key in report["unexpected_keys"] if not key.startswith(left_out)]
    refuse_differences(directory, family, report["missing_keys"], unknown, report["mismatched_keys"])
    return model


_without_values: ContextVar[bool] = ContextVar("x2i_without_values", default=False)


@contextmanager
def without_values() -> Iterator[None]:
    """Inside the block, `load_strictly` compares names and shapes as always, and leaves the model on the meta device.

    The values of the weights stay in the files, which are only mapped.
    """
    token = _without_values.set(True)
    try:
        yield
    finally:
        _without_values.reset(token)


def refuse_differences(
    directory: Path,
    family: str,
    missing: Collection[str],
    unknown: Collection[str],
    shapes: Iterable[tuple[str, tuple[int, ...], tuple[int, ...]]],
) -> None:
    """Raise CheckpointError for the first difference. shapes: (key, shape in the file, shape expected)."""
    if missing:
        raise CheckpointError(
            f"{directory.name} lacks {len(missing)} weights, such as {min(missing)}; use the complete model."
        )
    if unknown:
        raise CheckpointError(
            f"{directory.name} has {len(unknown)} weights that are unknown to {family}, such as {min(unknown)}; "
            f"choose a {family} model."
        )
    for key, got, expected in shapes:
        if tuple(got) != tuple(expected):
            raise CheckpointError(f"{key} of {directory.name} has shape {tuple(got)}; expected {tuple(expected)}.")


# Python packages with which transformers reads a folder that was quantized by other methods.
_QUANTIZERS = {
    "bitsandbytes": "bitsandbytes",
    "awq": "gptqmodel",
    "gptq": "gptqmodel",
    "compressed-tensors": "compressed_tensors",
    "auto-round": "auto_round",
    "aqlm": "aqlm",
    "hqq": "hqq",
    "quanto": "optimum.quanto",
    "torchao": "torchao",
}


def check_quantization(directory: Path) -> None:
    """Raise CheckpointError for a folder that was quantized by a method that cannot be read here."""
    try:
        config = json.loads((directory / "config.json").read_text(encoding="utf-8"))
        method = config["quantization_config"]["quant_method"]
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return  # not quantized, or reported by the code that reads the configuration for its model
    package = _QUANTIZERS.get(str(method))
    if package is None or importlib.util.find_spec(package.partition(".")[0]) is None:
        raise CheckpointError(
            f"{directory.name} is quantized by {str(method)[:40]}, which cannot be read here; use the original model, "
            "which the memory profiles quantize to 4 bit, or one that bitsandbytes quantized."
        )


@contextmanager
def quiet_loading() -> Iterator[None]:
    """Silence transformers' report about weights; the head is left out on purpose, and the rest is checked here."""
    verbosity = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)


_watch: ContextVar[Callable[[float], None] | None] = ContextVar("x2i_watch_weights", default=None)


@contextmanager
def watch_weights(watch: Callable[[float], None]) -> Iterator[None]:
    """Inside the block, `watch` is called before each weight that `load_strictly` reads; what it raises stops reading.

    watch: takes the weight's share of the model's weights by number, above 0 and up to 1.
    """
    token = _watch.set(watch)
    try:
        yield
    finally:
        _watch.reset(token)


@contextmanager
def _told_to_watch() -> Iterator[None]:
    """transformers has no callback for the weights that it reads, but it lets others make its progress bars."""
    watch = _watch.get()
    if watch is None:
        yield
        return

    def make_bar(factory: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        is_weights = kwargs.get("desc") == "Loading weights"
        return _watched(args[0], watch) if is_weights else factory(*args, **kwargs)

    former = transformers_logging.set_tqdm_hook(make_bar)
    try:
        yield
    finally:
        transformers_logging.set_tqdm_hook(former)


def _watched(weights: Sized, watch: Callable[[float], None]) -> Iterator[Any]:
    for weight in weights:
        watch(1 / len(weights))
        yield weight


def read_head(directory: Path, keys: tuple[str, ...], embedding: torch.Tensor) -> torch.nn.Parameter:
    """Read the language-model head from a folder's safetensors: the first of `keys` that is found.

    embedding: the head must have its shape, and gets its dtype and device.
    Raises CheckpointError if there is none, or one of another shape.
    """
    for file in sorted(directory.glob("*.safetensors")):
        try:
            with safe_open(file, framework="pt") as weights:
                key = next((key for key in keys if key in weights.keys()), None)  # noqa: SIM118 (not a dict)
                weight = weights.get_tensor(key) if key else None
        except (OSError, SafetensorError) as error:
            raise CheckpointError(f"{file.name} of {directory.name} is damaged; download it again.") from error
        if weight is not None:
            refuse_differences(directory, "", (), (), [(key, weight.shape, embedding.shape)])
            return torch.nn.Parameter(weight.to(embedding), requires_grad=False)
    raise CheckpointError(
        f"{directory.name} has no {' or '.join(keys)}, which is needed to answer; "
        "use the complete model, or turn reasoning off."
    )


def short_message(error: Exception) -> str:
    """The message of an exception, shortened to be part of a sentence."""
    # The first row of a StrictDataclassError only says that something is wrong; the second says what.
    count = 2 if isinstance(error, StrictDataclassError) else 1
    rows = [row.strip() for row in str(error).split("\n") if row.strip()]
    return " ".join(rows[:count])[:300] or type(error).__name__
