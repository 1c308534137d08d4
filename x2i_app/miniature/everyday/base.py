"""What a language brings to everyday wording: its nouns, phrases and templates.

Tables are written compactly: alternatives stand between "|". A noun is "singular/plural/gender" (the gender only where
the language has one). Templates have the fields that their comments name.
"""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Noun:
    """A noun. many: its plural. gender: m, f or n; in Chinese the measure word; else empty."""

    one: str
    many: str
    gender: str = ""


Table = Mapping[str, tuple[str, ...]]
Nouns = Mapping[str, tuple[Noun, ...]]


def choices(text: str) -> tuple[str, ...]:
    """The alternatives in "a|b|c"."""
    return tuple(part.strip() for part in text.split("|"))


def phrases(**rows: str) -> Table:
    """A table of alternatives."""
    return {key: choices(text) for key, text in rows.items()}


def noun(text: str) -> Noun:
    """A noun from "one/many/gender"; one that has no plural of its own is written once."""
    one, *rest = text.split("/")
    return Noun(one, rest[0] if rest and rest[0] else one, rest[1] if len(rest) > 1 else "")


def nouns(**rows: str) -> Nouns:
    """A table of nouns."""
    return {key: tuple(map(noun, choices(text))) for key, text in rows.items()}


@dataclass(frozen=True)
class NounPhrase:
    """What a noun phrase says. count: 1 to 3. colour, size: words of the world, or None. adjective: one that changes

    nothing, as the language's `adjectives` have it, or None. article: "a", "the" or "" for none.
    """

    noun: Noun
    count: int = 1
    colour: str | None = None
    size: str | None = None
    adjective: str | None = None
    article: str = "a"
    case: str = "acc"


@dataclass(frozen=True)
class Wording:
    """Everyday phrases of a language.

    noun_phrase: turns a NounPhrase into text. numbers: by count, 4 for any larger one. manners: what a thing does
    or where it is, which changes nothing; behind the thing, in Chinese and Japanese before it. grounds, skies:
    adverbial phrases ("on the beach"); ground_nouns, sky_nouns: nouns ("beach"). clauses: sentences about a sky.
    sky_views, ground_views: descriptions of an empty scene; over: both in one. joined: two things. requests,
    stories: around a description. before, behind: phrases without meaning. The rest: templates of changes and
    unknown things. is_spaced: whether the language has spaces. is_mixed: whether words of other languages may
    occur.

    Fields of templates: {t} things, {s} a setting, {x} an unwanted thing, {the} the thing to change, {n} the same
    without an article, {a} a new thing, {v} a new value, {p} a place, {c} an unwanted colour, {g} a ground's noun.
    """

    code: str
    kinds: Nouns
    colours: Table
    sizes: Table
    adjectives: tuple[str, ...]
    manners: tuple[str, ...]
    noun_phrase: Callable[["NounPhrase", random.Random], str]
    numbers: Mapping[int, tuple[str, ...]]
    grounds: Table
    ground_nouns: Table
    skies: Table
    sky_nouns: Table
    clauses: Table
    sky_views: Table
    ground_views: Table
    over: tuple[str, ...]
    joined: tuple[str, ...]
    conjunction: str
    places: Table
    left_of: tuple[str, ...]
    right_of: tuple[str, ...]
    between: tuple[str, ...]
    with_things: tuple[str, ...]
    requests: tuple[str, ...]
    stories: tuple[str, ...]
    negations: tuple[str, ...]
    corrections: tuple[str, ...]
    pronouns: tuple[str, ...]
    pronoun_settings: tuple[str, ...]
    before: tuple[str, ...]
    behind: tuple[str, ...]
    sky_edits: Table
    ground_edits: tuple[str, ...]
    both_edits: tuple[str, ...]
    season_edits: Table
    colour_edits: tuple[str, ...]
    colour_it: tuple[str, ...]
    size_edits: Table
    size_it: Table
    swap_edits: tuple[str, ...]
    move_edits: tuple[str, ...]
    move_it: tuple[str, ...]
    goals: Table
    add_edits: tuple[str, ...]
    add_placed: tuple[str, ...]
    remove_edits: tuple[str, ...]
    clear_edits: tuple[str, ...]
    keep_edits: tuple[str, ...]
    and_then: tuple[str, ...]
    unknown_nouns: tuple[Noun, ...]
    unknown_tails: tuple[str, ...]
    unknown_wholes: tuple[str, ...]
    unknown_colours: tuple[str, ...]
    is_spaced: bool = True
    is_mixed: bool = True
    stop: str = "."
    comma: str = ", "
