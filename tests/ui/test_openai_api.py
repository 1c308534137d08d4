"""OpenAI's images API: OpenAI's own client against the real app."""

import base64
import io
import json
import socket
from urllib.parse import urlsplit

import httpx
import numpy as np
import openai
import pytest
from PIL import Image
from safety.client import ask
from safety.local_app import local_app
from waiting import wait_until

from x2i_app.errors import InvalidRequestError
from x2i_app.request import GenerationRequest
from x2i_app.settings import ASSETS, Settings
from x2i_app.ui.http.limits import HTTP_LIMITS, HttpLimits
from x2i_app.ui.http.openai_api import Links

BOAT = ASSETS / "examples/images/boat-at-sunset.png"
KEY = "a-key-that-only-the-owner-has"
SMALL = {"size": "64x64", "extra_body": {"steps": 2, "seed": 9}}
GENERATIONS, EDITS = "/v1/images/generations", "/v1/images/edits"


@pytest.fixture(scope="module")
def client(server):
    with openai.OpenAI(base_url=f"{server}/v1", api_key="unused", max_retries=0, timeout=300) as client:
        yield client


@pytest.fixture(scope="module")
def guarded():
    """An app with a key, whose model is not loaded."""
    with local_app(HTTP_LIMITS, openai_api=True, openai_key=KEY) as app:
        yield app


def opened(data: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(data)))


def as_png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def error_of(answer) -> dict:
    return answer.json()["error"]


def test_any_model_is_answered_by_the_loaded_one(client):
    assert [model.id for model in client.models.list()] == ["x2i-tiny"]
    assert client.models.retrieve("gpt-image-1").id == "x2i-tiny"
    answer = client.images.generate(model="gpt-image-1", prompt="a red house on snow", n=2, **SMALL)
    assert answer.model == "x2i-tiny"
    assert [image.seed for image in answer.data] == [9, 10]
    first, second = (opened(image.b64_json) for image in answer.data)
    assert (first.format, first.size, answer.size, answer.output_format) == ("PNG", (64, 64), "64x64", "png")
    assert np.any(np.asarray(first) != np.asarray(second))
    settings = json.loads(first.info["x2i"])
    assert (settings["prompt"], settings["seed"], settings["num_inference_steps"]) == ("a red house on snow", 9, 2)
    assert "house" in answer.x2i["answer"] or answer.x2i["answer"] is None


def test_what_has_no_effect_is_named_and_auto_is_the_models_own(client):
    answer = client.images.generate(
        prompt="a red house", size="auto", quality="hd", style="vivid", background="auto", user="ann",
        output_format="jpeg", extra_body={"steps": 1, "seed": 1, "loras": ["striped"], "negative_prompt": None},
    )  # fmt: skip
    assert (opened(answer.data[0].b64_json).format, answer.size) == ("JPEG", "128x128")
    assert answer.x2i["loras"] == {"striped.safetensors": 1.0}
    assert [note.partition(" ")[0] for note in answer.x2i["notes"][:2]] == ["quality", "style"]


DEFAULTS = {  # of OpenAI's reference, with a small size
    "model": "gpt-image-1", "n": 1, "background": "auto", "output_compression": 100, "output_format": "png",
    "partial_images": 0, "quality": "auto", "response_format": "b64_json", "size": "64x64", "stream": False,
    "user": "ann",
}  # fmt: skip


def test_every_default_is_accepted_and_what_has_no_effect_is_told(client, server):
    def told(notes):
        return [note.partition(" ")[0] for note in notes if "has no effect" in note]

    given = {"prompt": "a red house", **DEFAULTS, "extra_body": {"steps": 1}}
    answer = client.images.generate(**given, moderation="auto", style="vivid")
    assert told(answer.x2i["notes"]) == ["style", "output_compression", "partial_images"]
    answer = client.images.edit(image=BOAT.open("rb"), **given, input_fidelity="low")
    assert told(answer.x2i["notes"]) == ["input_fidelity", "output_compression", "partial_images"]
    form = {"prompt": "a red house", **{name: str(value) for name, value in DEFAULTS.items()}, "reason": "False"}
    answer = httpx.post(f"{server}{EDITS}", data=form, files={"image": ("a.png", BOAT.read_bytes())}, timeout=300)
    assert answer.status_code == 200, answer.text


