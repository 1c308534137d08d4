"""R1, R10, T9, T10 and T11 of SECURITY.md: the page's functions with values that the page never sends."""

import io
import json
import re
import zipfile
from pathlib import Path

import pytest
from PIL import Image
from safety.client import CALL, NO_INPAINTING, SETTINGS, Answer, as_file, ask, completions, in_parallel, upload
from safety.full_disk import full_disk

pytestmark = pytest.mark.usefixtures("unharmed")


def run(server: str, function: dict, data: list, **more) -> Answer:
    """Call a function by its number, as the page does."""
    body = {"data": data, "fn_index": function["id"], "session_hash": "stranger"} | more
    return ask(server, "POST", f"/gradio_api/run/{function['api_name']}", body)


def join(server: str, function: dict, data: list, session: str = "stranger") -> tuple[bool, str]:
    """Call a function by its number through Gradio's queue; whether it succeeded, and its output."""
    body = {"data": data, "fn_index": function["id"], "session_hash": session}
    assert ask(server, "POST", "/gradio_api/queue/join", body).status == 200
    return next(completions(server, session))


def hostile(folder: Path) -> list:
    """Values that no component of the page has; files that are missing, a folder, or an address."""
    gone, directory = as_file(str(folder / "gone.png")), as_file(str(folder))
    elsewhere = gone | {"url": "http://169.254.169.254/a.png"}
    return [
        *(None, -1, True, "<img src=x onerror=window.p=1>", [], {"a": 1}, [[5]], gone),
        *({"text": 5, "files": [gone]}, {"text": "", "files": [directory]}, [{"image": directory, "caption": "x"}]),
        *([{"file": "<img src=x>", "weight": -1e308}] * 9, [{"file": gone}], [{"file": directory, "weight": 0}]),
        *(10**300, [10**30], {"a": 10**30}, "half a character \ud800", {"\udfff": "a"}),
        *(elsewhere, [{"image": elsewhere, "caption": "x"}], {"url": elsewhere["url"]}, [{"file": elsewhere}]),
    ]


_INDICES = (-1, "0", None, 0.5, [0], 10**30, True)
EVENTS = (
    *(None, {}, [], "x", 5, {"index": 0}, {"value": 0}),
    *({"index": index, "value": None} for index in _INDICES),
)


def complaint(answer: Answer) -> str | None:
    """An answer that is neither a result nor one of the app's own sentences; None if it is one of them."""
    if answer.status == 200:
        return None
    error, detail = answer.json().get("error", ""), answer.json().get("detail", "")  # of Gradio, of RequestGuard
    fine = error and "<img" not in error and "internal error" not in error
    return None if fine or detail.endswith(".") else answer.text[:200]


# test_hostile_files and test_bodies attack the functions that generate images. Loading the model takes too long.
NOT_HERE = {"text", "image", "image_text", "video", "audio", "fusion", "switch", "unload"}
# It plans the memory of a model, which takes a third of a second. Its inputs are handled alike.
SLOW = {"needs"}


def test_r1_functions_refuse_hostile_values(app, functions):
    """Each function is called with each value in place of each of its inputs; none fails by an internal error."""
    folder = Path(upload(app.url, ("a.png", b"x")).json()[0]).parents[1]
    tries = []
    for function in functions:
        count = len(function["inputs"])
        places = range({**dict.fromkeys(NOT_HERE, 0), **dict.fromkeys(SLOW, 1)}.get(function["api_name"], count))
        good = [None] * count
        values = hostile(folder)
        tries += [(function, [*good[:at], value, *good[at + 1 :]], {}) for at in places for value in values]
        if function["collects_event_data"]:
            tries += [(function, good, {"event_data": event}) for event in EVENTS]
    assert len(tries) > 400
    for start in range(0, len(tries), 16):  # at once, each for another user
        batch = tries[start : start + 16]
        answers = in_parallel(lambda each: run(app.url, each[0], each[1], **each[2]), batch)
        problems = zip(batch, map(complaint, answers), strict=True)
        assert [
            (f["api_name"], json.dumps([data, event])[:200], why) for (f, data, event), why in problems if why
        ] == []
    assert "internal error" not in app.log.read_text()


