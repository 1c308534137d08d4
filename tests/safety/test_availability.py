"""T21 to T30 of SECURITY.md: one client keeps nobody waiting, and takes nothing from anybody.

Each attack is real and small. Where it could freeze the server, `pulse` asks for /health all the while, and a job of
somebody else runs beside it.
"""

import asyncio
import functools
import io
import json
import logging
import os
import re
import select
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from unittest.mock import patch

import gradio as gr
import psutil
import pytest
from PIL import Image
from safety.client import (
    CALL,
    END,
    FILE,
    MULTIPART,
    NO_INPAINTING,
    SETTINGS,
    UPLOAD,
    as_file,
    ask,
    begin_post,
    canary,
    connect,
    in_parallel,
    read_status,
    upload,
)
from safety.local_app import LocalApp, local_app
from starlette.requests import Request
from ui.test_session_store import item as history_item
from waiting import wait_until

from x2i_app.errors import CheckpointError, EngineError, GenerationCancelledError, InvalidRequestError, MediaError
from x2i_app.loading.files import check_file
from x2i_app.media import MediaCaps, isolation, load_image, modality_of
from x2i_app.request import GenerationRequest
from x2i_app.serving.eta import Work
from x2i_app.serving.fair_queue import FairQueue
from x2i_app.serving.jobs import Job, JobLimits, JobMemory
from x2i_app.settings import Settings
from x2i_app.ui import tabs
from x2i_app.ui.history import MetadataOptOut
from x2i_app.ui.http.clients import Clients
from x2i_app.ui.http.limits import HttpLimits
from x2i_app.ui.http.log_limits import EscapedFormatter, LimitedLog
from x2i_app.ui.http.session_states import SessionStates
from x2i_app.ui.http.uploads import STORED, StoredUploads
from x2i_app.ui.progress import JobFollowers
from x2i_app.ui.session_store import SessionStore, new_key

HEALTH_SECONDS = 5.0  # of work; without its guard, each attack takes longer
PATIENCE = 60.0  # for what happens at some time, however busy the machine is
LIMITS = HttpLimits(
    unheard_seconds=1,
    functions_per_session=3,
    function_wait=0.1,
    connections=24,
    head_seconds=2,
    write_seconds=1,
    uploads=2,
    upload_grace=2,
    upload_rate=100_000,
    stored_bytes=1000,
)
PROXIED = {"Host": "x2i.example.org"}


@pytest.fixture(scope="module")
def local() -> Iterator[LocalApp]:
    """A server behind a proxy on this machine, with small limits; its engine does not run."""
    with local_app(LIMITS, hosts="x2i.example.org", queue_size=8) as app:
        yield app


def worked(process: psutil.Process) -> float:
    """Seconds for which a core has worked for a process: a machine that is busy with other tests adds none."""
    times = process.cpu_times()
    return times.user + times.system


@contextmanager
def pulse(url: str, server: psutil.Process) -> Iterator[None]:
    """Throughout the block, /health answers before the server has worked for long."""
    beats, is_over = [], threading.Event()

    def beat():
        is_last = False
        while not is_last:  # once at least, however soon the block ends
            start = worked(server)
            status = ask(url, "GET", "/health").status
            beats.append((status, worked(server) - start))
            is_last = is_over.wait(0.05)

    thread = threading.Thread(target=beat)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()
    assert {status for status, _ in beats} == {200}
    assert max(seconds for _, seconds in beats) < HEALTH_SECONDS


@pytest.fixture(scope="module")
def ready(server) -> str:
    """The URL of the real app, whose model is loaded."""
    assert canary(server) == "complete"
    return server


# T21: the event loop


@pytest.mark.parametrize(
    ("payload", "status"),
    [
        ({"path": "a/" * 500_000}, 400),
        ([{"path": "/a"}] * 301, 413),
        ([[]] * 200_000, 413),
        ({str(number): number for number in range(50_000)}, 413),
    ],
    ids=["path", "files", "lists", "keys"],
)
def test_t21_a_body_that_takes_long_to_check(app, ready, payload, status):
    server = psutil.Process(app.process.pid)
    with pulse(ready, server):
        start = worked(server)
        answer = ask(ready, "POST", f"{CALL}/status", {"data": [payload]})
        assert answer.status == status, answer.text
        assert worked(server) - start < HEALTH_SECONDS


