"""The layers of the package: imports only point down, and to import the app does not import torch."""

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

LAYERS = (
    (
        *("__version__", "load_lock", "quiet", "errors", "limits", "specs", "presets", "settings", "request", "notes"),
        *("controlnet", "output_names", "prompt_weights", "prompts", "notebook", "devices", "disk"),
    ),
    ("options", "hosting", "workspace", "janitor", "caption_files"),
    ("media",),
    ("encoders", "models"),
    ("inpainting", "pipeline"),
    ("loading",),
    ("serving",),
    ("ui", "rows", "batch", "commands", "cli", "__main__"),
    ("app.py",),
)
LAYER = {part: layer for layer, parts in enumerate(LAYERS) for part in parts}

# Packages beside these layers: they may import each other, and the layers up to the one that is named here.
BESIDE = {
    "training": "loading",
    "evaluation": "batch",
    "miniature": "loading",
    "scale": "batch",
    "comfyui": "loading",
}

# The command line also trains and evaluates, so it may import the packages beside the layers, but only inside the
# functions of these commands, which the app never calls.
MAY_REACH_BESIDE_LAZILY = ("cli", "commands")

KNOW_GRADIO = ("ui", "app.py")


class Import(NamedTuple):
    """One imported name: its full dotted path, its row in the file, and whether it is inside a function."""

    name: str
    row: int
    lazy: bool


def imports_of(source: str, package: str) -> Iterator[Import]:
    """Every import of a module in `package` (dotted): at the top, in a function or for type checking."""
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


def part_of(name: str) -> str | None:
    """The module or subpackage of x2i_app to which a dotted name belongs; None for another package."""
    parts = name.split(".")
    if parts[0] == "app":
        return "app.py"
    if parts[0] != "x2i_app":
        return None
    if len(parts) > 1 and parts[1] in x2i_app._PUBLIC:  # a public name belongs to the part that defines it
        return x2i_app._PUBLIC[parts[1]].split(".")[1]
    return parts[1] if len(parts) > 1 else "loading"  # the whole package: the layer of its highest public name


def violation(importer: str, imported: str, lazy: bool) -> str | None:
    """What is wrong if one part imports another; None if it may."""
    for part in (importer, imported):
        if part not in LAYER and part not in BESIDE:
            return f"{part} has no layer; add it to LAYERS"
    if importer in BESIDE and imported in BESIDE:
        return None
    if imported in BESIDE:
        allowed = importer in MAY_REACH_BESIDE_LAZILY and lazy
        return None if allowed else f"{importer} imports {imported}, which is beside the layers"
    highest = LAYER[BESIDE.get(importer, importer)]
    return None if LAYER[imported] <= highest else f"{importer} points up to {imported}"


def violations(source: str, part: str, package: str) -> list[str]:
    """Imports of a module that point up, and imports of Gradio below the page."""
    found = []
    for name, row, lazy in imports_of(source, package):
        imported = part_of(name)
        wrong = violation(part, imported, lazy) if imported and imported != part else None
        if name.split(".")[0] == "gradio" and part not in KNOW_GRADIO:
            wrong = f"{part} imports gradio; only {' and '.join(KNOW_GRADIO)} may"
        if wrong:
            found.append(f"row {row}: {wrong}")
    return found


def _relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def _part_and_package(path: Path) -> tuple[str, str]:
    if path == ROOT / "app.py":
        return "app.py", ""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return parts[1], ".".join(parts[:-1])


@pytest.mark.parametrize("path", [p for p in SOURCES if p != ROOT / "x2i_app" / "__init__.py"], ids=_relative)
def test_no_import_points_up(path):
    part, package = _part_and_package(path)
    assert not violations(path.read_text(encoding="utf-8"), part, package)


def test_the_package_imports_none_of_its_parts():
    """`import x2i_app` is fast because public names are resolved at their first use."""
    source = (ROOT / "x2i_app" / "__init__.py").read_text(encoding="utf-8")
    assert [name for name, _, _ in imports_of(source, "x2i_app") if part_of(name)] == []


def test_public_names_come_from_layers_up_to_loading():
    for name, module in x2i_app._PUBLIC.items():
        assert LAYER[module.split(".")[1]] <= LAYER["loading"], name


