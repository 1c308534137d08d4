"""The gate before Gradio: what every request from outside has to pass, as one small ASGI middleware.

In this order: the host must be ours, the origin the same, the route one that is needed, the visitor logged in where
there is a login, the body within its cap; JSON must be plain, and there must be room for the job that it asks for.
Uploads are received here, by Starlette's own parser, because Gradio's keeps what was cut and holds unnamed fields in
memory. SECURITY.md has the promises and their tests.
"""

import asyncio
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from starlette.datastructures import MutableHeaders
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from x2i_app.request import show_value
from x2i_app.serving.engine import EngineStatus
from x2i_app.ui.http.access import (
    API,
    LOGIN,
    MCP,
    PROGRESS,
    UPLOAD,
    Backoff,
    Hosts,
    is_logged_in,
    is_open,
    names_function,
    needs_login,
)
from x2i_app.ui.http.admission import Lobby
from x2i_app.ui.http.payloads import JSON_BYTES, Refusal, check_json, is_address, read_object
from x2i_app.ui.http.uploads import UPLOAD_BYTES, Arrivals, receive_files

logger = logging.getLogger(__name__)

HEALTH = "/health"
_JSON_SECONDS, _UPLOAD_SECONDS = 30, 600
_UPLOADS_AT_ONCE = 8
_PATH_LETTERS = 2000
_DRAINED, _DRAIN_SECONDS = 4, 10  # caps; a client that is still sending does not read why it was refused
_ENVELOPE_BYTES = 64 * 1024  # what multipart adds around files

_HEADERS = {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "same-origin"}
# Files of strangers are shown, never run.
_FILE_POLICY = "default-src 'none'; sandbox"


def _page_policy(on_space: bool) -> str:
    """Gradio's page has inline scripts, so those are allowed; but nothing from, to or inside another site."""
    # A Space is shown inside a page of the hub, which resizes it by this script.
    script, frame = (" https://cdnjs.cloudflare.com", " https://huggingface.co") if on_space else ("", "")
    return (
        "default-src 'self' data: blob:; style-src 'self' 'unsafe-inline'; object-src 'none'; base-uri 'self'; "
        f"form-action 'self'; script-src 'self' blob: 'unsafe-inline' 'unsafe-eval'{script}; "
        f"frame-ancestors 'self'{frame}"
    )


class Gate:
    """ASGI middleware around Gradio's app.

    hosts: names that are ours. has_login: whether visitors must log in. status: how the engine is, for /health.
    lobby: where there is room for jobs, or not. mcp: what answers assistants, where that is asked for.
    """

    def __init__(
        self,
        app: ASGIApp,
        hosts: Hosts,
        has_login: bool,
        status: Callable[[], EngineStatus],
        lobby: Lobby,
        mcp: ASGIApp | None = None,
    ):
        self._app, self._hosts, self._has_login, self._status = app, hosts, has_login, status
        self._lobby, self._mcp = lobby, mcp
        self._backoff = Backoff()
        self._uploads = 0
        self._arrivals = Arrivals()
        self._policy = _page_policy("SPACE_ID" in os.environ)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request, or refuse it in one sentence."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":  # Gradio needs no websocket
            await send({"type": "websocket.close", "code": 1008})
            return
        request = Request(scope, receive)
        path = scope["path"].rstrip("/") or "/"
        answer = _Answer(send, _FILE_POLICY if path.startswith(f"{API}/file=") else self._policy)
        try:
            response = await self._serve(request, path, answer)
        except Refusal as refusal:
            logger.info("refused %s %s: %s", scope["method"], show_value(path), refusal.sentence)
            response = _say(refusal, path)
            if refusal.status == 413:
                await _drain(receive, _DRAINED * (UPLOAD_BYTES if path == UPLOAD else JSON_BYTES))
        except ClientDisconnect:
            return
        except Exception as error:
            if answer.status:
                raise
            response = _say(_explain(error, path), path)
        if response is not None:
            await response(scope, receive, answer)

    async def _serve(self, request: Request, path: str, answer: "_Answer") -> Response | None:
        """The response, or None where Gradio has given its own."""
        if len(path) > _PATH_LETTERS:
            raise Refusal(414, f"The address has {len(path):,} letters and {_PATH_LETTERS:,} are allowed; shorten it.")
        self._check_sender(request)
        if path == HEALTH:
            return self._health()
        method = request.method
        if method == "OPTIONS":
            raise Refusal(405, "OPTIONS is not answered; use GET or POST.")
        is_mcp = self._mcp is not None and path == MCP
        if is_mcp and method != "POST":
            raise Refusal(405, "Assistants call by POST alone.", {"Allow": "POST"})
        if not (is_mcp or is_open(method, path)):
            raise Refusal(404, "There is nothing here; /gradio_api/info lists what there is.")
        if self._has_login and needs_login(method, path) and not is_logged_in(request):
            raise Refusal(401, "Log in first: POST username and password to /login, and send the cookie.")
        if path.startswith(f"{API}/file=") and is_address(path.removeprefix(f"{API}/file=")):
            raise Refusal(403, "Nothing is fetched from elsewhere; only files of this app are served.")
        if method == "POST" and path == UPLOAD:
            return await self._upload(request)
        if method == "GET" and path == PROGRESS:
            events = self._arrivals.events(request.query_params.get("upload_id", ""))
            stream = StreamingResponse(events, media_type="text/event-stream", headers={"Cache-Control": "no-cache"})
            with self._arrivals.watching():
                await stream(request.scope, request.receive, answer)
            return None
        receive = request.receive
        if method == "POST":
            if path == LOGIN:
                self._check_logins()
            body = await self._read(request)
            receive = _replay(body, receive)
            if is_mcp:
                read_object(body, '{"jsonrpc": "2.0", "id": 1, "method": "tools/list"}')
                await self._mcp(request.scope, receive, answer)
                return None
            if names_function(path):
                function, session = check_json(body, path.rpartition("/")[2], request.scope["app"])
                with self._lobby.room_for(function, session, request.scope):
                    await self._app(request.scope, receive, answer)
                return None
        await self._app(request.scope, receive, answer)
        if method == "POST" and path == LOGIN and answer.status == 200:
            self._backoff.succeeded()
        return None

    def _check_logins(self) -> None:
        if wait := self._backoff.wait():
            headers = {"Retry-After": str(int(wait) + 1)}
            raise Refusal(429, f"There were too many wrong logins; try again in {wait:.0f} s.", headers)
        self._backoff.tried()

    def _check_sender(self, request: Request) -> None:
        headers = request.headers
        asked = [headers.get("host", ""), *headers.getlist("x-forwarded-host")]
        for host in asked:
            if not self._hosts.allows(host):
                raise Refusal(
                    400,
                    f"This app does not answer to the name {show_value(host)}; start it with --hosts and that name, "
                    "or use its numeric address.",
                )
        origin = headers.get("origin")
        if origin is not None and origin.partition("://")[2].lower() not in [host.lower() for host in asked]:
            raise Refusal(403, f"A page of {show_value(origin)} may not use this app; open the app's own page.")

    def _health(self) -> Response:
        status = self._status()
        body = {"state": status.state, "detail": status.detail, "waiting": status.waiting}
        return JSONResponse(body, 503 if status.state in ("failed", "closed") else 200)

    async def _read(self, request: Request) -> bytes:
        _check_length(request, JSON_BYTES)
        body = b""
        try:
            async with asyncio.timeout(_JSON_SECONDS):
                async for chunk in request.stream():
                    body += chunk
                    if len(body) > JSON_BYTES:
                        raise _too_large(len(body), JSON_BYTES)
        except TimeoutError:
            raise Refusal(408, f"The request took longer than {_JSON_SECONDS} s to arrive; send it again.") from None
        return body

    async def _upload(self, request: Request) -> Response:
        allowed = UPLOAD_BYTES + _ENVELOPE_BYTES
        size = _check_length(request, allowed)
        if self._uploads >= _UPLOADS_AT_ONCE:
            raise Refusal(503, f"{self._uploads} uploads are on their way, which is all there is room for; try later.")
        self._uploads += 1
        try:
            async with asyncio.timeout(_UPLOAD_SECONDS):
                capped = Request(request.scope, _capped(request.receive, allowed))
                gradio = request.scope["app"]
                with self._arrivals.noting(request.query_params.get("upload_id", ""), size) as note:
                    paths = await receive_files(capped, Path(gradio.uploaded_file_dir), note)
        except TimeoutError:
            raise Refusal(408, f"The upload took longer than {_UPLOAD_SECONDS} s; send a smaller file.") from None
        finally:
            self._uploads -= 1
        gradio.get_blocks().upload_file_set.update(paths)  # Gradio removes them when they are old
        return JSONResponse(paths)


