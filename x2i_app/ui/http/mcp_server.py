"""The endpoints as tools of the Model Context Protocol, for assistants: POST /gradio_api/mcp, where `--mcp` opens it.

https://modelcontextprotocol.io, by its own library, the extra `mcp`. A call is what a call of the endpoint is: the same
handler, queue and sentences; it stops when its caller hangs up. Gradio has a server of this kind too, which gives a
picture's address where a picture is wanted, cannot log in, and draws on for callers that have gone.
"""

import base64
import html
import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

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
from x2i_app.ui.handlers import drawing_handler
from x2i_app.ui.history import Discreet
from x2i_app.ui.http.access import API, MCP
from x2i_app.ui.http.mcp_tools import describe_tool, values_of_call
from x2i_app.ui.i18n import texts
from x2i_app.ui.page import INTERNAL
from x2i_app.ui.progress import OUTPUTS, Audience, cancel_handler, status_handler
from x2i_app.ui.tabs import TABS, Tab

logger = logging.getLogger(__name__)

_JOB = {"type": "object", "properties": {"job": {"type": "string", "description": "a job's id"}}}
_HELPERS = {
    "status": ("How the model is and, asked with a job's id, how that job is.", _JOB),
    "cancel": ("Stop a job by its id, which the progress of its call names.", _JOB | {"required": ["job"]}),
}
_TABS = {tab.name: tab for tab in TABS}

Content = list[types.TextContent | types.ImageContent]


class McpServer:
    """An ASGI application for the one route; `lifespan` has to be around its requests."""

    def __init__(self, engine: Engine, root_path: str):
        self._engine, self._root_path = engine, root_path
        self._audience = Audience(engine, Discreet())
        self._server: Server = Server("x2i", __version__)
        self._server.list_tools()(self._list)
        # Our own sentences are clearer than a schema's, and name what is allowed.
        self._server.call_tool(validate_input=False)(self._call)
        # Without sessions: nothing of a caller is kept, and a call ends with its connection.
        self._manager = StreamableHTTPSessionManager(self._server, stateless=True)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        await self._manager.handle_request(scope, receive, send)

    @asynccontextmanager
    async def lifespan(self, app: ASGIApp) -> AsyncIterator[None]:
        """While requests are answered."""
        async with self._manager.run():
            yield

    async def _list(self) -> list[types.Tool]:
        tools = {tab.name: describe_tool(self._engine, tab) for tab in TABS} | _HELPERS
        return [types.Tool(name=name, description=told, inputSchema=taken) for name, (told, taken) in tools.items()]

    async def _call(self, name: str, arguments: dict[str, Any]) -> Content:
        """What a tool answers. Raises an error whose words are for the caller."""
        try:
            if name in _TABS:
                return await self._draw(_TABS[name], arguments)
            return self._help(name, arguments.get("job", ""))
        except gr.Error as error:
            raise EngineError(html.unescape(error.message)) from error
        except X2IError:
            raise
        except Exception as error:
            logger.error("The tool %s failed", show_value(name), exc_info=error)
            raise EngineError(INTERNAL) from error

    async def _draw(self, tab: Tab, arguments: dict[str, Any]) -> Content:
        request = self._server.request_context.request
        # Gradio removes these files when they are old.
        files: set[str] = request.scope["app"].get_blocks().upload_file_set
        values = values_of_call(tab, arguments, self._engine.settings, files.add)
        # Callers from one address take turns with the page's visitors as one of them.
        visitor = gr.Request(request, session_hash=f"mcp {request.client.host if request.client else ''}")
        draw, news, told = drawing_handler(self._engine, tab, self._audience), {}, []
        async for moment in draw(visitor, *values):
            news |= {name: value for name, value in zip(OUTPUTS, moment, strict=True) if value != gr.skip()}
            job = self._engine.get(news["job"])
            if job and job.progress not in told[-1:]:
                told.append(job.progress)
                await self._tell(job, len(told))
        if "report" not in news:
            raise EngineError("The job was stopped; call again when you like.")
        files.update(news["images"])
        return [*map(_png_content, news["images"]), types.TextContent(type="text", text=self._say(news, request))]

    async def _tell(self, job: Job, number: int) -> None:
        """How far it is, to a caller that asked to hear it. number: of the news, as each has to have a higher one."""
        context = self._server.request_context
        token = context.meta.progressToken if context.meta else None
        if token is None:
            return
        words = f"{texts.say(job.progress)} (job {job.id})"
        await context.session.send_progress_notification(
            token, number, message=words, related_request_id=str(context.request_id)
        )

    def _say(self, news: dict[str, Any], request: Request) -> str:
        root = get_root_url(request, MCP, self._root_path or None)
        addresses = [f"{root}{API}/file={quote(path)}" for path in news["images"]]
        report = json.dumps(news["report"], ensure_ascii=False)
        return "\n".join([*addresses, *filter(None, [news["answer"]]), report])

    def _help(self, name: str, job: Any) -> Content:
        if name == "cancel":
            return [types.TextContent(type="text", text=cancel_handler(self._engine)(None, job))]
        if name != "status":
            raise EngineError(f"There is no tool {show_value(name)}; there are {', '.join((*_TABS, *_HELPERS))}.")
        told = status_handler(self._engine)(job)
        preview = told["job"].pop("preview") if told.get("job") else ""
        shown = [_image_content(preview.partition(",")[2], "image/jpeg")] if preview else []
        return [*shown, types.TextContent(type="text", text=json.dumps(told, ensure_ascii=False))]


def _png_content(path: str) -> types.ImageContent:
    return _image_content(base64.b64encode(Path(path).read_bytes()).decode(), "image/png")


def _image_content(data: str, mime_type: str) -> types.ImageContent:
    return types.ImageContent(type="image", data=data, mimeType=mime_type)