def test_t21_a_file_is_never_opened_on_the_event_loop(local, monkeypatch):
    """However long it takes to look at a file: here until /health has answered."""
    begun, go_on, in_time = threading.Event(), threading.Event(), []

    def look(path):
        begun.set()
        in_time.append(go_on.wait(PATIENCE))  # on the event loop, /health would wait for this in vain
        return modality_of(path)

    monkeypatch.setattr(tabs, "modality_of", look)
    body = {"data": [{"text": "x", "files": [as_file(stored_image(local, "fusion.png"))]}, *SETTINGS]}
    assert ask(local.url, "POST", f"{CALL}/fusion", body).status == 200
    assert begun.wait(PATIENCE)
    assert ask(local.url, "GET", "/health").status == 200
    go_on.set()
    wait_until(lambda: in_time)
    assert in_time == [True]


def stored_image(local: LocalApp, name: str) -> str:
    """The path of a new small image among the uploads."""
    path = local.uploads / name
    Image.new("RGB", (64, 64)).save(path)
    return str(path)


def test_t21_the_first_function_keeps_nobody_waiting():
    """In a new process, a function of the page loads no module: Gradio would load pyplot on the event loop."""
    script = (
        "import sys\n"
        "from safety.client import CALL, ask\n"
        "from safety.local_app import local_app\n"
        "from x2i_app.ui.http.limits import HttpLimits\n"
        "with local_app(HttpLimits()) as app:\n"
        "    assert ask(app.url, 'GET', '/config').status == 200\n"
        "    before = set(sys.modules)\n"
        "    assert ask(app.url, 'POST', '/gradio_api/run/status', {'data': ['']}).status == 200\n"
        "    print(sorted(set(sys.modules) - before), sys.getswitchinterval() < 0.002)\n"
    )
    tests = Path(__file__).resolve().parents[1]
    environment = os.environ | {"PYTHONPATH": f"{tests}{os.pathsep}{tests.parent}"}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=120)
    assert done.stdout.strip().splitlines()[-1] == "[] True", done.stderr[-2000:]


# T22: files without end


def scans(count: int) -> bytes:
    """A progressive JPEG whose last scan comes again and again: 240 bytes and 10 ms each."""
    buffer = io.BytesIO()
    Image.new("L", (4000, 4000), 128).save(buffer, "JPEG", progressive=True)
    jpeg = buffer.getvalue()
    last = jpeg.rindex(b"\xff\xda")
    return jpeg[:-2] + jpeg[last:-2] * count + b"\xff\xd9"


def test_t22_a_file_keeps_only_its_own_sender_waiting(local, monkeypatch):
    """The job reaches the queue when its file has been read, so it does not keep the worker meanwhile."""
    begun, go_on, read = threading.Event(), threading.Event(), isolation._Child.ask

    def hold(child, task):
        begun.set()
        assert go_on.wait(PATIENCE)
        return read(child, task)

    wait_until(lambda: not local.engine.status.waiting)
    monkeypatch.setattr(isolation._Child, "ask", hold)
    data = [as_file(stored_image(local, "image.png")), "a house", 0, None, *NO_INPAINTING, *SETTINGS]
    event = ask(local.url, "POST", f"{CALL}/image_text", {"data": data}).json()["event_id"]
    with listening(local, f"{CALL}/image_text/{event}"):
        assert begun.wait(PATIENCE)
        assert not local.engine.status.waiting
        go_on.set()
        wait_until(lambda: local.engine.status.waiting == 1)


@contextmanager
def listening(local: LocalApp, address: str) -> Iterator[socket.socket]:
    """The client of a job's stream, inside the block."""
    with connect(local.url) as stream:
        stream.sendall(f"GET {address} HTTP/1.0\r\nHost: localhost\r\n\r\n".encode())
        yield stream


def test_t22_directories_that_share_a_region(tmp_path, isolated):
    """A TIFF of 1 MB whose 600 tags all have the same 1 MB as their value."""
    tags = [struct.pack("<HHII", 256 + number, 7, 1_000_000, 8) for number in range(600)]
    tiff = b"II*\0" + struct.pack("<I", 1_000_008) + bytes(1_000_000)
    (tmp_path / "a.tif").write_bytes(tiff + struct.pack("<H", len(tags)) + b"".join(tags) + bytes(4))
    before = psutil.Process().memory_info().rss
    with pytest.raises(MediaError, match=r"'a\.tif'"):
        load_image(tmp_path / "a.tif", MediaCaps(child_bytes=350 * 2**20))
    assert psutil.Process().memory_info().rss - before < 100 * 2**20


