"""Files decoded in child processes: the same values, and the ends that a file, its job or the time can come to."""

import struct
import threading
import zlib
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from queue import Queue

import numpy as np
import psutil
import pytest
from PIL import Image
from waiting import wait_until

from x2i_app.errors import GenerationCancelledError, MediaError
from x2i_app.media import AudioClip, MediaCaps, isolation, load_audio, load_image, load_video
from x2i_app.media.budget import InputBudget, InputLimits, current_budget
from x2i_app.media.images import image_size, is_animation, load_thumbnail

PATIENCE = 60  # seconds; a machine that does other work too may be slow to start a thread or a process


def children() -> list[psutil.Process]:
    """The children that decode files; `isolated` has ended those of earlier tests."""
    found = []
    for child in psutil.Process().children():
        with suppress(psutil.NoSuchProcess):  # a child of another kind ends meanwhile
            if "x2i_app.media.isolation" in " ".join(child.cmdline()):
                found.append(child)
    return found


@pytest.fixture
def files(tmp_path, image):
    image.save(tmp_path / "image.png")
    image.convert("RGBA").rotate(3, expand=True).save(tmp_path / "alpha.png")
    frames = [Image.new("RGB", (20, 10), (level, 0, 0)) for level in (0, 90, 180)]
    frames[0].save(tmp_path / "moving.gif", save_all=True, append_images=frames[1:], duration=100)
    return tmp_path


def values(folder) -> list:
    clip = load_video(folder / "moving.gif", fps=10)
    return [
        *(load_image(folder / name).tobytes() for name in ("image.png", "alpha.png")),
        load_image((folder / "image.png").read_bytes()).tobytes(),
        load_thumbnail(folder / "alpha.png", 16).tobytes(),
        image_size(folder / "image.png"),
        [is_animation(folder / name) for name in ("image.png", "moving.gif")],
        (clip.frames.tolist(), clip.frames.flags.writeable, clip.fps, clip.duration),
    ]


def test_values_are_the_same_as_in_this_process(files, isolated):
    isolated_values = values(files)
    assert len(children()) == 1  # which is used again
    isolation.isolate_decoding(False)
    assert not children()
    assert values(files) == isolated_values


def test_relative_path(files, isolated, monkeypatch):
    """It is one of this process, which may have changed its folder since the child began."""
    (files / "inner").mkdir()
    (files / "image.png").rename(files / "inner/image.png")
    monkeypatch.chdir(files)
    assert load_image("alpha.png").size
    monkeypatch.chdir("inner")
    assert load_image("image.png").size
    with pytest.raises(MediaError, match=r"^There is no file called 'none\.png'"):
        load_image("none.png")


def test_audio_is_the_same(tmp_path, tone, isolated):
    import soundfile

    samples, rate = tone
    soundfile.write(tmp_path / "tone.wav", samples, rate)
    clip = load_audio(tmp_path / "tone.wav", rate)
    assert isinstance(clip, AudioClip)
    assert np.abs(clip.samples - samples).max() < 1e-4


