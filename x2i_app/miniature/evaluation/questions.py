"""The judge of the cartoon world as a judge of questions: it reads an image's attributes and answers from them.

It understands English questions about what the world can show and leaves others open: "Is there a small red house on
the left?", "Is the house red?", "Is the scene on snow?", "Is it night?", "Are there exactly two objects?".
"""

import random
import re
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

from x2i_app.evaluation.judges import Measured, Sample
from x2i_app.evaluation.prompts import Question
from x2i_app.miniature.draw import draw_scene
from x2i_app.miniature.evaluation.attributes import Reading
from x2i_app.miniature.evaluation.judge import Judge
from x2i_app.miniature.languages.en import COLOURS, GROUNDS, KINDS, PLACES, SIZES
from x2i_app.miniature.pixels import to_tensor
from x2i_app.miniature.scene import Scene, Thing
from x2i_app.miniature.sentences import describe

SKY_QUESTIONS = {
    "day": "Is it daytime?",
    "night": "Is it night?",
    "sunset": "Is the sun setting?",
    "rain": "Is it raining?",
    "snowfall": "Is it snowing?",
}
COUNTS = ("one", "two", "three")


def _any(table: dict[str, tuple[str, ...]]) -> str:
    return "|".join(sorted((form for forms in table.values() for form in forms), key=len, reverse=True))


_SIZE, _COLOUR, _KIND, _PLACE, _GROUND = map(_any, (SIZES, COLOURS, KINDS, PLACES, GROUNDS))
_IS_THERE = re.compile(
    rf"is there (?:still )?an? (?:(?P<size>{_SIZE}) )?(?:(?P<colour>{_COLOUR}) )?"
    rf"(?P<kind>{_KIND})(?: (?P<place>{_PLACE}))?\?"
)
_IS_THE = re.compile(
    rf"is the (?P<kind>{_KIND}) (?:still )?(?:(?P<size>{_SIZE})|(?P<colour>{_COLOUR})|(?P<place>{_PLACE}))\?"
)
_IS_ON = re.compile(rf"is the scene (?:still )?(?P<ground>{_GROUND})\?")
_HOW_MANY = re.compile(rf"(?:is|are) there exactly (?P<count>{'|'.join(COUNTS)}) objects?\?")


def ask_about(scene: Scene) -> Iterator[Question]:
    """Every question whose answer about the scene is yes, the most important first."""
    for thing in scene.things:
        kind = KINDS[thing.kind][0]
        yield Question(f"Is there {'an' if kind[0] in 'aeiou' else 'a'} {kind}?")
        yield Question(f"Is the {kind} {COLOURS[thing.colour][0]}?")
        yield Question(f"Is the {kind} {PLACES[thing.place][0]}?")
    yield Question(SKY_QUESTIONS[scene.sky])
    yield Question(f"Is the scene {GROUNDS[scene.ground][0]}?")


def answer(question: str, reading: Reading | Scene) -> bool | None:
    """The answer that a reading gives; None for a question that this judge does not understand."""
    text = question.strip().lower()
    if sky := next((sky for sky, asked in SKY_QUESTIONS.items() if asked.lower() == text), None):
        return reading.sky == sky
    if found := _IS_ON.fullmatch(text):
        return reading.ground == _key(GROUNDS, found["ground"])
    if found := _HOW_MANY.fullmatch(text):
        return len(reading.things) == COUNTS.index(found["count"]) + 1
    if found := _IS_THERE.fullmatch(text) or _IS_THE.fullmatch(text):
        return any(_is_asked(thing, found) for thing in reading.things)
    return None


def _is_asked(thing: Thing, asked: re.Match) -> bool:
    tables = {"kind": KINDS, "size": SIZES, "colour": COLOURS, "place": PLACES}
    return all(
        getattr(thing, name) == _key(table, asked[name])
        for name, table in tables.items()
        if asked.groupdict().get(name) is not None
    )


def _key(table: dict[str, tuple[str, ...]], form: str) -> str:
    return next(key for key, forms in table.items() if form in forms)


class AttributeJudge:
    """Answers with certainty: 1 for yes, 0 for no, None for a question about anything that the world does not have."""

    notes = ()

    def __init__(self, judge: Judge, directory: Path):
        self.name, self.directory, self._judge = "attributes", directory, judge

    @classmethod
    def load(cls, directory: Path) -> "AttributeJudge":
        """From the folder of a trained judge. Raises CheckpointError."""
        return cls(Judge.load(directory), directory)

    def read(self, image: Image.Image) -> Reading:
        """The attributes of one image."""
        return self._judge.read(to_tensor([image.convert("RGB")]))[0]

    def judge(self, sample: Sample) -> Measured:
        reading = self.read(sample.image)
        found = (answer(question.text, reading) for question in sample.questions)
        return Measured(tuple(None if each is None else float(each) for each in found))


def known_samples(count: int = 8, size: int = 256) -> list[Sample]:
    """Renders of scenes of different things with questions, text and a source, for the self-check of any judge."""
    samples = []
    for index in range(count):
        rng = random.Random(f"self-check {index}")
        kinds = rng.sample(sorted(KINDS), 2)
        things = tuple(
            Thing(kind, rng.choice(sorted(COLOURS)), place)
            for kind, place in zip(kinds, ("left", "right"), strict=True)
        )
        scene = Scene(rng.choice(sorted(SKY_QUESTIONS)), rng.choice(sorted(GROUNDS)), things)
        source = draw_scene(scene, size, 0.5, index)
        nothing = Image.new("L", (size, size))
        image = draw_scene(scene, size, 0.0, index)
        samples.append(Sample(image, tuple(ask_about(scene)), describe(scene), source, nothing))
    return samples