# What other programs send, read in their source; with smaller sizes.
OPEN_WEBUI = [  # backend/open_webui/routers/images.py
    ("generations?api-version=1", {"model": "x2i-tiny", "n": 1, "size": "64x64", "response_format": "b64_json"}, ()),
    ("generations", {"model": "gpt-image-1", "n": 1, "size": "auto"}, ()),
    ("edits?api-version=1", {"model": "", "response_format": "b64_json"}, ("image",)),
    ("edits", {"model": "gpt-image-1", "n": 1, "size": "64x64", "background": "auto"}, ("image[]", "image[]")),
]
LIBRECHAT = [  # api/app/clients/tools/structured/DALLE3.js and OpenAIImageTools.js
    ("generations", {"model": "dall-e-3", "quality": "hd", "style": "vivid", "size": "64x64", "n": 1}, ()),
    (
        "generations",
        {"model": "gpt-image-2.5-flare", "n": 1, "background": "auto", "output_format": "png", "quality": "auto"}
        | {"size": "auto"},
        (),
    ),
    ("edits", {"model": "gpt-image-2.5-flare", "quality": "auto", "size": "auto"}, ("image[]",)),
]
PHP = [  # whose forms have each name once
    ("edits", {"model": "gpt-image-2", "size": "64x64", "loras[0]": "striped"}, ("image[0]", "image[1]")),
]


@pytest.mark.parametrize(("route", "given", "images"), OPEN_WEBUI + LIBRECHAT + PHP)
def test_what_other_programs_send_is_answered_as_they_expect(server, route, given, images):
    """The key comes as a header in each. Edits are forms, whose values are texts, with one file per image."""
    given = {"prompt": "a red house"} | given
    headers = {"Authorization": "Bearer unused"}
    if images:
        files = [(name, (f"{number}.png", BOAT.read_bytes(), "image/png")) for number, name in enumerate(images)]
        parts = {"data": {name: str(value) for name, value in given.items()}, "files": files}
    else:
        parts = {"json": given}
    answer = httpx.post(f"{server}/v1/images/{route}", headers=headers, timeout=300, **parts)
    assert answer.status_code == 200, answer.text
    (image,) = answer.json()["data"]
    if given["model"] == "dall-e-3":  # whose name asks for an address
        assert (list(image), image["url"].rpartition(".")[2]) == (["url", "seed"], "png")
        data = httpx.get(image["url"]).content
    else:
        assert list(image) == ["b64_json", "seed"]
        data = base64.b64decode(image["b64_json"])
    expected = (64, 64) if given.get("size") == "64x64" else (128, 128)
    drawn = Image.open(io.BytesIO(data))
    settings = json.loads(drawn.info["x2i"])
    assert (drawn.size, len(settings.get("images", ()))) == (expected, len(images))
    assert bool(settings.get("loras")) == ("loras[0]" in given)


def test_the_name_of_the_model_chooses_the_form_as_openais_own_does(client):
    for model, given, form in (("dall-e-2", {}, "url"), ("dall-e-3", {"response_format": "b64_json"}, "b64_json")):
        (image,) = client.images.generate(model=model, prompt="a red house", **given, **SMALL).data
        assert getattr(image, form)
        assert not getattr(image, {"url": "b64_json", "b64_json": "url"}[form])


def test_an_address_shows_the_image_without_the_key(client, server):
    answer = client.images.generate(prompt="a red house", response_format="url", **SMALL)
    url = answer.data[0].url
    assert url.startswith(f"{server}/v1/images/files/")
    image = httpx.get(url)
    assert (image.status_code, image.headers["content-type"]) == (200, "image/png")
    assert "sandbox" in image.headers["content-security-policy"]
    assert Image.open(io.BytesIO(image.content)).size == (64, 64)
    path = urlsplit(url).path
    assert ask(server, "GET", path.replace(path[17:49], "a" * 32)).status == 404
    assert ask(server, "GET", f"/v1/images/files/{'../' * 8}etc/passwd").status == 404


def test_addresses_end(tmp_path):
    now = [0.0]
    file = tmp_path / "a.png"
    file.touch()
    links = Links(HttpLimits(links=2, link_seconds=60), clock=lambda: now[0])
    routes = [links.add(str(file)) for _ in range(3)]
    assert [links.find(route) for route in routes] == [None, str(file), str(file)]
    now[0] = 59
    assert links.find(routes[2]) == str(file)
    now[0] = 60
    assert links.find(routes[2]) is None


