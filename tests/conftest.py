"""Fixtures that several folders share: tiny models and media, each made once a process; and how the tests run."""

import asyncio
import gc
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Coroutine, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import network
import numpy as np
import pytest
from PIL import Image
from waiting import wait_until

ROOT = Path(__file__).resolve().parents[1]
T = TypeVar("T")
# What takes longest starts first: about two thirds of the time.
LONGEST = ("tests/browser/", "tests/scale/", "tests/miniature/", "tests/training/")
# Two Chromiums at once, or two tests that start many processes, would take the cores from each other until one of them
# has waited too long: each of these kinds runs in one process, one test after the other.
ONE_BY_ONE = {
    "tests/browser/": "browsers",
    "tests/scale/": "many processes",
    "tests/miniature/test_build.py": "many processes",
    "tests/training/test_command.py": "many processes",
}

# OpenMP's threads sleep while they wait, here and in every child process: torch's would take a core from other tests.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# The tests, and all that they start, reach only the loopback, where the system allows that.
network.isolate()

# No test writes into the user's own cache.
_CACHE = tempfile.TemporaryDirectory(prefix="x2i-tests-cache-")
os.environ["XDG_CACHE_HOME"] = _CACHE.name

# The hub is never asked: each test makes what it loads.
os.environ["HF_HUB_OFFLINE"] = "1"


def pytest_report_header():
    """The first rows of the run's output."""
    return f"network: {'only the loopback' if network.is_isolated() else 'not isolated: the system does not allow it'}"


def pytest_xdist_auto_num_workers(config) -> int:
    """With `-n auto`: several processes for all tests, none beside this one for chosen folders, files and tests.

    There is one worker more than there are cores, as many tests wait for a server.
    """
    runs_all = ROOT / "tests" in {Path(argument).resolve() for argument in config.args}
    return min((os.cpu_count() or 1) + 1, 8) if runs_all else 0


def pytest_configure(config):
    """Workers of pytest-xdist, and what they start, share the cores: torch's threads must not fight for them."""
    workers = config.getoption("numprocesses", None)
    if workers:
        os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // workers)))


def pytest_xdist_newgateway():
    """A worker has just been started: the next one gets a network of its own, with its own ports and its own count."""
    network.renew()


def pytest_xdist_make_scheduler(config, log):
    """One file's tests run in one process, one after the other, and so do all tests of a kind in ONE_BY_ONE.

    Long files start first, so that no worker ends long after the others.
    """
    from xdist.scheduler import LoadFileScheduling

    class Scheduling(LoadFileScheduling):
        def _split_scope(self, nodeid):
            kinds = (kind for start, kind in ONE_BY_ONE.items() if nodeid.startswith(start))
            return next(kinds, super()._split_scope(nodeid))

    return Scheduling(config, log)


def pytest_terminal_summary(terminalreporter, config):
    """Near the end of the output too, as its first rows are often cut off."""
    if seed := config.getoption("randomly_seed", None):
        terminalreporter.write_line(f"Each file's order again: --randomly-seed={seed}")


def _imported_torch() -> Any:
    """None where nothing has imported it, or a thread is just doing that."""
    torch = sys.modules.get("torch")
    return torch if hasattr(torch, "manual_seed") else None


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup():
    """What torch draws in a test, and in fixtures that are made for it, does not depend on the tests before."""
    if torch := _imported_torch():
        torch.manual_seed(1234)  # not one of the tests' own seeds: models and inputs would begin with the same numbers


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items):
    """Move the tests that take longest to the front, whatever the random order of the rest."""
    items.sort(key=lambda item: [item.nodeid.startswith(start) for start in LONGEST], reverse=True)


def pytest_addoption(parser):
    """Add this project's options."""
    parser.addoption("--fuzz-long", action="store_true", help="damage ten times as many files in tests/safety")


@pytest.fixture(scope="module", autouse=True)
def _as_before() -> Iterator[None]:
    """A file's tests leave the process as they found it: another file's tests run in it next.

    The garbage collector ignores what was imported before them. A full collection would walk through it for half a
    second, and every training and every unloaded model asks for one. An engine that closes changes that.
    """
    gc.collect()
    gc.freeze()
    before = _global_state()
    yield
    assert {name: value for name, value in _global_state().items() if value != before.get(name, value)} == {}


def _global_state() -> dict[str, Any]:
    state: dict[str, Any] = {"folder": Path.cwd()}
    if torch := _imported_torch():
        state |= {"threads": torch.get_num_threads(), "dtype": torch.get_default_dtype()}
    isolation = sys.modules.get("x2i_app.media.isolation")
    return state | {"files are decoded in child processes": bool(isolation and isolation.is_isolated())}


@pytest.fixture
def isolated() -> Iterator[None]:
    """Files are decoded in child processes during the test, as in the app; there are none when the test begins."""
    from x2i_app.media.isolation import isolate_decoding

    was_isolated = isolate_decoding(False)
    isolate_decoding()
    yield
    isolate_decoding(False)
    isolate_decoding(was_isolated)


