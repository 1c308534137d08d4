"""The stable HTTP endpoints, through a real gradio_client against the real app."""

import html
import json
from pathlib import Path

import httpx
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import Image
from safety.client import call
from waiting import wait_until

from x2i_app import notes
from x2i_app.controlnet import CONTROLNET_SETTINGS
from x2i_app.media import read_recipe
from x2i_app.media.hashing import path_hash
from x2i_app.request import LATER_SETTINGS, VIDEO_SETTINGS
from x2i_app.settings import ASSETS
from x2i_app.ui.i18n import TEXTS
from x2i_app.ui.mask_editor import MASK_OPTIONS

EXAMPLES = ASSETS / "examples"
IMAGE = handle_file(EXAMPLES / "images/boat-at-sunset.png")
VIDEO = handle_file(EXAMPLES / "videos/rocket-at-night.mp4")
AUDIO = handle_file(EXAMPLES / "audios/rain-at-sea.wav")
SETTINGS = {"width": 64, "height": 96, "steps": 2, "guidance": 3.5, "seed": 9, "count": 1, "reason": False, "loras": []}

NO_INPAINTING = {"mask": None, "strength": 1, "left": 0, "top": 0, "right": 0, "bottom": 0}

INPUTS = {
    "text": {"prompt": "雪地上的红房子"},
    "image": {"images": [{"image": IMAGE, "caption": None}]},
    "image_text": {"image": IMAGE, "prompt": "make it night", "control": 1, "history": None, **NO_INPAINTING},
    "video": {"video": VIDEO, "prompt": ""},
    "audio": {"audio": AUDIO, "prompt": "with a boat"},
    "fusion": {"message": {"text": "all", "files": [IMAGE, VIDEO, AUDIO]}},
}


@pytest.fixture(scope="module")
def client(server, tmp_path_factory):
    return Client(server, verbose=False, download_files=tmp_path_factory.mktemp("downloads"))


@pytest.mark.parametrize("endpoint", INPUTS)
def test_an_endpoint_returns_a_png_and_its_settings(client, endpoint):
    images, progress, answer, report, job, preview = client.predict(
        **INPUTS[endpoint], **SETTINGS, api_name=f"/{endpoint}"
    )
    with Image.open(images[0]["image"]) as image:
        assert (image.format, image.size) == ("PNG", (64, 96))
    recipe = read_recipe(images[0]["image"])
    assert (recipe.request.seed, recipe.request.height, recipe.preset) == (9, 96, "x2i-tiny")
    assert "Done" in progress
    assert (report["seeds"], report["steps"], report["height"]) == ([9], 2, 96)
    assert report["answer"] in answer
    assert len(job) == 32
    assert preview == ""
    if endpoint in ("audio", "fusion"):
        note = notes.HEARD.format(seconds="4.0")
        assert note in answer
        with Image.open(images[0]["image"]) as image:
            assert note in json.loads(image.info["x2i"])["notes"]


@pytest.mark.parametrize(("form", "name"), [("webp", "WEBP"), ("jpg", "JPEG")])
def test_file_format(client, form, name):
    """The image comes in the format that was asked for, with its settings; its name has the seed and the prompt."""
    values = SETTINGS | {"format": form, "width": 70, "seed": -1}
    images, _, answer, report, *_ = client.predict(prompt="a (red:1.2) house", **values, api_name="/text")
    with Image.open(images[0]["image"]) as image:
        assert (image.format, image.size) == (name, (64, 96))
    recipe = read_recipe(images[0]["image"])
    assert (recipe.request.prompt, [recipe.request.seed]) == ("a red house", report["seeds"])
    assert Path(images[0]["image"]).name.endswith(f"-{report['seeds'][0]}-a-red-house.{form}")
    for note in ("width 70 was changed to 64, the nearest multiple of 16.", "only their text is used: (red:1.2)"):
        assert note in answer
        assert any(note in each for each in report["notes"])


def test_unknown_file_format(client):
    with pytest.raises(AppError) as refused:
        client.predict(prompt="a house", **SETTINGS, format="gif", api_name="/text")
    assert html.unescape(str(refused.value)) == "format is 'gif'; choose one of png, jpg, webp."


def test_settings_of_earlier_versions(server):
    """A program that sends its values by position, without the file format, which came later."""
    values = ["a red house", *SETTINGS.values()]
    assert call(server, "text", values).startswith("complete")
    assert "8 values came and" in call(server, "text", values[:-1])


