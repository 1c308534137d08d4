"""The attributes of a scene, and how many of them an image shows correctly."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from x2i_app.evaluation.wilson import interval
from x2i_app.miniature.world import PLACES, VOICED_KINDS, Heard, Scene, Thing

ATTRIBUTES = ("sky", "ground", "kind", "colour", "size")
NOTHING = "nothing"  # the kind at a free place

# One attribute: its name, and its place, which is None for the sky and the ground.
Key = tuple[str, str | None]


@dataclass(frozen=True)
class Reading:
    """What the judge reads from an image. Unlike a Scene it may have no things; they are kept from left to right."""

    sky: str
    ground: str
    things: tuple[Thing, ...] = ()


@dataclass(frozen=True)
class Tally:
    """For each kind of attribute, how many were right and how many there were."""

    right: Mapping[str, int] = field(default_factory=dict)
    total: Mapping[str, int] = field(default_factory=dict)

    def __add__(self, other: "Tally") -> "Tally":
        return Tally(*(_sum(getattr(self, name), getattr(other, name)) for name in ("right", "total")))

    @property
    def counts(self) -> tuple[int, int]:
        """The number of right attributes and the number of attributes, all kinds together."""
        return sum(self.right.values()), sum(self.total.values())

    @property
    def accuracy(self) -> float:
        """Share of all attributes that were right, 0 to 1; 1 without attributes."""
        right, total = self.counts
        return right / total if total else 1.0

    @property
    def by_attribute(self) -> dict[str, float]:
        """The same for each kind of attribute that occurred, in the order of ATTRIBUTES."""
        return {name: self.right[name] / self.total[name] for name in ATTRIBUTES if self.total.get(name)}


def tally_interval(tallies: Sequence[Tally]) -> tuple[float, float] | None:
    """The 95 % interval of the accuracy of all tallies, of one image each; None without attributes."""
    return interval([tally.counts for tally in tallies])


def attributes(scene: Scene | Reading) -> dict[Key, str]:
    """Sky, ground, the kind at every place ("nothing" at a free one), and colour and size of every thing."""
    found: dict[Key, str] = {("sky", None): scene.sky, ("ground", None): scene.ground}
    found |= {("kind", place): NOTHING for place in PLACES}
    for thing in scene.things:
        found |= {(name, thing.place): getattr(thing, name) for name in ("kind", "colour", "size")}
    return found


def compare(reading: Reading, wanted: Scene | Heard, keys: Collection[Key] | None = None) -> Tally:
    """How many of the wanted attributes an image shows.

    If a wanted thing is missing, all of its attributes are wrong. A thing at a place that should be free is one wrong
    kind. keys: count only these attributes of a wanted scene.

    For a wanted audio (Heard) only what can be heard counts: sky, ground, and the kinds with a voice, at any place. A
    kind with a voice that is drawn but was not heard is one wrong kind; silent kinds do not count.
    """
    if isinstance(wanted, Heard):
        return _compare_heard(reading, wanted)
    found, expected = attributes(reading), attributes(wanted)
    return _count((key[0], found.get(key) == value) for key, value in expected.items() if keys is None or key in keys)


def _compare_heard(reading, heard):
    drawn = {thing.kind for thing in reading.things if thing.kind in VOICED_KINDS}
    checks = [("sky", reading.sky == heard.sky), ("ground", reading.ground == heard.ground)]
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
