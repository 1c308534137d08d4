"""How a run ends: clients are told, child processes end, and no file is left, also if the run is killed."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from tempfile import mkdtemp

import psutil
import pytest
from gradio.tunneling import BINARY_FILENAME
from waiting import wait_until

from tests.conftest import ROOT, App, free_port, run_app
from tests.safety.client import SETTINGS, as_file, ask, call, upload
from x2i_app import janitor
from x2i_app.settings import ASSETS
from x2i_app.workspace import STOP_SECONDS, exit_with_parent

VIDEO = ASSETS / "examples/videos/rocket-at-night.mp4"
FOREIGN = ("x2i-media-1/clean.mkv", "gradio/image.png", "x2i-run-unlocked/file")  # nobody says whose they are
PATIENCE = 120  # seconds until something has ended, however busy the machine is
RUN = """
import sys
from tempfile import mkstemp
from x2i_app.workspace import workspace
with workspace():
    print(mkstemp()[1], flush=True)
    sys.stdin.read()
"""

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows has no such signals")


def script(path: Path, *rows: str) -> Path:
    """An executable shell script."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(("#!/bin/sh", *rows, "exec sleep 600")))
    path.chmod(0o700)
    return path


@pytest.fixture
def temporary(tmp_path) -> Path:
    """The system's folder for temporary files, with files that belong to others."""
    folder = tmp_path / "temporary"
    for name in FOREIGN:
        (folder / name).parent.mkdir(parents=True)
        (folder / name).touch()
    return folder


def files_in(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def start(tmp_path, temporary):
    """Starts an app whose ffmpeg hangs, and whose tunnel only says that the share link leads to the app's port."""
    ffmpeg = script(tmp_path / "ffmpeg")
    script(tmp_path / "hub/gradio/frpc" / BINARY_FILENAME, "echo start proxy success: http://127.0.0.1:$5")
    environment = {
        "GRADIO_TEMP_DIR": "",
        "TMPDIR": str(temporary),
        "IMAGEIO_FFMPEG_EXE": str(ffmpeg),
        "HF_HOME": str(tmp_path / "hub"),
        "GRADIO_SHARE_SERVER_ADDRESS": f"127.0.0.1:{free_port()}",
    }

    def app(*arguments: str):
        return run_app(Path(mkdtemp(dir=tmp_path)), *arguments, **environment)

    return app


def begin_jobs(app: App) -> dict[str, str]:
    """Start a job whose video is being read, and one that waits. Returns what their clients are told at the end."""
    told: dict[str, str] = {}
    (path,) = upload(app.url, ("a.mp4", VIDEO.read_bytes())).json()

    def client(name, endpoint, data):
        try:
            told[name] = call(app.url, endpoint, data)
        except Exception as error:  # noqa: BLE001 - what a client of a killed app sees
            told[name] = repr(error)

    video = [as_file(path), "", *SETTINGS]
    threading.Thread(target=client, args=("running", "video", video)).start()
    wait_until(lambda: len([child for child in children(app) if child.name() == "sleep"]) == 2)
    threading.Thread(target=client, args=("waiting", "text", ["a red house", *SETTINGS])).start()
    wait_until(lambda: ask(app.url, "GET", "/health").json()["waiting"] == 1)
    return told


def children(app: App) -> list[psutil.Process]:
    return psutil.Process(app.process.pid).children(recursive=True)


def is_running(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL], ids=lambda number: number.name)
def test_r14_nothing_is_left(start, temporary, number):
    """With a running job, a waiting one, an upload, an ffmpeg, and a tunnel."""
    with start("--share", "--share-openly") as app:
        assert "Running on public URL" in app.log.read_text()
        told = begin_jobs(app)
        started = children(app)
        assert len([child for child in started if child.name() == "sleep"]) == 2, "an ffmpeg and a tunnel"
        assert [name for name in files_in(temporary) if name.endswith("a.mp4")]
        app.process.send_signal(number)
        status = app.process.wait(PATIENCE)
        wait_until(lambda: not any(map(is_running, started)))
        wait_until(lambda: files_in(temporary) == set(FOREIGN))
        wait_until(lambda: len(told) == 2)
    if number == signal.SIGKILL:
        return
    assert status == 128 + number if number == signal.SIGTERM else 130
    assert app.log.read_text().endswith("x2i: stopped.\n")
    for sentence in told.values():
        assert sentence.startswith("error"), told
        assert "The app is shutting down; start the job again later." in sentence


def test_r14_leftovers_of_killed_runs(temporary):
    """A run and its janitor are killed: the next run removes their files, but not those of a run that lives."""
    environment = os.environ | {"TMPDIR": str(temporary), "GRADIO_TEMP_DIR": ""}

    def run() -> tuple[subprocess.Popen, Path]:
        """A process with a file in the workspace that every entry point opens; it ends when its input is closed."""
        process = subprocess.Popen(
            [sys.executable, "-c", RUN], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, text=True
        )
        return process, Path(process.stdout.readline().strip())

    (killed, lost), (living, kept) = run(), run()
    for process in [*psutil.Process(killed.pid).children(), killed]:
        os.kill(process.pid, signal.SIGKILL)
    killed.communicate()
    assert lost.is_file()
    following, _ = run()
    assert not lost.parent.exists()
    assert kept.is_file()
    for process in (living, following):
        process.communicate(timeout=PATIENCE)
        assert process.returncode == 0
    assert files_in(temporary) == set(FOREIGN)


