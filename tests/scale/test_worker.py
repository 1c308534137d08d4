"""The app on Ray Serve, on a local cluster with two replicas of x2i-tiny, one of which is killed."""

import asyncio
import html
import importlib.util
import pickle
import re
import signal
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from pathlib import Path

import numpy as np
import pytest
import torch
from gradio_client import handle_file
from gradio_client.exceptions import AppError
from PIL import Image

from tests.conftest import run_app
from tests.scale.conftest import ENDLESS, REPLICA, SECONDS, health, new_client, ray_processes, submit, wait_until
from tests.ui.test_endpoints import INPUTS, SETTINGS
from x2i_app.cli import main
from x2i_app.errors import GenerationCancelledError, OutOfMemoryError
from x2i_app.media import read_recipe
from x2i_app.media.budget import InputLimits
from x2i_app.media.hashing import path_hash
from x2i_app.media.isolation import is_isolated, isolate_decoding
from x2i_app.request import GenerationRequest
from x2i_app.scale.replica import Replica
from x2i_app.serving.file_transfer import pack
from x2i_app.serving.job_events import follow
from x2i_app.serving.jobs import Job, Phase
from x2i_app.settings import ASSETS, Settings

DRAWING = ASSETS / "examples/images/boat-at-sunset.png"
LONG = {"steps": 100, "count": 2}  # a few seconds at the smallest size


@pytest.fixture(scope="module")
def cluster_app(tmp_path_factory):
    """The app with two replicas. It is killed at the end, leaves no file, and has opened no outside connection."""
    folder, temporary = tmp_path_factory.mktemp("app"), tmp_path_factory.mktemp("temporary")
    before = cluster_folders()
    with run_app(folder, "--ray", "--replicas", "2", watch=True, TMPDIR=str(temporary), GRADIO_TEMP_DIR="") as app:
        yield app
        assert len(cluster_folders() - before) == 1
        app.process.send_signal(signal.SIGKILL)
        wait_until(lambda: not ray_processes() and not list(temporary.iterdir()), "all has ended", pause=0.5)
        wait_until(lambda: cluster_folders() == before, "the files of the cluster are gone")
        assert app.contacts.read_text() == ""


def cluster_folders() -> set[Path]:
    """The folders of local clusters: their sockets need short paths, which the tests' own folders do not have."""
    return set(Path("/tmp").glob("x2i-ray-*"))


@pytest.fixture
def two_replicas(cluster_app):
    """The app, while both replicas run."""
    wait_until(lambda: health(cluster_app) == (200, "ready", "Replicas running: 2."), "both are there")
    return cluster_app


@pytest.fixture(scope="module")
def replica():
    """A replica without Ray, in this process; on one thread like the others, or the last bit may differ."""
    threads, folder, was_isolated = torch.get_num_threads(), Path.cwd(), is_isolated()
    torch.set_num_threads(1)
    replica = Replica(Settings(profile="cpu"), str(folder))
    yield replica
    replica.engine.close()
    isolate_decoding(was_isolated)  # a replica's process never ends that
    torch.set_num_threads(threads)


def step(job) -> int:
    """The step, of 200, of a LONG job; 0 before the first one."""
    said = job.outputs()[-1][1] if job.outputs() else ""
    found = re.search(r'value="(\d+)" max="200"', said)
    return int(found.group(1)) if found and not job.done() else 0


def pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image.convert("RGB"), np.int16)


def run(coroutine):
    """Run it in a new thread: Playwright leaves a running event loop in this one."""
    with ThreadPoolExecutor(1) as elsewhere:
        return elsewhere.submit(asyncio.run, coroutine).result()


def test_endpoints(cluster_app, tmp_path):
    jobs = {}
    for name, given in INPUTS.items():
        client = new_client(cluster_app, tmp_path)
        jobs[name] = client.submit(**given, **SETTINGS, api_name=f"/{name}")
    for name, job in jobs.items():
        images, progress, answer, report, *_ = job.result(SECONDS)
        assert "Done" in progress, name
        assert (report["seeds"], report["height"], report["answer"] in answer) == ([9], 96, True)
        recipe = read_recipe(images[0]["image"])
        if name in ("image", "image_text"):
            assert recipe.request.images == (path_hash(DRAWING),)
    # Jobs are drawn as soon as one replica runs, and these jobs are short.
    wait_until(lambda: health(cluster_app) == (200, "ready", "Replicas running: 2."), "both are there")
    assert client.predict("", api_name="/status")["preset"] == "x2i-tiny"


def test_bad_input(cluster_app, tmp_path):
    client = new_client(cluster_app, tmp_path)
    with pytest.raises(AppError, match="1000; it must be 1 to 100"):
        client.predict(**INPUTS["text"], **SETTINGS | {"steps": 1000}, api_name="/text")
    cut = tmp_path / "cut.png"
    cut.write_bytes(DRAWING.read_bytes()[:-500])
    with pytest.raises(AppError) as raised:
        client.predict(images=[{"image": handle_file(cut), "caption": None}], **SETTINGS, api_name="/image")
    assert "cut.png" in html.unescape(str(raised.value))
    assert "Traceback" not in str(raised.value)


