"""Loading from a preset to a pipeline: in several threads at once, and without a word."""

import logging
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
import torch
from torch import nn

from x2i_app import load_pipeline
from x2i_app.loading import build
from x2i_app.loading.checkpoints import load_alignnet
from x2i_app.loading.quantization import quantize
from x2i_app.loading.sources import find_sources
from x2i_app.quiet import compile_later, quiet
from x2i_app.settings import ASSETS


def all_values(pipeline) -> dict[str, torch.Tensor]:
    parts = ("mllm", "align_net", "transformer", "vae")
    return {f"{part}.{name}": value for part in parts for name, value in getattr(pipeline, part).state_dict().items()}


def build_and_read(_) -> bool:
    """Load and quantize a small model beside the others; whether all of its weights have values."""
    align_net = load_alignnet(ASSETS / "x2i-tiny" / "align_net")
    quantize(align_net, "nf4", torch.device("cpu"))
    return not any(value.is_meta for value in align_net.state_dict().values())


def test_threads():
    """Threads that load at the same time each get all of their model, and leave the process's settings as they were."""
    register, default = nn.Module.register_parameter, torch.get_default_dtype()
    with ThreadPoolExecutor(6) as pool:
        dtypes = (torch.float32, torch.bfloat16, torch.float32)
        loading = [pool.submit(load_pipeline, "x2i-tiny", "cpu", dtype=dtype) for dtype in dtypes]
        assert all(pool.map(build_and_read, range(10)))
        loaded = [future.result() for future in loading]
    assert (nn.Module.register_parameter, torch.get_default_dtype()) == (register, default)
    assert not any(value.is_meta for pipeline in loaded for value in all_values(pipeline).values())
    for dtype, pipeline in zip(dtypes, loaded, strict=True):
        assert pipeline.transformer.dtype == pipeline.mllm.dtype == dtype
    first, _, second = map(all_values, loaded)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


# A user's script, which then compares the settings of logging and of the libraries with those before.
SCRIPT = """
import logging, warnings
from x2i_app.loading import load_pipeline, use_loras
import diffusers.utils.logging, transformers.utils.logging
import numpy as np
from PIL import Image
from x2i_app.settings import ASSETS

def settings():
    names = ("transformers", "diffusers", "huggingface_hub", "peft", "accelerate", "bitsandbytes", "x2i_app")
    loggers = [logging.root, *map(logging.getLogger, names)]
    found = [(each.name, each.level, each.disabled, each.propagate, each.handlers, each.filters) for each in loggers]
    bars = [each.is_progress_bar_enabled() for each in (diffusers.utils.logging, transformers.utils.logging)]
    return found, bars, logging.root.manager.disable, list(warnings.filters)

before = settings()
inputs = {"images": [Image.new("RGB", (64, 64))], "audios": [(np.zeros(16000, dtype="float32"), 16000)],
          "videos": [(np.zeros((3, 64, 64, 3), dtype="uint8"), 1.0)]}
for profile in ("auto", "8gb", "24gb"):
    pipe = load_pipeline("x2i-tiny", profile=profile, device="cpu")
    conditioning = pipe.encode(prompt="a red house", **inputs, reason=True)
    use_loras(pipe, [(ASSETS / "examples/loras/striped.safetensors", 1)])
    assert pipe(conditioning=conditioning, width=64, height=64, num_inference_steps=2).images[0].size == (64, 64)
    assert settings() == before, (settings(), before)
"""


