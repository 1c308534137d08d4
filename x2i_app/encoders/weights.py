"""Weights of an MLLM: never code, each of them known, none missing, none made up, and all as the model wants them."""

from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError, safe_open
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.utils import logging as transformers_logging

from x2i_app.errors import CheckpointError

# What transformers and its helpers raise of files that are not as they should be.
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
    """A model from a folder's safetensors, on the CPU. left_out: how the names begin of weights that it has no use for.

    Raises CheckpointError, naming a key, if the files and the configuration do not agree on every weight and shape.
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
        raise CheckpointError(f"{directory.name} cannot be loaded as {family}: {first_line(error)}") from error
    # transformers only warns of these, and makes weights up.
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
    """Raise CheckpointError about the first of what differs. shapes: key, shape got, shape expected."""
    if missing:
        raise CheckpointError(
            f"{directory.name} lacks {len(missing)} weights, among them {min(missing)}; use the complete model."
        )
    if unknown:
        raise CheckpointError(
            f"{directory.name} has {len(unknown)} weights that {family} has no place for, among them {min(unknown)}."
        )
    for key, got, expected in shapes:
        if tuple(got) != tuple(expected):
            raise CheckpointError(f"{key} of {directory.name} has the shape {tuple(got)}; expected {tuple(expected)}.")


@contextmanager
def quiet_loading() -> Iterator[None]:
    """No report that the head is left out on purpose; what is missing is checked here."""
    verbosity = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)


def read_head(directory: Path, keys: tuple[str, ...], embedding: torch.Tensor) -> torch.nn.Parameter:
    """The head's weight, which is shaped as the embedding: the first of these keys that the folder's safetensors hold.

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
        f"{directory.name} has no {' or '.join(keys)}, which answering needs; use the complete model, or do not reason."
    )


def first_line(error: Exception) -> str:
    """What an exception says, short enough for a sentence."""
    # A strict dataclass says on its first line only that something is wrong, and on the next what.
    count = 2 if isinstance(error, StrictDataclassError) else 1
    lines = [line.strip() for line in str(error).split("\n") if line.strip()]
    return " ".join(lines[:count])[:300] or type(error).__name__
