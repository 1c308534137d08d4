"""The engine on the real miniature: one pipeline, one job at a time, phases, cancel, remembered conditionings."""

import threading
import time

import pytest
import torch
from PIL import Image

from x2i_app.errors import CheckpointError, EngineError, GenerationCancelledError, MediaError, QueueFullError
from x2i_app.limits import MAX_SEED
from x2i_app.request import GenerationRequest
from x2i_app.serving.engine import Engine
from x2i_app.serving.jobs import Phase
from x2i_app.settings import ASSETS, Settings

SMALL = {"width": 64, "height": 64, "num_inference_steps": 2}
PATIENCE = 300  # seconds; the first job waits for the model
DRAWING = ASSETS / "examples/images/boat-at-sunset.png"


@pytest.fixture
def encodings(engine, worker, monkeypatch):
    """Counts how often the MLLM runs."""
    engine.submit(GenerationRequest(prompt="warm up", **SMALL)).wait(PATIENCE)
    calls = []
    original = worker.pipeline.encode
    monkeypatch.setattr(worker.pipeline, "encode", lambda *a, **k: calls.append(a) or original(*a, **k))
    return calls


def test_a_result_says_all_that_decided_it(engine):
    request = GenerationRequest(prompt="a red house", width=64, height=96, num_images_per_prompt=2, seed=7)
    result = engine.submit(request).wait(PATIENCE)
    assert [image.size for image in result.images] == [(64, 96)] * 2
    assert result.seeds == (7, 8)
    assert (result.request.num_inference_steps, result.request.seed) == (8, 7)
    assert set(result.seconds) == {"encode", "denoise", "decode"}
    assert all(seconds > 0 for seconds in result.seconds.values())
    assert result.answer is not None


def test_a_watcher_sees_the_end_last_and_only_once(engine):
    moments = list(engine.submit(GenerationRequest(prompt="watched", **SMALL)).watch())
    assert [moment.phase.is_final for moment in moments] == [False] * (len(moments) - 1) + [True]


def test_image_i_is_what_its_own_seed_draws_alone(engine):
    both = engine.submit(GenerationRequest(prompt="a tree", seed=20, num_images_per_prompt=2, **SMALL)).wait(PATIENCE)
    second = engine.submit(GenerationRequest(prompt="a tree", seed=21, **SMALL)).wait(PATIENCE)
    assert both.images[1].tobytes() == second.images[0].tobytes()
    assert both.images[0].tobytes() != both.images[1].tobytes()


def test_without_a_seed_one_is_drawn_and_said(engine):
    drawn = [engine.submit(GenerationRequest(prompt="a cat", **SMALL)).wait(PATIENCE) for _ in range(2)]
    assert drawn[0].seeds != drawn[1].seeds
    again = engine.submit(GenerationRequest(prompt="a cat", seed=drawn[0].seeds[0], **SMALL)).wait(PATIENCE)
    assert again.images[0].tobytes() == drawn[0].images[0].tobytes()


def test_the_mllm_runs_once_for_the_same_conversation_and_again_for_another(engine, encodings, tmp_path):
    copy = tmp_path / "other name.png"
    copy.write_bytes(DRAWING.read_bytes())
    for change in ({}, {"seed": 5}, {"height": 96}, {"num_images_per_prompt": 3}, {"images": (str(copy),)}):
        given = {"prompt": "make it night", "images": (str(DRAWING),), **SMALL} | change
        engine.submit(GenerationRequest(**given)).wait(PATIENCE)
    assert len(encodings) == 1
    other = ASSETS / "examples/images/cat-and-umbrella.png"
    for change in ({"prompt": "make it day"}, {"images": (str(other),)}, {"reason": True}):
        engine.submit(GenerationRequest(**given | change)).wait(PATIENCE)
    assert len(encodings) == 4


def test_the_encoding_that_was_not_used_longest_is_forgotten(engine, encodings, monkeypatch):
    monkeypatch.setattr("x2i_app.serving.worker._REMEMBERED_CONDITIONINGS", 2)
    for prompt in "abacab":
        engine.submit(GenerationRequest(prompt=prompt, **SMALL)).wait(PATIENCE)
    assert [prompt for prompt, *_ in encodings] == ["a", "b", "c", "b"]


