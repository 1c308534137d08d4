"""Unfinished jobs on disk: there again after a restart, gone when they end, bounded, and never another browser's."""

import asyncio
import json
import os
import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import gradio as gr
import pytest
from starlette.requests import Request

from x2i_app.errors import EngineError
from x2i_app.request import GenerationRequest, Turn
from x2i_app.serving.engine import Engine
from x2i_app.serving.jobs import Job, Phase
from x2i_app.settings import ASSETS, Settings
from x2i_app.ui import queue_store
from x2i_app.ui.layout import build_page
from x2i_app.ui.queue_store import QueueStore
from x2i_app.ui.session_store import new_key

BOAT = ASSETS / "examples/images/boat-at-sunset.png"


@pytest.fixture
def upload(tmp_path, monkeypatch):
    """A file as Gradio has received it."""
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "gradio"))
    path = tmp_path / "gradio/abc/boat.png"
    path.parent.mkdir(parents=True)
    shutil.copy(BOAT, path)
    return str(path)


@pytest.fixture
def store(tmp_path, upload):
    return QueueStore(tmp_path / "queues", hours=24, is_closing=lambda: False)


def again(store, **options) -> QueueStore:
    """The store of the next run of the app."""
    return QueueStore(store.folder, hours=24, is_closing=lambda: False, **options)


def requests(store, key):
    return [store.restore(each) for each in store.find(key)]


