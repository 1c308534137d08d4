"""Every benchmark can be imported: what it measures still exists under that name."""

import importlib
from pathlib import Path

import pytest

BENCHMARKS = sorted(path.stem for path in Path(__file__).with_name("benchmarks").glob("*.py"))


@pytest.mark.parametrize("name", BENCHMARKS)
def test_import(name):
    assert importlib.import_module(f"tests.benchmarks.{name}").__doc__
