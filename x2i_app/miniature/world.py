"""The public interface of the cartoon world: scenes, and everything that can be made from one.

scene = parse_canonical("a large red house on the left and a small green tree on the right, on snow at night")
draw_scene(scene)                       # PIL image
video(scene), audio(scene)              # frames, samples
describe(scene, "ja", random.Random(0)) # text
screenshot(describe(scene, "de"))       # an image of text
random_edit(scene, random.Random(0)).apply(scene)
"""

from x2i_app.miniature.audio import SILENT_KINDS, VOICED_KINDS, Heard, audio, imagined, sounding
from x2i_app.miniature.corpus import corpus
from x2i_app.miniature.draw import draw_scene
from x2i_app.miniature.edits import ACTIONS, Edit, possible_actions, random_edit
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
from x2i_app.miniature.sentences import audio_sentence, describe, parse_canonical
from x2i_app.miniature.video import video

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
    "audio",
    "audio_sentence",
    "corpus",
    "describe",
    "draw_scene",
    "imagined",
    "parse_canonical",
    "possible_actions",
    "random_edit",
    "random_scene",
    "screenshot",
    "sounding",
    "usual_places",
    "video",
]
