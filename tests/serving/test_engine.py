"""The engine with x2i-tiny: results, cancelling, remembered encodings, failures."""

import json
import shutil
import threading
from dataclasses import replace

import pytest
import torch
from PIL import Image

from x2i_app.errors import (
    CheckpointError,
    EngineError,
    GenerationCancelledError,
    InvalidRequestError,
    MediaError,
    QueueFullError,
)
from x2i_app.limits import MAX_SEED
from x2i_app.media import Prepared, describe
from x2i_app.request import GenerationRequest
from x2i_app.serving.engine import Engine
from x2i_app.serving.jobs import Job, Phase
from x2i_app.settings import ASSETS, Settings

SMALL = {"width": 64, "height": 64, "num_inference_steps": 2}
PATIENCE = 300  # seconds; the first job waits for the model
DRAWING = ASSETS / "examples/images/boat-at-sunset.png"


@pytest.fixture
def encodings(engine, worker, monkeypatch):
    """The calls of `encode`."""
    engine.submit(GenerationRequest(prompt="warm up", **SMALL)).wait(PATIENCE)
    calls = []
    original = worker.pipeline.encode
    monkeypatch.setattr(worker.pipeline, "encode", lambda *a, **k: calls.append(a) or original(*a, **k))
    return calls


def test_result(engine):
    request = GenerationRequest(prompt="a red house", width=64, height=96, num_images_per_prompt=2, seed=7)
    result = engine.submit(request).wait(PATIENCE)
    assert [image.size for image in result.images] == [(64, 96)] * 2
    assert result.seeds == (7, 8)
    assert (result.request.num_inference_steps, result.request.seed) == (8, 7)
    assert set(result.seconds) == {"encode", "denoise", "decode"}
    assert all(seconds > 0 for seconds in result.seconds.values())
    assert result.answer is not None


def test_watch_ends_once(engine):
    moments = list(engine.submit(GenerationRequest(prompt="watched", **SMALL)).watch())
    assert [moment.phase.is_final for moment in moments] == [False] * (len(moments) - 1) + [True]


def test_images_depend_only_on_their_seeds(engine):
    both = engine.submit(GenerationRequest(prompt="a tree", seed=20, num_images_per_prompt=2, **SMALL)).wait(PATIENCE)
    second = engine.submit(GenerationRequest(prompt="a tree", seed=21, **SMALL)).wait(PATIENCE)
    assert both.images[1].tobytes() == second.images[0].tobytes()
    assert both.images[0].tobytes() != both.images[1].tobytes()


def test_random_seed(engine):
    drawn = [engine.submit(GenerationRequest(prompt="a cat", **SMALL)).wait(PATIENCE) for _ in range(2)]
    assert drawn[0].seeds != drawn[1].seeds
    again = engine.submit(GenerationRequest(prompt="a cat", seed=drawn[0].seeds[0], **SMALL)).wait(PATIENCE)
    assert again.images[0].tobytes() == drawn[0].images[0].tobytes()


def test_prompt_of_another_program(engine, tmp_path):
    """Its signs go, its choices follow the seed, its LoRA is used; the metadata have the prompt that was read."""
    asked = GenerationRequest(prompt="a {red|red} (house:1.2) <lora:striped:0.5><lora:gone>", **SMALL | {"width": 70})
    result = engine.submit(asked).wait(PATIENCE)
    plain = GenerationRequest(prompt="a red house", loras=result.request.loras, seed=result.seeds[0], **SMALL)
    again = engine.submit(plain).wait(PATIENCE)
    assert (result.request.prompt, result.request.lora_weights) == ("a red house", {"striped.safetensors": 0.5})
    assert again.images[0].tobytes() == result.images[0].tobytes()
    notes = " ".join(result.notes)
    for part in ("width 70 was changed to 64", "choices filled in: a red house", "(house:1.2)", "no LoRA 'gone'"):
        assert part in notes
        assert part not in " ".join(again.notes)
    for text in describe(result, engine.settings):
        assert json.loads(text["x2i"])["prompt"] == "a red house"


def test_a_lora_of_the_models_folder(engine, worker, tmp_path, monkeypatch):
    """A request's OWNER/NAME is looked for in the models folder of the settings; there is no hub here."""
    (tmp_path / "artist/style").mkdir(parents=True)
    shutil.copy(ASSETS / "examples/loras/striped.safetensors", tmp_path / "artist/style/ink.safetensors")
    monkeypatch.setattr(worker.models, "settings", replace(worker.settings, models=str(tmp_path)))
    result = engine.submit(GenerationRequest("a cat", loras=[("artist/style", 1)], **SMALL)).wait(PATIENCE)
    assert any(note.startswith("LoRA ink.safetensors: used") for note in result.notes)


