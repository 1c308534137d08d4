"""ASGI middleware in front of Gradio. Every request passes its checks, in this order, before Gradio sees it:

0. `connections` has limited the connection and the size of its headers; `clients` says whose request it is.
1. The path is short, and the Host and Origin headers belong to this app.
2. The route is one that the page or a client needs.
3. The user is logged in, if the app has a login.
4. The body is within its size limit and arrives in time.
5. A JSON body is well-formed and names only files that were uploaded here.
6. The queue has room for the job that the request is for, or the page's functions for one more.

Nothing here, or in what Gradio does next on the event loop, takes time that grows faster than the request. Uploads are
received here, by Starlette's parser: Gradio's keeps files that were cut and holds unnamed fields in memory.
SECURITY.md lists the promises and their tests.
"""

import asyncio
import logging
import os
import re
from collections.abc import Awaitable, Callable
from pathlib import Path

from starlette.datastructures import MutableHeaders
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response, StreamingResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from x2i_app.limits import show_value
from x2i_app.serving.protocol import EngineStatus
from x2i_app.ui.http.access import (
    API,
    FILE,
    LOGIN,
    LOGOUT,
    MCP,
    OPENAI,
    PROGRESS,
    UPLOAD,
    Hosts,
    LoginBackoff,
    is_logged_in,
    is_open,
    login_cookies,
    needs_login,
    runs_function,
)
from x2i_app.ui.http.admission import Admission
from x2i_app.ui.http.clients import Clients
from x2i_app.ui.http.limits import HTTP_LIMITS, HttpLimits
from x2i_app.ui.http.listeners import KEY as LISTENERS
from x2i_app.ui.http.listeners import Listeners
from x2i_app.ui.http.openai_api import EDITS, OpenAiApi, as_openai_error
from x2i_app.ui.http.payloads import check_call, check_texts, is_address, read_object
from x2i_app.ui.http.refusal import Refusal
from x2i_app.ui.http.uploads import (
    STORED,
    Form,
    StoredUploads,
    UploadPlaces,
    UploadProgress,
    receive_files,
    receive_form,
)
from x2i_app.ui.i18n import LANGUAGE_COOKIE, LANGUAGES, language_of, page_script

logger = logging.getLogger(__name__)

HEALTH = "/health"
_UNHEALTHY = ("failed", "closed")
_MULTIPART_BYTES = 64 * 1024  # what multipart adds around the files
# A client that is still sending does not read the response. The rest of a body that is too large is received and
# dropped, up to so many times the limit.
_DRAIN_FACTOR, _DRAIN_SECONDS = 4, 10

_HEADERS = {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "same-origin"}
_API_INFO = re.compile(rb"(window\.gradio_api_info\s*=\s*).*?(;</script>)", re.DOTALL)
_FILE_POLICY = "default-src 'none'; sandbox"  # a browser shows users' files but runs nothing in them


def _page_policy(on_space: bool) -> str:
    """The Content-Security-Policy of the page: nothing from, to or inside another site.

    Gradio's page needs inline scripts. A Space is shown in a frame of the hub, which resizes it by a script.
    """
    script, frame = (" https://cdnjs.cloudflare.com", " https://huggingface.co") if on_space else ("", "")
    return (
        "default-src 'self' data: blob:; style-src 'self' 'unsafe-inline'; object-src 'none'; base-uri 'self'; "
        f"form-action 'self'; script-src 'self' blob: 'unsafe-inline' 'unsafe-eval'{script}; "
        f"frame-ancestors 'self'{frame}"
    )


