"""T3, T10 and R7 of SECURITY.md: bodies that are too large, cut, or no request at all, over real HTTP."""

import json
import time
from pathlib import Path

import psutil
import pytest
from safety.client import CALL, SETTINGS, UNPAINTED, UPLOAD, ask, call, connect, upload

pytestmark = pytest.mark.usefixtures("unharmed")

JOB = {"data": ["a house", *SETTINGS]}


def resident(app) -> float:
    """Memory of the app's process in MB."""
    return psutil.Process(app.process.pid).memory_info().rss / 1e6


def stream(app, path: str, megabytes: int, kind: str, chunked: bool, head: bytes = b"") -> tuple[bytes, float]:
    """Send a body of that size until it is refused: the answer's first line, and how much memory grew in MB."""
    before, most = resident(app), 0.0
    lines = [f"POST {path} HTTP/1.1", "Host: localhost", f"Content-Type: {kind}"]
    lines.append("Transfer-Encoding: chunked" if chunked else f"Content-Length: {len(head) + megabytes * 10**6}")
    block = b"a" * 10**6
    with connect(app.url) as socket:
        socket.sendall("\r\n".join(lines).encode() + b"\r\n\r\n")
        try:
            for index in range(megabytes):
                part = head + block if index == 0 else block
                socket.sendall(b"%x\r\n%s\r\n" % (len(part), part) if chunked else part)
                most = max(most, resident(app))
            if chunked:
                socket.sendall(b"0\r\n\r\n")
        except (BrokenPipeError, ConnectionResetError):
            pass  # refused in the middle, as it should be
        try:
            return socket.recv(4096).partition(b"\r\n")[0], most - before
        except ConnectionResetError:
            return b"", most - before


FIELD = b'--B\r\nContent-Disposition: form-data; name="files"\r\n\r\n'  # no file name: Gradio would hold it in memory
FILE = b'--B\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n'


@pytest.mark.parametrize("chunked", [False, True], ids=["stated", "chunked"])
@pytest.mark.parametrize(
    ("path", "megabytes", "kind", "head"),
    [
        (f"{CALL}/text", 100, "application/json", b'{"data": ["'),
        ("/gradio_api/run/text", 100, "text/plain", b'{"data": ["'),
        ("/login", 20, "application/x-www-form-urlencoded", b"username="),
        (UPLOAD, 300, "multipart/form-data; boundary=B", FIELD),
        (UPLOAD, 120, "multipart/form-data; boundary=B", FILE),
    ],
    ids=["json", "text", "login", "field", "file"],
)
def test_t3_a_body_above_the_cap_is_refused_before_it_fills_the_memory(app, path, megabytes, kind, head, chunked):
    line, grown = stream(app, path, megabytes, kind, chunked, head)
    assert line in (b"HTTP/1.1 413 Request Entity Too Large", b"HTTP/1.1 413 Content Too Large", b"") or (
        head == FIELD and line == b"HTTP/1.1 400 Bad Request"  # a field may have 1 MB
    )
    assert grown < 60
    assert ask(app.url, "GET", "/health").status == 200


def test_t3_the_refusal_says_what_came_and_what_is_allowed(server):
    answer = ask(server, "POST", f"{CALL}/text", {"data": ["a" * 2_100_000, *SETTINGS]})
    assert answer.status == 413
    assert "2,100," in answer.text  # all that was stated, of which no more than half was read
    assert "1,048,576 are allowed" in answer.text


def test_t3_no_upload_of_hundreds_of_files(server):
    answer = upload(server, *[(f"{i}.png", b"x") for i in range(999)])
    assert answer.status == 400
    assert "at most 32 files" in answer.text


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'"text"',
        b"\xff\xfe",
        b"[" * 200_000,
        b'{"data": ' + b"[" * 5000 + b"]" * 5000 + b"}",
        b'{"data": [' + b"9" * 5000 + b"]}",
        b"{}",
        b'{"data": null}',
        b'{"data": {}}',
        b'{"data": []}',
        b'{"data": [1]}',
        b'{"data": ["a", 64, 64, 1, null, 7, 1, false, 9, 9, 9]}',
        b'{"data": ["a"], "fn_index": 99999}',
        b'{"data": ["a"], "fn_index": -1}',
        b'{"data": ["a"], "fn_index": true}',
        b'{"data": ["a"], "fn_index": "0"}',
        b'{"data": ["a"], "fn_index": {}}',
        b'{"data": ["a"], "session_hash": "../../x"}',
        b'{"data": ["a"], "session_hash": 5}',
        b'{"data": ["a"], "session_hash": "' + b"a" * 5000 + b'"}',
        b'{"data": ["a"], "event_id": {"a": 1}}',
        b'{"data": ["a"], "trigger_id": "x"}',
    ],
    ids=lambda body: ascii(body[:40]),
)
@pytest.mark.parametrize("path", [f"{CALL}/text", "/gradio_api/run/text", "/gradio_api/queue/join"])
def test_t10_a_body_that_is_no_request_is_a_mistake_of_the_sender(server, path, body):
    assert ask(server, "POST", path, body).status in (400, 404, 422)


