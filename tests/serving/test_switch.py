"""Changing the model of a running engine: the old one is freed first, and comes back if the new one fails."""

import gc
import threading
import weakref
from dataclasses import replace

import pytest
import torch

from x2i_app.errors import CheckpointError, EngineError, LoadingStoppedError, UnknownPresetError
from x2i_app.loading import build
from x2i_app.loading.lora_changes import Change
from x2i_app.models import AlignNet
from x2i_app.request import GenerationRequest
from x2i_app.serving.engine import Engine
from x2i_app.serving.preview import Previewer
from x2i_app.serving.worker import LocalWorker
from x2i_app.settings import ASSETS, Settings

SMALL = {"width": 64, "height": 64, "num_inference_steps": 1, "seed": 3}
PATIENCE = 300
CUSTOM = "custom:qwen2.5-vl"
STRIPED = ASSETS / "examples/loras/striped.safetensors"
BOAT = ASSETS / "examples/images/boat-at-sunset.png"


@pytest.fixture(scope="module")
def parts(qwen_vl_directory, tmp_path_factory):
    """A small Qwen2.5-VL in its own format, and an AlignNet between it and the miniature's FLUX."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("align_net")
    AlignNet(4, 32, joint_dim=128, pooled_dim=128).save_pretrained(folder)
    return {"mllm": str(qwen_vl_directory), "flux": "x2i-tiny", "alignnet": str(folder)}


@pytest.fixture(scope="module")
def worker(parts):
    return LocalWorker(Settings(preset=CUSTOM, profile="cpu", **parts))


@pytest.fixture(scope="module")
def running(worker):
    engine = Engine(worker.settings, worker)
    engine.start()
    yield engine
    engine.close()


@pytest.fixture
def engine(running, parts):
    """One engine for all tests, with the model that it was started with."""
    first = Settings(preset=CUSTOM, profile="cpu", **parts)
    if running.settings != first:
        running.switch(first).result(PATIENCE)
    draw(running)
    return running


def draw(engine, prompt="a red house", **given):
    return engine.submit(GenerationRequest(prompt=prompt, **SMALL | given)).wait(PATIENCE).images[0].tobytes()


def switch(engine, **names):
    engine.switch(engine.settings_for(**names)).result(PATIENCE)


def live_tensors():
    gc.collect()
    return sum(isinstance(each, torch.Tensor) for each in gc.get_objects())


def watch(worker):
    """Weak references to every module of the pipeline and to the pipeline itself."""
    pipeline = worker.pipeline
    return [weakref.ref(each) for each in (pipeline, *filter(_is_module, pipeline.components.values()))]


def _is_module(part):
    return isinstance(part, torch.nn.Module)


def test_switch(engine, worker, monkeypatch):
    first = draw(engine)
    are_gone = []
    original = build.build_pipeline

    def built(*args, **options):
        are_gone.append([reference() is None for reference in old])
        return original(*args, **options)

    monkeypatch.setattr(build, "build_pipeline", built)
    old = watch(worker)
    assert len(old) == 5
    switch(engine, preset="x2i-tiny")
    assert (engine.settings.preset, engine.settings.mllm, engine.flux.name) == ("x2i-tiny", None, "x2i-tiny")
    second = draw(engine)
    old = watch(worker)
    switch(engine, preset=CUSTOM)
    assert are_gone == [[True] * 5, [True] * 6]  # the miniature has a LightControl as well
    assert first != second
    assert draw(engine) == first
    assert "(flag, local path)" in engine.sources["mllm"]


def test_no_leaks(engine, worker, parts):
    """With a job after each, and once a change that fails: what is alive is counted, not how much memory is free."""
    counts, gone = [], []
    for i in range(10):
        # Preset, FLUX's LightControl with it, and now and then the profile.
        switch(engine, preset="x2i-tiny" if i % 2 == 0 else CUSTOM, profile="8gb" if i == 1 else "cpu")
        if i == 5:
            with pytest.raises(CheckpointError, match="There is no file"):
                engine.switch(replace(engine.settings, alignnet=parts["mllm"])).result(PATIENCE)
        draw(engine, prompt=f"number {i}")
        gone += watch(worker)
        counts.append(live_tensors())
    assert counts[9] == counts[7] == counts[5] == counts[3]
    assert counts[8] == counts[6] == counts[4] == counts[2]
    assert [reference() for reference in gone[:-5]] == [None] * (5 * 6 + 4 * 5)


def changes() -> dict[int, weakref.ref]:
    """The parts of LoRAs that are in memory."""
    return {id(each): weakref.ref(each) for each in gc.get_objects() if isinstance(each, Change)}


def test_lora_and_light_control_are_removed(engine, worker, tmp_path):
    switch(engine, preset="x2i-tiny")
    plain, before = draw(engine), changes()
    styled = draw(engine, loras=((str(STRIPED), 1.0),))
    old = [reference for name, reference in changes().items() if name not in before]
    assert len(old) > 30
    assert draw(engine) == plain != styled
    gc.collect()
    assert {reference() for reference in old} == {None}

    first = worker.pipeline.light_control
    kept = draw(engine, images=(str(BOAT),), control_strength=1.0)
    first.save_pretrained(tmp_path / "control")
    old = [weakref.ref(first), *map(weakref.ref, first.parameters())]
    first = None
    switch_settings = replace(engine.settings, light_control=str(tmp_path / "control"))
    engine.switch(switch_settings).result(PATIENCE)
    assert {reference() for reference in old} == {None}
    assert engine.sources["light_control"] == f"{tmp_path}/control (flag, local path)"
    assert draw(engine, images=(str(BOAT),), control_strength=1.0) == kept
    old = [weakref.ref(worker.pipeline.light_control)]
    switch(engine, preset=CUSTOM)  # which has none
    assert not engine.has_light_control
    assert old[0]() is None


def test_previews_of_the_new_model(engine, worker, monkeypatch):
    """They are fitted on the new model's VAE."""
    vaes = []

    class Recorded(Previewer):
        def __init__(self, vae):
            vaes.append(weakref.ref(vae))
            super().__init__(vae)

    monkeypatch.setattr("x2i_app.serving.preview.Previewer", Recorded)
    for preset in ("x2i-tiny", CUSTOM):
        switch(engine, preset=preset)
        for _ in range(2):
            engine.submit(GenerationRequest(prompt="x", **SMALL), preview=True).wait(PATIENCE)
        assert vaes[-1]() is worker.pipeline.vae
    assert len(vaes) == 2