@pytest.fixture(scope="module")
def pipeline():
    """x2i-tiny on the CPU. Each file has its own, as tests change it."""
    from x2i_app import load_pipeline

    return load_pipeline("x2i-tiny", profile="cpu")


@pytest.fixture(scope="module")
def engine():
    """An engine with x2i-tiny, which is loaded."""
    from x2i_app.serving.engine import Engine
    from x2i_app.serving.worker import LocalWorker
    from x2i_app.settings import Settings

    settings = Settings(profile="cpu")
    engine = Engine(settings, LocalWorker(settings))
    engine.start()
    wait_until(lambda: engine.status.state != "loading")
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def worker(engine):
    """The worker of `engine`. Its model is loaded, whichever of the two a test asks for."""
    return engine._worker


@pytest.fixture(scope="session")
def qwen_vl_directory(tmp_path_factory) -> Path:
    """A tiny Qwen2.5-VL with a head of its own, like the 7B."""
    from factories import save_qwen_vl

    return save_qwen_vl(tmp_path_factory.mktemp("qwen2.5-vl"))


@pytest.fixture(scope="session")
def qwen_omni_directory(tmp_path_factory) -> Path:
    """A tiny Qwen2.5-Omni with a talker and a head of its own, like the 7B."""
    from factories import save_qwen_omni

    return save_qwen_omni(tmp_path_factory.mktemp("qwen2.5-omni"), tied=False)


@pytest.fixture
def image() -> Image.Image:
    """An image of 90 x 60 pixels with a different color in every corner."""
    corners = Image.fromarray(np.array([[[255, 0, 0], [0, 255, 0]], [[0, 0, 255], [255, 255, 0]]], dtype=np.uint8))
    return corners.resize((90, 60))


@pytest.fixture
def video() -> tuple[np.ndarray, float]:
    """Five frames of 64 x 48 pixels at 1 frame/s, each with another brightness."""
    frames = np.stack([np.full((48, 64, 3), level, dtype=np.uint8) for level in (0, 60, 120, 180, 240)])
    return frames, 1.0


@pytest.fixture
def tone() -> tuple[np.ndarray, int]:
    """A second of 440 Hz at 16 kHz."""
    return (0.5 * np.sin(2 * np.pi * 440 * np.arange(16_000) / 16_000)).astype(np.float32), 16_000


@dataclass(frozen=True)
class App:
    """The real app in its own process: its URL, its process, and a file with its output.

    contacts: a file with a row for each address of another machine that it tried to reach, if it is watched.
    """

    url: str
    process: subprocess.Popen
    log: Path
    contacts: Path


@contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """The kernel refuses what a file of this process has beyond this size, as it would on a full disk."""
    import resource

    usual = resource.getrlimit(resource.RLIMIT_FSIZE)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # as Python does, unless a library has changed it
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, usual[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, usual)


def run_async(coroutine: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine, run in a thread of its own: Playwright keeps an event loop in the tests' thread."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, coroutine).result()


def free_port() -> int:
    """A free port of the loopback."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@contextmanager
def run_app(
    folder: Path, *arguments: str, watch: bool = False, before: Sequence[str] = (), **environment: str
) -> Iterator[App]:
    """Start the app in `folder` like a user, and stop it at the end of the block. before: a command that starts it."""
    log, contacts = folder / "app.log", folder / "contacts.log"
    watcher = [str(ROOT / "tests/watched.py"), str(contacts)] if watch else []
    command = [*before, sys.executable, *watcher, str(ROOT / "app.py"), "--port", "0", "--profile", "cpu", *arguments]
    with log.open("a") as output:
        # Gradio names uploads by their content: in one folder, an app would delete another one's files.
        environment = os.environ | {"GRADIO_TEMP_DIR": str(folder / "uploads")} | environment
        process = subprocess.Popen(command, cwd=folder, stdout=output, stderr=subprocess.STDOUT, env=environment)
    try:
        yield App(_wait_for_url(process, log), process, log, contacts)
    finally:
        process.terminate()
        process.wait(120)


@pytest.fixture(scope="session")
def app(tmp_path_factory) -> Iterator[App]:
    """One real app for all tests of this process, in an empty working folder."""
    # When a test leaves its page, its job must not keep the following tests waiting for long.
    with run_app(tmp_path_factory.mktemp("server"), "--linger", "40", "--mcp", "--openai-api", watch=True) as app:
        yield app


@pytest.fixture(scope="session")
def server(app) -> str:
    """The URL of the real app."""
    return app.url


def _wait_for_url(process: subprocess.Popen, log: Path) -> str:
    address = re.compile(r"https?://((127\.0\.0\.1|localhost|\[::1\]):\d+)")
    found = wait_until(lambda: address.search(log.read_text(errors="replace")), log.read_text, process=process)
    return f"http://{found[1]}"
