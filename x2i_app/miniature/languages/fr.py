"""French: gender agreement, adjectives before (size) and after (colour) the noun, elision (l'arbre, d'une)."""

from x2i_app.miniature.languages.base import Change, Language, Pick, Said, SaidThing, enumerate_with, join

KINDS = {  # noun and gender; a balloon of this world is a hot-air balloon
    "house": (("maison", "f"),),
    "tree": (("arbre", "m"),),
    "car": (("voiture", "f"), ("auto", "f")),
    "boat": (("bateau", "m"), ("voilier", "m")),
    "balloon": (("montgolfière", "f"),),
    "flower": (("fleur", "f"),),
    "cat": (("chat", "m"),),
    "fish": (("poisson", "m"),),
    "star": (("étoile", "f"),),
    "ball": (("balle", "f"), ("ballon de plage", "m")),
    "rocket": (("fusée", "f"),),
    "umbrella": (("parapluie", "m"),),
}
COLOURS = {  # masculine and feminine
    "red": (("rouge", "rouge"),),
    "orange": (("orange", "orange"),),
    "yellow": (("jaune", "jaune"),),
    "green": (("vert", "verte"),),
    "blue": (("bleu", "bleue"),),
    "purple": (("violet", "violette"),),
    "pink": (("rose", "rose"),),
    "brown": (("marron", "marron"), ("brun", "brune")),
    "white": (("blanc", "blanche"),),
    "black": (("noir", "noire"),),
}
SIZES = {
    "small": (("petit", "petite"), ("minuscule", "minuscule")),
    "large": (("grand", "grande"), ("gros", "grosse"), ("énorme", "énorme")),
}
PLACES = {
    "left": ("à gauche", "sur la gauche"),
    "middle": ("au milieu", "au centre"),
    "right": ("à droite", "sur la droite"),
}
_PLACE_COMPLEMENTS = {"left": "de gauche", "middle": "du milieu", "right": "de droite"}
GROUNDS = {
    "grass": ("sur l'herbe", "dans l'herbe", "dans un pré", "sur la pelouse"),
    "snow": ("sur la neige", "sur un sol enneigé", "dans un champ enneigé"),
    "sand": ("sur le sable", "sur la plage", "sur une plage de sable"),
    "sea": ("sur la mer", "en mer", "sur l'eau", "sur l'océan"),
    "street": ("dans la rue", "sur la route", "sur une route"),
}
SKIES = {
    "day": ("de jour", "en plein jour", "pendant la journée", "sous le soleil"),
    "night": ("de nuit", "la nuit", "en pleine nuit", "au clair de lune"),
    "sunset": ("au coucher du soleil", "au crépuscule", "au soleil couchant"),
    "rain": ("sous la pluie", "par temps de pluie", "un jour de pluie"),
    "snowfall": ("sous la neige qui tombe", "sous les flocons", "pendant une chute de neige"),
}
SKY_CLAUSES = {
    "day": ("il fait jour", "le soleil brille"),
    "night": ("il fait nuit", "la nuit est tombée"),
    "sunset": ("le soleil se couche", "c'est le coucher du soleil"),
    "rain": ("il pleut", "la pluie tombe"),
    "snowfall": ("il neige", "la neige tombe"),
}
_SKY_ORDERS = {
    "day": ("qu'il fasse jour", "fais briller le soleil", "il doit faire jour"),
    "night": ("qu'il fasse nuit", "fais tomber la nuit", "il doit faire nuit"),
    "sunset": ("que le soleil se couche", "fais coucher le soleil", "mets un coucher de soleil"),
    "rain": ("qu'il pleuve", "fais tomber la pluie", "il doit pleuvoir"),
    "snowfall": ("qu'il neige", "fais tomber la neige", "il doit neiger"),
}


def noun_phrase(thing: SaidThing, pick: Pick, *, definite: bool = False) -> tuple[str, int]:
    """'une grande maison rouge' and its gender's index (0 m, 1 f); a definite phrase says the place: 'de gauche'."""
    noun, gender = pick.of(KINDS[thing.kind])
    form = "mf".index(gender)
    phrase = join(
        pick.of(SIZES[thing.size])[form] if thing.size else None,
        noun,
        pick.of(COLOURS[thing.colour])[form] if thing.colour else None,
        _PLACE_COMPLEMENTS[thing.place] if definite and thing.place else None,
    )
    if not definite:
        return f"{('un', 'une')[form]} {phrase}", form
    return (f"l'{phrase}" if phrase[0] in "aeéiou" else f"{('le', 'la')[form]} {phrase}"), form


