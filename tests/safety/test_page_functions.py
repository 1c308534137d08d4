"""R1, R10, T9, T10 and T11 of SECURITY.md: the page's own functions, whatever strangers send to them."""

import io
import json
import re
import zipfile
from pathlib import Path

import psutil
import pytest
from PIL import Image
from safety.client import CALL, NO_INPAINTING, SETTINGS, Answer, as_file, ask, completions, in_parallel, upload

pytestmark = pytest.mark.usefixtures("unharmed")


@pytest.fixture(scope="module")
def functions(server) -> list[dict]:
    """Every function of the page that runs on the server, those that the page alone calls too."""
    return [function for function in ask(server, "GET", "/config").json()["dependencies"] if function["backend_fn"]]


def run(server: str, function: dict, data: list, **more) -> Answer:
    """Call one by its number, as the page does."""
    body = {"data": data, "fn_index": function["id"], "session_hash": "stranger"} | more
    return ask(server, "POST", f"/gradio_api/run/{function['api_name']}", body)


def join(server: str, function: dict, data: list, session: str = "stranger") -> tuple[bool, str]:
    """Call one by its number and wait for its end: whether it went well, and what was said."""
    body = {"data": data, "fn_index": function["id"], "session_hash": session}
    assert ask(server, "POST", "/gradio_api/queue/join", body).status == 200
    return next(completions(server, session))


def hostile(folder: Path) -> list:
    """Values that no component of the page holds; a file that is gone, one that is a folder, one with an address."""
    gone, directory = as_file(str(folder / "gone.png")), as_file(str(folder))
    elsewhere = gone | {"url": "http://169.254.169.254/a.png"}
    return [
        *(None, -1, True, "<img src=x onerror=window.p=1>", [], {"a": 1}, [[5]], gone),
        *({"text": 5, "files": [gone]}, {"text": "", "files": [directory]}, [{"image": directory, "caption": "x"}]),
        *([{"file": "<img src=x>", "weight": -1e308}] * 9, [{"file": gone}], [{"file": directory, "weight": 0}]),
        *(elsewhere, [{"image": elsewhere, "caption": "x"}], {"url": elsewhere["url"]}, [{"file": elsewhere}]),
    ]


EVENTS = (None, {}, [], "x", 5, *({"index": index, "value": None} for index in (-1, "0", None, 0.5, [0], 10**30, True)))


def complaint(answer: Answer) -> str | None:
    """What is wrong with an answer: neither a result nor a sentence of ours."""
    if answer.status == 200:
        return None
    shown, said = answer.json().get("error", ""), answer.json().get("detail", "")  # by Gradio, as HTML; by the gate
    fine = shown and "<img" not in shown and "internal error" not in shown
    return None if fine or said.endswith(".") else answer.text[:200]


def test_r1_no_function_of_the_page_stumbles_over_what_the_page_would_not_send(app, functions):
    # Drawing is attacked in test_corpus and test_bodies; loading the model again and again would only take its time.
    names = {"text", "image", "image_text", "video", "audio", "fusion", "switch", "unload"}
    folder = Path(upload(app.url, ("a.png", b"x")).json()[0]).parents[1]
    tries = []
    for function in functions:
        places = range(0 if function["api_name"] in names else len(function["inputs"]))
        good = [None] * len(function["inputs"])
        values = hostile(folder)
        tries += [(function, [*good[:at], value, *good[at + 1 :]], {}) for at in places for value in values]
        if function["collects_event_data"]:
            tries += [(function, good, {"event_data": event}) for event in EVENTS]
    assert len(tries) > 400
    for start in range(0, len(tries), 16):  # several at once, as many visitors
        batch = tries[start : start + 16]
        answers = in_parallel(lambda each: run(app.url, each[0], each[1], **each[2]), batch)
        said = zip(batch, map(complaint, answers), strict=True)
        assert [(f["api_name"], json.dumps([data, event])[:200], why) for (f, data, event), why in said if why] == []
    assert "internal error" not in app.log.read_text()


