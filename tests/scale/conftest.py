"""Helpers for tests with a real Ray, whose processes are found by their titles and must all have ended afterwards."""

import functools
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import waiting
from gradio_client import Client

from tests.conftest import App
from tests.safety.client import ask
from tests.ui.test_endpoints import SETTINGS

REPLICA, ACTOR = "ServeReplica", "MapWorker(Map(RowActor))"  # titles of processes
ENDLESS = {"steps": 100, "count": 8, "width": 512, "height": 512}  # many minutes
SECONDS = 550  # timeout of every step, for a busy machine
wait_until = functools.partial(waiting.wait_until, seconds=SECONDS)


@pytest.fixture(scope="module", autouse=True)
def nothing_is_left() -> Iterator[None]:
    """Every process of Ray that a module started ends with it. One that does not is killed and reported."""
    before = ray_processes()
    yield

    def left():
        return [process for process in ray_processes() if process not in before]

    try:
        wait_until(lambda: not left(), left, pause=0.5)
    finally:
        for process in left():
            process.kill()


def ray_processes(title: str = "") -> list[psutil.Process]:
    """The processes of Ray whose titles contain `title`."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        command = " ".join(process.info["cmdline"] or [])
        if command.startswith("ray::") and title in command:
            found.append(process)
    return found


def health(app: App) -> tuple[int, str, str]:
    """The answer of /health: HTTP status, state and detail."""
    answer = ask(app.url, "GET", "/health")
    return answer.status, answer.json()["state"], answer.json()["detail"]


def new_client(app: App, folder: Path, login: tuple[str, str] | None = None) -> Client:
    """A client with a session of its own, which downloads images into the folder."""
    return Client(app.url, verbose=False, download_files=folder, httpx_kwargs={"timeout": SECONDS}, auth=login)


def submit(app: App, seed: int, folder: Path, login: tuple[str, str] | None = None, **settings):
    """A job of a new client."""
    client = new_client(app, folder, login)
    given = {"prompt": f"{seed} stars", **SETTINGS, "height": 64, "seed": seed} | settings
    return client.submit(**given, api_name="/text")