def test_an_edit_reads_the_image_and_follows_it(client):
    plain, followed = (
        client.images.edit(
            image=BOAT.open("rb"), prompt="make it night", size="auto", extra_body={"steps": 2, "seed": 3, **own}
        )
        for own in ({"control": 0}, {})
    )
    settings = json.loads(opened(followed.data[0].b64_json).info["x2i"])
    assert (settings["control_strength"], len(settings["images"])) == (1, 1)
    assert plain.x2i["control"] == 0
    assert plain.data[0].b64_json != followed.data[0].b64_json
    fused = client.images.edit(image=[BOAT.open("rb"), BOAT.open("rb")], prompt="both", **SMALL)
    settings = json.loads(opened(fused.data[0].b64_json).info["x2i"])
    assert (len(settings["images"]), settings["control_strength"]) == (2, 0)


@pytest.mark.parametrize("model", ["gpt-image-2", "dall-e-2"])  # of which the second takes an image as its own mask
def test_transparent_pixels_of_a_mask_are_edited(client, model):
    boat = Image.open(BOAT).convert("RGB").resize((128, 128))
    mask = Image.new("RGBA", boat.size, (0, 0, 0, 255))
    mask.paste((255, 255, 255, 0), (0, 0, 128, 48))
    clear = boat.convert("RGBA")
    clear.putalpha(mask.getchannel("A"))
    files = {"gpt-image-2": {"image": boat, "mask": mask}, "dall-e-2": {"image": clear}}[model]
    answer = client.images.edit(
        **{name: (f"{name}.png", as_png(file)) for name, file in files.items()}, prompt="a moon", model=model,
        response_format="b64_json", extra_body={"steps": 4, "seed": 3, "mask_feather": 0},
    )  # fmt: skip
    edited, before = np.asarray(opened(answer.data[0].b64_json)), np.asarray(boat)
    assert np.array_equal(edited[56:], before[56:])
    assert np.any(edited[:40] != before[:40])


REFUSED = [
    ({}, "prompt", "prompt is empty; describe the image."),
    ({"prompt": " "}, "prompt", "prompt is empty"),
    ({"prompt": 5}, "prompt", "prompt is 5; it must be text."),
    ({"prompt": "word " * 8000}, "prompt", "prompt is 40,000 bytes long; at most"),
    ({"prompt": "a\0b"}, "prompt", "prompt contains a control character"),
    ({"prompt": "a", "wide": 1}, "wide", "There is no field 'wide'; use prompt, model, size"),
    ({"prompt": "a", "control": 1}, "control", "There is no field 'control'; use"),
    ({"prompt": "a", "n": 9}, "n", "n is 9; it must be 1 to 8."),
    ({"prompt": "a", "n": "2"}, "n", "n is '2'; it must be a number"),
    ({"prompt": "a", "size": "big"}, "size", "size is 'big'; it must be \"auto\", or WIDTHxHEIGHT"),
    ({"prompt": "a", "size": "4000x64"}, "size", "The width in size is 4000; it must be"),
    ({"prompt": "a", "steps": 0}, "steps", "steps is 0; it must be 1 to 100."),
    ({"prompt": "a", "seed": 1.5}, "seed", "seed is 1.5; it must be a whole number"),
    ({"prompt": "a", "stream": True}, "stream", "stream is not supported"),
    ({"prompt": "a", "background": "transparent"}, "background", "This model draws no transparent images; leave"),
    ({"prompt": "a", "background": "blue"}, "background", "background is 'blue'; choose one of auto, opaque"),
    ({"prompt": "a", "response_format": "png"}, "response_format", "choose one of b64_json, url"),
    ({"prompt": "a", "output_format": "gif"}, "output_format", "output_format is 'gif'; choose one of png, jpg, webp"),
    ({"prompt": "a", "loras": "striped"}, "loras", "loras is 'striped'; it must be a list"),
    ({"prompt": "a", "loras": ["nobody"]}, "loras", "There is no LoRA 'nobody' here"),
    ({"prompt": "a", "loras": ["/etc/passwd"]}, "loras", "There is no LoRA '/etc/passwd' here"),
    ({"prompt": "a", "loras": [{"file": {"path": "/etc/passwd"}}]}, "loras", "it must be a list of names"),
    ({"prompt": "a", "loras": [{"file": "striped", "weight": "1"}]}, "loras", "each needs file, a name, and weight"),
    ([], None, "The body is not a JSON object"),
    (b"{", None, "The body is not JSON"),
]


