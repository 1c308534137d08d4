"""Audio of a scene: the ambience of its sky and its ground, and the things that have a voice.

Every sky and every ground has its own ambience. Nine kinds have a voice: house (door bell), tree (woodpecker), car,
boat, cat, fish (bubbles), star (glitter), ball and rocket. Balloon, flower and umbrella are silent. Audio does not
contain colours, sizes or places.
"""

from dataclasses import dataclass

import numpy as np

from x2i_app.errors import InvalidRequestError
from x2i_app.miniature.scene import KINDS, NATURAL_COLOURS, Scene, Thing, usual_places
from x2i_app.miniature.voices import AMBIENCES, VOICES, add

VOICED_KINDS = tuple(kind for kind in KINDS if kind in VOICES)
SILENT_KINDS = tuple(kind for kind in KINDS if kind not in VOICES)

_SKY_RMS = 0.05
_GROUND_RMS = 0.055
_VOICE_PEAK = 0.42


@dataclass(frozen=True)
class Heard:
    """What audio tells about a scene: sky, ground, and the kinds with a voice, each once, in the order of KINDS."""

    sky: str
    ground: str
    kinds: tuple[str, ...]


def sounding(scene: Scene) -> Heard:
    """The attributes that can be heard in `audio(scene)`."""
    present = {thing.kind for thing in scene.things}
    return Heard(scene.sky, scene.ground, tuple(kind for kind in VOICED_KINDS if kind in present))


def imagined(heard: Heard) -> Scene | None:
    """The scene to draw for audio: large things in natural colours at the usual places; None without a voice."""
    if not heard.kinds:
        return None
    places = usual_places(len(heard.kinds))
    things = tuple(Thing(k, NATURAL_COLOURS[k], place) for k, place in zip(heard.kinds, places, strict=True))
    return Scene(heard.sky, heard.ground, things)


def audio(scene: Scene, seconds: float = 4.0, rate: int = 16000, seed: int = 0) -> np.ndarray:
    """Audio of the scene, mono float32 (round(seconds x rate),) within [-1, 1].

    seconds: 0.5 to 60. rate: samples/s, 16,000 to 48,000. seed: varies pitch and timing, never the attributes. The
    voices take turns, so that each is heard at least once; their order is independent of the places.
    Raises InvalidRequestError for a duration or a rate out of range.
    """
    if not 0.5 <= seconds <= 60:
        raise InvalidRequestError(f"seconds is {seconds:g}; it must be 0.5 to 60.")
    if not 16000 <= rate <= 48000:
        raise InvalidRequestError(f"rate is {rate}; it must be 16000 to 48000 samples/s.")
    rng = np.random.default_rng(seed)
    count = round(seconds * rate)
    mix = np.zeros(count)
    for name, loudness in ((scene.sky, _SKY_RMS), (scene.ground, _GROUND_RMS)):
        ambience = AMBIENCES[name](rng, count, rate)
        mix += loudness * ambience / (np.sqrt(np.mean(ambience**2)) + 1e-9)
    speakers = [thing.kind for thing in scene.things if thing.kind in VOICES]
    if speakers:
        rng.shuffle(speakers)
        _add_voices(mix, speakers, seconds, rate, rng)
    return np.tanh(1.2 * mix).astype(np.float32)


def _add_voices(mix, speakers, seconds, rate, rng):
    # About one turn a second; if there is only one voice, every other turn is only ambience.
    turns = max(len(speakers), round(seconds))
    for turn in range(turns):
        if len(speakers) == 1 and turn % 2 == 1:
            continue
        clip = VOICES[speakers[turn % len(speakers)]](rng, rate)
        clip = clip * (_VOICE_PEAK / np.abs(clip).max())
        start = (turn + rng.uniform(0, 0.15)) * seconds / turns
        add(mix, clip, round(start * rate))
