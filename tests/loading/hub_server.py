"""A hub on this machine that serves as much of the protocol as huggingface_hub needs to list and download."""

import hashlib
import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

_COMMIT = "c" * 40


@dataclass
class Repository:
    """Files by path. revisions: names of the only commit, or the commit itself. broken: files that fail with 500.

    cuts: numbers of bytes after which a file's next answers break off. stalls: number of bytes after which an answer
    stops without an end. claimed_sizes: sizes that the hub states instead of the true ones.
    """

    files: dict[str, bytes]
    revisions: tuple[str, ...] = ("main",)
    gated: bool = False
    broken: set[str] = field(default_factory=set)
    cuts: dict[str, list[int]] = field(default_factory=dict)
    stalls: dict[str, int] = field(default_factory=dict)
    claimed_sizes: dict[str, int] = field(default_factory=dict)

    @property
    def commit(self) -> str:
        """The hash that the revisions resolve to."""
        return next((revision for revision in self.revisions if len(revision) == 40), _COMMIT)


class Hub:
    """Serves `repositories`. asked: method, path and byte range of every request. cache: the client's folder."""

    def __init__(self, cache: Path):
        self.cache = cache
        self.repositories: dict[str, Repository] = {}
        self.asked: list[str] = []
        self.login_page = False
        self.stalled = threading.Event()  # a client waits for bytes that do not come
        self.closed = threading.Event()
        hub = self

        class Handler(_Handler):
            served = hub

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.handle_error = lambda *_: None  # a client may close its connection at any time
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def add(
        self, repo_id: str, folder: Path | None = None, files: dict[str, bytes] | None = None, **options
    ) -> Repository:
        """Add a repository with the files of a folder, or with those given by name."""
        found = dict(files or {})
        if folder:
            found |= {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
        self.repositories[repo_id] = Repository(found, **options)
        return self.repositories[repo_id]

    def fetched(self) -> list[str]:
        """The downloads: each file's path, and the byte range if one was asked for; sorted."""
        gets = [request for request in self.asked if request.startswith("GET") and "/resolve/" in request]
        return sorted(request.split("/resolve/")[1].split("/", 1)[1] for request in gets)

    def close(self) -> None:
        self.closed.set()
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    served: Hub
    protocol_version = "HTTP/1.1"

    def do_HEAD(self):
        self._answer(with_body=False)

    def do_GET(self):
        self._answer(with_body=True)

    def log_message(self, *_):
        pass

    def _answer(self, with_body: bool) -> None:
        path = unquote(urlsplit(self.path).path)
        span = self.headers.get("Range", "")
        self.served.asked.append(f"{self.command} {path} {span}".strip())
        if self.served.login_page:
            self._send(200, b"<html>Please log in to the hotel's network</html>", {}, with_body)
            return
        api = path.startswith("/api/models/")
        if path.count("/") < 4:
            self._refuse(404, "", with_body)
            return
        owner, name, kind, rest = path.removeprefix("/api/models" if api else "").lstrip("/").split("/", 3)
        repository = self.served.repositories.get(f"{owner}/{name}")
        if repository is None:
            self._refuse(404, "RepoNotFound", with_body)
        elif api:
            self._answer_api(repository, kind, rest, with_body)
        else:
            self._answer_file(repository, rest, with_body)

    def _answer_api(self, repository: Repository, kind: str, revision: str, with_body: bool) -> None:
        if revision not in (*repository.revisions, repository.commit):
            self._refuse(404, "RevisionNotFound", with_body)
        elif kind == "revision":
            self._send(200, json.dumps({"id": "x/y", "sha": repository.commit}).encode(), {}, with_body)
        else:
            tree = [
                {"type": "file", "path": name, "size": self._size(repository, name), "oid": _etag(content)}
                for name, content in repository.files.items()
            ]
            self._send(200, json.dumps(tree).encode(), {"Content-Type": "application/json"}, with_body)

    def _answer_file(self, repository: Repository, rest: str, with_body: bool) -> None:
        filename = rest.split("/", 1)[1]  # every revision is the same commit
        if repository.gated and "secret" not in self.headers.get("Authorization", ""):
            self._refuse(401, "GatedRepo", with_body)
        elif filename not in repository.files:
            self._refuse(404, "EntryNotFound", with_body)
        elif with_body and filename in repository.broken:
            self._refuse(500, "", with_body)
        else:
            content = repository.files[filename]
            first = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").split("-")[0])
            headers = {
                "X-Repo-Commit": repository.commit,
                "ETag": f'"{_etag(content)}"',
                "Accept-Ranges": "bytes",
                "Content-Range": f"bytes {first}-{len(content) - 1}/{len(content)}",
            }
            cuts = repository.cuts.get(filename)
            cut = cuts.pop(0) if with_body and cuts else None
            stall = repository.stalls.get(filename) if with_body else None
            size = self._size(repository, filename) - first
            self._send(206 if first else 200, content[first:], headers, with_body, size, cut, stall)

    @staticmethod
    def _size(repository: Repository, filename: str) -> int:
        return repository.claimed_sizes.get(filename, len(repository.files[filename]))

    def _refuse(self, status: int, code: str, with_body: bool) -> None:
        self._send(status, b"", {"X-Error-Code": code, "X-Error-Message": code}, with_body)

    def _send(self, status, body, headers, with_body, size=None, cut=None, stall=None) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body) if size is None else size))
        self.end_headers()
        if with_body:
            self.wfile.write(body[: cut or stall])
        if stall is not None:
            self.wfile.flush()
            self.served.stalled.set()
            self.served.closed.wait()
        if cut is not None:
            self.close_connection = True
            self.wfile.flush()
            self.connection.close()


def _etag(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
