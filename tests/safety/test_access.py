"""T1, T4 and T6 to T8 of SECURITY.md: host names, routes and paths that the app accepts, under several settings."""

import socket

import pytest

from x2i_app.settings import Settings
from x2i_app.ui.http.access import Hosts, hostname, is_open, needs_login, runs_function
from x2i_app.ui.http.payloads import is_address, is_inside


def allowed(hosts: Hosts, *names: str) -> list[bool]:
    return [hosts.allows(name) for name in names]


def test_t6_on_this_machine_only():
    hosts = Hosts(Settings(), {})
    assert allowed(hosts, "localhost", "LOCALHOST:7860", "127.0.0.1:1", "127.9.9.9", "[::1]", "[::1]:80") == [True] * 6
    assert allowed(hosts, "192.168.1.5", socket.gethostname(), "x.hf.space", "", "localhost.") == [False] * 5


def test_t6_on_a_network():
    """Numeric addresses cannot be rebound; this machine's own names are allowed too."""
    hosts, machine = Hosts(Settings(host="0.0.0.0"), {}), socket.gethostname()
    assert allowed(hosts, "192.168.1.5:7860", "8.8.8.8", "[fe80::1]", machine.upper(), f"{machine}.local") == [True] * 5
    assert allowed(hosts, "evil.example", f"{machine}.evil.example", "0x7f.1", "1.2.3.4.5") == [False] * 4


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST", "::1", "127.0.0.2"])
def test_t6_a_loopback_address_is_no_network(host):
    assert not Hosts(Settings(host=host), {}).allows("192.168.1.5")


def test_t6_names_of_the_settings():
    hosts = Hosts(Settings(hosts=" Studio.example.org , other.example,,", host="Gpu-Box"), {})
    assert allowed(hosts, "studio.example.org", "STUDIO.example.org:443", "other.example", "gpu-box") == [True] * 4
    assert allowed(hosts, "", "example.org", "x.studio.example.org") == [False] * 3


def test_t6_a_space_and_a_share_link():
    hosts = Hosts(Settings(), {"SPACE_HOST": "Ann-Demo.hf.space"})
    assert allowed(hosts, "ann-demo.hf.space", "abc.gradio.live") == [True, False]
    hosts.add("https://abc.gradio.live/")
    assert allowed(hosts, "abc.gradio.live", "abd.gradio.live") == [True, False]


@pytest.mark.parametrize(
    ("header", "name"),
    [
        ("Example.ORG", "example.org"),
        ("example.org:80", "example.org"),
        ("[::1]:80", "::1"),
        ("user@localhost", ""),
        ("localhost/", ""),
        ("localhost:80:80", ""),
        ("localhost, evil", ""),
        ("localhost ", ""),
        ("localhost\n", ""),
        ("ｌocalhost", ""),
        ("[localhost]", ""),
    ],
)
def test_t6_the_name_in_a_host_header(header, name):
    assert hostname(header) == name


def test_t8_routes():
    reads = ["/", "/config", "/theme.css", "/assets/a/b.js", "/gradio_api/info", "/gradio_api/call/v2/text/e1"]
    runs = ["/gradio_api/queue/join", "/gradio_api/call/text", "/gradio_api/call/v2/text", "/gradio_api/run/lambda_1"]
    writes = ["/gradio_api/upload", "/gradio_api/cancel", "/gradio_api/reset", "/login"]
    assert all(is_open(method, path) for path in reads for method in ("GET", "HEAD"))
    assert not any(is_open(method, path) for path in reads for method in ("POST", "PUT", "DELETE", "OPTIONS", "get"))
    assert all(is_open("POST", path) for path in runs + writes)
    assert not any(is_open(method, path) for path in runs for method in ("GET", "HEAD", "PUT") if "v2" not in path)
    assert [path for path in reads + runs + writes if runs_function(path)] == runs
    closed = [
        "/config/x",
        "/x/config",
        "/assets/",
        "/configs",
        "/gradio_api/call/a/b/c",
        "/gradio_api/run/../x",
        "/a\n",
    ]
    assert not any(is_open(method, path) for path in closed for method in ("GET", "HEAD", "POST"))


def test_t7_routes_without_a_login():
    """Only the page itself, which shows the login, and the login."""
    assert not any(needs_login("GET", path) for path in ("/", "/assets/a.js", "/login"))
    assert not needs_login("POST", "/login")
    closed = [
        ("POST", "/"),
        ("GET", "/gradio_api/info"),
        ("POST", "/gradio_api/upload"),
        ("GET", "/gradio_api/file=/a"),
    ]
    assert all(needs_login(*route) for route in [*closed, ("POST", "/gradio_api/login_check"), ("GET", "/loginx")])


def test_t1_paths_inside_a_folder(tmp_path):
    folder = tmp_path / "uploads"
    folder.mkdir()
    (tmp_path / "secret").write_text("x")
    (folder / "link").symlink_to(tmp_path / "secret")
    (folder / "loop").symlink_to(folder / "loop")
    assert is_inside(str(folder / "a" / "b.png"), folder)
    assert is_inside(str(folder / "a" / ".." / "b.png"), folder)
    outside = [tmp_path / "uploads2" / "a", folder / ".." / "secret", folder / "link", folder / "loop", tmp_path, "a"]
    assert not any(is_inside(str(path), folder) for path in outside)
    assert not is_inside(f"{folder}/a\x00b", folder)


def test_t4_addresses():
    addresses = ["http://a", " HTTPS://a", "ftp:x", "//host/a", r"\\\\host\a", "data:x", "s3+x.y-z:a", "\tfile:/a"]
    assert [is_address(path) for path in addresses] == [True] * len(addresses)
    assert [is_address(path) for path in ("/tmp/a", "a/b", "c:/a", "a b:c", "")] == [False] * 5
