"""The commands and examples in README.md and docs/ work as a reader would run them, and every link leads somewhere.

A comment before a code block, `<!-- not run: REASON -->`, limits its test to what needs no GPU, no hub and no cluster:
the flags of its commands must be valid, and its Python code must import existing names. All other blocks are run, with
training and evaluation at tiny sizes. tests/ui/test_api_docs.py runs the examples in docs/API.md.
"""

import ast
import importlib
import re
import shutil
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple
from urllib.request import urlopen

import pytest
from conftest import ROOT, run_app
from PIL import Image

from x2i_app.cli import main
from x2i_app.miniature.align import english_prompts
from x2i_app.miniature.scene import Scene, Thing
from x2i_app.miniature.striped import write_striped
from x2i_app.miniature.world import draw_scene
from x2i_app.settings import ASSETS

PAGES = [ROOT / "README.md", *sorted(path for path in (ROOT / "docs").glob("*.md") if path.name != "API.md")]

ONE_SAMPLE = "--samples 1 --num-inference-steps 1"
# Flags that make a command small. They come last, and the last value of a flag counts.
SMALL = {
    "generate": "--steps 1",
    "batch": "--steps 1",
    "evaluate": "--scenes 1 --rows english --steps 1",
    "evaluate --prompts": "--limit 2 --steps 1",
    "train distill": f"--steps 2 --evaluate-every 2 {ONE_SAMPLE}",
    "train lora": f"--steps 2 --evaluate-every 2 {ONE_SAMPLE}",
    "train light-control": f"--steps 2 {ONE_SAMPLE}",
    "x2i_app.miniature.training_data edits": "--count 8",
    "x2i_app.miniature.evaluation.fidelity": "--scenes 1",
}
OURS = (".venv/bin/python", ".venv/bin/x2i", "x2i")
OTHERS = ("python3", ".venv/bin/pip", "docker", "git", "ray")
RECORD = """#!/bin/sh
printf '%s\\037' "$0" "$@" >> "{calls}"
printf '\\036' >> "{calls}"
"""


class Block(NamedTuple):
    """A code block: its page, its number there, its language and content, and why it is not run; "" if it is run."""

    page: str
    number: int
    not_run: str
    language: str
    content: str


def blocks(language: str) -> list:
    """All fenced code blocks in a language."""
    fence = re.compile(r"^(?:<!-- not run: (.+?) -->\n)?```(\w*)\n(.+?)^```$", re.MULTILINE | re.DOTALL)
    found = []
    for path in PAGES:
        matches = fence.findall(path.read_text(encoding="utf-8"))
        found += [Block(path.name, number, *match) for number, match in enumerate(matches, 1)]
    assert {block.language for block in found} == {"bash", "python", "nginx"}
    return [pytest.param(block, id=f"{block.page}-{block.number}") for block in found if block.language == language]


@pytest.fixture(scope="module")
def house(tmp_path_factory) -> Path:
    """An image that the app generated."""
    path = tmp_path_factory.mktemp("house") / "house.png"
    assert main(["generate", "--prompt", "a red house", "--steps", "1", "--output", str(path)]) == 0
    return path


@pytest.fixture
def folder(tmp_path, monkeypatch, house) -> Path:
    """The reader's folder: the parts of the project that the pages name, and the reader's own files."""
    for name in ("assets", "configs"):
        (tmp_path / name).symlink_to(ROOT / name)
    shutil.copy(house, tmp_path)
    draw_scene(Scene("day", "sea", (Thing("boat", "red"),)), 128).save(tmp_path / "photo.png")
    Image.linear_gradient("L").resize((128, 128)).point(lambda value: 255 * (value < 100)).save(tmp_path / "sky.png")
    for name in ("style", "other"):
        shutil.copy(ASSETS / "examples/loras/striped.safetensors", tmp_path / f"{name}.safetensors")
    prompts, _ = english_prompts(20, 0)
    (tmp_path / "captions.txt").write_text("".join(f"{prompt}\n" for prompt in prompts), encoding="utf-8")
    write_striped(tmp_path / "my-style", 8)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def commands(block: Block, folder: Path) -> list[list[str]]:
    """Run a block in bash, with all programs replaced by one that records its call: program and arguments of each."""
    calls, programs = folder / "calls", folder / "programs"
    for name in (*OURS, *OTHERS):
        program = folder / name if "/" in name else programs / name
        program.parent.mkdir(parents=True, exist_ok=True)
        program.write_text(RECORD.format(calls=calls))
        program.chmod(0o755)
    shell = shutil.which("bash")
    subprocess.run([shell, "-euo", "pipefail", "-c", block.content], env={"PATH": str(programs)}, check=True)
    recorded = [call.split("\x1f")[:-1] for call in calls.read_text().split("\x1e")[:-1]]
    return [[program.removeprefix(f"{folder}/"), *arguments] for program, *arguments in recorded]


