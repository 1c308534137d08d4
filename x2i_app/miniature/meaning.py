"""What a conversation means to x2i-tiny, and the answer in which its MLLM says so.

There are three forms of answer, from the most exact to the most general: the canonical sentence of a scene; that of a
setting alone, "on the sea at sunset", where nothing stands in it; and either of the two followed by UNKNOWN, where the
conversation asks for something that the world does not have, or that cannot be done. The known part is drawn anyway.
"""

import re
from dataclasses import dataclass, replace

from x2i_app.errors import InvalidRequestError
from x2i_app.miniature.languages import Pick, Said
from x2i_app.miniature.languages.en import ENGLISH, GROUNDS, SKIES
from x2i_app.miniature.scene import NATURAL_GROUND, NATURAL_SKY, PLACES, Scene, Thing
from x2i_app.miniature.sentences import describe, parse_canonical
from x2i_app.specs import UNKNOWN_MARK

UNKNOWN = UNKNOWN_MARK


@dataclass(frozen=True)
class Meaning:
    """A sky, a ground and none to three things, each at a place of its own; things are kept from left to right.

    is_partial: whether more was asked for than this.
    """

    sky: str = NATURAL_SKY
    ground: str = NATURAL_GROUND
    things: tuple[Thing, ...] = ()
    is_partial: bool = False

    def __post_init__(self):
        object.__setattr__(self, "things", tuple(sorted(self.things, key=lambda thing: PLACES.index(thing.place))))

    @classmethod
    def of(cls, scene: Scene) -> "Meaning":
        """That of a whole scene."""
        return cls(scene.sky, scene.ground, scene.things)

    @property
    def scene(self) -> Scene | None:
        """The scene to draw; None where nothing stands in it."""
        return Scene(self.sky, self.ground, self.things) if self.things else None

    @property
    def known(self) -> "Meaning":
        """The same without what is not known."""
        return replace(self, is_partial=False)

    @property
    def answer(self) -> str:
        """The MLLM's answer."""
        sentence = describe(self.scene) if self.things else ENGLISH.describe(Said((), self.ground, self.sky), Pick())
        return sentence + UNKNOWN * self.is_partial

    @property
    def caption(self) -> str:
        """What T5 and CLIP read to draw it: the sentence of the scene.

        They have never read of an empty scene, and a setting alone makes them draw blots. A thing without a kind, as
        pale or dark as what surrounds it, makes them draw nothing.
        """
        if self.things:
            return describe(self.scene)
        colour = "black" if self.sky == "night" and self.ground in ("grass", "sand", "street") else "white"
        return f"a small {colour}, {self.known.answer}"

    @property
    def held_out(self) -> bool:
        """Whether a pair of kind and colour in it never occurs in the training split."""
        return any(thing.held_out for thing in self.things)

    @property
    def free_places(self) -> tuple[str, ...]:
        """Where a further thing goes, the first of them where nobody says where: the middle of an empty scene, else

        on the right, on the left, in the middle.
        """
        order = ("right", "left", "middle") if self.things else ("middle", "right", "left")
        taken = {thing.place for thing in self.things}
        return tuple(place for place in order if place not in taken)


_SETTING = re.compile(rf"({'|'.join(w[0] for w in GROUNDS.values())}) ({'|'.join(w[0] for w in SKIES.values())})")


def parse_answer(answer: str) -> Meaning:
    """The meaning of which `Meaning.answer` is this text; InvalidRequestError for any other text."""
    known = answer.removesuffix(UNKNOWN)
    if setting := _SETTING.fullmatch(known):
        ground, sky = ({forms[0]: key for key, forms in table.items()} for table in (GROUNDS, SKIES))
        meaning = Meaning(sky[setting[2]], ground[setting[1]])
    else:
        try:
            meaning = Meaning.of(parse_canonical(known))
        except InvalidRequestError as error:
            raise InvalidRequestError(f"{answer[:200]!r} is no answer of x2i-tiny's MLLM.") from error
    return replace(meaning, is_partial=known != answer)