@pytest.mark.parametrize(
    ("chosen", "browser", "language"),
    [
        ("zh", "en-US", "zh-CN"),
        ("en", "zh-CN", "en"),
        ("", "zh-HK,en;q=0.5", "zh-CN"),
        ("", "de-DE", "en"),
        ("zz", "zh", "zh-CN"),
        ("<b>", "en", "en"),
    ],
)
def test_the_page_in_the_chosen_language(server, chosen, browser, language):
    """It is said before Gradio's script asks for the browser's. Other values of the cookie count for nothing."""
    page = httpx.get(server, headers={"cookie": f"x2i-language={chosen}", "accept-language": browser})
    assert f'<head><script>Object.defineProperty(navigator, "language", {{value: "{language}"}});</script>' in page.text
    assert page.text.rstrip().endswith("</html>")


def test_what_the_model_cannot_read_is_named(client):
    images, _, answer, report, *_ = client.predict(
        prompt="una casa roja en la nieve de noche", **SETTINGS, api_name="/text"
    )
    (note,) = report["notes"]
    assert note.startswith("The prompt seems to be Spanish, which this model cannot read. ")
    understood, *noted = answer.splitlines()
    assert understood == notes.readable_answer(report["answer"])
    assert noted == [note]
    with Image.open(images[0]["image"]) as image:
        assert note in json.loads(image.info["x2i"])["notes"]


def test_a_conversation_keeps_to_its_last_image(client):
    images, _, _, report, *_ = client.predict(**INPUTS["image_text"], **SETTINGS, api_name="/image_text")
    generated = images[0]["image"]
    turn = {
        "prompt": "make it night",
        "images": [IMAGE],
        "answer": report["answer"],
        "result": handle_file(generated),
    }
    results = []
    for history in ([turn], [{"prompt": "a red house"}]):
        images, _, answer, report, *_ = client.predict(
            prompt="make it day", control=1, history=history, **SETTINGS, api_name="/image_text"
        )
        results.append((answer, report["control"]))
        request = read_recipe(images[0]["image"]).request
        assert [turn.prompt for turn in request.history] == [turn["prompt"] for turn in history]
        assert request.source_image == (path_hash(generated) if "result" in history[0] else None)
    assert [control for _, control in results] == [1, 0], "the second conversation has no image"
    assert "boat" in results[0][0]
    assert "house" in results[1][0]


@pytest.mark.parametrize(
    ("history", "sentence"),
    [
        (5, "history is 5; it must be a list of turns"),
        ([5], "history contains 5; each turn must"),
        ([{"images": ["/etc/passwd"]}], "upload it, and send the path that the upload returned"),
        ([{"result": 5}], "upload it, and send the path that the upload returned"),
        ([{"prompt": "a"}] * 17, "The conversation has 17 turns and 16 are allowed. Start over."),
    ],
    ids=["number", "numbers", "file", "result", "turns"],
)
def test_a_malformed_conversation_is_refused(client, history, sentence):
    with pytest.raises(AppError) as raised:
        client.predict(prompt="on", history=history, **SETTINGS, api_name="/image_text")
    assert sentence in html.unescape(str(raised.value))


def test_the_endpoints_and_their_parameters_are_named(client):
    described = client.view_api(print_info=False, return_format="dict")["named_endpoints"]
    assert set(described) == {f"/{name}" for name in (*INPUTS, "status", "cancel")}
    for name, given in INPUTS.items():
        names = [parameter["parameter_name"] for parameter in described[f"/{name}"]["parameters"]]
        later = (*MASK_OPTIONS, "reference", "edit") if name == "image_text" else ()
        assert names == [
            *given,
            *SETTINGS,
            "format",
            *later,
            *LATER_SETTINGS,
            *CONTROLNET_SETTINGS,
            *(VIDEO_SETTINGS if name in ("video", "fusion") else ()),
        ]  # calls by position stay valid


def test_the_settings_have_defaults(client):
    images, _, _, report, *_ = client.predict(prompt="a house", api_name="/text")
    assert (report["width"], report["height"], report["steps"]) == (128, 128, 8)
    with Image.open(images[0]["image"]) as image:
        assert image.size == (128, 128)


def test_status(client):
    client.predict(prompt="wait until it is loaded", **SETTINGS, api_name="/text")
    assert client.predict(api_name="/status") == {"state": "ready", "detail": "", "waiting": 0, "preset": "x2i-tiny"}


