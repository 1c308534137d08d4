"""The conversations with the miniature's MLLM and its right answers, for training and evaluation.

An answer is the canonical English sentence of the wanted scene; for its other forms see `meaning.py`. What a mix means
is a convention: an instruction changes what is shown or heard; of several images the first gives the setting and all
give their things, from left to right; audio with an image gives the setting of the image's things; audio without
anything else gives its voiced things as `audio.imagined` says, or only a setting if nothing has a voice.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass, replace

from x2i_app.errors import InvalidRequestError
from x2i_app.miniature.audio import SILENT_KINDS, imagined, sounding
from x2i_app.miniature.edits import random_edit
from x2i_app.miniature.everyday import everyday_change, everyday_prompt
from x2i_app.miniature.meaning import Meaning
from x2i_app.miniature.scene import (
    Scene,
    Split,
    random_scene,
    usual_places,
)
from x2i_app.miniature.screenshot import SCREENSHOT_LANGUAGES, typeset
from x2i_app.miniature.sentences import LANGUAGES, audio_sentence, describe
from x2i_app.specs import Modality

CODES = tuple(LANGUAGES)

# What each kind of medium is to an MLLM.
MODALITIES: dict[str, Modality] = {
    "image": "image",
    "screenshot": "image",
    "foreign image": "image",
    "video": "video",
    "audio": "audio",
    "foreign audio": "audio",
}


@dataclass(frozen=True)
class Shown:
    """A medium as a recipe. kind: a key of MODALITIES. seed, time: as `draw_scene` takes them.

    scene: what it shows; None for a screenshot, which shows `text`, and for what shows nothing of the world.
    device: a key of the evaluation's DEVICES: how it is delivered; empty as it is made.
    """

    kind: str
    scene: Scene | None = None
    seed: int = 0
    time: float = 0.0
    text: str = ""
    device: str = ""


@dataclass(frozen=True)
class Exchange:
    """One turn of the user, and the right answer.

    wanted: the scene to draw; None if the answer is a setting without things.
    """

    text: str
    shown: tuple[Shown, ...]
    answer: str
    wanted: Scene | None


Dialogue = tuple[Exchange, ...]


@dataclass(frozen=True)
class Source:
    """Where conversations take their scenes from.

    split: as in `random_scene`. audios: recipes of audio that exists already, first those in which something has a
    voice, then those of a setting only; None makes new ones.
    """

    split: Split | None = "train"
    audios: tuple[tuple[Shown, ...], tuple[Shown, ...]] | None = None

    def scene(self, rng: random.Random, things: int | None = None) -> Scene:
        return random_scene(rng, split=self.split, things=things)

    def image(self, rng: random.Random, scene: Scene) -> Shown:
        return Shown("image", scene, rng.randrange(1 << 30), rng.uniform(0, 4))

    def audio(self, rng: random.Random, *, voiced: bool) -> Shown:
        if self.audios:
            return rng.choice(self.audios[0 if voiced else 1])
        return random_audio(rng, self.split, voiced=voiced)


def random_audio(rng: random.Random, split: Split | None, *, voiced: bool) -> Shown:
    """The recipe of new audio: with at least one voice, or of a setting only."""
    while True:
        scene = random_scene(rng, split=split, **({} if voiced else {"kinds": SILENT_KINDS}))
        if bool(sounding(scene).kinds) == voiced:
            return Shown("audio", scene, rng.randrange(1 << 30))


def description(source: Source, rng: random.Random, language: str | None = None) -> Dialogue:
    """A description in one of the six languages."""
    scene = source.scene(rng)
    text = describe(scene, language or rng.choice(CODES), rng)
    return (_exchange(text, (), scene),)


def description_and_change(source: Source, rng: random.Random) -> Dialogue:
    """A description and, in the same prompt, what to change in it; both in one language."""
    scene, language = source.scene(rng), rng.choice(CODES)
    edit = random_edit(scene, rng, split=source.split)
    text = f"{describe(scene, language, rng)} {edit.instruction(language, rng)}"
    return (_exchange(text, (), edit.apply(scene)),)


def talk(source: Source, rng: random.Random) -> Dialogue:
    """Three turns of text: a description, then two changes, each of the previous result."""
    return _changed_twice(source, rng, description(source, rng))


def image(source: Source, rng: random.Random) -> Dialogue:
    """A drawing without text."""
    scene = source.scene(rng)
    return (_exchange("", (source.image(rng, scene),), scene),)


def images(source: Source, rng: random.Random) -> Dialogue:
    """Two drawings to combine, with two or three things in total."""
    scenes = [source.scene(rng, things=count) for count in rng.choice(((1, 1), (1, 2), (2, 1)))]
    things = [thing for scene in scenes for thing in scene.things]
    places = usual_places(len(things))
    together = tuple(replace(thing, place=place) for thing, place in zip(things, places, strict=True))
    wanted = Scene(scenes[0].sky, scenes[0].ground, together)
    return (_exchange("", tuple(source.image(rng, scene) for scene in scenes), wanted),)


def video(source: Source, rng: random.Random) -> Dialogue:
    """A video without text."""
    scene = source.scene(rng)
    return (_exchange("", (_video(rng, scene),), scene),)


def audio(source: Source, rng: random.Random, voiced: bool | None = None) -> Dialogue:
    """Audio without text."""
    heard = source.audio(rng, voiced=rng.random() < 0.8 if voiced is None else voiced)
    return (_exchange("", (heard,), imagined(sounding(heard.scene)), heard.scene),)


def typed(source: Source, rng: random.Random) -> Dialogue:
    """A screenshot of a description in a language that the screenshot's font has."""
    while True:
        scene = source.scene(rng)
        shown = Shown("screenshot", None, rng.randrange(1 << 30), 0.0, describe(scene, _latin(rng), rng))
        try:
            typeset(shown.text, shown.seed)
        except InvalidRequestError:
            continue  # longer than such a screenshot can hold
        return (_exchange("", (shown,), scene),)