def test_stopped_job(two_replicas, tmp_path):
    endless = submit(two_replicas, 1, tmp_path, **ENDLESS)
    wait_until(lambda: endless.outputs() and "/progress" in endless.outputs()[-1][1], "it draws")
    wait_until(lambda: 'max="800"' in endless.outputs()[-1][1], "it draws")
    new_client(two_replicas, tmp_path).predict(endless.outputs()[-1][4], api_name="/cancel")
    assert "Stopped" in endless.result(SECONDS)[1]
    for job in [submit(two_replicas, seed, tmp_path) for seed in (1, 2)]:  # one for each replica
        assert job.result(SECONDS)[3]["answer"]


def test_killed_replica(two_replicas, replica, tmp_path):
    jobs = [submit(two_replicas, seed, tmp_path, **LONG) for seed in (10, 20)]
    wait_until(lambda: all(1 < step(job) < 160 for job in jobs), "both replicas draw")
    first, second = ray_processes(REPLICA)
    first.kill()
    jobs += [submit(two_replicas, seed, tmp_path, count=2) for seed in range(30, 90, 10)]
    wait_until(lambda: health(two_replicas)[2].startswith("Replicas running: 1, "), "health tells of the loss")
    assert health(two_replicas)[:2] == (200, "ready")
    results = [job.result(SECONDS) for job in jobs]
    assert "A replica was lost (ActorDiedError); its job is drawn again." in two_replicas.log.read_text()
    for seed, (images, _, _, report, *_) in zip(range(10, 90, 10), results, strict=True):
        assert report["seeds"] == [seed, seed + 1]
        request = GenerationRequest(
            prompt=f"{seed} stars",
            width=64,
            height=64,
            num_inference_steps=report["steps"],
            guidance_scale=3.5,
            num_images_per_prompt=2,
            seed=seed,
        )
        wanted = replica.engine.submit(request).wait(SECONDS).images
        assert len(images) == len(wanted) == 2
        for drawn, image in zip(images, wanted, strict=True):
            # Not bit for bit, as another number of threads may round otherwise. Another seed differs far more.
            assert abs(pixels(Image.open(drawn["image"])) - pixels(image)).max() <= 3
    assert second.is_running()


def test_rolling_update(two_replicas, tmp_path):
    before = ray_processes(REPLICA)
    jobs = [submit(two_replicas, seed, tmp_path, **LONG) for seed in (10, 20)]
    client = new_client(two_replicas, tmp_path)
    assert "auto" in client.predict("", "", "auto", api_name="/switch")
    for seed, job in zip((10, 20), jobs, strict=True):
        assert job.result(SECONDS)[3]["seeds"] == [seed, seed + 1]
    wait_until(lambda: health(two_replicas) == (200, "ready", "Replicas running: 2."), "both are there")
    assert not set(ray_processes(REPLICA)) & set(before)
    with pytest.raises(AppError) as raised:
        client.predict("", "/no/such", "", api_name="/switch")
    assert "There is no folder '/no/such'" in html.unescape(str(raised.value))


def test_disconnected_caller(replica, monkeypatch):
    steps, jobs, submit = [], [], replica.engine.submit
    monkeypatch.setattr(replica.engine, "submit", lambda *a, **k: jobs.append(submit(*a, **k)) or jobs[-1])
    forward = replica.worker.pipeline.transformer.forward
    monkeypatch.setattr(
        replica.worker.pipeline.transformer, "forward", lambda *a, **k: steps.append(1) or forward(*a, **k)
    )

    async def listen():
        request = GenerationRequest(prompt="a boat", width=256, height=256, num_inference_steps=100)
        async with aclosing(replica.draw(pack(request), False)) as events:
            async for event in events:
                if event.progress.phase is Phase.DENOISING:
                    break
        return len(steps)

    before = run(listen())
    with pytest.raises(GenerationCancelledError):
        jobs[0].wait(SECONDS)
    assert len(steps) <= before + 1


def test_t25_all_files_of_a_job_have_one_budget(replica, tmp_path):
    """As in a job that this machine draws; a job without strangers' limits has none."""
    for name in ("a.png", "b.png"):
        Image.new("RGB", (64, 64)).save(tmp_path / name)
    images = [str(tmp_path / name) for name in ("a.png", "b.png")]
    request = GenerationRequest(prompt="a boat", images=images, width=64, height=64, num_inference_steps=1)

    async def end(*limits):
        return [event async for event in replica.draw(pack(request), False, *limits)][-1]

    refused = run(end(InputLimits(pixels=64 * 64)))
    assert "All files of the request together have more than" in str(refused.error)
    assert run(end()).progress.phase is Phase.DONE


def test_error_of_replica(replica, monkeypatch):
    def exhaust(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    monkeypatch.setattr(replica.worker.pipeline.transformer, "forward", exhaust)

    async def listen():
        request = GenerationRequest(prompt="a boat", width=128, height=128)
        return [pickle.dumps(event) async for event in replica.draw(pack(request), False)]

    last = pickle.loads(run(listen())[-1])  # noqa: S301 - from here
    with pytest.raises(OutOfMemoryError, match="memory"):
        list(follow([last], Job(GenerationRequest(prompt="a boat"))))


def test_ray_not_installed(monkeypatch, capsys):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert main(["app", "--ray"]) == 1
    assert "install it with: pip install '.[scale]'" in capsys.readouterr().err


def test_no_cluster(capsys):
    assert main(["app", "--ray", "127.0.0.1:1"]) == 1
    assert "There is no Ray cluster at '127.0.0.1:1'" in capsys.readouterr().err