class RequestGuard:
    """The middleware.

    hosts: names of this app. clients: whose request it is. has_login: whether users must log in. status: the engine's,
    for /health. mcp, openai: the MCP server and the OpenAI API, or None if they are off.
    """

    def __init__(
        self,
        app: ASGIApp,
        hosts: Hosts,
        clients: Clients,
        has_login: bool,
        status: Callable[[], EngineStatus],
        admission: Admission,
        mcp: ASGIApp | None = None,
        openai: OpenAiApi | None = None,
        limits: HttpLimits = HTTP_LIMITS,
    ):
        self._app, self._hosts, self._has_login, self._status = app, hosts, has_login, status
        self._admission, self._limits, self._clients = admission, limits, clients
        self._mcp, self._openai = mcp, openai
        self._logins = LoginBackoff(limits)
        self._progress = UploadProgress(limits)
        self._uploads, self._stored = UploadPlaces(limits), StoredUploads(limits)
        self._listeners = Listeners(limits.unheard_seconds)
        self._policy = _page_policy("SPACE_ID" in os.environ)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request, or refuse it in one sentence."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":  # Gradio needs no websocket
            await send({"type": "websocket.close", "code": 1008})
            return
        scope["scheme"] = self._clients.scheme(scope)
        scope["client"] = (self._clients.address(scope), 0)
        scope[LISTENERS] = self._listeners
        if not self._clients.is_owner(scope["client"][0]):
            scope[STORED] = self._stored
        receiver = _Receiver(receive)
        if (language := Request(scope).cookies.get(LANGUAGE_COOKIE)) in LANGUAGES:
            MutableHeaders(scope=scope)["accept-language"] = language
        request = Request(scope, receiver)
        path = scope["path"].rstrip("/") or "/"
        sender = _Sender(send, _FILE_POLICY if path.startswith((FILE, f"{OPENAI}/")) else self._policy)
        try:
            response = await self._serve(request, path, sender)
        except Refusal as refusal:
            logger.info("refused %s %s: %s", scope["method"], show_value(path), refusal.sentence)
            response = _refuse(refusal, path)
            if refusal.status == 413:
                allowed = self._limits.upload_bytes if path in (UPLOAD, EDITS) else self._limits.json_bytes
                await _drain(receiver, _DRAIN_FACTOR * allowed)
        except ClientDisconnect:
            return
        except Exception as error:
            if sender.status:
                raise
            response = _refuse(_explain(error, path), path)
        if response is not None:
            await response(scope, receiver, sender)

    async def _serve(self, request: Request, path: str, sender: "_Sender") -> Response | None:
        """The response, or None if it has been sent already."""
        if len(path) > self._limits.path_length:
            allowed = self._limits.path_length
            raise Refusal(414, f"The path has {len(path):,} characters and {allowed:,} are allowed; shorten it.")
        self._check_sender(request)
        if path == HEALTH:
            return self._health()
        if self._openai and path.startswith(f"{OPENAI}/"):
            return await self._serve_openai(self._openai, request, path)
        self._check_route(request, path)
        if request.method == "POST":
            return await self._serve_post(request, path, sender)
        if request.method == "GET" and path == PROGRESS:
            await self._send_progress(request, sender)
        elif path == "/":
            is_stranger = self._has_login and not is_logged_in(request)
            await self._app(request.scope, request.receive, _PageSender(sender, is_stranger, language_of(request)))
        else:
            with self._listeners.listening(request.scope, path):
                await self._app(request.scope, request.receive, sender)
        return None

    async def _serve_post(self, request: Request, path: str, sender: "_Sender") -> Response | None:
        if path == UPLOAD:
            return JSONResponse((await self._receive_upload(request, receive_files)).paths)
        if path == LOGOUT:
            return _log_out(request)
        if path == LOGIN:
            self._count_login()
        is_long = path == MCP or runs_function(path)
        body = await self._read(request, self._limits.json_bytes if is_long else self._limits.short_bytes)
        receive = _replay(body, request.receive)
        if path == MCP:
            check_texts(read_object(body, '{"jsonrpc": "2.0", "id": 1, "method": "tools/list"}'))
            await self._mcp(request.scope, receive, sender)
        elif runs_function(path):
            function, session = check_call(body, path.rpartition("/")[2], request.scope["app"])
            self._listeners.sweep(request.scope["app"].get_blocks()._queue)
            await self._admission.wait(function, session, request.scope)
            with self._admission.admit(function, session, request.scope):
                await self._app(request.scope, receive, sender)
        else:
            await self._app(request.scope, receive, sender)
        if path == LOGIN and sender.status == 200:
            self._logins.reset()
        return None

    async def _serve_openai(self, api: OpenAiApi, request: Request, path: str) -> Response:
        """The same checks in the same order, with a key in place of the login."""
        api.check(request, path)
        if request.method != "POST":
            return api.get(request, path)
        if path == EDITS:
            form = await self._receive_upload(request, receive_form)
            call = api.read_edit(form)
        else:
            call = api.read_generation(await self._read(request, self._limits.json_bytes))
        client = api.client(request, call)
        with self._admission.admit_job(client.session_hash, request.scope):
            return await api.generate(client, call)

    def _check_sender(self, request: Request) -> None:
        headers = request.headers
        hosts = [headers.get("host", ""), *headers.getlist("x-forwarded-host")]
        for host in hosts:
            if not self._hosts.allows(host):
                raise Refusal(
                    400,
                    f"This app does not answer to the name {show_value(host)}; start it with --hosts and that name, "
                    "or use its numeric address.",
                )
        origin = headers.get("origin")
        if origin is not None and origin.partition("://")[2].lower() not in [host.lower() for host in hosts]:
            raise Refusal(403, f"A page of {show_value(origin)} may not use this app; open the app's own page.")

    def _check_route(self, request: Request, path: str) -> None:
        method = request.method
        if method == "OPTIONS":
            raise Refusal(405, "OPTIONS is not supported; use GET or POST.")
        is_mcp = self._mcp is not None and path == MCP
        if is_mcp and method != "POST":
            raise Refusal(405, "The MCP server accepts POST only.", {"Allow": "POST"})
        if not (is_mcp or is_open(method, path)):
            raise Refusal(404, "There is nothing at this address; /gradio_api/info lists all endpoints.")
        if self._has_login and needs_login(method, path) and not is_logged_in(request):
            raise Refusal(401, "Log in first: POST username and password to /login, and send the cookie.")
        if path.startswith(FILE) and is_address(path.removeprefix(FILE)):
            raise Refusal(403, "The app fetches nothing from other addresses; it serves only its own files.")

    def _count_login(self) -> None:
        if wait := self._logins.wait():
            headers = {"Retry-After": str(int(wait) + 1)}
            raise Refusal(429, f"There were too many wrong logins; try again in {wait:.0f} s.", headers)
        self._logins.count()

    def _health(self) -> Response:
        status = self._status()
        body = {"state": status.state, "detail": status.detail, "waiting": status.waiting}
        return JSONResponse(body, 503 if status.state in _UNHEALTHY else 200)

    async def _send_progress(self, request: Request, sender: "_Sender") -> None:
        events = self._progress.events(request.query_params.get("upload_id", ""))
        stream = StreamingResponse(events, media_type="text/event-stream", headers={"Cache-Control": "no-cache"})
        with self._progress.watch():
            await stream(request.scope, request.receive, sender)

    async def _read(self, request: Request, allowed: int) -> bytes:
        seconds = self._limits.json_seconds
        _check_length(request, allowed)
        body = bytearray()
        try:
            async with asyncio.timeout(seconds):
                async for chunk in request.stream():
                    body += chunk
                    if len(body) > allowed:
                        raise _too_large(len(body), allowed)
        except TimeoutError:
            raise Refusal(408, f"The request took longer than {seconds:g} s to arrive; send it again.") from None
        return bytes(body)

    async def _receive_upload(self, request: Request, receive: Callable[..., Awaitable[Form]]) -> Form:
        allowed = self._limits.upload_bytes + _MULTIPART_BYTES
        size = _check_length(request, allowed)
        gradio, address = request.scope["app"], request.scope["client"][0]
        async with self._uploads.place(address) as count:
            capped = Request(request.scope, _capped(request.receive, allowed, count))
            with self._progress.track(request.query_params.get("upload_id", ""), size) as on_bytes:
                form = await receive(capped, Path(gradio.uploaded_file_dir), on_bytes, self._limits)
        gradio.get_blocks().upload_file_set.update(form.paths)  # Gradio removes them when they are old
        if stored := request.scope.get(STORED):
            await asyncio.to_thread(stored.add, address, form.paths)
        return form


