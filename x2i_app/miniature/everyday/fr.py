"""Everyday French."""

import random

from x2i_app.miniature.everyday.base import NounPhrase, Wording, choices, noun, nouns, phrases
from x2i_app.miniature.everyday.strangers import more_nouns

_KINDS = nouns(
    house="maison/maisons/f|maison/maisons/f|maisonnette/maisonnettes/f|cabane/cabanes/f|chalet/chalets/m|"
    "villa/villas/f",
    tree="arbre/arbres/m|arbre/arbres/m|sapin/sapins/m|chêne/chênes/m|pommier/pommiers/m",
    car="voiture/voitures/f|voiture/voitures/f|auto/autos/f|automobile/automobiles/f|bagnole/bagnoles/f",
    boat="bateau/bateaux/m|bateau/bateaux/m|voilier/voiliers/m|bateau à voile/bateaux à voile/m|navire/navires/m",
    balloon="montgolfière/montgolfières/f|montgolfière/montgolfières/f|ballon à air chaud/ballons à air chaud/m|"
    "ballon dirigeable/ballons dirigeables/m",
    flower="fleur/fleurs/f|fleur/fleurs/f|rose/roses/f|tulipe/tulipes/f|marguerite/marguerites/f",
    cat="chat/chats/m|chat/chats/m|chaton/chatons/m|minou/minous/m|chatte/chattes/f|matou/matous/m",
    fish="poisson/poissons/m|poisson/poissons/m",
    star="étoile/étoiles/f|étoile/étoiles/f",
    ball="balle/balles/f|balle/balles/f|ballon/ballons/m|ballon de plage/ballons de plage/m",
    rocket="fusée/fusées/f|fusée/fusées/f|vaisseau spatial/vaisseaux spatiaux/m|fusée spatiale/fusées spatiales/f",
    umbrella="parapluie/parapluies/m|parapluie/parapluies/m|parasol/parasols/m|ombrelle/ombrelles/f",
)
_COLOURS = phrases(
    red="rouge/rouge|rouge/rouge|rouge vif/rouge vif|rouge foncé/rouge foncé",
    orange="orange/orange|orange/orange|orangé/orangée",
    yellow="jaune/jaune|jaune/jaune|doré/dorée|jaune clair/jaune clair",
    green="vert/verte|vert/verte|vert foncé/vert foncé|vert clair/vert clair",
    blue="bleu/bleue|bleu/bleue|bleu clair/bleu clair|bleu foncé/bleu foncé|bleu ciel/bleu ciel",
    purple="violet/violette|mauve/mauve|violet/violette|lilas/lilas",
    pink="rose/rose|rose/rose|rose vif/rose vif",
    brown="marron/marron|brun/brune|marron foncé/marron foncé",
    white="blanc/blanche|blanc/blanche|tout blanc/toute blanche",
    black="noir/noire|noir/noire|tout noir/toute noire",
)
_SIZES = phrases(
    small="petit/petite|petit/petite|tout petit/toute petite|minuscule/minuscule",
    large="grand/grande|gros/grosse|énorme/énorme|immense/immense|très grand/très grande|géant/géante",
)
_NUMBERS = {
    2: choices("deux|deux|deux|2|des|une paire de"),
    3: choices("trois|trois|trois|3|plusieurs|beaucoup de|quelques"),
    4: choices("quatre|cinq|six|4|5|dix|une douzaine de|cent"),
}


def _noun_phrase(said: NounPhrase, rng: random.Random) -> str:
    form = "mf".index(said.noun.gender or "m")
    if rng.random() < 0.04:
        form = 1 - form
    size = rng.choice(_SIZES[said.size]).split("/")[form] if said.size else None
    colour = rng.choice(_COLOURS[said.colour]).split("/")[form] if said.colour else None
    adjective = said.adjective.split("/")[form] if said.adjective else None
    if said.count > 1:
        parts = [
            size and size.rstrip("s") + "s",
            said.noun.many,
            adjective and adjective + "s",
            colour and colour + ("" if colour.endswith("s") else "s"),
        ]
        first = "les" if said.article == "the" else rng.choice(_NUMBERS[said.count])
        return " ".join([first, *(part for part in parts if part)])
    text = " ".join(part for part in (size, said.noun.one, adjective, colour) if part)
    if not said.article:
        return text
    if said.article == "the":
        elided = "l'" if text[0] in "aeéiouhê" else ("le ", "la ")[form]
        return elided + text
    return rng.choice(("un une",) * 12 + ("1 1", "mon ma", "un une")).split()[form] + " " + text


