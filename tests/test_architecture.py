"""The house of DESIGN.md: imports only point down, and importing the app pulls in no torch."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

import x2i_app

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = sorted((ROOT / "x2i_app").rglob("*.py"))
SOURCES = [*PACKAGE, ROOT / "app.py"]

FLOORS = (
    ("__version__", "load_lock", "errors", "limits", "specs", "presets", "settings", "request", "notes", "hosting"),
    ("media",),
    ("encoders", "models"),
    ("inpainting", "pipeline"),
    ("loading",),
    ("serving",),
    ("ui", "rows", "batch", "flags", "cli", "__main__"),
    ("app.py",),
)
FLOOR = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}

# Beside the engine: they may import each other and everything up to a floor; `scale` runs engines and batches.
BESIDE = {"training": "loading", "evaluation": "loading", "miniature": "loading", "scale": "batch"}

# The command line also trains and evaluates, so it may reach the rooms beside the engine, but only inside the function
# of such a command: what serves a picture never runs that import.
MAY_REACH_BESIDE_LAZILY = ("cli",)

KNOW_GRADIO = ("ui", "app.py")


class Import(NamedTuple):
    """One imported name: its full dotted path, where it stands, and whether it is inside a function."""

    name: str
    line: int
    lazy: bool


def imports_of(source: str, package: str) -> Iterator[Import]:
    """Every import of a module in the folder `package` (dotted): at the top, in a function or for type checking."""
    tree = ast.parse(source)
    functions = [node for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))]
    inside = {id(node) for function in functions for node in ast.walk(function)}
    for node in ast.walk(tree):
        for name in _names(node, package):
            yield Import(name, node.lineno, id(node) in inside)


def _names(node: ast.AST, package: str) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
        base = ".".join([*above, *([node.module] if node.module else [])])
        return [f"{base}.{alias.name}" for alias in node.names]
    if isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
        called = ast.unparse(node.func).split(".")[-1]
        if called in ("import_module", "__import__") and isinstance(node.args[0].value, str):
            return [node.args[0].value]
    return []


def room_of(name: str) -> str | None:
    """The room of the house that a dotted name leads to; None for somebody else's package."""
    parts = name.split(".")
    if parts[0] == "app":
        return "app.py"
    if parts[0] != "x2i_app":
        return None
    if len(parts) > 1 and parts[1] in x2i_app._PUBLIC:  # a public name stands for the room that defines it
        return x2i_app._PUBLIC[parts[1]].split(".")[1]
    return parts[1] if len(parts) > 1 else "loading"  # the whole package: as high as its highest public name


def complaint(importer: str, imported: str, lazy: bool) -> str | None:
    """What is wrong with one room importing another; None if nothing is."""
    for room in (importer, imported):
        if room not in FLOOR and room not in BESIDE:
            return f"{room} has no floor; give it one in FLOORS"
    if importer in BESIDE and imported in BESIDE:
        return None
    if imported in BESIDE:
        allowed = importer in MAY_REACH_BESIDE_LAZILY and lazy
        return None if allowed else f"{importer} serves pictures and imports {imported}, which stands beside the engine"
    highest = FLOOR[BESIDE.get(importer, importer)]
    return None if FLOOR[imported] <= highest else f"{importer} points up to {imported}"


def complaints_about(source: str, room: str, package: str) -> list[str]:
    """Every import of a module that points up, and Gradio where it is not known."""
    found = []
    for name, line, lazy in imports_of(source, package):
        imported = room_of(name)
        wrong = complaint(room, imported, lazy) if imported and imported != room else None
        if name.split(".")[0] == "gradio" and room not in KNOW_GRADIO:
            wrong = f"{room} imports gradio; only {' and '.join(KNOW_GRADIO)} may"
        if wrong:
            found.append(f"line {line}: {wrong}")
    return found


def _relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def _room_and_package(path: Path) -> tuple[str, str]:
    if path == ROOT / "app.py":
        return "app.py", ""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return parts[1], ".".join(parts[:-1])


@pytest.mark.parametrize("path", [p for p in SOURCES if p != ROOT / "x2i_app" / "__init__.py"], ids=_relative)
def test_no_import_points_up(path):
    room, package = _room_and_package(path)
    assert not complaints_about(path.read_text(encoding="utf-8"), room, package)


def test_the_package_itself_imports_no_room():
    """`import x2i_app` is instant because its public names are resolved when first used."""
    source = (ROOT / "x2i_app" / "__init__.py").read_text(encoding="utf-8")
    assert [name for name, _, _ in imports_of(source, "x2i_app") if room_of(name)] == []


def test_public_names_come_from_rooms_up_to_loading():
    for name, module in x2i_app._PUBLIC.items():
        assert FLOOR[module.split(".")[1]] <= FLOOR["loading"], name


