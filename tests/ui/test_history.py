"""The images of a session: added once, removed when too many, put into one ZIP file; and sessions that opt out."""

import json
import os
import threading
import zipfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import gradio as gr
import pytest
from conftest import file_size_limit
from PIL import Image

from x2i_app.errors import EngineError
from x2i_app.request import GenerationRequest
from x2i_app.settings import Settings
from x2i_app.ui import history
from x2i_app.ui.history import (
    MAX_ITEMS,
    BrowserKeys,
    HistoryItem,
    MetadataOptOut,
    add_job,
    existing,
    with_room,
    zip_images,
)
from x2i_app.ui.history_panel import HistoryPanel, matching
from x2i_app.ui.http import disk_space
from x2i_app.ui.i18n import PageError
from x2i_app.ui.image_files import ImageFiles
from x2i_app.ui.layout import build_page


@pytest.fixture(autouse=True)
def upload_folder(tmp_path, monkeypatch):
    """Gradio's folder of files, empty."""
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "gradio"))
    return tmp_path / "gradio"


@pytest.fixture(scope="module")
def job(engine):
    """A finished job of two images."""
    job = engine.submit(
        GenerationRequest("a red house", width=64, height=64, num_images_per_prompt=2, seed=7), "session"
    )
    job.wait(300)
    return job


@pytest.fixture
def files(engine):
    return ImageFiles(engine, MetadataOptOut())


def item(path, seed=1):
    request = GenerationRequest("a house", seed=seed)
    report = {"seeds": [seed], "prompt": "a house"}
    return HistoryItem(str(path), request, {"x2i": json.dumps({"seed": seed})}, "job", "a large house", report=report)


def items_in(folder, count):
    folder.mkdir()
    for seed in range(count):
        Image.new("RGB", (8, 8), (seed, 0, 0)).save(folder / f"{seed}.png")
    return [item(folder / f"{seed}.png", seed) for seed in range(count)]


class TestMetadataOptOut:
    def test_sessions_are_separate(self):
        opt_out, settings = MetadataOptOut(), Settings()
        opt_out.set("a", True)
        assert not opt_out.settings(settings, "a").metadata
        assert opt_out.settings(settings, "b") is settings
        opt_out.set("a", False)
        assert opt_out.settings(settings, "a") is settings

    def test_only_the_newest_choices_are_kept(self):
        """A thousand sessions; strangers cannot fill the memory with more."""
        opt_out, settings = MetadataOptOut(), Settings()
        opt_out.set("first", True)
        opt_out.set("second", True)
        opt_out.set("first", True)  # chosen again, so the second one is now the oldest
        for number in range(history._MAX_OPT_OUTS - 1):
            opt_out.set(str(number), True)
        assert len(opt_out._sessions) == history._MAX_OPT_OUTS
        assert not opt_out.settings(settings, "first").metadata
        assert opt_out.settings(settings, "second") is settings

    def test_nothing_is_kept_of_sessions_without_an_opt_out(self):
        opt_out = MetadataOptOut()
        opt_out.set("a", False)
        assert not opt_out._sessions