def instruction(source: Source, rng: random.Random) -> Dialogue:
    """A drawing and what to change in it."""
    scene = source.scene(rng)
    return (_edited(source, rng, scene, (source.image(rng, scene),)),)


def video_and_text(source: Source, rng: random.Random) -> Dialogue:
    """A video and what to change in it."""
    scene = source.scene(rng)
    return (_edited(source, rng, scene, (_video(rng, scene),)),)


def audio_and_text(source: Source, rng: random.Random) -> Dialogue:
    """Audio in which something has a voice, and what to change in its imagined scene."""
    heard = source.audio(rng, voiced=True)
    return (_edited(source, rng, imagined(sounding(heard.scene)), (heard,)),)


def image_and_audio(source: Source, rng: random.Random) -> Dialogue:
    """A drawing, and audio of another place."""
    scene, heard = source.scene(rng), source.audio(rng, voiced=False)
    return (_exchange("", (source.image(rng, scene), heard), _moved(scene, heard)),)


def image_audio_and_text(source: Source, rng: random.Random) -> Dialogue:
    """A drawing, audio of another place, and what to change."""
    scene, heard = source.scene(rng), source.audio(rng, voiced=False)
    return (_edited(source, rng, _moved(scene, heard), (source.image(rng, scene), heard)),)


def dialogue(source: Source, rng: random.Random) -> Dialogue:
    """Three turns: a description or a drawing, then two changes, each of the previous result."""
    return _changed_twice(source, rng, rng.choice((description, description, image))(source, rng))


def everyday(source: Source, rng: random.Random) -> Dialogue:
    """A description in everyday wording."""
    prompt = everyday_prompt(rng)
    return (_meant(prompt.text, (), prompt.meaning),)


def everyday_talk(source: Source, rng: random.Random) -> Dialogue:
    """Two or three turns of text: a description, then changes in everyday wording."""
    if rng.random() < 0.5:
        prompt = everyday_prompt(rng, unknown=0.06)
        first, meaning = _meant(prompt.text, (), prompt.meaning), prompt.meaning
    else:
        (first,) = description(source, rng)
        meaning = Meaning.of(first.wanted)
    return _changed((first,), meaning, rng, 1 if rng.random() < 0.9 else 2)


def everyday_instruction(source: Source, rng: random.Random) -> Dialogue:
    """A drawing and what to change in it, in everyday wording."""
    scene = source.scene(rng)
    return _changed((), Meaning.of(scene), rng, 1, (source.image(rng, scene),))


