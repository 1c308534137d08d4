"""T19, R2 to R4, R6 and R13 of SECURITY.md: many users and one worker, over real HTTP where the route matters."""

import json
import threading
import urllib.request
from contextlib import contextmanager

import psutil
import pytest
from safety.client import CALL, ask, call, canary, completions, in_parallel

from x2i_app.errors import EngineError
from x2i_app.request import GenerationRequest
from x2i_app.serving.engine import Engine
from x2i_app.serving.worker import LocalWorker
from x2i_app.settings import Settings


def settings(seed: int, steps: int = 1, side: int = 64) -> list:
    return [side, side, steps, None, seed, 1, False, []]


@pytest.mark.usefixtures("unharmed")
def test_r2_eighty_at_once_get_their_image_or_a_refusal(server):
    """64 get the image of their own seed. The others are refused at once, while no job ends."""
    answers, enough = {}, threading.Event()

    def request(seed: int) -> None:
        answers[seed] = call(server, "text", ["a fish", *settings(seed)])
        if len(answers) >= 16:
            enough.set()

    users = [threading.Thread(target=request, args=(seed,)) for seed in range(1000, 1080)]
    with long_job(server):  # no other job runs meanwhile, so the refusals below wait for none
        for user in users:
            user.start()
        assert enough.wait(60)
        early = list(answers.values())
    for user in users:
        user.join(300)
    assert len(early) == 16
    # RequestGuard refused them: Gradio created neither a session nor a file.
    assert all(answer.startswith("refused 429 ") and "64 jobs are waiting" in answer for answer in early)
    done = {seed: answer for seed, answer in answers.items() if answer.startswith("complete")}
    assert (len(answers), len(done)) == (80, 64)
    assert all(f'"seeds": [{seed}]' in answer for seed, answer in done.items())


@pytest.mark.usefixtures("unharmed")
def test_r13_many_sessions_do_not_fill_the_memory(app, fuzz_rounds):
    """Each request has a session of its own. Every second one does not wait for its result."""
    resident = psutil.Process(app.process.pid).memory_info

    def refused(number: int) -> bool:
        body = {"data": ["a cat", *settings(1, side=4000)], "session_hash": f"user{number}"}
        event = ask(app.url, "POST", f"{CALL}/text", body).json()["event_id"]
        return number % 2 == 1 or "width is 4000" in ask(app.url, "GET", f"{CALL}/text/{event}").text

    assert all(map(refused, range(20)))
    before = resident().rss
    assert all(map(refused, range(20, 20 + 2 * fuzz_rounds)))  # 2,000 with --fuzz-long
    # Gradio keeps the state of 400 sessions, about 0.25 MB each.
    assert resident().rss - before < min(200e6, 20e6 + 0.4e6 * 2 * fuzz_rounds)


@pytest.mark.usefixtures("unharmed")
def test_t19_the_direct_route_uses_the_queue(server):
    """Of thirty direct calls each gets a place in the one queue, or is refused."""
    bodies = [{"data": ["a ball", *settings(seed, steps=50)]} for seed in range(30)]
    answers = in_parallel(lambda body: ask(server, "POST", "/gradio_api/run/text", body), bodies)
    assert {answer.status for answer in answers} <= {200, 500}
    assert all("Traceback" not in answer.text for answer in answers)
    assert canary(server) == "complete"


def join(server: str, function: int, session: str, seed: int) -> None:
    body = {"data": ["a cat", *settings(seed, steps=4)], "fn_index": function, "session_hash": session}
    assert ask(server, "POST", "/gradio_api/queue/join", body).status == 200


@contextmanager
def long_job(server: str):
    """A long job that runs until the block ends; its id. It has done its first step when the block begins."""
    event = ask(server, "POST", f"{CALL}/text", {"data": ["a star", *settings(5, steps=100, side=768)]}).json()
    with urllib.request.urlopen(f"{server}{CALL}/text/{event['event_id']}", timeout=60) as stream:
        yield next(json.loads(row[5:])[4] for row in stream if row.startswith(b"data: [") and b"step 1" in row)


@pytest.mark.usefixtures("unharmed")
def test_r3_a_newcomer_waits_for_two_of_nineteen_jobs(server):
    """At most two of the jobs of one other user are done before the newcomer's."""
    config = ask(server, "GET", "/config").json()
    function = next(d["id"] for d in config["dependencies"] if d["api_name"] == "text")
    done, refused, before_newcomer = [], [], []

    def watch():
        for succeeded, output in completions(server, "neighbor"):
            (done if succeeded else refused).append(output)

    watching = threading.Thread(target=watch)
    with long_job(server):  # so that all of them wait before the first one starts
        for seed in range(19):
            join(server, function, "neighbor", seed)
        watching.start()
        join(server, function, "newcomer", 77)
    for succeeded, _ in completions(server, "newcomer"):
        assert succeeded
        before_newcomer.append(len(done))
    watching.join(300)
    assert before_newcomer[0] <= 2
    assert (len(done), len(refused)) == (3, 16)
    assert all("at most 3 are allowed" in output for output in refused)


@pytest.mark.usefixtures("unharmed")
def test_r4_a_client_that_disconnects_frees_the_worker(server):
    with long_job(server) as job:
        pass
    assert canary(server) == "complete"
    assert "Stopped" in call(server, "cancel", [job])


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_r6_a_dead_worker_fails_all_jobs(monkeypatch):
    started = threading.Event()

    def die(*_):
        started.wait(60)
        raise SystemExit

    monkeypatch.setattr(LocalWorker, "load", lambda worker: None)
    monkeypatch.setattr(LocalWorker, "draw", die)
    engine = Engine(Settings())
    engine.start()
    jobs = [engine.submit(GenerationRequest(prompt="a house")) for _ in range(3)]
    started.set()
    for job in jobs:
        with pytest.raises(EngineError, match=r"has stopped \(SystemExit\); restart the app"):
            job.wait(60)
    assert engine.status.state == "failed"
    with pytest.raises(EngineError, match="has stopped"):
        engine.submit(GenerationRequest(prompt="a house"))
