"""The app where people run it: behind proxies, on IPv6, in odd folders and terminals, and, as far as Linux can tell,
on Windows; and the scripts that install and start it.
"""

import ast
import io
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import venv
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from urllib.request import ProxyHandler, build_opener

import pytest
from conftest import ROOT, free_port, run_app
from waiting import wait_until

from x2i_app.cli import main
from x2i_app.errors import InvalidRequestError
from x2i_app.hosting import ask_directly, use_proxies
from x2i_app.settings import Settings

NOWHERE = "http://127.0.0.1:9"


def get(url):
    """The status of a page, asked without any proxy."""
    return build_opener(ProxyHandler({})).open(url, timeout=120).status


# Proxies


@pytest.mark.parametrize(
    ("system", "expected"),
    [
        ({}, {}),
        ({"no": "example.org"}, {}),
        ({"http": "http://p:1"}, {"http_proxy": "http://p:1", "no_proxy": "localhost,127.0.0.1,::1"}),
        ({"all": "socks://p:1"}, {"all_proxy": "socks5://p:1"}),
        ({"all": "SOCKS5h://p:1"}, {"ALL_PROXY": "socks5h://p:1"}),
        ({"https": "p:1"}, {"https_proxy": "p:1"}),
        ({"http": "p:1", "no": "::1, .corp"}, {"no_proxy": "::1,.corp,localhost,127.0.0.1"}),
        ({"http": "p:1", "no": "*"}, {"NO_PROXY": "*,localhost,127.0.0.1,::1"}),
    ],
)
def test_variables_of_proxies(system, expected):
    environment = {}
    use_proxies(environment, system)
    assert expected.items() <= environment.items()
    assert bool(environment) == bool(expected)


def test_the_own_address_is_asked_directly():
    """Also one that is not the loopback: the page would be asked through the proxy, and the app would not start."""
    environment = {}
    ask_directly("192.168.1.5", environment)
    assert environment == {}
    use_proxies(environment, {"http": "http://p:1"})
    for _ in range(2):
        ask_directly("192.168.1.5", environment)
    assert environment["no_proxy"] == environment["NO_PROXY"] == "localhost,127.0.0.1,::1,192.168.1.5"


def test_unknown_proxies_are_named():
    with pytest.raises(InvalidRequestError, match="all_proxy names a socks4 proxy; use http://, https:// or socks5://"):
        use_proxies({}, {"all": "socks4://p:1"})


class HttpProxy(BaseHTTPRequestHandler):
    """Answers every request itself with what it was asked for."""

    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(f"proxied {self.path}".encode())

    def log_message(self, *_):
        pass


@contextmanager
def http_proxy():
    server = HTTPServer(("127.0.0.1", 0), HttpProxy)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def socks_proxy():
    """A SOCKS5 proxy (RFC 1928) for one connection, which answers the HTTP request itself."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve():
        connection, _ = listener.accept()
        with connection:
            connection.recv(1 + 1 + connection.recv(2)[1])
            connection.sendall(b"\x05\x00")
            head = connection.recv(5)
            host = connection.recv(head[4])
            connection.recv(2)
            connection.sendall(b"\x05\x00\x00\x01" + bytes(6))
            path = connection.recv(65_536).split()[1]
            body = b"proxied http://" + host + path
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield f"socks5://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        listener.close()


ASK = """
from x2i_app.hosting import use_proxies
use_proxies()
from huggingface_hub.utils import get_session
print(get_session().get("http://hub.invalid/weights").text)
"""


@pytest.mark.parametrize(("proxy", "variable"), [(http_proxy, "http_proxy"), (socks_proxy, "ALL_PROXY")])
def test_downloads_go_through_the_proxy(proxy, variable):
    """The hub's own client, in a process that knows nothing but the variable."""
    with proxy() as address:
        environment = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
        environment |= {variable: address, "HF_HUB_OFFLINE": "0", "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-c", ASK]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout == "proxied http://hub.invalid/weights\n", done.stderr


# Folders, addresses and terminals


@pytest.mark.parametrize("host", ["::1", "::"])
def test_the_app_in_an_unusual_place(tmp_path, host):
    """A path of 300 bytes with spaces, umlauts and Chinese, no home, IPv6, proxies that do not work, a code page."""
    folder = tmp_path / "with spaces, ümlauts 和中文" / ("long" * 40)
    temporary = folder / "temporary"
    temporary.mkdir(parents=True)
    assert len(os.fsencode(folder)) >= 250
    proxies = dict.fromkeys(("http_proxy", "https_proxy"), NOWHERE) | {"ALL_PROXY": "socks5://127.0.0.1:9"}
    places = {"HOME": "/dev/null", "TMPDIR": str(temporary), "PYTHONIOENCODING": "cp1252"}
    with run_app(folder, "--host", host, **proxies, **places, NO_PROXY="", no_proxy="") as app:
        assert app.url.startswith("http://[::1]:")
        assert get(f"{app.url}/") == 200
        assert get(f"{app.url}/config") == 200
    assert list(temporary.iterdir()) == []