@pytest.mark.parametrize(("body", "name", "sentence"), REFUSED, ids=lambda value: str(value)[:40])
def test_bad_fields_are_named_in_openais_form(server, body, name, sentence):
    answer = ask(server, "POST", GENERATIONS, body)
    error = error_of(answer)
    assert (answer.status, error["type"], error["param"]) == (400, "invalid_request_error", name), error
    assert sentence in error["message"]
    assert answer.headers["x-should-retry"] == "false"


def test_bad_edits_are_named(client):
    boat, opaque, wide = BOAT.read_bytes(), as_png(Image.new("RGB", (8, 8))), as_png(Image.new("RGBA", (200, 50)))
    for name, sentence, given in (
        ("mask", "'m.png' is damaged or incomplete", {"image": ("a.png", boat), "mask": ("m.png", boat[:100])}),
        ("mask", "mask has no transparent pixels", {"image": ("a.png", boat), "mask": ("m.png", opaque)}),
        (
            "mask",
            "mask has 200 x 50 pixels, and the image has 256 x 256; send a mask of",
            {"image": ("a.png", boat), "mask": ("m.png", wide)},
        ),
        ("steps", "steps is 'many'; it must be a number", {"image": ("a.png", boat), "extra_body": {"steps": "many"}}),
        ("outpaint", "outpaint is 0 on all four", {"image": ("a.png", boat), "extra_body": {"outpaint": [0, 0, 0, 0]}}),
        ("control", "control is 9", {"image": ("a.png", boat), "extra_body": {"control": 9}}),
        (None, "is a text file; use a PNG", {"image": ("a.png", b"text")}),
    ):
        with pytest.raises(openai.BadRequestError) as refused:
            client.images.edit(prompt="a", **given)
        assert refused.value.body["param"] == name
        assert sentence in refused.value.body["message"]
    for form, sentence in (
        ({"image": (None, "http://127.0.0.1:1/a.png")}, "image must be a file"),
        ({"mask": ("m.png", opaque)}, "image is missing; send the image to edit"),
        ({"image": ("a.png", boat), "n": ("n.png", boat)}, "n must be a value and not a file"),
        ([("image", ("a.png", boat)), *[("mask", ("m.png", opaque))] * 2], "2 masks came; send one"),
        ([("image", ("a.png", boat)), *[("n", (None, "1"))] * 2], "'n' came twice; send it once"),
        ([("image", ("a.png", boat)), ("n", (None, "1")), ("n[]", (None, "1"))], "'n' came twice; send it once"),
        ({"image": ("a.png", boat), "loras[]": (None, json.dumps([[]] * 100_000))}, "more than"),
        ({"image": ("a.png", boat), "loras[]": (None, "[" * 40 + "]" * 40)}, "nested deeper than"),
    ):
        parts = [*(form.items() if isinstance(form, dict) else form), ("prompt", (None, "a"))]
        answer = httpx.post(f"{client.base_url}images/edits", files=parts)
        assert answer.status_code in (400, 413), answer.text
        assert sentence in error_of(answer)["message"]
    answer = httpx.post(f"{client.base_url}images/edits", json={"prompt": "a", "image": "data:image/png;base64,AAAA"})
    assert "must be multipart/form-data; send the files as its parts." in error_of(answer)["message"]
    for content_type in ("multipart/form-data", "multipart/form-data; boundary=x"):  # set by hand in many scripts
        answer = httpx.post(f"{client.base_url}images/edits", content=b"a", headers={"Content-Type": content_type})
        assert answer.status_code == 400, answer.text
        assert error_of(answer)["message"].endswith(
            "; let your HTTP client write the form and its Content-Type, with the boundary."
        )
    large = [("image", ("a.png", boat)), ("prompt", (None, "a")), *[("loras[]", (None, "x" * 900_000))] * 6]
    answer = httpx.post(f"{client.base_url}images/edits", files=large)
    assert (answer.status_code, "characters; send less" in error_of(answer)["message"]) == (413, True), answer.text
    answer = httpx.post(f"{client.base_url}images/generations", content=b'{"prompt": "a", "\\ud800": 1}')
    assert (answer.status_code, error_of(answer)["param"]) == (400, "\\ud800"), answer.text


