"""Everyday wording: what is generated for training, what it means, and the sentences that were written by hand."""

import random
import re
from dataclasses import replace

import pytest

from x2i_app.errors import InvalidRequestError
from x2i_app.miniature.align import english_prompts
from x2i_app.miniature.everyday import CODES, everyday_change, everyday_prompt
from x2i_app.miniature.everyday.own_wordings import is_own_wording, own_wordings
from x2i_app.miniature.meaning import UNKNOWN, Meaning, parse_answer
from x2i_app.miniature.scene import GROUNDS, KINDS, NATURAL_COLOURS, SKIES, Scene, Thing
from x2i_app.miniature.sentences import describe, parse_canonical

HOUSE = Thing("house", "red", "left")
TREE = Thing("tree", "green", "right", "small")


def prompts(count=1500, **options):
    rng = random.Random(11)
    return [everyday_prompt(rng, **options) for _ in range(count)]


def changes(count=1500, **options):
    """Each with the meaning that it changes."""
    rng = random.Random(12)
    first = [everyday_prompt(rng, unknown=0.1).meaning for _ in range(count)]
    return [(meaning, everyday_change(meaning, rng, **options)) for meaning in first]


def test_prompts_depend_only_on_the_generator():
    assert prompts(50) == prompts(50)
    assert len({prompt.text for prompt in prompts(300)}) > 250


@pytest.mark.parametrize("code", CODES)
def test_every_language_has_every_kind_sky_and_ground(code):
    found = [prompt.meaning for prompt in prompts(code=code, unknown=0.0)]
    assert {thing.kind for meaning in found for thing in meaning.things} == set(KINDS)
    assert {meaning.sky for meaning in found} == set(SKIES)
    assert {meaning.ground for meaning in found} == set(GROUNDS)
    assert {len(meaning.things) for meaning in found} == {0, 1, 2, 3}
    assert not any(meaning.is_partial for meaning in found)


def test_training_has_no_held_out_pair_and_no_own_wording():
    for prompt in [*prompts(6000), *(change for _, change in changes(6000))]:
        assert not prompt.meaning.held_out
        assert not is_own_wording(prompt.text)
        assert prompt.text.strip()


def test_the_unknown_is_marked():
    assert all(prompt.meaning.is_partial for prompt in prompts(300, unknown=1.0))
    assert all(change.meaning == replace(old, is_partial=True) for old, change in changes(300, unknown=1.0))


def test_unsaid_attributes_are_natural():
    """A word without a colour, size, place or setting."""
    found = [
        prompt for prompt in prompts(4000, code="en", unknown=0.0) if re.fullmatch("an? (cat|house|fish)", prompt.text)
    ]
    assert found
    for prompt in found:
        kind = prompt.text.split()[1]
        assert prompt.meaning == Meaning(things=(Thing(kind, NATURAL_COLOURS[kind]),))


def test_a_change_keeps_the_rest():
    """At most one thing and the setting differ, but for those rare prompts that change two things, all or a pair."""
    different = 0
    for old, change in changes(unknown=0.0):
        new = change.meaning
        gone = [thing for thing in old.things if thing not in new.things]
        different += len(gone) > 1
        if old.sky != new.sky and old.ground == new.ground and len(old.things) == len(new.things):
            different += bool(gone)
    assert different < 0.08 * 1500


def test_a_thing_without_a_place_goes_to_the_first_free_one():
    assert Meaning().free_places == ("middle", "right", "left")
    assert Meaning(things=(replace(HOUSE, place="middle"),)).free_places == ("right", "left")
    assert Meaning(things=(HOUSE, TREE)).free_places == ("middle",)


def test_answers_are_read_back():
    for meaning in (
        Meaning("night", "snow", (TREE, HOUSE)),
        Meaning("sunset", "sea"),
        Meaning(is_partial=True),
        Meaning("rain", "street", (HOUSE,), is_partial=True),
    ):
        assert parse_answer(meaning.answer) == meaning
    assert Meaning("sunset", "sea").answer == "on the sea at sunset"
    assert Meaning(is_partial=True).answer == "on grass by day" + UNKNOWN
    assert Meaning.of(Scene("day", "grass", (TREE, HOUSE))).answer == describe(Scene("day", "grass", (HOUSE, TREE)))
    for text in ("", UNKNOWN, "a house", "on grass", "on grass by day; ? ?", "a cat, on the street at night"):
        with pytest.raises(InvalidRequestError):
            parse_answer(text)


def test_captions_of_the_teacher():
    assert Meaning("night", "snow", (HOUSE,), is_partial=True).caption == describe(Scene("night", "snow", (HOUSE,)))
    assert Meaning("day", "sand", is_partial=True).caption == "a small white, on sand by day"
    assert Meaning("night", "grass").caption == "a small black, on grass at night"


def test_align_net_learns_from_english_only():
    asked, meant = english_prompts(2000, 0)
    letters = {letter for text in asked for letter in text if letter.isalpha()}
    assert all(ord(letter) < 128 for letter in letters)
    empty = 0
    for text in meant:
        if text.startswith(("a small white, ", "a small black, ")):
            empty += 1
        else:
            parse_canonical(text)
    assert 100 < empty < 600
    assert any(text.endswith(UNKNOWN) for text in asked)


def test_own_wordings():
    rows = own_wordings()
    known = [row for row in rows if not row.answer.endswith(UNKNOWN)]
    assert len(known) >= 200
    assert len(rows) - len(known) >= 50
    assert len({(row.text, row.shown) for row in rows}) == len(rows)
    for code in CODES:
        chosen = [row for row in known if row.language == code]
        assert len(chosen) >= 20
        assert sum(row.shown is not None for row in chosen) >= 5
    for row in rows:
        parse_answer(row.answer)
        assert row.shown is None or parse_answer(row.shown).scene
    assert {row.language for row in rows if row.language not in CODES} >= {"es", "it", "ru", "ar", "ko"}
