"""R1 and T11 to T13 of SECURITY.md: hostile files through the running app, each followed by a valid job."""

import re
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest
from safety.client import NO_INPAINTING, SETTINGS, as_file, call, canary, upload
from safety.hostile_files import CANARY, Hostile, hostile_files

pytestmark = pytest.mark.usefixtures("unharmed")

AT_ONCE = 4


def send(server: str, hostile: Hostile) -> str:
    """Upload a file and run its endpoint on it: the last event."""
    uploaded = upload(server, (hostile.name, hostile.content))
    if uploaded.status != 200:
        return f"error {uploaded.text}"
    file = as_file(uploaded.json()[0])
    values = {
        "image": [[{"image": file, "caption": None}]],
        "image_text": [file, "a house", 1, None, *NO_INPAINTING],
        "video": [file, ""],
        "audio": [file, ""],
        "fusion": [{"text": "", "files": [file]}],
    }[hostile.endpoint]
    return call(server, hostile.endpoint, [*values, *SETTINGS])


def test_r1_hostile_files(app, tmp_path):
    """Each is used or refused in one sentence, a valid job after it succeeds, and the secret stays unread."""
    secret = tmp_path / "secret.ts"
    secret.write_bytes(CANARY)
    process = psutil.Process(app.process.pid)
    memory = process.memory_info().rss

    def problem(hostile: Hostile) -> tuple | None:
        result = send(app.url, hostile)
        fine = result.startswith("complete") or re.search(r'"error": ".+\."', result)
        valid_job = canary(app.url)
        if fine and "Traceback" not in result and CANARY.decode() not in result and valid_job == "complete":
            return None
        return hostile.what, hostile.endpoint, result[:200], valid_job

    files = list(hostile_files(secret))
    assert len(files) >= 120
    with ThreadPoolExecutor(AT_ONCE) as pool:
        assert [problem for problem in pool.map(problem, files) if problem] == []
    assert app.process.poll() is None
    assert process.memory_info().rss - memory < 500e6
