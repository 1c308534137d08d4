"""Generates docs/API.md from the endpoints: python -m x2i_app.ui.http.api_docs docs/API.md

The tests run every example of that document against the real app.
"""

import json
import sys
from pathlib import Path
from typing import Any

from x2i_app.controlnet import CONTROLNET_KINDS, CONTROLNET_SETTINGS
from x2i_app.request import LATER_SETTINGS, LIMITS, SETTINGS
from x2i_app.serving.engine import Engine
from x2i_app.settings import FORMATS, Settings
from x2i_app.ui.i18n import Text
from x2i_app.ui.layout import build_page
from x2i_app.ui.tabs import COMMON, TABS

_BOAT, _CAT = (f"assets/examples/images/{name}.png" for name in ("boat-at-sunset", "cat-and-umbrella"))
_ROCKET = "assets/examples/videos/rocket-at-night.mp4"
_RAIN = "assets/examples/audios/rain-at-sea.wav"
_FILE = {"meta": {"_type": "gradio.FileData"}}

# Arguments of the examples; a Path is a file to upload. Each image of a gallery has a caption, which may be None.
EXAMPLES: dict[str, dict[str, Any]] = {
    "text": {"prompt": "a red house on snow at night"},
    "image": {"images": [{"image": Path(file), "caption": None} for file in (_BOAT, _CAT)]},
    "image_text": {"image": Path(_BOAT), "prompt": "make it night"},
    "video": {"video": Path(_ROCKET)},
    "audio": {"audio": Path(_RAIN), "prompt": "with a boat"},
    "fusion": {
        "message": {"text": "all of it", "files": [Path(_BOAT), Path(_ROCKET), Path(_RAIN)]},
        "loras": [{"file": "striped", "weight": 0.8}],
    },
}
_EXAMPLE_SETTINGS = {"seed": 1, "steps": 4}
_COMMON = (*COMMON, *LATER_SETTINGS, *CONTROLNET_SETTINGS)

_KINDS = {
    "Audio": "file",
    "Checkbox": "true or false",
    "Gallery": "list of files with captions",
    "Image": "file",
    "Json": "list of turns: `prompt`, `images`, `answer`, and `result`, the generated image",
    "Multimodaltextbox": "text and a list of files",
    "Number": "number",
    "Slider": "number",
    "Textbox": "text",
    "Video": "file",
}

_HEAD = """# X2I over HTTP

Each tab of the page is an endpoint. All calls and the page's users share one fair queue. A call reports its progress
while it runs, and its job stops when the client disconnects. Start the app (`python app.py`), then run the examples
below in the project's folder as they are. `Client(URL)` and `X2I=URL` say where the app is.

Every endpoint that generates images takes these settings after its own inputs. All of them are optional:

"""

_RESULT = """
A LoRA is the name of one that the page lists, or a .safetensors file that you upload:
`loras=[{"file": "striped", "weight": 1}, {"file": handle_file("mine.safetensors"), "weight": 0.5}]`.

A width or height becomes the nearest multiple of 16, which the answer says. The seed -1, like none, lets the app choose
one; the report contains it. A prompt may have `<lora:NAME:WEIGHT>`, `{a|b}` and `__wildcard__`
([usage](USAGE.md#prompts-of-other-programs)).

The result has six values: the images (PNG, JPEG or WebP files, as `format` says), the progress as HTML, the model's
answer, a report (seeds, size, steps, seconds of each phase), the job's id, and a preview while the job runs
(a JPEG as a data: URL, empty at the end). An invalid value is refused in one sentence that says what is allowed.
"""

