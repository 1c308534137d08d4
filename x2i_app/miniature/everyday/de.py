"""Everyday German. Case and gender follow the accusative, in which most people name what they want."""

import random

from x2i_app.miniature.everyday.base import NounPhrase, Wording, choices, noun, nouns, phrases
from x2i_app.miniature.everyday.strangers import more_nouns

_KINDS = nouns(
    house="Haus/Häuser/n|Haus/Häuser/n|Häuschen/Häuschen/n|Hütte/Hütten/f|Villa/Villen/f|Gebäude/Gebäude/n|"
    "Bauernhaus/Bauernhäuser/n",
    tree="Baum/Bäume/m|Baum/Bäume/m|Bäumchen/Bäumchen/n|Apfelbaum/Apfelbäume/m|Eiche/Eichen/f|Tanne/Tannen/f|"
    "Laubbaum/Laubbäume/m",
    car="Auto/Autos/n|Auto/Autos/n|Wagen/Wagen/m|PKW/PKWs/m|Fahrzeug/Fahrzeuge/n",
    boat="Boot/Boote/n|Boot/Boote/n|Schiff/Schiffe/n|Segelboot/Segelboote/n|Segelschiff/Segelschiffe/n|"
    "Schiffchen/Schiffchen/n",
    balloon="Ballon/Ballons/m|Heißluftballon/Heißluftballons/m|Ballon/Ballone/m|Luftballon/Luftballons/m|"
    "Fesselballon/Fesselballons/m",
    flower="Blume/Blumen/f|Blume/Blumen/f|Blüte/Blüten/f|Rose/Rosen/f|Tulpe/Tulpen/f|Blümchen/Blümchen/n",
    cat="Katze/Katzen/f|Katze/Katzen/f|Kätzchen/Kätzchen/n|Kater/Kater/m|Mieze/Miezen/f|Miezekatze/Miezekatzen/f",
    fish="Fisch/Fische/m|Fisch/Fische/m|Fischlein/Fischlein/n|Goldfisch/Goldfische/m",
    star="Stern/Sterne/m|Stern/Sterne/m|Sternchen/Sternchen/n",
    ball="Ball/Bälle/m|Ball/Bälle/m|Wasserball/Wasserbälle/m|Spielball/Spielbälle/m|Strandball/Strandbälle/m",
    rocket="Rakete/Raketen/f|Rakete/Raketen/f|Raumschiff/Raumschiffe/n|Weltraumrakete/Weltraumraketen/f",
    umbrella="Regenschirm/Regenschirme/m|Schirm/Schirme/m|Sonnenschirm/Sonnenschirme/m",
)
_COLOURS = phrases(
    red="rot|rot|knallrot|dunkelrot|hellrot|feuerrot",
    orange="orange|orange|orangefarben",
    yellow="gelb|gelb|hellgelb|golden|goldgelb",
    green="grün|grün|dunkelgrün|hellgrün|grasgrün",
    blue="blau|blau|hellblau|dunkelblau|himmelblau",
    purple="lila|violett|lila",
    pink="rosa|pink|rosarot|rosafarben",
    brown="braun|braun|dunkelbraun|hellbraun",
    white="weiß|weiß|schneeweiß|weiss",
    black="schwarz|schwarz|tiefschwarz|pechschwarz",
)
_SIZES = phrases(
    small="klein|klein|winzig|winzig klein|ganz klein", large="groß|groß|riesig|gross|riesengroß|sehr groß|gewaltig"
)
_INDECLINABLE = {"orange", "lila", "rosa", "pink"}
_NUMBERS = {
    2: choices("zwei|zwei|zwei|2|ein paar"),
    3: choices("drei|drei|drei|3|viele|mehrere|einige"),
    4: choices("vier|fünf|sechs|4|5|zehn|hundert|sieben"),
}
_ARTICLES = {
    "acc": {"a": ("einen", "eine", "ein"), "the": ("den", "die", "das")},
    "dat": {"a": ("einem", "einer", "einem"), "the": ("dem", "der", "dem")},
    "nom": {"a": ("ein", "eine", "ein"), "the": ("der", "die", "das")},
}
_ENDINGS = {
    "acc": {"a": ("en", "e", "es"), "the": ("en", "e", "e")},
    "dat": {"a": ("en", "en", "en"), "the": ("en", "en", "en")},
    "nom": {"a": ("er", "e", "es"), "the": ("e", "e", "e")},
}


