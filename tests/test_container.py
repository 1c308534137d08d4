"""The Dockerfile: hadolint accepts it, and its steps work, run here one by one without Docker."""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from conftest import run_app
from docker.utils.build import exclude_paths
from dockerfile_parse import DockerfileParser
from safety.client import SETTINGS, as_file, call, upload
from safety.local_app import local_app

from x2i_app.ui.http.limits import HTTP_LIMITS

ROOT = Path(__file__).resolve().parents[1]
PARSER = DockerfileParser(str(ROOT / "Dockerfile"))
STEPS = [(step["instruction"], step["value"]) for step in PARSER.structure if step["instruction"] != "COMMENT"]


def values(instruction: str) -> list[str]:
    return [value for name, value in STEPS if name == instruction]


def test_hadolint_finds_nothing():
    command = [shutil.which("hadolint", path=str(Path(sys.executable).parent)), str(ROOT / "Dockerfile")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_app_does_not_run_as_root():
    names = [name for name, _ in STEPS]
    assert values("USER") == ["1000"]
    assert names.index("USER") > max(i for i, name in enumerate(names) if name == "RUN")
    assert names.index("USER") < names.index("ENTRYPOINT")


@pytest.mark.parametrize(("device", "status"), [("cpu", 0), ("cuda", 0), ("tpu", 1)])
def test_the_build_argument_chooses_the_index_of_pytorch(device, status):
    """The step itself in the shell that Docker uses. pip finds everything installed here already."""
    (step,) = (value for value in values("RUN") if "torchvision" in value)
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {"PATH": path, "DEVICE": device, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    done = subprocess.run(["/bin/sh", "-c", step], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == status, done.stderr
    assert ("whl/cpu" in done.stdout) == (device == "cpu")
    assert ("already satisfied" in done.stdout) == (status == 0)
    assert ("DEVICE is 'tpu'; choose cpu or cuda." in done.stderr) == (status == 1)


def test_the_package_builds_from_the_docker_context(tmp_path):
    """A folder with only the files that .dockerignore lets through, by Docker's own reading of its patterns."""
    context, wheels = tmp_path / "context", tmp_path / "wheels"
    for name in exclude_paths(str(ROOT), (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()):
        if (ROOT / name).is_file():
            (context / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, context / name)
    top = {path.name for path in context.iterdir()}
    # Docker's client always sends the Dockerfile and .dockerignore.
    sent = {"LICENSE", "README.md", "pyproject.toml", "requirements.txt", "x2i_app", "assets"}
    assert top - {"Dockerfile", ".dockerignore"} == sent
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", str(wheels)]
    subprocess.run([*command, str(context)], check=True)
    (wheel,) = wheels.iterdir()
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {"x2i_app/cli.py", "x2i_app/assets/x2i-tiny/vae/config.json"} <= names


def health(url: str) -> int:
    """Exit status of the image's own health check for an app."""
    (check,) = values("HEALTHCHECK")
    _, *arguments = json.loads(check.split("CMD", 1)[1])
    port = url.rsplit(":", 1)[1]
    environment = {"PATH": os.environ["PATH"], "X2I_PORT": port}
    done = subprocess.run([sys.executable, *arguments], env=environment, capture_output=True, timeout=300, check=False)
    return done.returncode


def test_the_health_check_follows_the_engine():
    with local_app(HTTP_LIMITS) as app:
        assert health(app.url) == 0
        app.engine.close()
        assert health(app.url) == 1


def test_openmp_waits_passively():
    """Threads that spin while they wait take the cores from other processes of the machine."""
    assert "OMP_WAIT_POLICY=PASSIVE" in [setting for value in values("ENV") for setting in value.split()]


# Everything becomes read-only but a folder for what would be volumes and /tmp; then root becomes user 1000.
READ_ONLY = """
mount --make-rprivate / && mount -t tmpfs tmpfs "$SCRATCH" || exit 1
while read -r _ place _; do
    case "$place" in "$SCRATCH" | /proc* | /sys* | /dev*) continue ;; esac
    mount -o remount,bind,ro "$place" 2>/dev/null || :
done < /proc/self/mounts
mkdir "$SCRATCH/weights" "$SCRATCH/outputs" "$SCRATCH/tmp" && cd "$SCRATCH/outputs"
exec unshare --user --map-user=1000 --map-group=1000 setpriv --no-new-privs "$@"
"""


def test_a_read_only_root(tmp_path):
    """The app as user 1000, who can write only to the volumes and /tmp, draws from an upload and ends by SIGTERM."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    (settings,) = (value for value in values("ENV") if "HF_HOME" in value)
    environment = dict(setting.split("=", 1) for setting in settings.split())
    folders = {"/weights": scratch / "weights"}
    environment = {name: value.replace("/weights", str(folders["/weights"])) for name, value in environment.items()}
    environment |= {"TMPDIR": str(scratch / "tmp"), "GRADIO_TEMP_DIR": "", "HOME": "/home/x2i", "SCRATCH": str(scratch)}
    namespace = ["unshare", "--mount"] if os.getuid() == 0 else ["unshare", "--mount", "--map-root-user"]
    command = [*namespace, "sh", "-c", READ_ONLY, "sh"]
    probe = [*command, "sh", "-c", f"id -u; touch {tmp_path}/a {ROOT}/a; ls -a; touch b"]
    answer = subprocess.run(probe, env=os.environ | environment, capture_output=True, text=True, check=False)
    assert answer.stdout.split() == ["1000", ".", ".."], answer.stderr
    assert answer.stderr.count("Read-only file system") == 2
    assert answer.returncode == 0
    with run_app(tmp_path, before=command, **environment) as app:
        (path,) = upload(app.url, ("a.mp4", (ROOT / "assets/examples/videos/rocket-at-night.mp4").read_bytes())).json()
        result = call(app.url, "video", [as_file(path), "", *SETTINGS])
        assert result.startswith("complete"), result
        app.process.terminate()
        assert app.process.wait(120) == 143
        log = app.log.read_text()
    assert "Read-only" not in log
    assert "Traceback" not in log
