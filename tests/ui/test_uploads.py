"""The progress of uploads, which the page shows while it sends a file."""

import asyncio
import io
import time
from pathlib import Path

import pytest
from conftest import run_async
from safety.client import END, MULTIPART, UPLOAD, ask, begin_post, connect, read_status, upload, watch_upload
from safety.local_app import local_app
from starlette.datastructures import UploadFile

from x2i_app.ui.http import uploads
from x2i_app.ui.http.limits import HttpLimits

HEAD = b'--B\r\nContent-Disposition: form-data; name="files"; filename="video \xe5\xa4\x9c.bin"\r\n\r\n'
PIECE, PIECES = b"x" * 50_000, 3
LENGTH = len(HEAD) + PIECES * len(PIECE) + len(END)


@pytest.fixture(scope="module")
def url():
    with local_app(HttpLimits(watchers=3, watch_seconds=60)) as app:
        yield app.url


@pytest.fixture(scope="module")
def impatient_url():
    with local_app(HttpLimits(watch_seconds=0.3)) as app:
        yield app.url


def send(connection, events, number: int) -> None:
    """Send a piece, the `number`th of its file, and read events until they report all of it."""
    connection.sendall(PIECE)
    left = len(PIECE)
    while left > 0:
        event = next(events)
        left -= event["chunk_size"]
        assert (event["msg"], event["orig_name"], event["size"]) == ("update", "video 夜.bin", LENGTH)
        assert event["progress"] == number * len(PIECE) - left
    assert left == 0


@pytest.mark.parametrize("pieces", [PIECES, 2], ids=["whole", "cut"])
def test_progress_is_reported_while_a_file_arrives(url, pieces):
    events = watch_upload(url, "slow")
    with begin_post(url, f"{UPLOAD}?upload_id=slow", LENGTH, MULTIPART) as connection:
        connection.sendall(HEAD)
        for number in range(1, pieces + 1):
            send(connection, events, number)
        if pieces == PIECES:
            connection.sendall(END)
            assert read_status(connection) == 200
    assert list(events) == [{"msg": "done"}]


def test_names_of_devices_on_windows(url):
    for given, stored in (("con.txt", "_con.txt"), ("LPT1.bin", "_LPT1.bin"), ("console.txt", "console.txt")):
        (path,) = upload(url, (given, b"text")).json()
        assert Path(path).name == stored


def test_events_end_if_no_upload_starts(impatient_url):
    assert list(watch_upload(impatient_url, "nobody")) == [{"msg": "done"}]


@pytest.mark.parametrize("upload_id", ["", "../../etc", "a" * 65, "a%0A"])
def test_a_malformed_id_is_not_watched(impatient_url, upload_id):
    with begin_post(impatient_url, f"{UPLOAD}?upload_id={upload_id}", LENGTH, MULTIPART) as connection:
        connection.sendall(HEAD + PIECE)
        assert list(watch_upload(impatient_url, upload_id)) == [{"msg": "done"}]


def test_an_id_in_use_belongs_to_the_first_upload(url):
    """A second upload with the same id neither reports to the watchers of the first nor ends its events."""
    events = watch_upload(url, "same")
    with begin_post(url, f"{UPLOAD}?upload_id=same", LENGTH, MULTIPART) as connection:
        connection.sendall(HEAD)
        send(connection, events, 1)
        assert upload(url, ("other.png", b"short"), query="?upload_id=same").status == 200
        send(connection, events, 2)
    assert list(events) == [{"msg": "done"}]


def test_watchers_are_limited(url):
    """One more than the limit is refused, and those that end make room."""
    watching = [watch_upload(url, "crowd") for _ in range(3)]
    refused = ask(url, "GET", f"{UPLOAD}_progress?upload_id=crowd")
    assert (refused.status, "3 clients watch their uploads" in refused.text) == (503, True)
    with begin_post(url, f"{UPLOAD}?upload_id=crowd", LENGTH, MULTIPART) as connection:
        connection.sendall(HEAD + PIECE)
        assert [next(events)["msg"] for events in watching] == ["update"] * 3
    assert [list(events)[-1] for events in watching] == [{"msg": "done"}] * 3
    with connect(url) as connection:
        connection.sendall(f"GET {UPLOAD}_progress?upload_id=crowd HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        assert read_status(connection) == 200


def test_the_events_are_a_stream(impatient_url):
    headers = ask(impatient_url, "GET", f"{UPLOAD}_progress?upload_id=x").headers
    assert headers["content-type"].startswith("text/event-stream")
    assert headers["cache-control"] == "no-cache"


class SlowFile(io.BytesIO):
    """Its content takes longer to be stored than the upload may last."""

    def read(self, *size):
        time.sleep(0.2)
        return super().read(*size)


def test_t26_a_deadline_while_a_file_is_stored(tmp_path):
    """The file, which the thread stores to its end, does not stay."""
    file = UploadFile(SlowFile(b"x" * 100), filename="a.png")

    async def upload():
        async with asyncio.timeout(0.05):
            await uploads._store_to_the_end([file], tmp_path / "uploads", 0)

    with pytest.raises(TimeoutError):
        run_async(upload())
    assert list((tmp_path / "uploads").rglob("*")) == []
