"""Ray, for real: its processes are found by their titles, and must all be gone afterwards."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from gradio_client import Client

from tests.conftest import App
from tests.safety.client import ask
from tests.ui.test_endpoints import SETTINGS

REPLICA = "ServeReplica"
ENDLESS = {"steps": 100, "count": 8, "width": 512, "height": 512}  # many minutes
SECONDS = 300  # what anything may take, on a machine that has other things to do


@pytest.fixture(scope="module", autouse=True)
def nothing_is_left() -> Iterator[None]:
    """Every process of Ray that a module started ends with it; one that does not is ended, and its last test fails."""
    before = ray_processes()
    yield

    def left():
        return [process for process in ray_processes() if process not in before]

    try:
        wait_until(lambda: not left(), "Ray has ended", pause=0.5)
    finally:
        for process in left():
            process.kill()


def ray_processes(title: str = "") -> list[psutil.Process]:
    """The processes of Ray with these words in their title."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        words = " ".join(process.info["cmdline"] or [])
        if words.startswith("ray::") and title in words:
            found.append(process)
    return found


def wait_until(happens: Callable[[], object], what: str, pause: float = 0.05) -> None:
    """Look again and again; fail after SECONDS."""
    deadline = time.monotonic() + SECONDS
    while not happens():
        assert time.monotonic() < deadline, f"It never came that {what}."
        time.sleep(pause)


def health(app: App) -> tuple[int, str, str]:
    """What /health answers: its status, the state of the engine, and what more is said of it."""
    answer = ask(app.url, "GET", "/health")
    return answer.status, answer.json()["state"], answer.json()["detail"]


def visitor(app: App, folder: Path) -> Client:
    """Somebody new, whose pictures come into the folder."""
    return Client(app.url, verbose=False, download_files=folder, httpx_kwargs={"timeout": SECONDS})


def submit(app: App, seed: int, folder: Path, **settings):
    """A job of a visitor of their own."""
    client = visitor(app, folder)
    given = {"prompt": f"{seed} stars", **SETTINGS, "height": 64, "seed": seed} | settings
    return client.submit(**given, api_name="/text")
