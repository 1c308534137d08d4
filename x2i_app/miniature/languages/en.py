"""English. The first of several words is the canonical one; `read` undoes the canonical wording."""

import re

from x2i_app.miniature.languages.base import Change, Language, Pick, Said, SaidThing, enumerate_with, join

KINDS = {
    "house": ("house", "cottage"),
    "tree": ("tree",),
    "car": ("car", "automobile"),
    "boat": ("boat", "sailboat", "sailing boat"),
    "balloon": ("balloon", "hot-air balloon"),
    "flower": ("flower", "blossom"),
    "cat": ("cat", "kitty"),
    "fish": ("fish",),
    "star": ("star",),
    "ball": ("ball", "beach ball"),
    "rocket": ("rocket", "rocket ship", "space rocket"),
    "umbrella": ("umbrella",),
}
COLOURS = {
    "red": ("red",),
    "orange": ("orange",),
    "yellow": ("yellow",),
    "green": ("green",),
    "blue": ("blue",),
    "purple": ("purple", "violet"),
    "pink": ("pink",),
    "brown": ("brown",),
    "white": ("white",),
    "black": ("black",),
}
SIZES = {"small": ("small", "little", "tiny"), "large": ("large", "big", "huge")}
PLACES = {
    "left": ("on the left", "on the left side", "at the left"),
    "middle": ("in the middle", "in the centre", "in the center"),
    "right": ("on the right", "on the right side", "at the right"),
}
GROUNDS = {
    "grass": ("on grass", "on the grass", "in a meadow", "on a green lawn", "in a green field"),
    "snow": ("on snow", "on the snow", "on snowy ground", "in a snowy field", "on a blanket of snow"),
    "sand": ("on sand", "on the sand", "on the beach", "on a sandy beach"),
    "sea": ("on the sea", "at sea", "on the water", "on the ocean"),
    "street": ("on the street", "in the street", "on a road", "on the road", "on a city street"),
}
SKIES = {
    "day": ("by day", "during the day", "in daylight", "on a sunny day", "in the sunshine"),
    "night": ("at night", "by night", "in the night", "under the moon", "on a starry night"),
    "sunset": ("at sunset", "at dusk", "in the light of the setting sun", "under a sunset sky"),
    "rain": ("in the rain", "in rainy weather", "on a rainy day", "while it rains"),
    "snowfall": ("in falling snow", "while it snows", "in a snowfall", "under falling snowflakes"),
}
SKY_CLAUSES = {
    "day": ("it is day", "the sun is shining"),
    "night": ("it is night", "it is a starry night"),
    "sunset": ("the sun is setting", "the sun goes down"),
    "rain": ("it is raining", "rain is falling"),
    "snowfall": ("it is snowing", "snow is falling"),
}
_SKY_ORDERS = {
    "day": ("make it day", "change it to daytime", "let the sun shine"),
    "night": ("make it night", "change it to night", "show it at night"),
    "sunset": ("make it sunset", "change it to sunset", "let the sun set", "show it at sunset"),
    "rain": ("make it rain", "let it rain", "change the weather to rain"),
    "snowfall": ("make it snow", "let it snow", "let snow fall"),
}


def noun_phrase(thing: SaidThing, pick: Pick, article: str = "a") -> str:
    """'a large red house', or with another article."""
    phrase = join(
        pick.of(SIZES[thing.size]) if thing.size else None,
        pick.of(COLOURS[thing.colour]) if thing.colour else None,
        pick.of(KINDS[thing.kind]),
    )
    if article == "a" and phrase[0] in "aeiou":
        article = "an"
    return f"{article} {phrase}"


def _things(said, pick, places_first=False):
    phrases = []
    for thing in said.things:
        phrase = noun_phrase(thing, pick)
        if thing.place:
            place = pick.of(PLACES[thing.place])
            phrase = f"{place} {phrase}" if places_first else f"{phrase} {place}"
        phrases.append(phrase)
    return enumerate_with(phrases, "and")


def _setting(said, pick):
    ground = pick.of(GROUNDS[said.ground]) if said.ground else None
    sky = pick.of(SKIES[said.sky]) if said.sky else None
    return join(*pick((ground, sky), (ground, sky), (sky, ground)))


