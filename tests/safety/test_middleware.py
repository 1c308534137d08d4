"""T1, T2, T4 to T6, T8 and T20 of SECURITY.md: hostile requests to the running app, over real HTTP."""

import http.server
import threading
from pathlib import Path
from urllib.parse import quote, urlsplit

import psutil
import pytest
from safety.client import CALL, NO_INPAINTING, SETTINGS, as_file, ask, call, connect, read_status, upload

from x2i_app.settings import ASSETS

IMAGE = (ASSETS / "examples/images/boat-at-sunset.png").read_bytes()
pytestmark = pytest.mark.usefixtures("unharmed")

JOB = {"data": ["a house", *SETTINGS]}


@pytest.fixture
def trap():
    """The URL of a web server that the app must never contact, and a list of the requests that it gets."""
    requests = []

    class Trap(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            requests.append(self.path)
            self.send_error(404)

        do_HEAD = do_POST = do_GET
        log_message = None

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Trap) as listening:
        thread = threading.Thread(target=listening.serve_forever, args=(0.02,))
        thread.start()
        yield f"http://127.0.0.1:{listening.server_port}", requests
        listening.shutdown()
        thread.join()


@pytest.mark.parametrize(
    "path",
    [
        "/etc/passwd",
        "//etc/passwd",
        "../../../../etc/passwd",
        "%2e%2e%2f%2e%2e%2fetc%2fpasswd",
        "..%5c..%5cetc%5cpasswd",
        "file:///etc/passwd",
        "/etc/passwd%00.png",
        "/proc/self/environ",
        "a" * 5000,
        str(ASSETS / "x2i-tiny/model_index.json"),
        "app.log",
    ],
    ids=lambda path: path[:30],
)
@pytest.mark.parametrize("route", ["/gradio_api/file=", "/file=", "/gradio_api/file/", "/static/", "/assets/"])
def test_t1_files_of_the_machine_are_not_served(server, route, path):
    answer = ask(server, "GET", route + path)
    assert answer.status in (400, 403, 404, 414)
    assert "root:" not in answer.text
    assert "_class_name" not in answer.text


@pytest.mark.parametrize("path", ["/etc/passwd", "../../etc/passwd", "/proc/self/mem", "app.log", "\x00", "a" * 5000])
def test_t1_only_an_uploaded_file_is_an_input(server, path):
    for given in ([as_file(path), "a house", 1, None], [None, "a house", 1, [{"images": [as_file(path)]}]]):
        result = call(server, "image_text", [*given, *NO_INPAINTING, *SETTINGS])
        assert result.startswith("refused 400")
        assert "was not uploaded here" in result
    result = call(server, "image_text", [None, "a house", 1, [{"images": [path]}], *NO_INPAINTING, *SETTINGS])
    assert result.startswith("error")
    assert "upload it" in result


@pytest.mark.parametrize(
    "name",
    [
        "../../../../tmp/x2i-escaped.png",
        "..\\..\\x.png",
        "/etc/cron.d/x2i",
        "a\u202egnp.exe",
        "<img src=x onerror=alert(1)>.png",
        "a\nb.png",
        "a%00b.png",
        "",
        ".",
        "..",
        "con",
        "x" * 4000 + ".png",
        "画像.png",
        "-rf",
        "a.png.exe",
    ],
    ids=lambda name: ascii(name)[:30],
)
def test_t2_an_upload_gets_a_safe_name(server, name):
    """Letters and digits, with the extension of the content, in a folder with a random name."""
    answer = upload(server, (name, IMAGE))
    if "\n" in name or len(name) > 3000:  # malformed or very long headers
        assert answer.status in (200, 400)
    else:
        assert answer.status == 200
    if answer.status == 200:
        path = Path(answer.json()[0])
        assert path.suffix == ".png"
        assert path.read_bytes() == IMAGE
        assert len(path.parent.name) == 32
        # The underscore is before a name that Windows gives to a device.
        assert path.name.removesuffix(".png").removeprefix("_").replace("-", "a").isalnum()
        assert not Path("/tmp/x2i-escaped.png").exists()