class TestAddJob:
    def test_items(self, job, files):
        """Newest first; each with its own seed, and with the file that the page shows."""
        items = add_job([item("older.png")], job, files, "x2i-tiny")
        assert [each.request.seed for each in items] == [7, 8, 1]
        assert all(each.request.num_images_per_prompt == 1 for each in items[:2])
        assert [each.caption for each in items] == ["a red house · 7", "a red house · 8", "a house · 1"]
        assert [each.path for each in items[:2]] == [file.path for file in files.of(job)]
        with Image.open(items[1].path) as image:
            assert json.loads(image.info["x2i"])["seed"] == 8
            assert image.tobytes() == job.result.images[1].tobytes()
        assert json.loads(items[1].texts["x2i"])["seed"] == 8
        assert "x2i" not in job.result.images[0].info, "the job's own images stay as they are"

    def test_a_job_is_added_once(self, job, files):
        items = add_job([], job, files, "x2i-tiny")
        assert add_job(items, job, files, "x2i-tiny") == items

    def test_unfinished_jobs_add_nothing(self, engine, files):
        waiting = engine.submit(GenerationRequest("x", width=512, height=512, num_inference_steps=50))
        for job in (None, waiting):
            assert add_job([item("a.png")], job, files, "x2i-tiny") == [item("a.png")]
        engine.cancel(waiting)

    def test_the_oldest_are_removed(self, job, files):
        many = [item(f"{number}.png", number) for number in range(MAX_ITEMS)]
        items = add_job(many, job, files, "x2i-tiny")
        assert len(items) == MAX_ITEMS
        assert [each.request.seed for each in items[:3]] == [7, 8, 0]
        assert items[-1].request.seed == MAX_ITEMS - 3

    def test_favorites_stay(self):
        """Whatever is marked goes after all that is not, and then the oldest first."""
        many = [replace(item(f"{number}.png", number), is_favorite=number % 2 == 1) for number in range(MAX_ITEMS + 2)]
        assert [each.request.seed for each in with_room(many)] == [
            number for number in range(MAX_ITEMS + 2) if number not in (MAX_ITEMS - 2, MAX_ITEMS)
        ]
        marked = [replace(each, is_favorite=True) for each in many]
        assert with_room(marked) == marked[:MAX_ITEMS]
        assert with_room(many[:3]) == many[:3]

    def test_opted_out(self, engine, job):
        """Neither the file nor the item has the settings."""
        opt_out = MetadataOptOut()
        opt_out.set("session", True)
        items = add_job([], job, ImageFiles(engine, opt_out), "x2i-tiny")
        assert items[0].texts == {}
        assert "x2i" not in Image.open(items[0].path).info


def test_items_without_files_are_left_out(tmp_path):
    items = items_in(tmp_path / "images", 2)
    Path(items[0].path).unlink()
    assert existing(items) == items[1:]


def test_keys_of_browsers():
    """The last one of a session counts; what can be no key takes no memory."""
    keys = BrowserKeys()
    keys.set("mine", "first")
    keys.set("mine", "off")
    assert (keys.of("mine", "first"), keys.of("other", "own")) == ("off", "own")
    for value in ("x" * 65, ["x"] * 1000, {"a": 1}, 5, None):
        keys.set("mine", value)
        assert keys.of("mine", "first") == ""


class TestZip:
    def test_content(self, tmp_path):
        """The oldest is number 1; a session that opted out has no settings in it."""
        items = items_in(tmp_path / "images", 3)
        items[0] = replace(items[0], texts={})
        with zipfile.ZipFile(zip_images(items)) as archive:
            assert archive.namelist() == ["001-seed-2.png", "002-seed-1.png", "003-seed-0.png", "settings.json"]
            assert archive.read("001-seed-2.png") == Path(items[2].path).read_bytes()
            assert json.loads(archive.read("settings.json")) == {
                "001-seed-2.png": {"seed": 2},
                "002-seed-1.png": {"seed": 1},
            }
        with zipfile.ZipFile(zip_images([items[0]])) as archive:
            assert archive.namelist() == ["001-seed-0.png"]

    def test_same_images_same_file(self, tmp_path, upload_folder):
        items = items_in(tmp_path / "images", 2)
        with ThreadPoolExecutor(8) as pool:
            paths = set(pool.map(lambda _: zip_images(items), range(40)))
        assert len(paths) == 1
        assert [path.name for path in upload_folder.rglob("*") if path.is_file()] == ["x2i-images.zip"]
        assert zip_images(items[:1]) not in paths

    def test_one_at_a_time(self, tmp_path, monkeypatch):
        """Simultaneous requests do not write several files at once."""
        running, most, write = [], [0], history._write_zip

        def count(*arguments):
            running.append(1)
            most[0] = max(most[0], len(running))
            threading.Event().wait(0.05)
            write(*arguments)
            running.pop()

        monkeypatch.setattr(history, "_write_zip", count)
        items = items_in(tmp_path / "images", 4)
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda number: zip_images(items[number:]), range(4)))
        assert most == [1]

    def test_a_used_file_is_young(self, tmp_path):
        """Gradio deletes old files; one that is asked for again is not old."""
        items = items_in(tmp_path / "images", 1)
        path = zip_images(items)
        os.utime(path, (0, 0))
        assert zip_images(items) == path
        assert Path(path).stat().st_mtime > 1e9

    def test_no_space(self, tmp_path, monkeypatch, upload_folder):
        monkeypatch.setattr(disk_space, "SPARE_BYTES", 2**62)
        with pytest.raises(EngineError, match="The disk is nearly full"):
            zip_images(items_in(tmp_path / "images", 1))
        assert not [path for path in upload_folder.rglob("*") if path.is_file()]

    def test_a_full_disk(self, tmp_path, upload_folder):
        """It is one sentence, and no unfinished file stays."""
        items = items_in(tmp_path / "images", 2)
        Path(items[0].path).write_bytes(b"x" * 100_000)
        with file_size_limit(50_000), pytest.raises(EngineError, match="The ZIP file cannot be written"):
            zip_images(items)
        assert not [path for path in upload_folder.rglob("*") if path.is_file()]

    def test_a_deleted_image(self, tmp_path):
        items = items_in(tmp_path / "images", 2)
        Path(items[0].path).unlink()
        with pytest.raises(EngineError, match="No such file or directory"):
            zip_images(items)


