"""How far an upload has come, told while it comes."""

import json
import threading
import time
from http.client import HTTPConnection
from urllib.parse import urlsplit

import pytest
from safety.client import UPLOAD, ask, in_parallel, upload

PIECE, PIECES = b"x" * 50_000, 6
HEAD = b'--edge\r\nContent-Disposition: form-data; name="files"; filename="film \xe5\xa4\x9c.bin"\r\n\r\n'


def watch(url: str, upload_id: str) -> list[dict]:
    """All that is told of an upload, in order."""
    told = ask(url, "GET", f"{UPLOAD}_progress?upload_id={upload_id}")
    assert told.headers["content-type"].startswith("text/event-stream")
    return [json.loads(line.removeprefix("data: ")) for line in told.text.splitlines() if line]


def send_slowly(url: str, upload_id: str, pieces: int = PIECES) -> None:
    """Upload a file in pieces, half a second apart; the connection is closed in the middle if pieces are missing."""
    parts = urlsplit(url)
    connection = HTTPConnection(parts.hostname, parts.port, timeout=60)
    connection.putrequest("POST", f"{UPLOAD}?upload_id={upload_id}")
    connection.putheader("Content-Type", "multipart/form-data; boundary=edge")
    tail = b"\r\n--edge--\r\n"
    connection.putheader("Content-Length", str(len(HEAD) + len(PIECE) * PIECES + len(tail)))
    connection.endheaders(HEAD)
    for _ in range(pieces):
        connection.send(PIECE)
        time.sleep(0.5)
    if pieces == PIECES:
        connection.send(tail)
        assert connection.getresponse().status == 200
    connection.close()


@pytest.mark.parametrize("pieces", [PIECES, 2], ids=["whole", "given up"])
def test_it_is_told_piece_by_piece_to_whoever_knows_its_name(server, pieces):
    name = f"slow{pieces}"
    sender = threading.Thread(target=send_slowly, args=(server, name, pieces))
    sender.start()
    *updates, last = watch(server, name)
    sender.join()
    assert last == {"msg": "done"}
    assert len(updates) > 1, "not all of it at once"
    assert {(update["msg"], update["orig_name"]) for update in updates} == {("update", "film 夜.bin")}
    assert sum(update["chunk_size"] for update in updates) == len(PIECE) * pieces


def test_of_one_that_nobody_sends_the_end_is_told_soon(server):
    start = time.monotonic()
    assert watch(server, "nobody") == watch(server, "../../etc") == [{"msg": "done"}]
    assert time.monotonic() - start < 30
    assert upload(server, ("a.png", b"short")).status == 200, "an upload without a name is none that is watched"


def test_watchers_are_counted_also_when_they_come_at_once(server):
    path = f"{UPLOAD}_progress?upload_id=crowd"
    answers = in_parallel(lambda _: ask(server, "GET", path), range(80))
    refused = [answer for answer in answers if answer.status == 503]
    assert len(refused) == 48
    assert all("32 clients watch their uploads" in answer.text for answer in refused)
    assert watch(server, "crowd") == [{"msg": "done"}], "and those who watched make room"
