"""One conditioning works in diffusers' other FLUX pipelines, with the miniature's weights."""

import numpy as np
import pytest
import torch
from diffusers import (
    FluxControlNetModel,
    FluxControlNetPipeline,
    FluxFillPipeline,
    FluxImg2ImgPipeline,
    FluxInpaintPipeline,
    FluxTransformer2DModel,
)
from PIL import Image

from x2i_app.errors import InvalidRequestError
from x2i_app.loading import load_controlnet, load_transformer
from x2i_app.media import outpaint_canvas
from x2i_app.settings import ASSETS

SIZE = {"width": 64, "height": 64, "num_inference_steps": 4}


@pytest.fixture(scope="module")
def night(pipeline):
    return pipeline.encode(prompt="a red house on snow at night")


@pytest.fixture(scope="module")
def day(pipeline):
    return pipeline.encode(prompt="a green tree on sand by day")


@pytest.fixture(scope="module")
def image():
    return Image.open(ASSETS / "examples/images/boat-at-sunset.png").convert("RGB").resize((64, 64))


def seed():
    return torch.Generator().manual_seed(0)


def distance(first, second):
    return float(np.abs(np.asarray(first, dtype=float) - np.asarray(second, dtype=float)).mean())


def test_image_to_image(pipeline, night, day, image):
    img2img = pipeline.drawing_pipeline(FluxImg2ImgPipeline)

    def draw(conditioning, strength):
        return img2img(**conditioning.embeds, image=image, strength=strength, generator=seed(), **SIZE).images[0]

    assert distance(draw(night, 0.3), image) < 0.7 * distance(draw(night, 1.0), image)
    assert distance(draw(night, 1.0), draw(day, 1.0)) > 20


def test_inpainting_changes_masked_pixels(pipeline, night, image):
    mask = Image.new("L", (64, 64), 0)
    mask.paste(255, (0, 0, 64, 32))
    inpaint = pipeline.drawing_pipeline(FluxInpaintPipeline)
    out = inpaint(**night.embeds, image=image, mask_image=mask, strength=1.0, generator=seed(), **SIZE).images[0]
    upper, lower = (0, 0, 64, 28), (0, 36, 64, 64)
    assert distance(out.crop(upper), image.crop(upper)) > 3 * distance(out.crop(lower), image.crop(lower))


@pytest.fixture(scope="module")
def fill(pipeline, tmp_path_factory):
    """A Fill pipeline with the miniature's transformer, not yet trained to use the image and mask."""
    config = dict(pipeline.transformer.config) | {"in_channels": 384, "out_channels": 64}
    transformer = FluxTransformer2DModel.from_config(config)
    weights = pipeline.transformer.state_dict()
    embedder = 0.02 * torch.randn(192, 384, generator=seed())
    embedder[:, :64] = weights["x_embedder.weight"]
    transformer.load_state_dict(weights | {"x_embedder.weight": embedder})
    folder = tmp_path_factory.mktemp("fill")
    transformer.save_pretrained(folder / "transformer")
    for part in (pipeline.vae, pipeline.scheduler):
        part.save_pretrained(folder / ("vae" if part is pipeline.vae else "scheduler"))
    return pipeline.drawing_pipeline(FluxFillPipeline, transformer=load_transformer(folder, torch.float32))


def test_fill(fill, night, day, image):
    canvas, mask = outpaint_canvas(image, left=32, bottom=10)
    drawn = []
    for conditioning, shown in (
        (night, canvas),
        (night, canvas),
        (day, canvas),
        (night, Image.new("RGB", canvas.size)),
    ):
        size = {"width": canvas.width, "height": canvas.height, "num_inference_steps": 2}
        drawn.append(fill(**conditioning.embeds, image=shown, mask_image=mask, generator=seed(), **size).images[0])
    assert drawn[0].size == (96, 80)
    assert distance(drawn[0], drawn[1]) == 0
    assert distance(drawn[0], drawn[2]) > 1  # another prompt
    assert distance(drawn[0], drawn[3]) > 0  # another image


def test_outpaint_canvas(image):
    canvas, mask = outpaint_canvas(image, left=16, top=3)
    assert canvas.size == mask.size == (80, 80)
    assert distance(canvas.crop((16, 3, 80, 67)), image) == 0
    assert np.asarray(mask).sum() == 255 * (80 * 80 - 64 * 64)
    assert not np.asarray(mask)[3:67, 16:].any()
    for margins in ({}, {"left": -1}, {"top": 1.5}, {"right": True}):
        with pytest.raises(InvalidRequestError):
            outpaint_canvas(image, **margins)


def test_a_controlnet_from_a_folder(pipeline, night, image, tmp_path):
    controlnet = FluxControlNetModel.from_transformer(
        pipeline.transformer, num_layers=1, num_single_layers=1, attention_head_dim=48, num_attention_heads=4
    )
    # The input and output layers of a new ControlNet are zero, so it would have no effect.
    for module in (controlnet.controlnet_x_embedder, *controlnet.controlnet_blocks):
        torch.nn.init.normal_(module.weight, std=0.05, generator=seed())
    controlnet.save_pretrained(tmp_path / "controlnet")
    loaded = load_controlnet(tmp_path / "controlnet", torch.float32)
    steered = pipeline.drawing_pipeline(FluxControlNetPipeline, controlnet=loaded)

    def draw(scale, shown):
        options = {"control_image": shown, "controlnet_conditioning_scale": scale, "generator": seed()}
        return steered(**night.embeds, **options, **SIZE).images[0]

    free, other = draw(0.0, image), Image.new("RGB", image.size, "white")
    assert distance(draw(0.0, other), free) == 0
    assert distance(draw(1.0, image), free) > 1
    assert distance(draw(1.0, image), draw(1.0, other)) > 0
