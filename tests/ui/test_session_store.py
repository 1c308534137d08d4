"""A browser's images on disk: kept, read again, deleted, limited, and never another browser's."""

import errno
import json
import os
import shutil
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from x2i_app.media.hashing import hash_inputs
from x2i_app.media.image_texts import save_image
from x2i_app.media.metadata import describe
from x2i_app.request import GenerationRequest, GenerationResult, InputRecord
from x2i_app.settings import ASSETS, Settings
from x2i_app.ui import session_store
from x2i_app.ui.history import HistoryItem
from x2i_app.ui.session_store import SessionStore, new_key

NOW = time.time_ns()
BOAT = ASSETS / "examples/images/boat-at-sunset.png"


@pytest.fixture
def store(tmp_path, monkeypatch):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "gradio"))
    return SessionStore(tmp_path / "sessions", hours=24)


def item(folder: Path, number: int, prompt: str = "make it night", **fields) -> HistoryItem:
    """An image as a job leaves it, with its settings inside. number: later ones are newer."""
    request = GenerationRequest(
        prompt, width=64, height=64, num_inference_steps=1, guidance_scale=3.5, seed=number, **fields
    )
    image = Image.new("RGB", (64, 64), (number, 0, 0))
    record = InputRecord(hash_inputs(request))
    result = GenerationResult((image,), (number,), request, "a boat at night", ("A note.",), inputs=record)
    texts = describe(result, Settings())[0]
    path = folder / f"{number}.png"
    save_image(image, path, texts)
    name = f"{NOW + number:020}-48.png"
    return HistoryItem(str(path), request, texts, "job", result.answer, result.notes, {"seeds": [number]}, name)


def test_everything_is_there_again(store, tmp_path):
    """Image, request, input files and facts, newest first, also for another process; and for no other browser."""
    key, kept = new_key(), [item(tmp_path, 2, images=[str(BOAT)]), item(tmp_path, 1, "a red house")]
    store.add(key, kept)
    first, second = SessionStore(store.folder, hours=24).load(key)
    assert (first.request.prompt, second.request.prompt) == ("make it night", "a red house")
    assert (first.request.seed, first.answer, list(first.notes), first.report) == (
        2,
        "a boat at night",
        ["A note."],
        {"seeds": [2]},
    )
    assert (first.texts, first.job, first.name) == (kept[0].texts, "job", kept[0].name)
    assert Path(first.request.images[0]).read_bytes() == BOAT.read_bytes()
    assert Path(first.path).read_bytes() == Path(kept[0].path).read_bytes()
    for other in (new_key(), "", None, 5, "../" + key, "x" * 43):
        assert store.load(other) == []


def test_delete(store, tmp_path):
    """One image goes with its inputs, or all of them; nothing is left on disk, and nothing of other browsers goes."""
    key, other = new_key(), new_key()
    newest, oldest = item(tmp_path, 2, images=[str(BOAT)]), item(tmp_path, 1)
    store.add(key, [newest, oldest])
    store.add(other, [oldest])
    store.remove(key, newest)
    assert [each.request.seed for each in store.load(key)] == [1]
    assert not list(store.folder.rglob("*boat*"))
    store.remove(key)
    assert store.load(key) == []
    assert len(list(store.folder.iterdir())) == 1
    store.remove("no key")
    assert len(store.load(other)) == 1


def test_age(store, tmp_path, monkeypatch):
    """What is too old is deleted for good."""
    key = new_key()
    store.add(key, [item(tmp_path, 1)])
    later = time.time() + 24 * 3600 + 60
    monkeypatch.setattr(session_store.time, "time", lambda: later)
    assert store.load(key) == []
    assert list(store.folder.rglob("*.*")) == []