def test_t22_a_header_of_a_million_tensors(tmp_path):
    path = tmp_path / "a.safetensors"
    path.write_bytes((9 * 2**20).to_bytes(8, "little") + b"{" + b" " * 9 * 2**20)
    with pytest.raises(CheckpointError, match=r"a header of 9,437,184 bytes and 8,388,608 are allowed"):
        check_file(path)


def test_t22_a_job_is_cancelled_while_its_files_are_read(engine, tmp_path, isolated, monkeypatch):
    """To cancel kills the child that reads. This child is suspended; otherwise its time limit would end it."""
    Image.new("RGB", (64, 64)).save(tmp_path / "a.png")
    begun, killers, ask_child, kill = threading.Event(), [], isolation._Child.ask, isolation._Child.kill

    def stop_and_ask(child, task):
        psutil.Process(child.process.pid).suspend()
        begun.set()
        return ask_child(child, task)

    monkeypatch.setattr(isolation._Child, "ask", stop_and_ask)
    monkeypatch.setattr(
        isolation._Child, "kill", lambda child: killers.append(threading.current_thread()) or kill(child)
    )
    job = engine.submit(GenerationRequest(images=[str(tmp_path / "a.png")], strength=0.5, prompt="x"))
    assert begun.wait(PATIENCE)
    engine.cancel(job)
    with pytest.raises(GenerationCancelledError):
        job.wait(PATIENCE)
    assert killers == [threading.current_thread()]


# T23: functions of the page


def turns(path: str) -> list:
    return [{"prompt": "x", "images": [as_file(path)]}]


def number_of(page, name: str) -> int:
    """The number of a function with two inputs that only the page calls."""
    return next(number for number, each in page.fns.items() if each.name == name and len(each.inputs) == 2)


@contextmanager
def held(function) -> Iterator[None]:
    """No call of this function of the page begins inside the block; at its end, all go on."""
    go_on, real = threading.Event(), function.fn

    @functools.wraps(real)
    def wait(*arguments):
        assert go_on.wait(PATIENCE)
        return real(*arguments)

    with patch.object(function, "fn", wait):
        try:
            yield
        finally:
            go_on.set()


def test_t23_thumbnails_at_once(local):
    """A few run at once, the next one is refused, and the server itself decodes nothing."""
    path = str(local.uploads / "thumbs.png")
    Image.linear_gradient("L").resize((4000, 3000)).convert("RGB").save(path, compress_level=1)
    body = {"fn_index": number_of(local.page, "show"), "data": [True, turns(path)], "session_hash": "thumbs"}
    memory, is_over, peak = psutil.Process().memory_info().rss, threading.Event(), [0]

    def watch():
        while not is_over.is_set():
            peak[0] = max(peak[0], psutil.Process().memory_info().rss - memory)
            time.sleep(0.01)

    watcher = threading.Thread(target=watch)
    watcher.start()
    with held(local.page.fns[body["fn_index"]]):
        statuses = [ask(local.url, "POST", "/gradio_api/queue/join", body).status for _ in range(5)]
    with listening(local, "/gradio_api/queue/data?session_hash=thumbs") as stream:
        received = b""
        while b"close_stream" not in received and (part := stream.recv(65536)):
            received += part
    is_over.set()
    watcher.join()
    assert statuses == [200, 200, 200, 429, 429]
    assert received.count(b'"process_completed"') == 3
    assert b"data:image/jpeg" in received
    assert peak[0] < 60 * 2**20


def test_t23_functions_wait_for_a_place(server, functions):
    """More than may run at once, one after the other: a user who presses a button often is not refused."""
    number = next(each["id"] for each in functions if each["api_name"] == "add_known")
    body = {"fn_index": number, "data": [None, None], "session_hash": "often"}
    answers = in_parallel(lambda _: ask(server, "POST", "/gradio_api/run/predict", body).status, range(30))
    assert answers == [200] * 30


# T24: jobs that nobody listens to


def test_t24_unheard_jobs_give_way_and_end(local):
    """They fill the queue; somebody who listens gets a place all the same, and soon none of the others is left."""
    for _ in range(12):
        ask(local.url, "POST", f"{CALL}/text", {"data": ["a house", *SETTINGS]})
    wait_until(lambda: listened_job_stays(local))
    wait_until(lambda: not local.engine.status.waiting)