def test_t11_an_updated_page_checks_its_inputs_too(server, functions):
    """An update, here by an example, makes Gradio create the component again. Its own would decode any image format."""
    file = io.BytesIO()
    Image.new("L", (8, 8)).save(file, "PPM")  # a format that the app does not accept
    image = as_file(upload(server, ("a.png", file.getvalue())).json()[0])
    by_name = {function["api_name"]: function for function in functions}
    assert run(server, by_name["load_example_3"], [0]).status == 200
    succeeded, output = join(server, by_name["image_text"], [image, "a house", 1, None, *NO_INPAINTING, *SETTINGS])
    assert not succeeded
    assert "is of an unknown kind" in output
    succeeded, output = join(server, by_name["text"], ["a house", "64", *SETTINGS[1:]])
    assert not succeeded
    assert "width is &#x27;64&#x27;" in output  # the string is not converted to a number
    assert run(server, by_name["add_known"], [None, None]).status == 200  # an update that changes nothing
    loras = [{"file": "striped", "weight": 1}]
    succeeded, output = join(server, by_name["text"], ["a house", *SETTINGS[:-1], loras])
    assert succeeded, output


def generate_in(server: str, functions: list[dict], session: str, prompt: str, count: int) -> None:
    """Generate images and keep them in the session's history, as the page does."""
    by_name = {function["api_name"]: function for function in functions}
    events = generate(server, [prompt, *SETTINGS[:5], count, *SETTINGS[6:]])
    job = re.findall(r'"([0-9a-f]{32})"', events)[-1]
    kept = run(server, by_name["add_result"], [None, job, "", False, None], session_hash=session)
    assert len(kept.json()["data"][2]) == count


def generate(server: str, data: list) -> str:
    """All events of a job."""
    event = ask(server, "POST", f"{CALL}/text", {"data": data}).json()["event_id"]
    return ask(server, "GET", f"{CALL}/text/{event}").text


def test_a_deleted_image_does_not_come_back(server, functions):
    """A page that was opened again may hear of a job only after its image was deleted."""
    by_name = {function["api_name"]: function for function in functions}
    events = generate(server, ["a red house", *SETTINGS])
    job = re.findall(r'"([0-9a-f]{32})"', events)[-1]
    heard = [None, job, "", False, None]
    assert len(run(server, by_name["add_result"], heard, session_hash="deleter").json()["data"][2]) == 1
    left = run(server, by_name["delete"], [None, None, "", False, None], session_hash="deleter").json()["data"]
    assert left[2] == []
    again = run(server, by_name["add_result"], heard, session_hash="deleter").json()["data"]
    assert again[2] == {"__type__": "update"}


def test_t9_an_error_contains_no_html_of_a_user(server):
    """Gradio's page shows errors as HTML."""
    events = generate(server, ["a house", *SETTINGS[:-1], [{"file": "<img src=x>", "weight": 1}]])
    assert "There is no LoRA" in events
    assert "&lt;img src=x&gt;" in events
    assert "<img" not in events


def test_r10_the_zip_file_is_written_once(server, functions):
    """However often the button is pressed. Each session gets only its own images."""
    pack = next(function for function in functions if function["api_name"] == "download_all")
    generate_in(server, functions, "packer", "a red house", 2)
    generate_in(server, functions, "neighbor", "a green boat", 1)
    pressed = in_parallel(lambda _: run(server, pack, [None], session_hash="packer"), range(100))
    files = {answer.json()["data"][0]["path"] for answer in pressed}
    other = run(server, pack, [None], session_hash="neighbor").json()["data"][0]["path"]
    assert len(files) == 1
    with zipfile.ZipFile(files.pop()) as archive:
        assert archive.testzip() is None
        assert sorted(archive.namelist()) == ["001-seed-8.png", "002-seed-7.png", "settings.json"]
        assert b"green boat" not in archive.read("settings.json")
    with zipfile.ZipFile(other) as archive:
        assert b"red house" not in archive.read("settings.json")
    assert "There is no image yet" in run(server, pack, [None], session_hash="nobody").json()["error"]


def test_r10_an_image_that_cannot_be_written(app, functions):
    """The error says so, and the image can be shown once the disk has room."""
    find = next(function for function in functions if function["api_name"] == "resume")
    with full_disk(app):
        events = generate(app.url, ["a red house", 512, 512, *SETTINGS[2:]])
    assert "event: error" in events
    assert "cannot be written" in events
    job = re.findall(r'"([0-9a-f]{32})"', events)[-1]
    succeeded, output = join(app.url, find, [job, ""])
    assert succeeded
    assert "Done" in output
