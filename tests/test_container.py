"""The Dockerfile: clean by hadolint, and its parts do what they say, run here one by one without Docker."""

import json
import os
import shutil
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest
from conftest import run_app
from docker.utils.build import exclude_paths
from dockerfile_parse import DockerfileParser

ROOT = Path(__file__).resolve().parents[1]
PARSER = DockerfileParser(str(ROOT / "Dockerfile"))
STEPS = [(step["instruction"], step["value"]) for step in PARSER.structure if step["instruction"] != "COMMENT"]


def values(instruction: str) -> list[str]:
    return [value for name, value in STEPS if name == instruction]


def test_hadolint_has_nothing_to_say():
    command = [shutil.which("hadolint", path=str(Path(sys.executable).parent)), str(ROOT / "Dockerfile")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_nothing_runs_as_root_once_it_is_built():
    names = [name for name, _ in STEPS]
    assert values("USER") == ["1000"]
    assert names.index("USER") > max(i for i, name in enumerate(names) if name == "RUN")
    assert names.index("USER") < names.index("ENTRYPOINT")


@pytest.mark.parametrize(("device", "status"), [("cpu", 0), ("cuda", 0), ("tpu", 1)])
def test_the_build_argument_chooses_where_pytorch_comes_from(device, status):
    """The step itself, by the shell that Docker would use; pip finds that here all of it is installed already."""
    (step,) = (value for value in values("RUN") if "torchvision" in value)
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {"PATH": path, "DEVICE": device, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    done = subprocess.run(["/bin/sh", "-c", step], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == status, done.stderr
    assert ("whl/cpu" in done.stdout) == (device == "cpu")
    assert ("already satisfied" in done.stdout) == (status == 0)
    assert ("DEVICE is 'tpu'; choose cpu or cuda." in done.stderr) == (status == 1)


def test_the_package_builds_from_what_dockerignore_lets_through(tmp_path):
    """By Docker's own reading of its patterns, from a folder that has nothing else, as in the image."""
    context, wheels = tmp_path / "context", tmp_path / "wheels"
    for name in exclude_paths(str(ROOT), (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()):
        if (ROOT / name).is_file():
            (context / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, context / name)
    top = {path.name for path in context.iterdir()}
    # Docker's client sends the Dockerfile and .dockerignore in any case.
    sent = {"LICENSE", "README.md", "pyproject.toml", "requirements.txt", "x2i_app", "assets"}
    assert top - {"Dockerfile", ".dockerignore"} == sent
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", str(wheels)]
    subprocess.run([*command, str(context)], check=True)
    (wheel,) = wheels.iterdir()
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {"x2i_app/cli.py", "x2i_app/assets/x2i-tiny/vae/config.json"} <= names


def health(url: str) -> int:
    """Exit status of the image's own health check against an app."""
    (check,) = values("HEALTHCHECK")
    _, *arguments = json.loads(check.split("CMD", 1)[1])
    port = url.rsplit(":", 1)[1]
    environment = {"PATH": os.environ["PATH"], "X2I_PORT": port}
    done = subprocess.run([sys.executable, *arguments], env=environment, capture_output=True, timeout=60, check=False)
    return done.returncode


def test_the_health_check_tells_the_truth(app, tmp_path):
    assert health(app.url) == 0
    with run_app(tmp_path, "--preset", "custom:qwen2.5-vl", "--mllm", str(tmp_path / "none")) as broken:
        deadline = time.monotonic() + 120
        while health(broken.url) == 0:  # it is loading until it knows better
            assert time.monotonic() < deadline
            time.sleep(0.2)
    assert health(broken.url) != 0
