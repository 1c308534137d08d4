"""Training checkpoints: a folder each, complete or not there.

A checkpoint is written under a temporary name, flushed to the disk, and then renamed; a rename is atomic, so that a
process killed at any moment leaves the old checkpoints and perhaps a temporary folder, which is never read.
"""

import os
import pickle
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from x2i_app.errors import TrainingError

_PREFIX = "step-"
_FILE = "state.pt"


def save_checkpoint(directory: Path, step: int, state: Mapping[str, Any]) -> Path:
    """Write the `state_dict` of everything in `state` that has one; the folder of the checkpoint."""
    final = directory / f"{_PREFIX}{step:08d}"
    temporary = directory / f"tmp-{final.name}"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    values = {name: part.state_dict() for name, part in state.items() if part is not None}
    try:
        with (temporary / _FILE).open("wb") as file:
            torch.save({"step": step, **values}, file)
            file.flush()
            os.fsync(file.fileno())
        shutil.rmtree(final, ignore_errors=True)
        temporary.replace(final)
    except OSError as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise TrainingError(
            f"The checkpoint of step {step} cannot be written to {directory} ({error.strerror}); earlier ones are "
            "kept: make room and start again to go on from there."
        ) from error
    return final


def newest_checkpoint(directory: Path) -> tuple[int, dict[str, Any]] | None:
    """Step and state of the newest checkpoint that can be read, or None. Never unpickles anything but tensors."""
    for folder in sorted(directory.glob(f"{_PREFIX}*"), reverse=True):
        try:
            state = torch.load(folder / _FILE, map_location="cpu", weights_only=True)
            return state["step"], state
        except (OSError, RuntimeError, EOFError, KeyError, ValueError, pickle.UnpicklingError):
            continue  # damaged from outside: an older one will do
    return None


def prune_checkpoints(directory: Path, keep: int) -> None:
    """Remove all but the newest `keep` checkpoints, and what killed processes left behind."""
    for folder in sorted(directory.glob(f"{_PREFIX}*"))[:-keep] + list(directory.glob("tmp-*")):
        shutil.rmtree(folder, ignore_errors=True)