def listened_job_stays(local: LocalApp) -> bool:
    """Whether a new job has a place and keeps it, while those before it end.

    False also on a machine so busy that the job itself was unheard for too long before its client listened.
    """
    joined = ask(local.url, "POST", f"{CALL}/text", {"data": ["a boat", *SETTINGS]})
    if joined.status == 429:
        return False
    with listening(local, f"{CALL}/text/{joined.json()['event_id']}"):
        wait_until(lambda: local.engine.status.waiting <= 1)
        time.sleep(2 * LIMITS.unheard_seconds)
        return local.engine.status.waiting == 1  # the one that is heard stays


def queued(queue: FairQueue, *owners: tuple[str, str]) -> list[Job]:
    jobs = [Job(GenerationRequest(prompt="x"), session, address=address) for address, session in owners]
    for job in jobs:
        queue.put(job)
    return jobs


def test_t24_sessions_of_one_address_share_its_turns():
    queue = FairQueue(64, 3, 16)
    many = queued(queue, *[("192.0.2.1", str(number)) for number in range(10)])
    (other,) = queued(queue, ("192.0.2.2", "x"))
    assert [queue.take() for _ in range(2)] == [many[0], other]
    assert [job.progress.place for job in many[1:]] == list(range(1, 10))


def test_t24_one_address_cannot_fill_the_queue():
    queue = FairQueue(64, 3, 4)
    queued(queue, *[("192.0.2.1", str(number)) for number in range(4)])
    with pytest.raises(Exception, match="4 jobs from your address are waiting"):
        queued(queue, ("192.0.2.1", "5"))
    queued(queue, ("192.0.2.2", "x"), *[("", str(number)) for number in range(6)])


def test_t24_a_full_queue_drops_what_nobody_follows():
    queue = FairQueue(2, 3)
    heard, unheard = queued(queue, ("", "a"), ("", "b"))
    with pytest.raises(Exception, match="The queue is full"):
        queued(queue, ("", "c"))
    unheard.unheard_at = time.monotonic() - 60
    queue.check_room()
    assert queue.put(Job(GenerationRequest(prompt="x"), "c")) == [unheard]
    assert queue.take() is heard


def test_t24_finished_jobs_are_forgotten_of_whoever_has_most():
    memory = JobMemory()
    mine = Job(GenerationRequest(prompt="x"), "me")
    mine.fail(EngineError("x"))
    memory.add(mine)
    for _ in range(200):
        other = Job(GenerationRequest(prompt="x"), "other")
        other.fail(EngineError("x"))
        memory.add(other)
    assert memory.get(mine.id) is mine


# T25: work without limit


def test_t25_a_job_ends_at_its_limit_and_is_refused_before(engine):
    big = GenerationRequest(prompt="x", num_images_per_prompt=8, num_inference_steps=100, width=256, height=256)
    engine._eta.forget()  # what it has learned from other tests: then nothing is known of a job's time
    job = engine.submit(big, limits=JobLimits(seconds=0.2))
    with pytest.raises(EngineError, match=r"took longer than 0\.2 s"):
        job.wait(60)
    engine.submit(GenerationRequest(prompt="x", width=64, height=64, num_inference_steps=1)).wait(60)
    with pytest.raises(InvalidRequestError, match=r"would take about [\d,]+ s, and 0\.2 s are allowed here"):
        engine.submit(big, limits=JobLimits(seconds=0.2))


def test_t25_a_waiting_job_stays_within_its_limits(engine):
    """A button changes how many images it draws: up to what a request may ask for, and to what its time allows."""
    one = GenerationRequest(prompt="x", num_inference_steps=100, width=128, height=128)
    engine.submit(GenerationRequest(prompt="x", width=64, height=64, num_inference_steps=1)).wait(60)
    running = engine.submit(one.with_values(num_images_per_prompt=8))
    try:
        seconds = engine._eta.seconds(Work.of(one.with_defaults(engine.flux, 0)))
        job = engine.submit(one, limits=JobLimits(seconds=2 * seconds))
        for count in (0, 9, 1.5, True, "2"):
            with pytest.raises(InvalidRequestError, match=r"^num_images_per_prompt is .*; it must be"):
                engine.set_count(job, count)
        with pytest.raises(InvalidRequestError, match="This job would take about"):
            engine.set_count(job, 8)
        assert job.request == one
        assert engine.set_count(job, 2.0)
        assert job.request.num_images_per_prompt == 2
        assert engine.set_count(job, 1)
        engine.cancel(job)
        assert not engine.set_count(job, 2)
    finally:
        engine.cancel(running)