def ours(call: list[str]) -> tuple[str, list[str]] | None:
    """The module of this project that a recorded call runs, and its arguments; None if it runs something else."""
    program, *arguments = call
    if program.removeprefix("programs/") not in OURS:
        return None
    if program.endswith("x2i"):
        return "x2i_app", arguments
    if arguments[0] == "app.py":
        return "x2i_app", ["app", *arguments[1:]]
    if arguments[:2] == ["-m", "pytest"]:
        return None
    assert arguments[0] == "-m", arguments
    return arguments[1], arguments[2:]


def entry_point(module: str) -> Callable[[list[str]], int | None]:
    return main if module == "x2i_app" else importlib.import_module(module).main


def run(module: str, arguments: list[str]) -> None:
    """Run a command of this project in this process."""
    has_part = arguments[:1] == ["train"] or arguments[1:2] == ["--prompts"]
    key = " ".join(arguments[: 2 if has_part else 1])
    key = key if module == "x2i_app" else " ".join((module, *arguments[:1])).partition(" --")[0]
    assert not entry_point(module)([*arguments, *SMALL.get(key, "").split()])


def serve(arguments: list[str], folder: Path) -> None:
    """Start the app with the arguments of a command, at a free port, until it answers."""
    if "--port" in arguments:
        del arguments[(place := arguments.index("--port")) : place + 2]
    with run_app(folder, *arguments) as app:
        assert urlopen(f"{app.url}/health").status == 200


def check_flags(module: str, arguments: list[str], capsys) -> None:
    """One more flag, which does not exist, must be the only mistake in a command."""
    try:
        status = entry_point(module)([*arguments, "--no-such-flag"])
    except SystemExit as stopped:
        status = stopped.code
    message = capsys.readouterr().err
    assert status == 2
    assert re.search(r"nrecognized \w+: --no-such-flag\b(?! )", message), message


@pytest.mark.parametrize("block", blocks("bash"))
def test_commands(block, folder, capsys):
    for call in commands(block, folder):
        module, arguments = ours(call) or (None, [])
        if module is None:
            assert block.not_run, f"{call[0]} is not a program of this project"
        elif block.not_run:
            check_flags(module, arguments, capsys)
        elif arguments[:1] == ["app"]:
            serve(arguments[1:], folder)
        else:
            run(module, arguments)


@pytest.mark.parametrize("block", blocks("python"))
def test_python(block, folder, request):
    code = compile(block.content, f"{block.page}-{block.number}", "exec")
    if not block.not_run:
        if (address := "http://127.0.0.1:7860") in block.content:
            code = compile(block.content.replace(address, request.getfixturevalue("server")), block.page, "exec")
        with ThreadPoolExecutor(1) as thread:  # the browser's tests leave a running event loop in this thread
            thread.submit(exec, code, {}).result()
        return
    for node in ast.walk(ast.parse(block.content)):
        if isinstance(node, ast.ImportFrom):
            module = importlib.import_module(node.module)
            assert all(hasattr(module, alias.name) for alias in node.names), ast.unparse(node)


@pytest.mark.parametrize("page", [*PAGES, ROOT / "docs/API.md", ROOT / "SECURITY.md"], ids=lambda path: path.name)
def test_links(page):
    """Files exist, and so do headings behind a #."""
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if target.startswith(("http://", "https://")):
            continue
        name, _, anchor = target.partition("#")
        file = page.parent / name if name else page
        assert file.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.+)$", file.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in [re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings], target


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 150
