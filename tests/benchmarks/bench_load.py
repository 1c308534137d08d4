"""The app under load, for SECURITY.md: python -m tests.benchmarks.bench_load

50 users generate 10 images each with x2i-tiny; then 100 come at once, more than the queue has room for; then 2,000
sessions are refused for a bad value. Takes a few minutes on two cores.
"""

import sys
import tempfile
import time
from pathlib import Path

import psutil

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # like pytest

from tests.conftest import App, run_app
from tests.safety.client import CALL, ask, call, canary, in_parallel

USERS, JOBS, CROWD, SESSIONS, AT_ONCE = 50, 10, 100, 2000, 20


def job(seed: int, width: int = 64, steps: int = 1) -> list:
    """The smallest image, with this seed."""
    return ["a red house", width, 64, steps, None, seed, 1, False, []]


def memory(app: App) -> float:
    """Resident memory of the app in MB."""
    return psutil.Process(app.process.pid).memory_info().rss / 1e6


def draw_ten(app: App, user: int) -> int:
    """How many images of a user's own arrived, identified by their seeds."""
    seeds = range(user * JOBS, user * JOBS + JOBS)
    return sum(f'"seeds": [{seed}]' in call(app.url, "text", job(seed)) for seed in seeds)


def come_at_once(app: App, seed: int) -> tuple[str, float]:
    """What one of many users is answered, and after how many seconds."""
    start = time.perf_counter()
    return call(app.url, "text", job(seed, steps=8)), time.perf_counter() - start


def come_and_go(app: App, first: int) -> bool:
    """A part of the sessions, one by one; whether each was told what was wrong."""
    told = True
    for number in range(first, SESSIONS, AT_ONCE):
        body = {"data": job(1, width=4000), "session_hash": f"session{number}"}
        event = ask(app.url, "POST", f"{CALL}/text", body).json()["event_id"]
        told &= "width is 4000" in ask(app.url, "GET", f"{CALL}/text/{event}").text
    return told


def main() -> None:
    """Measure, and print a row for each case."""
    with tempfile.TemporaryDirectory() as folder, run_app(Path(folder)) as app:
        assert canary(app.url) == "complete"
        before, start = memory(app), time.perf_counter()
        got = sum(in_parallel(lambda user: draw_ten(app, user), range(USERS)))
        print(f"own images: {got} of {USERS * JOBS}, {time.perf_counter() - start:.0f} s", flush=True)
        answers = in_parallel(lambda seed: come_at_once(app, seed), range(CROWD))
        waits = [seconds for said, seconds in answers if "jobs are waiting" in said]
        own = sum(f'"seeds": [{seed}]' in answers[seed][0] for seed in range(CROWD))
        print(f"of {CROWD} at once: {own} own images, {len(waits)} told that the queue is full", flush=True)
        print(f"the slowest of those after {max(waits, default=0):.2f} s", flush=True)
        middle = memory(app)
        heard = in_parallel(lambda first: come_and_go(app, first), range(AT_ONCE))
        print(f"sessions that heard what was wrong: {'all' if all(heard) else 'NOT all'} of {SESSIONS}")
        print(f"memory: {before:.0f} MB, {middle:.0f} MB after the images, {memory(app):.0f} MB after the sessions")
        assert canary(app.url) == "complete"


if __name__ == "__main__":
    main()
