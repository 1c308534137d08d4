"""T1, T2, T4 to T6, T8 and T20 of SECURITY.md: strangers' requests against the running app, over real HTTP."""

import http.server
import threading
from pathlib import Path

import psutil
import pytest
from safety.client import CALL, SETTINGS, UNPAINTED, as_file, ask, call, upload

from x2i_app.settings import ASSETS

IMAGE = (ASSETS / "examples/images/boat-at-sunset.png").read_bytes()
pytestmark = pytest.mark.usefixtures("unharmed")

JOB = {"data": ["a house", *SETTINGS]}


@pytest.fixture
def trap():
    """A web server of our own that writes down whoever asks it for anything."""
    asked = []

    class Trap(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_error(404)

        do_HEAD = do_POST = do_GET
        log_message = None

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Trap) as listening:
        thread = threading.Thread(target=listening.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{listening.server_port}", asked
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
def test_t1_no_file_of_the_machine_is_read(server, route, path):
    answer = ask(server, "GET", route + path)
    assert answer.status in (400, 403, 404, 414)
    assert "root:" not in answer.text
    assert "_class_name" not in answer.text


@pytest.mark.parametrize("path", ["/etc/passwd", "../../etc/passwd", "/proc/self/mem", "app.log", "\x00", "a" * 5000])
def test_t1_a_path_that_was_not_uploaded_is_no_input(server, path):
    for given in ([as_file(path), "words", 1, None], [None, "words", 1, [{"images": [as_file(path)]}]]):
        said = call(server, "image_text", [*given, *UNPAINTED, *SETTINGS])
        assert said.startswith("refused 400")
        assert "was not uploaded here" in said
    said = call(server, "image_text", [None, "words", 1, [{"images": [path]}], *UNPAINTED, *SETTINGS])
    assert said.startswith("error")
    assert "upload it, and give what came back as path" in said


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
def test_t2_an_upload_gets_a_name_of_ours_and_the_extension_of_its_content(server, name):
    answer = upload(server, (name, IMAGE))
    if "\n" in name or len(name) > 3000:  # broken or endless headers
        assert answer.status in (200, 400)
    else:
        assert answer.status == 200
    if answer.status == 200:
        path = Path(answer.json()[0])
        assert path.suffix == ".png"
        assert path.read_bytes() == IMAGE
        assert len(path.parent.name) == 32
        assert path.name.removesuffix(".png").replace("-", "a").isalnum()
        assert not Path("/tmp/x2i-escaped.png").exists()


def test_t2_two_uploads_of_one_file_lie_in_places_that_nobody_can_guess(server):
    first, second = (upload(server, ("a.png", IMAGE)).json()[0] for _ in range(2))
    assert Path(first).parent != Path(second).parent


@pytest.mark.parametrize("host", ["169.254.169.254", "localhost", "[::1]", "0x7f000001", "127.0.0.1", "TRAP"])
def test_t4_nothing_is_fetched_from_an_address(server, trap, host):
    address, asked = trap
    url = (address if host == "TRAP" else f"http://{host}") + "/a.png"
    for given in (url, url.replace("http:", "HTTPS:"), f" {url}", url.removeprefix("http:"), f"ftp{url[4:]}"):
        file = as_file(given)
        for endpoint, data in {
            "image": [[{"image": file, "caption": None}]],
            "image_text": [file, "words", 1, None, *UNPAINTED],
            "video": [file, ""],
            "audio": [file, ""],
            "fusion": [{"text": "", "files": [file]}],
        }.items():
            assert call(server, endpoint, [*data, *SETTINGS]).startswith(("refused 400", "error")), given
        assert ask(server, "GET", f"/gradio_api/file={given.strip().replace(' ', '')}").status in (403, 404)
    file = {"url": url, "meta": {"_type": "gradio.FileData"}}
    assert call(server, "image_text", [file, "words", 1, None, *UNPAINTED, *SETTINGS]).startswith("error")
    assert asked == []


def test_t4_words_with_a_link_in_them_are_words(server):
    assert call(server, "text", ["a house as on https://example.org/a.png", *SETTINGS]).startswith("complete")


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://localhost.evil", "http://127.0.0.1:1", "x"])
def test_t5_another_page_may_not_ask(server, origin):
    for method, path, body in (
        ("POST", f"{CALL}/text", JOB),
        ("POST", "/gradio_api/run/text", JOB),
        ("POST", "/gradio_api/queue/join", JOB | {"session_hash": "evil", "fn_index": 0}),
        ("POST", "/gradio_api/cancel", {"session_hash": "a", "fn_index": 0, "event_id": "b"}),
        ("GET", "/config", None),
    ):
        assert ask(server, method, path, body, {"Origin": origin}).status == 403
    assert upload(server, ("a.png", IMAGE), headers={"Origin": origin}).status == 403


def test_t5_our_own_page_may(server):
    assert ask(server, "GET", "/config", None, {"Origin": server}).status == 200


@pytest.mark.parametrize("host", ["evil.rebind", "localhost.evil", "127.0.0.1.nip.io", "8.8.8.8", "", "a@localhost"])
@pytest.mark.parametrize("header", ["Host", "X-Forwarded-Host"])
def test_t6_another_name_is_not_ours(server, header, host):
    assert ask(server, "GET", "/", None, {header: host}).status == 400
    assert ask(server, "POST", f"{CALL}/text", JOB, {header: host}).status == 400


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.1", "[::1]:7860"])
def test_t6_our_own_names_are(server, host):
    assert ask(server, "GET", "/health", None, {"Host": host}).status == 200


CLOSED = [
    *("/monitoring", "/monitoring/summary", "/monitoring/x", "/docs", "/redoc", "/openapi.json", "/gradio_api/runs"),
    *("/gradio_api/token", "/gradio_api/user", "/gradio_api/mcp/sse", "/gradio_api/dev/reload", "/gradio_api/x"),
    *("/gradio_api/deep_link?session_hash=a", "/gradio_api/proxy=http://localhost/", "/gradio_api/component_server"),
    *("/gradio_api/run-history/buckets", "/gradio_api/run-history/records", "/gradio_api/process_recording"),
    *("/gradio_api/stream/a", "/gradio_api/stream/a/b/1/playlist.m3u8"),
]


@pytest.mark.parametrize("path", CLOSED)
def test_t8_what_the_page_does_not_need_is_closed(server, path):
    assert ask(server, "GET", path).status == 404
    assert ask(server, "POST", path, {}).status == 404
    assert ask(server, "PUT", path, {}).status == 404


def test_t8_every_answer_carries_the_headers(server):
    for path in ("/", "/config", "/nothing", "/health"):
        headers = ask(server, "GET", path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "same-origin"
        assert "frame-ancestors 'self'" in headers["content-security-policy"]


def test_t8_the_process_speaks_to_nobody_outside(app):
    others = [c for c in psutil.Process(app.process.pid).net_connections("inet") if c.raddr]
    assert [c for c in others if c.raddr.ip not in ("127.0.0.1", "::1")] == []


def test_t20_what_strangers_write_cannot_pose_as_our_log(app):
    for words in ("x\r\nERROR:root:fake", "\x1b[2J\x1b[31mfake"):
        ask(app.url, "POST", f"{CALL}/text", {"data": [words, *SETTINGS], "session_hash": words})
        call(app.url, "text", [words, *SETTINGS])
        upload(app.url, (words, b"x"))
    log = app.log.read_text()
    assert "\x1b[2J" not in log
    assert not any(line.startswith("ERROR:root:fake") for line in log.splitlines())
