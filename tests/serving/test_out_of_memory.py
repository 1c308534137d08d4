"""Out of memory in any phase: memory is given back, the error says what would fit, and the next job is unharmed."""

import gc
import weakref
from dataclasses import replace

import pytest
import torch

from x2i_app.errors import OutOfMemoryError
from x2i_app.loading.memory import MemoryUse, explain, is_out_of_memory, plan_of, return_memory
from x2i_app.request import GenerationRequest
from x2i_app.settings import ASSETS

SMALL = {"width": 64, "height": 64, "num_inference_steps": 2, "seed": 3}
LARGE = SMALL | {"width": 128, "height": 192}
PATIENCE = 600
DRAWING = str(ASSETS / "examples/images/boat-at-sunset.png")


@pytest.fixture(scope="module")
def small(engine):
    return engine.submit(GenerationRequest(prompt="a red house", **SMALL)).wait(PATIENCE).images[0].tobytes()


class Exhausted:
    """A forward hook that holds a tensor and then raises `error`, after a number of calls that pass."""

    def __init__(self, error, calls=0):
        self.error, self.calls, self.held = error, calls, None

    def __call__(self, *_):
        if self.calls:
            self.calls -= 1
            return
        tensor = torch.ones(1000)
        self.held = weakref.ref(tensor)
        try:
            raise ValueError("what the library tried first")
        except ValueError:
            raise self.error from None


@pytest.mark.parametrize(
    ("part", "calls", "given", "message"),
    [
        ("mllm", 0, {"images": (DRAWING,)}, "read this input at 128 x 192 .*; try fewer images, videos and"),
        (
            "mllm",
            0,
            {"prompt": "not seen before"},
            "read this input at 128 x 192 .*; try a shorter prompt or the profile",
        ),
        ("transformer", 1, {}, r"generate at 128 x 192 with the profile cpu; try 96 x 144 or the profile"),
        ("vae.decoder", 0, {}, r"decode the image at 128 x 192 .*; try 96 x 144 or the profile"),
    ],
)
@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:127] . DefaultCPUAllocator: can't allocate memory"),
    ],
    ids=["card", "cpu"],
)
def test_out_of_memory(engine, worker, small, part, calls, given, message, error):
    exhausted = Exhausted(type(error)(*error.args), calls)
    name, _, inside = part.partition(".")
    handle = getattr(worker.pipeline, name).get_submodule(inside).register_forward_pre_hook(exhausted)
    try:
        job = engine.submit(GenerationRequest(**{"prompt": "a red house"} | LARGE | given))
        with pytest.raises(OutOfMemoryError, match=message) as raised:
            job.wait(PATIENCE)
    finally:
        handle.remove()
    assert "\n" not in str(raised.value)
    assert not worker.conditionings, "they would be in the way of the next job"
    assert exhausted.held is not None
    assert exhausted.held() is None  # although the test still has the original error
    assert exhausted.error.__traceback__ is None
    again = engine.submit(GenerationRequest(prompt="a red house", **SMALL)).wait(PATIENCE)
    assert again.images[0].tobytes() == small


def test_advised_size(engine, worker):
    request = GenerationRequest(prompt="a red house", **LARGE)
    said = str(explain(worker.pipeline, request, "denoise"))
    width, height = (int(word) for word in said.split("; try ")[1].split(" or ")[0].split(" x "))
    result = engine.submit(GenerationRequest(prompt="a red house", **LARGE | {"width": width, "height": height}))
    assert result.wait(PATIENCE).images[0].size == (width, height)


@pytest.mark.parametrize(("share", "size"), [(0.6, "96 x 144"), (0.3, "64 x 96")])  # of the area: 9/16 and 1/4
@pytest.mark.parametrize("is_read", [True, False])
def test_advice_with_mapped_weights(worker, monkeypatch, share, size, is_read):
    """Weights in their files take no memory, read or not: that decides which size fits, and no other profile helps."""
    pipeline = worker.pipeline
    monkeypatch.setattr(pipeline, "placement", replace(pipeline.placement, is_mapped=True))
    plan = plan_of(pipeline, 128, 192).choose_mapped(None)
    small = sum(part.bytes for part in plan.parts) - plan.mapped
    enough = round(small + share * (plan.peaks["denoise"] - small) + plan.overhead)
    use = MemoryUse(used=0, own=plan.mapped * is_read, total=enough)
    monkeypatch.setattr("x2i_app.loading.memory.memory_use", lambda _: use)
    said = str(explain(pipeline, GenerationRequest(prompt="a red house", **LARGE), "denoise"))
    assert said.endswith(f"generate at 128 x 192 with the profile cpu; try {size}.")


def test_other_errors():
    assert not is_out_of_memory(RuntimeError("shapes differ"))
    assert not is_out_of_memory(ValueError("can't allocate memory"))
    assert is_out_of_memory(MemoryError())


def test_chained_errors():
    held = []

    def fail():
        tensor = torch.ones(10)
        held.append(weakref.ref(tensor))
        try:
            raise ValueError("first")
        except ValueError as error:
            raise torch.OutOfMemoryError("then") from error

    try:
        fail()
    except torch.OutOfMemoryError as error:
        kept = error
    gc.collect()
    assert held[0]() is not None
    return_memory(kept)
    assert held[0]() is None