_HELPERS = """## status and cancel

`status` returns the state of the model and, if you pass a job's id, of that job. `cancel` stops a job by its id. Every
update of a running call contains the job's id.

```python
from gradio_client import Client

client = Client("http://127.0.0.1:7860")
running = client.submit(prompt="a rocket at night", steps=100, api_name="/text")
job = next(iter(running))[4]
status = client.predict(job=job, api_name="/status")
print(status["preset"], status["job"]["phase"], status["job"]["step"], "of", status["job"]["steps"])
print(client.predict(job=job, api_name="/cancel"))
```

```bash
X2I=http://127.0.0.1:7860
JSON="Content-Type: application/json"
EVENT=$(curl -s "$X2I/gradio_api/call/v2/status" -H "$JSON" -d '{}' | cut -d '"' -f 4)
curl -s "$X2I/gradio_api/call/status/$EVENT"
```

## Assistants (MCP)

With `--mcp` (`X2I_MCP=1`), assistants can use the same eight endpoints as tools of the
[Model Context Protocol](https://modelcontextprotocol.io) at `/gradio_api/mcp` (streamable HTTP). It is off by default
and needs an extra package: `pip install 'mcp>=1.30,<2'`. The checks of host, origin, login (send the cookie) and limits
are the same as for the other routes. A tool returns the image itself, its address and the report. A file is the path
that an upload returned, the address of a generated image, or a `data:` URL of up to 700 KB. `fusion` takes `prompt` and
`files` in place of `message`. The progress messages contain the job's id. The job stops when the client disconnects.

```json
{"mcpServers": {"x2i": {"type": "http", "url": "http://127.0.0.1:7860/gradio_api/mcp"}}}
```

```python
import asyncio

from mcp import ClientSession
from mcp.client.streamable_http import streamable_http_client


async def main():
    async with streamable_http_client("http://127.0.0.1:7860/gradio_api/mcp") as (read, write, _):
        async with ClientSession(read, write) as session:
            await session.initialize()
            print([tool.name for tool in (await session.list_tools()).tools])
            result = await session.call_tool("text", {"prompt": "a red house on snow", "seed": 1, "steps": 4})
            print(result.content[0].mimeType, result.content[-1].text)


asyncio.run(main())
```

## OpenAI's images API

With `--openai-api` (`X2I_OPENAI_API=1`), programs made for
[OpenAI's images API](https://platform.openai.com/docs/api-reference/images) can use the app: `POST
/v1/images/generations`, `POST /v1/images/edits` and `GET /v1/models`. It is off by default. Unless the page is for this
machine only, it needs a key of your choice in `X2I_OPENAI_KEY`, 16 characters or more, which clients send as their API
key. The queue, the checks and the limits are those of all other routes.

```python
import base64

from openai import OpenAI

client = OpenAI(base_url="http://127.0.0.1:7860/v1", api_key="unused")  # or your key
answer = client.images.generate(prompt="a red house on snow", extra_body={"seed": 1, "steps": 4})
with open("image.png", "wb") as file:
    file.write(base64.b64decode(answer.data[0].b64_json))
print("image.png", answer.model, answer.data[0].seed)
with open("assets/examples/images/boat-at-sunset.png", "rb") as boat:
    answer = client.images.edit(image=boat, prompt="make it night", extra_body={"seed": 1, "steps": 4})
```

```bash
X2I=http://127.0.0.1:7860
JSON="Content-Type: application/json"
BODY='{"prompt": "a red house on snow", "response_format": "url", "seed": 1, "steps": 4}'
curl -s "$X2I/v1/images/generations" -H "$JSON" -H "Authorization: Bearer unused" -d "$BODY" > answer.json
curl -s "$(grep -o 'http[^"]*[.]png' answer.json)" > image.png
```

| field | meaning here |
|---|---|
| `model` | any name; the loaded model answers, and the answer's `model` says which it was |
| `n` | 1 to 8 images |
| `size` | `auto`, the model's own size or that of the edited image, or WIDTHxHEIGHT, made multiples of 16 |
| `response_format` | `b64_json`, or `url`: an address that shows the image for an hour to everybody who knows it |
| `output_format` | png, jpeg or webp |
| `user` | each user that the client names gets turns of their own in the queue |
| `image` | of an edit: one to change, or several (also as `image[]` or `image[0]`); FLUX.1 Kontext keeps to the first |
| `mask` | of an edit: a PNG as large as the first image; its *transparent* pixels are replaced |
| `seed`, `steps`, `guidance`, `reason`, `loras`, `negative_prompt`, `true_cfg_scale`, `fast` | as in the table above |
| `control`, `strength`, `mask_invert`, `mask_grow`, `mask_feather`, `only_masked` | of an edit: as in `image_text` |
| `outpaint` | of an edit: pixels to add on the left, top, right and bottom, as `[0, 0, 64, 0]` |
| `controlnet_image` | of an edit: a file that the ControlNet follows; without `image`, nothing is edited |
| `controlnet_kind`, `controlnet_strength`, `controlnet_start`, `controlnet_end` | of an edit: as in the table above |
| `quality`, `style`, `moderation`, `input_fidelity`, `output_compression`, `partial_images` | no effect: noted |
| `stream`, `background: transparent`, any other name | refused by name |

Each image has its `seed`, and `x2i` in the answer is the report of the other endpoints. Errors have OpenAI's form.
Without `response_format`, the models `dall-e-2` and `dall-e-3` are answered with a URL, as by OpenAI, and all others
with `b64_json`.
Without a mask, the transparent pixels of an image are read as white; only for `dall-e-2` they are the mask.

**Open WebUI**: start the app with `--openai-api`, and in Admin Panel, Settings, Images choose the engine OpenAI, the
API base URL `http://127.0.0.1:7860/v1`, any API key, the model `gpt-image-1` and the size `auto`, which is the loaded
model's own; choose the same for editing images, without a size. With another model name Open WebUI wants a size in
pixels, such as `128x128` for x2i-tiny. Its additional parameters take fields of the table above, such as `{"steps":
8}`. Or set variables:

```text
ENABLE_IMAGE_GENERATION=true
IMAGE_GENERATION_ENGINE=openai
IMAGES_OPENAI_API_BASE_URL=http://127.0.0.1:7860/v1
IMAGES_OPENAI_API_KEY=unused
IMAGE_GENERATION_MODEL=gpt-image-1
IMAGE_SIZE=auto
ENABLE_IMAGE_EDIT=true
IMAGE_EDIT_ENGINE=openai
IMAGE_EDIT_MODEL=gpt-image-1
IMAGES_EDIT_OPENAI_API_BASE_URL=http://127.0.0.1:7860/v1
IMAGES_EDIT_OPENAI_API_KEY=unused
```

Open WebUI keeps what was saved in its Admin Panel, and reads the variables only at its first start. In Docker, it
reaches the app as `host.docker.internal`: start the app with `--host 0.0.0.0 --hosts host.docker.internal` and
`X2I_OPENAI_KEY`, and use that name and key in place of the ones above.

**LibreChat** has two tools for images:

```text
IMAGE_GEN_OAI_BASEURL=http://127.0.0.1:7860/v1
IMAGE_GEN_OAI_API_KEY=unused
DALLE_REVERSE_PROXY=http://127.0.0.1:7860/v1
DALLE_API_KEY=unused
```

The first two are of *OpenAI Image Tools*, which generates and edits in agents; the others are of *DALL-E-3*, which asks
for 1024 x 1024 pixels or more.
"""


