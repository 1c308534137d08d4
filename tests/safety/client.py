"""Plain HTTP to the running app, as no well-behaved client would speak it."""

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
# width, height, steps, guidance, seed, count, reason, loras: the smallest picture
SETTINGS = [64, 64, 1, None, 7, 1, False, []]
UNPAINTED = [None, 1, 0, 0, 0, 0]  # mask, strength and margins of a picture that is not painted on


class Answer(NamedTuple):
    """What came back."""

    status: int
    headers: dict[str, str]
    text: str

    def json(self) -> Any:
        """The body, parsed."""
        return json.loads(self.text)


def ask(url: str, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> Answer:
    """One request, exactly as given; a body that is no bytes goes as JSON."""
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
    """What an endpoint says in the end: "complete" or "error" and its words, or the refusal of the request itself."""
    body = data if isinstance(data, bytes) else {"data": data}
    joined = ask(url, "POST", f"{CALL}/{endpoint}", body)
    if joined.status != 200:
        return f"refused {joined.status} {joined.text}"
    answer = ask(url, "GET", f"{CALL}/{endpoint}/{joined.json()['event_id']}")
    return html.unescape(answer.text.split("event: ")[-1])


def canary(url: str) -> str:
    """The smallest good job; "complete" if all is well."""
    return call(url, "text", ["a red house", *SETTINGS]).partition("\n")[0]


def completions(server: str, session: str) -> Iterator[tuple[bool, str]]:
    """Of each of a session's events, when it ends: whether it gave a picture, and what was said."""
    with urllib.request.urlopen(f"{server}/gradio_api/queue/data?session_hash={session}", timeout=300) as lines:
        for line in lines:
            if line.startswith(b"data:"):
                message = json.loads(line[5:])
                if message["msg"] == "process_completed":
                    yield message["success"], json.dumps(message["output"])
                if message["msg"] == "close_stream":
                    return


def upload(url: str, *files: tuple[str, bytes], headers: dict[str, str] | None = None) -> Answer:
    """A multipart upload; names go as they are, quoted as badly as they may be."""
    boundary = secrets.token_hex(8)
    body = b"".join(
        b'--%s\r\nContent-Disposition: form-data; name="files"; filename="%s"\r\n\r\n%s\r\n'
        % (boundary.encode(), name.encode("utf-8", "surrogatepass"), content)
        for name, content in files
    )
    kind = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
    return ask(url, "POST", UPLOAD, body + f"--{boundary}--\r\n".encode(), kind | (headers or {}))


def as_file(path: str) -> dict[str, Any]:
    """How the page hands an uploaded file over."""
    return {"path": path, "meta": {"_type": "gradio.FileData"}}


def connect(url: str) -> socket.socket:
    """A bare connection."""
    parts = urlsplit(url)
    return socket.create_connection((parts.hostname, parts.port), timeout=30)


def in_parallel(function: Callable, arguments: Iterable) -> list:
    """What a function gives for each argument, all called at once, a thread each."""
    results = {}
    threads = [
        threading.Thread(target=lambda i=i, a=a: results.update({i: function(a)})) for i, a in enumerate(arguments)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(300)
    return [results[i] for i in range(len(threads))]
