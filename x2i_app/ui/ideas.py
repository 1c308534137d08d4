"""A prompt by chance, from what the loaded model knows."""

import random

from x2i_app.ui.i18n import Text

_TINY = "x2i-tiny"


def surprise(preset: str, language: str, chance: random.Random) -> str:
    """A prompt in a language of the page. x2i-tiny gets two of its things and a place; others, anything."""
    world = "tiny" if preset == _TINY else "any"

    def pick(part: str, count: int = 1) -> list[str]:
        return chance.sample(Text(f"dice.{world}_{part}").to(language).split("|"), count)

    (scene,) = pick("places")
    if world == "any":
        (subject,), (manner,) = pick("subjects"), pick("manners")
        return Text("dice.any").to(language, subject=subject, place=scene, manner=manner)
    (color, other), (thing, second), (time,) = pick("colors", 2), pick("things", 2), pick("times")
    return Text("dice.tiny").to(language, color=color, thing=thing, other=other, second=second, place=scene, time=time)
