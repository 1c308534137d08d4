"""A cartoon scene: a frozen value of a sky, a ground and one to three things.

Everything else of the miniature world (images, videos, audios, sentences, edits) is a function of a scene.
What a sentence does not say follows one convention, the same in every language: see `NATURAL_COLOURS` and
`usual_places`.
"""

import itertools
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from x2i_app.errors import InvalidRequestError

SKIES = ("day", "night", "sunset", "rain", "snowfall")
GROUNDS = ("grass", "snow", "sand", "sea", "street")
KINDS = (
    "house",
    "tree",
    "car",
    "boat",
    "balloon",
    "flower",
    "cat",
    "fish",
    "star",
    "ball",
    "rocket",
    "umbrella",
)
COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "white", "black")
PLACES = ("left", "middle", "right")
SIZES = ("small", "large")

Split = Literal["train", "test"]

# "a tree" is a green tree: the colour of a thing if a sentence does not say it.
NATURAL_COLOURS = {
    "house": "red",
    "tree": "green",
    "car": "blue",
    "boat": "brown",
    "balloon": "purple",
    "flower": "pink",
    "cat": "orange",
    "fish": "blue",
    "star": "yellow",
    "ball": "red",
    "rocket": "white",
    "umbrella": "yellow",
}
NATURAL_SIZE = "large"
NATURAL_SKY = "day"
NATURAL_GROUND = "grass"

# Ten of the 120 pairs, one of each colour and no two of the same kind: every kind and every colour is still trained.
HELD_OUT = frozenset(
    {
        ("fish", "red"),
        ("house", "orange"),
        ("boat", "yellow"),
        ("car", "green"),
        ("flower", "blue"),
        ("cat", "purple"),
        ("tree", "pink"),
        ("balloon", "brown"),
        ("star", "white"),
        ("ball", "black"),
    }
)


@dataclass(frozen=True)
class Thing:
    """One object of a scene. Raises InvalidRequestError for an unknown kind, colour, place or size."""

    kind: str
    colour: str
    place: str = "middle"
    size: str = NATURAL_SIZE

    def __post_init__(self):
        validate_word("kind", self.kind, KINDS)
        validate_word("colour", self.colour, COLOURS)
        validate_word("place", self.place, PLACES)
        validate_word("size", self.size, SIZES)

    @property
    def held_out(self) -> bool:
        """Whether this kind never has this colour in the training split."""
        return (self.kind, self.colour) in HELD_OUT


@dataclass(frozen=True)
class Scene:
    """A sky, a ground, and one to three things, each at a place of its own; things are sorted from left to right.

    Raises InvalidRequestError with the given value and the allowed ones.
    """

    sky: str
    ground: str
    things: tuple[Thing, ...]

    def __post_init__(self):
        validate_word("sky", self.sky, SKIES)
        validate_word("ground", self.ground, GROUNDS)
        things = tuple(self.things)
        if any(not isinstance(thing, Thing) for thing in things):
            raise InvalidRequestError(f"things are {things!r}; each must be a Thing.")
        if not 1 <= len(things) <= len(PLACES):
            raise InvalidRequestError(f"The scene has {len(things)} things; it must have 1 to {len(PLACES)}.")
        places = [thing.place for thing in things]
        if len(set(places)) < len(places):
            raise InvalidRequestError(f"The places are {', '.join(places)}; two things cannot have the same place.")
        # Sorted, so that equal scenes compare equal, have one hash and have one canonical sentence.
        object.__setattr__(self, "things", tuple(sorted(things, key=lambda thing: PLACES.index(thing.place))))

    @property
    def held_out(self) -> bool:
        """Whether a pair of kind and colour in it never occurs in the training split."""
        return any(thing.held_out for thing in self.things)

    @property
    def free_places(self) -> tuple[str, ...]:
        """The places without a thing, from left to right."""
        taken = {thing.place for thing in self.things}
        return tuple(place for place in PLACES if place not in taken)


def validate_word(name: str, word: str, allowed: Sequence[str]) -> str:
    """`word` if it is one of `allowed`, or InvalidRequestError."""
    if word not in allowed:
        raise InvalidRequestError(f"{name} is {word!r}; it must be one of {', '.join(allowed)}.")
    return word


def usual_places(count: int) -> tuple[str, ...]:
    """The places of `count` things (1 to 3), in the order in which they are named, if a sentence gives no places."""
    return {1: ("middle",), 2: ("left", "right"), 3: PLACES}[count]


def random_scene(
    rng: random.Random,
    *,
    split: Split | None = None,
    things: int | None = None,
    kinds: Sequence[str] = KINDS,
) -> Scene:
    """A random scene: number of things, places, sky, ground, and each thing's kind, colour and size are uniform.

    split: with "train" no thing has a pair of HELD_OUT, with "test" at least one has, with None any pair may occur.
    things: number of things, 1 to 3; None: random. kinds: choose only from these.
    """
    if split not in (None, "train", "test"):
        raise InvalidRequestError(f"split is {split!r}; it must be 'train', 'test' or None.")
    count = things or rng.randint(1, len(PLACES))
    places = sorted(rng.sample(PLACES, count), key=PLACES.index)
    untrained = rng.randrange(count) if split == "test" else None
    drawn = []
    for index, place in enumerate(places):
        pairs = _pairs(tuple(kinds), "held_out" if index == untrained else split)
        kind, colour = rng.choice(pairs)
        drawn.append(Thing(kind, colour, place, rng.choice(SIZES)))
    return Scene(rng.choice(SKIES), rng.choice(GROUNDS), tuple(drawn))


def _pairs(kinds, which):
    pairs = list(itertools.product(kinds, COLOURS))
    if which == "held_out":
        pairs = [pair for pair in pairs if pair in HELD_OUT]
    elif which == "train":
        pairs = [pair for pair in pairs if pair not in HELD_OUT]
    if not pairs:
        raise InvalidRequestError(f"No pair of HELD_OUT is a {' or '.join(kinds)}; split 'test' needs one.")
    return pairs
