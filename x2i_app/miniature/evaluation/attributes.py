"""What can be seen in a picture, and how much of it is as it was wanted."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from x2i_app.miniature.world import PLACES, VOICED_KINDS, Heard, Scene, Thing

ATTRIBUTES = ("sky", "ground", "kind", "colour", "size")
NOTHING = "nothing"  # the kind that a free place has

# An attribute of a picture by its name and where it is: a place, or None for the sky and the ground.
Key = tuple[str, str | None]


@dataclass(frozen=True)
class Seen:
    """What a picture shows. Unlike a Scene it may have no thing at all; things are kept from left to right."""

    sky: str
    ground: str
    things: tuple[Thing, ...] = ()


@dataclass(frozen=True)
class Tally:
    """How many attributes of each kind were right, of how many."""

    right: Mapping[str, int] = field(default_factory=dict)
    total: Mapping[str, int] = field(default_factory=dict)

    def __add__(self, other: "Tally") -> "Tally":
        return Tally(*(_sum(getattr(self, name), getattr(other, name)) for name in ("right", "total")))

    @property
    def accuracy(self) -> float:
        """Share of all attributes that were right, 0 to 1; 1 where there were none."""
        count = sum(self.total.values())
        return sum(self.right.values()) / count if count else 1.0

    @property
    def by_attribute(self) -> dict[str, float]:
        """The same for each kind of attribute that occurred, in the order of ATTRIBUTES."""
        return {name: self.right[name] / self.total[name] for name in ATTRIBUTES if self.total.get(name)}


def attributes(scene: Scene | Seen) -> dict[Key, str]:
    """Sky, ground, the kind at every place ("nothing" where it is free), and colour and size of every thing."""
    found: dict[Key, str] = {("sky", None): scene.sky, ("ground", None): scene.ground}
    found |= {("kind", place): NOTHING for place in PLACES}
    for thing in scene.things:
        found |= {(name, thing.place): getattr(thing, name) for name in ("kind", "colour", "size")}
    return found


def compare(seen: Seen, wanted: Scene | Heard, keys: Collection[Key] | None = None) -> Tally:
    """The attributes of a picture that are as wanted.

    A wanted thing that is missing has all of its attributes wrong; a thing where nothing was wanted is one wrong kind.
    keys: count only these attributes of a wanted scene.
    wanted: of a sound only what it tells counts, its sky, its ground, and its voiced kinds, wherever they stand. A
    voiced kind that is drawn but was not heard is one wrong kind; silent kinds a sound neither tells nor denies.
    """
    if isinstance(wanted, Heard):
        return _compare_heard(seen, wanted)
    have, want = attributes(seen), attributes(wanted)
    return _count((key[0], have.get(key) == value) for key, value in want.items() if keys is None or key in keys)


def _compare_heard(seen, heard):
    drawn = {thing.kind for thing in seen.things if thing.kind in VOICED_KINDS}
    checks = [("sky", seen.sky == heard.sky), ("ground", seen.ground == heard.ground)]
    checks += [("kind", kind in drawn and kind in heard.kinds) for kind in drawn | set(heard.kinds)]
    return _count(checks)


def _count(checks: Iterable[tuple[str, bool]]) -> Tally:
    right, total = dict.fromkeys(ATTRIBUTES, 0), dict.fromkeys(ATTRIBUTES, 0)
    for name, is_right in checks:
        total[name] += 1
        right[name] += is_right
    return Tally(right, total)


def _sum(one, other):
    return {name: one.get(name, 0) + other.get(name, 0) for name in one | other}
