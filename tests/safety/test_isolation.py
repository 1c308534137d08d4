"""T1 of SECURITY.md between visitors: no function of the page tells anybody another's words, pictures or jobs."""

import json
import re
from pathlib import Path

import pytest
from safety.client import CALL, SETTINGS, Answer, as_file, ask, upload

from x2i_app.settings import ASSETS

pytestmark = pytest.mark.usefixtures("unharmed")

SECRET = "a red house that nobody else may know of"
# They draw, or load the model anew; other tests attack them.
LONG = {"text", "image", "image_text", "video", "audio", "fusion", "switch", "unload"}


@pytest.fixture(scope="module")
def functions(server) -> list[dict]:
    """Every function of the page that runs on the server."""
    return [function for function in ask(server, "GET", "/config").json()["dependencies"] if function["backend_fn"]]


def run(server: str, function: dict, data: list, event=None, **session: str) -> Answer:
    """Call one by its number, as the page of a visitor does."""
    body = {"data": data, "fn_index": function["id"], "event_data": event} | session
    return ask(server, "POST", f"/gradio_api/run/{function['api_name']}", body)


def everything(server: str, functions: list[dict], value=None, **session: str) -> str:
    """All that the functions tell a visitor who sends this value for each of their inputs, and picks a picture."""
    event = {"index": 0, "value": None}

    def tell(function: dict) -> str:
        return run(server, function, [value] * len(function["inputs"]), event, **session).text

    return "\n".join(tell(function) for function in functions if function["api_name"] not in LONG)


@pytest.fixture(scope="module")
def owned(server, functions) -> list[str]:
    """What is one visitor's alone, who has drawn a picture, kept it and looks at it: words, file and job."""
    by_name = {function["api_name"]: function for function in functions}
    event = ask(server, "POST", f"{CALL}/text", {"data": [SECRET, *SETTINGS], "session_hash": "owner"}).json()[
        "event_id"
    ]
    drawn = ask(server, "GET", f"{CALL}/text/{event}").text
    job = re.findall(r'"([0-9a-f]{32})"', drawn)[-1]
    kept = run(server, by_name["note_images"], [None, job], session_hash="owner").json()["data"]
    image = kept[2][0]["image"]["path"]
    picked = run(server, by_name["pick"], [None, None], {"index": 0, "value": None}, session_hash="owner").text
    assert Path(image).is_file()
    assert all(mine in picked for mine in (SECRET, job))
    return [SECRET, job, Path(image).parent.name]


def test_t1_what_is_a_visitors_own_is_told_to_that_visitor_alone(server, functions, owned):
    mine = everything(server, functions, session_hash="owner")
    assert all(secret in mine for secret in owned)  # or the others below would prove nothing
    forged = [[{"request": {"prompt": "x"}, "job": "x", "path": "a.png"}], 0]
    keep = [function for function in functions if function["api_name"] in ("pick", "reuse", "ask_for_more", "pack_all")]
    for told in (
        everything(server, functions, session_hash="neighbour"),
        everything(server, functions),
        everything(server, keep, session_hash="OWNER"),
        *(everything(server, keep, value, session_hash="neighbour") for value in forged),
    ):
        assert [secret for secret in owned if secret in told] == []


def test_t1_a_job_answers_to_its_whole_id_alone(server, functions, owned):
    _, job, _ = owned
    for guess in (job[:-1], job.upper(), f"{job} ", f" {job}", "*", "", "%", [job], {"id": job}, True, 0, None):
        for function in functions:
            if function["api_name"] in ("find", "status", "cancel"):
                said = run(server, function, [guess], session_hash="neighbour").text
                assert SECRET not in said
                assert '"phase"' not in said
                assert "Done" not in said


def test_t1_no_function_takes_a_file_that_was_not_uploaded(server, functions):
    """Each of its inputs, and what is said to have been picked; also where the page would hold no file."""
    uploads = Path(upload(server, ("a.png", b"x")).json()[0]).parents[1]
    outside = ["/etc/passwd", f"{uploads}/../../etc/passwd", str(ASSETS / "x2i-tiny/model_index.json"), "app.log", ".."]
    forms = [
        lambda file: file,
        lambda file: [file],
        lambda file: [{"image": file, "caption": None}],
        lambda file: {"text": "", "files": [file]},
        lambda file: [{"file": file, "weight": 1}],
    ]
    taken = []
    for function in functions:
        empty = [None] * len(function["inputs"])
        for path, form in zip(outside, forms, strict=True):
            value = form(as_file(path))
            tries = [([*empty[:at], value, *empty[at + 1 :]], None) for at in range(len(empty))]
            for data, event in [*tries, (empty, {"index": 0, "value": value})]:
                answer = run(server, function, data, event)
                if answer.status != 400 or "was not uploaded here" not in answer.text:
                    taken.append((function["api_name"], json.dumps([data, event]), answer.text[:200]))
    assert taken == []