def test_addresses_in_brackets():
    assert Settings(host="[::1]").host == "::1"
    assert Settings(host="[::1]").is_private
    assert not Settings(host="::").is_private


def test_a_full_temporary_folder(tmp_path):
    """One sentence, which names the folder. The limit on the size of files stands for the full disk."""
    (tmp_path / "temporary").mkdir()
    command = 'ulimit -f 8; exec "$0" "$1" --port 0 --profile cpu'
    done = subprocess.run(
        ["/bin/sh", "-c", command, sys.executable, str(ROOT / "app.py")],
        cwd=tmp_path,
        env=os.environ | {"TMPDIR": str(tmp_path / "temporary"), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    assert done.stderr.count("\n") == 1
    assert f"x2i: The temporary folder '{tmp_path}/temporary" in done.stderr
    assert "free some space, or set TMPDIR to a folder on another disk." in done.stderr


@pytest.mark.parametrize("encoding", ["cp1252", "ascii", "utf-8"])
def test_terminals_with_a_code_page(tmp_path, monkeypatch, encoding):
    """What the terminal cannot show is written as an escape, and the image is made."""
    terminal = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    monkeypatch.setattr(sys, "stdout", terminal)
    output = tmp_path / "红 ü.png"
    small = ("--steps", "1", "--width", "64", "--height", "64")
    assert main(["generate", "--prompt", "红房子", *small, "--output", str(output)]) == 0
    terminal.flush()
    shown = terminal.buffer.getvalue().decode(encoding)
    assert output.is_file()
    assert {"cp1252": "\\u7ea2 ü.png", "ascii": "\\u7ea2 \\xfc.png", "utf-8": "红 ü.png"}[encoding] in shown


COMMANDS = ("", "app", "generate", "batch", "upscale", "evaluate", "caption", "align", "plan", "comfyui")
TASKS = ("", "distill", "lora", "light-control")


@pytest.mark.parametrize("encoding", ["cp1252", "cp932", "ascii"])
def test_help_in_terminals_with_a_code_page(monkeypatch, encoding):
    """Every command's help, whatever letters it has."""
    for command in [(name,) for name in COMMANDS] + [("train", name) for name in TASKS]:
        output = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
        monkeypatch.setattr(sys, "stdout", output)
        try:
            status = main([*filter(None, command), "--help"])
        except SystemExit as stop:
            status = stop.code
        output.flush()
        assert status in (0, None), command
        assert "usage: x2i" in output.buffer.getvalue().decode(encoding), command


# Windows, as far as Linux can tell

POSIX_MODULES = ("fcntl", "grp", "pty", "pwd", "resource", "syslog", "termios", "tty")
IMPORT_APP = f"""
import builtins, sys
real = builtins.__import__

def as_on_windows(name, globals=None, *more, **others):
    if name in {POSIX_MODULES} and (globals or {{}}).get("__name__", "").startswith("x2i_app"):
        raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
    return real(name, globals, *more, **others)

builtins.__import__ = as_on_windows
import x2i_app.batch, x2i_app.cli, x2i_app.janitor, x2i_app.media, x2i_app.ui.http.connections, x2i_app.ui.server
from x2i_app.media.isolation import limit_process
limit_process(2**30, 60)
"""
POSIX_ONLY = {
    "os": {
        *(
            "O_DIRECTORY",
            "O_NOFOLLOW",
            "O_NONBLOCK",
            "WNOHANG",
            "fchmod",
            "fork",
            "getgid",
            "getpgid",
            "getpgrp",
            "geteuid",
        ),
        *(
            "getloadavg",
            "getuid",
            "killpg",
            "mkfifo",
            "nice",
            "register_at_fork",
            "sched_getaffinity",
            "sendfile",
            "setsid",
        ),
        *("statvfs", "sysconf", "uname", "wait4"),
    },
    "signal": {
        *("SIGALRM", "SIGCHLD", "SIGHUP", "SIGKILL", "SIGPIPE", "SIGQUIT", "SIGSTOP", "SIGUSR1", "SIGUSR2", "SIGXCPU"),
        *("SIGXFSZ", "alarm", "pthread_kill", "pthread_sigmask", "setitimer", "sigwait"),
    },
    "socket": {"AF_UNIX", "SO_REUSEPORT"},
    "time": {"tzset"},
}


def test_the_app_is_imported_without_posix():
    command = [sys.executable, "-c", IMPORT_APP]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr


def unguarded(source):
    """Uses of what Windows lacks, outside of a condition on the system: "row: os.fork"."""
    tree = ast.parse(source)
    parents = {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
    found = []
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)):
            continue
        if node.attr not in POSIX_ONLY.get(node.value.id, ()):
            continue
        around = [node]
        while around[-1] in parents:
            around.append(parents[around[-1]])
        function = next((each for each in around if isinstance(each, ast.FunctionDef)), tree)
        conditions = [
            ast.unparse(each) for each in ast.walk(function) if isinstance(each, (ast.If, ast.BoolOp, ast.IfExp))
        ]
        conditions += [ast.unparse(each.test) for each in around if isinstance(each, ast.If)]
        if not any(f"hasattr({node.value.id}, '{node.attr}')" in each or "os.name" in each for each in conditions):
            found.append(f"{node.lineno}: {node.value.id}.{node.attr}")
    return found


@pytest.mark.parametrize("path", sorted((ROOT / "x2i_app").rglob("*.py")), ids=lambda path: str(path.relative_to(ROOT)))
def test_no_use_of_posix_without_a_condition(path):
    """Windows has no fork, no process groups and few signals; text files have its code page if none is given."""
    source = path.read_text(encoding="utf-8")
    assert unguarded(source) == []
    assert not re.search(rf"^(import|from) ({'|'.join(POSIX_MODULES)})\b", source, re.MULTILINE)
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and getattr(node.func, "attr", "") in ("read_text", "write_text"):
            assert "encoding" in {keyword.arg for keyword in node.keywords}, f"row {node.lineno}"


def test_unguarded_uses_are_found():
    assert unguarded("import os\nos.fork()") == ["2: os.fork"]
    assert unguarded("import os\nif hasattr(os, 'fork'):\n    os.fork()") == []
    assert unguarded("import signal\ndef f():\n    return signal.SIGKILL") == ["3: signal.SIGKILL"]


# Scripts that install and start the app


def test_start_script(tmp_path):
    """As after a double-click on Linux: a new environment, the requirements, the app, and the browser.

    The requirements are empty, and the app takes its libraries from this environment, which spares 6 GB.
    """
    for name in ("start.py", "start-linux.sh", "app.py"):
        shutil.copy(ROOT / name, tmp_path)
    for name in ("x2i_app", "assets"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "requirements.txt").write_text("# nothing\n")
    opened, browser, log = tmp_path / "opened", tmp_path / "browser", tmp_path / "log"
    browser.write_text(f'#!/bin/sh\necho "$1" > "{opened}"\n')
    browser.chmod(0o755)
    site = next(path for path in sys.path if path.endswith("site-packages"))
    environment = os.environ | {"BROWSER": f"{browser} %s", "PYTHONPATH": site}
    command = [str(tmp_path / "start-linux.sh"), "--port", str(free_port()), "--profile", "cpu"]
    with log.open("w") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=subprocess.STDOUT, env=environment, start_new_session=True
        )
    try:
        url = wait_until(lambda: opened.exists() and opened.read_text().strip(), log.read_text, process=process)
        assert get(url) == 200
        assert "being installed" in log.read_text()
        assert (tmp_path / ".venv/bin/python").exists()
        assert (tmp_path / ".venv/x2i-requirements.sha256").exists()
    finally:
        os.killpg(process.pid, 2)  # Ctrl+C
        process.wait(200)


