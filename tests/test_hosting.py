"""The variables that an entry point sets: before the libraries that read them, and never in a program of others."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def policy(tmp_path: Path, *arguments: str, **variables: str) -> str:
    """The policy that torch would find when Python, started with the arguments, imports it."""
    (tmp_path / "torch.py").write_text(
        "import os\nprint('policy', os.environ.get('OMP_WAIT_POLICY'), flush=True)\nos._exit(0)\n"
    )
    environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    environment |= {"PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"} | variables
    command = [sys.executable, *arguments]
    run = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, check=False)
    found = re.search(r"^policy (\w+)$", run.stdout, re.MULTILINE)  # the app may print its address first
    assert found, run.stdout + run.stderr
    return found[1]


ENTRIES = {
    "app": ("app.py", "--port", "0"),
    "generate": ("-m", "x2i_app", "generate", "--prompt", "a house"),
    "train": ("-m", "x2i_app", "train", "distill"),
    "plan": ("-m", "x2i_app", "plan"),
    "build": ("-m", "x2i_app.miniature.build"),
    "fidelity": ("-m", "x2i_app.miniature.evaluation.fidelity"),
}


@pytest.mark.parametrize("entry", ENTRIES)
def test_entries_wait_passively(tmp_path, entry):
    assert policy(tmp_path, *ENTRIES[entry]) == "PASSIVE"


@pytest.mark.parametrize("entry", ["plan", "build"])
def test_policy_of_the_user_stays(tmp_path, entry):
    assert policy(tmp_path, *ENTRIES[entry], OMP_WAIT_POLICY="ACTIVE") == "ACTIVE"


@pytest.mark.parametrize(
    "code", ["import x2i_app; x2i_app.load_pipeline", "import x2i_app.cli, torch", "import x2i_app.miniature.build"]
)
def test_the_library_does_not_set_the_policy(tmp_path, code):
    assert policy(tmp_path, "-c", code) == "None"