def test_nothing_left_of_a_prompt(engine):
    job = engine.submit(GenerationRequest(prompt="<lora:gone:1>", **SMALL))
    with pytest.raises(InvalidRequestError, match="The request is empty"):
        job.wait(PATIENCE)


def test_long_prompt(engine):
    """What is beyond the length that models are trained with is named."""
    prompt = "a red house and a green tree, " * 150 + "the very end"
    notes = engine.submit(GenerationRequest(prompt=prompt, **SMALL)).wait(PATIENCE).notes
    (note,) = [note for note in notes if "tokens. Models learn from up to 512" in note]
    assert "a green tree" in note
    assert not any(
        "tokens" in note for note in engine.submit(GenerationRequest(prompt="a tree", **SMALL)).wait(PATIENCE).notes
    )


def test_notes_about_a_negative_prompt(engine, worker):
    """What the encoder says of it is in the result too, and says what it is about."""
    request = GenerationRequest("a tree", negative_prompt="rain, " * 600, seed=1, **SMALL)
    worker.pipeline.register_to_config(true_cfg=True)
    try:
        *_, result = worker.draw(Job(request), Prepared.of(request, engine.flux, 1))
    finally:
        worker.pipeline.register_to_config(true_cfg=False)
    (note,) = [note for note in result.notes if "tokens. Models learn from up to 512" in note]
    assert note.startswith("Negative prompt: The prompt has ")


def test_encodings_are_remembered(engine, encodings, tmp_path):
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


def test_least_recent_encoding_is_forgotten(engine, encodings, monkeypatch):
    monkeypatch.setattr("x2i_app.serving.worker._REMEMBERED_CONDITIONINGS", 2)
    for prompt in "abacab":
        engine.submit(GenerationRequest(prompt=prompt, **SMALL)).wait(PATIENCE)
    assert [prompt for prompt, *_ in encodings] == ["a", "b", "c", "b"]


def test_seed_overflow(engine):
    request = GenerationRequest(prompt="a tree", seed=MAX_SEED, num_images_per_prompt=2, **SMALL)
    both = engine.submit(request).wait(PATIENCE)
    assert both.seeds == (MAX_SEED, 0)
    first = engine.submit(GenerationRequest(prompt="a tree", seed=0, **SMALL)).wait(PATIENCE)
    assert both.images[1].tobytes() == first.images[0].tobytes()


def test_cancel_while_denoising(engine, worker, monkeypatch):
    before = engine.submit(GenerationRequest(prompt="a boat", seed=1, **SMALL)).wait(PATIENCE)
    decoded, steps = [], []
    decode, forward = worker.pipeline.vae.decode, worker.pipeline.transformer.forward

    def step(*args, **kwargs):
        steps.append(job.is_cancelled)
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
    again = engine.submit(GenerationRequest(prompt="a boat", seed=1, **SMALL)).wait(PATIENCE)
    assert again.images[0].tobytes() == before.images[0].tobytes()


def test_cancel_while_answering(engine, worker):
    engine.submit(GenerationRequest(prompt="warm up", **SMALL)).wait(PATIENCE)
    tokens = []

    def on_token(*_):
        tokens.append(job.is_cancelled)
        if len(tokens) == 2:
            engine.cancel(job)

    hook = worker.pipeline.mllm.register_forward_pre_hook(on_token)
    job = engine.submit(GenerationRequest(prompt="a long answer", **SMALL))
    with pytest.raises(GenerationCancelledError):
        job.wait(PATIENCE)
    hook.remove()
    assert tokens == [False] * 2
    assert engine.submit(GenerationRequest(prompt="a long answer", **SMALL)).wait(PATIENCE).images


def test_values_are_encoded_each_time(engine, encodings):
    image = Image.new("P", (32, 32))
    for color in ((255, 0, 0), (0, 0, 255)):
        image.putpalette(color)
        engine.submit(GenerationRequest(images=(image.copy(),), **SMALL)).wait(PATIENCE)
    assert len(encodings) == 2


def test_results_are_forgotten(engine, monkeypatch):
    monkeypatch.setattr("x2i_app.serving.jobs._REMEMBERED_BYTES", 0)
    engine.get("any")  # the jobs of other tests are forgotten
    monkeypatch.setattr("x2i_app.serving.jobs._REMEMBERED_BYTES", 2 * 64 * 64 * 3)
    jobs = []
    for seed in range(5):
        jobs.append(engine.submit(GenerationRequest(prompt="many", seed=seed, **SMALL)))
        jobs[-1].wait(PATIENCE)
    assert [engine.get(job.id) is job for job in jobs] == [False, False, False, True, True]


