"""Installing the nodes: a small folder in ComfyUI's custom_nodes that imports this package."""

import filecmp
import shutil
import sys
from pathlib import Path

from PIL import Image

from x2i_app import __version__
from x2i_app.errors import InvalidRequestError
from x2i_app.settings import ASSETS

NAME = "x2i"
_MARK = "# Written by x2i comfyui; removed by x2i comfyui --remove."
_WORKFLOWS = "example_workflows"  # where ComfyUI looks for the templates of custom nodes
MEDIA = ("images/boat-at-sunset.png", "videos/rocket-at-night.mp4", "audios/rain-at-sea.wav")  # which these name


def install(path: str | Path) -> list[str]:
    """Write the folder. Returns sentences about what was done. Raises InvalidRequestError."""
    home = _custom_nodes(path) / NAME
    if home.exists() and not _is_ours(home):
        raise InvalidRequestError(
            f"{home} exists and was not written by this command; it may be a clone of the repository. Remove it first."
        )
    package = Path(__file__).resolve().parents[2]
    try:
        shutil.rmtree(home, ignore_errors=True)
        home.mkdir()
        (home / "__init__.py").write_text(_module(package), encoding="utf-8")
        _copy_workflows(home / _WORKFLOWS)
        inputs = _copy_media(home)
    except OSError as error:
        raise InvalidRequestError(
            f"{home} cannot be written ({error.strerror}); choose a ComfyUI folder of your own."
        ) from error
    count = len(list((home / _WORKFLOWS).glob("*.json")))
    return [
        f"Wrote {home}, which loads x2i {__version__} from {package}, and {count} example workflows. Their image, "
        f"video and audio are in {inputs}.",
        f"Restart ComfyUI. If it runs with another Python than {sys.executable}, that one needs the libraries of x2i "
        f"too: {_how_to_get_libraries(package)}.",
    ]


def _copy_workflows(folder: Path) -> None:
    """Each with its image, which ComfyUI's page of templates wants as NAME.jpg."""
    shutil.copytree(ASSETS / "comfyui", folder, ignore=shutil.ignore_patterns("*.png"))
    for file in (ASSETS / "comfyui").glob("*.png"):
        with Image.open(file) as image:
            image.convert("RGB").save(folder / f"{file.stem}.jpg", quality=85)


def _copy_media(home: Path) -> Path:
    """To the folder where ComfyUI's nodes look for them, which is returned. A file of the user's is kept."""
    for source, copy in _copies(home):
        copy.parent.mkdir(exist_ok=True)
        if not copy.exists():
            shutil.copyfile(source, copy)
    return copy.parent


def _copies(home: Path) -> list[tuple[Path, Path]]:
    folder = home.parents[1] / "input"
    return [(ASSETS / "examples" / name, folder / Path(name).name) for name in MEDIA]


def _how_to_get_libraries(package: Path) -> str:
    """With ComfyUI's own Python. x2i is in no package index, so that its name alone would not do."""
    requirements = package / "requirements.txt"
    if requirements.is_file():
        return f"run its python -m pip install -r {requirements}"
    return "install x2i with its pip, from the folder or address from which it was installed here"


def remove(path: str | Path) -> list[str]:
    """Remove the folder. Returns sentences about what was done. Raises InvalidRequestError."""
    home = _custom_nodes(path) / NAME
    if not home.exists():
        return [f"There are no X2I nodes in {home.parent}."]
    if not _is_ours(home):
        raise InvalidRequestError(f"{home} was not written by this command, so it is left as it is; remove it by hand.")
    shutil.rmtree(home)
    for source, copy in _copies(home):
        if copy.is_file() and filecmp.cmp(source, copy, shallow=False):
            copy.unlink()
    return [f"Removed {home}. Models and your own workflows are left as they are. Restart ComfyUI."]


def _custom_nodes(path: str | Path) -> Path:
    folder = Path(path).expanduser().resolve()
    for candidate in (folder / "custom_nodes", folder / "ComfyUI" / "custom_nodes", folder):
        if candidate.is_dir() and candidate.name == "custom_nodes":
            return candidate
    raise InvalidRequestError(
        f"{folder} is not ComfyUI's folder: it contains no custom_nodes; give the folder with main.py and custom_nodes."
    )


def _is_ours(home: Path) -> bool:
    try:
        return _MARK in (home / "__init__.py").read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return False


def _module(package: Path) -> str:
    how = f"{_how_to_get_libraries(package)}."
    return f'''{_MARK}
"""X2I's nodes for ComfyUI."""

import importlib.util
import sys

if importlib.util.find_spec("x2i_app") is None:
    sys.path.append({str(package)!r})

try:
    from x2i_app.comfyui.nodes import NODE_CLASS_MAPPINGS, NODE_DISPLAY_NAME_MAPPINGS
except ModuleNotFoundError as error:
    raise ImportError(
        f"X2I's nodes need {{error.name}}, which {{sys.executable}} does not have; "
        + {how!r}
    ) from error

__all__ = ["NODE_CLASS_MAPPINGS", "NODE_DISPLAY_NAME_MAPPINGS"]
'''