class TestPanel:
    def function(self, engine, name):
        return next(fn.fn for fn in build_page(engine).fns.values() if fn.name == name)

    def test_selected_item(self, tmp_path):
        """The one that was clicked last, or else the newest."""
        items = items_in(tmp_path / "images", 3)
        assert HistoryPanel.selected_item(items, []) == items[0]
        assert HistoryPanel.selected_item(items, [0, 2]) == items[2]
        assert HistoryPanel.selected_item(items, [9]) == items[0]
        with pytest.raises(PageError, match="There is no image yet"):
            HistoryPanel.selected_item([item("gone.png")], [0])

    def test_select(self, engine, tmp_path):
        """The facts of the clicked image; the pair is that of the last two different ones."""
        select, items = self.function(engine, "select_item"), items_in(tmp_path / "images", 3)
        request = gr.Request(headers={})

        def click(index, selected):
            return select(request, items, selected, "", False, gr.SelectData(None, {"index": index, "value": None}))

        selected, pair, images, caption, answer, report, job, preview = click(1, [])
        assert (selected, images, pair, job, preview) == ([1], [items[1].path], gr.skip(), "job", "")
        assert answer == "a large house"
        assert (report["seeds"], report["prompt"]) == ([1], "a house")
        assert caption.startswith("<p>Seed 1, ")
        assert click(2, [1])[0] == [1, 2]
        assert click(2, [1])[1] == (items[1].path, items[2].path)
        assert click(1, [1, 2])[0] == [2, 1]
        assert click(0, [1, 2])[0] == [2, 0]
        for wrong in (-1, 3, "0", True, None):
            assert click(wrong, []) == [gr.skip()] * 8

    def test_mark(self, engine, tmp_path):
        """The selected image gets a star and can be shown alone, also with a search; a second click takes it away."""
        mark, items = self.function(engine, "mark"), items_in(tmp_path / "images", 3)
        items, thumbnails = mark(items, [1], "", False, None)
        assert [caption for _, caption in thumbnails] == ["a house · 0", "\u2605 a house · 1", "a house · 2"]
        assert matching(items, "house", True) == matching(items, "", True) == [1]
        assert matching(items, "boat", True) == []
        assert matching(items, f"{'house ' * 40}boat", True) == [1], "the words after the limit are not looked for"
        _, thumbnails = mark(items, [0], "", True, None)
        assert [caption for _, caption in thumbnails] == ["\u2605 a house · 0", "\u2605 a house · 1"]
        items, thumbnails = mark(items, [1], "", True, None)
        assert thumbnails == []
        assert not any(each.is_favorite for each in items)

    def test_download_nothing(self, engine):
        with pytest.raises(PageError, match="There is no image yet"):
            self.function(engine, "download_all")(gr.Request(), [])