def test_cancel_while_queued(engine):
    running = engine.submit(GenerationRequest(prompt="long", num_inference_steps=100, width=512, height=512))
    waiting = engine.submit(GenerationRequest(prompt="short", **SMALL))
    engine.cancel(waiting)
    assert waiting.progress.phase is Phase.CANCELLED
    assert not running.progress.phase.is_final
    engine.cancel(running)
    with pytest.raises(GenerationCancelledError):
        running.wait(PATIENCE)


def test_one_job_at_a_time(engine, worker, monkeypatch):
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


def test_bad_file(engine, tmp_path):
    bad = tmp_path / "picture.png"
    bad.write_bytes(b"#EXTM3U\nfile:///etc/passwd\n")
    job = engine.submit(GenerationRequest(images=(str(bad),), **SMALL))
    with pytest.raises(MediaError, match=r"picture\.png"):
        job.wait(PATIENCE)
    assert job.progress.phase is Phase.FAILED
    assert engine.submit(GenerationRequest(prompt="still here", **SMALL)).wait(PATIENCE).images


def test_unexpected_error(engine, worker, monkeypatch, caplog):
    with monkeypatch.context() as patch:
        patch.setattr(worker.pipeline.vae, "decode", lambda *a, **k: 1 / 0)
        job = engine.submit(GenerationRequest(prompt="broken", **SMALL))
        with pytest.raises(EngineError, match="internal error \\(ZeroDivisionError\\)"):
            job.wait(PATIENCE)
    assert "ZeroDivisionError" in caplog.text
    assert engine.submit(GenerationRequest(prompt="mended", **SMALL)).wait(PATIENCE).images


def test_get(engine):
    job = engine.submit(GenerationRequest(prompt="lost browser", **SMALL))
    result = job.wait(PATIENCE)
    assert engine.get(job.id).result is result
    assert engine.get("no such id") is None


def test_jobs_per_session(engine, worker, monkeypatch):
    request = GenerationRequest(prompt="many", **SMALL)
    engine.submit(request).wait(PATIENCE)
    began, go_on, decode = threading.Event(), threading.Event(), worker.pipeline.vae.decode

    def hold(*args, **kwargs):
        began.set()
        assert go_on.wait(PATIENCE)
        return decode(*args, **kwargs)

    monkeypatch.setattr(worker.pipeline.vae, "decode", hold)
    jobs = [engine.submit(request, "greedy")]
    assert began.wait(PATIENCE)
    jobs += [engine.submit(request, "greedy") for _ in range(3)]
    with pytest.raises(QueueFullError, match="3 are allowed"):
        engine.submit(request, "greedy")
    other = engine.submit(GenerationRequest(prompt="modest", **SMALL), "modest")
    assert other.progress.place <= 2
    for job in jobs:
        engine.cancel(job)
    go_on.set()
    assert other.wait(PATIENCE).images


def test_failed_load():
    engine = Engine(Settings(preset="qwen2.5-vl-3b", profile="cpu", mllm="/no/such/folder"))
    job = engine.submit(GenerationRequest(prompt="early"))
    assert engine.status.state == "idle"
    engine.start()
    with pytest.raises(CheckpointError, match="no folder '/no/such/folder'"):
        job.wait(PATIENCE)
    assert engine.status.state == "failed"
    with pytest.raises(EngineError, match="no folder '/no/such/folder'"):
        engine.submit(GenerationRequest(prompt="late"))
    late = Job(GenerationRequest(prompt="a cat"))  # accepted at the moment in which loading failed
    engine._queue.put(late)
    with pytest.raises(EngineError, match="no folder '/no/such/folder'"):
        late.wait()


def test_close():
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
    for job in (running, waiting):
        with pytest.raises(EngineError, match="shutting down"):
            job.wait(60)
    assert running.partial is None, "its image was not finished"
    with pytest.raises(EngineError, match="shutting down"):
        engine.submit(GenerationRequest(prompt="late", **SMALL))


def test_remembered_encodings_hold_no_graph(engine, worker):
    engine.submit(GenerationRequest(prompt="graph", **SMALL)).wait(PATIENCE)
    for conditioning in worker.conditionings.values():
        assert isinstance(conditioning.prompt_embeds, torch.Tensor)
        assert not conditioning.prompt_embeds.requires_grad
