"""The PNG files of jobs' images: written once, written again if they are gone, and forgotten with the job."""

import gc
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from PIL import Image

from x2i_app.errors import InvalidRequestError
from x2i_app.media import read_recipe
from x2i_app.request import GenerationRequest, GenerationResult
from x2i_app.serving.engine import Engine
from x2i_app.serving.jobs import Job
from x2i_app.settings import Settings
from x2i_app.ui import image_files
from x2i_app.ui.history import MetadataOptOut
from x2i_app.ui.image_files import ImageFiles


@pytest.fixture(autouse=True)
def upload_folder(tmp_path, monkeypatch):
    """Gradio's folder of files, empty."""
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "gradio"))


@pytest.fixture
def files():
    return ImageFiles(Engine(Settings()), MetadataOptOut())


def job_of(count):
    """A job that has finished `count` images of different colors."""
    request = GenerationRequest("a house", width=64, height=64).with_defaults(Engine(Settings()).flux, seed=7)
    job = Job(request, "session")
    add_images(job, count)
    return job


def add_images(job, count):
    images = tuple(Image.new("RGB", (64, 64), (number, 0, 0)) for number in range(count))
    job.add(GenerationResult(images, tuple(range(7, 7 + count)), job.request))


def test_more_images(files):
    """Files that exist are kept when more images are finished."""
    job = job_of(1)
    (first,) = files.of(job)
    add_images(job, 3)
    assert files.of(job)[0] is first
    assert len({file.path for file in files.of(job)}) == 3


def test_deleted_file(files):
    """Gradio deletes old files; a deleted one is written again, in its place."""
    job = job_of(3)
    before = files.of(job)
    Path(before[1].path).unlink()
    assert files.of(job) == before
    assert Path(before[1].path).is_file()


@pytest.mark.parametrize(("form", "suffix"), [("webp", ".webp"), ("JPEG", ".jpg"), (None, ".png"), ("", ".png")])
def test_format(files, form, suffix):
    """Each image is written in the format that was chosen, under a name that says what it is, with its settings."""
    job = job_of(2)
    files.set_format(job, form)
    paths = [Path(file.path) for file in files.of(job)]
    assert [path.suffix for path in paths] == [suffix, suffix]
    assert [path.stem[10:] for path in paths] == ["-7-a-house", "-8-a-house"]
    assert [read_recipe(path).request.seed for path in paths] == [7, 8]


@pytest.mark.parametrize("form", ["gif", 5, True, ["png"], "../png"])
def test_unknown_format(files, form):
    with pytest.raises(InvalidRequestError, match="choose one of png, jpg, webp"):
        files.set_format(job_of(1), form)


def test_names_without_metadata(files):
    """A session that wants no settings in its files has no words of the prompt in their names either."""
    files._opt_out.set("session", True)
    (file,) = files.of(job_of(1))
    assert "house" not in Path(file.path).name


def test_written_once(files, monkeypatch):
    """Also if several pages show the job at the same time."""
    written, write = [], image_files._write

    def count(*arguments):
        written.append(1)
        threading.Event().wait(0.02)
        return write(*arguments)

    monkeypatch.setattr(image_files, "_write", count)
    job = job_of(3)
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda _: files.of(job), range(8)))
    assert len(written) == 3
    assert all(result == results[0] for result in results)


def test_forgotten_job(files):
    """Nothing is kept of a job that the engine has forgotten."""
    job = job_of(1)
    files.of(job)
    reference = weakref.ref(job)
    del job
    gc.collect()
    assert reference() is None
    assert len(files._saved) == 0
