"""T3, T10, T16, R7 and R10 of SECURITY.md: bodies that are too large, cut, or malformed, over real HTTP."""

import json
from pathlib import Path

import psutil
import pytest
from safety.client import (
    CALL,
    FIELD,
    FILE,
    MULTIPART,
    NO_INPAINTING,
    SETTINGS,
    UPLOAD,
    as_file,
    ask,
    begin_post,
    call,
    read_status,
    upload,
    watch_upload,
)
from safety.full_disk import full_disk

pytestmark = pytest.mark.usefixtures("unharmed")

JOB = {"data": ["a house", *SETTINGS]}


BOAT = Path(__file__).resolve().parents[2] / "assets/examples/images/boat-at-sunset.png"


def resident(app) -> float:
    """Memory of the app's process in MB."""
    return psutil.Process(app.process.pid).memory_info().rss / 1e6


def stream(app, path: str, megabytes: int, content_type: str, chunked: bool, head: bytes) -> tuple[int, float]:
    """Send a body of that size until it is refused; the status, and by how many MB the app's memory grew."""
    before, most = resident(app), 0.0
    block = b"a" * 10**6
    with begin_post(app.url, path, None if chunked else len(head) + megabytes * 10**6, content_type) as connection:
        try:
            for index in range(megabytes):
                part = head + block if index == 0 else block
                connection.sendall(b"%x\r\n%s\r\n" % (len(part), part) if chunked else part)
                most = max(most, resident(app))
            if chunked:
                connection.sendall(b"0\r\n\r\n")
        except (BrokenPipeError, ConnectionResetError):
            pass  # refused while the body is sent
        return read_status(connection), most - before


@pytest.mark.parametrize("chunked", [False, True], ids=["stated", "chunked"])
@pytest.mark.parametrize(
    ("path", "megabytes", "content_type", "head"),
    [
        (f"{CALL}/text", 100, "application/json", b'{"data": ["'),
        ("/gradio_api/run/text", 100, "text/plain", b'{"data": ["'),
        ("/login", 20, "application/x-www-form-urlencoded", b"username="),
        (UPLOAD, 300, MULTIPART, FIELD),  # Gradio would hold a field in memory
        (UPLOAD, 120, MULTIPART, FILE),
    ],
    ids=["json", "text", "login", "field", "file"],
)
def test_t3_a_large_body_does_not_fill_the_memory(app, path, megabytes, content_type, head, chunked):
    status, grown = stream(app, path, megabytes, content_type, chunked, head)
    assert status in ((0, 400, 413) if head == FIELD else (0, 413))  # a field may have 1 MB
    assert grown < 60
    assert ask(app.url, "GET", "/health").status == 200


def test_t3_a_refusal_names_both_sizes(server):
    answer = ask(server, "POST", f"{CALL}/text", {"data": ["a" * 2_100_000, *SETTINGS]})
    assert answer.status == 413
    assert "2,100," in answer.text  # the stated length; less than half of it was read
    assert "1,048,576 are allowed" in answer.text


def test_t3_hundreds_of_files_are_refused(server):
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
def test_t10_a_malformed_body_is_refused(server, path, body):
    assert ask(server, "POST", path, body).status in (400, 404, 422)


@pytest.mark.parametrize(
    ("endpoint", "values"),
    [
        ("image", [5]),
        ("image", [["http://localhost/a.png"]]),
        ("image", [[{"image": None, "caption": None}]]),
        ("image_text", ["a.png", "a house", 1, None, *NO_INPAINTING]),
        ("video", ["a.mp4", ""]),
        ("video", [[1], ""]),
        ("audio", [{"path": 5}, ""]),
        ("fusion", ["a house"]),
        ("fusion", [{"text": 5, "files": 5}]),
        ("fusion", [{"text": "", "files": ["a.png"]}]),
    ],
)
def test_t10_a_value_of_another_form_is_refused(server, endpoint, values):
    result = call(server, endpoint, [*values, *SETTINGS])
    assert result.startswith("refused 400")
    assert "does not have the form that it needs" in result


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
def test_t16_a_malformed_lora_is_refused(server, loras):
    """Also one whose file was not uploaded."""
    assert call(server, "text", ["a house", *SETTINGS[:-1], loras]).startswith("refused 400")


def test_t10_unknown_named_parameters_are_refused(server):
    for body in ({}, {"nonsense": 1}, {"data": []}):
        assert ask(server, "POST", f"{CALL}/v2/image_text", body).status in (200, 400)


