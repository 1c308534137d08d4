"""Lint and format, with the rules of pyproject.toml; and the list of deliberate mistakes is up to date."""

import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize("arguments", [("check",), ("format", "--check")], ids=" ".join)
def test_ruff(arguments):
    command = [sys.executable, "-m", "ruff", *arguments, "--no-cache", "."]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr


@pytest.mark.parametrize("path", sorted((ROOT / "tests/mutations").glob("*.yaml")), ids=lambda path: path.stem)
def test_mutations_apply(path):
    """The text that each replaces occurs once, and its tests are there. What tests notice, `mutations/run.py` shows."""
    stale = []
    for entry in yaml.safe_load(path.read_text(encoding="utf-8")):
        file = ROOT / entry["file"]
        count = file.read_text(encoding="utf-8").count(entry["old"]) if file.is_file() else 0
        tests = [name.partition("::")[0] for name in shlex.split(entry["tests"]) if name.startswith("tests/")]
        if count != 1 or entry["old"] == entry["new"] or not all((ROOT / name).exists() for name in tests):
            stale.append(f"{entry['file']}: {entry['old']!r} occurs {count} times; tests: {entry['tests']}")
    assert stale == []
