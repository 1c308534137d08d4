"""Whether the app grows with what has been done with it, for SECURITY.md: python -m tests.benchmarks.bench_long_life

In rounds: sessions come and go, jobs of every kind are drawn or left by their clients, and the model is loaded again.
After each round it prints the memory of the app and its decoders, open files, threads, child processes, and the files
in its temporary folder. Takes half an hour on two cores; --visits 200 --jobs 50 --switches 20 takes three minutes.
"""

import argparse
import secrets
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

import psutil

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # like pytest

from tests.conftest import App, run_app
from tests.safety.client import CALL, NO_INPAINTING, as_file, ask, call, canary, upload
from x2i_app.settings import ASSETS

EXAMPLES = ASSETS / "examples"
SETTINGS = [64, 64, 1, None, 7, 1, False, []]
FILES = ("images/boat-at-sunset.png", "videos/rocket-at-night.mp4", "audios/rain-at-sea.wav")
COLUMNS = (
    "visits",
    "jobs",
    "switches",
    "MB",
    "anonymous MB",
    "decoders MB",
    "descriptors",
    "threads",
    "children",
    "files",
)


def open_page(app: App) -> None:
    """What a browser does that opens the page and closes it again."""
    session = secrets.token_hex(6)
    for path in ("/", "/config"):
        assert ask(app.url, "GET", path).status == 200
    with urllib.request.urlopen(f"{app.url}/gradio_api/heartbeat/{session}", timeout=60) as beat:
        beat.readline()
        call(app.url, "status", [""])


def draw(app: App, number: int) -> None:
    """A job; the client of every fifth one leaves at once."""
    image, video, audio = (upload(app.url, (name, (EXAMPLES / name).read_bytes())).json()[0] for name in FILES)
    endpoint, inputs = (
        ("text", ["a red house"]),
        ("image_text", [as_file(image), "a house", 0, None, *NO_INPAINTING]),
        ("video", [as_file(video), ""]),
        ("audio", [as_file(audio), ""]),
    )[number % 4]
    data = [*inputs, *SETTINGS]
    if number % 5:
        result = call(app.url, endpoint, data)
        assert result.startswith("complete"), result
        return
    event = ask(app.url, "POST", f"{CALL}/{endpoint}", {"data": data}).json()["event_id"]
    urllib.request.urlopen(f"{app.url}{CALL}/{endpoint}/{event}", timeout=60).close()


def switch(app: App) -> None:
    result = call(app.url, "switch", ["x2i-tiny", "", "cpu"])
    assert result.startswith("complete"), result


def measure(app: App, folder: Path) -> list[float]:
    """The columns from MB on."""
    process = psutil.Process(app.process.pid)
    memory = process.memory_full_info()
    children = [child for child in process.children(recursive=True) if "isolation" in " ".join(child.cmdline())]
    return [
        memory.rss / 1e6,
        memory.uss / 1e6,
        sum(child.memory_info().rss for child in children) / 1e6,
        process.num_fds(),
        process.num_threads(),
        len(process.children(recursive=True)),
        sum(path.is_file() for path in folder.rglob("*")),
    ]


def main() -> None:
    """Run the rounds, and print a row for each."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name, default in (("visits", 2000), ("jobs", 500), ("switches", 200), ("rounds", 10)):
        parser.add_argument(f"--{name}", type=int, default=default)
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, run_app(Path(folder)) as app:
        assert canary(app.url) == "complete"
        print("  ".join(f"{name:>12}" for name in ("seconds", *COLUMNS)))
        done, start = dict.fromkeys(("visits", "jobs", "switches"), 0), time.perf_counter()
        for turn in range(wanted.rounds + 1):
            for name, act in (("visits", open_page), ("jobs", draw), ("switches", switch)):
                while done[name] < getattr(wanted, name) * turn / wanted.rounds:
                    act(*((app, done[name]) if act is draw else (app,)))
                    done[name] += 1
            row = [time.perf_counter() - start, *done.values(), *measure(app, Path(folder) / "uploads")]
            print("  ".join(f"{value:12.0f}" for value in row), flush=True)
        assert canary(app.url) == "complete"


if __name__ == "__main__":
    main()
