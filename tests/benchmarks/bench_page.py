"""The page's size, and the time until it can be used: python -m tests.benchmarks.bench_page

Compared with the smallest Gradio app, in Chromium with an empty cache, alternately, while both servers run and the
model is loaded. A page can be used when its first text box shows typed text. The size is what comes over the network,
compressed.
"""

import json
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Browser, sync_playwright

from tests.benchmarks.bench_startup import ROOT, SMALLEST, url_in
from tests.benchmarks.side_by_side import compare
from tests.browser.conftest import FLAGS, find_chromium

RUNS = 7


@contextmanager
def serving(*command: str) -> Iterator[str]:
    """The URL of a server that runs inside the block."""
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen([sys.executable, *command], stdout=log, stderr=subprocess.STDOUT)
        try:
            while not (found := url_in(log)):
                time.sleep(0.05)
            yield found
        finally:
            process.terminate()
            process.wait(30)


class Session:
    """Opens a page in a new context, types into it, and counts what came over the network."""

    def __init__(self, browser: Browser, url: str):
        self.browser, self.url = browser, url
        self.requests, self.bytes = 0, 0

    def __call__(self) -> None:
        """Open the page once."""
        self.requests, self.bytes = 0, 0
        context = self.browser.new_context(viewport={"width": 1280, "height": 900})
        page = context.new_page()
        network = context.new_cdp_session(page)
        network.send("Network.enable")
        network.on("Network.loadingFinished", self._count)
        page.goto(self.url, wait_until="commit")
        box = page.locator("textarea:visible").first
        box.fill("a")
        assert box.input_value() == "a"
        context.close()

    def _count(self, event: dict) -> None:
        self.requests += 1
        self.bytes += event["encodedDataLength"]

    def __str__(self) -> str:
        return f"{self.requests} requests, {self.bytes / 1e6:.2f} MB"


def wait_for_model(url: str) -> None:
    """Wait until the model is loaded, as loading uses the CPU that the page needs."""
    while True:
        with urllib.request.urlopen(f"{url}/health") as answer:
            if json.loads(answer.read())["state"] == "ready":
                return
        time.sleep(0.2)


def main() -> None:
    """Measure, and print sizes and ratios."""
    with (
        serving(str(ROOT / "app.py"), "--port", "0") as ours,
        serving("-c", SMALLEST) as smallest,
        sync_playwright() as playwright,
    ):
        wait_for_model(ours)
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=list(FLAGS))
        sessions = Session(browser, ours), Session(browser, smallest)
        result = compare(*sessions, RUNS)
        print(f"this page: {sessions[0]}, {result.ours:.2f} s; the smallest: {sessions[1]}, {result.other:.2f} s")
        print(f"ratios: {sessions[0].bytes / sessions[1].bytes:.2f} in weight, {result.ratio:.2f} in time", flush=True)
        browser.close()


if __name__ == "__main__":
    main()
