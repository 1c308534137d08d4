"""German: three genders, four cases of which three occur, and colours that do not decline (rosa, lila, orange)."""

from x2i_app.miniature.languages.base import Change, Language, Pick, Said, SaidThing, enumerate_with, join

KINDS = {  # noun and gender
    "house": (("Haus", "n"),),
    "tree": (("Baum", "m"),),
    "car": (("Auto", "n"), ("Wagen", "m")),
    "boat": (("Boot", "n"), ("Schiff", "n"), ("Segelboot", "n")),
    "balloon": (("Ballon", "m"), ("Heißluftballon", "m")),
    "flower": (("Blume", "f"), ("Blüte", "f")),
    "cat": (("Katze", "f"),),
    "fish": (("Fisch", "m"),),
    "star": (("Stern", "m"),),
    "ball": (("Ball", "m"), ("Wasserball", "m")),
    "rocket": (("Rakete", "f"),),
    "umbrella": (("Regenschirm", "m"), ("Schirm", "m")),
}
COLOURS = {
    "red": ("rot",),
    "orange": ("orange", "orangefarben"),
    "yellow": ("gelb",),
    "green": ("grün",),
    "blue": ("blau",),
    "purple": ("lila", "violett"),
    "pink": ("rosa", "rosafarben"),
    "brown": ("braun",),
    "white": ("weiß",),
    "black": ("schwarz",),
}
_INDECLINABLE = {"orange", "lila", "rosa"}
SIZES = {"small": ("klein", "winzig"), "large": ("groß", "riesig")}
PLACES = {
    "left": ("links", "auf der linken Seite"),
    "middle": ("in der Mitte", "mitten im Bild"),
    "right": ("rechts", "auf der rechten Seite"),
}
_PLACE_ADJECTIVES = {"left": "link", "middle": "mittler", "right": "recht"}
GROUNDS = {
    "grass": ("auf Gras", "auf der Wiese", "im Gras", "auf dem Rasen", "auf einer grünen Wiese"),
    "snow": ("auf Schnee", "auf dem Schnee", "auf verschneitem Boden", "auf einem Schneefeld"),
    "sand": ("auf Sand", "auf dem Sand", "im Sand", "am Strand"),
    "sea": ("auf dem Meer", "auf See", "auf dem Wasser"),
    "street": ("auf der Straße", "auf einer Straße", "auf der Fahrbahn"),
}
SKIES = {
    "day": ("bei Tag", "am Tag", "tagsüber", "bei Sonnenschein"),
    "night": ("bei Nacht", "nachts", "in der Nacht", "im Mondschein"),
    "sunset": ("bei Sonnenuntergang", "in der Abendsonne", "in der Abenddämmerung"),
    "rain": ("im Regen", "bei Regen", "bei Regenwetter"),
    "snowfall": ("bei Schneefall", "im Schneetreiben", "bei fallendem Schnee"),
}
SKY_CLAUSES = {
    "day": ("es ist Tag", "die Sonne scheint"),
    "night": ("es ist Nacht", "es ist dunkle Nacht"),
    "sunset": ("die Sonne geht unter", "die Sonne geht gerade unter"),
    "rain": ("es regnet", "es regnet gerade"),
    "snowfall": ("es schneit", "es schneit gerade"),
}
_SKY_ORDERS = {
    "day": ("lass es Tag werden", "es soll Tag sein", "lass die Sonne scheinen"),
    "night": ("lass es Nacht werden", "es soll Nacht sein", "mach daraus eine Nachtszene"),
    "sunset": ("lass die Sonne untergehen", "zeig es bei Sonnenuntergang", "die Sonne soll untergehen"),
    "rain": ("lass es regnen", "es soll regnen"),
    "snowfall": ("lass es schneien", "es soll schneien"),
}
_GROUND_GOALS = {  # where to: accusative
    "grass": ("auf Gras", "auf die Wiese", "auf den Rasen"),
    "snow": ("auf Schnee", "auf den Schnee"),
    "sand": ("auf Sand", "auf den Sand", "an den Strand"),
    "sea": ("auf das Meer", "aufs Meer", "auf das Wasser"),
    "street": ("auf die Straße",),
}
_PLACE_GOALS = {"left": "nach links", "middle": "in die Mitte", "right": "nach rechts"}

_INDEFINITE = {"nom": "ein ein eine", "acc": "einen ein eine", "dat": "einem einem einer"}
_MIXED = {"nom": "er es e", "acc": "en es e", "dat": "en en en"}
_DEFINITE = {"nom": "der das die", "acc": "den das die", "dat": "dem dem der"}
_WEAK = {"nom": "e e e", "acc": "en e e", "dat": "en en en"}


def _form(table, case, gender):
    return table[case].split()["mnf".index(gender)]


def decline(adjective: str, ending: str) -> str:
    """An adjective with its ending: rot + es is rotes, rosa stays."""
    return adjective if adjective in _INDECLINABLE else adjective + ending