def test_t11_a_page_that_was_updated_takes_no_other_files_than_a_fresh_one(server, functions):
    """An example puts a picture into the page: Gradio makes the component anew, and its own would decode anything."""
    file = io.BytesIO()
    Image.new("L", (8, 8)).save(file, "PPM")  # its own would make a PNG of other than RGB
    image = as_file(upload(server, ("a.png", file.getvalue())).json()[0])
    by_name = {function["api_name"]: function for function in functions}
    assert run(server, by_name["load_example_2"], [0]).status == 200
    good, said = join(server, by_name["image_text"], [image, "words", 1, None, *NO_INPAINTING, *SETTINGS])
    assert not good
    assert "is of an unknown kind" in said
    good, said = join(server, by_name["image_text"], [None, "words", 1, None, *NO_INPAINTING, "64", *SETTINGS[1:]])
    assert not good
    assert "width is &#x27;64&#x27;" in said  # and what is no number is not made one
    assert run(server, by_name["add_known"], [None, None]).status == 200  # which changes nothing, yet is an update
    good, said = join(server, by_name["text"], ["words", *SETTINGS[:-1], [{"file": "striped", "weight": 1}]])
    assert good, said


def session(server: str, functions: list[dict], session: str, prompt: str, count: int) -> None:
    """What a page does that draws and keeps the pictures."""
    by_name = {function["api_name"]: function for function in functions}
    drawn = draw(server, [prompt, *SETTINGS[:5], count, *SETTINGS[6:]])
    job = re.findall(r'"([0-9a-f]{32})"', drawn)[-1]
    kept = run(server, by_name["note_images"], [None, job], session_hash=session)
    assert len(kept.json()["data"][2]) == count


def draw(server: str, data: list) -> str:
    """All that is told of a job from its beginning to its end."""
    event = ask(server, "POST", f"{CALL}/text", {"data": data}).json()["event_id"]
    return ask(server, "GET", f"{CALL}/text/{event}").text


def test_t9_what_a_stranger_wrote_is_no_html_in_an_error(server):
    """Gradio's page shows errors as HTML."""
    said = draw(server, ["words", *SETTINGS[:-1], [{"file": "<img src=x>", "weight": 1}]])
    assert "There is no LoRA" in said
    assert "&lt;img src=x&gt;" in said
    assert "<" not in said


def test_r10_a_button_that_is_pressed_a_hundred_times_fills_no_disk(server, functions):
    pack = next(function for function in functions if function["api_name"] == "pack_all")
    session(server, functions, "packer", "a red house", 2)
    session(server, functions, "neighbour", "a green boat", 1)
    pressed = in_parallel(lambda _: run(server, pack, [None], session_hash="packer"), range(100))
    files = {answer.json()["data"][0]["path"] for answer in pressed}
    other = run(server, pack, [None], session_hash="neighbour").json()["data"][0]["path"]
    assert len(files) == 1
    with zipfile.ZipFile(files.pop()) as archive:
        assert archive.testzip() is None
        assert sorted(archive.namelist()) == ["001-seed-8.png", "002-seed-7.png", "settings.json"]
        assert b"green boat" not in archive.read("settings.json")
    with zipfile.ZipFile(other) as archive:  # everybody gets their own, and who has none hears so
        assert b"red house" not in archive.read("settings.json")
    assert "There is no picture yet" in run(server, pack, [None], session_hash="nobody").json()["error"]


def test_r10_a_image_that_cannot_be_written_is_told_and_is_there_once_there_is_room(app, functions):
    find = next(function for function in functions if function["api_name"] == "find")
    process = psutil.Process(app.process.pid)
    usual = process.rlimit(psutil.RLIMIT_FSIZE)
    process.rlimit(psutil.RLIMIT_FSIZE, (app.log.stat().st_size + 10_000, usual[1]))
    try:
        told = draw(app.url, ["a red house", 512, 512, *SETTINGS[2:]])
    finally:
        process.rlimit(psutil.RLIMIT_FSIZE, usual)
    assert "event: error" in told
    assert "The picture is made but cannot be written" in told
    job = re.findall(r'"([0-9a-f]{32})"', told)[-1]
    good, said = join(app.url, find, [job])
    assert good
    assert "Done" in said