@pytest.mark.parametrize(
    ("room", "package", "source"),
    [
        ("request", "x2i_app", "from x2i_app.media import load_image"),
        ("request", "x2i_app", "import x2i_app.serving.engine"),
        ("request", "x2i_app", "import os, x2i_app.pipeline as p"),
        ("media", "x2i_app.media", "from x2i_app import encoders"),
        ("media", "x2i_app.media", "from .. import loading"),
        ("media", "x2i_app.media", "from ..models.alignnet import AlignNet"),
        ("media", "x2i_app.media.deep", "from ...models import AlignNet"),
        ("pipeline", "x2i_app", "from x2i_app import load_pipeline"),
        ("pipeline", "x2i_app", "import x2i_app"),
        ("pipeline", "x2i_app", "from . import load_pipeline"),
        ("loading", "x2i_app.loading", "def f():\n    from x2i_app.serving.jobs import Job"),
        ("serving", "x2i_app", "if TYPE_CHECKING:\n    from x2i_app.ui.layout import build_page"),
        ("serving", "x2i_app", "import importlib\nimportlib.import_module('x2i_app.ui')"),
        ("serving", "x2i_app", "try:\n    import gradio as gr\nexcept ImportError:\n    gr = None"),
        ("cli", "x2i_app", "def f():\n    from gradio.blocks import Blocks"),
        ("miniature", "x2i_app.miniature", "import gradio"),
        ("serving", "x2i_app", "def f():\n    from x2i_app.training import loop"),
        ("ui", "x2i_app.ui", "def f():\n    from x2i_app.miniature import build"),
        ("cli", "x2i_app", "from x2i_app.training import loop"),
        ("training", "x2i_app.training", "from x2i_app.serving.engine import Engine"),
        ("ui", "x2i_app.ui", "import app"),
        ("serving", "x2i_app", "from x2i_app.attic import old"),
    ],
)
def test_the_check_itself_finds_what_points_up(room, package, source):
    assert len(complaints_about(source, room, package)) == 1


@pytest.mark.parametrize(
    ("room", "package", "source"),
    [
        ("settings", "x2i_app", "from x2i_app.request import Range"),
        ("media", "x2i_app.media", "from .guard import CAPS\nfrom ..errors import MediaError\nfrom . import images"),
        ("serving", "x2i_app", "def f():\n    from x2i_app.loading import load_pipeline"),
        ("cli", "x2i_app", "def f():\n    from x2i_app.ui.server import serve\n    from x2i_app.training import loop"),
        ("ui", "x2i_app.ui", "import gradio as gr\nfrom x2i_app import GenerationRequest"),
        ("app.py", "", "from x2i_app.cli import main\nimport sys"),
        ("training", "x2i_app.training", "from x2i_app.loading import load_pipeline\nfrom x2i_app.miniature import x"),
        ("request", "x2i_app", "import application, x2i_appendix"),
    ],
)
def test_the_check_itself_allows_what_points_down(room, package, source):
    assert complaints_about(source, room, package) == []


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("x2i_app", {"torch", "diffusers", "transformers", "gradio"}),
        ("x2i_app.serving.engine", {"torch", "diffusers", "transformers", "gradio"}),
        ("x2i_app.cli", {"torch", "diffusers", "transformers", "gradio"}),
        ("x2i_app.ui.layout", {"torch", "diffusers", "transformers"}),
        ("app", {"torch", "diffusers", "transformers"}),
    ],
)
def test_importing_leaves_the_heavy_libraries_alone(module, absent):
    code = f"import sys, {module}; print(*sorted({absent!r} & set(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (run.returncode, run.stdout.split()) == (0, []), run.stderr


def _options(tree: ast.AST, name: str) -> Iterator[ast.expr]:
    """The values given to an option, as a keyword or as a key of a dictionary that will become keywords."""
    for node in ast.walk(tree):
        if isinstance(node, ast.keyword) and node.arg == name:
            yield node.value
        elif isinstance(node, ast.Dict):
            keys = zip(node.keys, node.values, strict=True)
            yield from (value for key, value in keys if isinstance(key, ast.Constant) and key.value == name)


def _is(value: ast.expr, constant: bool) -> bool:
    return isinstance(value, ast.Constant) and value.value is constant


@pytest.mark.parametrize("path", SOURCES, ids=_relative)
def test_nobody_elses_code_is_ever_run(path):
    """No remote code, and every `torch.load` says `weights_only=True` itself: a variable can change the default."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert all(_is(value, False) for value in _options(tree, "trust_remote_code"))
    assert all(_is(value, True) for value in _options(tree, "weights_only"))
    loads = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.load"]
    assert all(any(keyword.arg == "weights_only" for keyword in call.keywords) for call in loads)


@pytest.mark.parametrize("path", SOURCES, ids=_relative)
def test_no_folder_chooses_the_class_that_reads_it(path):
    """transformers' Auto classes ask the folder, and on a terminal its user, whether to run the folder's code."""
    assert auto_classes(path.read_text(encoding="utf-8")) == []


def auto_classes(source: str) -> list[str]:
    """Names in a module that are, or end in, one of transformers' Auto classes, whichever way they were reached."""
    names = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute):
            names.append(node.attr)
        elif isinstance(node, ast.Name):
            names.append(node.id)
        elif isinstance(node, ast.alias):
            names.append(node.name.split(".")[-1])
    return [name for name in names if re.match(r"Auto[A-Z]", name)]


@pytest.mark.parametrize(
    "source",
    [
        "from transformers import AutoProcessor as P",
        "import transformers\ntransformers.AutoTokenizer",
        "from transformers.models.auto.modeling_auto import AutoModel",
    ],
)
def test_the_check_itself_finds_auto_classes(source):
    assert len(auto_classes(source)) == 1
    assert auto_classes("from diffusers import AutoencoderKL") == []