@pytest.mark.parametrize(
    ("settings", "seconds"),
    [({}, float("inf")), ({"share_openly": True, "share": True}, 600), ({"host": "0.0.0.0", "job_seconds": 5}, 5)],
)
def test_t25_only_strangers_have_a_limit(settings, seconds):
    assert Settings(**settings).most_job_seconds == seconds


# T26: uploads


def test_t26_a_trickling_upload_is_ended(local):
    """The time extends with what arrives, and ends for one that sends too little."""
    with (
        begin_post(local.url, UPLOAD, 10**6, MULTIPART) as slow,
        begin_post(local.url, UPLOAD, 10**6, MULTIPART) as none,
    ):
        slow.sendall(FILE)
        for _ in range(10_000):
            if select.select([slow], [], [], 0.05)[0]:  # the response
                break
            slow.sendall(b"x" * 50)
        assert [read_status(slow), read_status(none)] == [408, 408]
    assert upload(local.url, ("a.png", b"x")).status == 200


def test_t26_a_fast_upload_may_take_longer_than_the_grace(local):
    size = 20 * LIMITS.upload_rate
    with begin_post(local.url, UPLOAD, len(FILE) + size + len(END), MULTIPART) as connection:
        connection.sendall(FILE + b"x" * size)  # with which it may take 20 s more
        time.sleep(1.5 * LIMITS.upload_grace)
        connection.sendall(END)
        assert read_status(connection) == 200


def from_address(address: str) -> dict[str, str]:
    return PROXIED | {"X-Forwarded-For": address}


def test_t26_each_client_has_a_share_of_the_disk(local):
    """The oldest files of the one that stores too much go, and nobody else's."""

    def send(address):
        return upload(local.url, ("a.png", b"x" * 400), headers=from_address(address)).json()[0]

    theirs = send("192.0.2.9")
    mine = [send("192.0.2.1") for _ in range(4)]
    assert [name for name in (theirs, *mine) if not any(local.uploads.rglob(name.split("/")[-2]))] == []
    exists = [bool(list(local.uploads.glob(f"{name.split('/')[-2]}/*"))) for name in (theirs, *mine)]
    assert exists == [True, False, False, True, True]


def test_t26_kept_images_count_when_a_page_gets_them_again(local, tmp_path, monkeypatch):
    """The copies take the client's share of the disk, and nobody else's."""
    number, load = next((number, each.fn) for number, each in local.page.fns.items() if each.name == "load_kept")
    store, key = SessionStore(tmp_path / "sessions", hours=24), new_key()
    kept = history_item(tmp_path, 1)
    assert Path(kept.path).stat().st_size > LIMITS.stored_bytes - 400
    store.add(key, [kept])
    monkeypatch.setattr(load.__self__, "store", store)
    mine, theirs = (upload(local.url, ("a.png", b"x" * 400), headers=from_address(f"192.0.2.{n}")) for n in (3, 4))
    body = {"fn_index": number, "data": [key], "session_hash": "kept"}
    answer = ask(local.url, "POST", "/gradio_api/run/predict", body, from_address("192.0.2.3"))
    assert answer.status == 200, answer.text
    assert [Path(each.json()[0]).exists() for each in (mine, theirs)] == [False, True]


def test_t26_results_take_the_share_of_their_client(engine, tmp_path, monkeypatch):
    """The oldest of a client that draws on and on go, and nobody else's."""
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    followers = JobFollowers(engine, MetadataOptOut())

    async def draw(address: str, seed: int, **scope) -> Path:
        scope |= {"type": "http", "client": (address, 1), "headers": []}
        job = engine.submit(GenerationRequest("a red house", width=64, height=64, num_inference_steps=1, seed=seed))
        *_, (images, *_) = [update async for update in followers.follow(job, gr.Request(Request(scope)))]
        return Path(images[0])

    size = asyncio.run(draw("192.0.2.1", 1)).stat().st_size
    stored = StoredUploads(HttpLimits(stored_bytes=int(2.5 * size)))
    drawn = [asyncio.run(draw(f"192.0.2.{n}", 10 + seed, **{STORED: stored})) for seed, n in enumerate((9, 1, 1, 1))]
    assert [path.is_file() for path in drawn] == [True, False, True, True]


# T27, T28: connections


