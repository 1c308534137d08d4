"""Identifiers and file names use the field's terms: video, audio, image, prompt, queue, session, and so on.

Spelling is American, as in the libraries: color, quantize, center.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FILES = [*(ROOT / "x2i_app").rglob("*"), *(ROOT / "tests").rglob("*"), ROOT / "app.py"]
FILES = [path for path in FILES if path.is_file() and path.suffix != ".pyc"]
SOURCES = sorted(path for path in FILES if path.suffix == ".py")
FORBIDDEN = {
    *("film", "films", "sound", "sounds", "picture", "pictures", "words", "visit", "visits", "visitor", "visitors"),
    *("line", "lines", "onward", "seen", "after", "alone", "parcel", "parcels", "relay", "lobby"),
}

BRITISH = re.compile(
    r"colour|grey|licence|centre|favour|neighbour|behaviour|labell(ed|ing)|modell(ed|ing)|catalogue"
    r"|(quanti|optimi|normali|randomi|recogni|minimi|maximi|initiali|organi|seriali|summari|tokeni|utili)s(e|ing|ation)",
    re.IGNORECASE,
)
# `Thing.colour` is public, and the miniature was trained with sentences that say "colour".
SPELLED = [path for path in FILES if path.suffix in (".py", ".yaml") and "miniature" not in path.parts]
SPELLED = [path for path in SPELLED if path not in (Path(__file__), ROOT / "tests/mutations/suite.yaml")]
SPELLED += [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]


def forbidden_parts(name: str) -> list[str]:
    """The forbidden words in a name in snake case or camel case."""
    parts = re.findall(r"[A-Z]?[a-z0-9]+|[A-Z]+(?![a-z])", name)
    return [part for part in parts if part.lower() in FORBIDDEN]


def bound_names(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Every name that a module defines, and the row where it does: the arguments of other libraries do not count."""
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                yield name, node.lineno
            case ast.arg(arg=name) | ast.Name(id=name, ctx=ast.Store()) | ast.Attribute(attr=name, ctx=ast.Store()):
                yield name, node.lineno
            case ast.ExceptHandler(name=str(name)) | ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)):
                yield name, node.lineno
            case ast.Import(names=aliases) | ast.ImportFrom(names=aliases):
                yield from ((alias.asname, node.lineno) for alias in aliases if alias.asname)


def violations(source: str) -> list[str]:
    """Rows and names with forbidden words."""
    return [f"row {row}: {name}" for name, row in bound_names(ast.parse(source)) if forbidden_parts(name)]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_identifiers(path):
    assert violations(path.read_text(encoding="utf-8")) == []


def test_spelling():
    texts = {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in SPELLED}
    found = {name: [match.group() for match in BRITISH.finditer(text)] for name, text in texts.items()}
    assert {name: spellings for name, spellings in found.items() if spellings} == {}


def test_file_names():
    names = (path.relative_to(ROOT).as_posix() for path in FILES)
    assert [name for name in names if any(map(forbidden_parts, name.split("/")))] == []


@pytest.mark.parametrize(
    "source",
    [
        "def draw_picture(): ...",
        "class FilmStrip: ...",
        "async def f(seen): ...",
        "f = lambda *words: 0",
        "for line in []: ...",
        "self.visitors = []",
        "import numpy as sound",
        "with open('a') as relay: ...",
        "try: ...\nexcept OSError as lobby: ...",
        "[0 for after in ()]",
        "(parcel := 1)",
        "def test_it_stands_alone(): ...",
    ],
)
def test_forbidden_names_are_found(source):
    assert len(violations(source)) == 1


def test_allowed_names():
    assert violations("gr.Textbox(lines=3)\ndef outline(image, deadline): ...\nclass Soundness: ...") == []
