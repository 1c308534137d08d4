"""Where the parts of a pipeline lie: a local path, the folder of models, the hub's cache, the hub. In that order."""

import glob
import os
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id

from x2i_app.errors import CheckpointError
from x2i_app.loading.download import Report, cached_snapshot, download_snapshot
from x2i_app.loading.files import missing_shards

MODELS = "models"  # the folder that is looked into before the hub, if X2I_MODELS names no other


@dataclass(frozen=True)
class Found:
    """A file or folder, and in which place it was: "local path", "models folder", "hub cache", "hub" or "bundled"."""

    path: Path
    place: str


def find_directory(
    source: str | Path,
    revision: str | None,
    patterns: list[str],
    models: str | Path | None = None,
    report: Report | None = None,
) -> Found:
    """A local folder as it is; else OWNER/NAME or NAME in the folder of models; else the hub's cache; else the hub.

    patterns: the files that are wanted of a repository. models: None takes X2I_MODELS, else `models`. report: is told
    of every piece of a download. Raises CheckpointError.
    """
    if is_there(source, Path.is_dir):
        return Found(Path(source), "local path")
    _check_repo_id(str(source), str(source), "folder", "a folder or a hub id such as owner/name")
    for candidate in _in_models(str(source), models):
        if candidate.is_dir():
            return Found(candidate, "models folder")
    cached = cached_snapshot(str(source), revision, patterns)
    if cached and _is_whole(cached, patterns):
        return Found(cached, "hub cache")
    return Found(download_snapshot(str(source), revision, patterns, report), "hub")


def find_file(source: str | Path, models: str | Path | None = None, report: Report | None = None) -> Found:
    """A local file or folder as it is; else owner/name/path of a file in a hub repository."""
    # What looks like a local path, and is none, is left to who reads it and says what it looked for.
    if is_there(source, Path.exists) or Path(source).is_absolute() or str(source).count("/") < 2:
        return Found(Path(source), "local path")
    owner, name, filename = str(source).split("/", 2)
    _check_repo_id(f"{owner}/{name}", str(source), "file", "a file or a hub file such as owner/name/file.bin")
    if ".." in filename.split("/"):
        raise CheckpointError(f"There is no file {str(source)!r}; a hub file's path has no '..' in it.")
    return find_repo_file(f"{owner}/{name}", filename, None, models, report)


def find_repo_file(
    repo_id: str,
    filename: str,
    revision: str | None,
    models: str | Path | None = None,
    report: Report | None = None,
) -> Found:
    """One file of a repository: of the folder of models, where it may also lie by itself, the hub's cache, the hub."""
    for folder in (*_in_models(repo_id, models), _models_folder(models)):
        if (folder / filename).is_file():
            return Found(folder / filename, "models folder")
    patterns = [glob.escape(filename)]
    cached = cached_snapshot(repo_id, revision, patterns)
    if cached and (cached / filename).is_file():
        return Found(cached / filename, "hub cache")
    return Found(download_snapshot(repo_id, revision, patterns, report) / filename, "hub")


def resolve_directory(source: str | Path, revision: str | None, patterns: list[str]) -> Path:
    """As `find_directory`, the path alone."""
    return find_directory(source, revision, patterns).path


def resolve_file(source: str | Path) -> Path:
    """As `find_file`, the path alone."""
    return find_file(source).path


def is_there(source: str | Path, asked) -> bool:
    """Whether a local path exists as `asked`, e.g. Path.is_dir; also of strings that can be no path."""
    try:
        return asked(Path(source))
    except (OSError, ValueError):  # longer than a path may be, or with a null byte
        return False


def _models_folder(models: str | Path | None) -> Path:
    return Path(models or os.environ.get("X2I_MODELS") or MODELS)


def _in_models(repo_id: str, models: str | Path | None) -> tuple[Path, Path]:
    folder = _models_folder(models)
    return folder / repo_id, folder / repo_id.split("/")[1]


def _is_whole(directory: Path, patterns: list[str]) -> bool:
    """Whether a cached folder has what the patterns ask for: other programs leave parts of models there."""
    for pattern in patterns:
        if "/" in pattern and not any(directory.glob(pattern)):
            return False
        folder = (directory / pattern).parent
        wants_weights = pattern.endswith(("/*", ".safetensors")) and (folder / "config.json").is_file()
        if wants_weights and not any(folder.glob("*.safetensors")):
            return False
    return not missing_shards(directory)


def _check_repo_id(repo_id: str, source: str, what: str, instead: str) -> None:
    try:
        if repo_id.count("/") != 1 or Path(repo_id).is_absolute():
            raise HFValidationError
        validate_repo_id(repo_id)
    except HFValidationError as error:
        raise CheckpointError(f"There is no {what} {source!r}; give {instead}.") from error