def everyday_dialogue(source: Source, rng: random.Random) -> Dialogue:
    """A drawing, then one or two changes in everyday wording, each of the previous result."""
    dialogue = image(source, rng)
    return _changed(dialogue, Meaning.of(dialogue[-1].wanted), rng, rng.choice((1, 2)))


def everyday_video(source: Source, rng: random.Random) -> Dialogue:
    """A video and what to change in it, in everyday wording."""
    scene = source.scene(rng)
    return _changed((), Meaning.of(scene), rng, 1, (_video(rng, scene),))


def everyday_audio(source: Source, rng: random.Random) -> Dialogue:
    """Audio in which something has a voice, and what to change in its imagined scene, in everyday wording."""
    heard = source.audio(rng, voiced=True)
    return _changed((), Meaning.of(imagined(sounding(heard.scene))), rng, 1, (heard,))


def foreign(source: Source, rng: random.Random) -> Dialogue:
    """An image or audio that shows nothing of the world."""
    shown = Shown(rng.choice(("foreign image", "foreign image", "foreign audio")), seed=rng.randrange(1 << 30))
    return (_meant("", (shown,), Meaning(is_partial=True)),)


Kinds = dict[Callable[..., Dialogue], float]  # with how often each is trained

# What needs no medium is short, and comes in every step.
TOLD: Kinds = {description: 1.0, description_and_change: 2.5, talk: 2.5}

# What is learnt first of all the rest: to see and to hear. The rest is done with these.
BASICS: Kinds = {image: 4.0, audio: 1.0, video: 1.0}

# In the end; what is harder, or asked for more, more often. Screenshots have batches of their own.
SHOWN: Kinds = {
    image: 2.0,
    images: 3.5,
    video: 1.0,
    audio: 1.5,
    instruction: 6.0,
    video_and_text: 4.0,
    audio_and_text: 1.0,
    image_and_audio: 1.0,
    image_audio_and_text: 3.5,
    dialogue: 5.0,
}


# The stage of everyday wording. The earlier kinds stay in it, so that the MLLM does not forget them.
EVERYDAY_TOLD: Kinds = {everyday: 7.0, everyday_talk: 3.0, description: 0.6, description_and_change: 0.2, talk: 0.15}
EVERYDAY_SHOWN: Kinds = {
    everyday_instruction: 6.0,
    everyday_dialogue: 3.0,
    everyday_video: 1.5,
    everyday_audio: 1.0,
    foreign: 1.5,
    **{kind: weight / 2 for kind, weight in SHOWN.items()},
    image: 4.0,
    video: 2.0,
    audio: 2.0,
}


def draw(kinds: Kinds, rng: random.Random) -> Callable[..., Dialogue]:
    """A kind, each as often as it says."""
    return rng.choices(list(kinds), list(kinds.values()))[0]


def _latin(rng):
    return rng.choice(SCREENSHOT_LANGUAGES)


def _video(rng, scene):
    return Shown("video", scene, rng.randrange(1 << 30), rng.uniform(0, 4))


def _moved(scene, heard):
    return replace(scene, sky=heard.scene.sky, ground=heard.scene.ground)


def _changed_twice(source, rng, dialogue):
    for _ in range(2):
        dialogue = (*dialogue, _edited(source, rng, dialogue[-1].wanted, ()))
    return dialogue


def _edited(source, rng, scene, shown):
    edit = random_edit(scene, rng, split=source.split)
    return _exchange(edit.instruction(rng.choice(CODES), rng), shown, edit.apply(scene))


def _changed(dialogue, meaning, rng, times, shown=()):
    for _ in range(times):
        prompt = everyday_change(meaning, rng)
        dialogue = (*dialogue, _meant(prompt.text, shown, prompt.meaning))
        meaning, shown = prompt.meaning, ()
    return dialogue


def _meant(text, shown, meaning):
    return Exchange(text, shown, meaning.answer, meaning.scene)


def _exchange(text, shown, wanted, heard=None):
    answer = describe(wanted) if wanted else audio_sentence(heard)
    return Exchange(text, shown, answer, wanted)
