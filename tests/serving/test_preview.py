"""Predicted images while an image is drawn: they are right, change nothing, and are close to the final image."""

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL
from PIL import Image

from x2i_app import load_pipeline
from x2i_app.serving.preview import LatentProjection, Previewer, predictions

FLUX_SCALING = {"scaling_factor": 0.3611, "shift_factor": 0.1159}
SIZE = {"width": 128, "height": 96, "num_inference_steps": 6}


@pytest.fixture(scope="module")
def pipeline():
    pipeline = load_pipeline("x2i-tiny", profile="cpu")
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.fixture(scope="module")
def conditioning(pipeline):
    return pipeline.encode(prompt="a red house on snow at night")


def draw(pipeline, conditioning, **options):
    generator = torch.Generator().manual_seed(3)
    return pipeline(conditioning=conditioning, generator=generator, **SIZE, **options).images


def test_predictions(pipeline, conditioning):
    bare = draw(pipeline, conditioning, output_type="latent")
    predicted, latents = [], []
    with predictions(pipeline.transformer, predicted.append):
        observed = draw(
            pipeline,
            conditioning,
            output_type="latent",
            callback_on_step_end=lambda p, i, t, tensors: latents.append(tensors["latents"]) or {},
        )
    assert torch.equal(bare, observed)
    assert not pipeline.transformer._forward_hooks
    sigmas = pipeline.scheduler.sigmas
    for step in range(1, SIZE["num_inference_steps"]):
        previous, current = latents[step - 1], latents[step]
        velocity = (current - previous) / (sigmas[step + 1] - sigmas[step])
        torch.testing.assert_close(predicted[step], previous - sigmas[step] * velocity, rtol=0, atol=1e-4)
    torch.testing.assert_close(predicted[-1], bare)  # the last prediction is the result


def test_previews_of_x2i_tiny(pipeline, conditioning):
    shown: list[Image.Image] = []
    previewer = Previewer(pipeline.vae)
    with previewer.watch(pipeline.transformer, SIZE["width"], SIZE["height"], shown.append):
        (image,) = draw(pipeline, conditioning)
    assert [preview.size for preview in shown] == [image.size] * SIZE["num_inference_steps"]
    final = np.asarray(image, dtype=float)
    errors = [np.sqrt(np.mean((np.asarray(preview) - final) ** 2)) for preview in shown]
    assert errors[-1] < 0.55 * final.std()  # a blurred version of the image
    assert errors[-1] < errors[0]
    noise = np.sqrt(np.mean((np.random.default_rng(0).normal(128, 64, final.shape) - final) ** 2))
    assert errors[1] < 0.6 * noise


def test_vae_of_flux():
    shape = {"block_out_channels": (8, 8, 8, 8), "norm_num_groups": 8, "latent_channels": 16}
    blocks = {"down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4}
    vae = AutoencoderKL(**shape, **blocks, **FLUX_SCALING)
    projection = LatentProjection.of(vae, ())  # no images: nothing is fitted
    # Channel 7 of one latent pixel, alone: minus .0236, .0185 and .0259 over the bias, in [-1, 1].
    latents = torch.zeros(16, 2, 3)
    latents[7, 1, 2] = 10
    image = projection(latents)
    assert image.size == (3, 2)
    assert image.getpixel((0, 0)) == (123, 118, 117)
    assert image.getpixel((2, 1)) == (93, 95, 84)


def test_another_default_dtype(pipeline):
    """A thread that loads a model in 16 bit changes it for a while; previews and their maps stay the same."""
    latents = torch.linspace(-2, 2, 16 * 6).view(16, 2, 3)
    flux = AutoencoderKL(block_out_channels=(8,), norm_num_groups=8, latent_channels=16, **FLUX_SCALING)
    maps = [Previewer(pipeline.vae).projection, LatentProjection.of(flux, ())]
    torch.set_default_dtype(torch.bfloat16)
    try:
        others = [Previewer(pipeline.vae).projection, LatentProjection.of(flux, ())]
        assert others[1](latents) == maps[1](latents)
    finally:
        torch.set_default_dtype(torch.float32)
    for one, other in zip(maps, others, strict=True):
        assert torch.equal(one.weight, other.weight)
        assert torch.equal(one.bias, other.bias)