def test_t27_idle_connections_make_room(local):
    idle = [connect(local.url) for _ in range(40)]
    with pulse(local.url, psutil.Process()):
        for _ in range(3):  # the others are accepted before the first response, and closed before the last one
            assert ask(local.url, "GET", "/health").status == 200
    assert len(established(local)) <= LIMITS.connections + 1
    assert {read_status(connection) for connection in idle} <= {0, 408, 503}  # all end in time
    for connection in idle:
        connection.close()


def established(local: LocalApp) -> list[int]:
    """The clients' ports of the server's connections."""
    port = int(local.url.rpartition(":")[2])
    connections = psutil.Process().net_connections("tcp")
    return [each.raddr.port for each in connections if each.laddr.port == port and each.status == "ESTABLISHED"]


def test_t27_the_log_has_limits():
    now = 0.0
    limited = LimitedLog(records=3, seconds=10, clock=lambda: now)
    record = logging.makeLogRecord({"name": "x", "msg": "refused %s", "args": (1,)})
    assert [limited.filter(record) for _ in range(5)] == [True, True, True, False, False]
    now = 11.0
    assert limited.filter(record)
    assert record.getMessage() == "refused 1 (2 more like this were left out)"


@pytest.mark.parametrize(
    "head",
    [
        b"GET /health HTTP/1.1\r\nHost: localhost\r\n" + b"a: b\r\n" * 200 + b"\r\n",
        b"GET /health HTTP/1.1\r\nHost: localhost\r\na: " + b"b" * 60_000 + b"\r\n\r\n",
        b"POST /login HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 1500,
        b"GET / HTTP/1.1\nHost: localhost\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
    ],
    ids=["count", "size", "pieces", "lengths"],
)
def test_t28_heads_and_bodies_that_keep_the_parser_busy(local, head):
    with connect(local.url) as connection:
        connection.sendall(head)
        assert read_status(connection) in (400, 413)


def test_t28_a_client_that_reads_nothing_is_cut(local):
    """Its connection ends, although the file goes on."""
    path = local.uploads / "big" / "a.bin"
    path.parent.mkdir()
    with path.open("wb") as file:
        file.truncate(100_000_000)
    with connect(local.url) as connection:
        connection.sendall(f"GET /gradio_api/file={path} HTTP/1.0\r\nHost: localhost\r\n\r\n".encode())
        received = len(connection.recv(1))  # the server has begun
        wait_until(lambda: connection.getsockname()[1] not in established(local))
        with suppress(ConnectionResetError):
            while part := connection.recv(2**20):
                received += len(part)
    assert 0 < received < 100_000_000


# T29, T30: what belongs to others


def test_t29_sessions_with_images_are_kept(local):
    """However many sessions a stranger opens; the state of a session without images is made again."""
    sessions = SessionStates(local.page, most=5)
    holder = local.page.state_holder
    sessions.note("ann", "192.0.2.9")
    state = holder["ann"]
    state.state_data[next(iter(state.blocks_config.blocks))] = [type("Item", (), {"path": "a.png"})()]
    for number in range(20):
        holder[str(number)]
        sessions.note(str(number), "192.0.2.1")
    assert "ann" in holder.session_data
    assert len([name for name in holder.session_data if name.isdigit()]) == 4


FORM = {"Content-Type": "application/x-www-form-urlencoded"}


@pytest.fixture
def locked() -> Iterator[LocalApp]:
    """A server with a login. Only for one test: meanwhile, Gradio finds no file in the folder of `local`."""
    with local_app(HttpLimits(), login="ann:password") as app:
        yield app


def log_in(app: LocalApp) -> dict[str, str]:
    answer = ask(app.url, "POST", "/login", b"username=ann&password=password", FORM)
    return {"Cookie": re.search(r"access-token-unsecure-[^;]+", str(answer.headers)).group()}


def test_t30_logging_out_ends_only_this_login(locked):
    def is_in(cookie):
        return ask(locked.url, "GET", "/gradio_api/info", headers=cookie).status == 200

    mine, other = log_in(locked), log_in(locked)
    assert ask(locked.url, "GET", "/logout", headers=mine).status == 404
    foreign = mine | {"Origin": "https://evil.example"}
    assert ask(locked.url, "POST", "/logout", headers=foreign).status == 403
    assert is_in(mine)
    assert ask(locked.url, "POST", "/logout", headers=mine).status == 303
    assert (is_in(mine), is_in(other)) == (False, True)


