"""SECURITY.md has a row for every threat and fault, and every test that a row names exists."""

import ast
import fnmatch
import re
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[1]
ROWS = {
    number: named
    for number, *_, named in (
        [cell.strip() for cell in row.strip("|").split("|")]
        for row in (TESTS.parent / "SECURITY.md").read_text(encoding="utf-8").splitlines()
        if re.match(r"\| [TR]\d+ \|", row)
    )
}


def functions(path: Path) -> list[str]:
    """The tests in a file."""
    body = ast.parse(path.read_text(encoding="utf-8")).body if path.is_file() else []
    return [node.name for node in body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")]


def missing(cell: str) -> list[str]:
    """Tests that a row's last cell names and that do not exist. A name without a file belongs to the file before it."""
    names, file, wrong = re.findall(r"`([^`]+)`", cell), "", []
    for name in names:
        path, _, test = name.partition("::")
        file = path or file
        if not fnmatch.filter(functions(TESTS / file), test or "*"):
            wrong.append(name)
    return wrong if names else ["no test"]


@pytest.mark.parametrize("number", [*(f"T{n}" for n in range(1, 31)), *(f"R{n}" for n in range(1, 18))])
def test_every_row_names_existing_tests(number):
    assert missing(ROWS[number]) == []


def test_the_check_finds_missing_tests():
    assert missing("`safety/test_security_md.py::test_every_*`, `::test_the_check_*`") == []
    assert missing("`safety/test_security_md.py`, `safety/nothing.py`") == ["safety/nothing.py"]
    assert missing("`safety/test_security_md.py::test_nothing`") == ["safety/test_security_md.py::test_nothing"]
    assert missing("by hand") == ["no test"]