def test_r14_an_end_that_takes_too_long(tmp_path, temporary):
    """A process that does not end by itself is ended, and its files are removed."""
    code = (
        "import time\n"
        "from tempfile import mkstemp\n"
        "from x2i_app.workspace import workspace\n"
        "with workspace():\n"
        "    mkstemp()\n"
        "    try:\n"
        "        print(flush=True)\n"
        "        time.sleep(600)\n"
        "    finally:\n"
        "        time.sleep(600)\n"
    )
    environment = os.environ | {"TMPDIR": str(temporary), "GRADIO_TEMP_DIR": ""}
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, env=environment)
    process.stdout.readline()
    assert files_in(temporary) > set(FOREIGN)
    began = time.monotonic()
    process.terminate()
    assert process.wait(PATIENCE) != 0
    assert time.monotonic() - began >= STOP_SECONDS
    wait_until(lambda: files_in(temporary) == set(FOREIGN))
    process.stdout.close()


def test_r14_commands(tmp_path, temporary):
    """`batch` is told to stop while a file is read: one row, its status, and no file is left."""
    ffmpeg = script(tmp_path / "ffmpeg")
    (tmp_path / "rows.jsonl").write_text(f'{{"videos": ["{VIDEO}"]}}')
    environment = os.environ | {"TMPDIR": str(temporary), "IMAGEIO_FFMPEG_EXE": str(ffmpeg), "GRADIO_TEMP_DIR": ""}
    environment["PYTHONPATH"] = str(ROOT)
    command = [sys.executable, "-m", "x2i_app", "batch", "--input", "rows.jsonl", "--profile", "cpu"]
    process = subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True)
    running = psutil.Process(process.pid)
    wait_until(lambda: [child for child in running.children(recursive=True) if child.name() == "sleep"])
    (child,) = [child for child in running.children(recursive=True) if child.name() == "sleep"]
    process.terminate()
    _, log = process.communicate(timeout=PATIENCE)
    assert process.returncode == 143
    assert log.endswith("x2i: stopped.\n")
    assert "Traceback" not in log
    wait_until(lambda: not is_running(child))
    assert files_in(temporary) == set(FOREIGN)


def test_r14_another_process_with_the_same_id_lives(tmp_path):
    """The janitor ends a process only if it is still the one that it was told of."""
    told, other, forgotten = (subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) for _ in "123")
    rows = [
        f"kill {told.pid} {psutil.Process(told.pid).create_time()!r}",
        f"kill {other.pid} {psutil.Process(other.pid).create_time() - 1!r}",
        f"kill {forgotten.pid} {psutil.Process(forgotten.pid).create_time()!r}",
        f"forget {forgotten.pid}",
        f"remove {tmp_path / 'outside'}",
    ]
    for name in ("run", "outside"):
        (tmp_path / name).mkdir()
    command = [sys.executable, "-I", "-S", janitor.__file__, tmp_path / "run", Path(psutil.__file__).parents[1]]
    subprocess.run(command, input="\n".join(rows).encode(), timeout=PATIENCE, check=True)
    assert told.wait(PATIENCE) == -signal.SIGKILL
    assert [process.poll() for process in (other, forgotten)] == [None, None]
    assert list(tmp_path.iterdir()) == []
    for process in (other, forgotten):
        process.communicate(b"\n")


@pytest.mark.parametrize("system", ["posix", "windows"])
def test_r14_forked_processes(tmp_path, system):
    """As ZeroGPU forks: the child ends when its parent has been killed. On Windows, its parent's number stays."""
    reader, writer = os.pipe()
    parent = os.fork()
    if not parent:
        child = os.fork()
        if child:
            os.write(writer, f"{child}\n".encode())
        else:
            if system == "windows":
                number = os.getppid()
                os.getppid = lambda: number
            exit_with_parent()
            os.write(writer, b"ready\n")
        time.sleep(600)
        os._exit(0)
    rows = b""
    while rows.count(b"\n") < 2:
        rows += os.read(reader, 100)
    child = psutil.Process(int(rows.replace(b"ready\n", b"")))
    os.kill(parent, signal.SIGKILL)
    os.waitpid(parent, 0)
    wait_until(lambda: not is_running(child))
    os.close(reader)
    os.close(writer)


def test_jobs_are_refused_without_a_folder(tmp_path, capfd):
    """A sentence says what to do."""
    (tmp_path / "file").touch()
    command = [sys.executable, "-m", "x2i_app", "generate", "--prompt", "a"]
    environment = os.environ | {"GRADIO_TEMP_DIR": str(tmp_path / "file")}
    assert subprocess.run(command, env=environment, check=False).returncode == 1
    assert "set TMPDIR to another folder" in capfd.readouterr().err
