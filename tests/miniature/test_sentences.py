"""The world in words: six languages, edits, screenshots, examples."""

import random
import re
import unicodedata
from dataclasses import replace

import pytest

from x2i_app.errors import InvalidRequestError
from x2i_app.miniature.languages import de, en, fr, ja, vi, zh
from x2i_app.miniature.world import (
    ACTIONS,
    LANGUAGES,
    NATURAL_COLOURS,
    Edit,
    Scene,
    Thing,
    audio_sentence,
    describe,
    parse_canonical,
    possible_actions,
    random_edit,
    random_scene,
)

SCENE = Scene("night", "snow", (Thing("house", "red", "left"), Thing("tree", "green", "right", "small")))
TABLES = {"en": en, "zh": zh, "de": de, "fr": fr, "ja": ja, "vi": vi}


def forms(entry):
    """Every word in a table's entry, however nested."""
    return [entry] if isinstance(entry, str) else [word for part in entry for word in forms(part)]


def nouns(table, kind):
    """The entry of a kind, in Chinese without its measure words: 一个 alone names nothing."""
    return [noun for _, noun in table.KINDS[kind]] if table is zh else table.KINDS[kind]


def mentions(text, entry):
    text = text.casefold()
    # "grün" is in "grünes"; Chinese says 小 where the table lists the long form too.
    return any(word.casefold() in text for word in forms(entry) if len(word) > 1 or word not in "mnf")


# --- sentences


def test_canonical_sentences():
    expected = {
        "en": "a large red house on the left and a small green tree on the right, on snow at night",
        "zh": "夜晚的雪地上，左边有一座红色的大房子，右边有一棵绿色的小树",
        "de": "ein großes rotes Haus links und ein kleiner grüner Baum rechts, auf Schnee bei Nacht",
        "fr": "une grande maison rouge à gauche et un petit arbre vert à droite, sur la neige, de nuit",
        "ja": "夜の雪の上、左に大きな赤い家、右に小さな緑の木",
        "vi": "một ngôi nhà lớn màu đỏ ở bên trái và một cái cây nhỏ màu xanh lá ở bên phải, trên tuyết, vào ban đêm",
    }
    assert {code: describe(SCENE, code) for code in LANGUAGES} == expected


def test_parse_canonical_undoes_describe():
    rng = random.Random(0)
    for _ in range(3000):
        scene = random_scene(rng)
        assert parse_canonical(describe(scene)) == scene


@pytest.mark.parametrize(
    "sentence",
    [
        "",
        "a red house",
        "a large red house on the left",
        "a large red house on the left, on snow at night.",
        "a large orange cat on the right and a large red house on the left, on snow at night",
        "a large red house on the left and a large red car on the left, on snow at night",
        "A large red house on the left, on snow at night",
        "a large red dog on the left, on snow at night",
    ],
)
def test_other_sentences_are_not_canonical(sentence):
    with pytest.raises(InvalidRequestError):
        parse_canonical(sentence)


@pytest.mark.parametrize("code", LANGUAGES)
def test_varied_sentences_say_all_that_does_not_go_without_saying(code):
    rng = random.Random(1)
    table = TABLES[code]
    for _ in range(600):
        scene = random_scene(rng)
        text = describe(scene, code, rng)
        for thing in scene.things:
            assert mentions(text, nouns(table, thing.kind)), (text, thing)
            if thing.colour != NATURAL_COLOURS[thing.kind]:
                assert mentions(text, table.COLOURS[thing.colour]), (text, thing)
            if thing.size != "large":
                assert mentions(text, table.SIZES[thing.size]), (text, thing)
        for place in ("left", "right"):
            if scene.things[0].place == place and len(scene.things) == 1:
                assert mentions(text, table.PLACES[place]), text


@pytest.mark.parametrize("code", LANGUAGES)
def test_wording_varies_and_leaves_no_rubbish(code):
    rng = random.Random(2)
    texts = [describe(SCENE, code, rng) for _ in range(300)]
    assert len(set(texts)) > 100
    texts += [describe(random_scene(rng), code, rng) for _ in range(1000)]
    for _ in range(1000):
        scene = random_scene(rng)
        texts.append(random_edit(scene, rng).instruction(code, rng))
    for text in texts:
        assert text == unicodedata.normalize("NFC", text).strip()
        assert not re.search(r"[{}\[\]()_]|None|  | ,|,,|、、|，，|的的|のの|,$|:$|：$|。。|\.\.", text), text
        if code in ("zh", "ja"):
            assert not re.search(r"[A-Za-z .,]", text), text
        assert len(text) < 260


def test_german_agrees():
    genders = dict(entry for nouns in de.KINDS.values() for entry in nouns)
    endings = {
        "m": {"ein": "er", "einen": "en", "einem": "en", "der": "e", "den": "en", "dem": "en"},
        "n": {"ein": "es", "einem": "en", "das": "e", "dem": "en"},
        "f": {"eine": "e", "einer": "en", "die": "e", "der": "en"},
    }
    phrase = re.compile(r"\b(eine?[nmr]?|de[rnm]|das|die)((?: [a-zäöüß]+)*) ([A-ZÄÖÜ]\w+)", re.UNICODE)
    rng = random.Random(3)
    found = set()
    for _ in range(2000):
        scene = random_scene(rng)
        for text in (describe(scene, "de", rng), random_edit(scene, rng).instruction("de", rng)):
            for article, adjectives, noun in phrase.findall(text[0].lower() + text[1:]):
                if noun not in genders:
                    continue
                assert article in endings[genders[noun]], text
                found.add((article, genders[noun]))
                for adjective in adjectives.split():
                    fixed = adjective in ("orange", "lila", "rosa")
                    assert fixed or adjective.endswith(endings[genders[noun]][article]), text
    assert len(found) > 10
    assert Edit("colour", "blue", Thing("cat", "red")).instruction("de") == "färbe die Katze blau"
    assert Edit("swap", "fish", Thing("cat", "red")).instruction("de") == "ersetze die Katze durch einen Fisch"


