"""The progress of a running job: phases, partial results, previews, and the time left."""

import pytest

from x2i_app.errors import GenerationCancelledError
from x2i_app.request import GenerationRequest
from x2i_app.serving.engine import Engine
from x2i_app.serving.jobs import Job, Phase
from x2i_app.settings import Settings

SMALL = {"width": 64, "height": 64, "num_inference_steps": 2}
PATIENCE = 300  # seconds; the first job waits for the model


def recording(monkeypatch, moment):
    """A list that grows by `moment(job)` whenever a job reports its progress, and when it is finished."""
    reports = []
    report, finish = Job.report, Job.finish
    monkeypatch.setattr(Job, "report", lambda job, *a, **k: report(job, *a, **k) or reports.append(moment(job)))
    monkeypatch.setattr(Job, "finish", lambda job, result: finish(job, result) or reports.append(moment(job)))
    return reports


def test_phases(engine, monkeypatch):
    reports = recording(monkeypatch, lambda job: job.progress)
    engine.submit(GenerationRequest(prompt="phases", num_images_per_prompt=2, **SMALL)).wait(PATIENCE)
    told = [(moment.phase, moment.image, moment.step) for moment in reports]
    drawn = [
        moment
        for image in (1, 2)
        for moment in (
            *((Phase.DENOISING, image, step) for step in (0, 1, 2)),
            (Phase.DECODING, image, 2),
        )
    ]
    assert told == [(Phase.ENCODING, 0, 0), *drawn, (Phase.DONE, 0, 0)]


def test_partial_results_and_previews(engine, monkeypatch):
    def moment(job):
        return job.progress.phase, len(job.partial.images) if job.partial else 0, job.preview and job.preview.size

    reports = recording(monkeypatch, moment)
    request = GenerationRequest(prompt="one by one", num_images_per_prompt=2, seed=4, **SMALL)
    result = engine.submit(request, preview=True).wait(PATIENCE)
    drawn = [
        moment
        for done in (0, 1)
        for moment in (
            (Phase.DENOISING, done, None),
            *((Phase.DENOISING, done, (64, 64)) for _ in range(2)),
            (Phase.DECODING, done, (64, 64)),
        )
    ]
    assert reports == [(Phase.ENCODING, 0, None), *drawn, (Phase.DONE, 2, None)]
    unwatched = engine.submit(request).wait(PATIENCE)
    assert [a.tobytes() for a in unwatched.images] == [b.tobytes() for b in result.images]


def test_no_preview():
    engine = Engine(Settings(preview=False))
    assert not engine.submit(GenerationRequest(prompt="blind"), preview=True).previewed


def test_seconds_left(engine):
    engine.submit(GenerationRequest(prompt="measured", **SMALL)).wait(PATIENCE)
    long = SMALL | {"num_inference_steps": 60, "width": 256, "height": 256}
    running = engine.submit(GenerationRequest(prompt="long", **long), "one")
    told = []
    for moment in running.watch():
        told.append(engine.seconds_left(running))
        if moment.step >= 3:
            break
    waiting = [engine.submit(GenerationRequest(prompt="late", **long), "other") for _ in range(2)]
    first, second = map(engine.seconds_left, waiting)
    assert 0 < told[-1] < told[0]
    assert told[-1] < first < second
    for job in (*waiting, running):
        engine.cancel(job)
    with pytest.raises(GenerationCancelledError):
        running.wait(PATIENCE)
    assert engine.seconds_left(running) is None
    assert Engine(Settings()).seconds_left(Job(GenerationRequest(prompt="x"))) is None