def test_t2_every_upload_gets_a_folder_of_its_own(server):
    first, second = (upload(server, ("a.png", IMAGE)).json()[0] for _ in range(2))
    assert Path(first).parent != Path(second).parent


@pytest.mark.parametrize("host", ["169.254.169.254", "localhost", "[::1]", "0x7f000001", "127.0.0.1", "TRAP"])
def test_t4_no_address_is_fetched(server, trap, host):
    address, requests = trap
    url = (address if host == "TRAP" else f"http://{host}") + "/a.png"
    for given in (url, url.replace("http:", "HTTPS:"), f" {url}", url.removeprefix("http:"), f"ftp{url[4:]}"):
        file = as_file(given)
        for endpoint, data in {
            "image": [[{"image": file, "caption": None}]],
            "image_text": [file, "a house", 1, None, *NO_INPAINTING],
            "video": [file, ""],
            "audio": [file, ""],
            "fusion": [{"text": "", "files": [file]}],
        }.items():
            assert call(server, endpoint, [*data, *SETTINGS]).startswith(("refused 400", "error")), given
        assert ask(server, "GET", f"/gradio_api/file={given.strip().replace(' ', '')}").status in (403, 404)
    file = {"url": url, "meta": {"_type": "gradio.FileData"}}
    assert call(server, "image_text", [file, "a house", 1, None, *NO_INPAINTING, *SETTINGS]).startswith("error")
    assert requests == []


def test_t4_a_prompt_may_contain_a_link(server):
    assert call(server, "text", ["a house as on https://example.org/a.png", *SETTINGS]).startswith("complete")


@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.example",
        "null",
        "http://localhost.evil",
        "http://127.0.0.1:1",
        "x",
        "",
        "http://evil-{host}",
        "http://{host}.evil.example",
        "http://{host}/",
        "{host}",
    ],
)
def test_t5_other_origins_are_refused(server, origin):
    origin = origin.format(host=urlsplit(server).netloc)
    for method, path, body in (
        ("POST", f"{CALL}/text", JOB),
        ("POST", "/gradio_api/run/text", JOB),
        ("POST", "/gradio_api/queue/join", JOB | {"session_hash": "evil", "fn_index": 0}),
        ("POST", "/gradio_api/cancel", {"session_hash": "a", "fn_index": 0, "event_id": "b"}),
        ("GET", "/config", None),
    ):
        assert ask(server, method, path, body, {"Origin": origin}).status == 403
    assert upload(server, ("a.png", IMAGE), headers={"Origin": origin}).status == 403


def test_t5_the_own_origin_is_allowed(server):
    assert ask(server, "GET", "/config", None, {"Origin": server}).status == 200
    headers = {"Host": "LocalHost:1", "Origin": "https://LOCALhost:1"}  # behind a proxy with HTTPS
    assert ask(server, "GET", "/config", None, headers).status == 200
    forwarded = {"X-Forwarded-Host": "localhost", "Origin": "https://localhost"}
    assert ask(server, "GET", "/config", None, forwarded).status == 200


@pytest.mark.parametrize("host", ["evil.rebind", "localhost.evil", "127.0.0.1.nip.io", "8.8.8.8", "", "a@localhost"])
@pytest.mark.parametrize("header", ["Host", "X-Forwarded-Host"])
def test_t6_other_host_names_are_refused(server, header, host):
    assert ask(server, "GET", "/", None, {header: host}).status == 400
    assert ask(server, "POST", f"{CALL}/text", JOB, {header: host}).status == 400
    assert ask(server, "GET", "/health", None, {header: host}).status == 400