def test_french_agrees_and_elides():
    rng = random.Random(4)
    texts = [describe(random_scene(rng), "fr", rng) for _ in range(1000)]
    for _ in range(1000):
        scene = random_scene(rng)
        texts.append(random_edit(scene, rng).instruction("fr", rng))
    wrong = re.compile(
        r"\b(un (grande|petite|grosse)|une (grand|petit|gros)\b|l[ea] [aeéiou]|de une?|"
        r"(maison|voiture|fleur|étoile|balle|fusée|montgolfière) (vert|bleu|violet|blanc|noir|brun)\b|"
        r"(chat|arbre|bateau|poisson|parapluie) (verte|bleue|violette|blanche|noire|brune)\b)"
    )
    assert not [text for text in texts if wrong.search(text.lower())]


def test_unknown_languages_are_refused():
    with pytest.raises(InvalidRequestError, match="language is 'tlh'; it must be one of en, zh, de, fr, ja, vi"):
        describe(SCENE, "tlh")


def test_audio_sentences_tell_only_what_is_heard():
    street = Scene(
        "night", "street", (Thing("cat", "red"), Thing("car", "red", "left"), Thing("flower", "red", "right"))
    )
    assert audio_sentence(street) == "a car and a cat, on the street at night"
    assert audio_sentence(Scene("rain", "sea", (Thing("flower", "red"),))) == "on the sea in the rain"


# --- edits


def test_edits_change_what_they_say_and_nothing_else():
    rng = random.Random(5)
    found = set()
    for _ in range(3000):
        scene = random_scene(rng)
        edit = random_edit(scene, rng)
        edited = edit.apply(scene)
        found.add(edit.action)
        assert edited != scene
        if edit.action in ("sky", "ground"):
            assert edited == replace(scene, **{edit.action: edit.value})
            continue
        assert (edited.sky, edited.ground) == (scene.sky, scene.ground)
        before, now = set(scene.things), set(edited.things)
        if edit.action == "add":
            assert now - before == {edit.addition}
            assert before <= now
        elif edit.action == "remove":
            assert before - now == {edit.target}
            assert now <= before
        else:
            field = {"colour": "colour", "size": "size", "swap": "kind", "move": "place"}[edit.action]
            assert before - now == {edit.target}
            assert now - before == {replace(edit.target, **{field: edit.value})}
    assert found == set(ACTIONS)


def test_edits_in_training_bring_no_held_out_pair():
    rng = random.Random(6)
    for _ in range(3000):
        scene = random_scene(rng, split="train")
        assert not random_edit(scene, rng, split="train").apply(scene).held_out


def test_instructions_tell_twins_apart():
    cats = Scene("day", "grass", (Thing("cat", "red", "left"), Thing("cat", "blue", "right")))
    rng = random.Random(7)
    for _ in range(50):
        edit = random_edit(cats, rng, actions=("remove",))
        text = edit.instruction("en")
        assert edit.target.colour in text or edit.target.place in text
    same = Scene("day", "grass", (Thing("cat", "red", "left"), Thing("cat", "red", "right")))
    assert "on the" in random_edit(same, rng, actions=("remove",)).instruction("en")


def test_instructions_in_six_languages():
    edit = Edit("add", addition=Thing("tree", "green", "left", "small"))
    assert {code: edit.instruction(code) for code in LANGUAGES} == {
        "en": "add a small green tree on the left",
        "zh": "在左边加一棵绿色的小树",
        "de": "füge links einen kleinen grünen Baum hinzu",
        "fr": "ajoute un petit arbre vert à gauche",
        "ja": "左に小さな緑の木を加えて",
        "vi": "thêm một cái cây nhỏ màu xanh lá ở bên trái",
    }


def test_what_cannot_be_edited_is_refused():
    single = Scene("day", "grass", (Thing("cat", "red"),))
    full = Scene("day", "grass", tuple(Thing("cat", "red", place) for place in ("left", "middle", "right")))
    assert "remove" not in possible_actions(single)
    assert {"move", "add"}.isdisjoint(possible_actions(full))
    with pytest.raises(InvalidRequestError, match="this scene allows"):
        random_edit(single, random.Random(0), actions=("remove",))
    with pytest.raises(InvalidRequestError, match="the scene has only"):
        Edit("remove", target=Thing("car", "red")).apply(single)
    with pytest.raises(InvalidRequestError, match="two things cannot have the same place"):
        Edit("add", addition=Thing("car", "red")).apply(single)
    for wrong in ({"action": "explode"}, {"action": "sky", "value": "fog"}, {"action": "remove"}, {"action": "add"}):
        with pytest.raises(InvalidRequestError):
            Edit(**wrong)


# --- screenshots and texts