def test_t29_size(tmp_path, store):
    """When all are too large together, the oldest images of who has kept most go, and nobody else's."""
    first, second = new_key(), new_key()
    one = item(tmp_path, 1)
    store.add(first, [one])
    store.max_bytes = int(2.5 * sum(file.stat().st_size for file in store.folder.rglob("*.*")))
    store.add(second, [item(tmp_path, 2), item(tmp_path, 3)])
    assert [each.request.seed for each in store.load(first)] == [1]
    assert [each.request.seed for each in store.load(second)] == [3]


def test_t29_browsers_of_one_client_share(tmp_path, store):
    """However many browsers a client has, its oldest image goes, and not one of another client with less."""
    theirs, mine = new_key(), [new_key() for _ in range(3)]
    store.add(theirs, [item(tmp_path, 1, "theirs" * 40)], "192.0.2.9")
    for number, key in enumerate(mine):
        store.add(key, [item(tmp_path, 2 + number)], "192.0.2.1" if number else "")
    store.load(mine[0], owner="192.0.2.1")
    store.max_bytes = sum(file.stat().st_size for file in store.folder.rglob("*.*")) - 1
    store.add(mine[2], [], "192.0.2.1")
    assert [len(store.load(key)) for key in (theirs, *mine)] == [1, 0, 1, 1]


def test_foreign_files(tmp_path, store, monkeypatch):
    """What others have put or changed there is passed over: an image of the browser stays, and no other one suffers."""
    monkeypatch.setattr(session_store, "_CLEAN_SECONDS", -1)
    key = new_key()
    store.add(key, [item(tmp_path, number) for number in range(8)])
    folder = next(store.folder.iterdir())
    *facts, good = sorted(folder.glob("*.json"), reverse=True)
    usual = json.loads(good.read_text(encoding="utf-8"))
    changes = ({"texts": []}, {"job": 5}, {"answer": []}, {"notes": [5]}, {"report": "x"})
    for path, content in zip(
        facts, ["[" * 100_000, "[]", *(json.dumps(usual | each) for each in changes)], strict=True
    ):
        path.write_text(content, encoding="utf-8")
    (store.folder / ".DS_Store").write_text("x")
    for name in ("holiday.png", "-.png", "9" * 200 + "-1.png", "x.json"):
        (folder / name).write_bytes(BOAT.read_bytes())
    assert [each.name for each in store.load(key)] == [good.with_suffix(".png").name]
    assert (folder / "holiday.png").exists()


def test_number(tmp_path, store, monkeypatch):
    monkeypatch.setattr(session_store, "MAX_ITEMS", 2)
    key = new_key()
    store.add(key, [item(tmp_path, number) for number in (1, 2, 3)])
    assert len(list(store.folder.rglob("*.png"))) == 2
    assert [each.request.seed for each in store.load(key)] == [3, 2]


def test_favorites(tmp_path, store, monkeypatch):
    """A mark is there again, also without one that an earlier version wrote; what is marked goes last."""
    monkeypatch.setattr(session_store, "MAX_ITEMS", 2)
    key, (oldest, newer) = new_key(), (item(tmp_path, 1), item(tmp_path, 2))
    store.add(key, [newer, oldest])
    store.mark(key, replace(oldest, is_favorite=True))
    store.mark(new_key(), replace(newer, is_favorite=True))
    assert [(each.request.seed, each.is_favorite) for each in store.load(key)] == [(2, False), (1, True)]
    store.add(key, [item(tmp_path, 3)])
    assert [each.request.seed for each in store.load(key)] == [3, 1]
    facts = min(store.folder.rglob("*.json"))
    shown = json.loads(facts.read_text(encoding="utf-8"))
    del shown["is_favorite"]
    facts.write_text(json.dumps(shown), encoding="utf-8")
    assert [each.is_favorite for each in store.load(key)] == [False, False]