def test_cancel_stops_a_running_job_by_its_id(client):
    running = client.submit(prompt="long", **SETTINGS | {"steps": 100, "width": 512, "height": 512}, api_name="/text")
    job = wait_until(running.outputs)[-1][4]
    client.predict(job, api_name="/cancel")
    running.result(timeout=300)
    assert "Stopped" in running.outputs()[-1][1]
    assert client.predict("no such job", api_name="/cancel") == "There is no such job."


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"width": 4000}, "width is 4000; it must be 64 to 2048 in steps of 16"),
        ({"steps": 2.5}, "num_inference_steps is 2.5; it must be a whole number"),
        ({"seed": -2}, "seed is -2; it must be"),
        ({"count": 99}, "num_images_per_prompt is 99; it must be 1 to 8"),
        ({"seed": True}, "seed is True; it must be a number"),
        ({"seed": 2.5}, "seed is 2.5; it must be a whole number"),
        ({"seed": "5"}, "seed is '5'; it must be a number"),
        ({"width": []}, "width is []; it must be a number"),
        ({"steps": {}}, "num_inference_steps is {}; it must be a number"),
        ({"reason": "no"}, "reason is 'no'; it must be true or false"),
        ({"prompt": 5}, "prompt is 5; it must be text"),
        ({"prompt": []}, "prompt is []; it must be text"),
        ({"guidance": True}, "guidance_scale is True; it must be a number"),
        ({"prompt": "a\x00b"}, "prompt contains a control character"),
        ({"prompt": ""}, "Type a prompt first."),
        ({"prompt": " \n"}, "Type a prompt first."),
        ({"loras": [{"file": "nobody/some-lora"}]}, "There is no LoRA 'nobody/some-lora' here; choose from striped"),
        ({"loras": [{"file": "striped", "weight": 3}]}, "weight of a LoRA is 3.0; it must be -2 to 2"),
        ({"loras": [{"file": "striped"}] * 5}, "5 loras were given; at most 4 are allowed"),
    ],
)
def test_bad_values_are_refused_in_one_sentence(client, changes, sentence):
    with pytest.raises(AppError) as raised:
        client.predict(**{"prompt": "a house"} | SETTINGS | changes, api_name="/text")
    assert sentence in html.unescape(str(raised.value))
    assert "Traceback" not in str(raised.value)


@pytest.mark.parametrize("value", ["NaN", "Infinity", "1e400"])
def test_numbers_outside_of_json_are_refused(server, value):
    body = f'{{"data": ["a house", 64, 64, 2, 3.5, {value}, 1, false, []]}}'
    assert "seed is" in call(server, "text", body.encode())


def test_an_image_as_a_link_is_refused(server):
    image = '{"url": "file:///etc/passwd", "meta": {"_type": "gradio.FileData"}}'
    body = f'{{"data": [{image}, "a house", 1, null, null, 1, 0, 0, 0, 0, 64, 64, 2, 3.5, 1, 1, false, []]}}'
    assert "Upload the file itself" in call(server, "image_text", body.encode())


def test_null_settings_take_the_defaults(server):
    answer = call(server, "text", ["a house", *[None] * len(SETTINGS)])
    assert '"steps": 8' in answer


def test_an_animation_counts_as_a_video(client, tmp_path):
    frames = [Image.new("RGB", (32, 32), color) for color in ("red", "green", "blue")]
    frames[0].save(tmp_path / "animation.gif", save_all=True, append_images=frames[1:], duration=500)
    frames[0].save(tmp_path / "still.gif")
    results = []
    for name in ("animation.gif", "still.gif"):
        message = {"text": "", "files": [handle_file(tmp_path / name)]}
        results.append(client.predict(message=message, **SETTINGS, api_name="/fusion")[0][0]["image"])
    first, second = (Path(path).read_bytes() for path in results)
    assert first != second


EMPTY = {
    "text": {"prompt": ""},
    "image": {"images": []},
    "image_text": {"prompt": None},
    "video": {"prompt": " "},
    "audio": {"audio": None},
    "fusion": {"message": {"text": "", "files": []}},
}


@pytest.mark.parametrize("endpoint", EMPTY)
def test_an_empty_input_is_refused(client, endpoint):
    """Each tab says what to add to it."""
    with pytest.raises(AppError) as raised:
        client.predict(**EMPTY[endpoint], **SETTINGS, api_name=f"/{endpoint}")
    assert TEXTS["en"][f"empty.{endpoint}"] in str(raised.value)
