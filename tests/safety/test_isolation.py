"""T1 of SECURITY.md between users: no function of the page tells one user the prompts, images or jobs of another."""

import json
import re
from pathlib import Path

import pytest
from safety.client import CALL, SETTINGS, Answer, as_file, ask, upload

from x2i_app.settings import ASSETS

pytestmark = pytest.mark.usefixtures("unharmed")

SECRET = "a red house that no other user may know of"
# They generate images or load a model; other tests attack them.
LONG = {"text", "image", "image_text", "video", "audio", "fusion", "more", "switch", "unload"}
LONG |= {"delete", "delete_all", "load_kept"}  # they replace what the session has


def run(server: str, function: dict, data: list, event=None, **session: str) -> Answer:
    """Call a function by its number, as the page does."""
    body = {"data": data, "fn_index": function["id"], "event_data": event} | session
    return ask(server, "POST", f"/gradio_api/run/{function['api_name']}", body)


def everything(server: str, functions: list[dict], value=None, **session: str) -> str:
    """The results of all functions for a user who sends this value for each input and selects an image."""
    event = {"index": 0, "value": None}

    def result(function: dict) -> str:
        return run(server, function, [value] * len(function["inputs"]), event, **session).text

    return "\n".join(result(function) for function in functions if function["api_name"] not in LONG)


@pytest.fixture(scope="module")
def owned(server, functions) -> list[str]:
    """The prompt, job and folder of an image in one user's history, which this user has selected."""
    by_name = {function["api_name"]: function for function in functions}
    event = ask(server, "POST", f"{CALL}/text", {"data": [SECRET, *SETTINGS], "session_hash": "owner"}).json()[
        "event_id"
    ]
    events = ask(server, "GET", f"{CALL}/text/{event}").text
    job = re.findall(r'"([0-9a-f]{32})"', events)[-1]
    kept = run(server, by_name["add_result"], [None, job, "", False, None], session_hash="owner").json()["data"]
    image = kept[2][0]["image"]["path"]
    first = {"index": 0, "value": None}
    picked = run(server, by_name["select_item"], [None, None, "", False], first, session_hash="owner").text
    assert Path(image).is_file()
    assert all(value in picked for value in (SECRET, job))
    return [SECRET, job, Path(image).parent.name]


def test_t1_only_the_owner_gets_their_data(server, functions, owned):
    mine = everything(server, functions, session_hash="owner")
    assert all(secret in mine for secret in owned)  # otherwise the checks below would prove nothing
    forged = [[{"request": {"prompt": "x"}, "job": "x", "path": "a.png"}], 0]
    keep = [
        function
        for function in functions
        if function["api_name"] in ("select_item", "reuse", "generate_more", "download_all")
    ]
    for results in (
        everything(server, functions, session_hash="neighbor"),
        everything(server, functions),
        everything(server, keep, session_hash="OWNER"),
        *(everything(server, keep, value, session_hash="neighbor") for value in forged),
    ):
        assert [secret for secret in owned if secret in results] == []


def test_t1_a_job_is_found_only_by_its_whole_id(server, functions, owned):
    _, job, _ = owned
    for guess in (job[:-1], job.upper(), f"{job} ", f" {job}", "*", "", "%", [job], {"id": job}, True, 0, None):
        for function in functions:
            if function["api_name"] in ("resume", "status", "cancel"):
                result = run(server, function, [guess], session_hash="neighbor").text
                assert SECRET not in result
                assert '"phase"' not in result
                assert "Done" not in result


def test_t1_functions_accept_only_uploaded_files(server, functions):
    """As each of its inputs and as the selection, also where the page has no file."""
    uploads = Path(upload(server, ("a.png", b"x")).json()[0]).parents[1]
    outside = ["/etc/passwd", f"{uploads}/../../etc/passwd", str(ASSETS / "x2i-tiny/model_index.json"), "app.log", ".."]
    forms = [
        lambda file: file,
        lambda file: [file],
        lambda file: [{"image": file, "caption": None}],
        lambda file: {"text": "", "files": [file]},
        lambda file: [{"file": file, "weight": 1}],
    ]
    accepted = []
    for function in functions:
        empty = [None] * len(function["inputs"])
        for path, form in zip(outside, forms, strict=True):
            value = form(as_file(path))
            tries = [([*empty[:at], value, *empty[at + 1 :]], None) for at in range(len(empty))]
            for data, event in [*tries, (empty, {"index": 0, "value": value})]:
                answer = run(server, function, data, event)
                if answer.status != 400 or "was not uploaded here" not in answer.text:
                    accepted.append((function["api_name"], json.dumps([data, event]), answer.text[:200]))
    assert accepted == []
