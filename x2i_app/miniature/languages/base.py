"""What every language of the cartoon world can say, and how it picks its wording.

A language is two functions: `describe(said, pick)` for a scene and `instruct(change, pick)` for an edit. Both return
text without a final full stop, in lower case where the language has one; `finish` does the rest.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class SaidThing:
    """What a sentence says of a thing; None is left unsaid."""

    kind: str
    colour: str | None = None
    place: str | None = None
    size: str | None = None


@dataclass(frozen=True)
class Said:
    """What a sentence says of a scene; None is left unsaid. The things have all a place or none has."""

    things: tuple[SaidThing, ...]
    ground: str | None
    sky: str | None

    @property
    def placed(self) -> bool:
        """Whether it says where the things are."""
        return bool(self.things) and all(thing.place for thing in self.things)


@dataclass(frozen=True)
class Change:
    """What an instruction says. action is one of edits.ACTIONS; target: the thing meant, with what tells it apart.

    value: the new sky, ground, colour, size, kind or place; addition: the new thing.
    """

    action: str
    target: SaidThing | None = None
    value: str | None = None
    addition: SaidThing | None = None


class Pick:
    """Chooses among wordings: at random, or always the first, which is the canonical one."""

    def __init__(self, rng: random.Random | None = None):
        self.rng = rng

    def __call__(self, *options: T) -> T:
        return options[0] if self.rng is None else self.rng.choice(options)

    def of(self, options: Sequence[T]) -> T:
        """One of a sequence."""
        return self(*options)

    def chance(self, probability: float) -> bool:
        """True that often; never for the canonical wording."""
        return self.rng is not None and self.rng.random() < probability


@dataclass(frozen=True)
class Language:
    """A language: its ISO code, its two functions, and how its sentences end."""

    code: str
    describe: Callable[[Said, Pick], str]
    instruct: Callable[[Change, Pick], str]
    full_stop: str = "."


def join(*parts: str | None) -> str:
    """The parts that are not empty, with spaces between them."""
    return " ".join(part for part in parts if part)


def enumerate_with(items: Sequence[str], conjunction: str) -> str:
    """'a, b and c' with the conjunction of a language."""
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} {conjunction} {items[-1]}"


def finish(text: str, language: Language, pick: Pick) -> str:
    """The text as a user may type it: with or without a capital letter and a full stop."""
    if pick.chance(0.6):
        text = text[0].upper() + text[1:]
        if pick.chance(0.6):
            text += language.full_stop
    return text
