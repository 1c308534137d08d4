"""Two replicas compared with one, for docs/EVALUATION.md: python -m tests.benchmarks.bench_scale

Two apps, each with its own Ray and one thread for each replica, generate the same images alternately. If there are
fewer free cores than replicas, replicas share them, and only the CPU seconds of an image are meaningful.
"""

import os
import statistics
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import psutil

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # like pytest

from tests.conftest import App, run_app
from tests.safety.client import ask, call, in_parallel

IMAGES, RUNS, SIDE, STEPS = 8, 5, 128, 8


def start(stack: ExitStack, replicas: int) -> App:
    """An app whose replicas have all started and have generated an image."""
    folder = stack.enter_context(tempfile.TemporaryDirectory())
    app = stack.enter_context(run_app(Path(folder), "--ray", "--replicas", str(replicas)))
    while ask(app.url, "GET", "/health").json()["detail"] != f"Replicas running: {replicas}.":
        time.sleep(0.5)
    draw(app, 0)
    return app


def draw(app: App, first: int) -> tuple[float, float, float]:
    """Generate IMAGES for as many users: wall seconds, and CPU seconds of the replicas and of the page's process."""
    before, start = processor(app), time.perf_counter()
    jobs = [["a red house", SIDE, SIDE, STEPS, None, first + n, 1, False, []] for n in range(IMAGES)]
    answers = in_parallel(lambda job: call(app.url, "text", job), jobs)
    seconds = time.perf_counter() - start
    assert all(f'"seeds": [{job[5]}]' in answer for job, answer in zip(jobs, answers, strict=True)), answers
    return seconds, *(b - a for a, b in zip(before, processor(app), strict=True))


def processor(app: App) -> tuple[float, float]:
    """CPU seconds so far, of the replicas and of the page's process."""
    page = psutil.Process(app.process.pid)
    replicas = [child for child in page.children(recursive=True) if "ServeReplica" in " ".join(child.cmdline())]
    return sum(sum(one.cpu_times()[:2]) for one in replicas), sum(page.cpu_times()[:2])


def main() -> None:
    """Measure, and print a row for each app and their ratio."""
    with ExitStack() as stack:
        apps = {replicas: start(stack, replicas) for replicas in (1, 2)}
        taken = {replicas: [draw(app, 0)] for replicas, app in apps.items()}
        for run in range(1, RUNS):
            for replicas, app in apps.items():
                taken[replicas].append(draw(app, run * IMAGES))
    print(f"{IMAGES} images of {SIDE} x {SIDE} in {STEPS} steps, {len(os.sched_getaffinity(0))} cores, {RUNS} runs")
    for replicas, runs in taken.items():
        wall, drawing, page = map(min, zip(*runs, strict=True))
        each = f"{1000 * drawing / IMAGES:.0f} ms of CPU for each image, and {1000 * page / IMAGES:.0f} ms of the page"
        print(f"{replicas} replicas: {IMAGES / wall:.2f} images/s, {each}")
    ratios = [one[0] / two[0] for one, two in zip(taken[1], taken[2], strict=True)]
    print(f"2 against 1: {statistics.median(ratios):.2f} times the images/s, {min(ratios):.2f} to {max(ratios):.2f}")


if __name__ == "__main__":
    main()
