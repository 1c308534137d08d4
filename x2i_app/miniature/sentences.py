"""A scene in words, and the canonical English sentence back into a scene.

Varied wording may leave unsaid what follows from the world's convention, as people do: large things, natural colours
("a tree" is green), grass, day, and the places of things that stand in the usual order from left to right.
"""

import random

from x2i_app.errors import InvalidRequestError
from x2i_app.miniature.audio import sounding
from x2i_app.miniature.languages import LANGUAGES, Language, Pick, Said, SaidThing
from x2i_app.miniature.languages.base import finish
from x2i_app.miniature.languages.en import ENGLISH, read
from x2i_app.miniature.scene import (
    NATURAL_COLOURS,
    NATURAL_GROUND,
    NATURAL_SIZE,
    NATURAL_SKY,
    Scene,
    Thing,
    usual_places,
    validate_word,
)

UNSAID = 0.35  # how often varied wording leaves out what goes without saying


def describe(scene: Scene, language: str = "en", rng: random.Random | None = None) -> str:
    """The scene as a sentence of a language: en, zh, de, fr, ja or vi.

    rng: picks the wording; None gives the canonical wording, which says every attribute.
    Raises InvalidRequestError for another language.
    """
    pick = Pick(rng)
    speaker = language_of(language)
    return finish(speaker.describe(_said(scene, pick), pick), speaker, pick)


def parse_canonical(sentence: str) -> Scene:
    """The scene of which `describe(scene, "en")` is this sentence; InvalidRequestError for any other sentence."""
    said = read(sentence)
    if said is not None:
        scene = Scene(said.sky, said.ground, tuple(Thing(t.kind, t.colour, t.place, t.size) for t in said.things))
        # Things out of order, or "a orange": read, but not how the world says it.
        if describe(scene) == sentence:
            return scene
    raise InvalidRequestError(
        f"{sentence[:200]!r} is no canonical sentence of the world; one looks like "
        "'a large red house on the left and a small green tree on the right, on snow at night'."
    )


def audio_sentence(scene: Scene) -> str:
    """Canonical English of only what the scene's sound tells: 'a car and a cat, on the street at night'.

    Without a voiced kind it is the setting alone: 'on the street at night'.
    """
    heard = sounding(scene)
    said = Said(tuple(SaidThing(kind) for kind in heard.kinds), heard.ground, heard.sky)
    return ENGLISH.describe(said, Pick())


def language_of(code: str) -> Language:
    """The language of an ISO code, or InvalidRequestError."""
    return LANGUAGES[validate_word("language", code, tuple(LANGUAGES))]


def _said(scene, pick):
    unplaced = tuple(t.place for t in scene.things) == usual_places(len(scene.things)) and pick.chance(UNSAID)

    def unless(usual, value):
        return None if value == usual and pick.chance(UNSAID) else value

    things = tuple(
        SaidThing(
            thing.kind,
            unless(NATURAL_COLOURS[thing.kind], thing.colour),
            None if unplaced else thing.place,
            unless(NATURAL_SIZE, thing.size),
        )
        for thing in scene.things
    )
    return Said(things, unless(NATURAL_GROUND, scene.ground), unless(NATURAL_SKY, scene.sky))
