"""T2, T3, T7, R6, R7 and R10 of SECURITY.md: each limit of a request at its exact value, with small limits."""

import itertools
import time
from urllib.parse import urlencode

import pytest
from safety.client import END, FILE, MULTIPART, UPLOAD, ask, begin_post, read_status, upload
from safety.local_app import local_app

from x2i_app.ui.http import middleware
from x2i_app.ui.http.access import LoginBackoff
from x2i_app.ui.http.limits import HttpLimits

LIMITS = HttpLimits(
    path_length=200,
    json_bytes=2000,
    upload_bytes=100_000,
    upload_files=3,
    uploads=2,
)
STATUS = "/gradio_api/call/status"
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
LOGIN = "/login"


@pytest.fixture(scope="module")
def app():
    with local_app(LIMITS) as app:
        yield app


@pytest.fixture(scope="module")
def impatient():
    with local_app(HttpLimits(json_seconds=0.5, upload_seconds=0.5)) as app:
        yield app


def padded(size: int) -> bytes:
    """A valid call of `size` bytes."""
    return b'{"data": [""]}'.ljust(size)


def chunk(content: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(content), content)


@pytest.mark.parametrize(("size", "status"), [(2000, 200), (2001, 413)])
def test_t3_json_up_to_the_limit(app, monkeypatch, size, status):
    monkeypatch.setattr(middleware, "_DRAIN_SECONDS", 600)  # longer than the client below waits
    assert ask(app.url, "POST", STATUS, padded(size)).status == status
    with begin_post(app.url, STATUS, None) as connection:
        connection.sendall(chunk(padded(size)[:1000]) + chunk(padded(size)[1000:]) + chunk(b""))
        assert read_status(connection) == status  # the app does not wait for more of a body that is whole


@pytest.mark.parametrize("length", ["5", "-5", "x", "²", "5, 5"])
def test_t3_a_stated_length_that_is_wrong(app, length):
    """It is refused, or the body is measured as it arrives. None of it is an internal error."""
    with begin_post(app.url, STATUS, length) as connection:
        connection.sendall(padded(3000))
        assert read_status(connection) in (0, 400, 413)


def whole(size: int) -> bytes:
    """An upload of `size` bytes, all included."""
    return FILE + b"x" * (size - len(FILE) - len(END)) + END


@pytest.mark.parametrize(("size", "status"), [(100_000 + 65_536, 200), (100_000 + 65_537, 413)])
def test_t3_an_upload_up_to_the_limit(app, size, status):
    assert ask(app.url, "POST", UPLOAD, whole(size), {"Content-Type": MULTIPART}).status == status
    with begin_post(app.url, UPLOAD, None, MULTIPART) as connection:
        connection.sendall(chunk(whole(size)[:50_000]) + chunk(whole(size)[50_000:]) + chunk(b""))
        assert read_status(connection) == status


@pytest.mark.parametrize(("count", "status"), [(3, 200), (4, 400)])
def test_t3_files_up_to_the_limit(app, count, status):
    assert upload(app.url, *[(f"{i}.png", b"x") for i in range(count)]).status == status


@pytest.mark.parametrize(("length", "status"), [(200, 404), (201, 414)])
def test_t3_a_path_up_to_the_limit(app, length, status):
    assert ask(app.url, "GET", "/".ljust(length, "a")).status == status


def trickle(connection, body: bytes) -> int:
    """Send a body one byte after the other until the response comes; its status."""
    connection.settimeout(0.05)
    deadline = time.monotonic() + 60
    for byte in itertools.cycle(body):
        assert time.monotonic() < deadline, "There is no time limit."
        try:
            connection.sendall(bytes([byte]))
            return read_status(connection)
        except TimeoutError:
            continue  # no response yet
        except BrokenPipeError:
            return 0


@pytest.mark.parametrize(
    ("path", "content_type", "head"),
    [
        (STATUS, "application/json", b'{"data": ["'),
        (LOGIN, FORM["Content-Type"], b"username="),
        ("/gradio_api/cancel", "application/json", b"{"),
        (UPLOAD, MULTIPART, FILE),
    ],
    ids=["json", "login", "cancel", "upload"],
)
def test_t3_a_slow_body_is_ended(impatient, path, content_type, head):
    """The limit is for the whole body: it ends one that goes on arriving, byte by byte."""
    start = time.monotonic()
    with begin_post(impatient.url, path, 1500, content_type) as connection:
        connection.sendall(head)
        assert trickle(connection, b"x" * 400) == 408
        assert time.monotonic() - start > 0.3


def test_t3_uploads_at_once_up_to_the_limit(app):
    """One more is refused, and those that end, whole or cut, make room."""
    deadline = time.monotonic() + 60
    for ending in (END, b"", END):
        running = [begin_post(app.url, UPLOAD, len(FILE) + len(END), MULTIPART) for _ in range(2)]
        refused = ask(app.url, "POST", UPLOAD, whole(500), {"Content-Type": MULTIPART})
        assert (refused.status, "receives 2 uploads" in refused.text) == (503, True)
        for connection in running:
            if ending:
                connection.sendall(FILE + ending)
                assert read_status(connection) == 200
            connection.close()
        while ask(app.url, "POST", UPLOAD, whole(500), {"Content-Type": MULTIPART}).status == 503:
            assert time.monotonic() < deadline, "A cut upload keeps its place."