class _Answer:
    """`send` with our headers; remembers the status."""

    def __init__(self, send: Send, policy: str):
        self._send, self._policy = send, policy
        self.status = 0

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            headers.update(_HEADERS)
            headers["Content-Security-Policy"] = self._policy
        await self._send(message)


def _explain(error: Exception, path: str) -> Refusal:
    if path.startswith(f"{API}/call/v2/") and isinstance(error, (KeyError, TypeError, ValueError)):
        return Refusal(400, "The parameters do not fit the endpoint; /gradio_api/info names them.")
    logger.error("%s failed", show_value(path), exc_info=error)
    return Refusal(500, "The request failed because of an internal error; the log says more.")


def _say(refusal: Refusal, path: str) -> Response:
    if path == UPLOAD:  # Gradio's page shows what comes as it is
        return PlainTextResponse(refusal.sentence, refusal.status, refusal.headers)
    return JSONResponse({"detail": refusal.sentence}, refusal.status, refusal.headers)


def _check_length(request: Request, allowed: int) -> int:
    """The length that a request states; 0 where it states none."""
    stated = request.headers.get("content-length", "")
    length = int(stated) if stated.isdecimal() else 0
    if length > allowed:
        raise _too_large(length, allowed)
    return length


def _too_large(came: int, allowed: int) -> Refusal:
    sentence = f"The request has {came:,} bytes or more and {allowed:,} are allowed; send less."
    return Refusal(413, sentence, {"Connection": "close"})


async def _drain(receive: Receive, most: int) -> None:
    """Let a body that was refused run out, up to `most` bytes, and forget it."""
    try:
        async with asyncio.timeout(_DRAIN_SECONDS):
            while most > 0:
                message = await receive()
                most -= len(message.get("body", b""))
                if not message.get("more_body"):
                    return
    except TimeoutError:
        pass  # the connection is closed with the answer


def _capped(receive: Receive, allowed: int) -> Receive:
    """`receive` that refuses a body, of whatever stated length, once it is larger than `allowed` bytes."""
    came = 0

    async def counted() -> Message:
        nonlocal came
        message = await receive()
        came += len(message.get("body", b""))
        if came > allowed:
            raise _too_large(came, allowed)
        return message

    return counted


def _replay(body: bytes, receive: Receive) -> Receive:
    """`receive` that gives a body which was read already, and then what comes after it."""
    messages: list[dict[str, Any]] = [{"type": "http.request", "body": body, "more_body": False}]

    async def again() -> Message:
        return messages.pop() if messages else await receive()

    return again