def test_errors_are_the_same(tmp_path, isolated):
    (tmp_path / "cut.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    with pytest.raises(MediaError, match=r"'cut\.png' is damaged or incomplete"):
        load_image(tmp_path / "cut.png")
    with pytest.raises(MediaError, match=r"There is no file called 'none\.png'"):
        load_image(tmp_path / "none.png")


def big_png(side: int) -> bytes:
    """A PNG of one color: hundreds of kilobytes that decode to `side` x `side` RGBA pixels."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    head = struct.pack(">IIBBBBB", side, side, 8, 6, 0, 0, 0)
    pixels = zlib.compress(bytes(side * (4 * side + 1)), 1)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def test_a_file_that_needs_more_memory_ends_the_child_only(tmp_path, isolated, image):
    """T22: the limit is for the child; the next file is read by another one."""
    (tmp_path / "big.png").write_bytes(big_png(4500))
    with pytest.raises(MediaError, match=r"memory to read|more than 0\.29 GB"):
        load_image(tmp_path / "big.png", MediaCaps(child_bytes=300 * 2**20))
    image.save(tmp_path / "image.png")
    assert load_image(tmp_path / "image.png").size == image.size


def test_a_file_that_takes_long_is_ended(tmp_path, isolated):
    """T22: the child is killed at the time limit, whatever it does."""
    (tmp_path / "slow.png").write_bytes(big_png(4500))
    load_image(big_png(8))
    with pytest.raises(MediaError, match=r"'slow.png' takes longer than 0\.05 s"):
        load_image(tmp_path / "slow.png", MediaCaps(child_seconds=0.05))
    assert not [child for child in children() if child.cpu_times().user > 5]


def test_a_cancelled_job_stops_reading(files, isolated, monkeypatch):
    """The child is killed: this one has stopped, so nothing else would end the wait."""
    budget, ask = InputBudget(), isolation._Child.ask

    def stop_and_ask(child, task):
        psutil.Process(child.process.pid).suspend()
        threading.Timer(0.1, budget.cancel).start()
        return ask(child, task)

    monkeypatch.setattr(isolation._Child, "ask", stop_and_ask)
    with budget.spending(), pytest.raises(GenerationCancelledError):
        load_image(files / "image.png", MediaCaps(child_seconds=10_000))
    assert not children()


@pytest.mark.parametrize(
    ("limits", "count", "sentence"),
    [
        (InputLimits(pixels=90 * 60 * 3), 4, "more than 0 megapixels"),
        (InputLimits(seconds=0), 1, "take longer than 0 s to read"),
    ],
)
def test_one_budget_for_all_files_of_a_job(files, isolated, limits, count, sentence):
    """T22, T25: the last file of a request counts like the first."""
    with InputBudget(limits).spending():
        for _ in range(count - 1):
            load_image(files / "image.png")
        with pytest.raises(MediaError, match=sentence):
            load_image(files / "image.png")
    load_image(files / "image.png")


def test_each_client_reads_one_file_at_a_time(files, isolated, monkeypatch):
    """T23: of two visitors, the one with many files takes one of the two places, and the other never waits for it."""
    begun: Queue[tuple[str, threading.Event]] = Queue()
    ask = isolation._Child.ask

    def hold(child, task):
        go_on = threading.Event()
        begun.put((current_budget().owner, go_on))
        assert go_on.wait(PATIENCE)
        return ask(child, task)

    def read(owner: str) -> None:
        with InputBudget(owner=owner, is_job=False).spending():
            load_thumbnail(files / "image.png", 16)

    def start(*owners: str) -> list[Future]:
        return [pool.submit(read, owner) for owner in owners]

    def begins(owner: str, waiting: int) -> threading.Event:
        """Who reads next. waiting: how many have no place then."""
        name, go_on = begun.get(timeout=PATIENCE)
        assert name == owner
        nobody_begins(waiting)
        return go_on

    def nobody_begins(waiting: int) -> None:
        wait_until(lambda: len(isolation._children._waiting) == waiting)
        assert begun.empty()

    monkeypatch.setattr(isolation._Child, "ask", hold)
    monkeypatch.setattr(isolation, "_PAGE_WAIT", PATIENCE)
    with ThreadPoolExecutor(7) as pool:
        reads = start(*["many"] * 5)
        many = begins("many", waiting=4)
        reads += start("one")
        one = begins("one", waiting=4)
        reads += start("two")
        nobody_begins(waiting=5)
        one.set()
        two = begins("two", waiting=4)
        two.set()
        for waiting in (3, 2, 1, 0):
            many.set()
            many = begins("many", waiting)
        many.set()
        for each in reads:
            each.result(PATIENCE)
    assert len(children()) == 2


def test_the_result_of_a_child_is_never_unpickled():
    """A decoder that a file has taken over can send anything."""
    for kind in ("object", "complex128"):
        with pytest.raises(KeyError):
            isolation._decode({"array": kind, "shape": [1], "buffer": 0}, [bytearray(16)])


def test_children_have_no_secrets(files, isolated, monkeypatch):
    """A decoder that a file has taken over cannot let anybody in."""
    for name in ("X2I_LOGIN", "X2I_OPENAI_KEY", "HF_TOKEN", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "secret")
    load_image(files / "image.png")
    (child,) = children()
    assert "secret" not in child.environ().values()
    assert child.environ()["PATH"]