FRENCH = Wording(
    code="fr",
    kinds=_KINDS,
    colours=_COLOURS,
    sizes=_SIZES,
    adjectives=choices(
        "joli/jolie|mignon/mignonne|beau/belle|content/contente|seul/seule|ancien/ancienne|moderne/moderne|"
        "magnifique/magnifique|adorable/adorable|simple/simple|tranquille/tranquille|endormi/endormie|"
        "drôle/drôle"
    ),
    manners=choices(
        "tout seul|toute seule|qui dort|qui attend|qui flotte|qui nage|qui vole|qui pousse|au loin|de près|"
        "assis|assise|debout|garé|garée|qui brille|vu de face|que j'aime|pour moi|qui se repose|qui passe|"
        "tranquillement|comme tu veux|sans rien d'autre|tout près|sans nuages|sans personne autour|sans gens|"
        "ensemble|en ligne|l'un près de l'autre|sans autre chose"
    ),
    noun_phrase=_noun_phrase,
    numbers=_NUMBERS,
    grounds=phrases(
        grass="sur l'herbe|dans l'herbe|dans un pré|sur la pelouse|dans le jardin|dans un champ|dans une prairie|"
        "au parc|à la campagne|sur une colline",
        snow="sur la neige|dans la neige|en hiver|dans un paysage d'hiver|sur un sol enneigé|"
        "dans un champ de neige|l'hiver",
        sand="sur le sable|à la plage|sur la plage|dans le sable|dans le désert|sur une plage|au bord de la plage",
        sea="sur la mer|en mer|sur l'eau|dans la mer|sur l'océan|dans l'eau|sur un lac|sur les vagues",
        street="dans la rue|sur la route|en ville|sur une route|dans une rue|au milieu de la rue|sur la chaussée",
    ),
    ground_nouns=phrases(
        grass="herbe|pré|pelouse|jardin|champ|prairie|parc",
        snow="neige|hiver|paysage enneigé|sol enneigé",
        sand="plage|sable|désert",
        sea="mer|océan|eau|lac|vagues",
        street="rue|route|ville",
    ),
    skies=phrases(
        day="de jour|le jour|en plein jour|sous le soleil|au soleil|le matin|à midi|par beau temps|"
        "un jour ensoleillé|en été",
        night="la nuit|de nuit|dans la nuit|dans le noir|au clair de lune|sous les étoiles|à minuit|"
        "sous un ciel étoilé|en pleine nuit|sous la lune",
        sunset="au coucher du soleil|le soir|au crépuscule|au soleil couchant|en soirée|à la tombée du jour|"
        "pendant le coucher de soleil",
        rain="sous la pluie|par temps de pluie|quand il pleut|un jour de pluie|pendant l'orage|"
        "sous une pluie battante|par mauvais temps",
        snowfall="sous les flocons|quand il neige|sous la neige qui tombe|pendant qu'il neige|"
        "pendant une tempête de neige|sous une chute de neige",
    ),
    sky_nouns=phrases(
        day="jour|soleil|ensoleillé|journée|ciel bleu",
        night="nuit|ciel étoilé|noir|clair de lune|minuit",
        sunset="coucher de soleil|soir|crépuscule|soirée",
        rain="pluie|pluvieux|orage|temps de pluie",
        snowfall="chute de neige|flocons|tempête de neige|il neige",
    ),
    clauses=phrases(
        day="il fait jour|le soleil brille|il fait beau|c'est une belle journée",
        night="il fait nuit|il fait noir|il fait sombre dehors|c'est la nuit|la lune brille",
        sunset="le soleil se couche|c'est le soir|le soir tombe",
        rain="il pleut|il pleut beaucoup|la pluie tombe|il pleut fort",
        snowfall="il neige|la neige tombe|des flocons tombent|il neige fort",
    ),
    sky_views=phrases(
        day="une journée ensoleillée|le soleil|un ciel bleu|il fait beau|le soleil brille|une belle journée",
        night="la nuit|un ciel étoilé|le ciel de nuit avec des étoiles|une nuit étoilée|nuit|"
        "la lune et les étoiles|un ciel plein d'étoiles|minuit",
        sunset="coucher de soleil|un coucher de soleil|le crépuscule|le soleil couchant|un beau coucher de soleil|"
        "un ciel du soir",
        rain="la pluie|pluie|il pleut|un jour de pluie|une forte pluie|un orage|mauvais temps",
        snowfall="il neige|des flocons|une tempête de neige|chute de neige|la neige qui tombe",
    ),
    ground_views=phrases(
        grass="un pré|une prairie|l'herbe|un champ vert|un jardin|la campagne|un parc",
        snow="la neige|un paysage enneigé|l'hiver|un champ de neige|hiver",
        sand="une plage|la plage|une plage vide|le sable|le désert|plage",
        sea="la mer|l'océan|les vagues|mer|une mer calme|un lac",
        street="une rue|une rue vide|la route|la ville|une route|rue",
    ),
    over=choices(
        "{sky} sur la {ground}|{sky} à la {ground}|{ground} et {sky}|{sky}, {ground}|{ground}, {sky}|"
        "{ground} {sky}|{sky} {ground}"
    ),
    joined=choices(
        "{a} et {b}|{a} et {b}|{a}, {b}|{a} avec {b}|{a} à côté de {b}|{a} près de {b}|{a} + {b}|"
        "{a} devant {b}|{a} derrière {b}|{a} et aussi {b}|{a} & {b}|{a} {b}|{a} puis {b}"
    ),
    conjunction=" et ",
    places=phrases(
        left="à gauche|sur la gauche|du côté gauche",
        middle="au milieu|au centre|au milieu de l'image",
        right="à droite|sur la droite|du côté droit",
    ),
    left_of=choices("{a} à gauche de {b}|{a} sur la gauche de {b}"),
    right_of=choices("{a} à droite de {b}|{a} sur la droite de {b}"),
    between=choices("{a} entre {b}|{a} au milieu de {b}"),
    with_things=choices("{s} avec {t}|{s} et {t}|{s} : {t}|{s}, {t}|{s}. il y a {t}"),
    requests=choices(
        "dessine {}|dessine-moi {}|montre-moi {}|peins {}|je voudrais {}|je veux {}|j'aimerais voir {}|"
        "une image de {}|une image avec {}|un dessin de {}|fais {}|fais-moi {}|crée {}|"
        "génère une image de {}|peux-tu dessiner {} ?|est-ce que tu peux dessiner {} ?|"
        "pourrais-tu me dessiner {} s'il te plaît ?|s'il te plaît, dessine {}|{} s'il te plaît|"
        "{}, s'il vous plaît|"
        "il y a {}|on voit {}|voici {}|voilà {}|je vois {}|j'ai besoin de {}|juste {}|seulement {}|"
        "simplement {}|une photo de {}|un tableau de {}|imagine {}|donne-moi {}|et si on voyait {} ?|"
        "ma fille voudrait {}|bonjour, dessine {}|c'est {}|une illustration de {}|un croquis de {}|"
        "à quoi ressemble {} ?|peut-être {}|quelque chose avec {}"
    ),
    stories=choices(
        "Il était une fois {t} {s}.|Aujourd'hui nous avons vu {t} {s}.|"
        "Peux-tu dessiner {t} {s} pour ma petite sœur ? Elle sera très contente.|Regarde, {t} {s} !|"
        "Mon image préférée serait {t} {s}.|Pour une carte d'anniversaire, {t} {s}, merci beaucoup.|"
        "Sur l'image on voit {t} {s} et rien d'autre.|Imagine que tu vois {t} {s}.|{t} tout seul {s}|"
        "{t} se trouve {s}|{s} il y a {t}|{s}, on voit {t}|{t} qui est {s}|"
        "Je pense depuis ce matin à {t} {s}, dessine-le comme tu peux."
    ),
    negations=choices(
        "pas de {x}, juste {t}|{t} sans {x}|pas {x} mais {t}|{t}, pas de {x}|{t} au lieu de {x}|"
        "je ne veux pas de {x}, je veux {t}|{t} mais pas de {x}|sans {x}, seulement {t}|{t} et pas de {x}|"
        "aucun {x}, juste {t}"
    ),
    corrections=choices("pas {c} mais {v}|{v}, pas {c}|{v} au lieu de {c}"),
    pronouns=choices(
        "{t}. il est {v}|{t}, elle est {v}|{t}, il doit être {v}|{t} en {v}|{t}, {v}|{t} et il est {v}|"
        "{t} de couleur {v}|{t} ({v})|{t} qui est {v}|{t}, couleur {v}"
    ),
    pronoun_settings=choices("{t}. il est {s}|{t}, elle est {s}|{t} et c'est {s}|{t} qui se trouve {s}"),
    before=choices("bonjour,|salut,|alors|euh,|s'il te plaît,|bon,|ok,|pour ma maman :|maintenant|oh,|coucou,"),
    behind=choices(
        "s'il te plaît|merci|merci beaucoup|pour ma fille|, mignon|, joli|, 4k|, simple|!!!|...|:)|"
        ", haute qualité|, style dessin animé|, coloré|si tu peux|, chef-d'œuvre|, c'est tout|"
        "et rien d'autre|!|svp|stp"
    ),
    sky_edits=phrases(
        day="mets le jour|jour|de jour|qu'il fasse jour|fais briller le soleil|il doit faire jour|en plein jour|"
        "maintenant de jour|sous le soleil|fais qu'il fasse beau|rends-le ensoleillé|la même chose de jour",
        night="mets la nuit|nuit|de nuit|la nuit|qu'il fasse nuit|il doit faire nuit|"
        "il devrait faire sombre dehors|fais-le de nuit|la même chose la nuit|maintenant de nuit|"
        "transforme en nuit|rends-le sombre|avec un ciel étoilé|je le veux de nuit",
        sunset="mets un coucher de soleil|coucher de soleil|au coucher du soleil|le soir|que le soleil se couche|"
        "la même chose au coucher du soleil|maintenant le soir|il doit faire soir|avec un coucher de soleil|"
        "fais coucher le soleil",
        rain="fais pleuvoir|pluie|sous la pluie|ajoute de la pluie|qu'il pleuve|il doit pleuvoir|avec de la pluie|"
        "la même chose sous la pluie|maintenant il pleut|mets de la pluie|mauvais temps|je veux de la pluie",
        snowfall="fais neiger|fais tomber la neige|qu'il neige|il doit neiger|avec des flocons|ajoute des flocons|"
        "maintenant il neige|la même chose quand il neige|mets une tempête de neige|je veux qu'il neige",
    ),
    ground_edits=choices(
        "{v}|{v} s'il te plaît|mets-le {v}|la même chose {v}|maintenant {v}|il doit être {v}|place-le {v}|"
        "je le veux {v}|montre-le {v}|mets tout {v}|plutôt {v}|{g}|fond : {g}|change le sol en {g}|"
        "change le fond en {g}|{g} à la place"
    ),
    both_edits=choices("{s}|la même chose {s}|maintenant {s}|mets-le {s}|ça doit être {s}|montre-le {s}"),
    season_edits=phrases(
        snow="la même chose en hiver|en hiver|hiver|mets l'hiver|qu'il y ait de la neige par terre|"
        "maintenant en hiver|couvre le sol de neige|version hiver|il doit faire hiver|de la neige sur le sol",
        grass="mets de l'herbe|le sol vert|au printemps|de l'herbe par terre",
    ),
    colour_edits=choices(
        "mets {the} en {v}|peins {the} en {v}|colorie {the} en {v}|rends {the} {v}|{the} doit être {v}|"
        "{the} en {v}|je veux {the} en {v}|change la couleur de {the} en {v}|{n} {v}|{the} {v}|"
        "fais {the} {v}|{the} devrait être {v}"
    ),
    colour_it=choices(
        "{v}|en {v}|mets-le en {v}|rends-le {v}|{v} s'il te plaît|il doit être {v}|peins-le en {v}|"
        "maintenant en {v}|plutôt {v}|la même chose en {v}"
    ),
    size_edits=phrases(
        large="agrandis {the}|rends {the} plus grand|{the} plus grand|{the} doit être plus grand|{the} plus gros|"
        "je veux {the} plus grand|fais {the} plus grande|grand {n}|{the} est trop petit",
        small="rapetisse {the}|réduis {the}|rends {the} plus petit|{the} plus petit|{the} doit être plus petit|"
        "je veux {the} plus petit|fais {the} plus petite|petit {n}|{the} est trop grand",
    ),
    size_it=phrases(
        large="plus grand|plus grand s'il te plaît|agrandis-le|plus gros|il doit être plus grand",
        small="plus petit|plus petit s'il te plaît|rapetisse-le|il doit être plus petit",
    ),
    swap_edits=choices(
        "remplace {the} par {a}|échange {the} contre {a}|{a} à la place de {the}|{a} au lieu de {the}|"
        "transforme {the} en {a}|change {the} en {a}|je veux {a} au lieu de {the}|"
        "mets {a} à la place de {the}|pas {the} mais {a}"
    ),
    move_edits=choices(
        "déplace {the} {p}|mets {the} {p}|{the} {p}|bouge {the} {p}|{the} doit être {p}|place {the} {p}"
    ),
    move_it=choices("mets-le {p}|{p}|déplace-le {p}|{p} s'il te plaît|plus {p}"),
    goals=phrases(
        left="à gauche|vers la gauche|sur la gauche",
        middle="au milieu|au centre|vers le milieu",
        right="à droite|vers la droite|sur la droite",
    ),
    add_edits=choices(
        "ajoute {a}|et {a}|avec {a}|mets aussi {a}|dessine aussi {a}|encore {a}|je veux aussi {a}|"
        "{a} en plus|plus {a}|+ {a}|rajoute {a}|il manque {a}|peux-tu ajouter {a} ?|mets {a} à côté|{a} aussi"
    ),
    add_placed=choices("ajoute {a} {p}|mets {a} {p}|{p} {a}|et {a} {p}|dessine {a} {p}|{p}, ajoute {a}"),
    remove_edits=choices(
        "enlève {the}|supprime {the}|retire {the}|efface {the}|sans {the}|sans {n}|pas de {n}|plus de {n}|"
        "fais disparaître {the}|je ne veux pas {the}|la même chose sans {the}|{the} doit partir|ôte {the}"
    ),
    clear_edits=choices("enlève tout|supprime tout|vide l'image|juste le fond|efface tout"),
    keep_edits=choices(
        "encore|encore une fois|la même chose|ne change rien|laisse comme ça|c'est bien|pareil|"
        "parfait, merci|garde-le ainsi|qu'est-ce que c'est ?|que vois-tu ?|décris l'image"
    ),
    and_then=choices("{a} et {b}|{a}, {b}|{a}. {b}|{a} puis {b}"),
    unknown_nouns=(
        *map(
            noun,
            choices(
                "chien/chiens/m|cheval/chevaux/m|dragon/dragons/m|oiseau/oiseaux/m|vélo/vélos/m|train/trains/m|"
                "avion/avions/m|bonhomme de neige/bonshommes de neige/m|champignon/champignons/m|lampe/lampes/f|"
                "gâteau/gâteaux/m|guitare/guitares/f|"
                "canard/canards/m|homme/hommes/m|femme/femmes/f|fille/filles/f|garçon/garçons/m|enfant/enfants/m|"
                "grand-mère/grands-mères/f|mère/mères/f|père/pères/m|princesse/princesses/f|roi/rois/m|"
                "chevalier/chevaliers/m|robot/robots/m|"
                "licorne/licornes/f|éléphant/éléphants/m|lion/lions/m|ours/ours/m|loup/loups/m|renard/renards/m|"
                "lapin/lapins/m|vache/vaches/f|cochon/cochons/m|mouton/moutons/m|poule/poules/f|singe/singes/m|"
                "serpent/serpents/m|grenouille/grenouilles/f|"
                "hibou/hiboux/m|baleine/baleines/f|papillon/papillons/m|abeille/abeilles/f|table/tables/f|"
                "chaise/chaises/f|lit/lits/m|pont/ponts/m|château/châteaux/m|tour/tours/f|église/églises/f|"
                "montagne/montagnes/f|volcan/volcans/m|rivière/rivières/f|"
                "forêt/forêts/f|nuage/nuages/m|arc-en-ciel/arcs-en-ciel/m|pomme/pommes/f|banane/bananes/f|"
                "livre/livres/m|chapeau/chapeaux/m|chaussure/chaussures/f|épée/épées/f|cœur/cœurs/m|"
                "fantôme/fantômes/m|sorcière/sorcières/f|pirate/pirates/m|"
                "camion/camions/m|moto/motos/f|tracteur/tracteurs/m|hélicoptère/hélicoptères/m|piano/pianos/m|"
                "souris/souris/f|tortue/tortues/f|phare/phares/m|bougie/bougies/f|œuf/œufs/m|pierre/pierres/f|"
                "monstre/monstres/m|ordinateur/ordinateurs/m|fromage/fromages/m"
            ),
        ),
        *more_nouns("fr"),
    ),
    unknown_tails=choices(
        "à vélo|avec un chapeau|qui joue de la guitare|qui mange une pizza|qui lit un livre|avec des ailes|"
        "dans la forêt|sur une montagne|avec des lunettes|en verre|en chocolat|avec un chien|dans la cuisine|"
        "dans l'espace|avec une barbe|dans le style de Monet|sur un pont|à deux têtes"
    ),
    unknown_wholes=choices(
        "bonjour|comment ça va ?|ma grand-mère|qui es-tu ?|raconte une blague|que peux-tu faire ?|l'amour|"
        "la liberté|Noël|un homme avec son chien|un portrait d'une jeune femme|"
        "des enfants jouent au football|la tour Eiffel|Paris|la musique|une tasse de café sur une table|"
        "un vieil homme avec une barbe|un chevalier combat un dragon|ma famille|un chien à vélo|"
        "n'importe quoi|quelque chose de drôle|aide-moi"
    ),
    unknown_colours=choices("gris|argenté|turquoise|arc-en-ciel|transparent|rayé|à carreaux"),
)
