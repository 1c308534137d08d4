"""Is a file of weights what its name says, before anything opens it."""

import json
from pathlib import Path

from safetensors import SafetensorError, safe_open

from x2i_app.errors import CheckpointError

SUFFIXES = (".safetensors", ".bin", ".pt")
_MOST_LAYERS = 1000  # released ones have up to 57


def check_file(path: Path) -> None:
    """Raises CheckpointError for a file that is not there, or is no weights: empty, a Git LFS pointer, a web page."""
    if not path.is_file():
        raise CheckpointError(f"There is no file {str(path)!r}; check the path.")
    if path.suffix.lower() not in SUFFIXES:
        raise CheckpointError(f"{path.name} is no weights file; {', '.join(SUFFIXES)} can be read.")
    with path.open("rb") as file:
        head = file.read(64)
    if not head:
        raise CheckpointError(f"{path.name} is empty; download it again.")
    if head.startswith(b"version https://git-lfs"):
        raise CheckpointError(f"{path.name} is only a Git LFS pointer to the weights; fetch it with `git lfs pull`.")
    if head.lstrip()[:1] == b"<":
        raise CheckpointError(f"{path.name} is a web page instead of weights; download the file itself.")


def check_folder(directory: Path) -> None:
    """Look at every safetensors file of a model, in the folder and the folders in it, without reading the weights.

    Raises CheckpointError for one that is missing, cut, or no weights at all, and for more layers than any model has.
    """
    for path in [*directory.glob("config.json"), *directory.glob("*/config.json")]:
        check_config(path)
    for path in missing_shards(directory):
        raise CheckpointError(f"{path.name} is missing from {directory.name}; download the complete model.")
    for path in sorted(directory.glob("*.safetensors")) + sorted(directory.glob("*/*.safetensors")):
        check_file(path)
        try:
            with safe_open(path, framework="pt"):
                pass
        except (SafetensorError, OSError) as error:
            raise CheckpointError(
                f"{path.name} of {directory.name} is cut or damaged ({error}); download it again."
            ) from error


def check_config(path: Path) -> None:
    """Raises CheckpointError if a model's config.json asks for more layers than any model has.

    They are made one by one before any weight is missed: a billion of them would take for ever.
    """
    try:
        open_parts = [json.loads(path.read_text(encoding="utf-8"))]
    except (OSError, ValueError, RecursionError):
        return  # whoever reads it for its model says what is wrong
    while open_parts:
        part = open_parts.pop()
        for name, value in part.items() if isinstance(part, dict) else ():
            is_many = isinstance(value, int | float) and value > _MOST_LAYERS
            if is_many and ("layers" in name or "depth" in name):
                raise CheckpointError(
                    f"{path.parent.name}/{path.name} says {name} is {value:g}; at most {_MOST_LAYERS} are read; "
                    "download the original model again."
                )
            open_parts.append(value)


def missing_shards(directory: Path) -> list[Path]:
    """Files that an index in the folder, or in a folder in it, names and that are not there."""
    missing = []
    for index in [*directory.glob("*.safetensors.index.json"), *directory.glob("*/*.safetensors.index.json")]:
        try:
            names = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
            missing += [path for name in names if not (path := index.parent / name).is_file()]
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise CheckpointError(f"{index.name} of {directory.name} is damaged; download it again.") from error
    return sorted(missing)
