"""SHA-256 of the released AlignNets: written down when first loaded, and checked ever after.

Nobody publishes them, so the first file is taken on trust; that it has changed since then is told to the user.
"""

import hashlib
import json
import logging
import os
from pathlib import Path

from huggingface_hub import constants

from x2i_app.errors import CheckpointError

logger = logging.getLogger(__name__)


def register() -> Path:
    """The file that they are written in, beside the hub's cache."""
    return Path(constants.HF_HOME) / "x2i" / "sha256.json"


def check_recorded(path: Path, name: str) -> str:
    """The SHA-256 of a file, in hexadecimal, recorded as `name` if that is new.

    Raises CheckpointError if the file is another one than the first time.
    """
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    known = _read()
    if known.get(name, found) != found:
        raise CheckpointError(
            f"{path.name} is not the file it was when first loaded: its SHA-256 is {found[:16]}..., and was "
            f"{known[name][:16]}...; if you trust the new one, take its line out of {register()}."
        )
    if name not in known:
        _write(known | {name: found})
    return found


def _read() -> dict[str, str]:
    file = register()
    if not file.exists():
        return {}
    try:
        known = json.loads(file.read_text(encoding="utf-8"))
        if not all(isinstance(value, str) for value in known.values()):
            raise ValueError
    except (OSError, ValueError, AttributeError) as error:
        raise CheckpointError(f"{file} cannot be read; correct it, or remove it to begin anew.") from error
    return known


def _write(known: dict[str, str]) -> None:
    file = register()
    temporary = file.with_suffix(f".{os.getpid()}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(json.dumps(known, indent=2, sort_keys=True) + "\n", encoding="utf-8")
        temporary.replace(file)
    except OSError as error:  # a cache that may only be read is no reason not to draw
        logger.warning("%s cannot be written (%s); the AlignNet will not be checked next time.", file, error)