def _things(said, pick, places_first=False, before=""):
    phrases = []
    for thing in said.things:
        phrase = before + noun_phrase(thing, pick)[0]
        if thing.place:
            place = pick.of(PLACES[thing.place])
            phrase = f"{place} {phrase}" if places_first else f"{phrase} {place}"
        phrases.append(phrase)
    return enumerate_with(phrases, "et")


def describe(said: Said, pick: Pick) -> str:
    """The canonical wording is '<things>, <ground>, <sky>'."""
    ground = pick.of(GROUNDS[said.ground]) if said.ground else None
    sky = pick.of(SKIES[said.sky]) if said.sky else None
    setting = ", ".join(word for word in pick((ground, sky), (ground, sky), (sky, ground)) if word)
    if not said.things:
        return setting
    frame = pick("plain", "plain", "plain", "setting first", "there is", "request", "picture", "clause")
    places_first = said.placed and pick.chance(0.4)
    tail = f", {setting}" if setting else ""
    if frame == "setting first" and setting:
        return f"{setting}{pick(' : ', ', ')}{_things(said, pick, places_first)}"
    if frame == "there is":
        things = f"{pick('il y a', 'on voit', 'voici')} {_things(said, pick)}"
        return pick(f"{things}{tail}", f"{setting}, {things}" if setting else things)
    if frame == "request":
        verb = pick("dessine", "dessine-moi", "peins", "montre-moi", "je voudrais voir", "s'il te plaît, dessine")
        return f"{verb} {_things(said, pick)}{tail}"
    if frame == "picture":
        if pick.chance(0.5):
            things = _things(said, pick, before="d'")
            return f"{pick('une image', 'un dessin', 'une illustration')} {things}{tail}"
        return f"{pick('une image', 'un dessin', 'une scène')} avec {_things(said, pick)}{tail}"
    if frame == "clause" and said.sky:
        where = f", {ground}" if ground else ""
        return f"{pick.of(SKY_CLAUSES[said.sky])} : {_things(said, pick, places_first)}{where}"
    things = _things(said, pick, places_first)
    if setting and not said.placed and pick.chance(0.5):
        return f"{things} {setting}"
    return f"{things}{tail}"


def instruct(change: Change, pick: Pick) -> str:
    """An edit as an order, such as 'peins la voiture en bleu'."""
    value = change.value
    if change.action == "sky":
        return pick.of(_SKY_ORDERS[value])
    if change.action == "ground":
        return pick("mets tout {}", "place la scène {}", "déplace la scène {}").format(pick.of(GROUNDS[value]))
    if change.action == "add":
        place = pick.of(PLACES[change.addition.place])
        verb = pick("ajoute {} {}", "mets {} {}", "dessine aussi {} {}", "place {} {}")
        return verb.format(noun_phrase(change.addition, pick)[0], place)
    thing, form = noun_phrase(change.target, pick, definite=True)
    if change.action == "remove":
        return pick("enlève {}", "supprime {}", "retire {}", "efface {}", "fais disparaître {}").format(thing)
    if change.action == "colour":
        colour = pick.of(COLOURS[value])
        agreeing = pick("rends {} {}", "{} doit être {}").format(thing, colour[form])
        return pick(f"peins {thing} en {colour[0]}", f"colorie {thing} en {colour[0]}", agreeing)
    if change.action == "size":
        adjective = SIZES[value][0][form]
        verb = pick("agrandis {}", "fais grandir {}") if value == "large" else pick("rapetisse {}", "réduis {}")
        return pick(f"rends {thing} plus {adjective}", f"{thing} doit être plus {adjective}", verb.format(thing))
    if change.action == "swap":
        other = noun_phrase(SaidThing(value), pick)[0]
        bare = pick.of(KINDS[value])[0]
        return pick(
            f"remplace {thing} par {other}",
            f"échange {thing} contre {other}",
            f"transforme {thing} en {bare}",
        )
    return f"{pick('déplace', 'mets', 'bouge')} {thing} {pick.of(PLACES[value])}"


FRENCH = Language("fr", describe, instruct)