class _Receiver:
    """`receive` that remembers whether the whole body has arrived."""

    def __init__(self, receive: Receive):
        self._receive = receive
        self.is_complete = False

    async def __call__(self) -> Message:
        message = await self._receive()
        self.is_complete = not message.get("more_body")
        return message


class _Sender:
    """`send` that adds our headers and remembers the status, 0 before the response starts."""

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


class _PageSender:
    """`send` for the page: in the user's language, and without the endpoints if the user is not logged in."""

    def __init__(self, send: Send, is_stranger: bool, language: str):
        self._send, self._is_stranger, self._language = send, is_stranger, language
        self._start: Message = {}
        self._body = bytearray()

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._start = message
            return
        self._body += message.get("body", b"")
        if message.get("more_body"):
            return
        body = bytes(self._body)
        if self._is_stranger:
            body = _API_INFO.sub(rb"\1{}\2", body)
        body = body.replace(b"<head>", f"<head><script>{page_script(self._language)}</script>".encode(), 1)
        if body != self._body and "content-length" in (headers := MutableHeaders(scope=self._start)):
            headers["content-length"] = str(len(body))
        await self._send(self._start)
        await self._send({"type": "http.response.body", "body": body})


def _log_out(request: Request) -> Response:
    """End the login of this cookie, and of no other one. Its request has passed the check of its origin."""
    response = RedirectResponse("./", 303)
    for name in login_cookies(request):
        request.scope["app"].tokens.pop(request.cookies.get(name), None)
        response.delete_cookie(name)
    return response


