"""Where the parts of a pipeline lie: local files and folders, or repositories of the hub and their local cache."""

from pathlib import Path

from huggingface_hub import hf_hub_download, snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
from huggingface_hub.utils import validate_repo_id

from x2i_app.errors import CheckpointError
from x2i_app.specs import AlignNetSpec


def resolve_directory(source: str | Path, revision: str | None, patterns: list[str]) -> Path:
    """A local folder as it is; else the snapshot of a hub repository, from its cache or downloaded."""
    if _is_there(source, Path.is_dir):
        return Path(source)
    _check_repo_id(str(source), str(source), "folder", "a folder or a hub id such as owner/name")
    try:
        return Path(snapshot_download(str(source), revision=revision, allow_patterns=patterns))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise CheckpointError(
            f"{source} is not in the hub cache and cannot be downloaded ({type(error).__name__}); "
            "check the connection, or give a local folder."
        ) from error


def resolve_file(source: str | Path) -> Path:
    """A local file or folder as it is; else owner/name/path of a file in a hub repository."""
    # What looks like a local path, and is none, is left to who reads it and says what it looked for.
    if _is_there(source, Path.exists) or Path(source).is_absolute() or str(source).count("/") < 2:
        return Path(source)
    owner, name, filename = str(source).split("/", 2)
    _check_repo_id(f"{owner}/{name}", str(source), "file", "a file or a hub file such as owner/name/file.bin")
    if ".." in filename.split("/"):
        raise CheckpointError(f"There is no file {str(source)!r}; a hub file's path has no '..' in it.")
    return _download(f"{owner}/{name}", filename, None)


def download_alignnet(preset: str, spec: AlignNetSpec) -> Path:
    """The released file of a preset. Raises CheckpointError if none is released, or it cannot be had."""
    if spec.filename is None:
        raise CheckpointError(f"No AlignNet is released for {preset}; train your own, and give it as `alignnet`.")
    return _download(spec.repo_id, spec.filename, spec.revision)


def _download(repo_id: str, filename: str, revision: str | None) -> Path:
    try:
        return Path(hf_hub_download(repo_id, filename, revision=revision))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise CheckpointError(
            f"{filename} of {repo_id} is not in the hub cache and cannot be downloaded "
            f"({type(error).__name__}); check the connection, or give the file as `alignnet`."
        ) from error


def _is_there(source: str | Path, asked) -> bool:
    try:
        return asked(Path(source))
    except (OSError, ValueError):  # longer than a path may be, or with a null byte
        return False


def _check_repo_id(repo_id: str, source: str, what: str, instead: str) -> None:
    try:
        if repo_id.count("/") != 1 or Path(repo_id).is_absolute():
            raise HFValidationError
        validate_repo_id(repo_id)
    except HFValidationError as error:
        raise CheckpointError(f"There is no {what} {source!r}; give {instead}.") from error