def test_silence(tmp_path):
    """Loading, encoding, LoRAs and drawing print nothing and log nothing, in a process as users start it.

    What the process had set for logging and for the libraries stays, so that the caller's own messages are shown.
    """
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONWARNINGS", "CI")}
    environment |= {"PYTHONPATH": str(ASSETS.parent), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-c", SCRIPT]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("statement", ["from x2i_app import X2IPipeline", "from x2i_app.models import AlignNet"])
def test_silent_imports(statement):
    """And without torch's compiler, which bitsandbytes would load to decorate its functions."""
    code = f"{statement}; import bitsandbytes, sys; assert 'torch._inductor.compile_fx' not in sys.modules"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ASSETS.parent, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_compiled_later():
    """A function that `torch.compile` decorates is compiled once, when it is first called, with its options."""
    calls = []

    def compile_now(function, **options):
        calls.append((function.__name__, options))
        return lambda number: 10 * function(number)

    compile_function = compile_later(compile_now)

    @compile_function(dynamic=False)
    def double(number):
        """Twice the number."""
        return 2 * number

    @compile_function
    def same(number):
        return number

    assert calls == []
    assert (double.__name__, double.__doc__) == ("double", "Twice the number.")
    assert (double(1), double(2), same(3)) == (20, 40, 30)
    assert calls == [("double", {"dynamic": False}), ("same", {})]


def test_silent_download(hub, monkeypatch, capfd):
    """A download draws a bar only for a caller who asks for it, even on a terminal; `report` hears of it."""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    hub.add("owner/control", ASSETS / "x2i-tiny/light_control")
    source, reports = "owner/control/diffusion_pytorch_model.safetensors", []
    assert load_pipeline("x2i-tiny", profile="cpu", light_control=source).light_control
    shutil.rmtree(hub.cache)
    load_pipeline("x2i-tiny", profile="cpu", light_control=source, report=reports.append)
    assert reports[-1].repo_id == "owner/control"
    assert reports[-1].done == reports[-1].total > 0
    assert capfd.readouterr() == ("", "")


def test_bar_on_request(capfd):
    """A caller who asks for the progress bar of denoising gets it."""
    pipeline = load_pipeline("x2i-tiny", profile="cpu")
    pipeline("a red house", width=64, height=64, num_inference_steps=2)
    assert capfd.readouterr().err == ""
    pipeline.set_progress_bar_config(disable=False)
    pipeline("a red house", width=64, height=64, num_inference_steps=2)
    assert "2/2" in capfd.readouterr().err


def test_quiet_in_threads():
    """Blocks of several threads end in any order; the settings come back with the last one."""
    logger = logging.getLogger("diffusers")
    level, first_open, first_closed = logger.level, Barrier(2), Barrier(2)

    def outlast():
        first_open.wait(60)
        with quiet():
            first_open.wait(60)
            first_closed.wait(60)
            return logger.level

    with ThreadPoolExecutor(1) as pool:
        with quiet():
            outlasting = pool.submit(outlast)
            first_open.wait(60)
            first_open.wait(60)
        first_closed.wait(60)
        assert outlasting.result() == logging.ERROR
    assert logger.level == level


def test_quiet_keeps_critical():
    """A logger that the caller has set higher stays so."""
    logger = logging.getLogger("diffusers")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with quiet():
            assert logger.level == logging.CRITICAL
        assert logger.level == logging.CRITICAL
    finally:
        logger.setLevel(level)


def test_reading_is_told(monkeypatch):
    """Who loads hears of the bytes of the weights, up to the last one, and can stop the loading in between."""
    monkeypatch.setattr(build, "_SECONDS_BETWEEN_REPORTS", 0)
    sources, told = find_sources("x2i-tiny"), []
    build.build_pipeline(sources, "8gb", "cpu", watch=told.append)
    actions = {reading.action: [] for reading in told}
    assert list(actions) == ["Reading the MLLM", "Quantizing the MLLM", "Reading FLUX"]
    for reading in told:
        actions[reading.action].append(reading)
    for action, readings in actions.items():
        counts, total = [reading.done for reading in readings], readings[-1].total
        assert counts == sorted(counts)
        assert len(counts) > 50, action
        assert 0.98 * total < counts[-1] <= total
    for action, part in (("Reading the MLLM", "mllm/model"), ("Reading FLUX", "transformer/diffusion_pytorch_model")):
        assert actions[action][0].total == (ASSETS / f"x2i-tiny/{part}.safetensors").stat().st_size
    shown = str(build.Reading("Reading FLUX", 3 * 10**9, 24 * 10**9, 10))
    assert shown == "Reading FLUX: 3.0 of 24.0 GB, about 70 s left"

    for action in actions:
        stopped = []

        def stop(reading, action=action, stopped=stopped):
            if reading.action == action:
                stopped.append(reading)
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            build.build_pipeline(sources, "8gb", "cpu", watch=stop)
        assert len(stopped) == 1