def test_t6_every_forwarded_host_is_checked(server):
    with connect(server) as connection:
        head = ("GET / HTTP/1.1", "Host: localhost", "X-Forwarded-Host: localhost", "X-Forwarded-Host: evil.rebind")
        connection.sendall("\r\n".join(head).encode() + b"\r\n\r\n")
        assert read_status(connection) == 400


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.1", "[::1]:7860"])
def test_t6_the_own_host_names_are_allowed(server, host):
    assert ask(server, "GET", "/health", None, {"Host": host}).status == 200


CLOSED = [
    *("/monitoring", "/monitoring/summary", "/monitoring/x", "/docs", "/redoc", "/openapi.json", "/gradio_api/runs"),
    *("/gradio_api/token", "/gradio_api/user", "/gradio_api/mcp/sse", "/gradio_api/dev/reload", "/gradio_api/x"),
    *("/gradio_api/deep_link?session_hash=a", "/gradio_api/proxy=http://localhost/", "/gradio_api/component_server"),
    *("/gradio_api/run-history/buckets", "/gradio_api/run-history/records", "/gradio_api/process_recording"),
    *("/gradio_api/stream/a", "/gradio_api/stream/a/b/1/playlist.m3u8"),
]


@pytest.mark.parametrize("path", CLOSED)
def test_t8_other_routes_are_closed(server, path):
    assert ask(server, "GET", path).status == 404
    assert ask(server, "POST", path, {}).status == 404
    assert ask(server, "PUT", path, {}).status == 404


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
def test_t8_other_methods_are_closed(server, method):
    for path in ("/", "/config", "/gradio_api/info", f"{CALL}/text", "/gradio_api/upload", "/login", "/gradio_api/mcp"):
        assert ask(server, method, path).status in (404, 405)


def test_t8_websockets_are_closed(server):
    with connect(server) as connection:
        head = ("GET /gradio_api/queue/join HTTP/1.1", "Host: localhost", "Connection: Upgrade", "Upgrade: websocket")
        key = ("Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==")
        connection.sendall("\r\n".join((*head, *key)).encode() + b"\r\n\r\n")
        assert read_status(connection) in (403, 404)


def test_t8_a_get_runs_no_function(server):
    """Another site can make a browser send a GET without an Origin header."""
    for route in ("call", "run", "api"):
        assert ask(server, "GET", f"/gradio_api/{route}/status").status == 404
    assert ask(server, "GET", "/gradio_api/queue/join").status == 404


def test_t9_a_stored_file_runs_nothing(server):
    """A browser that opens an upload directly gets it in a sandbox."""
    (path,) = upload(server, ("a.html", b"<script>parent.p = 1</script>")).json()
    headers = ask(server, "GET", f"/gradio_api/file={path}").headers
    assert headers["content-security-policy"] == "default-src 'none'; sandbox"
    assert headers["x-content-type-options"] == "nosniff"


def test_t8_every_answer_has_the_security_headers(server):
    for path in ("/", "/config", "/nothing", "/health"):
        headers = ask(server, "GET", path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "same-origin"
        assert "frame-ancestors 'self'" in headers["content-security-policy"]


def test_t8_the_process_connects_to_no_other_machine(app):
    others = [c for c in psutil.Process(app.process.pid).net_connections("inet") if c.raddr]
    assert [c for c in others if c.raddr.ip not in ("127.0.0.1", "::1")] == []


def test_t20_no_request_forges_a_log_record(app):
    for text in ("x\r\nERROR:root:fake", "\x1b[2J\x1b[31mfake"):
        ask(app.url, "POST", f"{CALL}/text", {"data": [text, *SETTINGS], "session_hash": text})
        call(app.url, "text", [text, *SETTINGS])
        upload(app.url, (text, b"x"))
        ask(app.url, "GET", f"/{quote(text)}")
    log = app.log.read_text()
    assert "refused GET" in log
    assert "\x1b[2J" not in log
    assert not any(row.startswith("ERROR:root:fake") for row in log.splitlines())