@pytest.mark.parametrize(
    ("endpoint", "values"),
    [
        ("image", [5]),
        ("image", [["http://localhost/a.png"]]),
        ("image", [[{"image": None, "caption": None}]]),
        ("image_text", ["a.png", "words", 1, None, *UNPAINTED]),
        ("video", ["a.mp4", ""]),
        ("video", [[1], ""]),
        ("audio", [{"path": 5}, ""]),
        ("fusion", ["words"]),
        ("fusion", [{"text": 5, "files": 5}]),
        ("fusion", [{"text": "", "files": ["a.png"]}]),
    ],
)
def test_t10_a_value_of_another_form_is_refused_with_its_name(server, endpoint, values):
    said = call(server, endpoint, [*values, *SETTINGS])
    assert said.startswith("refused 400")
    assert "does not have the form that it needs" in said


@pytest.mark.parametrize(
    "loras",
    [
        5,
        ["striped"],
        [{"weight": 1}],
        [{"file": 5}],
        [{"file": "striped", "weight": "1"}],
        [{"file": "striped", "weight": True}],
        [{"file": "striped", "weight": None}],
        [{"file": "striped", "rank": 8}],
        [{"file": {"path": "/etc/passwd", "meta": {"_type": "gradio.FileData"}}}],
    ],
)
def test_t16_a_lora_of_another_form_or_place_is_refused(server, loras):
    assert call(server, "text", ["a house", *SETTINGS[:-1], loras]).startswith("refused 400")


def test_t10_named_parameters_that_do_not_fit(server):
    for body in ({}, {"nonsense": 1}, {"data": []}):
        assert ask(server, "POST", f"{CALL}/v2/image_text", body).status in (200, 400)


@pytest.mark.parametrize("path", [f"{CALL}/nothing", "/gradio_api/run/nothing", "/gradio_api/call/v2/nothing"])
def test_t10_an_endpoint_that_is_not_there(server, path):
    assert ask(server, "POST", path, JOB).status in (400, 404, 422)


@pytest.mark.parametrize(
    "value", ["NaN", "Infinity", "-Infinity", "1e400", "9" * 400, "true", '"5"', "[]", "{}", "2.5"]
)
@pytest.mark.parametrize("place", range(1, 7))
def test_t10_a_number_that_is_none_is_refused_in_one_sentence(server, place, value):
    if (place, value) == (4, "2.5"):
        return  # guidance may be any number
    values = [json.dumps(item) for item in ["a house", *SETTINGS]]
    values[place] = value
    said = call(server, "text", f'{{"data": [{", ".join(values)}]}}'.encode())
    assert said.startswith("error")
    assert "must be" in said
    assert "Traceback" not in said


@pytest.mark.parametrize("value", [[], "", {}, False, "16", 1.5, -1, 5000])
def test_t10_a_margin_that_is_none_is_refused_with_its_name(server, value):
    for place, side in enumerate(("left", "top", "right", "bottom"), 2):
        painting = [*UNPAINTED[:place], value, *UNPAINTED[place + 1 :]]
        said = call(server, "image_text", [None, "words", 1, None, *painting, *SETTINGS])
        assert said.startswith("error")
        assert f"outpaint ({side}) is " in said
        assert "must be" in said


def test_r7_an_upload_that_is_cut_leaves_no_file(app):
    folder = Path(upload(app.url, ("a.png", b"x")).json()[0]).parents[1]
    before = set(folder.rglob("*"))
    with connect(app.url) as socket:
        head = f"POST {UPLOAD} HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=B\r\n"
        socket.sendall(head.encode() + b"Content-Length: 8000000\r\n\r\n" + FILE + b"a" * 4_000_000)
        time.sleep(0.5)
    time.sleep(0.5)
    assert {path for path in folder.rglob("*") if path not in before} == set()