def test_t2_an_upload_is_registered_for_removal(app):
    """Gradio deletes the files in this set when they are a day old."""
    (path,) = upload(app.url, ("a.png", b"x")).json()
    assert path in app.page.upload_file_set


def test_t3_an_upload_is_refused_as_plain_text(app):
    """Gradio's page shows it as it is."""
    refused = upload(app.url)
    assert refused.status == 400
    assert refused.headers["content-type"].startswith("text/plain")
    assert refused.text == "No file came; send it in the field 'files'."


def test_r10_nothing_is_stored_on_a_nearly_full_disk():
    """An upload is refused unless one of the largest size would fit, here one that fits on no disk."""
    with local_app(HttpLimits(upload_bytes=2**60)) as app:
        before = set(app.uploads.iterdir())  # the page's own files
        refused = upload(app.url, ("a.png", b"x"))
        assert (refused.status, refused.text.startswith("The disk is nearly full; ")) == (507, True)
        assert set(app.uploads.iterdir()) == before


def test_r6_health_follows_the_engine():
    """It is 200 before the engine has started, and 503 once it is closed."""
    with local_app(LIMITS) as app:
        assert (ask(app.url, "GET", "/health").status, ask(app.url, "GET", "/health").json()["state"]) == (200, "idle")
        app.engine.close()
        health = ask(app.url, "GET", "/health")
        assert (health.status, health.json()["state"]) == (503, "closed")


PASSWORD = "a long:password"  # a colon is allowed in it


@pytest.fixture
def locked():
    with local_app(HttpLimits(logins=3), login=f"ann:{PASSWORD}") as app:
        yield app


def form(password: str) -> bytes:
    return urlencode({"username": "ann", "password": password}).encode()


def log_in(app, password: str = PASSWORD) -> int:
    return ask(app.url, "POST", LOGIN, form(password), FORM).status


def test_t7_wrong_logins_up_to_the_limit(locked):
    assert [log_in(locked, "wrong") for _ in range(5)] == [400, 400, 400, 429, 429]


def test_t7_a_right_login_starts_the_count_again(locked):
    statuses = [log_in(locked, password) for password in ("wrong", "wrong", PASSWORD, "wrong", "wrong", "wrong")]
    assert statuses == [400, 400, 200, 400, 400, 400]
    assert log_in(locked) == 429


def test_t7_refused_logins_do_not_prolong_the_wait():
    """A user with the password gets in after the wait, whatever others try meanwhile."""
    with local_app(HttpLimits(logins=3, login_seconds=5), login=f"ann:{PASSWORD}") as app:
        start = time.monotonic()
        while log_in(app, "wrong") != 429:
            assert time.monotonic() - start < 120
        while log_in(app, "wrong") == 429:
            assert time.monotonic() - start < 120
        assert time.monotonic() - start > 4.5


def test_t7_simultaneous_logins_do_not_exceed_the_limit(locked):
    """All requests have begun before the first password is checked."""
    body = form("wrong")
    connections = [begin_post(locked.url, LOGIN, len(body), FORM["Content-Type"]) for _ in range(6)]
    refused = ask(locked.url, "GET", "/config").status  # answered after the heads above were read
    for connection in connections:
        connection.sendall(body)
    statuses = sorted(read_status(connection) for connection in connections)
    for connection in connections:
        connection.close()
    assert (refused, statuses) == (401, [400, 400, 400, 429, 429, 429])


def test_t7_a_large_body_is_not_read_without_a_login(locked):
    """The login is checked before anything of the body is received."""
    for path, kind in ((STATUS, "application/json"), (UPLOAD, MULTIPART)):
        with begin_post(locked.url, path, 10**6, kind) as connection:
            assert read_status(connection) == 401


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_t7_a_cookie_of_another_value_is_no_login(locked, method):
    answer = ask(locked.url, "POST", LOGIN, form(PASSWORD), FORM)
    cookie = answer.headers["set-cookie"].partition(";")[0]
    path, body = ("/gradio_api/openapi.json", None) if method == "GET" else (STATUS, {"data": [""]})
    assert ask(locked.url, method, path, body, {"Cookie": cookie}).status == 200
    for wrong in (cookie[:-1], f"{cookie}x", cookie.replace("access-token", "token"), "access-token=", ""):
        assert ask(locked.url, method, path, body, {"Cookie": wrong}).status == 401, wrong


def test_t7_the_window_of_wrong_logins_slides():
    """The wait is counted from the first of the last two logins, not from the last one."""
    now = 100.0
    backoff = LoginBackoff(HttpLimits(logins=2, login_seconds=10), clock=lambda: now)
    assert backoff.wait() == 0
    backoff.count()
    assert backoff.wait() == 0
    now = 103.0
    backoff.count()
    assert backoff.wait() == 7
    now = 110.0
    assert backoff.wait() == 0
    backoff.count()
    assert backoff.wait() == 3
    backoff.reset()
    assert backoff.wait() == 0
