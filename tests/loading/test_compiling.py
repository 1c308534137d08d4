"""torch.compile of FLUX's blocks. Without a card, only what is traced is tested, with torch's `eager` backend."""

import pytest
import torch
from PIL import Image

from x2i_app import load_pipeline
from x2i_app.errors import InvalidRequestError
from x2i_app.loading import use_loras
from x2i_app.loading.compiling import check_compile, compile_blocks
from x2i_app.loading.memory import Placement
from x2i_app.presets import MEMORY_PROFILES
from x2i_app.serving.engine import Engine
from x2i_app.settings import ASSETS, Settings

STRIPED = ASSETS / "examples/loras/striped.safetensors"


def test_it_needs_a_card_before_anything_is_loaded():
    with pytest.raises(InvalidRequestError, match="compile is for a CUDA or XPU card, and the device is cpu"):
        load_pipeline("x2i-tiny", profile="cpu", compile=True)
    engine = Engine(Settings(profile="cpu", compile=True))
    engine._worker.models.find(engine.settings)
    with pytest.raises(InvalidRequestError, match="compile is for a CUDA or XPU card"):
        engine._worker.load()


def test_blocks_that_come_one_by_one_are_not_compiled():
    card = torch.device("cuda", 0)
    check_compile(Placement(MEMORY_PROFILES["24gb"], card, "none"))
    check_compile(Placement(MEMORY_PROFILES["24gb"], card, "model"))
    with pytest.raises(InvalidRequestError, match="profile 8gb moves it there block by block; leave compile out"):
        check_compile(Placement(MEMORY_PROFILES["8gb"], card, "group"))


@pytest.mark.parametrize("is_fast", [False, True])
def test_compiled_blocks_draw_the_same(is_fast):
    """Also of another size, with a LoRA, with LightControl, without them again, and with a cache of blocks."""
    pipe = load_pipeline("x2i-tiny", profile="cpu")
    conditioning = pipe.encode("a red house")
    photo = Image.new("RGB", (64, 64), "red")

    def draw_all():
        drawn = []
        for loras, given in (
            ((), {"width": 64, "height": 64}),
            ((), {"width": 96, "height": 64}),
            (((STRIPED, 1.0),), {"width": 64, "height": 64}),
            ((), {"width": 64, "height": 64} | ({} if is_fast else {"control_image": photo})),
        ):
            use_loras(pipe, loras)
            generator = torch.Generator().manual_seed(1)
            steps = 12 if is_fast else 2
            drawn.append(
                pipe(
                    conditioning=conditioning,
                    num_inference_steps=steps,
                    generator=generator,
                    output_type="latent",
                    fast=is_fast,
                    **given,
                ).images
            )
        return drawn

    plain, calls = draw_all(), []

    def backend(graph, _inputs):
        calls.append(graph)
        return graph.forward

    names = list(pipe.transformer.state_dict())
    compile_blocks(pipe.transformer, backend=backend)
    torch._dynamo.reset()
    try:
        for one, other in zip(plain, draw_all(), strict=True):
            torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)
    finally:
        torch._dynamo.reset()
    assert bool(calls) is not is_fast
    assert list(pipe.transformer.state_dict()) == names
