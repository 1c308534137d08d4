"""The MCP server: the protocol's own client against the real app."""

import asyncio
import base64
import io
import json
import re
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import unquote

import httpx
import pytest
from mcp import ClientSession
from mcp.client.streamable_http import streamable_http_client
from PIL import Image
from safety.client import ask, upload
from safety.local_app import local_app
from waiting import wait_until

from x2i_app.errors import InvalidRequestError
from x2i_app.media.isolation import isolate_decoding
from x2i_app.settings import ASSETS, Settings
from x2i_app.ui.http.limits import HTTP_LIMITS
from x2i_app.ui.server import serve

BOAT = ASSETS / "examples/images/boat-at-sunset.png"
ROUTE = "/gradio_api/mcp"
SMALL = {"width": 64, "height": 96, "steps": 2, "seed": 9}
HALF = b'{"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "\\ud800"}}'
LIST = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
ACCEPT = {"Accept": "application/json, text/event-stream"}


def talk(server, conversation):
    """The result of a coroutine function that takes a session of the protocol."""

    async def run():
        async with (
            streamable_http_client(server + ROUTE, http_client=httpx.AsyncClient(timeout=300)) as (read, write, _),
            ClientSession(read, write) as session,
        ):
            await session.initialize()
            return await conversation(session)

    with ThreadPoolExecutor(1) as elsewhere:  # in this thread the browser's event loop may be running
        return elsewhere.submit(asyncio.run, run()).result()


def call(server, tool, **arguments):
    """Whether the tool call failed, its text, and its images."""
    answer = talk(server, lambda session: session.call_tool(tool, arguments))
    text = "\n".join(part.text for part in answer.content if part.type == "text")
    images = [base64.b64decode(part.data) for part in answer.content if part.type == "image"]
    return answer.isError, text, [Image.open(io.BytesIO(image)) for image in images]


def test_the_tools_describe_their_parameters_and_the_model(server):
    tools = {tool.name: tool for tool in talk(server, lambda session: session.list_tools()).tools}
    assert list(tools) == ["text", "image", "image_text", "video", "audio", "fusion", "status", "cancel"]
    schema = tools["text"].inputSchema
    assert schema["properties"]["width"] == {
        "description": "Width",
        "type": "integer",
        "minimum": 64,
        "maximum": 2048,
        "multipleOf": 16,
    }
    assert schema["required"] == ["prompt"]
    assert "striped" in schema["properties"]["loras"]["description"]
    assert "houses, trees, cars" in tools["text"].description


def test_a_call_returns_the_image_and_reports_its_progress(server):
    messages = []

    async def on_progress(progress, total, message):
        messages.append((progress, message))

    given = {"prompt": "a red house", **SMALL, "steps": 20}
    answer = talk(server, lambda session: session.call_tool("text", given, progress_callback=on_progress))
    image, text = answer.content
    address, model_answer, report = text.text.split("\n")
    with Image.open(io.BytesIO(base64.b64decode(image.data))) as generated:
        assert (generated.format, generated.size) == ("PNG", (64, 96))
        assert json.loads(generated.info["x2i"])["seed"] == 9
    assert "house" in model_answer
    assert json.loads(report)["seeds"] == [9]
    assert ask(server, "GET", address.removeprefix(server)).status == 200
    numbers = [number for number, _ in messages]
    assert numbers == sorted(set(numbers))
    assert all("(job " in message for _, message in messages)
    assert any("of 20" in message for _, message in messages), messages


def test_files_are_uploads_generated_images_or_data_urls(server):
    (path,) = upload(server, ("boat.png", BOAT.read_bytes())).json()
    is_error, text, _ = call(server, "image_text", image=path, prompt="make it night", control=1, **SMALL)
    assert not is_error, text
    first = text.partition("\n")[0]
    inside = f"data:image/png;base64,{base64.b64encode(BOAT.read_bytes()).decode()}"
    loras = [{"file": "striped", "weight": 0.5}]
    is_error, text, (image,) = call(server, "fusion", files=[first, inside], loras=loras, **SMALL)
    assert not is_error, text
    settings = json.loads(image.info["x2i"])
    assert (len(settings["images"]), settings["loras"][0]["weight"]) == (2, 0.5)
    turns = [{"prompt": "make it night", "images": [path], "answer": "a boat", "result": first}]
    is_error, text, (image,) = call(server, "image_text", prompt="make it day", history=turns, **SMALL)
    assert not is_error, text
    assert json.loads(image.info["x2i"])["source_image"]


