"""Where a bundle goes, and what a folder of work in progress is for: nothing else is deleted, or taken for ours."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from x2i_app.errors import InvalidRequestError

_PARTS = {"align_net", "light_control", "mllm", "processor", "scheduler", "transformer", "vae"}
_TEACHERS_PARTS = {"text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2"}
_INDEX = "model_index.json"
_NOTE = "recipe.json"


def find_destination(output: Path, work: Path) -> Path:
    """The folder `output` without links, before anything is computed for it.

    Raises InvalidRequestError where something is that is no bundle, where it holds `work` or lies in it, and where
    nothing can be written.
    """
    found, busy = output.resolve(), work.resolve()
    if not _is_free(found) and not _is_bundle(found):
        raise InvalidRequestError(
            f"--output {str(output)!r} is there, and not just a bundle; give a new name, or that of an older bundle."
        )
    if busy.is_relative_to(found) or found.is_relative_to(busy):
        raise InvalidRequestError(f"--output {str(output)!r} and --work {str(work)!r} lie in one another; part them.")
    try:
        found.parent.mkdir(parents=True, exist_ok=True)
        TemporaryDirectory(dir=found.parent).cleanup()
    except OSError as error:
        raise InvalidRequestError(f"--output {str(output)!r} cannot be written ({error.strerror}).") from None
    return found


def deliver(bundle: Path, destination: Path) -> None:
    """A copy at the destination; an older bundle goes when the copy is whole."""
    with TemporaryDirectory(dir=destination.parent) as folder:
        copy = shutil.copytree(bundle, Path(folder) / "new")
        old = Path(folder) / "old"
        if destination.exists():
            destination.replace(old)
        try:
            copy.replace(destination)
        except BaseException:
            if old.exists():
                old.replace(destination)
            raise


def claim(work: Path, plan: Mapping[str, Any]) -> None:
    """Note in a folder of work in progress what it is for, or see that it is for the same.

    plan: ready for JSON. Raises InvalidRequestError where it is for something else, and where it cannot be written.
    """
    note = work / _NOTE
    try:
        if _is_free(work):
            work.mkdir(parents=True, exist_ok=True)
            note.with_suffix(".tmp").write_text(json.dumps(plan, indent=2), encoding="utf-8")
            note.with_suffix(".tmp").replace(note)
        is_ours = note.is_file() and json.loads(note.read_bytes()) == json.loads(json.dumps(plan))
    except ValueError:
        is_ours = False
    except OSError as error:
        raise InvalidRequestError(f"--work {str(work)!r} cannot be written ({error.strerror or error}).") from None
    if not is_ours:
        raise InvalidRequestError(
            f"--work {str(work)!r} holds something else than a build of this recipe and seed; "
            "give another folder, or remove that one."
        )


def _is_free(folder: Path) -> bool:
    return not folder.exists() or (folder.is_dir() and all(path.name == "recipe.tmp" for path in folder.iterdir()))


def _is_bundle(folder: Path) -> bool:
    """Of a build, and nothing else besides."""
    try:
        kind = json.loads((folder / _INDEX).read_bytes())["_class_name"]
        return kind == "X2IPipeline" and {path.name for path in folder.iterdir()} == {_INDEX} | _PARTS | _TEACHERS_PARTS
    except (OSError, ValueError, KeyError, TypeError):
        return False