def write_docs() -> str:
    """The whole document, as Markdown."""
    endpoints = build_page(Engine(Settings())).get_api_info()["named_endpoints"]
    shared = {parameter["parameter_name"]: parameter for parameter in endpoints["/text"]["parameters"]}
    settings = _table(
        (f"`{name}`", Text(f"label.{name}").en, _allowed(name, shared[name]), _default(shared[name]))
        for name in _COMMON
    )
    sections = [_section(tab.name, endpoints[f"/{tab.name}"]["parameters"]) for tab in TABS]
    return "\n".join([_HEAD + settings + _RESULT, *sections, _HELPERS])


def _table(rows) -> str:
    heading = ["| parameter | meaning | allowed | default |", "|---|---|---|---|"]
    return "\n".join([*heading, *(f"| {' | '.join(row)} |" for row in rows)]) + "\n"


def _allowed(name: str, parameter: dict[str, Any]) -> str:
    if name == "loras":
        return f"up to {LIMITS.loras}: name or file, and weight, {LIMITS.lora_weight}"
    if name == "controlnet_kind":
        return ", ".join(CONTROLNET_KINDS)
    if name == "format":
        return ", ".join(FORMATS)
    limit = getattr(LIMITS, (SETTINGS | LATER_SETTINGS).get(name, name) or "none", None)
    return str(limit) if limit else _KINDS[parameter["component"]]


