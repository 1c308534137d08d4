"""The training batches of the teacher: each caption fits its attributes and its latents."""

import random

import torch

from x2i_app.errors import InvalidRequestError
from x2i_app.miniature.teacher import CaptionedLatents
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
    latents = torch.arange(40.0).reshape(40, 1, 1, 1).expand(40, 16, 16, 16)
    tokenizer = t5_tokenizer()
    data = CaptionedLatents(scenes, latents, clip_tokenizer(), tokenizer, batch_size=256)
    batch, canonical, settings = data[5], 0, 0
    assert torch.equal(batch["t5_ids"], data[5]["t5_ids"])
    assert batch["t5_ids"].shape == (256, tokenizer.model_max_length)
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