def describe(said: Said, pick: Pick) -> str:
    """The canonical wording is '<things>, <ground> <sky>'."""
    setting = _setting(said, pick)
    if not said.things:
        return setting
    frame = pick("plain", "plain", "plain", "setting first", "there is", "request", "picture", "clause", "places first")
    comma = f", {setting}" if said.placed else f" {setting}"
    tail = comma if setting else ""
    if frame == "places first" and said.placed:
        return pick(_things(said, pick, True) + tail, f"{setting + ': ' if setting else ''}{_things(said, pick, True)}")
    things = _things(said, pick)
    if frame == "setting first" and setting:
        return f"{setting}{pick(', ', ': ')}{things}"
    if frame == "there is":
        there = pick("there is", "we see", "you can see", "I see")
        return pick(f"{there} {things}{tail}", f"{setting + ' ' if setting else ''}{there} {things}")
    if frame == "request":
        verb = pick(
            "draw", "paint", "show me", "please draw", "I want to see", "I would like", "draw me", "can you draw"
        )
        return f"{verb} {things}{tail}"
    if frame == "picture":
        image = pick("a picture of", "a drawing of", "a cartoon of", "an illustration of", "a scene with")
        return f"{image} {things}{tail}"
    if frame == "clause" and said.sky:
        ground = f"{',' if said.placed else ''} {pick.of(GROUNDS[said.ground])}" if said.ground else ""
        clause = pick.of(SKY_CLAUSES[said.sky])
        return pick(f"{things}{ground}; {clause}", f"{clause}: {things}{ground}")
    # The canonical wording always has the comma, so that it can be read back.
    return f"{things}, {setting}" if setting and not pick.chance(0.5) else f"{things}{tail}"


def _reference(thing, pick):
    phrase = noun_phrase(thing, pick, "the")
    return f"{phrase} {pick.of(PLACES[thing.place])}" if thing.place else phrase


def _towards(place, pick):
    return {"left": "to the left", "middle": pick("to the middle", "to the centre"), "right": "to the right"}[place]


def instruct(change: Change, pick: Pick) -> str:
    """An edit as an order, such as 'turn the car blue'."""
    value = change.value
    if change.action == "sky":
        return pick.of(_SKY_ORDERS[value])
    if change.action == "ground":
        ground = pick.of(GROUNDS[value])
        return pick("put everything {}", "put it {}", "show it {}", "it should be {}").format(ground)
    if change.action == "add":
        place = pick.of(PLACES[change.addition.place])
        verb = pick("add {} {}", "put {} {}", "also draw {} {}", "place {} {}", "I also want {} {}")
        return verb.format(noun_phrase(change.addition, pick), place)
    thing = _reference(change.target, pick)
    if change.action == "remove":
        return pick("remove {}", "take away {}", "delete {}", "erase {}", "get rid of {}").format(thing)
    if change.action == "colour":
        colour = pick.of(COLOURS[value])
        verb = pick("turn {} {}", "make {} {}", "paint {} {}", "colour {} {}", "change {} to {}", "{} should be {}")
        return verb.format(thing, colour)
    if change.action == "size":
        if value == "large":
            verb = pick("make {} large", "make {} big", "make {} bigger", "enlarge {}", "{} should be larger")
        else:
            verb = pick("make {} small", "make {} smaller", "shrink {}", "{} should be smaller")
        return verb.format(thing)
    if change.action == "swap":
        other = noun_phrase(SaidThing(value), pick)
        verb = pick("replace {} with {}", "swap {} for {}", "turn {} into {}", "change {} into {}")
        return verb.format(thing, other)
    verb = pick("move {} {}", "shift {} {}", "bring {} {}")
    return verb.format(thing, _towards(value, pick))


def _first(table):
    return {wordings[0]: key for key, wordings in table.items()}


def _alternatives(table):
    return "|".join(wordings[0] for wordings in table.values())


_THING = re.compile(
    rf"an? ({_alternatives(SIZES)}) ({_alternatives(COLOURS)}) ({_alternatives(KINDS)}) ({_alternatives(PLACES)})"
)
_SETTING = re.compile(rf"({_alternatives(GROUNDS)}) ({_alternatives(SKIES)})")


def read(sentence: str) -> Said | None:
    """What a canonical sentence of a whole scene says, or None if it is none."""
    things, comma, setting = sentence.rpartition(", ")
    where = _SETTING.fullmatch(setting)
    matches = [_THING.fullmatch(part) for part in re.split(", | and ", things)]
    if not comma or not where or not all(matches):
        return None
    said = tuple(
        SaidThing(_first(KINDS)[m[3]], _first(COLOURS)[m[2]], _first(PLACES)[m[4]], _first(SIZES)[m[1]])
        for m in matches
    )
    return Said(said, _first(GROUNDS)[where[1]], _first(SKIES)[where[2]])


ENGLISH = Language("en", describe, instruct)