WRONG = [
    ("text", {"prompt": "a", "width": 4000}, "width is 4000; it must be 64 to 2048 in steps of 16"),
    ("text", {"prompt": "a", "wide": 1}, "text has no parameter 'wide'; it takes prompt, width"),
    ("text", {}, "Type a prompt first."),
    ("text", {"prompt": "a", "loras": [{"file": "nobody"}]}, "There is no LoRA 'nobody' here"),
    ("text", {"prompt": "a", "loras": [{"file": "/etc/passwd"}]}, "was not uploaded here"),
    ("text", {"prompt": "a", "loras": [5]}, "must be a list of objects with file and weight"),
    ("image", {"images": "/etc/passwd"}, "images is '/etc/passwd'; it must be a list"),
    ("image", {"images": ["/etc/passwd"]}, "images: 'passwd' was not uploaded here; send the file to"),
    ("image", {"images": ["http://127.0.0.1:1/gradio_api/file=/etc/passwd"]}, "was not uploaded here"),
    ("image", {"images": ["https://example.org/a.png"]}, "was not uploaded here"),
    ("image", {"images": [5]}, "images is 5; it must be the path that POST"),
    ("video", {"video": "data:video/mp4;base64,!!"}, "video is a data: URL that cannot be read"),
    ("video", {"video": "data:video/mp4;base64,AAAA!AAAA"}, "video is a data: URL that cannot be read"),
    ("video", {"video": "data:video/mp4;base64,"}, "video is a data: URL that cannot be read"),
    ("video", {"video": "data:video/mp4,AAAA"}, "video is a data: URL that cannot be read"),
    ("image_text", {"prompt": "a", "history": [{"result": "/etc/passwd"}]}, "was not uploaded here"),
    ("image_text", {"prompt": "a", "history": [{"picture": "/etc/passwd"}]}, "was not uploaded here"),
    ("image_text", {"prompt": "a", "history": [5]}, "history contains 5; each turn must"),
    ("nothing", {}, "There is no tool 'nothing'; the tools are text, image"),
]


def test_wrong_arguments_are_refused_in_one_sentence(server):
    async def err(session):
        return [await session.call_tool(tool, arguments) for tool, arguments, _ in WRONG]

    for answer, (_, _, expected) in zip(talk(server, err), WRONG, strict=True):
        (sentence,) = (part.text for part in answer.content)
        assert (answer.isError, expected in sentence) == (True, True), sentence
    assert call(server, "cancel", job="x")[:2] == (False, "There is no such job.")


def test_a_client_that_disconnects_stops_its_job(server):
    long = {"prompt": "long", "width": 512, "height": 512, "steps": 100}
    body = LIST | {"method": "tools/call", "params": {"name": "text", "arguments": long, "_meta": {"progressToken": 1}}}
    with httpx.stream("POST", server + ROUTE, json=body, headers=ACCEPT, timeout=300) as answer:
        job = next(row for row in answer.iter_lines() if "step 1 of" in row).partition("(job ")[2][:32]
    phases = {"cancelled", "done"}
    ended = wait_until(lambda: phases & {json.loads(call(server, "status", job=job)[1])["job"]["phase"]})
    assert ended == {"cancelled"}


@pytest.mark.parametrize(
    ("method", "headers", "status"),
    [
        ("POST", {}, 200),
        ("POST", {"Host": "evil.rebind"}, 400),
        ("POST", {"Origin": "https://evil.example"}, 403),
        ("GET", {}, 405),
        ("DELETE", {}, 405),
    ],
)
def test_the_route_has_the_checks_of_all_routes(server, method, headers, status):
    assert ask(server, method, ROUTE, LIST if method == "POST" else None, ACCEPT | headers).status == status


@pytest.mark.parametrize("body", [b"{", b"[" * 100_000, b"[]", b"5", b'{"jsonrpc": "2.0", "method": 5}', b"\xff", HALF])
def test_a_malformed_call_is_refused(server, body):
    answer = ask(server, "POST", ROUTE, body, ACCEPT)
    assert answer.status == 400
    assert "Traceback" not in answer.text
    assert ask(server, "POST", ROUTE, b" " * (2**20 + 1), ACCEPT).status == 413


def test_without_the_package_an_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "mcp", None)
    monkeypatch.delitem(sys.modules, "x2i_app.ui.http.mcp_server", raising=False)
    was_isolated = isolate_decoding(False)
    with pytest.raises(InvalidRequestError, match="--mcp needs the package mcp, which is not installed; install it"):
        serve(Settings(mcp=True))
    assert not isolate_decoding(was_isolated)  # as before


@pytest.fixture(scope="module")
def local():
    """The app in this process, where a test can look at its page and its engine."""
    with local_app(HTTP_LIMITS, mcp=True, profile="cpu") as app:
        app.engine.start()
        yield app


def test_files_of_a_call_are_registered_for_removal(local):
    """Gradio deletes the files in the page's set when they are a day old: the file of the call and the image."""
    content = BOAT.read_bytes()
    image = f"data:image/png;base64,{base64.b64encode(content).decode()}"
    is_error, text, _ = call(local.url, "image_text", image=image, prompt="make it night", **SMALL)
    assert not is_error, text
    registered = {Path(path) for path in local.page.upload_file_set}
    assert [path.read_bytes() for path in registered].count(content) == 1
    assert Path(unquote(text.partition("\n")[0].partition("file=")[2])) in registered


def test_all_clients_at_an_address_share_a_session(local):
    """Otherwise one client could fill the queue."""
    messages = []

    async def on_progress(progress, total, message):
        messages.append(message)

    talk(local.url, lambda session: session.call_tool("text", {"prompt": "a", **SMALL}, progress_callback=on_progress))
    job = re.search(r"\(job (\w+)\)", messages[0])[1]
    assert local.engine.get(job).session == "mcp 127.0.0.1"