def test_not_found(engine, worker):
    pipeline = weakref.ref(worker.pipeline)
    with pytest.raises(CheckpointError, match="There is no folder '/no/such'"):
        switch(engine, flux="/no/such")
    assert pipeline() is worker.pipeline
    assert engine.status.state == "ready"
    with pytest.raises(UnknownPresetError, match="no preset called 'gpt-9'"):
        switch(engine, preset="gpt-9")


def test_failed_switch(engine, parts, tmp_path):
    before = draw(engine)
    AlignNet(9, 32, joint_dim=128, pooled_dim=128).save_pretrained(tmp_path / "other")
    with pytest.raises(CheckpointError, match="This AlignNet expects 9 states of width 32, but the MLLM has 4"):
        engine.switch(replace(engine.settings, alignnet=str(tmp_path / "other"))).result(PATIENCE)
    assert engine.status.state == "ready"
    assert engine.settings.alignnet == parts["alignnet"]
    assert draw(engine) == before


def test_switch_from_failed_load():
    engine = Engine(Settings(preset="qwen2.5-vl-3b", profile="cpu", mllm="/no/such", alignnet="none.bin"))
    early = engine.submit(GenerationRequest(prompt="early"))
    engine.start()
    with pytest.raises(CheckpointError, match="no folder '/no/such'"):
        early.wait(PATIENCE)
    with pytest.raises(EngineError, match="no folder '/no/such'"):
        engine.submit(GenerationRequest(prompt="late"))
    switch(engine, preset="x2i-tiny")
    assert draw(engine)
    engine.close()
    assert gc.get_freeze_count() == 0, "libraries would report their objects as leaked at the end of the process"


def test_unload(engine, worker):
    before = draw(engine)
    old = watch(worker)
    engine.unload().result(PATIENCE)
    assert engine.status.state == "unloaded"
    assert [reference() for reference in old] == [None] * 5
    assert gc.get_freeze_count() == 0
    assert draw(engine) == before
    assert engine.status.state == "ready"
    assert gc.get_freeze_count() > 100_000, "the collector does not go through all that is loaded again and again"


def test_unload_waits_for_the_running_job(engine, worker, monkeypatch):
    engine.submit(GenerationRequest(prompt="loads the model", **SMALL)).wait(PATIENCE)
    began, go_on, decode = threading.Event(), threading.Event(), worker.pipeline.vae.decode

    def hold(*args, **kwargs):
        began.set()
        assert go_on.wait(PATIENCE)
        return decode(*args, **kwargs)

    monkeypatch.setattr(worker.pipeline.vae, "decode", hold)
    job = engine.submit(GenerationRequest(prompt="a red house", **SMALL))
    assert began.wait(PATIENCE)
    unloaded = engine.unload()
    assert not unloaded.done()
    go_on.set()
    assert len(job.wait(PATIENCE).images) == 1
    unloaded.result(PATIENCE)
    assert engine.status.state == "unloaded"