def _default(parameter: dict[str, Any]) -> str:
    value = parameter["parameter_default"]
    return "none" if value in (None, "", []) or isinstance(value, dict) else json.dumps(value)


def _section(name: str, parameters: list[dict[str, Any]]) -> str:
    own = [parameter for parameter in parameters if parameter["parameter_name"] not in _COMMON]
    rows = ((f"`{p['parameter_name']}`", p["label"], _allowed("", p), _default(p)) for p in own)
    given = EXAMPLES[name] | _EXAMPLE_SETTINGS
    return f"## {name}\n\n{Text(f'hint.{name}').en}\n\n{_table(rows)}\n{_python(name, given)}\n{_curl(name, given)}"


def _python(name: str, given: dict[str, Any]) -> str:
    files = _variables(given)
    handled = ", handle_file" if files else ""
    uploads = "".join(f'{variable.lower()} = handle_file("{file.as_posix()}")\n' for file, variable in files.items())
    arguments = "".join(f"    {key}={_literal(value, files)},\n" for key, value in given.items())
    return f"""```python
from gradio_client import Client{handled}

client = Client("http://127.0.0.1:7860")
{uploads}images, progress, answer, report, job, preview = client.predict(
{arguments}    api_name="/{name}",
)
print(images[0]["image"], report["seeds"], answer)
```
"""


def _literal(value: Any, files: dict[Path, str]) -> str:
    if isinstance(value, Path):
        return files[value].lower()
    if isinstance(value, list):
        return f"[{', '.join(_literal(item, files) for item in value)}]"
    if isinstance(value, dict):
        return "{" + ", ".join(f'"{key}": {_literal(item, files)}' for key, item in value.items()) + "}"
    return json.dumps(value) if isinstance(value, str) else repr(value)


def _curl(name: str, given: dict[str, Any]) -> str:
    files = _variables(given)
    uploads = "".join(
        f'{variable}=$(curl -s "$X2I/gradio_api/upload" -F "files=@{file.as_posix()}" | tr -d \'[]"\')\n'
        for file, variable in files.items()
    )
    body = json.dumps(given, default=lambda file: {"path": f"${files[file]}"} | _FILE)
    return f"""```bash
X2I=http://127.0.0.1:7860
JSON="Content-Type: application/json"
{uploads}EVENT=$(curl -s "$X2I/gradio_api/call/v2/{name}" -H "$JSON" -d @- <<END | cut -d '"' -f 4
{body}
END
)
curl -s "$X2I/gradio_api/call/{name}/$EVENT" > answer.txt
curl -s "$(grep -o 'http[^"]*[.]png' answer.txt | tail -n 1)" > image.png
```
"""


def _variables(given: dict[str, Any]) -> dict[Path, str]:
    return {file: f"FILE{number}" for number, file in enumerate(_files(given), 1)}


def _files(value: Any) -> list[Path]:
    if isinstance(value, Path):
        return [value]
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [file for item in inside for file in _files(item)]


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(write_docs(), encoding="utf-8")
