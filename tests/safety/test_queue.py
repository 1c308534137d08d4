"""T19, R2 to R4 and R6 of SECURITY.md: many visitors, one worker; over real HTTP where the route matters."""

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
from x2i_app.settings import Settings


def settings(seed: int, steps: int = 1, side: int = 64) -> list:
    return [side, side, steps, None, seed, 1, False, []]


@pytest.mark.usefixtures("unharmed")
def test_r2_of_eighty_at_once_everybody_gets_their_own_image_or_is_told_at_once_that_it_is_full(server):
    answers, enough = {}, threading.Event()

    def come(seed: int) -> None:
        answers[seed] = call(server, "text", ["a fish", *settings(seed)])
        if len(answers) >= 16:
            enough.set()

    visitors = [threading.Thread(target=come, args=(seed,)) for seed in range(1000, 1080)]
    with long_job(server):  # nothing else is drawn meanwhile: who is told that it is full waits for no picture
        for visitor in visitors:
            visitor.start()
        assert enough.wait(60)
        early = list(answers.values())
    for visitor in visitors:
        visitor.join(300)
    assert len(early) == 16
    # Told by the gate: Gradio had nothing of it, and neither a session nor a file was made for it.
    assert all(answer.startswith("refused 429 ") and "64 jobs are waiting already" in answer for answer in early)
    done = {seed: answer for seed, answer in answers.items() if answer.startswith("complete")}
    assert (len(answers), len(done)) == (80, 64)
    assert all(f'"seeds": [{seed}]' in answer for seed, answer in done.items())


@pytest.mark.usefixtures("unharmed")
def test_r13_sessions_that_come_and_go_leave_no_memory_behind(app, fuzz_rounds):
    """A session each: one hears what is wrong with its request, the next one does not even listen."""
    resident = psutil.Process(app.process.pid).memory_info

    def come_and_go(number: int) -> bool:
        body = {"data": ["a cat", *settings(1, side=100)], "session_hash": f"visitor{number}"}
        event = ask(app.url, "POST", f"{CALL}/text", body).json()["event_id"]
        return number % 2 == 1 or "width is 100" in ask(app.url, "GET", f"{CALL}/text/{event}").text

    assert all(map(come_and_go, range(20)))
    before = resident().rss
    assert all(map(come_and_go, range(20, 20 + 2 * fuzz_rounds)))  # 2,000 with --fuzz-long
    # A visit takes about 0.25 MB, and of 400 visits Gradio keeps what is theirs; then nothing is added.
    assert resident().rss - before < min(200e6, 20e6 + 0.4e6 * 2 * fuzz_rounds)


@pytest.mark.usefixtures("unharmed")
def test_t19_the_direct_route_starts_no_second_job(server):
    """Thirty direct calls get a place in the one queue, or are refused; none of them outlives its caller."""
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
    """A visitor who watches a long job, from its first step on, until the block ends; the job's id."""
    event = ask(server, "POST", f"{CALL}/text", {"data": ["a star", *settings(5, steps=100, side=768)]}).json()
    with urllib.request.urlopen(f"{server}{CALL}/text/{event['event_id']}", timeout=60) as stream:
        yield next(json.loads(line[5:])[4] for line in stream if line.startswith(b"data: [") and b"step 1" in line)


@pytest.mark.usefixtures("unharmed")
def test_r3_a_newcomer_waits_for_at_most_two_of_a_neighbours_nineteen_jobs(server):
    config = ask(server, "GET", "/config").json()
    function = next(d["id"] for d in config["dependencies"] if d["api_name"] == "text")
    drawn, refused, at_newcomers = [], [], []

    def watch():
        for good, said in completions(server, "neighbour"):
            (drawn if good else refused).append(said)

    watching = threading.Thread(target=watch)
    with long_job(server):  # so that all of them are waiting when the first is taken
        for seed in range(19):
            join(server, function, "neighbour", seed)
        watching.start()
        join(server, function, "newcomer", 77)
    for good, _ in completions(server, "newcomer"):
        assert good
        at_newcomers.append(len(drawn))
    watching.join(300)
    assert at_newcomers[0] <= 2
    assert (len(drawn), len(refused)) == (3, 16)
    assert all("3 are allowed" in said for said in refused)


@pytest.mark.usefixtures("unharmed")
def test_r4_a_visitor_who_leaves_frees_the_engine(server):
    with long_job(server) as job:
        pass
    assert canary(server) == "complete"
    assert "Stopped" in call(server, "cancel", [job])


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_r6_a_dead_worker_is_told_to_whoever_waits_asks_or_comes_later(monkeypatch):
    started = threading.Event()

    def die(*_):
        started.wait(10)
        raise SystemExit

    monkeypatch.setattr(Engine, "_load", lambda engine: None)
    monkeypatch.setattr(Engine, "_draw", die)
    engine = Engine(Settings())
    engine.start()
    jobs = [engine.submit(GenerationRequest(prompt="a house")) for _ in range(3)]
    started.set()
    for job in jobs:
        with pytest.raises(EngineError, match=r"has stopped \(SystemExit\); restart the app"):
            job.wait(10)
    assert engine.status.state == "failed"
    with pytest.raises(EngineError, match="has stopped"):
        engine.submit(GenerationRequest(prompt="a house"))
