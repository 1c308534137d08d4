"""Checks of weights files and model folders that cost nothing, before any of them is opened."""

import json
from pathlib import Path

from safetensors import SafetensorError, safe_open

from x2i_app.errors import CheckpointError

SUFFIXES = (".safetensors", ".bin", ".pt")
_MAX_LAYERS = 1000  # released models have up to 57


def check_file(path: Path) -> None:
    """Raises CheckpointError for a file that does not exist or is no weights file: empty, a Git LFS pointer, HTML."""
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
    """Check a model's folder and its subfolders: config.json, shards and the header of every safetensors file.

    Raises CheckpointError for a file that is missing, cut or no weights file, and for more layers than any model has.
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

    Layers are built one by one before the first missing weight is noticed; a billion of them would never end.
    """
    try:
        unchecked = [json.loads(path.read_text(encoding="utf-8"))]
    except (OSError, ValueError, RecursionError):
        return  # the code that reads the configuration for its model reports what is wrong
    while unchecked:
        section = unchecked.pop()
        for name, value in section.items() if isinstance(section, dict) else ():
            too_many = isinstance(value, int | float) and value > _MAX_LAYERS
            if too_many and ("layers" in name or "depth" in name):
                raise CheckpointError(
                    f"{path.parent.name}/{path.name} says {name} is {value:g}; at most {_MAX_LAYERS} are allowed; "
                    "download the original model again."
                )
            unchecked.append(value)


def missing_shards(directory: Path) -> list[Path]:
    """Files that a safetensors index in the folder or a subfolder names and that do not exist.

    Raises CheckpointError for an index that cannot be read.
    """
    missing = []
    for index in [*directory.glob("*.safetensors.index.json"), *directory.glob("*/*.safetensors.index.json")]:
        try:
            names = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
            missing += [path for name in names if not (path := index.parent / name).is_file()]
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise CheckpointError(f"{index.name} of {directory.name} is damaged; download it again.") from error
    return sorted(missing)
