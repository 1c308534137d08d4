"""The time until the page answers, compared with the smallest Gradio app: python -m tests.benchmarks.bench_startup

Both are started as processes, alternately, and called until they answer. The page of X2I must answer before torch is
loaded.
"""

import re
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

from tests.benchmarks.side_by_side import compare, print_row

ROOT = Path(__file__).resolve().parents[2]
SMALLEST = """
import gradio as gr
with gr.Blocks(analytics_enabled=False) as page:
    gr.Textbox()
page.launch(server_port=None)
"""
RUNS = 5


def start(*command: str) -> None:
    """Start a server, wait for its page, and stop it."""
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen([sys.executable, *command], stdout=log, stderr=subprocess.STDOUT)
        try:
            while not (found := url_in(log)):
                time.sleep(0.02)
            with urllib.request.urlopen(found) as answer:
                assert answer.status == 200
        finally:
            process.kill()
            process.wait()


def url_in(log) -> str | None:
    log.seek(0)
    found = re.search(r"http://127\.0\.0\.1:\d+", log.read())
    return found and found.group()


def main() -> None:
    result = compare(lambda: start(str(ROOT / "app.py"), "--port", "0"), lambda: start("-c", SMALLEST), RUNS)
    measured = f"{result.ratio:.2f} ({result.ours:.1f} s : {result.other:.1f} s)"
    print_row("Page answers : smallest Gradio app", measured, "1.2", result.ratio <= 1.2)


if __name__ == "__main__":
    main()
