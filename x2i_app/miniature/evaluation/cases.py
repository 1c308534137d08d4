"""The inputs of the evaluation: for each kind of input, conversations about the same fresh scenes.

The kinds of input are those of `miniature/conversations.py`, on which the MLLM is trained. Here the seeds are ones that
training never uses, and every third scene has a pair of kind and colour that training never shows.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from x2i_app.errors import InvalidRequestError
from x2i_app.miniature import conversations
from x2i_app.miniature.conversations import MODALITIES, Dialogue, Exchange, Shown, Source, image_audio_and_text
from x2i_app.miniature.devices import brightened, cropped, louder, padded, with_noise
from x2i_app.miniature.evaluation.attributes import Key, attributes
from x2i_app.miniature.everyday.own_wordings import OwnWording, first_prompts, own_wordings
from x2i_app.miniature.foreign_media import foreign_audio, foreign_image
from x2i_app.miniature.meaning import UNKNOWN, parse_answer
from x2i_app.miniature.world import HELD_OUT, Heard, Scene, audio, draw_scene, screenshot, sounding
from x2i_app.request import Turn
from x2i_app.specs import Modality

SCENES = 500  # the goals hold for this many
_HELD_OUT_EVERY = 3
_IMAGE_SIZE, _VIDEO_SIZE = 256, 128  # pixels
_VIDEO_SECONDS, _VIDEO_FPS = 4, 2
_AUDIO_SECONDS, _AUDIO_RATE = 4.0, 16_000

# Ways in which devices deliver a medium: a change of an image, or of samples.
DEVICES: dict[str, Callable[[Any], Any]] = {
    "letterboxed": padded(3 / 4, (0, 0, 0)),
    "pillarboxed": padded(16 / 9, (0, 0, 0)),
    "cropped": cropped(0.08, 0.08, 0.08, 0.08),
    "darker": brightened(0.75),
    "quiet": partial(louder, decibels=-12),
    "noisy": partial(with_noise, decibels=-26, slope=0.0, seed=3),
    "late": lambda samples: np.pad(samples, (_AUDIO_RATE, 0)),  # a second of silence before
}


@dataclass(frozen=True)
class Row:
    """One kind of input.

    title: its name in tables. make: makes a conversation from a source of scenes and a random generator.
    factor: the goal, as a share of the teacher's accuracy: for English the paper's "less than 1 %" loss, for other
    inputs this project's choice. modalities: what the MLLM must accept. is_edit: whether the input changes a scene that
    it shows, so that the rest of that scene must stay. fixed: conversations to use in turn instead of made ones.
    """

    name: str
    title: str
    factor: float
    make: Callable[[Source, random.Random], Dialogue]
    modalities: tuple[Modality, ...] = ("text",)
    is_edit: bool = False
    fixed: tuple[Dialogue, ...] = ()


@dataclass(frozen=True)
class Case:
    """One conversation to judge. index: its number, which also gives the seed of its image."""

    index: int
    dialogue: Dialogue
    is_edit: bool = False

    @property
    def wanted(self) -> Scene | Heard:
        """What the image must show; for an input that is only audio, what can be heard."""
        last = self.dialogue[-1]
        if not last.text and all(shown.kind == "audio" for shown in last.shown):
            return sounding(last.shown[0].scene)
        if last.wanted is None:
            setting = parse_answer(last.answer)
            return Heard(setting.sky, setting.ground, ())
        return last.wanted

    @property
    def answer(self) -> str:
        """The canonical sentence that the MLLM should answer."""
        return self.dialogue[-1].answer

    @property
    def shown(self) -> Scene | None:
        """The scene that an edit changes; None if the case is no edit."""
        if not self.is_edit:
            return None
        return self.dialogue[-2].wanted if len(self.dialogue) > 1 else self.dialogue[-1].shown[0].scene

    @property
    def unchanged(self) -> frozenset[Key]:
        """The attributes that an edit does not change."""
        if self.shown is None:
            return frozenset()
        original = attributes(self.shown)
        return frozenset(key for key, value in attributes(self.wanted).items() if original.get(key) == value)

    @property
    def untrained(self) -> frozenset[Key]:
        """Kind and colour of every wanted thing whose pair of the two never occurs in training."""
        if isinstance(self.wanted, Heard):
            return frozenset()
        places = [thing.place for thing in self.wanted.things if (thing.kind, thing.colour) in HELD_OUT]
        return frozenset((name, place) for name in ("kind", "colour") for place in places)

    def turns(self) -> list[Turn]:
        """The conversation as `X2IPipeline.encode` takes it: PIL images, and videos and audios as arrays with rates.

        Earlier turns have no answers yet: the MLLM under test will give them.
        """
        return [
            Turn(
                exchange.text,
                _media(exchange.shown, "image"),
                _media(exchange.shown, "video"),
                _media(exchange.shown, "audio"),
            )
            for exchange in self.dialogue
        ]


def _language(code: str, name: str) -> Row:
    factor = 0.99 if code == "en" else 0.98
    return Row(name.lower(), name, factor, partial(conversations.description, language=code))


def _own_wording(wording: OwnWording) -> Dialogue:
    """A prompt that was written by hand; one that changes something comes with a drawing of it."""
    shown = ()
    if wording.shown:
        shown = (Shown("image", parse_answer(wording.shown).scene, seed=7, time=1.0),)
    return (Exchange(wording.text, shown, wording.answer, parse_answer(wording.answer).scene),)


def _own(name: str, title: str, wordings: Sequence[OwnWording], *, is_unknown: bool) -> Row:
    chosen = [wording for wording in wordings if wording.answer.endswith(UNKNOWN) == is_unknown]
    random.Random(0).shuffle(chosen)  # the first few are of all languages, prompts and changes
    dialogues = tuple(map(_own_wording, chosen))
    return Row(name, title, 0.9, conversations.description, ("text", "image"), fixed=dialogues)


def _device(medium: str, device: str, make: Callable[[Source, random.Random], Dialogue]) -> Row:
    """Nearly as good as the medium as it is made."""

    def delivered(source: Source, rng: random.Random) -> Dialogue:
        (exchange,) = make(source, rng)
        return (replace(exchange, shown=tuple(replace(each, device=device) for each in exchange.shown)),)

    return Row(f"{medium}-{device}", f"{medium}, {device}", 0.92, delivered, (medium,))


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
        Row("image", "image", 0.97, conversations.image, ("image",)),
        Row("images", "several images", 0.95, conversations.images, ("image",)),
        Row("video", "video", 0.95, conversations.video, ("video",)),
        Row("audio", "audio", 0.95, conversations.audio, ("audio",)),
        Row("screenshot", "screenshot of text", 0.95, conversations.typed, ("image",)),
        _mix("instruction", "image + instruction", conversations.instruction, "text", "image"),
        _mix("image+audio", "image + audio", conversations.image_and_audio, "image", "audio"),
        _mix("video+text", "video + text", conversations.video_and_text, "text", "video"),
        _mix("image+text+audio", "image + text + audio", image_audio_and_text, "text", "image", "audio"),
        _mix("dialogue", "dialogue of three turns", conversations.dialogue, "text", "image"),
        _own("own", "own wordings", own_wordings(), is_unknown=False),
        _own("first", "first words", first_prompts(), is_unknown=False),
        _own("unknown", "unknown things", (*own_wordings(), *first_prompts()), is_unknown=True),
        *(_device("image", name, conversations.image) for name in ("letterboxed", "cropped", "darker")),
        *(_device("video", name, conversations.video) for name in ("pillarboxed", "cropped", "darker")),
        *(_device("audio", name, conversations.audio) for name in ("quiet", "noisy", "late")),
    )
}
_FORMER_NAMES = {
    "picture": "image",
    "pictures": "images",
    "film": "video",
    "sound": "audio",
    "picture+sound": "image+audio",
    "film+text": "video+text",
    "picture+text+sound": "image+text+audio",
}


def cases(row: Row, count: int = SCENES) -> list[Case]:
    """The first `count` conversations of a row, always the same. Case i of every row begins with the same scene."""
    return [Case(index, _dialogue(row, index), row.is_edit) for index in range(count)]


def find_rows(names: Sequence[str]) -> list[Row]:
    """Rows by name, in the order of ROWS; all rows for no names. Raises InvalidRequestError for an unknown name."""
    names = [_FORMER_NAMES.get(name, name) for name in names]
    for name in names:
        if name not in ROWS:
            raise InvalidRequestError(f"There is no row called {name[:80]!r}; choose from {', '.join(ROWS)}.")
    return [row for row in ROWS.values() if not names or row.name in names]


def _dialogue(row, index):
    if row.fixed:
        return row.fixed[index % len(row.fixed)]
    source = Source("test" if index % _HELD_OUT_EVERY == 0 else None)
    return row.make(source, random.Random(f"evaluation {index}"))


def _media(shown: Sequence[Shown], modality: Modality) -> tuple[Any, ...]:
    return tuple(render(medium) for medium in shown if MODALITIES[medium.kind] == modality)


def render(medium: Shown) -> Any:
    """The medium of a recipe: a PIL image, (frames (T, H, W, 3) uint8, frames/s) or (samples (N,) float32, Hz)."""
    deliver = DEVICES[medium.device] if medium.device else lambda each: each
    if medium.kind == "screenshot":
        return screenshot(medium.text, _IMAGE_SIZE, medium.seed)
    if medium.kind == "foreign image":
        return foreign_image(_IMAGE_SIZE, medium.seed)
    if medium.kind == "foreign audio":
        return foreign_audio(_AUDIO_SECONDS, _AUDIO_RATE, medium.seed), _AUDIO_RATE
    if medium.kind == "image":
        return deliver(draw_scene(medium.scene, _IMAGE_SIZE, medium.time, medium.seed))
    if medium.kind == "audio":
        samples = audio(medium.scene, _AUDIO_SECONDS, _AUDIO_RATE, medium.seed)
        return deliver(samples).astype(np.float32), _AUDIO_RATE
    moments = [medium.time + index / _VIDEO_FPS for index in range(_VIDEO_SECONDS * _VIDEO_FPS)]
    frames = (draw_scene(medium.scene, _VIDEO_SIZE, moment, medium.seed) for moment in moments)
    return np.stack([np.asarray(deliver(frame)) for frame in frames]), _VIDEO_FPS
