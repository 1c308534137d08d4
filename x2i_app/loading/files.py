"""Checks of weights files and model folders that cost nothing, before any of them is opened."""

import json
from collections.abc import Sequence
from pathlib import Path

from safetensors import SafetensorError, safe_open

from x2i_app.errors import CheckpointError

SAFETENSORS = (".safetensors", ".sft")
GGUF = ".gguf"
SUFFIXES = (*SAFETENSORS, ".bin", ".pt", ".pth")
_MAX_LAYERS = 1000  # released models have up to 57
_MAX_HEADER = 8 * 2**20  # bytes of a safetensors header: of the largest models and of LoRAs with long notes up to 2 MB


def is_safetensors(path: str | Path) -> bool:
    """Whether a name ends as a safetensors file does, in any letter case."""
    return str(path).lower().endswith(SAFETENSORS)


def is_weight_file(path: str | Path) -> bool:
    """Whether a name ends as a file of a whole FLUX model does, in any letter case."""
    return str(path).lower().endswith((*SAFETENSORS, GGUF))


def check_file(path: Path) -> None:
    """Raises CheckpointError for a file that does not exist or is no weights file: empty, a Git LFS pointer, HTML.

    Also for a safetensors file whose header would list hundreds of thousands of tensors.
    """
    if not path.is_file():
        raise CheckpointError(f"There is no file {str(path)!r}; check the path.")
    if path.suffix.lower() not in (*SUFFIXES, GGUF):
        raise CheckpointError(f"{path.name} is no weights file; {', '.join(SUFFIXES)} can be read.")
    with path.open("rb") as file:
        head = file.read(64)
    if not head:
        raise CheckpointError(f"{path.name} is empty; download it again.")
    if head.startswith(b"version https://git-lfs"):
        raise CheckpointError(f"{path.name} is only a Git LFS pointer to the weights; fetch it with `git lfs pull`.")
    if head.lstrip()[:1] == b"<":
        raise CheckpointError(f"{path.name} is a web page instead of weights; download the file itself.")
    header = int.from_bytes(head[:8], "little")
    if path.suffix.lower() in SAFETENSORS and _MAX_HEADER < header < path.stat().st_size:
        raise CheckpointError(
            f"{path.name} has a header of {header:,} bytes and {_MAX_HEADER:,} are allowed; use the original file."
        )


def check_folder(directory: Path, parts: Sequence[str] | None = None) -> None:
    """Check a model's folder and its subfolders: config.json, shards and the header of every safetensors file.

    parts: names of the subfolders that are used; None is all, and the folder itself. What else a downloaded folder has,
    such as Git LFS pointers to text encoders that X2I never loads, does not matter.
    Raises CheckpointError for a file that is missing, cut or no weights file, and for more layers than any model has.
    """
    folders = [directory, *directory.glob("*/")] if parts is None else [directory / name for name in parts]
    for folder in folders:
        check_config(folder / "config.json")
        for path in missing_shards(folder):
            raise CheckpointError(f"{path.name} is missing from {directory.name}; download the complete model.")
    for path in sorted(path for folder in folders for path in folder.glob("*") if is_safetensors(path)):
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
