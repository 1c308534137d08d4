"""Ray, for real: its processes are found by their titles, and must all be gone afterwards."""

import time
from collections.abc import Callable, Iterator

import psutil
import pytest

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
