"""Check the folders of a build, so that it never overwrites or resumes anything but a build of the same kind."""

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
    """The absolute path of the folder `output`, with links resolved; to be checked before the build starts.

    Raises InvalidRequestError if the folder exists and is no bundle, if it contains `work` or lies in it, or if it
    cannot be written.
    """
    found, busy = output.resolve(), work.resolve()
    if not _is_free(found) and not _is_bundle(found):
        raise InvalidRequestError(
            f"--output {str(output)!r} exists and is no bundle; choose a new folder, or an older bundle to replace."
        )
    if busy.is_relative_to(found) or found.is_relative_to(busy):
        raise InvalidRequestError(f"--output {str(output)!r} and --work {str(work)!r} overlap; separate them.")
    try:
        found.parent.mkdir(parents=True, exist_ok=True)
        TemporaryDirectory(dir=found.parent).cleanup()
    except OSError as error:
        raise InvalidRequestError(f"--output {str(output)!r} cannot be written ({error.strerror}).") from None
    return found


def deliver(bundle: Path, destination: Path) -> None:
    """Copy the bundle to the destination; an older bundle is removed once the copy is complete."""
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
    """Record the plan of a build in its work folder, or check that the folder has a build with the same plan.

    plan: ready for JSON. Raises InvalidRequestError if the folder has something else, or cannot be written.
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
            f"--work {str(work)!r} is no work folder of this recipe and seed; choose another folder, or remove it."
        )


def _is_free(folder: Path) -> bool:
    return not folder.exists() or (folder.is_dir() and all(path.name == "recipe.tmp" for path in folder.iterdir()))


def _is_bundle(folder: Path) -> bool:
    """Whether the folder is a bundle and has no other files."""
    try:
        kind = json.loads((folder / _INDEX).read_bytes())["_class_name"]
        return kind == "X2IPipeline" and {path.name for path in folder.iterdir()} == {_INDEX} | _PARTS | _TEACHERS_PARTS
    except (OSError, ValueError, KeyError, TypeError):
        return False
