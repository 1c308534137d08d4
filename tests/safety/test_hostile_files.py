"""R1, T11 to T13 of SECURITY.md: every file of the corpus through the running app, and a good job after each."""

import re

import psutil
import pytest
from safety.client import NO_INPAINTING, SETTINGS, as_file, call, canary, upload
from safety.hostile_files import CANARY, corpus

pytestmark = pytest.mark.usefixtures("unharmed")


def send(server: str, endpoint: str, path: str) -> str:
    file = as_file(path)
    values = {
        "image": [[{"image": file, "caption": None}]],
        "image_text": [file, "words", 1, None, *NO_INPAINTING],
        "video": [file, ""],
        "audio": [file, ""],
        "fusion": [{"text": "", "files": [file]}],
    }[endpoint]
    return call(server, endpoint, [*values, *SETTINGS])


def test_every_hostile_file_is_answered_in_a_sentence_and_a_good_job_follows(app, tmp_path):
    secret = tmp_path / "secret.ts"
    secret.write_bytes(CANARY)
    memory = psutil.Process(app.process.pid).memory_info().rss
    wrong, count = [], 0
    for hostile in corpus(secret):
        count += 1
        sent = upload(app.url, (hostile.name, hostile.content))
        said = send(app.url, hostile.endpoint, sent.json()[0]) if sent.status == 200 else f"error {sent.text}"
        fine = said.startswith("complete") or re.search(r'"error": ".+\."', said)
        if not fine or "Traceback" in said or CANARY.decode() in said or canary(app.url) != "complete":
            wrong.append((hostile.what, hostile.endpoint, said[:200]))
    assert wrong == []
    assert count >= 120
    assert app.process.poll() is None
    assert psutil.Process(app.process.pid).memory_info().rss - memory < 500e6
