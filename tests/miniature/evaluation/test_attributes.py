"""How much of a picture is as wanted, counted by hand."""

import pytest

from x2i_app.miniature.evaluation.attributes import Seen, Tally, attributes, compare
from x2i_app.miniature.world import Heard, Scene, Thing

HOUSE, TREE = Thing("house", "red", "left", "large"), Thing("tree", "green", "right", "small")
WANTED = Scene("night", "snow", (HOUSE, TREE))


def seen(*things: Thing, sky: str = "night", ground: str = "snow") -> Seen:
    return Seen(sky, ground, things)


def test_a_scene_has_two_attributes_three_kinds_and_two_more_a_thing():
    assert attributes(WANTED) == {
        ("sky", None): "night",
        ("ground", None): "snow",
        ("kind", "left"): "house",
        ("kind", "middle"): "nothing",
        ("kind", "right"): "tree",
        ("colour", "left"): "red",
        ("size", "left"): "large",
        ("colour", "right"): "green",
        ("size", "right"): "small",
    }


@pytest.mark.parametrize(
    ("found", "wrong"),
    [
        (seen(HOUSE, TREE), set()),
        (seen(HOUSE, TREE, sky="day"), {"sky"}),
        (seen(HOUSE, TREE, ground="sand"), {"ground"}),
        (seen(Thing("house", "brown", "left", "large"), TREE), {"colour"}),
        (seen(HOUSE, Thing("tree", "green", "right", "large")), {"size"}),
        (seen(HOUSE, Thing("flower", "green", "right", "small")), {"kind"}),
        (seen(HOUSE, TREE, Thing("cat", "red", "middle")), {"kind"}),
    ],
)
def test_one_thing_wrong_is_one_attribute_wrong(found, wrong):
    tally = compare(found, WANTED)
    assert sum(tally.total.values()) == 9
    assert {name for name, share in tally.by_attribute.items() if share < 1} == wrong
    assert tally.accuracy == pytest.approx(1 - len(wrong) / 9)


def test_a_missing_thing_has_all_of_its_attributes_wrong():
    tally = compare(seen(HOUSE), WANTED)
    assert dict(tally.right) == {"sky": 1, "ground": 1, "kind": 2, "colour": 1, "size": 1}
    assert dict(tally.total) == {"sky": 1, "ground": 1, "kind": 3, "colour": 2, "size": 2}


def test_a_thing_at_another_place_is_wrong_at_both():
    tally = compare(seen(HOUSE, Thing("tree", "green", "middle", "small")), WANTED)
    assert sum(tally.right.values()) == 9 - 4


def test_only_the_keys_asked_for_count():
    keys = {("kind", "left"), ("colour", "left")}
    assert compare(seen(TREE), WANTED, keys).accuracy == 0
    assert compare(seen(HOUSE), WANTED, keys).accuracy == 1
    assert sum(compare(seen(HOUSE), WANTED, keys).total.values()) == 2


def test_a_audio_tells_setting_and_voices_wherever_they_stand():
    heard = Heard("rain", "sea", ("boat", "cat"))
    cat, boat = Thing("cat", "pink", "left", "small"), Thing("boat", "black", "middle")

    def share(*things):
        return compare(seen(*things, sky="rain", ground="sea"), heard).accuracy

    assert share(cat, boat) == 1
    assert share(cat, boat, Thing("flower", "red", "right")) == 1, "a flower is silent"
    assert share(cat) == 3 / 4
    assert share(cat, boat, Thing("car", "red", "right")) == 4 / 5, "nobody heard a car"
    assert share() == 2 / 4


def test_tallies_add_up():
    total = sum((compare(found, WANTED) for found in (seen(HOUSE, TREE), seen(HOUSE, TREE, sky="day"))), Tally())
    assert total.total["kind"] == 6
    assert total.accuracy == 17 / 18
    assert total.by_attribute["sky"] == 1 / 2
    assert Tally().accuracy == 1
    assert Tally().by_attribute == {}
