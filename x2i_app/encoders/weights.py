"""Strict loading of MLLM weights: safetensors only, and every key and shape must match the model."""

from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

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
) -> PreTrainedModel:
    """Load a model from a folder's safetensors files onto the CPU.

    left_out: prefixes of weights that are ignored. Raises CheckpointError, naming a key, if the files and the
    configuration disagree on any weight or shape.
    """
    try:
        with quiet_loading():
            model, report = cls.from_pretrained(
                directory,
                config=config,
                dtype=dtype,
                local_files_only=True,
                use_safetensors=True,  # a pickle may hold code
                ignore_mismatched_sizes=True,  # reported, and refused here
                output_loading_info=True,
            )
    except LOADING_ERRORS as error:
        raise CheckpointError(f"{directory.name} cannot be loaded as {family}: {short_message(error)}") from error
    # transformers only warns about these, and fills missing weights with random values.
    unknown = [key for key in report["unexpected_keys"] if not key.startswith(left_out)]
    refuse_differences(directory, family, report["missing_keys"], unknown, report["mismatched_keys"])
    return model


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


@contextmanager
def quiet_loading() -> Iterator[None]:
    """Silence transformers' report about weights; the head is left out on purpose, and the rest is checked here."""
    verbosity = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)


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