def test_t30_the_api_is_described_behind_the_login(locked):
    page = ask(locked.url, "GET", "/")
    assert page.status == 200
    assert "window.gradio_api_info = {};</script>" in page.text
    assert "num_inference_steps" not in page.text
    assert "guidance" not in page.text
    assert "guidance" in ask(locked.url, "GET", "/", headers=log_in(locked)).text
    for path in ("/config", "/gradio_api/info", "/gradio_api/openapi.json"):
        assert ask(locked.url, "GET", path).status == 401


def test_t30_control_characters_are_escaped():
    name = "a\x1b[31m\u202ex\r"
    assert str(CheckpointError(f"{name} is cut.")) == "a\\x1b[31m\\u202ex\\r is cut."
    record = logging.makeLogRecord({"msg": "refused %s", "args": (f"{name}\nERROR forged",)})
    assert EscapedFormatter("%(message)s").format(record) == "refused a\\x1b[31m\\u202ex\\r\\nERROR forged"


# Who is who


@pytest.mark.parametrize(
    ("settings", "environment", "peer", "forwarded", "address"),
    [
        ({}, {}, "127.0.0.1", "1.2.3.4", "127.0.0.1"),  # there is no proxy, so the header is forged
        ({"hosts": "a.example"}, {}, "127.0.0.1", "1.2.3.4", "1.2.3.4"),
        ({"hosts": "a.example"}, {}, "127.0.0.1", "5.6.7.8, 1.2.3.4", "1.2.3.4"),  # the first one is forged
        ({"hosts": "a.example"}, {}, "9.8.7.6", "1.2.3.4", "9.8.7.6"),
        ({}, {"SPACE_ID": "a/b"}, "10.0.0.1", "5.6.7.8, 1.2.3.4, 10.0.0.2", "1.2.3.4"),
        ({"host": "0.0.0.0"}, {}, "10.0.0.1", "1.2.3.4", "10.0.0.1"),
        ({"host": "::"}, {}, "2001:db8:1:2:3::4", "", "2001:db8:1:2::"),
        ({"hosts": "a.example"}, {}, "127.0.0.1", "x" * 9000, "127.0.0.1"),
    ],
)
def test_t24_whose_request_it_is(settings, environment, peer, forwarded, address):
    headers = [(b"x-forwarded-for", forwarded.encode())] if forwarded else []
    scope = {"client": (peer, 1), "headers": headers, "scheme": "http"}
    assert Clients(Settings(**settings), environment).address(scope) == address


def test_t26_stored_uploads_forget_only_the_oldest_of_one_client(tmp_path):
    stored = StoredUploads(HttpLimits(stored_bytes=25))
    paths = [tmp_path / str(number) for number in range(5)]
    for path in paths:
        path.write_bytes(b"x" * 10)
    stored.add("b", [str(paths[0])])
    for path in paths[1:]:
        stored.add("a", [str(path)])
    assert [path.exists() for path in paths] == [True, False, False, True, True]


def test_t26_of_too_many_clients_the_oldest_loses_its_files(tmp_path, monkeypatch):
    """Many addresses cannot fill the disk either; a file that another client has too stays."""
    monkeypatch.setattr("x2i_app.ui.http.uploads._MOST_CLIENTS", 2)
    stored = StoredUploads(HttpLimits(stored_bytes=25))
    paths = [tmp_path / name for name in ("own", "shared", "b", "c", "d")]
    for path in paths:
        path.write_bytes(b"x" * 10)
    own, shared, *others = map(str, paths)
    stored.add("a", [own, shared])
    stored.add("b", [others[0], shared])
    stored.add("c", [others[1]])
    assert [path.exists() for path in paths] == [False, True, True, True, True]
    stored.add("d", [others[2]])
    assert [path.exists() for path in paths] == [False, False, False, True, True]


def test_t21_many_at_once(app, ready):
    """The attacks of T21 together, by several clients, beside a job."""
    bodies = [{"data": [{"path": "a/" * 300_000}]}, {"data": [[[]] * 100_000]}] * 3
    with pulse(ready, psutil.Process(app.process.pid)):
        threads = threading.Thread(
            target=in_parallel, args=(lambda body: ask(ready, "POST", f"{CALL}/text", body), bodies)
        )
        threads.start()
        assert canary(ready) == "complete"
        threads.join()
    assert json.loads(ask(ready, "GET", "/health").text)["state"] == "ready"
