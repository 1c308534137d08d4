"""OpenAI's images API: with `--openai-api`, Open WebUI, LibreChat and OpenAI's own client can generate images at /v1.

https://platform.openai.com/docs/api-reference/images. A call runs in the same queue, with the same limits, as one of
the page; its job stops when the client disconnects. The loaded model answers, whatever name of a model is sent.
`middleware` applies the checks, in the order of all routes, and gives each call to this module once it has passed them.
"""

import asyncio
import base64
import hashlib
import hmac
import re
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import anyio
import gradio as gr
from gradio.route_utils import get_root_url
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, Response

from x2i_app.errors import EngineError, GenerationCancelledError, QueueFullError, X2IError
from x2i_app.serving.engine import Engine
from x2i_app.ui.handlers import generate
from x2i_app.ui.history import MetadataOptOut
from x2i_app.ui.http.access import OPENAI, LoginBackoff
from x2i_app.ui.http.limits import HTTP_LIMITS, HttpLimits
from x2i_app.ui.http.openai_fields import FieldError, ImageCall, fields_of_form, without_index, without_null
from x2i_app.ui.http.payloads import check_form, read_object
from x2i_app.ui.http.refusal import Refusal
from x2i_app.ui.http.uploads import Form
from x2i_app.ui.progress import OUTPUTS, JobFollowers

GENERATIONS, EDITS = f"{OPENAI}/images/generations", f"{OPENAI}/images/edits"
_MODELS = f"{OPENAI}/models"
_LINKED = re.compile(rf"{OPENAI}/images/files/([\w-]{{32}})\.\w+")
_EXAMPLE = '{"prompt": "a red house"}'
_THREADS = 4
_ADDRESSES = 1000  # wrong keys are counted for at most this many
_TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}


class Links:
    """Addresses of images that nobody can guess and that end after a while. Use it only in the event loop."""

    def __init__(self, limits: HttpLimits = HTTP_LIMITS, clock: Callable[[], float] = time.monotonic):
        self._limits, self._clock = limits, clock
        self._paths: OrderedDict[str, tuple[str, float]] = OrderedDict()

    def add(self, path: str) -> str:
        """A route for this file. If there are too many routes, the oldest is removed."""
        token = secrets.token_urlsafe(24)
        self._paths[token] = path, self._clock() + self._limits.link_seconds
        if len(self._paths) > self._limits.links:
            self._paths.popitem(last=False)
        return f"{OPENAI}/images/files/{token}{Path(path).suffix}"

    def find(self, route: str) -> str | None:
        """The file of a route; None if there is none, or not any more."""
        while self._paths and next(iter(self._paths.values()))[1] <= self._clock():
            self._paths.popitem(last=False)
        found = _LINKED.fullmatch(route)
        path, _ = self._paths.get(found[1], ("", 0)) if found else ("", 0)
        return path if path and Path(path).is_file() else None


