"""The cartoon world's public face: scenes, and everything that can be made of one.

scene = parse_canonical("a large red house on the left and a small green tree on the right, on snow at night")
draw_scene(scene)                       # PIL picture
film(scene), sound(scene)               # frames, samples
describe(scene, "ja", random.Random(0)) # words
screenshot(describe(scene, "de"))       # words as a picture
random_edit(scene, random.Random(0)).apply(scene)
"""

from x2i_app.miniature.corpus import corpus
from x2i_app.miniature.draw import draw_scene
from x2i_app.miniature.edits import ACTIONS, Edit, possible_actions, random_edit
from x2i_app.miniature.film import film
from x2i_app.miniature.languages import LANGUAGES
from x2i_app.miniature.scene import (
    COLOURS,
    GROUNDS,
    HELD_OUT,
    KINDS,
    NATURAL_COLOURS,
    PLACES,
    SIZES,
    SKIES,
    Scene,
    Thing,
    random_scene,
    usual_places,
)
from x2i_app.miniature.screenshot import SCREENSHOT_LANGUAGES, screenshot
from x2i_app.miniature.sound import SILENT_KINDS, VOICED_KINDS, Heard, imagined, sound, sounding
from x2i_app.miniature.words import describe, parse_canonical, sound_sentence

__all__ = [
    "ACTIONS",
    "COLOURS",
    "GROUNDS",
    "HELD_OUT",
    "KINDS",
    "LANGUAGES",
    "NATURAL_COLOURS",
    "PLACES",
    "SCREENSHOT_LANGUAGES",
    "SILENT_KINDS",
    "SIZES",
    "SKIES",
    "VOICED_KINDS",
    "Edit",
    "Heard",
    "Scene",
    "Thing",
    "corpus",
    "describe",
    "draw_scene",
    "film",
    "imagined",
    "parse_canonical",
    "possible_actions",
    "random_edit",
    "random_scene",
    "screenshot",
    "sound",
    "sound_sentence",
    "sounding",
    "usual_places",
]
