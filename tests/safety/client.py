"""A plain HTTP client for the running app, which also sends what no well-behaved client would send."""

import html
import http.client
import json
import secrets
import socket
import threading
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple
from urllib.parse import urlsplit

CALL = "/gradio_api/call"
UPLOAD = "/gradio_api/upload"
# width, height, steps, guidance, seed, count, reason, loras: of the smallest image
SETTINGS = [64, 64, 1, None, 7, 1, False, []]
NO_INPAINTING = [None, 1, 0, 0, 0, 0]  # mask, strength, and margins on the left, top, right and bottom


class Answer(NamedTuple):
    """A response: its status, its headers with names in lower case, and its body as text."""

    status: int
    headers: dict[str, str]
    text: str

    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.text)


def ask(url: str, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> Answer:
    """Send one request exactly as given. A body that is not bytes is sent as JSON."""
    given = dict(headers or {})
    if body is not None and not isinstance(body, bytes):
        body = json.dumps(body).encode()
    if body is not None:
        given.setdefault("Content-Type", "application/json")
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=120)
    try:
        connection.request(method, path, body, given)
        response = connection.getresponse()
        text = response.read().decode(errors="replace")
        return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, text)
    finally:
        connection.close()


def call(url: str, endpoint: str, data: Any) -> str:
    """The last event of an endpoint, "complete" or "error" with its data, or "refused" with the status and sentence."""
    body = data if isinstance(data, bytes) else {"data": data}
    joined = ask(url, "POST", f"{CALL}/{endpoint}", body)
    if joined.status != 200:
        return f"refused {joined.status} {joined.text}"
    answer = ask(url, "GET", f"{CALL}/{endpoint}/{joined.json()['event_id']}")
    return html.unescape(answer.text.split("event: ")[-1])


def canary(url: str) -> str:
    """Run the smallest valid job; "complete" if the app works."""
    return call(url, "text", ["a red house", *SETTINGS]).partition("\n")[0]


def completions(server: str, session: str) -> Iterator[tuple[bool, str]]:
    """Whether each event of a session succeeded, and its output as JSON, as soon as it ends."""
    with urllib.request.urlopen(f"{server}/gradio_api/queue/data?session_hash={session}", timeout=300) as stream:
        for row in stream:
            if row.startswith(b"data:"):
                message = json.loads(row[5:])
                if message["msg"] == "process_completed":
                    yield message["success"], json.dumps(message["output"])
                if message["msg"] == "close_stream":
                    return


def upload(url: str, *files: tuple[str, bytes], headers: dict[str, str] | None = None, query: str = "") -> Answer:
    """A multipart upload. File names are sent as they are, without escaping."""
    boundary = secrets.token_hex(8)
    body = b"".join(
        b'--%s\r\nContent-Disposition: form-data; name="files"; filename="%s"\r\n\r\n%s\r\n'
        % (boundary.encode(), name.encode("utf-8", "surrogatepass"), content)
        for name, content in files
    )
    kind = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
    return ask(url, "POST", UPLOAD + query, body + f"--{boundary}--\r\n".encode(), kind | (headers or {}))


def as_file(path: str) -> dict[str, Any]:
    """An uploaded file as the page sends it."""
    return {"path": path, "meta": {"_type": "gradio.FileData"}}


def connect(url: str) -> socket.socket:
    """A TCP connection to the app."""
    parts = urlsplit(url)
    return socket.create_connection((parts.hostname, parts.port), timeout=120)


def in_parallel(function: Callable, arguments: Iterable) -> list:
    """The results of a function for each argument, all called at once, each in a thread."""
    results = {}
    threads = [
        threading.Thread(target=lambda i=i, a=a: results.update({i: function(a)})) for i, a in enumerate(arguments)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(300)
    return [results[i] for i in range(len(threads))]


def begin_post(url: str, path: str, length: int | None, content_type: str = "application/json") -> socket.socket:
    """Send only the head of a POST request; the body may follow on the connection. length: None is a chunked body."""
    size = "Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}"
    connection = connect(url)
    head = (f"POST {path} HTTP/1.1", "Host: localhost", f"Content-Type: {content_type}", size)
    connection.sendall("\r\n".join(head).encode() + b"\r\n\r\n")
    return connection


def read_status(connection: socket.socket) -> int:
    """The status of the response that comes next; 0 if the server closes the connection instead."""
    try:
        row = connection.recv(4096).partition(b"\r\n")[0]
    except ConnectionResetError:
        return 0
    return int(row.split()[1]) if row else 0


MULTIPART = "multipart/form-data; boundary=B"
FIELD = b'--B\r\nContent-Disposition: form-data; name="files"\r\n\r\n'  # without a file name
FILE = b'--B\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n'
END = b"\r\n--B--\r\n"


def watch_upload(url: str, upload_id: str) -> Iterator[dict[str, Any]]:
    """The progress events of an upload, which may begin later."""
    stream = urllib.request.urlopen(f"{url}{UPLOAD}_progress?upload_id={upload_id}", timeout=60)
    return (json.loads(row.removeprefix(b"data:")) for row in stream if row.startswith(b"data:"))
