"""T6, T7 and R6 of SECURITY.md: an app with a login whose model cannot be loaded, over real HTTP."""

from urllib.parse import urlencode

import pytest
from conftest import run_app
from safety.client import SETTINGS, ask, upload
from waiting import wait_until

from x2i_app.errors import InvalidRequestError
from x2i_app.settings import Settings
from x2i_app.ui.server import serve

PASSWORD = "a long password"
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
TOOLS = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}


@pytest.fixture(scope="module")
def guarded(tmp_path_factory):
    """An app with a login; the model's folder is empty, so the engine fails."""
    empty = tmp_path_factory.mktemp("empty")
    folder = tmp_path_factory.mktemp("guarded")
    variables = {"X2I_LOGIN": f"ann:{PASSWORD}", "X2I_HOSTS": "x2i.example.org, other.example"}
    with run_app(folder, "--mcp", "--preset", "custom:qwen2.5-vl", "--mllm", str(empty), **variables) as app:
        yield app


def log_in(app, password: str):
    return ask(app.url, "POST", "/login", urlencode({"username": "ann", "password": password}).encode(), FORM)


def test_t7_without_a_cookie_only_the_page_is_open(guarded):
    for method, path, body in (
        ("GET", "/gradio_api/info", None),
        ("GET", "/gradio_api/openapi.json", None),
        ("GET", "/gradio_api/queue/data?session_hash=abc", None),
        ("GET", "/gradio_api/queue/status", None),
        ("GET", "/gradio_api/file=/tmp/gradio/a.png", None),
        ("GET", "/gradio_api/call/text/abc", None),
        ("POST", "/gradio_api/reset", {"event_id": "a"}),
        ("POST", "/gradio_api/cancel", {"session_hash": "a", "fn_index": 0, "event_id": "b"}),
        ("POST", "/gradio_api/queue/join", {"data": [], "fn_index": 0, "session_hash": "a"}),
        *[("POST", f"/gradio_api/{route}/text", {"data": ["a", *SETTINGS]}) for route in ("call", "run", "api")],
        ("POST", "/gradio_api/call/v2/text", {"prompt": "a"}),
        ("POST", "/gradio_api/mcp", TOOLS),
        ("GET", "/gradio_api/heartbeat/abc", None),  # at the end, because an open one never ends
    ):
        for cookie in ({}, {"Cookie": "access-token=1; access-token-unsecure=1"}):
            assert ask(guarded.url, method, path, body, cookie).status == 401, path
    assert upload(guarded.url, ("a.png", b"x")).status == 401
    assert ask(guarded.url, "GET", "/config").status == 401  # the page then shows the login
    assert ask(guarded.url, "GET", "/").status == 200
    assert PASSWORD not in ask(guarded.url, "GET", "/").text


def test_t7_wrong_logins_lock_the_login_and_not_the_app(guarded):
    welcome = log_in(guarded, PASSWORD)
    assert welcome.status == 200
    cookie = {"Cookie": welcome.headers["set-cookie"].partition(";")[0]}
    assert ask(guarded.url, "GET", "/gradio_api/info", None, cookie).status == 200
    accept = {"Accept": "application/json, text/event-stream"}
    assert ask(guarded.url, "POST", "/gradio_api/mcp", TOOLS, cookie | accept).status == 200
    statuses = [log_in(guarded, f"wrong {i}").status for i in range(20)]
    assert statuses == [400] * 10 + [429] * 10
    ask(guarded.url, "GET", "/login")  # this does not reset the count
    refused = log_in(guarded, PASSWORD)  # otherwise a guess could be checked during the wait
    assert (refused.status, 0 < int(refused.headers["retry-after"]) <= 60) == (429, True)
    assert ask(guarded.url, "GET", "/gradio_api/info", None, cookie).status == 200


@pytest.mark.parametrize(
    ("host", "status"), [("x2i.example.org", 200), ("OTHER.example:443", 200), ("example.org", 400)]
)
def test_t6_names_of_a_proxy(guarded, host, status):
    assert ask(guarded.url, "GET", "/", None, {"Host": host}).status == status


def test_r6_health_is_503_if_the_engine_failed(guarded):
    wait_until(lambda: ask(guarded.url, "GET", "/health").json()["state"] != "loading")
    health = ask(guarded.url, "GET", "/health")
    assert (health.status, health.json()["state"]) == (503, "failed")
    assert health.json()["detail"].endswith(".")


def test_t7_a_share_link_needs_a_login_or_a_flag():
    with pytest.raises(InvalidRequestError, match="set X2I_LOGIN to name:password, or add --share-openly"):
        serve(Settings(share=True))


@pytest.mark.parametrize("login", ["ann", "ann:", ":a long password", "ann:short"])
def test_t7_a_short_password_is_refused(login):
    with pytest.raises(InvalidRequestError, match="login must be name:password with 8 characters or more") as raised:
        Settings(login=login)
    assert "short" not in str(raised.value)
    assert "a long" not in repr(Settings(login="ann:a long password"))