def files_of(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_whole(store, upload):
    """Every value, file and turn is there again for the same browser, and for no other one."""
    turn = Turn("a boat", images=(upload,), answer="a boat at sunset")
    whole = GenerationRequest(
        "make it night",
        images=[upload],
        history=[turn],
        width=64,
        seed=5,
        num_images_per_prompt=3,
        mask=upload,
        outpaint=(16, 0, 0, 0),
        loras=[(str(ASSETS / "examples/loras/striped.safetensors"), 0.5)],
        negative_prompt="fog",
    )
    key, jobs = new_key(), [Job(whole), Job(GenerationRequest("a red house"))]
    store.keep(key, jobs)
    shutil.rmtree(Path(upload).parent)  # as Gradio does when the app is started
    first, second = again(store).find(key)
    assert (first.id, second.id) == (jobs[0].id, jobs[1].id)
    request = store.restore(first)
    assert Path(request.images[0]).read_bytes() == Path(request.mask).read_bytes() == BOAT.read_bytes()
    assert (request.prompt, request.width, request.seed, request.num_images_per_prompt) == ("make it night", 64, 5, 3)
    assert (request.outpaint, request.negative_prompt) == ((16, 0, 0, 0), "fog")
    assert request.loras == whole.loras, "a file of this machine stays where it is"
    assert request.history[0].answer == "a boat at sunset"
    assert Path(request.history[0].images[0]).is_file()
    for other in (new_key(), "", "off", None, 5, "../" + key):
        assert store.find(other) == []


def test_no_browser_waits_for_another(store, upload, monkeypatch):
    """Nor does the worker: while the files of one are copied, others are kept and found, and jobs end."""
    mine, other, ended = new_key(), new_key(), Job(GenerationRequest("a car"))
    store.keep(mine, [ended])
    main, copy, restore, done = threading.current_thread(), shutil.copyfile, queue_store.save_file_to_cache, []

    def meanwhile():
        prompt = f"a boat {len(done)}"
        ended.finish(None)
        store.keep(other, [Job(GenerationRequest(prompt))])
        done.append(prompt in [each.request.prompt for each in store.find(other)])

    def while_others_go_on(function, *files, **options):
        if threading.current_thread() is main:
            thread = threading.Thread(target=meanwhile, daemon=True)
            thread.start()
            thread.join(120)
        return function(*files, **options)

    monkeypatch.setattr(shutil, "copyfile", partial(while_others_go_on, copy))
    monkeypatch.setattr(queue_store, "save_file_to_cache", partial(while_others_go_on, restore))
    store.keep(mine, [Job(GenerationRequest("a house", images=[upload]))])
    assert done == [True]
    (request,) = requests(store, mine)
    assert Path(request.images[0]).read_bytes() == BOAT.read_bytes()
    assert len(done) > 1
    assert all(done)


def test_t29_browsers_of_one_client_share(store, upload):
    """However many browsers a client has, its oldest job goes, and not that of another client with less."""
    size = BOAT.stat().st_size
    store.max_bytes = int(3.5 * size)
    other = Path(upload).with_name("large.png")
    other.write_bytes(BOAT.read_bytes() + b"x" * (size // 4))
    theirs, mine = new_key(), [new_key() for _ in range(3)]
    store.keep(theirs, [Job(GenerationRequest("theirs", images=[str(other)]))], "192.0.2.9")
    for age, key in enumerate(mine):
        store.keep(key, [Job(GenerationRequest("mine", images=[upload]))], "192.0.2.1")
        for path in store.folder.glob(f"{queue_store.folder_of(store.folder, key).name}/*.json"):
            os.utime(path, (time.time() - 100 + age,) * 2)
    assert [len(store.find(key)) for key in (theirs, *mine)] == [1, 0, 1, 1]


def test_t26_copies_are_counted(store, upload):
    """And no copy belongs to two browsers: the share of one can be used up without the files of another."""
    copies = []
    for key in (new_key(), new_key()):
        store.keep(key, [Job(GenerationRequest("a house", images=[upload], mask=upload))])
        (job,) = store.find(key)
        copies.append([])
        request = store.restore(job, copies[-1].extend)
        assert {*request.images, request.mask} == set(copies[-1])
    assert not set(copies[0]) & set(copies[1])


def test_changes(store):
    """The order and the values are those of the list as it is now, and only what changed is written."""
    key, jobs = new_key(), [Job(GenerationRequest(prompt)) for prompt in ("a house", "a boat")]
    store.keep(key, jobs)
    times = {path: path.stat().st_mtime_ns for path in files_of(store.folder)}
    store.keep(key, jobs)
    assert times == {path: path.stat().st_mtime_ns for path in files_of(store.folder)}
    jobs[0].request = jobs[0].request.with_values(num_images_per_prompt=4)
    store.keep(key, jobs[::-1])
    assert [(each.prompt, each.num_images_per_prompt) for each in requests(store, key)] == [
        ("a boat", 1),
        ("a house", 4),
    ]


def test_ended(store, upload):
    """What has ended, however it did, leaves no file behind; one that ended before it could be written neither."""
    key, jobs = new_key(), [Job(GenerationRequest("a house", images=[upload])) for _ in range(3)]
    store.keep(key, jobs)
    jobs[0].fail(EngineError("a fault"))
    jobs[1].finish(None)
    assert [each.id for each in store.find(key)] == [jobs[2].id]
    store.remove(key)
    assert list(store.folder.iterdir()) == []
    store.keep(key, [jobs[1], Job(GenerationRequest("a boat"))])
    assert [each.prompt for each in requests(store, key)] == ["a boat"]


def test_limits(store, upload, monkeypatch):
    """Jobs go with age; of too many bytes, the oldest of who has most go; nothing is kept with 0 hours."""
    monkeypatch.setattr("x2i_app.ui.queue_store._MAX_INPUT_BYTES", 2 * BOAT.stat().st_size)
    big, small = new_key(), new_key()
    store.max_bytes = int(2.5 * BOAT.stat().st_size)
    store.keep(small, [Job(GenerationRequest("a house"))])
    jobs = [Job(GenerationRequest(f"boat {number}", images=[upload])) for number in range(4)]
    for number, job in enumerate(jobs):
        store.keep(big, [job])
        if (path := next(store.folder.rglob(f"{job.id}.json"), None)) is not None:
            os.utime(path, (time.time() - 100 + number,) * 2)
    assert [each.prompt for each in requests(store, big)] == ["boat 2", "boat 3"]
    assert [each.prompt for each in requests(store, small)] == ["a house"]
    for path in store.folder.rglob("*.json"):
        os.utime(path, (time.time() - 25 * 3600,) * 2)
    assert requests(store, big) == requests(store, small) == []
    assert files_of(store.folder) == []
    off = QueueStore(store.folder, hours=0, is_closing=lambda: False)
    off.keep(big, jobs)
    assert files_of(store.folder) == []


def test_damaged(store):
    """A file that cannot be read is passed over, with all others read; so is one that is nobody's."""
    contents = (
        "{",
        "[" * 100_000,
        "5",
        json.dumps({"place": 1, "request": {"prompt": 5, "unknown": 1}}),
        json.dumps({"place": 1, "request": {"prompt": 5}}),
        json.dumps({"place": [], "request": {"prompt": "a"}}),
        '{"place": Infinity, "request": {"prompt": "a"}}',
        '{"place": NaN, "request": {"prompt": "a"}}',
        json.dumps({"place": 1, "request": {"prompt": "a", "history": [{"prompt": []}]}}),
    )
    key, jobs = new_key(), [Job(GenerationRequest(prompt)) for prompt in ("a car", *map(str, range(len(contents))))]
    store.keep(key, jobs)
    for job, content in zip(jobs[1:], contents, strict=True):
        next(store.folder.rglob(f"{job.id}.json")).write_text(content)
    (store.folder / ".DS_Store").write_text("x")
    assert [each.prompt for each in requests(store, key)] == ["a car"]
    path = next(store.folder.rglob(f"{jobs[0].id}.json"))
    stored = json.loads(path.read_text())
    stored["request"]["images"] = ["file:../../secret.png"]
    path.write_text(json.dumps(stored))
    assert requests(store, key) == [None]


class TestPage:
    """The panel of a page, with an engine that does not run."""

    @pytest.fixture
    def folder(self, tmp_path, monkeypatch):
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        return tmp_path

    @staticmethod
    def panel(engine):
        page = build_page(engine)
        return next(fn.fn.__self__ for fn in page.fns.values() if fn.name == "act")

    @staticmethod
    def request(session):
        return gr.Request(headers={"origin": "http://127.0.0.1", "accept-language": "en"}, session_hash=session)

    @staticmethod
    def first(updates):
        async def take():
            value = await anext(updates)
            await updates.aclose()
            return value

        with ThreadPoolExecutor(1) as pool:
            return pool.submit(asyncio.run, take()).result()

    def test_restart(self, folder):
        """What waited when the app ended is offered to its browser alone, queued once more, and then no more."""
        key, before = new_key(), self.panel(Engine(Settings()))
        for prompt in ("a <b>house</b>", "a boat"):
            before.engine.submit(GenerationRequest(prompt), "one")
        self.first(before.watch(self.request("one"), None, key))
        before.engine.close()
        assert before._left(key) == [], "a page of the same run knows them"

        panel = self.panel(Engine(Settings()))
        offer, text = panel.show_kept(self.request("two"), key)
        assert offer.visible
        assert "(2)" in text
        assert "a &lt;b&gt;house&lt;/b&gt;" in text
        assert not panel.show_kept(self.request("three"), new_key())[0].visible
        *_, offer, _ = self.first(panel.queue_again(self.request("two"), key))
        assert not offer.visible
        jobs = panel.engine.jobs_of("two")
        assert [job.request.prompt for job in jobs] == ["a <b>house</b>", "a boat"]
        assert not panel.show_kept(self.request("four"), key)[0].visible
        assert [each.id for each in panel.store.find(key)] == [job.id for job in jobs], "kept for the next restart"
        panel.engine.cancel(jobs[0])
        assert jobs[0].progress.phase is Phase.CANCELLED
        assert [each.id for each in panel.store.find(key)] == [jobs[1].id]

    def test_no_room(self, folder):
        """What does not fit into the queue stays offered."""
        key, before = new_key(), self.panel(Engine(Settings()))
        for number in range(3):
            before.engine.submit(GenerationRequest(f"house {number}"), "one")
        self.first(before.watch(self.request("one"), None, key))
        before.engine.close()
        panel = self.panel(Engine(Settings(queue_size=2)))
        *_, offer, text = self.first(panel.queue_again(self.request("two"), key))
        assert offer.visible
        assert "(1)" in text
        assert "house 2" in text

    @pytest.mark.parametrize("opt_out", ["keep", "metadata"])
    def test_opt_out(self, folder, opt_out):
        """Who wants no images kept, or no settings written, has no jobs on disk, also those that are running."""
        key, panel = new_key(), self.panel(Engine(Settings()))
        panel.engine.submit(GenerationRequest("a house"), "one")
        if opt_out == "keep":
            panel.context.keys.set("one", "off")
        else:
            panel.context.opt_out.set("one", True)
        self.first(panel.watch(self.request("one"), None, key))
        assert panel.store.find(key) == []

    def test_t23_one_client_keeps_no_page_waiting(self, folder, upload, monkeypatch):
        """While large files of one client's many pages are copied, the page of another shows its list."""
        panel, go_on, copy = self.panel(Engine(Settings())), threading.Event(), shutil.copyfile
        monkeypatch.setattr(shutil, "copyfile", lambda *files: go_on.wait(60) and copy(*files))

        def opened(session, address, images=()):
            scope = {"type": "http", "client": (address, 1), "headers": [(b"origin", b"http://127.0.0.1")]}
            panel.engine.submit(GenerationRequest("a house", images=images), session, address=address)
            return anext(panel.watch(gr.Request(Request(scope), session_hash=session), None, new_key()))

        async def watch():
            mine = [asyncio.ensure_future(opened(f"page {n}", "192.0.2.1", [upload])) for n in range(16)]
            await asyncio.sleep(0.1)
            try:
                return await asyncio.wait_for(opened("other", "192.0.2.9"), 50)
            finally:
                go_on.set()
                await asyncio.gather(*mine)

        _, ids = asyncio.run(watch())
        assert [job.id for job in panel.engine.jobs_of("other")] == [ids]
        assert len(files_of(panel.store.folder)) == 2 * 16 + 1
