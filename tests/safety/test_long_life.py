"""What is opened for a user is closed again: jobs leave no descriptor, thread or child process of the app behind.

tests/benchmarks/bench_long_life.py does the same with thousands, and measures the memory.
"""

import secrets
import urllib.request

import psutil
import pytest
from waiting import wait_until

from tests.conftest import App
from tests.safety.client import CALL, NO_INPAINTING, SETTINGS, as_file, ask, call, upload
from x2i_app.settings import ASSETS

EXAMPLES = ASSETS / "examples"
FILES = {
    "image_text": ("images/boat-at-sunset.png", ["a house", 0, None, *NO_INPAINTING]),
    "video": ("videos/rocket-at-night.mp4", [""]),
    "audio": ("audios/rain-at-sea.wav", [""]),
}


def use(app: App, endpoint: str, is_patient: bool) -> None:
    """Open the page, upload a file and start a job; then wait for it, or leave."""
    name, inputs = FILES[endpoint]
    session = secrets.token_hex(6)
    with urllib.request.urlopen(f"{app.url}/gradio_api/heartbeat/{session}", timeout=60) as beat:
        beat.readline()
        (path,) = upload(app.url, (name, (EXAMPLES / name).read_bytes())).json()
        data = [as_file(path), *inputs, *SETTINGS]
        if is_patient:
            assert call(app.url, endpoint, data).startswith("complete")
            return
        event = ask(app.url, "POST", f"{CALL}/{endpoint}", {"data": data}).json()["event_id"]
        urllib.request.urlopen(f"{app.url}{CALL}/{endpoint}/{event}", timeout=60).close()


def opened(app: App) -> tuple[int, int, int]:
    """Descriptors, threads, and child processes."""
    process = psutil.Process(app.process.pid)
    return process.num_fds(), process.num_threads(), len(process.children(recursive=True))


@pytest.mark.usefixtures("unharmed")
def test_r13_nothing_stays_open(app):
    for endpoint in FILES:  # whatever is opened once and kept, such as decoders
        use(app, endpoint, is_patient=True)
    before = opened(app)
    for _ in range(6):
        for endpoint in FILES:
            use(app, endpoint, is_patient=True)
            use(app, endpoint, is_patient=False)
    wait_until(  # idle threads come and go
        lambda: all(now <= then + 2 for now, then in zip(opened(app), before, strict=True)),
        lambda: (before, opened(app)),
        pause=0.2,
    )
