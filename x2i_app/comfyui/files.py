"""Which MLLMs, AlignNets, LightControls and images the nodes offer: presets, and what lies in ComfyUI's folders."""

from collections.abc import Iterator
from pathlib import Path

from x2i_app.caption_files import IMAGE_SUFFIXES
from x2i_app.comfyui import host
from x2i_app.encoders import family_of as family_of_folder
from x2i_app.errors import CheckpointError, InvalidRequestError
from x2i_app.loading.files import SUFFIXES
from x2i_app.loading.hub import Report
from x2i_app.loading.repacked import is_repacked, unpack
from x2i_app.loading.sources import Part, find_part
from x2i_app.presets import FAMILIES, PRESETS

AUTO = "auto"
# An AlignNet is 47 to 70 MB, and a LightControl about 2 GB: what is larger is another model.
_MOST_BYTES = 3 * 10**9


# ----- What the nodes offer ------------------------------------------------------------------------------------------


def mllm_names() -> list[str]:
    """Presets, then folders that contain an MLLM of a known family, and repacked files."""
    return [*PRESETS, *_mllms()]


def file_names() -> list[str]:
    """Presets, then files that may be an AlignNet or a LightControl."""
    return [*PRESETS, *_files()]


def image_names() -> list[str]:
    """Images in ComfyUI's folder of inputs; HEIC and AVIF files too."""
    folder = host.input_folder()
    files = folder.iterdir() if folder and folder.is_dir() else ()
    return sorted(path.name for path in files if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file())


# ----- What was chosen -----------------------------------------------------------------------------------------------


def find_mllm(name: str, report: Report) -> Path:
    """The folder of an MLLM: a preset's, one in ComfyUI's folders, or one at a path.

    A preset's is downloaded if it is not there, and a repacked file is unpacked the first time. report: called with the
    progress of both. Raises X2IError.
    """
    found = _local_mllm(name) or find_part(name, "mllm", report=report)
    return unpack(found, report) if found.is_file() else found


def find_file(name: str, part: Part, report: Report) -> Path:
    """A preset's AlignNet or LightControl, or the file of this name or path; otherwise as `find_mllm`."""
    return _local_file(name, part) or find_part(name, part, report=report)


def find_image(name: str) -> Path:
    """An image in ComfyUI's folder of inputs, or in one below it, as the page names it. Raises InvalidRequestError."""
    folder = host.input_folder()
    path = Path(folder, name.removesuffix(" [input]")).resolve() if folder else None  # as in "clipspace/a.png [input]"
    if path is None or not (path.is_relative_to(folder.resolve()) and path.is_file()):
        raise InvalidRequestError(f"There is no {name!r} in {folder or 'ComfyUI'}; choose or upload another image.")
    return path


def is_painted(name: str) -> bool:
    """Whether ComfyUI's mask editor has made this image: what was painted over is transparent, with its colors kept."""
    return name.startswith("clipspace/")


def image_fingerprint(name: str | None) -> str:
    """As `mllm_fingerprint`, for an image. Raises InvalidRequestError."""
    return _fingerprint(find_image(name), name) if name else ""


def mllm_fingerprint(name: str | None) -> str:
    """Changes with the files of an MLLM on this machine; nothing is downloaded or unpacked.

    name: None where another node makes it, which ComfyUI does not run before it asks.
    """
    return _fingerprint(_local_mllm(name), name) if name else ""


def file_fingerprint(name: str | None, part: Part) -> str:
    """As `mllm_fingerprint`, for an AlignNet or a LightControl."""
    return _fingerprint(_local_file(name, part), name) if name else ""


def folder_fingerprint(folder: str) -> str:
    """As `mllm_fingerprint`, for a FLUX model's folder, whose files lie in subfolders."""
    path = Path(folder).expanduser()
    return repr([_fingerprint(each, "") for each in sorted(path.iterdir())]) if path.is_dir() else folder


def family_of(folder: Path) -> str:
    """The family of an MLLM, as its config.json says. Raises CheckpointError for another one."""
    if family := family_of_folder(folder):
        return family
    raise CheckpointError(
        f"{folder.name} has no config.json of an MLLM that works here; choose a folder of one of these families, with "
        f"all of its files: {', '.join(FAMILIES)}."
    )


def _local_mllm(name: str) -> Path | None:
    """None for a preset that is not in ComfyUI's folders. Raises InvalidRequestError for what is gone."""
    mllms = _mllms()
    if name not in PRESETS:
        return mllms.get(name) or _existing(name)
    repository = (PRESETS[name].mllm.repo_id or "").rpartition("/")[2].lower()
    names = [repository, f"{repository}.pt"]  # the second one is the reference's repacked file
    return next((path for path in mllms.values() if path.name.lower() in names), None)


def _local_file(name: str, part: Part) -> Path | None:
    files = _files()
    if name not in PRESETS:
        return files.get(name) or _existing(name)
    preset = PRESETS[name]
    known = preset.align_net.filenames if part == "alignnet" and not preset.directory else ()
    return next((path for each in known for path in files.values() if path.name == each), None)


def _existing(name: str) -> Path:
    path = Path(name).expanduser()
    if not path.is_absolute() or not path.exists():
        places = ", ".join(map(str, host.model_folders())) or "no folders"
        raise InvalidRequestError(f"{name!r} is not there any more; ComfyUI looks in {places}. Choose another one.")
    return path


def _fingerprint(path: Path | None, name: str) -> str:
    if path is None:
        return name
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    return repr([(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files if file.is_file()])


# ----- ComfyUI's folders ---------------------------------------------------------------------------------------------


def _mllms() -> dict[str, Path]:
    """Folders with an MLLM, and repacked files, by their paths in the folder of models; two levels deep."""
    found: dict[str, Path] = {}
    for base, path in _walk():
        if family_of_folder(path) if path.is_dir() else is_repacked(path):
            found.setdefault(path.relative_to(base).as_posix(), path)
    return found


def _files() -> dict[str, Path]:
    found: dict[str, Path] = {}
    for base, file in _walk():
        is_ours = base.name == host.FOLDER or "x2i" in file.name.lower() or "_proj." in file.name
        is_weights = file.suffix.lower() in SUFFIXES and file.is_file() and file.stat().st_size <= _MOST_BYTES
        if is_ours and is_weights and not is_repacked(file):
            found.setdefault(file.relative_to(base).as_posix(), file)
    return found


def _walk() -> Iterator[tuple[Path, Path]]:
    for base in host.model_folders():
        for path in _entries(base):
            yield base, path
            inner = _entries(path) if path.is_dir() else []
            if path / "config.json" not in inner:
                yield from ((base, each) for each in inner)


def _entries(folder: Path) -> list[Path]:
    """Empty for a folder that must not be read, such as the system's lost+found on a disk of its own."""
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []
