"""JobFollowers: what is shown of a job, and when a job that nobody follows is stopped."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import gradio as gr
import pytest
from conftest import file_size_limit
from PIL import Image

from x2i_app import notes
from x2i_app.errors import EngineError, GenerationCancelledError
from x2i_app.request import GenerationRequest, GenerationResult
from x2i_app.serving.engine import Engine
from x2i_app.serving.jobs import Job, Phase, Progress
from x2i_app.settings import Settings
from x2i_app.ui import progress
from x2i_app.ui.history import MetadataOptOut
from x2i_app.ui.i18n import PageError
from x2i_app.ui.progress import (
    OUTPUTS,
    JobFollowers,
    answer_text,
    cancel_handler,
    resume_handler,
    show_progress,
    show_result,
    status_handler,
)

PROGRAM = gr.Request(headers={})
BROWSER = gr.Request(headers={"origin": "http://127.0.0.1", "accept-language": "zh"})


@pytest.fixture(autouse=True)
def upload_folder(tmp_path, monkeypatch):
    """Gradio's folder of files, empty."""
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "gradio"))
    return tmp_path / "gradio"


@pytest.fixture
def followers():
    """Of an engine that does not run: the tests report the progress of its jobs."""
    return JobFollowers(Engine(Settings(linger=1)), MetadataOptOut())


@pytest.fixture
def job(followers):
    """A job that waits."""
    return followers.engine.submit(GenerationRequest("a house"), "session", preview=True)


@pytest.fixture
def running(followers):
    """A job that the worker has taken, with all settings filled in."""
    engine = followers.engine
    request = GenerationRequest("a house", width=64, height=64).with_defaults(engine.flux, seed=7)
    job = Job(request, "session", previewed=True)
    engine._jobs.add(job)
    return job


def run(coroutine):
    """Its result; Playwright's event loop runs in the tests' thread."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, coroutine).result()


async def collect(updates):
    """All updates, as dictionaries of the outputs that change; and the error that ends them."""
    collected = []
    try:
        async for update in updates:
            collected.append({k: v for k, v in zip(OUTPUTS, update, strict=True) if v != gr.skip()})
    except Exception as error:  # noqa: BLE001 - the test looks at it
        return collected, error
    return collected, None


def result_of(job, count, color="red"):
    images = tuple(Image.new("RGB", (64, 64), color) for _ in range(count))
    return GenerationResult(images, tuple(range(7, 7 + count)), job.request, "a red house", (), {"encode": 1.25})


class Clock:
    """A clock, and the event loop's timers, that go on only when a test says so."""

    def __init__(self):
        self.now = 100.0
        self._timers: list[tuple[float, Callable, tuple]] = []

    def call_later(self, seconds: float, function: Callable, *arguments) -> None:
        self._timers.append((self.now + seconds, function, arguments))

    def advance(self, seconds: float) -> None:
        self.now += seconds
        for timer in [timer for timer in self._timers if timer[0] <= self.now]:
            self._timers.remove(timer)
            timer[1](*timer[2])


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: clock.now))
    monkeypatch.setattr(progress, "asyncio", SimpleNamespace(get_running_loop=lambda: clock))
    return clock


class TestLeaving:
    """What happens to a job whose followers leave."""

    def leave(self, followers, job, patience):
        with followers.following(job, patience):
            pass

    def test_a_program_that_leaves_stops_its_job_at_once(self, followers, job):
        self.leave(followers, job, 0)
        assert job.progress.phase is Phase.CANCELLED

    def test_a_page_has_time_to_come_back(self, followers, job, clock):
        self.leave(followers, job, 10)
        clock.advance(9)
        assert job.error is None
        clock.advance(1)
        assert job.progress.phase is Phase.CANCELLED

    def test_a_page_that_came_back_keeps_its_job(self, followers, job, clock):
        self.leave(followers, job, 10)
        with followers.following(job, 10):
            clock.advance(30)
            assert job.error is None

    def test_each_time_it_leaves_it_has_all_its_time(self, followers, job, clock):
        self.leave(followers, job, 10)
        clock.advance(6)
        self.leave(followers, job, 10)
        clock.advance(5)  # the first 10 s are over, the second ones are not
        assert job.error is None
        clock.advance(5)
        assert job.progress.phase is Phase.CANCELLED

    def test_the_last_follower_counts(self, followers, job):
        async def follow_twice():
            with followers.following(job, 0):
                with followers.following(job, 0):
                    pass
                assert job.error is None
            assert job.error is not None

        run(follow_twice())

    def test_nothing_is_kept_of_a_stopped_job(self, followers, job):
        self.leave(followers, job, 0)
        assert not followers._followers
        assert not followers._left_at

    @pytest.mark.parametrize(("request_", "patience"), [(PROGRAM, 0.0), (BROWSER, 1.0)])
    def test_patience(self, followers, request_, patience):
        """Only a browser, which sends Origin, can come back; it has `linger` seconds."""
        assert followers._patience(request_) == patience


class TestFollowing:
    """What a page or a program is sent."""

    @pytest.fixture(autouse=True)
    def polls(self, monkeypatch):
        """How often a follower has found nothing new, and sleeps."""
        self.polls = 0

        async def sleep(seconds):
            self.polls += 1
            await asyncio.sleep(seconds)

        monkeypatch.setattr(progress, "asyncio", SimpleNamespace(**vars(asyncio) | {"sleep": sleep}))

    def follow(self, followers, job, steps, request=PROGRAM):
        """The updates while `steps`, functions that the worker would call, are called one by one."""

        async def work():
            task, polls = asyncio.create_task(collect(followers.follow(job, request))), 0
            for step in steps:
                while self.polls == polls and not task.done():  # the follower knows of what came before
                    await asyncio.sleep(0.01)
                polls = self.polls
                step()
            return await task

        return run(work())

    def finish(self, job, count=1):
        def finish():
            job.add(result_of(job, count))
            job.finish(job.partial)

        return finish

    def test_result(self, followers, running):
        """The last update has everything that a program needs."""
        updates, error = self.follow(followers, running, [self.finish(running)])
        assert error is None
        last = updates[-1]
        assert last["progress"] == "<p>Done in 1.2 s. Seed 7</p>"
        assert (last["answer"], last["report"]["seeds"]) == ("a red house", [7])
        assert (last["job"], last["preview"]) == (running.id, "")
        with Image.open(last["images"][0]) as image:
            assert "x2i" in image.info
        assert "Saving the image" in updates[-2]["progress"]
        assert all(update["job"] == running.id for update in updates)

    def test_images_one_by_one(self, followers, running):
        """Each image is written once, as soon as it is there, and the last update has all of them."""
        steps = [lambda: running.add(result_of(running, 1)), lambda: running.report(Phase.DENOISING, step=1, steps=2)]
        updates, _ = self.follow(followers, running, [*steps, self.finish(running, 2)])
        shown = [update["images"] for update in updates if "images" in update]
        assert [len(images) for images in shown] == [1, 2]
        assert shown[1][0] == shown[0][0]

    def test_opt_out(self, followers, running):
        opt_out = MetadataOptOut()
        opt_out.set("session", True)
        followers = JobFollowers(followers.engine, opt_out)
        updates, _ = self.follow(followers, running, [self.finish(running)])
        with Image.open(updates[-1]["images"][0]) as image:
            assert "x2i" not in image.info

    def test_preview(self, followers, running):
        """A preview is shown until the first image is there, and is empty at the end."""

        def preview():
            running.show(Image.new("RGB", (8, 8)))
            running.report(Phase.DENOISING, step=1, steps=2)

        updates, _ = self.follow(
            followers, running, [preview, lambda: running.add(result_of(running, 1)), preview, self.finish(running, 2)]
        )
        previews = [update["preview"] for update in updates if "preview" in update]
        assert previews[0].startswith("data:image/jpeg;base64,")
        assert set(previews[1:]) == {""}

    def test_failure(self, followers, running):
        updates, error = self.follow(followers, running, [lambda: running.fail(EngineError("The engine broke."))])
        assert str(error) == "The engine broke."
        assert (updates[-1]["progress"], updates[-1]["preview"]) == (
            '<p class="failed" role="alert">The engine broke.</p>',
            "",
        )

    def test_cancelled(self, followers, running):
        """It is no error; a running job says at once that it will stop."""
        updates, error = self.follow(
            followers,
            running,
            [
                lambda: running.report(Phase.DENOISING, step=1, steps=9),
                running.cancel,
                lambda: running.fail(GenerationCancelledError("x")),
            ],
            BROWSER,
        )
        assert error is None
        assert "这一步完成后停止" in updates[-2]["progress"]
        assert updates[-1]["progress"] == "<p>已停止</p>"

    def test_image_that_cannot_be_written(self, followers, running, upload_folder):
        """It is an error in the user's language; the job keeps its result, for when there is space again."""
        with file_size_limit(10):
            updates, error = self.follow(followers, running, [self.finish(running)], BROWSER)
        assert isinstance(error, PageError)
        assert "File too large" in str(error)
        assert updates[-1]["progress"] == "<p>失败</p>"
        updates, error = run(collect(resume_handler(followers)(BROWSER, running.id)))
        assert error is None
        assert Path(updates[-1]["images"][0]).is_file()


class TestHandlers:
    def test_resume(self, followers, job):
        """Only by its own id; a failed job is not shown again."""
        resume = resume_handler(followers)
        for wrong in ("", None, 5, [job.id], job.id[:-1], job.id.upper()):
            assert run(collect(resume(BROWSER, wrong))) == ([{}], None)
        job.fail(EngineError("x"))
        assert run(collect(resume(BROWSER, job.id))) == ([{}], None)

    def test_status(self, followers, job):
        status = status_handler(followers.engine)
        assert status() == {"state": "idle", "detail": "", "waiting": 1, "preset": "x2i-tiny"}
        assert status("unknown")["job"] is None
        assert status([job.id])["job"] is None
        job.report(Phase.DENOISING, step=2, steps=8, image=1, images=3)
        described = status(job.id)["job"]
        assert described == {
            "phase": "denoising",
            "detail": "",
            "step": 2,
            "steps": 8,
            "image": 1,
            "images": 3,
            "place": 0,
            "seconds_left": None,
            "preview": "",
        }

    def test_cancel(self, followers, job):
        cancel = cancel_handler(followers.engine)
        assert cancel(None, "unknown") == cancel(None, [job.id]) == "There is no such job."
        running = Job(GenerationRequest("x"))
        followers.engine._jobs.add(running)
        assert cancel(None, running.id) == "Stopping after this step"
        assert running.is_cancelled
        assert cancel(BROWSER, job.id) == "已停止"
        assert job.progress.phase is Phase.CANCELLED


class TestHtml:
    def test_progress(self, followers):
        moment = Progress(Phase.DENOISING, step=2, steps=8, image=2, images=3)
        shown = show_progress(moment, followers.engine, seconds=5)
        assert '<progress value="10" max="24">' in shown
        assert "<span>about 5 s left</span>" in shown
        assert "left" not in show_progress(moment, followers.engine, seconds=1.9)
        assert "<progress></progress>" in show_progress(Progress(Phase.ENCODING), followers.engine)
        assert show_progress(Progress(Phase.DONE), followers.engine) == "<p>Done</p>"

    def test_escaped(self, followers):
        """A download's name may be anything."""
        shown = show_progress(Progress(Phase.LOADING, detail="<b>"), followers.engine)
        assert "&lt;b&gt;" in shown

    def test_answer(self, running):
        """The answer comes first and once, in words; then the notes, each on a row of its own."""
        result = replace(
            result_of(running, 1), answer="on grass by day; ?", notes=(notes.Note(notes.UNKNOWN), notes.SILENT_VIDEO)
        )
        understood, unknown, silent = answer_text(result).splitlines()
        assert understood == "on grass by day, and something unknown"
        assert unknown.startswith("A part of the input is unknown to this model")
        assert silent == notes.SILENT_VIDEO
        assert answer_text(replace(result, answer=None), "zh").startswith("这个模型不认识输入的一部分")

    def test_result(self, running):
        assert show_result(result_of(running, 2)) == "<p>Done in 1.2 s. Seeds 7, 8</p>"
        assert show_result(result_of(running, 1), "zh") == "<p>用时 1.2 秒。种子 7</p>"
        known, unknown = notes.Note(notes.SILENT_VIDEO), notes.Note(notes.GUESS)
        unsure = "<p>This may not be what you asked for: see “What the model understood”.</p>"
        assert show_result(replace(result_of(running, 1), notes=(known,))) == "<p>Done in 1.2 s. Seed 7</p>"
        assert show_result(replace(result_of(running, 1), notes=(known, unknown))).endswith(f"</p>{unsure}")