def test_routes_methods_and_origins(server):
    for method, path, status in (
        ("GET", GENERATIONS, 405), ("POST", "/v1/models", 405), ("OPTIONS", EDITS, 405), ("PUT", "/v1/models/a", 405),
        ("POST", "/v1/images/variations", 404), ("GET", "/v1", 404), ("GET", "/v1/", 404), ("GET", "/v1/files", 404),
    ):  # fmt: skip
        assert ask(server, method, path).status == status, path
    for headers, status in (({"Origin": "https://evil.example"}, 403), ({"Host": "evil.rebind"}, 400)):
        answer = ask(server, "POST", GENERATIONS, {"prompt": "a"}, headers)
        assert (answer.status, bool(error_of(answer)["message"])) == (status, True)
    large = ask(server, "POST", GENERATIONS, b" " * (HTTP_LIMITS.json_bytes + 1))
    assert (large.status, "are allowed; send less" in error_of(large)["message"]) == (413, True)


def test_a_client_that_disconnects_stops_its_job():
    with local_app(HTTP_LIMITS, openai_api=True) as app:  # its engine has not started, so that the job waits for ever
        address = urlsplit(app.url)
        with socket.create_connection((address.hostname, address.port)) as client:
            body = b'{"prompt": "a red house"}'
            head = f"POST {GENERATIONS} HTTP/1.1\r\nHost: {address.netloc}\r\nContent-Length: {len(body)}\r\n\r\n"
            client.sendall(head.encode() + body)
            wait_until(lambda: app.engine.status.waiting == 1)
        wait_until(lambda: app.engine.status.waiting == 0)


def test_every_route_needs_the_key(guarded):
    wrong = ({}, {"Authorization": "Bearer"}, {"Authorization": f"Basic {KEY}"}, {"Authorization": f"Bearer {KEY}x"})
    right = {"Authorization": f"Bearer {KEY}"}
    for (method, path), headers in zip(
        (("GET", "/v1/models"), ("GET", "/v1/models/a"), ("POST", GENERATIONS), ("POST", EDITS)), wrong, strict=True
    ):
        answer = ask(guarded.url, method, path, {"prompt": "a"} if method == "POST" else None, headers)
        assert (answer.status, error_of(answer)["code"]) == (401, "invalid_api_key"), path
    assert KEY not in answer.text
    assert ask(guarded.url, "GET", "/v1/models", None, right).status == 200
    statuses = [ask(guarded.url, "GET", "/v1/models", None, wrong[3]).status for _ in range(8)]
    assert statuses == [401] * (HTTP_LIMITS.logins - len(wrong)) + [429] * 2
    locked = ask(guarded.url, "GET", "/v1/models", None, right)  # otherwise a guess could be checked meanwhile
    assert (locked.status, error_of(locked)["type"]) == (429, "rate_limit_error")


def test_a_full_queue_is_429():
    with local_app(HTTP_LIMITS, openai_api=True, queue_size=1) as app:
        app.engine.submit(GenerationRequest(prompt="a"))
        answer = ask(app.url, "POST", GENERATIONS, {"prompt": ""})  # refused before its values are looked at
        assert (answer.status, answer.headers["x-should-retry"]) == (429, "true")
        assert error_of(answer)["code"] == "rate_limit_exceeded"


def test_off_by_default():
    with local_app(HTTP_LIMITS) as app:
        for method, path in (("GET", "/v1/models"), ("POST", GENERATIONS), ("POST", EDITS)):
            assert ask(app.url, method, path, {"prompt": "a"} if method == "POST" else None).status == 404


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"openai_api": True, "host": "0.0.0.0"}, "set X2I_OPENAI_KEY"),
        ({"openai_api": True, "share": True}, "set X2I_OPENAI_KEY"),
        ({"openai_api": True, "login": "ann:a long password"}, "set X2I_OPENAI_KEY"),
        ({"openai_key": "short"}, "openai_key must be 16 or more letters"),
        ({"openai_key": "a key with some spaces"}, "openai_key must be 16 or more letters"),
    ],
)
def test_nobody_opens_it_to_everybody_by_accident(settings, sentence):
    with pytest.raises(InvalidRequestError, match=sentence) as refused:
        Settings(**settings)
    assert "a key with" not in str(refused.value)
    assert KEY not in repr(Settings(openai_key=KEY))
