"""Descriptions in everyday wording.

What nobody says is as in `sentences.py`: large things in their natural colours, grass, day; one thing in the middle,
two on the left and right, in the order in which they are named. A plural without a number is two things, "many" are
three, and of more than three things the first three are drawn and the answer says that something is missing.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

from x2i_app.miniature.everyday.base import Noun, NounPhrase, Wording
from x2i_app.miniature.everyday.de import GERMAN
from x2i_app.miniature.everyday.en import ENGLISH
from x2i_app.miniature.everyday.fr import FRENCH
from x2i_app.miniature.everyday.ja import JAPANESE
from x2i_app.miniature.everyday.noise import noisy
from x2i_app.miniature.everyday.own_wordings import is_own_wording
from x2i_app.miniature.everyday.strangers import strange_word
from x2i_app.miniature.everyday.unknown import foreign_text, nonsense_word
from x2i_app.miniature.everyday.vi import VIETNAMESE
from x2i_app.miniature.everyday.zh import CHINESE
from x2i_app.miniature.meaning import Meaning
from x2i_app.miniature.scene import (
    COLOURS,
    GROUNDS,
    HELD_OUT,
    KINDS,
    NATURAL_COLOURS,
    NATURAL_GROUND,
    NATURAL_SIZE,
    NATURAL_SKY,
    PLACES,
    SIZES,
    SKIES,
    Thing,
    usual_places,
)

WORDINGS: dict[str, Wording] = {w.code: w for w in (ENGLISH, CHINESE, GERMAN, FRENCH, JAPANESE, VIETNAMESE)}
CODES = tuple(WORDINGS)
_SHARES = {"en": 2.2, "zh": 1.1, "de": 1.2, "fr": 1.1, "ja": 1.1, "vi": 1.1}
EMOJI = {
    "house": "🏠🏡🏘️🛖",
    "tree": "🌳🌲🎄🌴",
    "car": "🚗🚙🚘🏎️",
    "boat": "⛵🚢🛥️🚤",
    "balloon": "🎈🎈",
    "flower": "🌸🌼🌷🌹🌺🌻💐",
    "cat": "🐱🐈🐈‍⬛😺",
    "fish": "🐟🐠🐡",
    "star": "⭐🌟⭐",
    "ball": "⚽🏀🏐🎾",
    "rocket": "🚀🚀",
    "umbrella": "☂️⛱️🌂",
}
_SKY_EMOJI = {
    "day": ("☀️", "🌞", "🌤️"),
    "night": ("🌙", "🌃", "🌌", "🌚"),
    "sunset": ("🌅", "🌇", "🌆"),
    "rain": ("🌧️", "☔", "⛈️"),
    "snowfall": ("🌨️", "❄️"),
}
_GROUND_EMOJI = {
    "grass": ("🌿", "🌱"),
    "snow": ("⛄", "☃️"),
    "sand": ("🏖️", "🏝️", "🏜️"),
    "sea": ("🌊", "🌊"),
    "street": ("🛣️", "🏙️"),
}
_UNKNOWN_EMOJI = (
    "🐶",
    "🐉",
    "🚲",
    "👵",
    "🍕",
    "🎸",
    "🦄",
    "👨",
    "🚂",
    "✈️",
    "🍎",
    "🐻",
    "🤖",
    "👑",
    "💀",
    "🎂",
    "🦋",
    "🐘",
)


@dataclass(frozen=True)
class Prompt:
    """What somebody types, in the language `code`, and what it means."""

    text: str
    meaning: Meaning
    code: str


@dataclass(frozen=True)
class Group:
    """One or more things that are named together. kind: None for something that the world does not have."""

    kind: str | None
    count: int = 1
    colour: str | None = None
    size: str | None = None

    def things(self) -> list[tuple[str, str, str]]:
        """Kind, colour and size of each."""
        if self.kind is None:
            return []
        thing = (self.kind, self.colour or NATURAL_COLOURS[self.kind], self.size or NATURAL_SIZE)
        return [thing] * self.count


def everyday_prompt(
    rng: random.Random, code: str | None = None, unknown: float = 0.22, *, is_mixed: bool = True
) -> Prompt:
    """A description in everyday wording. code: its language; None draws one. is_mixed: whether words of other languages

    may occur, those of none of the six among them. unknown: share of those that ask for

    something that the world does not have. No meaning has a pair of HELD_OUT, and no text is one of `own_wordings`.
    """
    while True:
        code_ = code or rng.choices(list(_SHARES), list(_SHARES.values()))[0]
        wording = replace(WORDINGS[code_], is_mixed=is_mixed)
        text, meaning = (_unknown if rng.random() < unknown else _known)(wording, rng)
        text = noisy(text, code_, rng)
        if text and not meaning.held_out and not is_own_wording(text):
            return Prompt(text, meaning, code_)


def random_group(rng: random.Random, *, plain: float = 0.45, most: int = 3) -> Group:
    """Things of a kind, often without a word on colour and size."""
    kind = rng.choice(KINDS)
    colour = None if rng.random() < plain else rng.choice([c for c in COLOURS if (kind, c) not in HELD_OUT])
    size = rng.choice(SIZES) if rng.random() < 0.22 else None
    count = rng.choice((1, 1, 1, 1, 2, 3)) if most > 2 else rng.choice((1, 1, 1, 2)) if most > 1 else 1
    return Group(kind, min(count, most), colour, size)


def name(
    group: Group, wording: Wording, rng: random.Random, article: str = "a", case: str = "acc", noun: Noun | None = None
) -> str:
    """A noun phrase for a group; at times in another language."""
    if noun is None and wording.is_mixed and rng.random() < 0.02:
        wording = rng.choice(list(WORDINGS.values()))
    if noun is None:
        noun = rng.choice(wording.kinds[group.kind] if group.kind else wording.unknown_nouns)
        if group.kind is None and rng.random() < 0.3:
            noun = _made_up(noun, wording, rng)
        if group.kind and rng.random() < 0.01:
            noun = replace(noun, one=_emoji(EMOJI[group.kind], rng))
    adjective = rng.choice(wording.adjectives) if rng.random() < 0.12 else None
    if article == "a" and rng.random() < 0.12 and group.count == 1:
        article = ""
    text = wording.noun_phrase(NounPhrase(noun, group.count, group.colour, group.size, adjective, article, case), rng)
    if group.kind and rng.random() < 0.08:
        manner = rng.choice(wording.manners)
        text = f"{text} {manner}" if wording.is_spaced else manner + text
    if group.count == 2 and article == "a" and rng.random() < 0.3 and wording.is_spaced and wording.code != "vi":
        text = text.split(" ", 1)[1]  # a plural without a number
    return text


def _made_up(noun, wording, rng):
    if rng.random() < 0.25:
        word = nonsense_word(rng)
    else:
        examples = [word for each in wording.unknown_nouns for word in each.one.split()]
        taken = {each.one.lower() for kind in wording.kinds.values() for each in kind}
        while (word := strange_word(examples, wording.code, rng)).lower() in taken or _has_sign(word, taken):
            pass
    return replace(noun, one=word, many=word + "s" * wording.is_spaced)


def _has_sign(word, taken):
    """Whether a word without blanks contains one that is known."""
    return any(len(each) < 3 and not each.isascii() and each in word for each in taken)


def setting(sky: str | None, ground: str | None, wording: Wording, rng: random.Random) -> str:
    """Adverbial phrases of what is said of sky and ground; empty where nothing is."""
    sky_ = rng.choice(wording.skies[sky]) if sky else ""
    ground_ = rng.choice(wording.grounds[ground]) if ground else ""
    if wording.code == "zh":
        if sky_ and ground_:
            return rng.choice((f"{sky_}的{ground_}", f"{sky_}，{ground_}", f"{sky_}{ground_}", f"{ground_}，{sky_}"))
        return sky_ or ground_
    if wording.code == "ja":
        if sky_ and ground_:
            return rng.choice((f"{sky_}の{ground_}", f"{sky_}、{ground_}", f"{ground_}、{sky_}", f"{sky_} {ground_}"))
        return sky_ or ground_
    parts = [part for part in (sky_, ground_) if part]
    rng.shuffle(parts)
    return (
        rng.choice((" ", " ", ", ", " and ", " ")).join(parts)
        if wording.code == "en"
        else rng.choice((" ", " ", ", ")).join(parts)
    )


def view(sky: str | None, ground: str | None, wording: Wording, rng: random.Random) -> str:
    """A noun phrase for a setting in which nothing stands; at least one of sky and ground is given."""
    if sky and ground:
        if rng.random() < 0.35:
            return join(rng.choice(wording.ground_views[ground]), rng.choice(wording.skies[sky]), wording)
        if rng.random() < 0.3:
            return join(rng.choice(wording.sky_views[sky]), rng.choice(wording.grounds[ground]), wording)
        return rng.choice(wording.over).format(
            sky=rng.choice(wording.sky_nouns[sky]), ground=rng.choice(wording.ground_nouns[ground])
        )
    if sky:
        return rng.choice(wording.sky_views[sky] if rng.random() < 0.8 else wording.sky_nouns[sky])
    return rng.choice(wording.ground_views[ground] if rng.random() < 0.8 else wording.ground_nouns[ground])


def join(first: str, second: str, wording: Wording) -> str:
    """Two pieces behind one another."""
    if wording.is_spaced:
        return f"{first} {second}".strip()
    return f"{second}{'の' if wording.code == 'ja' else '的'}{first}" if second else first


def random_setting(rng: random.Random, said: float = 0.5) -> tuple[str | None, str | None]:
    """What is said of sky and ground, each or neither."""
    sky = rng.choice(SKIES) if rng.random() < said else None
    ground = rng.choice(GROUNDS) if rng.random() < said else None
    return sky, ground


def meaning_of(
    groups: Sequence[Group],
    sky: str | None,
    ground: str | None,
    places: Sequence[str] | None = None,
    partial: bool = False,
) -> Meaning:
    """The meaning of things that are named in this order. places: of each thing; None for the usual ones."""
    things = [thing for group in groups for thing in group.things()]
    partial = partial or len(things) > len(PLACES) or any(group.kind is None for group in groups)
    things = things[: len(PLACES)]
    places = places or (usual_places(len(things)) if things else ())
    stood = tuple(Thing(kind, colour, place, size) for (kind, colour, size), place in zip(things, places, strict=True))
    return Meaning(sky or NATURAL_SKY, ground or NATURAL_GROUND, stood, partial)


def enumerate_names(names: Sequence[str], wording: Wording, rng: random.Random) -> str:
    """Several things in a row."""
    if len(names) == 1:
        return names[0]
    if len(names) == 2:
        return rng.choice(wording.joined).format(a=names[0], b=names[1])
    comma = rng.choice((wording.comma, wording.comma, wording.conjunction))
    return comma.join(names[:-1]) + rng.choice((wording.conjunction, wording.conjunction, wording.comma)) + names[-1]


def random_groups(rng: random.Random) -> list[Group]:
    """One to three kinds of things, three things in all."""
    number = rng.choices((1, 2, 3), (8, 3, 0.5))[0]
    groups, left = [], len(PLACES)
    for index in range(number):
        groups.append(random_group(rng, most=left - (number - index - 1)))
        left -= groups[-1].count
    return groups


def _known(wording, rng):
    return rng.choices(_FORMS, _FORM_WEIGHTS)[0](wording, rng)


def _composed(things, said, wording, rng):
    """Things and an adverbial setting in some order."""
    if not said:
        return things
    if wording.code == "zh":
        return rng.choice(
            (
                f"{said}的{things}",
                f"{said}有{things}",
                f"{said}，{things}",
                f"{things}在{said}",
                f"{things}，{said}",
                f"{things} {said}",
                f"在{said}的{things}",
            )
        )
    if wording.code == "ja":
        return rng.choice(
            (
                f"{said}の{things}",
                f"{said}に{things}",
                f"{said}、{things}",
                f"{things}、{said}",
                f"{said}にある{things}",
                f"{things} {said}",
                f"{said}にいる{things}",
            )
        )
    return rng.choice(
        (
            f"{things} {said}",
            f"{things} {said}",
            f"{things} {said}",
            f"{things}, {said}",
            f"{said} {things}",
            f"{said}: {things}",
            f"{said}, {things}",
        )
    )


def _description(wording, rng):
    """An ordinary description, often wrapped in a request."""
    groups = random_groups(rng)
    sky, ground = random_setting(rng, rng.choice((0.0, 0.45, 0.7)))
    names = enumerate_names([name(group, wording, rng) for group in groups], wording, rng)
    text = _frame(names, sky, ground, wording, rng)
    return text, meaning_of(groups, sky, ground)


def _frame(names, sky, ground, wording, rng):
    """Things in a setting, as a request, a story, with a clause and so on."""
    kind = rng.random()
    if (sky or ground) and kind < 0.1:
        return rng.choice(wording.stories).format(t=names, s=setting(sky, ground, wording, rng)).strip()
    if (sky or ground) and kind < 0.2:
        return _wrap(rng.choice(wording.with_things).format(s=view(sky, ground, wording, rng), t=names), wording, rng)
    if sky and kind < 0.3:
        clause = rng.choice(wording.clauses[sky])
        rest = _composed(names, setting(None, ground, wording, rng), wording, rng)
        stop = rng.choice((wording.stop + (" " if wording.is_spaced else ""), wording.comma, ": "))
        return rng.choice((clause + stop + rest, rest + stop + clause))
    return _wrap(_composed(names, setting(sky, ground, wording, rng), wording, rng), wording, rng)


def _wrap(text, wording, rng):
    if rng.random() < 0.4:
        text = rng.choice(wording.requests).format(text)
    if rng.random() < 0.05:
        text = f"{rng.choice(wording.before)}{' ' if wording.is_spaced else ''}{text}"
    if rng.random() < 0.1:
        behind = rng.choice(wording.behind)
        text = text + (" " if wording.is_spaced and behind[0].isalpha() else "") + behind
    return text


def _word(wording, rng):
    """A thing, perhaps with its colour, and nothing else."""
    group = random_group(rng, plain=0.6)
    return name(group, wording, rng, rng.choice(("a", "", ""))), meaning_of([group], None, None)


def _tags(taging, rng):
    """Nouns in a row, in any order."""
    groups = random_groups(rng)[:2]
    sky, ground = random_setting(rng, 0.6)
    if ground == "snow" and sky is None and rng.random() < 0.3:
        sky = "night"
    names = [name(group, taging, rng, "") for group in groups]
    tags = [*names]
    if sky:
        tags.append(rng.choice(taging.sky_nouns[sky]))
    if ground:
        tags.append(rng.choice(taging.ground_nouns[ground]))
    if rng.random() < 0.2:
        tags.append(rng.choice([b for b in taging.behind if b.startswith((",", "，", "、"))]).lstrip(",，、 "))
    order = [*tags[len(names) :]]
    rng.shuffle(order)
    for position, tag in zip(sorted(rng.sample(range(len(tags)), len(names))), names, strict=True):
        order.insert(position, tag)
    if rng.random() < 0.05 and taging.is_spaced:
        return " ".join("#" + tag.replace(" ", "") for tag in order), meaning_of(groups, sky, ground)
    return rng.choice((", ", ", ", " ", ",", " / ", "; ", " - ", " + ", taging.comma)).join(order), meaning_of(
        groups, sky, ground
    )


def _view(wording, rng):
    """A setting without a thing."""
    sky, ground = rng.choice(
        ((rng.choice(SKIES), None), (None, rng.choice(GROUNDS)), (rng.choice(SKIES), rng.choice(GROUNDS)))
    )
    text = view(sky, ground, wording, rng)
    return (_wrap(text, wording, rng) if rng.random() < 0.4 else text), meaning_of([], sky, ground)


def _placed(wording, rng):
    """Things with their places, in any order."""
    count = rng.choice((1, 2, 2, 3))
    groups = [random_group(rng, most=1) for _ in range(count)]
    places = rng.sample(PLACES, count)
    sky, ground = random_setting(rng, 0.4)
    named = []
    for group, place in zip(groups, places, strict=True):
        thing, where = name(group, wording, rng), rng.choice(wording.places[place])
        if wording.code in ("zh", "ja"):
            link = {"zh": ("有", "是", "", "的"), "ja": ("に", "は", "の", "")}[wording.code]
            named.append(f"{where}{rng.choice(link)}{thing}")
        else:
            named.append(rng.choice((f"{thing} {where}", f"{thing} {where}", f"{where} {thing}")))
    comma = rng.choice((wording.comma, wording.comma, wording.conjunction))
    names = comma.join(named)
    return _wrap(_composed(names, setting(sky, ground, wording, rng), wording, rng), wording, rng), meaning_of(
        groups, sky, ground, places
    )


def _related(wording, rng):
    """One thing to the left or right of another, or between two."""
    one, other = random_group(rng, most=1), random_group(rng, most=1)
    sky, ground = random_setting(rng, 0.3)
    kind = rng.choice(("left_of", "right_of", "between"))
    if kind == "between":
        other = replace(other, count=2)
        text = rng.choice(wording.between).format(a=name(one, wording, rng), b=name(other, wording, rng, case="dat"))
        groups, places = [other, one], ("left", "right", "middle")
    else:
        text = rng.choice(getattr(wording, kind)).format(
            a=name(one, wording, rng), b=name(other, wording, rng, case="dat")
        )
        groups, places = [one, other], ("left", "right") if kind == "left_of" else ("right", "left")
    return _composed(text, setting(sky, ground, wording, rng), wording, rng), meaning_of(groups, sky, ground, places)


def _negated(wording, rng):
    """What shall not be there is named too."""
    groups = random_groups(rng)[:2]
    others = [kind for kind in KINDS if kind not in {group.kind for group in groups}]
    sky, ground = random_setting(rng, 0.3)
    names = enumerate_names([name(group, wording, rng) for group in groups], wording, rng)
    names = _composed(names, setting(sky, ground, wording, rng), wording, rng)
    unwanted = Group(rng.choice(others), rng.choice((1, 1, 2)))
    if rng.random() < 0.15:
        unwanted = Group(None)
    not_ = name(unwanted, wording, rng, rng.choice(("", "", "a")))
    return rng.choice(wording.negations).format(x=not_, t=names), meaning_of(groups, sky, ground)


def _colour_of(value, wording, rng):
    return rng.choice(wording.colours[value]).split("/")[-1]


def _later(wording, rng):
    """A colour or a setting in a second clause, with a pronoun; or the colour corrected."""
    group = replace(random_group(rng, most=1), colour=None)
    sky, ground = random_setting(rng, 0.35)
    kind = rng.random()
    if kind < 0.3:
        sky, ground = rng.choice(
            ((rng.choice(SKIES), None), (None, rng.choice(GROUNDS)), (rng.choice(SKIES), rng.choice(GROUNDS)))
        )
        text = rng.choice(wording.pronoun_settings).format(
            t=name(group, wording, rng), s=setting(sky, ground, wording, rng)
        )
        return text, meaning_of([group], sky, ground)
    colours = [colour for colour in COLOURS if (group.kind, colour) not in HELD_OUT]
    colour, other = rng.sample(colours, 2)
    said = _colour_of(colour, wording, rng)
    if kind < 0.45:
        said = rng.choice(wording.corrections).format(v=said, c=_colour_of(other, wording, rng))
    text = rng.choice(wording.pronouns).format(t=name(group, wording, rng), v=said)
    return _composed(text, setting(sky, ground, wording, rng), wording, rng), meaning_of(
        [replace(group, colour=colour)], sky, ground
    )


def _emojis(wording, rng):
    """Emoji, perhaps with a word."""
    groups = [replace(random_group(rng, most=1), colour=None, size=None) for _ in range(rng.choice((1, 1, 2, 2, 3)))]
    sky, ground = random_setting(rng, 0.3)
    signs = [_emoji(EMOJI[group.kind], rng) for group in groups]
    if rng.random() < 0.3 and len(groups) == 1:
        groups = [replace(groups[0], count=rng.choice((2, 3)))]
        signs = signs * groups[0].count
    if rng.random() < 0.35 and len(groups) == 1 and groups[0].count == 1:
        colour = rng.choice([c for c in COLOURS if (groups[0].kind, c) not in HELD_OUT])
        groups = [replace(groups[0], colour=colour)]
        signs = [f"{_colour_of(colour, wording, rng)} {signs[0]}"]
    behind = [rng.choice(_SKY_EMOJI[sky])] if sky else []
    behind += [rng.choice(_GROUND_EMOJI[ground])] if ground else []
    text = rng.choice(("", " ", "")).join([*signs, *behind])
    if rng.random() < 0.15:
        sky, ground = random_setting(rng, 0.5)
        text = _composed("".join(signs), setting(sky, ground, wording, rng), wording, rng)
    return text, meaning_of(groups, sky, ground)


def _emoji(signs, rng):
    return rng.choice([sign for sign in _split(signs) if sign])


def _split(signs):
    """Emoji one by one: a joiner or a variation selector belongs to the one before it."""
    parts: list[str] = []
    for sign in signs:
        if parts and (sign in "\ufe0f\u200d" or parts[-1].endswith("\u200d")):
            parts[-1] += sign
        else:
            parts.append(sign)
    return parts


def _two_colours(wording, rng):
    """ "A red and a blue car": two things of a kind."""
    kind = rng.choice(KINDS)
    colours = rng.sample([colour for colour in COLOURS if (kind, colour) not in HELD_OUT], 2)
    groups = [Group(kind, 1, colour) for colour in colours]
    sky, ground = random_setting(rng, 0.25)
    noun = rng.choice(wording.kinds[kind])
    names = [name(group, wording, rng, noun=noun) for group in groups]
    if rng.random() < 0.6 and wording.code in ("en", "de"):
        names[0] = names[0].removesuffix(noun.one).strip()
    return _composed(
        names[0] + wording.conjunction + names[1], setting(sky, ground, wording, rng), wording, rng
    ), meaning_of(groups, sky, ground)


def _counted(wording, rng):
    """A number of things of one kind; or the same word several times."""
    sky, ground = random_setting(rng, rng.choice((0.0, 0.0, 0.5)))
    if rng.random() < 0.2:
        group = Group(rng.choice(KINDS), rng.choice((2, 2, 3)))
        text = rng.choice((" ", ", ", wording.comma)).join([rng.choice(wording.kinds[group.kind]).one] * group.count)
        return _composed(text, setting(sky, ground, wording, rng), wording, rng), meaning_of([group], sky, ground)
    group = replace(random_group(rng, plain=0.6), count=rng.choice((2, 3)))
    return _frame(name(group, wording, rng), sky, ground, wording, rng), meaning_of([group], sky, ground)


_FORMS = (_description, _word, _tags, _view, _placed, _related, _negated, _later, _emojis, _two_colours, _counted)
_FORM_WEIGHTS = (32, 12, 11, 14, 6, 4, 11, 6, 4, 1.5, 7)


def _unknown(wording, rng):
    """Something that the world does not have, or all of it in a language that is not learnt."""
    kind = rng.random() if wording.is_mixed else rng.uniform(0.22, 1)
    if kind < 0.22:
        return foreign_text(rng), meaning_of([], None, None, partial=True)
    if kind < 0.34:
        return rng.choice(wording.unknown_wholes), meaning_of([], None, None, partial=True)
    if kind < 0.38:
        signs = "".join(rng.sample(_UNKNOWN_EMOJI, rng.choice((1, 1, 2))))
        return signs, meaning_of([], None, None, partial=True)
    sky, ground = random_setting(rng, rng.choice((0.0, 0.4, 0.7)))
    if kind < 0.42:  # more things than there is room for
        many = replace(random_group(rng, plain=0.6), count=len(PLACES) + 1)
        return _frame(name(many, wording, rng), sky, ground, wording, rng), meaning_of([many], sky, ground)
    strange = Group(
        None,
        rng.choice((1, 1, 1, 1, 2)),
        rng.choice(COLOURS) if rng.random() < 0.2 else None,
        rng.choice(SIZES) if rng.random() < 0.15 else None,
    )
    if kind < 0.56:
        groups = [strange]
    elif kind < 0.74:
        groups = [random_group(rng, most=1), strange]
        rng.shuffle(groups)
    elif kind < 0.8:
        groups = [Group(None), Group(None)]
    else:
        groups = [random_group(rng, most=2)]
        thing = name(groups[0], wording, rng)
        if rng.random() < 0.2:
            noun = rng.choice(wording.kinds[groups[0].kind])
            groups = [Group(groups[0].kind)]
            thing = _colourful(noun, wording, rng)
        else:
            tail = rng.choice(wording.unknown_tails)
            thing = (
                tail + ("的" if wording.code == "zh" else "") + thing
                if wording.code in ("zh", "ja") and rng.random() < 0.85
                else f"{thing} {tail}"
            )
        return _frame(thing, sky, ground, wording, rng), meaning_of(groups, sky, ground, partial=True)
    names = [name(group, wording, rng) for group in groups]
    if len(groups) == 1 and rng.random() < 0.35:
        tail = rng.choice(wording.unknown_tails)
        names[0] = (
            f"{names[0]} {tail}" if wording.is_spaced else f"{tail}{'的' if wording.code == 'zh' else ''}{names[0]}"
        )
    return _frame(enumerate_names(names, wording, rng), sky, ground, wording, rng), meaning_of(
        groups, sky, ground, partial=True
    )


def _colourful(noun, wording, rng):
    colour = rng.choice(wording.unknown_colours)
    if wording.code in ("fr", "vi"):
        return f"{noun.one} {colour}"
    if wording.is_spaced:
        return f"{'a' if wording.code == 'en' else 'ein'} {colour}{'es' if wording.code == 'de' else ''} {noun.one}"
    return f"{colour}{'的' if wording.code == 'zh' else ''}{noun.one}"
