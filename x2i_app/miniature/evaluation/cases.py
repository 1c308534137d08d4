"""What the evaluation asks: for each kind of input the same fresh scenes, said, drawn, filmed, played or changed.

The kinds are those of `miniature/conversations.py`, which the MLLM trains on; here their randomness comes from seeds
that training never uses, and every third scene has a pair of kind and colour that training never shows.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from x2i_app.errors import InvalidRequestError
from x2i_app.miniature import conversations
from x2i_app.miniature.conversations import MODALITIES, Dialogue, Shown, Source, image_audio_and_words
from x2i_app.miniature.evaluation.attributes import Key, attributes
from x2i_app.miniature.world import HELD_OUT, Heard, Scene, audio, draw_scene, screenshot, sounding
from x2i_app.request import Turn
from x2i_app.specs import Modality

SCENES = 500  # what the goals are about
_HELD_OUT_EVERY = 3
_IMAGE_SIZE, _VIDEO_SIZE = 256, 128  # pixels
_VIDEO_SECONDS, _VIDEO_FPS = 4, 2
_AUDIO_SECONDS, _AUDIO_RATE = 4.0, 16_000


@dataclass(frozen=True)
class Row:
    """One kind of input. title: for people. make: its conversation, of a source of scenes and a generator.

    factor: the share of the teacher's accuracy that is the goal: for English the paper's "less than 1 %", for
    the rest our own choice. modalities: what an MLLM
    must take. is_edit: whether words or a sound change something that is shown, so that the rest must stay.
    """

    name: str
    title: str
    factor: float
    make: Callable[[Source, random.Random], Dialogue]
    modalities: tuple[Modality, ...] = ("text",)
    is_edit: bool = False


@dataclass(frozen=True)
class Case:
    """One conversation to be judged. index: its number, which also seeds the noise that its picture begins with."""

    index: int
    dialogue: Dialogue
    is_edit: bool = False

    @property
    def wanted(self) -> Scene | Heard:
        """What the picture must show; of a sound alone only what it tells."""
        last = self.dialogue[-1]
        if not last.words and all(shown.kind == "sound" for shown in last.shown):
            return sounding(last.shown[0].scene)
        return last.wanted

    @property
    def answer(self) -> str:
        """The canonical sentence that the MLLM should say."""
        return self.dialogue[-1].answer

    @property
    def shown(self) -> Scene | None:
        """The scene that is to be changed; None where nothing is."""
        if not self.is_edit:
            return None
        return self.dialogue[-2].wanted if len(self.dialogue) > 1 else self.dialogue[-1].shown[0].scene

    @property
    def unchanged(self) -> frozenset[Key]:
        """The attributes that an edit leaves as they were shown."""
        if self.shown is None:
            return frozenset()
        before = attributes(self.shown)
        return frozenset(key for key, value in attributes(self.wanted).items() if before.get(key) == value)

    @property
    def untrained(self) -> frozenset[Key]:
        """Kind and colour of every wanted thing whose pair never occurs in training."""
        if isinstance(self.wanted, Heard):
            return frozenset()
        places = [thing.place for thing in self.wanted.things if (thing.kind, thing.colour) in HELD_OUT]
        return frozenset((name, place) for name in ("kind", "colour") for place in places)

    def turns(self) -> list[Turn]:
        """The conversation as `X2IPipeline.encode` takes it: PIL pictures, films and sounds as arrays with their rates.

        Earlier turns have no answers yet: they are what the MLLM under test will say.
        """
        return [
            Turn(
                exchange.words,
                _media(exchange.shown, "image"),
                _media(exchange.shown, "video"),
                _media(exchange.shown, "audio"),
            )
            for exchange in self.dialogue
        ]


def _language(code: str, name: str) -> Row:
    factor = 0.99 if code == "en" else 0.98
    return Row(name.lower(), name, factor, partial(conversations.words, language=code))


def _mix(name: str, title: str, make: Callable[[Source, random.Random], Dialogue], *modalities: Modality) -> Row:
    return Row(name, title, 0.93, make, modalities, is_edit=True)


ROWS: dict[str, Row] = {
    row.name: row
    for row in (
        _language("en", "English"),
        _language("zh", "Chinese"),
        _language("de", "German"),
        _language("fr", "French"),
        _language("ja", "Japanese"),
        _language("vi", "Vietnamese"),
        Row("picture", "picture", 0.97, conversations.image, ("image",)),
        Row("pictures", "several pictures", 0.95, conversations.images, ("image",)),
        Row("film", "film", 0.95, conversations.video, ("video",)),
        Row("sound", "sound", 0.95, conversations.audio, ("audio",)),
        Row("screenshot", "screenshot of text", 0.95, conversations.typed, ("image",)),
        _mix("instruction", "picture + instruction", conversations.instruction, "text", "image"),
        _mix("picture+sound", "picture + sound", conversations.image_and_audio, "image", "audio"),
        _mix("film+text", "film + text", conversations.video_and_words, "text", "video"),
        _mix("picture+text+sound", "picture + text + sound", image_audio_and_words, "text", "image", "audio"),
        _mix("dialogue", "dialogue of three turns", conversations.dialogue, "text", "image"),
    )
}


def cases(row: Row, count: int = SCENES) -> list[Case]:
    """The first `count` conversations of a kind, always the same. Rows that begin with a scene share that scene."""
    return [Case(index, _dialogue(row, index), row.is_edit) for index in range(count)]


def find_rows(names: Sequence[str]) -> list[Row]:
    """Rows by name, in the order of ROWS; all for no name. Raises InvalidRequestError for a name that is none."""
    for name in names:
        if name not in ROWS:
            raise InvalidRequestError(f"There is no row called {name[:80]!r}; choose from {', '.join(ROWS)}.")
    return [row for row in ROWS.values() if not names or row.name in names]


def _dialogue(row, index):
    source = Source("test" if index % _HELD_OUT_EVERY == 0 else None)
    return row.make(source, random.Random(f"evaluation {index}"))


def _media(shown: Sequence[Shown], modality: Modality) -> tuple[Any, ...]:
    return tuple(render(medium) for medium in shown if MODALITIES[medium.kind] == modality)


def render(medium: Shown) -> Any:
    """A recipe as a medium: a PIL picture, (frames (T, H, W, 3) uint8, frames/s), or (samples (N,) float32, Hz)."""
    if medium.kind == "screenshot":
        return screenshot(medium.text, _IMAGE_SIZE, medium.seed)
    if medium.kind == "picture":
        return draw_scene(medium.scene, _IMAGE_SIZE, medium.time, medium.seed)
    if medium.kind == "sound":
        return audio(medium.scene, _AUDIO_SECONDS, _AUDIO_RATE, medium.seed), _AUDIO_RATE
    moments = [medium.time + index / _VIDEO_FPS for index in range(_VIDEO_SECONDS * _VIDEO_FPS)]
    return np.stack([np.asarray(draw_scene(medium.scene, _VIDEO_SIZE, t, medium.seed)) for t in moments]), _VIDEO_FPS
