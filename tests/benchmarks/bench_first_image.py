"""The time until x2i-tiny's first image, compared with its imports: python -m tests.benchmarks.bench_first_image

The app is started and called over HTTP until its first image is there. The other process imports gradio, torch,
diffusers' pipeline and transformers' MLLM, and ends. Then two sizes of images, the fastest of five.
"""

import itertools
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # like pytest

from tests.benchmarks.side_by_side import compare, print_row
from tests.conftest import run_app
from tests.safety.client import call

BARE = """
import gradio, torch
from diffusers import FluxPipeline
from transformers import Qwen2_5OmniThinkerForConditionalGeneration
"""
RUNS, IMAGES = 3, 5
SEEDS = itertools.count()


def draw(url: str, side: int = 128) -> None:
    """A new image with the default number of steps."""
    said = call(url, "text", ["a red house on snow at night", side, side, None, None, next(SEEDS), 1, False, []])
    assert said.startswith("complete"), said


def first_image() -> None:
    """Start the app and generate an image."""
    with tempfile.TemporaryDirectory() as folder, run_app(Path(folder)) as app:
        draw(app.url)


def main() -> None:
    """Measure, and print a row for each case."""
    imports = [sys.executable, "-c", BARE]
    result = compare(first_image, lambda: subprocess.run(imports, check=True), RUNS, warm_up=0)
    measured = f"{result.ratio:.2f} ({result.ours:.1f} s : {result.other:.1f} s)"
    print_row("First picture : importing the libraries", measured, "1.5", result.ratio <= 1.5)
    with tempfile.TemporaryDirectory() as folder, run_app(Path(folder)) as app:
        draw(app.url)
        for side, goal in ((128, 1.5), (256, 4.0)):
            times = []
            for _ in range(IMAGES):
                start = time.perf_counter()
                draw(app.url, side)
                times.append(time.perf_counter() - start)
            print_row(f"A picture of {side} x {side}", f"{min(times):.2f} s", f"{goal} s", min(times) <= goal)


if __name__ == "__main__":
    main()
