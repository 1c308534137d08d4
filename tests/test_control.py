"""LightControl from the bundle: under several of diffusers' FLUX pipelines, through the engine, and refused."""

import numpy as np
import pytest
import torch
from diffusers import FluxControlNetModel, FluxControlNetPipeline, FluxImg2ImgPipeline, FluxInpaintPipeline
from PIL import Image

from x2i_app import X2IPipeline
from x2i_app.errors import CheckpointError, InvalidRequestError
from x2i_app.models import LightControl
from x2i_app.request import GenerationRequest
from x2i_app.serving.engine import Engine
from x2i_app.settings import ASSETS, Settings

SMALL = {"width": 64, "height": 96, "num_inference_steps": 2}
LATENTS = SMALL | {"output_type": "latent"}
DRAWING = ASSETS / "examples/images/boat-at-sunset.png"


def generator():
    return torch.Generator().manual_seed(0)


@pytest.fixture(scope="module")
def conditioning(pipeline):
    return pipeline.encode(prompt="make it night", images=[DRAWING])


def test_it_is_small_and_part_of_the_bundle(pipeline):
    weights = ASSETS / "x2i-tiny/light_control/diffusion_pytorch_model.safetensors"
    assert weights.stat().st_size < 3e6
    bundled = X2IPipeline.from_pretrained(ASSETS / "x2i-tiny", dtype=torch.float32)
    assert bundled.light_control.config.num_blocks == len(pipeline.transformer.transformer_blocks)


def test_the_image_moves_towards_the_one_that_is_kept_to_and_strength_0_is_the_bare_one(pipeline):
    conditioning = pipeline.encode(images=[DRAWING])
    source = Image.open(DRAWING).convert("RGB").resize((128, 128))
    given = {"conditioning": conditioning, "width": 128, "height": 128, "num_inference_steps": 8, "output_type": "np"}
    errors = {}
    for strength in (0.0, 0.5, 1.0):
        control = {"control_image": source, "control_strength": strength}
        drawn = pipeline(**given, **control, generator=generator()).images[0]
        errors[strength] = np.square(drawn - np.asarray(source) / 255).mean()
        if strength == 0:
            assert np.array_equal(drawn, pipeline(**given, generator=generator()).images[0])
    assert errors[1.0] < errors[0.5] < errors[0.0]
    assert errors[1.0] < 0.7 * errors[0.0]


@pytest.mark.parametrize("cls", [FluxImg2ImgPipeline, FluxInpaintPipeline, FluxControlNetPipeline])
def test_it_speaks_under_diffusers_other_pipelines_and_then_is_silent(pipeline, conditioning, cls):
    image = Image.open(DRAWING).convert("RGB").resize((64, 96))
    more, components = {"image": image, "strength": 1.0}, {}
    if cls is FluxInpaintPipeline:
        more["mask_image"] = Image.new("L", (64, 96), 255)
    if cls is FluxControlNetPipeline:
        torch.manual_seed(0)
        components["controlnet"] = FluxControlNetModel.from_transformer(
            pipeline.transformer, num_layers=1, num_single_layers=0, attention_head_dim=48, num_attention_heads=4
        )
        more = {"control_image": image}

    def draw():
        return pipeline.drawing_pipeline(cls, **components)(
            prompt_embeds=conditioning.prompt_embeds,
            pooled_prompt_embeds=conditioning.pooled_prompt_embeds,
            generator=generator(),
            **more,
            **LATENTS,
        ).images

    before = draw()
    with pipeline.control(image):
        told = draw()
    assert told.shape == before.shape
    assert not torch.allclose(told, before)
    assert torch.equal(draw(), before)


def test_the_engine_keeps_to_the_image_when_it_is_asked_to():
    engine = Engine(Settings(profile="cpu"))
    engine.start()
    try:
        drawn = {}
        for strength in (0, 1):
            request = GenerationRequest("make it night", (DRAWING,), seed=3, control_strength=strength, **SMALL)
            result = engine.submit(request).wait(300)
            assert result.request.control_strength == strength
            drawn[strength] = result.images[0]
        assert drawn[0].tobytes() != drawn[1].tobytes()
    finally:
        engine.close()


@pytest.mark.parametrize(
    ("settings", "has"),
    [
        ({}, True),
        ({"flux": "flux.1-dev"}, False),  # the bundled one is trained for the bundled FLUX
        ({"preset": "qwen2.5-vl-3b"}, False),
        ({"preset": "qwen2.5-vl-3b", "light_control": "my.safetensors"}, True),
    ],
)
def test_a_request_to_a_model_that_has_none_is_refused_before_it_waits(settings, has):
    engine = Engine(Settings(**settings))
    assert engine.has_light_control is has
    request = GenerationRequest("make it night", (DRAWING,), control_strength=1)
    if has:
        engine.submit(request)
    else:
        with pytest.raises(InvalidRequestError, match="has no LightControl"):
            engine.submit(request)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"control_strength": 1}, "and 0 were given"),
        ({"control_strength": 1, "images": ("a.png", "b.png")}, "and 2 were given"),
        ({"control_strength": 2.5, "images": ("a.png",)}, "control_strength is 2.5; it must be 0 to 2"),
        ({"control_strength": "1", "images": ("a.png",)}, "it must be a number"),
        ({"control_strength": None, "images": ("a.png",)}, "it must be a number"),
    ],
)
def test_a_request_that_makes_no_sense_is_refused(given, message):
    with pytest.raises(InvalidRequestError, match=message):
        GenerationRequest(prompt="a house", **given)


def test_numbers_and_sizes_that_do_not_fit_are_refused(pipeline, conditioning):
    for given, message in (
        ({"control_strength": -1}, "control_strength is -1"),
        ({"control_start": 1.5}, "start is 1.5"),
        ({"control_end": "late"}, "end is 'late'"),
    ):
        with pytest.raises(InvalidRequestError, match=message):
            pipeline(conditioning=conditioning, control_image=DRAWING, **given, **SMALL)
    parts = {name: pipeline.components[name] for name in ("transformer", "vae", "scheduler", "align_net")}
    bare = X2IPipeline.from_encoder(pipeline.encoder, **parts)
    with pytest.raises(InvalidRequestError, match="has no LightControl"):
        bare(conditioning=conditioning, control_image=DRAWING, **SMALL)
    for config in ({"num_blocks": 3, "dim": 192}, {"num_blocks": 2, "dim": 64}):
        small = LightControl(**config, widths=(8, 8, 16), time_embed_dim=8)
        with pytest.raises(CheckpointError, match="use the LightControl trained for it"):
            X2IPipeline.from_encoder(pipeline.encoder, **parts, light_control=small)
