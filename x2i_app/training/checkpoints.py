"""Training checkpoints, written and read: each is a folder that is complete or absent.

A checkpoint is written under a temporary name, its manifest last, flushed to the disk, and then renamed. A rename is
atomic: a process killed at any moment, or a full disk, leaves the older checkpoints and perhaps a temporary folder,
which is never read.
"""

import json
import os
import pickle
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch

from x2i_app.disk import flush
from x2i_app.errors import TrainingError

_PREFIX = "step-"
_STATE = "state.pt"
_MANIFEST = "manifest.json"
_CHECKPOINT_SHARE = 6  # bytes of a checkpoint for each byte of trained weights, at most


def save_checkpoint(
    directory: Path, step: int, state: Mapping[str, Any], about: Mapping[str, Any] | None = None
) -> Path:
    """Write the `state_dict` of each component in `state` that is not None; the folder of the checkpoint.

    about: more facts for the manifest, which people read. Raises TrainingError if the disk is full or not writable.
    """
    final = directory / f"{_PREFIX}{step:08d}"
    temporary = directory / f"tmp-{final.name}"
    shutil.rmtree(temporary, ignore_errors=True)
    values = {name: part.state_dict() for name, part in state.items() if part is not None}
    try:
        temporary.mkdir(parents=True)
        with (temporary / _STATE).open("wb") as file:
            torch.save({"step": step, **values}, file)
            flush(file)
        manifest = {"step": step, "files": {_STATE: (temporary / _STATE).stat().st_size}, **(about or {})}
        with (temporary / _MANIFEST).open("w", encoding="utf-8") as file:
            json.dump(manifest, file, indent=2, default=str)
            flush(file)
        _flush_folder(temporary)
        shutil.rmtree(final, ignore_errors=True)
        temporary.replace(final)
        _flush_folder(directory)
    except (OSError, RuntimeError) as error:  # torch raises it when it cannot write its file
        shutil.rmtree(temporary, ignore_errors=True)
        raise TrainingError(
            f"The checkpoint of step {step} cannot be written to {directory} ({_reason(error)}); earlier ones are "
            "kept: free some space and start again to continue from there."
        ) from error
    return final


def newest_checkpoint(directory: Path) -> tuple[int, dict[str, Any]] | None:
    """Step and state of the newest checkpoint that is complete, or None. Never unpickles anything but tensors."""
    for folder in sorted(directory.glob(f"{_PREFIX}*"), reverse=True):
        try:
            if not _is_complete(folder):
                continue
            state = torch.load(folder / _STATE, map_location="cpu", weights_only=True)
            return state["step"], state
        except (OSError, RuntimeError, EOFError, LookupError, ValueError, TypeError, pickle.UnpicklingError):
            continue  # damaged from outside; an older one is used
    return None


def newest_step(directory: Path) -> int | None:
    """Step of the newest checkpoint that has all its files, without reading it, or None."""
    for folder in sorted(directory.glob(f"{_PREFIX}*"), reverse=True):
        with suppress(OSError, LookupError, ValueError, TypeError):
            if _is_complete(folder):
                return int(folder.name.removeprefix(_PREFIX))
    return None


def prune_checkpoints(directory: Path, keep: int, newest: int) -> None:
    """Remove all but the newest `keep` checkpoints, and what killed processes left.

    newest: the step of the one just saved. Later ones are damaged, or the run would have continued from them.
    """
    found = sorted(directory.glob(f"{_PREFIX}*"))
    later = [folder for folder in found if folder.name > f"{_PREFIX}{newest:08d}"]
    whole = found[: len(found) - len(later)]
    for folder in whole[:-keep] + later + list(directory.glob("tmp-*")):
        shutil.rmtree(folder, ignore_errors=True)


def check_disk(directory: Path, needed: int, what: str) -> None:
    """Raise TrainingError if the disk of a folder has not so many bytes free. what: needs them, for the sentence."""
    place = next(folder for folder in (directory.absolute(), *directory.absolute().parents) if folder.is_dir())
    free = shutil.disk_usage(place).free
    if free < needed:
        raise TrainingError(
            f"{what} need about {needed / 1e9:.1f} GB, and the disk of {directory} has {free / 1e9:.1f} GB free; free "
            "some space, or choose another --output."
        )


def check_disk_for_checkpoints(directory: Path, weights: int, keep: int) -> None:
    """Raise TrainingError if a run's checkpoints do not fit the disk. weights: bytes of what is trained."""
    # A checkpoint has the weights, their average and the optimizer's states, which may be two or four.
    check_disk(directory, weights * _CHECKPOINT_SHARE * (keep + 1), f"{keep} checkpoints and a new one")


@contextmanager
def written_to(directory: Path) -> Iterator[None]:
    """An OSError inside becomes a TrainingError about this folder."""
    try:
        yield
    except OSError as error:
        raise TrainingError(
            f"{directory} cannot be written ({_reason(error)}); free some space and start again to continue from "
            "the newest checkpoint."
        ) from error


def replace_text(path: Path, text: str) -> None:
    """Replace a text file, or leave it as it is. Raises OSError."""
    temporary = path.with_name(f"tmp-{path.name}")
    try:
        with temporary.open("w", encoding="utf-8") as file:
            file.write(text)
            flush(file)
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def _is_complete(folder: Path) -> bool:
    """Whether all files have their size. An early version wrote no manifest; its folders were renamed when complete."""
    if not (folder / _MANIFEST).is_file():
        return True
    files = json.loads((folder / _MANIFEST).read_text(encoding="utf-8"))["files"]
    return all((folder / name).stat().st_size == size for name, size in files.items())


def _flush_folder(directory: Path) -> None:
    """A file is safe only after the list of files in its folder is on the disk too."""
    if not hasattr(os, "O_DIRECTORY"):  # Windows has no such call, and needs none
        return
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _reason(error: Exception) -> str:
    cause = error if isinstance(error, OSError) else error.__context__
    return (cause.strerror if isinstance(cause, OSError) else None) or str(error).splitlines()[0]
