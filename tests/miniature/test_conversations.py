"""What the miniature is asked and should answer: every kind of conversation, as training and judging share it."""

import random
from collections import Counter

import pytest

from x2i_app.miniature import conversations
from x2i_app.miniature.conversations import (
    CODES,
    EVERYDAY_SHOWN,
    EVERYDAY_TOLD,
    SHOWN,
    TOLD,
    Source,
    description,
    description_and_change,
    image_and_audio,
    images,
    talk,
    typed,
)
from x2i_app.miniature.meaning import parse_answer
from x2i_app.miniature.world import audio_sentence, describe, parse_canonical, random_edit, sounding

TRAIN = Source("train")
KINDS = [*TOLD, *SHOWN, typed]
EVERYDAY = [kind for kind in (*EVERYDAY_TOLD, *EVERYDAY_SHOWN) if kind not in KINDS]
MEDIA = {
    "description": [],
    "description_and_change": [],
    "talk": [],
    "image": ["image"],
    "images": ["image", "image"],
    "video": ["video"],
    "audio": ["audio"],
    "typed": ["screenshot"],
    "instruction": ["image"],
    "video_and_text": ["video"],
    "audio_and_text": ["audio"],
    "image_and_audio": ["image", "audio"],
    "image_audio_and_text": ["image", "audio"],
}


def some(kind, source=TRAIN, count=60, seed=0):
    rng = random.Random(f"{kind.__name__} {seed}")
    return [kind(source, rng) for _ in range(count)]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_answers_say_the_scene_that_is_wanted(kind):
    dialogues = some(kind)
    assert dialogues == some(kind)
    assert dialogues != some(kind, seed=1)
    for dialogue in dialogues:
        for exchange in dialogue:
            assert exchange.text or exchange.shown
            if exchange.wanted is None:
                assert exchange.answer == audio_sentence(exchange.shown[0].scene)
            else:
                assert parse_canonical(exchange.answer) == exchange.wanted
                assert exchange.answer == describe(exchange.wanted)
        if kind.__name__ in MEDIA:
            assert [shown.kind for shown in dialogue[0].shown] == MEDIA[kind.__name__]


@pytest.mark.parametrize("kind", EVERYDAY, ids=lambda kind: kind.__name__)
def test_everyday_answers_say_what_is_meant(kind):
    dialogues = some(kind)
    assert dialogues == some(kind)
    for dialogue in dialogues:
        for exchange in dialogue:
            assert parse_answer(exchange.answer).scene == exchange.wanted
    assert len(EVERYDAY) == 7


@pytest.mark.parametrize("kind", [*KINDS, *EVERYDAY], ids=lambda kind: kind.__name__)
def test_training_never_shows_or_wants_a_pair_that_is_held_out(kind):
    for dialogue in some(kind, count=150):
        for exchange in dialogue:
            scenes = [shown.scene for shown in exchange.shown if shown.scene] + [exchange.wanted]
            assert not any(scene.held_out for scene in scenes if scene)


def test_images_are_brought_together_in_the_setting_of_the_first():
    for dialogue in some(images):
        first, second = (shown.scene for shown in dialogue[0].shown)
        wanted = dialogue[0].wanted
        assert (wanted.sky, wanted.ground) == (first.sky, first.ground)
        shown = [(t.kind, t.colour, t.size) for t in (*first.things, *second.things)]
        assert [(t.kind, t.colour, t.size) for t in wanted.things] == shown


def test_audio_beside_an_image_sets_the_scene_and_tells_no_thing():
    for dialogue in some(image_and_audio):
        drawn, heard = (shown.scene for shown in dialogue[0].shown)
        wanted = dialogue[0].wanted
        assert (wanted.sky, wanted.ground, wanted.things) == (heard.sky, heard.ground, drawn.things)
        assert sounding(heard).kinds == ()


@pytest.mark.parametrize("kind", [conversations.dialogue, talk])
def test_a_dialogue_has_three_turns_of_which_the_later_ones_change_what_came_out(kind):
    for first, second, third in some(kind):
        assert not any(exchange.shown for exchange in (second, third))
        assert all(exchange.text for exchange in (second, third))
        assert first.wanted != second.wanted != third.wanted
    assert any(first.shown for first, _, _ in some(kind)) == (kind is conversations.dialogue)


def test_what_is_told_with_a_change_is_wanted_changed():
    for seed in range(60):
        (exchange,) = description_and_change(TRAIN, random.Random(seed))
        rng = random.Random(seed)
        scene, language = TRAIN.scene(rng), rng.choice(CODES)
        edit = random_edit(scene, rng, split="train")
        assert exchange.wanted == edit.apply(scene) != scene
        told = describe(scene, language, rng)
        assert exchange.text == f"{told} {edit.instruction(language, rng)}"


def test_descriptions_come_in_all_languages_and_in_the_one_asked_for():
    texts = [description(TRAIN, random.Random(seed), "ja")[0].text for seed in range(20)]
    assert all(any("\u3040" <= letter <= "\u30ff" for letter in text) for text in texts)
    scripts = Counter(any(ord(letter) > 0x3000 for letter in d[0].text) for d in some(description, count=600))
    assert 0.2 < scripts[True] / 600 < 0.46  # two of six
    assert len(CODES) == 6