@pytest.mark.parametrize("path", [f"{CALL}/nothing", "/gradio_api/run/nothing", "/gradio_api/call/v2/nothing"])
def test_t10_an_unknown_endpoint(server, path):
    assert ask(server, "POST", path, JOB).status in (400, 404, 422)


@pytest.mark.parametrize(
    "value", ["NaN", "Infinity", "-Infinity", "1e400", "9" * 400, "true", '"5"', "[]", "{}", "2.5"]
)
@pytest.mark.parametrize("place", range(1, 7))
def test_t10_a_malformed_number_is_refused(server, place, value):
    if (place, value) == (4, "2.5"):
        return  # guidance need not be an integer
    values = [json.dumps(item) for item in ["a house", *SETTINGS]]
    values[place] = value
    result = call(server, "text", f'{{"data": [{", ".join(values)}]}}'.encode())
    assert result.startswith("error")
    assert "must be" in result
    assert "Traceback" not in result


@pytest.mark.parametrize("value", [[], "", {}, False, "16", 1.5, -1, 5000])
def test_t10_a_malformed_margin_is_refused_by_name(server, value):
    image = as_file(upload(server, ("a.png", BOAT.read_bytes())).json()[0])
    for place, side in enumerate(("left", "top", "right", "bottom"), 2):
        inpainting = [*NO_INPAINTING[:place], value, *NO_INPAINTING[place + 1 :]]
        result = call(server, "image_text", [image, "make it night", 1, None, *inpainting, *SETTINGS])
        assert result.startswith("error")
        assert f"outpaint ({side}) is " in result
        assert "must be" in result


def depth(levels: int) -> dict:
    """A call whose value is nested so deep, its own list and object included."""
    return {"data": [json.loads("[" * (levels - 2) + "]" * (levels - 2))]}


@pytest.mark.parametrize(("levels", "is_refused"), [(32, False), (33, False), (34, True)])
def test_t10_nesting_up_to_the_limit(server, levels, is_refused):
    """A value 32 levels below the body's object is looked at, one at level 33 is not."""
    answer = ask(server, "POST", f"{CALL}/status", depth(levels))
    assert (answer.status == 400 and "nested deeper than 32 levels" in answer.text) is is_refused


@pytest.mark.parametrize("key", ["session_hash", "event_id"])
def test_t10_ids_up_to_64_letters(server, key):
    for value in ("a", "a-b_c", "a" * 64):
        assert ask(server, "POST", f"{CALL}/status", {"data": [""], key: value}).status == 200
    for value in ("", "a" * 65, "a\n", "a/../../b", "a b", "ä", "a\x00", 5, [], {}, True):
        assert ask(server, "POST", f"{CALL}/status", {"data": [""], key: value}).status == 400, value


def test_r7_a_cut_upload_leaves_no_file(app):
    folder = Path(upload(app.url, ("a.png", b"x")).json()[0]).parents[1]
    before = set(folder.rglob("*"))
    events = watch_upload(app.url, "cut")
    with begin_post(app.url, f"{UPLOAD}?upload_id=cut", 8_000_000, MULTIPART) as connection:
        connection.sendall(FILE + b"a" * 4_000_000)
        assert next(events)["msg"] == "update"
    assert [*events][-1] == {"msg": "done"}
    assert set(folder.rglob("*")) == before


@pytest.mark.parametrize("size", [100_000, 3_000_000], ids=["while copied", "while received"])
def test_r10_an_upload_on_a_full_disk_leaves_no_file(app, size):
    """Starlette writes files above 1 MB to the disk while they arrive. The second file is the one that is too large."""
    folder = Path(upload(app.url, ("a.png", b"x")).json()[0]).parents[1]
    before = set(folder.rglob("*"))
    with full_disk(app):
        refused = upload(app.url, ("small.png", b"x"), ("large.png", b"x" * size))
    assert (refused.status, refused.text) == (
        507,
        "The upload cannot be stored (File too large); try again later.",
    )
    assert set(folder.rglob("*")) == before
    assert upload(app.url, ("large.png", b"x" * size)).status == 200


def test_a_call_of_an_earlier_version(server):
    """The values that came later may be missing at the end; any other number is refused."""
    assert call(server, "text", ["a house", *SETTINGS]).startswith("complete")
    for data in (["a house", *SETTINGS[:-1]], ["a house", *SETTINGS, *[None] * 20]):
        assert call(server, "text", data).startswith("refused 400")