@pytest.fixture
def pause(worker, monkeypatch):
    """A function that makes loading wait at a report; gives (it has begun, let it go on)."""
    monkeypatch.setattr(build, "_SECONDS_BETWEEN_REPORTS", 0)
    began, go_on, report = threading.Event(), threading.Event(), worker.report

    def pause_at(action):
        def reported(state, detail):
            if detail.startswith(action) and not began.is_set():
                began.set()
                assert go_on.wait(PATIENCE)
            report(state, detail)

        monkeypatch.setattr(worker, "report", reported)
        return began, go_on

    yield pause_at
    go_on.set()


@pytest.mark.parametrize("action", ["Reading the MLLM", "Reading FLUX"])
def test_unload_stops_loading(engine, worker, pause, action):
    """The job that needs the model fails with a sentence; the next one loads it again."""
    engine.unload().result(PATIENCE)
    began, go_on = pause(action)
    job = engine.submit(GenerationRequest(prompt="a red house", **SMALL))
    assert began.wait(PATIENCE)
    unloaded = engine.unload()
    go_on.set()
    unloaded.result(PATIENCE)
    with pytest.raises(LoadingStoppedError, match="was unloaded while it was being loaded; start the job again"):
        job.wait(PATIENCE)
    assert (engine.status.state, engine.status.detail, worker.is_loaded) == ("unloaded", "", False)
    assert draw(engine)


def test_unload_stops_a_change(engine, worker, pause):
    """Neither the new model nor the old one takes the memory; the settings are those of the old one."""
    old = engine.settings
    began, go_on = pause("Reading FLUX")
    changed = engine.switch(engine.settings_for(preset="x2i-tiny"))
    assert began.wait(PATIENCE)
    unloaded = engine.unload()
    go_on.set()
    unloaded.result(PATIENCE)
    with pytest.raises(LoadingStoppedError):
        changed.result(PATIENCE)
    assert (engine.status.state, worker.is_loaded, engine.settings) == ("unloaded", False, old)
    assert draw(engine)


def test_close_stops_loading(parts, monkeypatch):
    """After Ctrl+C, not one more weight is read."""
    monkeypatch.setattr(build, "_SECONDS_BETWEEN_REPORTS", 0)
    worker = LocalWorker(Settings(preset=CUSTOM, profile="cpu", **parts))
    engine, reports, closing = Engine(worker.settings, worker), [], []
    job, report = engine.submit(GenerationRequest(prompt="a red house", **SMALL)), worker.report

    def reported(state, detail):
        reports.append(detail)
        if detail.startswith("Reading the MLLM"):
            closing.append(threading.Thread(target=engine.close))
            closing[-1].start()
            with pytest.raises(EngineError, match="shutting down"):  # the engine is closing
                job.wait(PATIENCE)
        report(state, detail)

    worker.report = reported
    engine.start()
    with pytest.raises(EngineError):
        job.wait(PATIENCE)
    closing[0].join(PATIENCE)  # which waits for the thread that loads
    assert sum(detail.startswith("Reading") for detail in reports) == 1
    assert not worker.is_loaded


def test_failed_job_keeps_no_model(engine, worker, monkeypatch):
    monkeypatch.setattr("x2i_app.errors.logger.disabled", True)  # pytest keeps the tracebacks of what is logged
    with monkeypatch.context() as patch:
        patch.setattr(type(worker.pipeline.vae), "decode", lambda *_, **__: 1 / 0)
        job = engine.submit(GenerationRequest(prompt="broken", **SMALL))
        with pytest.raises(EngineError, match="ZeroDivisionError"):
            job.wait(PATIENCE)
    old = watch(worker)
    engine.unload().result(PATIENCE)
    assert engine.get(job.id) is job
    assert [reference() for reference in old] == [None] * 5


def test_one_switch_at_a_time(engine, worker, monkeypatch):
    go_on = threading.Event()
    original = worker.find
    monkeypatch.setattr(worker, "find", lambda settings: go_on.wait(PATIENCE) and original(settings))
    done = engine.switch(engine.settings_for(preset="x2i-tiny"))
    with pytest.raises(EngineError, match="Another model is being loaded"):
        engine.switch(engine.settings)
    assert draw(engine)  # the old model works meanwhile
    go_on.set()
    done.result(PATIENCE)
    assert engine.settings.preset == "x2i-tiny"


def test_unknown_flux(engine):
    assert engine.flux.name == "x2i-tiny"
    switch(engine, flux=str(ASSETS / "x2i-tiny"))
    flux = engine.flux
    assert (flux.num_inference_steps, flux.resolution, flux.guidance_embeds) == (4, 128, False)
    assert flux.license.startswith("its publisher's own")
