"""The training batches of the teacher, and its models as FLUX.1's files have them."""

import random

import numpy as np
import torch
from diffusers import FluxPipeline

from x2i_app.errors import InvalidRequestError
from x2i_app.miniature import models
from x2i_app.miniature.autoencoder import encode_images
from x2i_app.miniature.teacher import CaptionedLatents, LatentPool
from x2i_app.miniature.tokenizers import clip_tokenizer, t5_tokenizer
from x2i_app.miniature.world import (
    COLOURS,
    GROUNDS,
    KINDS,
    PLACES,
    SIZES,
    SKIES,
    audio_sentence,
    parse_canonical,
    random_scene,
    sounding,
)

UNTOLD = -100


def test_captions_attributes_and_latents_fit():
    rng = random.Random(2)
    scenes = [random_scene(rng) for _ in range(40)]
    latents = torch.arange(40.0).reshape(40, 1, 1, 1).expand(40, 8, 16, 16)
    things = torch.zeros(40, 16, 16, dtype=torch.bool)
    things[:20, 3] = True
    tokenizer = t5_tokenizer()
    large = LatentPool(scenes[:3], latents[:3].repeat(1, 1, 2, 2) + 100, things[:3].repeat(1, 2, 2))
    pools = (LatentPool(scenes, latents, things), large)
    data = CaptionedLatents(pools, clip_tokenizer(), tokenizer, batch_size=256)
    assert data[4]["latents"].shape == (256, 8, 16, 16)
    assert data[5]["latents"].shape == (64, 8, 32, 32)
    assert set(data[5]["latents"].unique().tolist()) == {100, 101, 102}
    assert data[5]["weights"].shape == (64, 1, 32, 32)
    data = CaptionedLatents(pools[:1], clip_tokenizer(), tokenizer, batch_size=256)
    batch, canonical, settings = data[5], 0, 0
    assert torch.equal(batch["t5_ids"], data[5]["t5_ids"])
    assert batch["t5_ids"].shape == (256, tokenizer.model_max_length)
    heavy = (batch["weights"] > 1).nonzero()
    assert set(heavy[:, 2].tolist()) == {3}
    assert set(heavy[:, 0].tolist()) == set((batch["latents"][:, 0, 0, 0] < 20).nonzero().flatten().tolist())
    for ids, latent, attributes in zip(batch["t5_ids"], batch["latents"], batch["attributes"].tolist(), strict=True):
        scene = scenes[int(latent[0, 0, 0])]
        caption = tokenizer.decode(ids, skip_special_tokens=True)
        assert [SKIES[attributes[0]], GROUNDS[attributes[1]]] == [scene.sky, scene.ground]
        if set(attributes[2:]) == {UNTOLD}:
            assert caption == audio_sentence(scene)
            assert not sounding(scene).kinds
            settings += 1
            continue
        things = {thing.place: thing for thing in scene.things}
        for place, (kind, colour, size) in zip(PLACES, zip(*[iter(attributes[2:])] * 3, strict=True), strict=True):
            if place in things:
                said = (KINDS[kind], COLOURS[colour], SIZES[size])
                assert said == (things[place].kind, things[place].colour, things[place].size)
            else:
                assert (kind, colour, size) == (len(KINDS), UNTOLD, UNTOLD)
        if caption.startswith(("a large", "a small")) and caption.count("on the") + caption.count("in the"):
            try:
                canonical += parse_canonical(caption) == scene
            except InvalidRequestError:  # not canonical
                continue
    assert canonical >= 40
    assert 3 <= settings <= 30


@torch.no_grad()
def test_models_of_fewer_channels_draw_the_same_as_files_of_flux():
    """The further channels of an image are 0, nothing reads them, and no image changes."""
    torch.manual_seed(0)
    transformer, vae = models.build_transformer(), models.build_vae()
    vae.register_to_config(shift_factor=0.3, scaling_factor=1.5)
    wide_transformer, wide_vae = models.with_flux_channels(transformer, vae)
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 48, 3), np.uint8)
    latents, wide = encode_images(vae, images), encode_images(wide_vae, images)
    assert wide.shape == (2, 16, 4, 6)
    assert torch.allclose(wide[:, :8], latents, atol=1e-6)
    assert wide[:, 8:].abs().max() < 1e-6
    assert wide_vae.encode(torch.zeros(1, 3, 8, 8)).latent_dist.std[:, 8:].max() < 1e-6
    noise = torch.randn(2, 16, 4, 6)
    assert torch.allclose(wide_vae.decode(noise).sample, vae.decode(noise[:, :8]).sample, atol=1e-5)

    def velocity(model, noise):
        tokens = FluxPipeline._pack_latents(noise, *noise.shape)
        ids = FluxPipeline._prepare_latent_image_ids(2, 2, 3, "cpu", torch.float32)
        states = torch.linspace(-1, 1, 2 * 5 * models.JOINT_DIM).view(2, 5, models.JOINT_DIM)
        pooled, timestep = torch.linspace(-1, 1, 2 * models.POOLED_DIM).view(2, -1), torch.tensor([0.3, 0.9])
        drawn = model(tokens, states, pooled, timestep, ids, torch.zeros(5, 3), return_dict=False)[0]
        return FluxPipeline._unpack_latents(drawn, 32, 48, 8)

    assert torch.allclose(velocity(wide_transformer, noise)[:, :8], velocity(transformer, noise[:, :8]), atol=1e-5)
    assert (velocity(wide_transformer, noise)[:, 8:] == 0).all()