def test_r10_a_full_disk_leaves_nothing(tmp_path, store, monkeypatch):
    key = new_key()
    store.add(key, [item(tmp_path, 1, images=[str(BOAT)])])
    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", full_disk)
        store.add(key, [item(tmp_path, 2, images=[str(BOAT)])])
    assert [each.request.seed for each in store.load(key)] == [1]
    assert {path.stem for path in next(store.folder.iterdir()).iterdir() if not path.name.startswith("tmp")} == {
        Path(item(tmp_path, 1).name).stem
    }


def full_disk(*_):
    raise OSError(errno.ENOSPC, "No space left on device")


def test_r9_parts_of_a_killed_run_go(tmp_path, store, monkeypatch):
    """After an hour: the app may be writing them."""
    monkeypatch.setattr(session_store, "_CLEAN_SECONDS", -1)
    key = new_key()
    store.add(key, [item(tmp_path, 1)])
    folder = next(store.folder.iterdir())
    names = {path.name for path in folder.iterdir()}
    (folder / "5.inputs").mkdir()
    for name in ("5.json", "tmpabc", "5.inputs/a.png", "6.json"):
        (folder / name).write_text("x")
    for name in ("5.json", "tmpabc", "5.inputs"):
        os.utime(folder / name, (0, 0))
    store.load(key)
    assert {path.name for path in folder.iterdir()} == names | {"6.json"}


def test_what_is_not_kept(tmp_path, store):
    """Images whose settings are not saved, anything when the owner wants nothing kept, and too large inputs."""
    key, opted_out = new_key(), item(tmp_path, 1)
    store.add(key, [HistoryItem(opted_out.path, opted_out.request, {}, "job", name=opted_out.name)])
    assert not store.folder.exists()
    SessionStore(store.folder, hours=0).add(key, [opted_out])
    assert not store.folder.exists()


def test_no_browser_waits_for_another(tmp_path, store, monkeypatch):
    """While the files of one are copied, to it or from it, another one gets its images."""
    mine, other, got = new_key(), new_key(), []
    store.add(other, [item(tmp_path, 1)])
    main, copy, keep = threading.current_thread(), session_store.save_file_to_cache, shutil.copyfile

    def load_other():
        if threading.current_thread() is main:
            thread = threading.Thread(target=lambda: got.append(len(store.load(other))), daemon=True)
            thread.start()
            thread.join(120)

    monkeypatch.setattr(session_store, "save_file_to_cache", lambda *files: load_other() or copy(*files))
    monkeypatch.setattr(shutil, "copyfile", lambda *files, **options: load_other() or keep(*files, **options))
    store.add(mine, [item(tmp_path, 2, images=[str(BOAT)])])
    assert got == [1]
    assert len(store.load(mine)) == 1
    assert len(got) > 1
    assert set(got) == {1}


def test_t26_copies_are_counted(tmp_path, store):
    """All of them, and no copy belongs to two browsers: the share of one can be used up without those of another."""
    copies = {}
    for key in (new_key(), new_key()):
        store.add(key, [item(tmp_path, 1, images=[str(BOAT)])])
        copies[key] = []
        (kept,) = store.load(key, copies[key].extend)
        assert {kept.path, *kept.request.images} == set(copies[key])
    mine, others = map(set, copies.values())
    assert not mine & others


def test_large_input(tmp_path, store, monkeypatch):
    """A too large input is not kept: the image is there again, and says that the input is missing."""
    monkeypatch.setattr(session_store, "_MAX_INPUT_BYTES", 10)
    key = new_key()
    store.add(key, [item(tmp_path, 1, images=[str(BOAT)])])
    (kept,) = store.load(key)
    assert kept.request.images[0].startswith("sha256:")


def test_damaged(tmp_path, store, caplog):
    """An image that cannot be read again is passed over, and the log says so."""
    key = new_key()
    store.add(key, [item(tmp_path, 1), item(tmp_path, 2)])
    damaged = max(store.folder.rglob("*.json"))
    damaged.write_text("{", encoding="utf-8")
    assert [each.request.seed for each in store.load(key)] == [1]
    assert "could not be read again" in caplog.text
