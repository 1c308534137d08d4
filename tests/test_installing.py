"""The wheel that `pip install .` builds: it contains all that it needs, and it works without the checkout."""

import json
import os
import subprocess
import sys
import sysconfig
import tomllib
import venv
import zipfile
from email.parser import Parser
from pathlib import Path
from shutil import copy

import nbformat
import pytest
from jupyter_client import AsyncKernelManager
from jupyter_client.kernelspec import KernelSpecManager
from nbclient import NotebookClient
from packaging.requirements import Requirement
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run([*PIP, "wheel", "--no-deps", "--no-build-isolation", "-w", str(folder), str(ROOT)], check=True)
    (path,) = folder.iterdir()
    return path


def tracked(*folders: str) -> set[str]:
    listed = subprocess.run(["git", "ls-files", "-z", *folders], cwd=ROOT, capture_output=True, text=True, check=True)
    return {name for name in listed.stdout.split("\0") if name}


def test_contents_of_the_wheel(wheel):
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assets = {name for name in names if name.startswith("x2i_app/assets/")}
    assert {name.removeprefix("x2i_app/") for name in assets} == tracked("assets")
    assert names - assets == tracked("x2i_app")


def test_requirements_of_the_wheel(wheel):
    archive = zipfile.ZipFile(wheel)
    (metadata,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
    required = set(Parser().parsestr(archive.read(metadata).decode()).get_all("Requires-Dist"))
    extras = sorted(entry for entry in required if "extra ==" in entry)
    assert set(map(Requirement, required - {*extras})) == requirements_in("requirements.txt")
    for extra, name in zip(extras, ("mcp", "scale"), strict=True):
        assert Requirement(extra).marker.evaluate({"extra": name})
        assert Requirement(extra.partition(";")[0]) in requirements_in("tests/requirements.txt")


def requirements_in(name: str) -> set[Requirement]:
    rows = (row.partition("#")[0].strip() for row in (ROOT / name).read_text(encoding="utf-8").splitlines())
    return {Requirement(row) for row in rows if row and not row.startswith("-")}


def test_the_installed_package_works(wheel, tmp_path):
    """Dependencies come from this environment; the package itself can only come from the wheel."""
    site = tmp_path / "site"
    subprocess.run([*PIP, "install", "--no-deps", "--target", str(site), str(wheel)], check=True)
    command = [sys.executable, str(site / "bin" / "x2i"), "generate", "--prompt", "a red house"]
    command += ["--steps", "1", "--width", "64", "--height", "96"]
    work = tmp_path / "work"
    work.mkdir()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("X2I_")}
    environment |= {"PYTHONPATH": str(site), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, cwd=work, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    with Image.open(work / "x2i.png") as image:
        assert image.size == (64, 96)
    where = subprocess.run(
        [sys.executable, "-c", "import x2i_app.settings as s; print(s.ASSETS)"],
        cwd=work,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert Path(where.stdout.strip()) == site / "x2i_app" / "assets"


def test_the_notebooks_first_cell_installs_what_is_uploaded_in_colab(wheel, tmp_path):
    """The environment has the libraries of this one, but not the app. `files.upload` returns what a person chose."""
    venv.create(tmp_path / "env", symlinks=True)
    (site,) = (tmp_path / "env").glob("lib/python*/site-packages")
    (site / "libraries.pth").write_text(f"{sysconfig.get_path('purelib')}\nimport google.colab\n", encoding="utf-8")
    colab = site / "google" / "colab"
    colab.mkdir(parents=True)
    (colab / "__init__.py").touch()
    (colab / "files.py").write_text(f"def upload():\n    return {{{wheel.name!r}: b''}}\n", encoding="utf-8")
    kernel = tmp_path / "kernels" / "bare"
    kernel.mkdir(parents=True)
    command = [str(tmp_path / "env/bin/python"), "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    named = {"argv": command, "display_name": "bare", "language": "python"}
    (kernel / "kernel.json").write_text(json.dumps(named), encoding="utf-8")
    work = tmp_path / "content"  # where Colab puts files, too
    work.mkdir()
    copy(wheel, work)
    notebook = nbformat.read(ROOT / "docs/notebook.ipynb", as_version=4)
    shows = nbformat.v4.new_code_cell("import x2i_app; print(x2i_app.__file__)")
    notebook.cells = [*[cell for cell in notebook.cells if cell.cell_type == "code"][:1], shows]
    specs = KernelSpecManager(kernel_dirs=[str(kernel.parent)])
    manager = AsyncKernelManager(kernel_name="bare", kernel_spec_manager=specs)
    client = NotebookClient(notebook, km=manager, timeout=500, resources={"metadata": {"path": work}})
    client.execute(env=os.environ | {"PIP_NO_INDEX": "1"})
    assert Path(shows.outputs[0].text.strip()) == site / "x2i_app" / "__init__.py"


def test_ruff_checks_for_the_oldest_python():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    oldest = settings["project"]["requires-python"].removeprefix(">=").replace(".", "")
    assert settings["tool"]["ruff"]["target-version"] == f"py{oldest}"