def _explain(error: Exception, path: str) -> Refusal:
    if path.startswith(f"{API}/call/v2/") and isinstance(error, (KeyError, TypeError, ValueError)):
        return Refusal(400, "The parameters do not fit the endpoint; /gradio_api/info lists them.")
    logger.error("%s failed", show_value(path), exc_info=error)
    return Refusal(500, "The request failed because of an internal error; the log has the details.")


def _refuse(refusal: Refusal, path: str) -> Response:
    if path.startswith(f"{OPENAI}/"):
        return as_openai_error(refusal)
    if path == UPLOAD:  # Gradio's page shows the body as it is
        return PlainTextResponse(refusal.sentence, refusal.status, refusal.headers)
    return JSONResponse({"detail": refusal.sentence}, refusal.status, refusal.headers)


def _check_length(request: Request, allowed: int) -> int:
    """The Content-Length of a request, 0 if it has none. Raises Refusal if it is more than `allowed`."""
    stated = request.headers.get("content-length", "")
    length = int(stated) if stated.isdecimal() else 0
    if length > allowed:
        raise _too_large(length, allowed)
    return length


def _too_large(size: int, allowed: int) -> Refusal:
    sentence = f"The request has {size:,} bytes or more and {allowed:,} are allowed; send less."
    return Refusal(413, sentence, {"Connection": "close"})


async def _drain(receiver: _Receiver, most: int) -> None:
    """Receive and drop the rest of a body, up to `most` bytes."""
    try:
        async with asyncio.timeout(_DRAIN_SECONDS):
            while most > 0 and not receiver.is_complete:
                message = await receiver()
                most -= len(message.get("body", b""))
    except TimeoutError:
        pass  # the response closes the connection


def _capped(receive: Receive, allowed: int, count: Callable[[int], None]) -> Receive:
    """`receive` that raises Refusal once a body is larger than `allowed` bytes, whatever Content-Length says.

    count: called with the bytes of each message.
    """
    received = 0

    async def counted() -> Message:
        nonlocal received
        message = await receive()
        received += len(message.get("body", b""))
        count(len(message.get("body", b"")))
        if received > allowed:
            raise _too_large(received, allowed)
        return message

    return counted


def _replay(body: bytes, receive: Receive) -> Receive:
    """`receive` that first gives a body which was read already."""
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def again() -> Message:
        return messages.pop() if messages else await receive()

    return again
