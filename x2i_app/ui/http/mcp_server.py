"""The MCP server: with `--mcp`, assistants can call the endpoints as tools at POST /gradio_api/mcp.

It uses the library of the Model Context Protocol, https://modelcontextprotocol.io, which the extra `mcp` installs. A
tool call runs the same handler, in the same queue and with the same error sentences, as a call of the endpoint. Its job
stops when the client disconnects. Gradio has an MCP server too, but that one returns the address of an image instead of
the image, has no login, and finishes the jobs of clients that have disconnected.
"""

import base64
import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

import anyio
import gradio as gr
from gradio.route_utils import get_root_url
from mcp import types
from mcp.server.lowlevel import Server
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from x2i_app import __version__
from x2i_app.errors import EngineError, X2IError
from x2i_app.request import show_value
from x2i_app.serving.engine import Engine
from x2i_app.serving.jobs import Job
from x2i_app.ui.handlers import generate_handler
from x2i_app.ui.history import MetadataOptOut
from x2i_app.ui.http.access import API, MCP
from x2i_app.ui.http.mcp_tools import describe_tool, values_of_call
from x2i_app.ui.http.uploads import count_stored
from x2i_app.ui.i18n import PageError
from x2i_app.ui.progress import OUTPUTS, JobFollowers, cancel_handler, progress_text, status_handler
from x2i_app.ui.tabs import TABS, Tab

logger = logging.getLogger(__name__)

_JOB = {"type": "object", "properties": {"job": {"type": "string", "description": "the id of a job"}}}
_MIME_TYPES = {".png": "image/png", ".jpg": "image/jpeg", ".webp": "image/webp"}
_HELPERS = {
    "status": ("The state of the model and, if you pass a job's id, of that job.", _JOB),
    "cancel": ("Stop a job by its id, which the progress messages of its call contain.", _JOB | {"required": ["job"]}),
}
_TABS = {tab.name: tab for tab in TABS}
_THREADS = 4

Content = list[types.TextContent | types.ImageContent]


class McpServer:
    """An ASGI application for the route. It answers requests only while `lifespan` runs."""

    def __init__(self, engine: Engine, root_path: str):
        self._engine, self._root_path = engine, root_path
        self._followers = JobFollowers(engine, MetadataOptOut())
        self._server: Server = Server("x2i", __version__)
        self._server.list_tools()(self._list)
        # Our own error sentences are clearer than those of a JSON Schema validator, and say what is allowed.
        self._server.call_tool(validate_input=False)(self._call)
        # Without sessions the server keeps no data of a client, and a call ends with its connection.
        self._manager = StreamableHTTPSessionManager(self._server, stateless=True)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        await self._manager.handle_request(scope, receive, send)

    @asynccontextmanager
    async def lifespan(self, app: ASGIApp) -> AsyncIterator[None]:
        """Run the server inside the block."""
        async with self._manager.run():
            yield

    async def _list(self) -> list[types.Tool]:
        tools = {tab.name: describe_tool(self._engine, tab) for tab in TABS} | _HELPERS
        return [
            types.Tool(name=name, description=description, inputSchema=schema)
            for name, (description, schema) in tools.items()
        ]

    async def _call(self, name: str, arguments: dict[str, Any]) -> Content:
        """The result of a tool call. The message of an error that it raises is for the client."""
        try:
            if name in _TABS:
                return await self._generate(_TABS[name], arguments)
            return self._call_helper(name, arguments.get("job", ""))
        except X2IError:
            raise
        except Exception as error:
            logger.error("The tool %s failed", show_value(name), exc_info=error)
            raise PageError("error.internal") from error

    async def _generate(self, tab: Tab, arguments: dict[str, Any]) -> Content:
        request = self._server.request_context.request
        # All clients at one address share one session, so together they get one user's share of the queue.
        client = gr.Request(request, session_hash=f"mcp {request.client.host if request.client else ''}")
        # In threads: data: URLs are decoded and images encoded, and the event loop serves everybody.
        values = await anyio.to_thread.run_sync(
            values_of_call,
            tab,
            arguments,
            self._engine.settings,
            lambda path: count_stored(client, [path]),
            limiter=_limiter(),
        )
        handler, results, sent = generate_handler(self._followers, tab), {}, []
        async for update in handler(client, *values):
            results |= {name: value for name, value in zip(OUTPUTS, update, strict=True) if value != gr.skip()}
            job = self._engine.get(results.get("job", ""))
            if job and job.progress not in sent[-1:]:
                sent.append(job.progress)
                await self._send_progress(job, len(sent))
        if "report" not in results:
            raise EngineError("The job was stopped; call the tool again to start a new one.")
        images = await anyio.to_thread.run_sync(lambda: list(map(_file_content, results["images"])), limiter=_limiter())
        return [
            *images,
            types.TextContent(type="text", text=self._describe(results, request)),
        ]

    async def _send_progress(self, job: Job, number: int) -> None:
        """Send the job's progress if the client asked for it. number: of the message, higher than those before."""
        context = self._server.request_context
        token = context.meta.progressToken if context.meta else None
        if token is None:
            return
        message = f"{progress_text(job.progress)} (job {job.id})"
        await context.session.send_progress_notification(
            token, number, message=message, related_request_id=str(context.request_id)
        )

    def _describe(self, results: dict[str, Any], request: Request) -> str:
        root = get_root_url(request, MCP, self._root_path or None)
        addresses = [f"{root}{API}/file={quote(path)}" for path in results["images"]]
        report = json.dumps(results["report"], ensure_ascii=False)
        return "\n".join([*addresses, *filter(None, [results["answer"]]), report])

    def _call_helper(self, name: str, job: Any) -> Content:
        if name == "cancel":
            return [types.TextContent(type="text", text=cancel_handler(self._engine)(None, job))]
        if name != "status":
            raise EngineError(f"There is no tool {show_value(name)}; the tools are {', '.join((*_TABS, *_HELPERS))}.")
        status = status_handler(self._engine)(job)
        preview = status["job"].pop("preview") if status.get("job") else ""
        preview_content = [_image_content(preview.partition(",")[2], "image/jpeg")] if preview else []
        return [*preview_content, types.TextContent(type="text", text=json.dumps(status, ensure_ascii=False))]


@cache
def _limiter() -> anyio.CapacityLimiter:
    return anyio.CapacityLimiter(_THREADS)


def _file_content(path: str) -> types.ImageContent:
    return _image_content(base64.b64encode(Path(path).read_bytes()).decode(), _MIME_TYPES[Path(path).suffix])


def _image_content(data: str, mime_type: str) -> types.ImageContent:
    return types.ImageContent(type="image", data=data, mimeType=mime_type)