def _decline(adjective: str, ending: str) -> str:
    return adjective if adjective in _INDECLINABLE else adjective.removesuffix("e") + ending


def _noun_phrase(said: NounPhrase, rng: random.Random) -> str:
    gender = "mfn".index(said.noun.gender or "n")
    case = rng.choice(("nom", "acc", said.case, said.case))
    adjectives = [
        rng.choice(_SIZES[said.size]) if said.size else None,
        said.adjective,
        rng.choice(_COLOURS[said.colour]) if said.colour else None,
    ]
    if said.count > 1:
        ending = "en" if said.article == "the" or case == "dat" else "e"
        first = "die" if said.article == "the" else rng.choice(_NUMBERS[said.count])
        return " ".join([first, *(_decline(each, ending) for each in adjectives if each), said.noun.many])
    table = said.article or "a"
    parts = [
        _decline(each, _ENDINGS["nom" if not said.article else case][table][gender]) for each in adjectives if each
    ]
    if said.article:
        article = _ARTICLES[case][table][gender]
        if table == "a" and rng.random() < 0.08:
            article = rng.choice(("1", "mein" + article[3:], "ein", article, "so " + article))
        parts.insert(0, article)
    return " ".join([*parts, said.noun.one])


GERMAN = Wording(
    code="de",
    kinds=_KINDS,
    colours=_COLOURS,
    sizes=_SIZES,
    adjectives=choices(
        "schön|süß|alt|neu|hübsch|nett|lustig|einsam|gemütlich|wunderschön|freundlich|glücklich|schlafend|"
        "niedlich|einfach|toll|bunt|modern"
    ),
    manners=choices(
        "ganz allein|der da steht|die da liegt|das da ist|in der Ferne|ganz nah|wie du willst|das schläft|"
        "der schwimmt|die fliegt|das wartet|der wächst|die schwebt|von vorne|das leuchtet|ganz weit weg|"
        "irgendeine|für mich|einfach so|und ruht sich aus|beim Schlafen|im Vorbeifahren|ganz in Ruhe|"
        "ohne Menschen|ohne Wolken|mit niemandem in der Nähe|in einer Reihe|beieinander|dicht zusammen|"
        "ohne sonst etwas"
    ),
    noun_phrase=_noun_phrase,
    numbers=_NUMBERS,
    grounds=phrases(
        grass="auf der Wiese|auf Gras|im Gras|auf dem Rasen|auf einer Wiese|im Garten|im Park|auf dem Feld|"
        "auf einem Hügel|im Grünen",
        snow="im Schnee|auf Schnee|auf dem Schnee|im Winter|in einer Winterlandschaft|im tiefen Schnee|"
        "auf dem Eis|in der Schneelandschaft",
        sand="am Strand|im Sand|auf Sand|auf dem Sand|in der Wüste|an einem Strand|am Sandstrand",
        sea="auf dem Meer|auf dem Wasser|auf See|im Meer|im Wasser|auf dem Ozean|auf einem See|im Ozean|auf hoher See",
        street="auf der Straße|auf einer Straße|in der Stadt|auf der Strasse|auf der Fahrbahn|an der Straße|"
        "mitten auf der Straße",
    ),
    ground_nouns=phrases(
        grass="Wiese|Gras|Rasen|Feld|Garten|Park",
        snow="Schnee|Winter|Schneelandschaft|Winterlandschaft",
        sand="Strand|Sand|Wüste|Sandstrand",
        sea="Meer|See|Ozean|Wasser|Wellen",
        street="Straße|Stadt|Strasse|Fahrbahn",
    ),
    skies=phrases(
        day="bei Tag|am Tag|tagsüber|bei Sonnenschein|in der Sonne|am Morgen|mittags|an einem sonnigen Tag|"
        "bei schönem Wetter|im Sommer",
        night="nachts|bei Nacht|in der Nacht|im Dunkeln|im Mondschein|unter den Sternen|um Mitternacht|"
        "in einer Sternennacht|im Mondlicht|unter dem Sternenhimmel",
        sunset="bei Sonnenuntergang|am Abend|abends|in der Abendsonne|in der Dämmerung|im Abendlicht|"
        "im Sonnenuntergang|wenn die Sonne untergeht",
        rain="im Regen|bei Regen|bei schlechtem Wetter|an einem Regentag|im strömenden Regen|während es regnet|"
        "bei Regenwetter|im Gewitter|wenn es regnet",
        snowfall="bei Schneefall|im Schneetreiben|während es schneit|wenn es schneit|im Schneesturm|"
        "bei fallendem Schnee|im Schneegestöber",
    ),
    sky_nouns=phrases(
        day="Tag|Sonne|sonnig|Sonnenschein|blauer Himmel|tagsüber",
        night="Nacht|nachts|Sternenhimmel|dunkel|Mondschein|Nachthimmel",
        sunset="Sonnenuntergang|Abend|Dämmerung|Abendrot|abends",
        rain="Regen|regnerisch|Regenwetter|Regentag|Gewitter",
        snowfall="Schneefall|Schneesturm|Schneeflocken|es schneit|Schneetreiben",
    ),
    clauses=phrases(
        day="es ist Tag|die Sonne scheint|es ist hell|es ist ein sonniger Tag",
        night="es ist Nacht|es ist dunkel|draußen ist es dunkel|der Mond scheint|es ist mitten in der Nacht",
        sunset="die Sonne geht unter|es ist Abend|es dämmert|es wird Abend",
        rain="es regnet|es regnet stark|es gießt|das Wetter ist schlecht",
        snowfall="es schneit|Schnee fällt|es fallen Schneeflocken|es schneit gerade",
    ),
    sky_views=phrases(
        day="Sonnenschein|ein sonniger Tag|die Sonne scheint|blauer Himmel|schönes Wetter|ein schöner Tag",
        night="Nacht|ein Nachthimmel mit Sternen|Sternenhimmel|eine Sternennacht|der Nachthimmel|Mond und Sterne|"
        "eine dunkle Nacht|Mitternacht|Dunkelheit",
        sunset="Sonnenuntergang|ein Sonnenuntergang|Abendrot|Abendhimmel|Dämmerung|ein schöner Sonnenuntergang|"
        "die untergehende Sonne",
        rain="Regen|es regnet|ein Regentag|Regenwetter|schlechtes Wetter|starker Regen|ein Gewitter|nur Regen",
        snowfall="Schneefall|es schneit|Schneeflocken|ein Schneesturm|fallender Schnee|Schneetreiben",
    ),
    ground_views=phrases(
        grass="eine Wiese|eine grüne Wiese|Gras|ein Feld|ein Garten|ein Park|eine Landschaft",
        snow="Schnee|eine Schneelandschaft|Winter|eine Winterlandschaft|tiefer Schnee",
        sand="ein Strand|Strand|ein leerer Strand|der Strand|Sand|die Wüste|eine Wüste",
        sea="das Meer|Meer|der Ozean|Wellen|Wasser|ein See|das weite Meer|ein ruhiges Meer",
        street="eine Straße|eine leere Straße|die Stadt|Straße|eine Stadt|eine lange Straße",
    ),
    over=choices(
        "{sky} über dem {ground}|{sky} am {ground}|{ground} und {sky}|{sky}, {ground}|{ground}, {sky}|"
        "{sky} {ground}|{ground} im {sky}|{sky} auf dem {ground}"
    ),
    joined=choices(
        "{a} und {b}|{a} und {b}|{a}, {b}|{a} mit {b}|{a} neben {b}|{a} + {b}|{a} sowie {b}|{a} vor {b}|"
        "{a} hinter {b}|{a} und noch {b}|{a} & {b}|{a} und dazu {b}|{a} bei {b}|{a} {b}"
    ),
    conjunction=" und ",
    places=phrases(
        left="links|auf der linken Seite|ganz links|links im Bild",
        middle="in der Mitte|mitten im Bild|mittig",
        right="rechts|auf der rechten Seite|ganz rechts|rechts im Bild",
    ),
    left_of=choices("{a} links von {b}|{a} links neben {b}"),
    right_of=choices("{a} rechts von {b}|{a} rechts neben {b}"),
    between=choices("{a} zwischen {b}|{a} in der Mitte von {b}"),
    with_things=choices("{s} mit {t}|{s} und {t}|{s}: {t}|{s}, {t}|{s}, darin {t}|{s}. dort ist {t}"),
    requests=choices(
        "zeichne {}|male {}|mal mir {}|zeichne mir bitte {}|zeig mir {}|ich möchte {}|ich hätte gern {}|"
        "ich hätte gerne {}|ich will {} sehen|bitte {}|"
        "kannst du {} zeichnen?|kannst du mir {} malen?|könntest du bitte {} zeichnen?|mach {}|mach mir {}|"
        "ein Bild von {}|ein Bild mit {}|Bild: {}|erstelle {}|"
        "erstelle ein Bild von {}|generiere {}|da ist {}|hier ist {}|man sieht {}|es gibt {}|ich sehe {}|"
        "ich brauche {}|ich wünsche mir {}|wie wäre es mit {}?|"
        "wie sieht {} aus?|nur {}|einfach {}|{} bitte|{}, bitte|bitte male {} für mich|hallo, zeichne {}|"
        "eine Zeichnung von {}|ein Foto von {}|ein Gemälde von {}|"
        "stell dir {} vor|gib mir {}|meine Tochter möchte {}|{} wäre schön|ich würde gern {} sehen|"
        "würdest du {} malen?|irgendwas mit {}|vielleicht {}|Skizze von {}"
    ),
    stories=choices(
        "Es war einmal {t} {s}.|Heute haben wir {t} {s} gesehen.|"
        "Kannst du für meine kleine Schwester {t} {s} malen? Sie freut sich bestimmt sehr.|"
        "Schau mal, {t} {s}!|Ich denke schon den ganzen Tag an {t} {s}, bitte zeichne es so gut du kannst.|"
        "Mein Lieblingsbild wäre {t} {s}.|"
        "Für eine Geburtstagskarte brauche ich {t} {s}, vielen Dank!|"
        "Auf dem Bild sieht man {t} {s} und sonst nichts.|Stell dir vor, du siehst {t} {s}.|"
        "{t} steht ganz allein {s}|{t} steht {s}|{t} {s} zu sehen|{s} steht {t}|{s} liegt {t}|"
        "{s} gibt es {t}|{s} ist {t}|dort {s} ist {t}"
    ),
    negations=choices(
        "kein {x}, nur {t}|{t} ohne {x}|nicht {x}, sondern {t}|{t}, kein {x}|{t} statt {x}|"
        "ich will kein {x}, ich will {t}|kein {x}, sondern {t}|{t}, aber bitte kein {x}|keine {x}, nur {t}|"
        "{t} und kein {x}|ohne {x}, nur {t}|{t} (kein {x})"
    ),
    corrections=choices("nicht {c}, sondern {v}|{v}, nicht {c}|{v} statt {c}"),
    pronouns=choices(
        "{t}. es ist {v}|{t}, es ist {v}|{t}, er soll {v} sein|{t}, und mach es {v}|{t} in {v}|{t}, {v}|"
        "{t}, sie ist {v}|{t}. er ist {v}|{t} ({v})|{t}, Farbe {v}|{t}, das {v} ist"
    ),
    pronoun_settings=choices(
        "{t}. es ist {s}|{t}, er steht {s}|{t} und es ist {s}|{t}. sie sitzt {s}|{t}, das {s} steht"
    ),
    before=choices("hallo,|bitte,|also|hey,|ähm,|guten Tag,|so,|ok,|für meine Mama:|jetzt|oh,|moin,"),
    behind=choices(
        "bitte|danke|vielen Dank|für meine Tochter|, süß|, schön|, 4k|, einfach|!!!|...|:)|, hohe Qualität|"
        ", im Comicstil|, bunt|wenn du kannst|, Meisterwerk|, das ist alles|und sonst nichts|!|, ja?|mal eben"
    ),
    sky_edits=phrases(
        day="mach es Tag|mach Tag|Tag|bei Tag|es soll Tag sein|lass die Sonne scheinen|mach es hell|tagsüber|"
        "jetzt bei Tag|die Sonne soll scheinen|mach es sonnig|draußen soll es hell sein|"
        "bitte bei Sonnenschein",
        night="mach es Nacht|mach Nacht|Nacht|nachts|bei Nacht|es soll Nacht sein|es soll dunkel sein|"
        "draußen soll es dunkel sein|mach es dunkel|dasselbe bei Nacht|jetzt nachts|ich will es bei Nacht|"
        "lass es Nacht werden|mit Sternenhimmel|mach einen Nachthimmel",
        sunset="mach einen Sonnenuntergang|Sonnenuntergang|bei Sonnenuntergang|abends|mach es Abend|"
        "es soll Abend sein|lass die Sonne untergehen|dasselbe am Abend|jetzt bei Sonnenuntergang|"
        "mit Abendrot|die Sonne soll untergehen",
        rain="lass es regnen|Regen|mach Regen|mach es regnerisch|es soll regnen|im Regen|bei Regen|mit Regen|"
        "dasselbe im Regen|jetzt regnet es|schlechtes Wetter|füge Regen hinzu|ich will Regen",
        snowfall="lass es schneien|es soll schneien|Schneefall|mit Schneeflocken|mach Schneefall|jetzt schneit es|"
        "dasselbe bei Schneefall|lass Schnee fallen|ich will, dass es schneit|füge Schneeflocken hinzu",
    ),
    ground_edits=choices(
        "{v}|{v} bitte|setz es {v}|dasselbe {v}|jetzt {v}|es soll {v} sein|stell es {v}|ich will es {v}|"
        "zeig es {v}|alles {v}|aber {v}|{g}|Hintergrund: {g}|ändere den Boden zu {g}|"
        "ändere den Hintergrund zu {g}|{g} statt dessen|lieber {v}"
    ),
    both_edits=choices("{s}|dasselbe {s}|jetzt {s}|mach es {s}|es soll {s} sein|zeig es {s}|bitte {s}"),
    season_edits=phrases(
        snow="dasselbe im Winter|im Winter|Winter|mach es Winter|mach Winter daraus|es soll Winter sein|"
        "jetzt im Winter|bedecke den Boden mit Schnee|Schnee auf dem Boden|lass es Winter werden",
        grass="mach den Boden grün|lass Gras wachsen|Frühling|zurück auf die Wiese",
    ),
    colour_edits=choices(
        "mach {the} {v}|färbe {the} {v}|male {the} {v}|male {the} {v} an|{the} soll {v} sein|{the} in {v}|"
        "ich will {the} {v}|{the} {v}|ändere die Farbe von {the} zu {v}|bitte {the} {v}|"
        "kannst du {the} {v} machen?|{n} {v}|{the} muss {v} sein"
    ),
    colour_it=choices(
        "mach es {v}|{v}|{v} bitte|in {v}|es soll {v} sein|färbe es {v}|jetzt in {v}|lieber {v}|"
        "dasselbe in {v}|mach das {v}|mach ihn {v}|mach sie {v}"
    ),
    size_edits=phrases(
        large="mach {the} größer|mach {the} groß|{the} soll größer sein|vergrößere {the}|{the} größer|"
        "ich will {the} größer|großes {n}|{the} riesig|{the} ist zu klein",
        small="mach {the} kleiner|mach {the} klein|{the} soll kleiner sein|verkleinere {the}|{the} kleiner|"
        "ich will {the} kleiner|kleines {n}|{the} winzig|{the} ist zu groß",
    ),
    size_it=phrases(
        large="größer|mach es größer|größer bitte|mach es groß|es soll größer sein|etwas größer",
        small="kleiner|mach es kleiner|kleiner bitte|mach es klein|es soll kleiner sein|etwas kleiner",
    ),
    swap_edits=choices(
        "ersetze {the} durch {a}|tausche {the} gegen {a}|{a} statt {the}|mach aus {the} {a}|"
        "verwandle {the} in {a}|aus {the} soll {a} werden|{a} anstelle von {the}|nicht {the}, sondern {a}|"
        "statt {the} lieber {a}|ich will {a} statt {the}"
    ),
    move_edits=choices(
        "schieb {the} {p}|setz {the} {p}|verschiebe {the} {p}|{the} soll {p}|bring {the} {p}|{the} {p}|"
        "stell {the} {p}|bewege {the} {p}"
    ),
    move_it=choices("schieb es {p}|{p}|setz es {p}|es soll {p}|{p} bitte|mehr {p}"),
    goals=phrases(
        left="nach links|links|auf die linke Seite",
        middle="in die Mitte|in der Mitte",
        right="nach rechts|rechts|auf die rechte Seite",
    ),
    add_edits=choices(
        "füge {a} hinzu|und {a}|noch {a}|mit {a}|dazu {a}|male {a} dazu|zeichne {a} dazu|auch {a}|"
        "ich will auch {a}|plus {a}|ergänze {a}|setz {a} daneben|da fehlt {a}|bitte noch {a}|+ {a}|"
        "kannst du {a} hinzufügen?|{a} dazu|stell {a} daneben"
    ),
    add_placed=choices(
        "füge {p} {a} hinzu|{p} {a}|{p} noch {a}|setz {a} {p} hin|male {p} {a}|{a} {p} dazu|und {p} {a}"
    ),
    remove_edits=choices(
        "entferne {the}|lösche {the}|{the} weg|nimm {the} weg|ohne {the}|ohne {n}|kein {n}|{the} soll weg|"
        "mach {the} weg|lass {the} weg|ich will {the} nicht|lass {the} verschwinden|bitte {the} entfernen|"
        "dasselbe ohne {the}"
    ),
    clear_edits=choices("entferne alles|alles weg|mach es leer|nur der Hintergrund|lösche alles"),
    keep_edits=choices(
        "nochmal|noch einmal|dasselbe|lass es so|nichts ändern|gut so|genau so|noch einmal dasselbe|"
        "perfekt, danke|so lassen|was ist das?|was siehst du?|beschreibe es"
    ),
    and_then=choices("{a} und {b}|{a}, {b}|{a}. {b}|{a} und dann {b}"),
    unknown_nouns=(
        *map(
            noun,
            choices(
                "Hund/Hunde/m|Pferd/Pferde/n|Drache/Drachen/m|Vogel/Vögel/m|Fahrrad/Fahrräder/n|Zug/Züge/m|"
                "Flugzeug/Flugzeuge/n|Schneemann/Schneemänner/m|Pilz/Pilze/m|"
                "Lampe/Lampen/f|Kuchen/Kuchen/m|Gitarre/Gitarren/f|Ente/Enten/f|Mann/Männer/m|Frau/Frauen/f|"
                "Mädchen/Mädchen/n|Junge/Jungen/m|Kind/Kinder/n|Oma/Omas/f|Großmutter/Großmütter/f|"
                "Opa/Opas/m|Mutter/Mütter/f|Vater/Väter/m|Prinzessin/Prinzessinnen/f|König/Könige/m|Ritter/Ritter/m|"
                "Roboter/Roboter/m|Einhorn/Einhörner/n|Elefant/Elefanten/m|Löwe/Löwen/m|"
                "Bär/Bären/m|Wolf/Wölfe/m|Fuchs/Füchse/m|Hase/Hasen/m|Kuh/Kühe/f|Schwein/Schweine/n|Schaf/Schafe/n|"
                "Huhn/Hühner/n|Affe/Affen/m|Schlange/Schlangen/f|Frosch/Frösche/m|Eule/Eulen/f|"
                "Wal/Wale/m|Schmetterling/Schmetterlinge/m|Biene/Bienen/f|Spinne/Spinnen/f|Tisch/Tische/m|"
                "Stuhl/Stühle/m|Bett/Betten/n|Brücke/Brücken/f|Schloss/Schlösser/n|Burg/Burgen/f|"
                "Turm/Türme/m|Kirche/Kirchen/f|Berg/Berge/m|Vulkan/Vulkane/m|Fluss/Flüsse/m|Wald/Wälder/m|"
                "Wolke/Wolken/f|Regenbogen/Regenbögen/m|Apfel/Äpfel/m|Banane/Bananen/f|Pizza/Pizzen/f|"
                "Buch/Bücher/n|Handy/Handys/n|Uhr/Uhren/f|Hut/Hüte/m|Schuh/Schuhe/m|Schwert/Schwerter/n|"
                "Herz/Herzen/n|Geist/Geister/m|Hexe/Hexen/f|Pirat/Piraten/m|Bus/Busse/m|Lastwagen/Lastwagen/m|"
                "Motorrad/Motorräder/n|Traktor/Traktoren/m|Hubschrauber/Hubschrauber/m|Zelt/Zelte/n|"
                "Klavier/Klaviere/n|Maus/Mäuse/f|Igel/Igel/m|Schildkröte/Schildkröten/f|Leuchtturm/Leuchttürme/m|"
                "Zaun/Zäune/m|Kerze/Kerzen/f|Spiegel/Spiegel/m|Messer/Messer/n|Ei/Eier/n|Kaktus/Kakteen/m|"
                "Stein/Steine/m|Höhle/Höhlen/f|Monster/Monster/n|Weihnachtsmann/Weihnachtsmänner/m|Bahnhof/Bahnhöfe/m"
            ),
        ),
        *more_nouns("de"),
    ),
    unknown_tails=choices(
        "auf einem Fahrrad|mit Hut|mit einer Gitarre|das Pizza isst|die ein Buch liest|mit Flügeln|im Wald|"
        "auf einem Berg|mit Sonnenbrille|aus Glas|aus Schokolade|mit einem Hund|in der Küche|im Weltall|"
        "mit Bart|im Stil von Picasso|auf einer Brücke|mit zwei Köpfen|beim Fußballspielen|im Schloss"
    ),
    unknown_wholes=choices(
        "hallo|wie geht es dir?|meine Oma|wer bist du?|erzähl mir einen Witz|was kannst du?|"
        "schreib ein Gedicht|Liebe|Freiheit|Weihnachten|ein Mann mit Hund|ein Porträt einer jungen Frau|"
        "Kinder spielen Fußball|"
        "der Eiffelturm|Berlin|Mathematik|Hilfe|ein Frühstück|eine Tasse Kaffee auf dem Tisch|"
        "ein alter Mann mit Bart|ein Ritter kämpft gegen einen Drachen|meine Familie|Musik|"
        "ein Hund auf einem Fahrrad|irgendwas|etwas Lustiges|ein Logo für meine Firma|was kostet das?"
    ),
    unknown_colours=choices("grau|silbern|türkis|bunt gestreift|durchsichtig|gestreift|kariert"),
)