@pytest.mark.parametrize(
    ("part", "package", "source"),
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
def test_violations_are_found(part, package, source):
    assert len(violations(source, part, package)) == 1


@pytest.mark.parametrize(
    ("part", "package", "source"),
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
def test_allowed_imports(part, package, source):
    assert violations(source, part, package) == []


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
def test_importing_does_not_import_heavy_libraries(module, absent):
    code = f"import sys, {module}; print(*sorted({absent!r} & set(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (run.returncode, run.stdout.split()) == (0, []), run.stderr


def _options(tree: ast.AST, name: str) -> Iterator[ast.expr]:
    """The values of an option, given as a keyword or as a key of a dictionary."""
    for node in ast.walk(tree):
        if isinstance(node, ast.keyword) and node.arg == name:
            yield node.value
        elif isinstance(node, ast.Dict):
            keys = zip(node.keys, node.values, strict=True)
            yield from (value for key, value in keys if isinstance(key, ast.Constant) and key.value == name)


def _is(value: ast.expr, constant: bool) -> bool:
    return isinstance(value, ast.Constant) and value.value is constant


@pytest.mark.parametrize("path", SOURCES, ids=_relative)
def test_code_from_files_is_never_run(path):
    """No remote code; every `torch.load` has `weights_only=True`, as an environment variable can change the default."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert all(_is(value, False) for value in _options(tree, "trust_remote_code"))
    assert all(_is(value, True) for value in _options(tree, "weights_only"))
    loads = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.load"]
    assert all(any(keyword.arg == "weights_only" for keyword in call.keywords) for call in loads)


# Each runs code that a file or a text contains. torch.load is checked above.
UNSAFE = re.compile(
    r"(c?pickle|dill|marshal|joblib|shelve|jsonpickle|cloudpickle)\.(loads?|open|decode|Unpickler)|yaml\.(unsafe_|full_)?load"
    r"|(np|numpy)\.load|eval|exec|os\.(system|popen)|subprocess\.(getoutput|getstatusoutput)|torch\.(jit|hub|package)\.\w+"
    r"|(pd|pandas)\.read_pickle"
)
# Not a stranger's: rows that `draw_on` has pickled in the same cluster; a task from the server to its own decoder.
TRUSTED = {"x2i_app/scale/batch.py": {"pickle.loads"}, "x2i_app/media/isolation.py": {"pickle.loads"}}
SHELL = {"x2i_app/media/ffmpeg.py"}  # a fixed script; a file's name is an argument and never a part of it


@pytest.mark.parametrize("path", SOURCES, ids=_relative)
def test_nothing_is_unpickled_and_no_shell_is_started(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    calls = {ast.unparse(node.func): node for node in ast.walk(tree) if isinstance(node, ast.Call)}
    found = {name for name in calls if UNSAFE.fullmatch(name)}
    arrays = {name for name in found if name in ("np.load", "numpy.load")}  # safe unless allow_pickle is set
    assert all(_is(value, False) for value in _options(tree, "allow_pickle"))
    assert found - arrays == TRUSTED.get(_relative(path), set())
    assert all(_is(value, False) for value in _options(tree, "shell"))
    texts = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)}
    assert bool({"sh", "/bin/sh", "bash", "/bin/bash"} & texts) == (_relative(path) in SHELL)


@pytest.mark.parametrize(
    "source",
    ["pickle.load(f)", "dill.loads(b)", "yaml.load(f, Loader)", "eval(x)", "os.system(x)", "torch.jit.load(p)"],
)
def test_what_is_unsafe(source):
    assert UNSAFE.fullmatch(ast.unparse(ast.parse(source).body[0].value.func))


@pytest.mark.parametrize("path", SOURCES, ids=_relative)
def test_no_auto_classes(path):
    """transformers' Auto classes may run code from the model's folder if the user agrees in the terminal."""
    assert auto_classes(path.read_text(encoding="utf-8")) == []


def auto_classes(source: str) -> list[str]:
    """Names in a module that look like transformers' Auto classes, in any form of access."""
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
def test_auto_classes_are_found(source):
    assert len(auto_classes(source)) == 1
    assert auto_classes("from diffusers import AutoencoderKL") == []