def noun_phrase(thing: SaidThing, pick: Pick, case: str, *, definite: bool = False) -> str:
    """'ein großes rotes Haus' in a case: nom, acc or dat. A definite phrase says the place: 'das linke Haus'."""
    noun, gender = pick.of(KINDS[thing.kind])
    articles, endings = (_DEFINITE, _WEAK) if definite else (_INDEFINITE, _MIXED)
    ending = _form(endings, case, gender)
    adjectives = (
        _PLACE_ADJECTIVES[thing.place] if definite and thing.place else None,
        pick.of(SIZES[thing.size]) if thing.size else None,
        pick.of(COLOURS[thing.colour]) if thing.colour else None,
    )
    return join(_form(articles, case, gender), *(decline(a, ending) for a in adjectives if a), noun)


def _things(said, pick, case, places_first=False):
    phrases = []
    for thing in said.things:
        phrase = noun_phrase(thing, pick, case)
        if thing.place:
            place = pick.of(PLACES[thing.place])
            phrase = f"{place} {phrase}" if places_first else f"{phrase} {place}"
        phrases.append(phrase)
    return enumerate_with(phrases, "und")


def describe(said: Said, pick: Pick) -> str:
    """The canonical wording is '<things>, <ground> <sky>' in the nominative."""
    ground = pick.of(GROUNDS[said.ground]) if said.ground else None
    sky = pick.of(SKIES[said.sky]) if said.sky else None
    setting = join(*pick((ground, sky), (ground, sky), (sky, ground)))
    if not said.things:
        return setting
    frame = pick("plain", "plain", "plain", "setting first", "verb second", "request", "picture", "clause")
    places_first = said.placed and pick.chance(0.4)
    tail = (f", {setting}" if said.placed else f" {setting}") if setting else ""
    if frame == "setting first" and setting:
        return f"{setting}: {_things(said, pick, 'nom', places_first)}"
    if frame == "verb second" and setting:
        verb = pick("sieht man", "gibt es", "sehen wir")
        return f"{setting} {verb} {_things(said, pick, 'acc', places_first)}"
    if frame == "request":
        verb = pick("zeichne", "male", "zeig mir", "bitte zeichne", "bitte male", "zeichne mir", "ich möchte")
        return f"{verb} {_things(said, pick, 'acc', places_first)}{tail}"
    if frame == "picture":
        image = pick("ein Bild mit", "eine Zeichnung mit", "ein Cartoon mit", "eine Szene mit")
        return f"{image} {_things(said, pick, 'dat')}{tail}"
    if frame == "clause" and said.sky:
        where = f"{',' if said.placed else ''} {ground}" if ground else ""
        return f"{pick.of(SKY_CLAUSES[said.sky])}: {_things(said, pick, 'nom', places_first)}{where}"
    things = _things(said, pick, "nom", places_first)
    return f"{things}, {setting}" if setting and not pick.chance(0.5) else f"{things}{tail}"


def instruct(change: Change, pick: Pick) -> str:
    """An edit as an order, such as 'färbe das Auto blau'."""
    value, target = change.value, change.target
    if change.action == "sky":
        return pick.of(_SKY_ORDERS[value])
    if change.action == "ground":
        return pick("setze alles {}", "verlege die Szene {}", "stell alles {}").format(pick.of(_GROUND_GOALS[value]))
    if change.action == "add":
        place, thing = pick.of(PLACES[change.addition.place]), noun_phrase(change.addition, pick, "acc")
        return pick("füge {} {} hinzu", "zeichne {} auch {}", "male {} noch {} dazu", "ergänze {} {}").format(
            place, thing
        )
    if change.action == "remove":
        verb = pick("entferne {}", "nimm {} weg", "lösche {}", "lass {} verschwinden", "lass {} weg")
        return verb.format(noun_phrase(target, pick, "acc", definite=True))
    if change.action == "colour":
        colour = pick.of(COLOURS[value])
        if pick.chance(0.2):
            return f"{noun_phrase(target, pick, 'nom', definite=True)} soll {colour} sein"
        verb = pick("färbe {} {}", "mach {} {}", "male {} {} an")
        return verb.format(noun_phrase(target, pick, "acc", definite=True), colour)
    if change.action == "size":
        if pick.chance(0.2):
            verb = "größer sein" if value == "large" else "kleiner sein"
            return f"{noun_phrase(target, pick, 'nom', definite=True)} soll {verb}"
        if value == "large":
            verb = pick("mach {} groß", "mach {} größer", "vergrößere {}")
        else:
            verb = pick("mach {} klein", "mach {} kleiner", "verkleinere {}")
        return verb.format(noun_phrase(target, pick, "acc", definite=True))
    if change.action == "swap":
        other = noun_phrase(SaidThing(value), pick, "acc")
        if pick.chance(0.3):
            return f"mach aus {noun_phrase(target, pick, 'dat', definite=True)} {other}"
        verb = pick("ersetze {} durch {}", "tausche {} gegen {}", "verwandle {} in {}")
        return verb.format(noun_phrase(target, pick, "acc", definite=True), other)
    verb = pick("verschiebe {} {}", "setze {} {}", "bewege {} {}")
    return verb.format(noun_phrase(target, pick, "acc", definite=True), _PLACE_GOALS[value])


GERMAN = Language("de", describe, instruct)