def test_a_broken_environment_is_made_again(tmp_path):
    """A first start that was stopped before pip was there; later, the Python that the environment took is gone."""
    shutil.copy(ROOT / "start.py", tmp_path)
    (tmp_path / "requirements.txt").write_text("# nothing\n")
    venv.create(tmp_path / ".venv", with_pip=False)
    python = tmp_path / ".venv/bin/python"

    def install():
        command = [sys.executable, "-c", "import start; start.install()"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=200, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        subprocess.run([python, "-m", "pip", "--version"], capture_output=True, check=True)
        return done.stdout

    assert "being installed" in install()
    assert install() == ""
    python.unlink()
    python.symlink_to("/nowhere/python3")
    assert "being installed" in install()


def test_scripts_of_the_other_systems():
    """Windows' shell needs its own line ends; macOS and Linux run the same commands."""
    batch = (ROOT / "start-windows.bat").read_bytes()
    assert batch.count(b"\n") == batch.count(b"\r\n") > 5
    assert batch.isascii()
    assert b'pushd "%~dp0"' in batch  # a folder of the network has no letter, which "cd" wants
    assert batch.endswith(b'if not "%errorlevel%"=="0" pause\r\n')  # a crash has a negative status
    linux, macos = ((ROOT / name).read_text().splitlines() for name in ("start-linux.sh", "start-macos.command"))
    assert linux[2:] == macos[2:]
    for name in ("start-linux.sh", "start-macos.command"):
        assert os.access(ROOT / name, os.X_OK)
        subprocess.run(["/bin/sh", "-n", str(ROOT / name)], check=True)


def test_pinokio():
    """Its script names a file that exists, and the page's address is found in what the app prints."""
    script = (ROOT / "pinokio-start.js").read_text(encoding="utf-8")
    event = re.search(r'event: "/(.+)/"', script)[1].encode().decode("unicode_escape")
    assert re.search(r'venv_python: "3\.1[123]"', script)  # Pinokio's own Python is older
    assert re.search(event.replace("\\/", "/"), "X2I Studio: http://127.0.0.1:7860/\n")[1] == "http://127.0.0.1:7860"
    assert "pinokio-start.js" in (ROOT / "pinokio.js").read_text(encoding="utf-8")
    icon = re.search(r'icon: "(.+png)"', (ROOT / "pinokio.js").read_text(encoding="utf-8"))[1]
    assert (ROOT / icon).is_file()