class OpenAiApi:
    """The routes below /v1. `check` comes first; then `get`, or one of the `read_` functions and `generate`."""

    def __init__(self, engine: Engine, limits: HttpLimits = HTTP_LIMITS):
        self._engine, self._limits = engine, limits
        self._followers = JobFollowers(engine, MetadataOptOut())
        self._links = Links(limits)
        self._wrong_keys: OrderedDict[str, LoginBackoff] = OrderedDict()
        self._started = int(time.time())

    def check(self, request: Request, path: str) -> None:
        """Refuse a request for a route that there is not (404), or without the key (401, 429)."""
        allowed = "POST" if path in (GENERATIONS, EDITS) else "GET"
        is_known = allowed == "POST" or path == _MODELS or path.startswith(f"{_MODELS}/") or _LINKED.fullmatch(path)
        if not is_known:
            raise Refusal(404, f"There is nothing at this address; use {GENERATIONS}, {EDITS} or {_MODELS}.")
        if request.method != allowed:
            raise Refusal(405, f"This address accepts {allowed} only.", {"Allow": allowed})
        if not _LINKED.fullmatch(path):  # a browser shows the image, and has no key
            self._check_key(request)

    def _check_key(self, request: Request) -> None:
        key = self._engine.settings.openai_key
        if not key:
            return  # the settings allow that only on this machine
        backoff = self._backoff(request.scope["client"][0])
        if wait := backoff.wait():  # also for the right key: otherwise a guess could be checked meanwhile
            headers = {"Retry-After": str(int(wait) + 1)}
            raise Refusal(429, f"There were too many wrong keys; try again in {wait:.0f} s.", headers)
        scheme, _, sent = request.headers.get("authorization", "").partition(" ")
        is_right = hmac.compare_digest(sent.strip().encode("utf-8", "replace"), key.encode())
        if scheme.lower() != "bearer" or not is_right:
            backoff.count()
            raise Refusal(
                401,
                "The key is missing or wrong; send the owner's key as Authorization: Bearer KEY.",
                {"WWW-Authenticate": "Bearer"},
            )

    def _backoff(self, address: str) -> LoginBackoff:
        backoff = self._wrong_keys.setdefault(address, LoginBackoff(self._limits))
        self._wrong_keys.move_to_end(address)
        if len(self._wrong_keys) > _ADDRESSES:
            self._wrong_keys.popitem(last=False)
        return backoff

    def get(self, request: Request, path: str) -> Response:
        """The loaded model, by any name, or an image that was linked."""
        if path == _MODELS:
            return JSONResponse({"object": "list", "data": [self._model()]})
        if path.startswith(f"{_MODELS}/"):
            return JSONResponse(self._model())
        file = self._links.find(path)
        if file is None:
            raise Refusal(404, "This image's address is not valid any more; generate the image again.")
        return FileResponse(file, headers={"Cache-Control": "private, no-store"})

    def _model(self) -> dict[str, Any]:
        return {
            "id": self._engine.settings.preset,
            "object": "model",
            "created": self._started,
            "owned_by": "x2i",
        }

    def read_generation(self, body: bytes) -> ImageCall:
        """The call in a JSON body. Raises Refusal."""
        return _checked(lambda: ImageCall(without_null(read_object(body, _EXAMPLE))))

    def read_edit(self, form: Form) -> ImageCall:
        """The call in a multipart body, whose files are stored. Raises Refusal."""
        files = tuple((without_index(name), path) for name, path in form.files)
        if sum(len(text) for _, text in form.fields) > self._limits.json_bytes:
            raise Refusal(413, f"The fields have more than {self._limits.json_bytes:,} characters; send less.")

        def read() -> ImageCall:
            given = fields_of_form(form.fields)
            check_form(given)
            return ImageCall(without_null(given), files, is_edit=True)

        return _checked(read)

    def client(self, request: Request, call: ImageCall) -> gr.Request:
        """Whose job it is. If a client names no user, all its users share one session and one place in the queue."""
        user = hashlib.sha256(call.user.encode("utf-8", "replace")).hexdigest()[:16] if call.user else ""
        return gr.Request(request, session_hash=f"openai {request.scope['client'][0]} {user}".strip())

    async def generate(self, client: gr.Request, call: ImageCall) -> Response:
        """Draw the images of a call, unless the client disconnects. Raises Refusal, ClientDisconnect."""
        drawing = asyncio.create_task(self._draw(client, call))
        leaving = asyncio.create_task(_disconnected(client.request))
        try:
            await asyncio.wait({drawing, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if not drawing.done():
                raise ClientDisconnect
            return drawing.result()
        except X2IError as error:
            raise self._as_refusal(error) from None
        finally:
            drawing.cancel()
            leaving.cancel()
            await asyncio.gather(drawing, leaving, return_exceptions=True)

    async def _draw(self, client: gr.Request, call: ImageCall) -> Response:
        results: dict[str, Any] = {}
        async for update in generate(self._followers, lambda: call.request(self._engine), client, call.format):
            results |= {name: value for name, value in zip(OUTPUTS, update, strict=True) if value != gr.skip()}
        if "report" not in results:
            raise GenerationCancelledError("The job was stopped; send the request again to start a new one.")
        paths, report = results["images"], results["report"]
        if call.is_url:
            root = get_root_url(client.request, client.request.url.path, self._engine.settings.root_path or None)
            images = [{"url": f"{root}{self._links.add(path)}"} for path in paths]
        else:
            images = await anyio.to_thread.run_sync(_contents, paths, limiter=_limiter())
        report["notes"] = [*call.notes, *report["notes"]]
        # In a thread: a few images at 2048 x 2048 are 50 MB of JSON.
        return await anyio.to_thread.run_sync(
            lambda: JSONResponse(
                {
                    "created": int(time.time()),
                    "data": [image | {"seed": seed} for image, seed in zip(images, report["seeds"], strict=True)],
                    "model": self._engine.settings.preset,
                    "output_format": {"jpg": "jpeg"}.get(suffix := Path(paths[0]).suffix[1:], suffix),
                    "size": f"{report['width']}x{report['height']}",
                    "x2i": report,
                }
            ),
            limiter=_limiter(),
        )

    def _as_refusal(self, error: X2IError) -> Refusal:
        if isinstance(error, QueueFullError):
            return Refusal(429, str(error))
        if isinstance(error, GenerationCancelledError):
            return Refusal(503, str(error))
        if isinstance(error, EngineError):
            return Refusal(503 if self._engine.status.state in ("failed", "closed") else 500, str(error))
        return _invalid(error)


class _FieldRefusal(Refusal):
    """A Refusal that names the field. OpenAI's errors have one."""

    def __init__(self, sentence: str, name: str | None):
        super().__init__(400, sentence)
        self.name = name


def as_openai_error(refusal: Refusal) -> Response:
    """A refusal in the form of OpenAI's errors. Clients try again only where that can help."""
    kind = _TYPES.get(refusal.status, "server_error" if refusal.status >= 500 else "invalid_request_error")
    code = {401: "invalid_api_key", 429: "rate_limit_exceeded"}.get(refusal.status)
    error = {"message": refusal.sentence, "type": kind, "param": getattr(refusal, "name", None), "code": code}
    retry = {"x-should-retry": "true" if refusal.status == 429 else "false"}
    return JSONResponse({"error": error}, refusal.status, retry | refusal.headers)


def _checked(read: Callable[[], ImageCall]) -> ImageCall:
    try:
        call = read()
        call.format  # noqa: B018 - raises for a format that there is not
    except X2IError as error:
        raise _invalid(error) from None
    return call


def _invalid(error: X2IError) -> Refusal:
    return _FieldRefusal(str(error), error.name if isinstance(error, FieldError) else None)


async def _disconnected(request: Request) -> None:
    """Return when the client has gone. The body must have been read."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _contents(paths: Sequence[str]) -> list[dict[str, str]]:
    return [{"b64_json": base64.b64encode(Path(path).read_bytes()).decode()} for path in paths]


@cache
def _limiter() -> anyio.CapacityLimiter:
    return anyio.CapacityLimiter(_THREADS)