def test_after_the_largest_seed_comes_0(engine):
    request = GenerationRequest(prompt="a tree", seed=MAX_SEED, num_images_per_prompt=2, **SMALL)
    both = engine.submit(request).wait(PATIENCE)
    assert both.seeds == (MAX_SEED, 0)
    first = engine.submit(GenerationRequest(prompt="a tree", seed=0, **SMALL)).wait(PATIENCE)
    assert both.images[1].tobytes() == first.images[0].tobytes()


def test_cancel_stops_within_a_step_without_decoding_and_the_next_job_is_unharmed(engine, worker, monkeypatch):
    before = engine.submit(GenerationRequest(prompt="a boat", seed=1, **SMALL)).wait(PATIENCE)
    decoded, steps = [], []
    decode, forward = worker.pipeline.vae.decode, worker.pipeline.transformer.forward

    def step(*args, **kwargs):
        steps.append(job._cancelled.is_set())
        if len(steps) == 3:
            engine.cancel(job)  # in the middle of the third step
        return forward(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(worker.pipeline.vae, "decode", lambda *a, **k: decoded.append(1) or decode(*a, **k))
        patch.setattr(worker.pipeline.transformer, "forward", step)
        request = GenerationRequest(prompt="a boat", **SMALL | {"num_inference_steps": 100})
        job = engine.submit(request, preview=True)
        with pytest.raises(GenerationCancelledError):
            job.wait(PATIENCE)
    assert job.progress.phase is Phase.CANCELLED
    assert steps == [False] * 3  # no step began after it
    assert not decoded
    after = engine.submit(GenerationRequest(prompt="a boat", seed=1, **SMALL)).wait(PATIENCE)
    assert after.images[0].tobytes() == before.images[0].tobytes()


def test_cancel_does_not_wait_for_the_whole_answer(engine, worker):
    engine.submit(GenerationRequest(prompt="warm up", **SMALL)).wait(PATIENCE)
    words = []

    def word(*_):
        words.append(job._cancelled.is_set())
        if len(words) == 2:
            engine.cancel(job)

    hook = worker.pipeline.mllm.register_forward_pre_hook(word)
    job = engine.submit(GenerationRequest(prompt="a long answer", **SMALL))
    with pytest.raises(GenerationCancelledError):
        job.wait(PATIENCE)
    hook.remove()
    assert words == [False] * 2
    assert engine.submit(GenerationRequest(prompt="a long answer", **SMALL)).wait(PATIENCE).images


def test_media_that_are_no_files_are_looked_at_each_time(engine, encodings):
    image = Image.new("P", (32, 32))
    for colour in ((255, 0, 0), (0, 0, 255)):
        image.putpalette(colour)
        engine.submit(GenerationRequest(images=(image.copy(),), **SMALL)).wait(PATIENCE)
    assert len(encodings) == 2


def test_finished_images_are_forgotten_before_they_fill_the_memory(engine, monkeypatch):
    monkeypatch.setattr("x2i_app.serving.jobs._REMEMBERED_BYTES", 2 * 64 * 64 * 3)
    jobs = []
    for seed in range(5):
        jobs.append(engine.submit(GenerationRequest(prompt="many", seed=seed, **SMALL)))
        jobs[-1].wait(PATIENCE)
    assert [engine.get(job.id) is job for job in jobs] == [False, False, False, True, True]


def test_a_waiting_job_is_cancelled_at_once(engine):
    running = engine.submit(GenerationRequest(prompt="long", num_inference_steps=60, width=128, height=128))
    waiting = engine.submit(GenerationRequest(prompt="short", **SMALL))
    engine.cancel(waiting)
    assert waiting.progress.phase is Phase.CANCELLED
    assert not running.progress.phase.is_final
    engine.cancel(running)
    with pytest.raises(GenerationCancelledError):
        running.wait(PATIENCE)


def test_one_job_at_a_time_however_many_are_sent(engine, worker, monkeypatch):
    inside, most = [], []
    original = worker.pipeline.transformer.forward

    def forward(*args, **kwargs):
        inside.append(1)
        most.append(len(inside))
        try:
            return original(*args, **kwargs)
        finally:
            inside.pop()

    monkeypatch.setattr(worker.pipeline.transformer, "forward", forward)
    jobs = []
    senders = [
        threading.Thread(
            target=lambda i=i: jobs.append(engine.submit(GenerationRequest(prompt="x", **SMALL), f"user {i}"))
        )
        for i in range(12)
    ]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join()
    assert all(job.wait(PATIENCE).images for job in jobs)
    assert len(jobs) == 12
    assert max(most) == 1


def test_a_bad_file_fails_its_own_job_only(engine, tmp_path):
    bad = tmp_path / "picture.png"
    bad.write_bytes(b"#EXTM3U\nfile:///etc/passwd\n")
    job = engine.submit(GenerationRequest(images=(str(bad),), **SMALL))
    with pytest.raises(MediaError, match=r"picture\.png"):
        job.wait(PATIENCE)
    assert job.progress.phase is Phase.FAILED
    assert engine.submit(GenerationRequest(prompt="still here", **SMALL)).wait(PATIENCE).images


def test_an_unexpected_failure_is_one_sentence_and_the_worker_lives_on(engine, worker, monkeypatch, caplog):
    with monkeypatch.context() as patch:
        patch.setattr(worker.pipeline.vae, "decode", lambda *a, **k: 1 / 0)
        job = engine.submit(GenerationRequest(prompt="broken", **SMALL))
        with pytest.raises(EngineError, match="internal error \\(ZeroDivisionError\\)"):
            job.wait(PATIENCE)
    assert "ZeroDivisionError" in caplog.text
    assert engine.submit(GenerationRequest(prompt="mended", **SMALL)).wait(PATIENCE).images


def test_a_job_is_found_again_by_its_id(engine):
    job = engine.submit(GenerationRequest(prompt="lost browser", **SMALL))
    result = job.wait(PATIENCE)
    assert engine.get(job.id).result is result
    assert engine.get("no such id") is None


def test_one_session_cannot_fill_the_queue(engine):
    request = GenerationRequest(prompt="many", **SMALL | {"num_inference_steps": 50})
    jobs = [engine.submit(request, "greedy")]
    while engine.status.waiting:
        time.sleep(0.01)
    jobs += [engine.submit(request, "greedy") for _ in range(3)]
    with pytest.raises(QueueFullError, match="3 are allowed"):
        engine.submit(request, "greedy")
    other = engine.submit(GenerationRequest(prompt="modest", **SMALL), "modest")
    assert other.progress.place <= 2
    for job in jobs:
        engine.cancel(job)
    assert other.wait(PATIENCE).images


def test_jobs_wait_while_the_model_loads_and_hear_if_it_cannot():
    engine = Engine(Settings(preset="qwen2.5-vl-3b", profile="cpu", mllm="/no/such/folder"))
    job = engine.submit(GenerationRequest(prompt="early"))
    assert engine.status.state == "idle"
    engine.start()
    with pytest.raises(CheckpointError, match="no folder '/no/such/folder'"):
        job.wait(PATIENCE)
    assert engine.status.state == "failed"
    with pytest.raises(EngineError, match="no folder '/no/such/folder'"):
        engine.submit(GenerationRequest(prompt="late"))


def test_closing_tells_waiting_jobs_and_ends_the_worker():
    before = set(threading.enumerate())
    engine = Engine(Settings(profile="cpu"))
    engine.start()
    running = engine.submit(GenerationRequest(prompt="long", num_inference_steps=100, width=512, height=512))
    waiting = engine.submit(GenerationRequest(prompt="second", **SMALL))
    for moment in running.watch():
        if moment.phase is Phase.DENOISING:
            break
    engine.close()
    assert not [thread for thread in set(threading.enumerate()) - before if thread.name.startswith("x2i-engine")]
    with pytest.raises(GenerationCancelledError):
        running.wait(1)
    with pytest.raises(EngineError, match="shutting down"):
        waiting.wait(1)
    with pytest.raises(EngineError, match="shutting down"):
        engine.submit(GenerationRequest(prompt="late", **SMALL))


def test_conditioning_that_is_remembered_holds_no_graph(engine, worker):
    engine.submit(GenerationRequest(prompt="graph", **SMALL)).wait(PATIENCE)
    for conditioning in worker.conditionings.values():
        assert isinstance(conditioning.prompt_embeds, torch.Tensor)
        assert not conditioning.prompt_embeds.requires_grad
