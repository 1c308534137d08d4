"""Attributes of an image that are as wanted, counted by hand."""

import pytest

from x2i_app.miniature.evaluation.attributes import Reading, Tally, attributes, compare
from x2i_app.miniature.world import Heard, Scene, Thing

HOUSE, TREE = Thing("house", "red", "left", "large"), Thing("tree", "green", "right", "small")
WANTED = Scene("night", "snow", (HOUSE, TREE))


def read(*things: Thing, sky: str = "night", ground: str = "snow") -> Reading:
    return Reading(sky, ground, things)


def test_attributes_of_a_scene():
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
        (read(HOUSE, TREE), set()),
        (read(HOUSE, TREE, sky="day"), {"sky"}),
        (read(HOUSE, TREE, ground="sand"), {"ground"}),
        (read(Thing("house", "brown", "left", "large"), TREE), {"colour"}),
        (read(HOUSE, Thing("tree", "green", "right", "large")), {"size"}),
        (read(HOUSE, Thing("flower", "green", "right", "small")), {"kind"}),
        (read(HOUSE, TREE, Thing("cat", "red", "middle")), {"kind"}),
    ],
)
def test_one_wrong_attribute(found, wrong):
    tally = compare(found, WANTED)
    assert sum(tally.total.values()) == 9
    assert {name for name, share in tally.by_attribute.items() if share < 1} == wrong
    assert tally.accuracy == pytest.approx(1 - len(wrong) / 9)


def test_a_missing_thing():
    tally = compare(read(HOUSE), WANTED)
    assert dict(tally.right) == {"sky": 1, "ground": 1, "kind": 2, "colour": 1, "size": 1}
    assert dict(tally.total) == {"sky": 1, "ground": 1, "kind": 3, "colour": 2, "size": 2}


def test_a_thing_at_the_wrong_place():
    tally = compare(read(HOUSE, Thing("tree", "green", "middle", "small")), WANTED)
    assert sum(tally.right.values()) == 9 - 4


def test_only_some_keys():
    keys = {("kind", "left"), ("colour", "left")}
    assert compare(read(TREE), WANTED, keys).accuracy == 0
    assert compare(read(HOUSE), WANTED, keys).accuracy == 1
    assert sum(compare(read(HOUSE), WANTED, keys).total.values()) == 2


def test_a_wanted_audio():
    """Sky, ground and kinds with a voice count, at any place; silent kinds do not."""
    heard = Heard("rain", "sea", ("boat", "cat"))
    cat, boat = Thing("cat", "pink", "left", "small"), Thing("boat", "black", "middle")

    def share(*things):
        return compare(read(*things, sky="rain", ground="sea"), heard).accuracy

    assert share(cat, boat) == 1
    assert share(cat, boat, Thing("flower", "red", "right")) == 1, "a flower is silent"
    assert share(cat) == 3 / 4
    assert share(cat, boat, Thing("car", "red", "right")) == 4 / 5, "no car was heard"
    assert share() == 2 / 4


def test_adding_tallies():
    total = sum((compare(found, WANTED) for found in (read(HOUSE, TREE), read(HOUSE, TREE, sky="day"))), Tally())
    assert total.total["kind"] == 6
    assert total.accuracy == 17 / 18
    assert total.by_attribute["sky"] == 1 / 2
    assert Tally().accuracy == 1
    assert Tally().by_attribute == {}
