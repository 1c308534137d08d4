"""Everyday English."""

import random

from x2i_app.miniature.everyday.base import NounPhrase, Wording, choices, noun, nouns, phrases
from x2i_app.miniature.everyday.strangers import more_nouns

_KINDS = nouns(
    house="house/houses|house/houses|house/houses|home/homes|cottage/cottages|hut/huts|cabin/cabins|villa/villas|"
    "building/buildings",
    tree="tree/trees|tree/trees|tree/trees|oak/oaks|apple tree/apple trees|oak tree/oak trees|pine/pines|"
    "fir tree/fir trees",
    car="car/cars|car/cars|car/cars|automobile/automobiles|auto/autos|vehicle/vehicles|sedan/sedans|motorcar/motorcars",
    boat="boat/boats|boat/boats|sailboat/sailboats|ship/ships|sailing boat/sailing boats|sailing ship/sailing ships|"
    "yacht/yachts|sail boat/sail boats",
    balloon="balloon/balloons|hot-air balloon/hot-air balloons|hot air balloon/hot air balloons|"
    "air balloon/air balloons|balloon/balloons",
    flower="flower/flowers|flower/flowers|blossom/blossoms|bloom/blooms|rose/roses|tulip/tulips|daisy/daisies",
    cat="cat/cats|cat/cats|kitty/kitties|kitten/kittens|kitty cat/kitty cats|pussycat/pussycats|tomcat/tomcats",
    fish="fish/fish|fish/fishes|fish/fish|fishy/fishies|goldfish/goldfish",
    star="star/stars|star/stars|five-pointed star/five-pointed stars",
    ball="ball/balls|ball/balls|beach ball/beach balls|beachball/beachballs|bouncy ball/bouncy balls|"
    "toy ball/toy balls",
    rocket="rocket/rockets|rocket/rockets|rocket ship/rocket ships|spaceship/spaceships|space rocket/space rockets|"
    "spacecraft/spacecraft",
    umbrella="umbrella/umbrellas|umbrella/umbrellas|parasol/parasols|brolly/brollies|sunshade/sunshades",
)
_COLOURS = phrases(
    red="red|red|red|crimson|scarlet|bright red|dark red|ruby red",
    orange="orange|orange|bright orange|orange-coloured",
    yellow="yellow|yellow|golden|bright yellow|lemon yellow|gold",
    green="green|green|dark green|bright green|light green|emerald",
    blue="blue|blue|navy|light blue|dark blue|sky blue|azure|navy blue",
    purple="purple|violet|lilac|lavender",
    pink="pink|pink|rosy|hot pink|light pink",
    brown="brown|brown|dark brown|light brown|chocolate brown",
    white="white|white|snow-white|pure white",
    black="black|black|jet-black|pitch-black",
)
_SIZES = phrases(
    small="small|little|tiny|wee|mini|miniature|very small|teeny|really small|itty-bitty",
    large="large|big|huge|giant|enormous|very big|massive|gigantic|really big|great big",
)


def _noun_phrase(said: NounPhrase, rng: random.Random) -> str:
    parts = [said.adjective] if said.adjective else []
    size = rng.choice(_SIZES[said.size]) if said.size else None
    colour = rng.choice(_COLOURS[said.colour]) if said.colour else None
    parts = [part for part in (size, *parts, colour) if part]
    if said.count == 1 and colour and size is None and rng.random() < 0.05:
        return " ".join((said.article, *parts[:-1], said.noun.one, "that is", colour)).replace(" a a", " a").strip()
    parts.append(said.noun.one if said.count == 1 else said.noun.many)
    text = " ".join(parts)
    if said.count > 1:
        if said.article == "the":
            return f"the {text}"
        return f"{rng.choice(_NUMBERS[said.count])} {text}"
    if said.article == "a":
        article = "an" if text[0] in "aeiou" else "a"
        if rng.random() < 0.12:
            article = rng.choice(("one", "1", "a single", "a nice", "some", "my", "another", "a"))
        return f"{article} {text}"
    return f"{said.article} {text}".strip()


_NUMBERS = {
    2: choices("two|two|two|2|a pair of|a couple of|both"),
    3: choices("three|three|three|3|many|lots of|several|a lot of|some|a few"),
    4: choices("four|five|six|4|5|ten|a dozen|a hundred|7|eight"),
}
_GROUNDS = phrases(
    grass="on grass|on the grass|in a meadow|in the meadow|on a lawn|in a field|in a green field|in the garden|"
    "in a garden|"
    "in the park|in the grass|on a green meadow|in the countryside|on a hill",
    snow="on snow|in the snow|on the snow|in snow|in a snowy field|in winter|in a winter landscape|in wintertime|"
    "on snowy ground|covered in snow|in deep snow|in the winter|on ice",
    sand="on sand|on the beach|at the beach|in the sand|on the sand|on a sandy beach|by the seaside|"
    "on a beach|in the desert|"
    "in a desert|on the shore",
    sea="on the sea|at sea|on the water|on the ocean|in the sea|in the water|on the open sea|in the ocean|on a lake|"
    "on the lake|swimming in the sea|on the waves",
    street="on the street|in the street|on a road|on the road|in the city|in town|on a city street|down the road|"
    "in a street|on the highway|in the middle of the street",
)
_GROUND_NOUNS = phrases(
    grass="grass|meadow|field|lawn|garden|park|green grass|countryside",
    snow="snow|winter|snowy ground|white snow|winter landscape",
    sand="beach|sand|sandy beach|desert|seaside|shore",
    sea="sea|ocean|water|lake|the sea|waves",
    street="street|road|city|city street|town|highway",
)
_SKIES = phrases(
    day="by day|during the day|in daylight|on a sunny day|in the sunshine|in the morning|in the afternoon|at noon|"
    "on a bright day|under a blue sky|in the sun|in summer|with sunshine|when the sun is out",
    night="at night|by night|in the dark|under the moon|on a starry night|at midnight|in the moonlight|"
    "under the stars|"
    "in the middle of the night|on a dark night|with a night sky|under a starry sky|late at night|after dark",
    sunset="at sunset|at dusk|in the evening|under a sunset sky|in the evening light|when the sun goes down|"
    "at sundown|"
    "with a sunset|in the evening sun|while the sun is setting|at twilight|in front of a sunset|during sunset",
    rain="in the rain|in rainy weather|on a rainy day|while it rains|when it is raining|in a storm|"
    "in pouring rain|with rain|"
    "under a rainy sky|in heavy rain|during a rainstorm|in bad weather",
    snowfall="in falling snow|while it snows|in a snowfall|while it is snowing|in a snowstorm|"
    "with snowflakes falling|"
    "with falling snow|when it snows|in a blizzard|during snowfall|with snow falling",
)
_SKY_NOUNS = phrases(
    day="day|daytime|sunny|sunshine|sunny day|blue sky|daylight|bright day|morning",
    night="night|nighttime|dark|night sky|moonlight|starry night|starry sky|midnight|dark night",
    sunset="sunset|dusk|evening|twilight|evening sky|setting sun|sundown",
    rain="rain|rainy|rainy day|raining|rainy weather|storm",
    snowfall="snowfall|snowing|falling snow|snowflakes|snowstorm|blizzard",
)
_CLAUSES = phrases(
    day="it is day|the sun is shining|it's a sunny day|the sun shines|it is daytime|it's bright outside",
    night="it is night|it's dark|it is dark outside|it's night time|the moon is out|it's the middle of the night|"
    "the stars are out|it is late at night",
    sunset="the sun is setting|the sun goes down|it's evening|the sun is going down|it is sunset",
    rain="it is raining|it rains|it's raining|it's pouring|rain is falling|the weather is rainy|it's wet and rainy",
    snowfall="it is snowing|it snows|it's snowing|snow is falling|snowflakes are falling|it's snowing hard",
)
_PLACES = phrases(
    left="on the left|on the left side|at the left|to the left|left|on the left-hand side",
    middle="in the middle|in the centre|in the center|in the middle of the picture|centered|right in the middle",
    right="on the right|on the right side|at the right|to the right|right|on the right-hand side",
)

ENGLISH = Wording(
    code="en",
    kinds=_KINDS,
    colours=_COLOURS,
    sizes=_SIZES,
    adjectives=choices(
        "cute|beautiful|nice|pretty|lovely|old|new|lonely|happy|cozy|funny|wonderful|simple|sweet|friendly|"
        "sleepy|sleeping|"
        "magical|wooden|fancy|amazing|shiny|cool|fluffy|charming|sad|modern|round|colourful|fast|adorable|quiet"
    ),
    manners=choices(
        "sitting|standing there|lying down|floating|parked|swimming|flying|growing|waiting|resting|"
        "on its own|all alone|up high|far away|close up|in the distance|looking at me|that looks nice|"
        "driving along|sailing|hanging there|drifting by|shining|seen from the front|right here|you like|"
        "in bloom|taking a nap|having fun|just because|of some kind|for me|with a nice view|and nothing else|"
        "that I saw|I dreamed of|sitting down|standing still|passing by|that is sleeping|moving slowly|"
        "on vacation|enjoying itself|nearby|as always|with nobody around|without any people|"
        "with no people in it|side by side|in a row|together|no clouds anywhere|with nothing else around|"
        "nothing else there|whichever"
    ),
    noun_phrase=_noun_phrase,
    numbers=_NUMBERS,
    grounds=_GROUNDS,
    ground_nouns=_GROUND_NOUNS,
    skies=_SKIES,
    sky_nouns=_SKY_NOUNS,
    clauses=_CLAUSES,
    sky_views=phrases(
        day="a sunny day|sunshine|the sun is shining|a blue sky|a bright day|nice weather|summer|"
        "a beautiful sunny day|day",
        night="night|a night sky with stars|night sky|a starry night|stars in the night sky|a dark night|"
        "the night sky|"
        "moonlight|the moon and the stars|midnight|a sky full of stars|nothing but the night|moon|"
        "the milky way|darkness",
        sunset="sunset|a sunset|a beautiful sunset|the setting sun|dusk|the evening sky|an orange evening sky|"
        "sundown|"
        "twilight|the sun going down|a sunset sky|evening",
        rain="rain|it is raining|a rainy day|heavy rain|rainy weather|just rain|bad weather|raindrops|a rainstorm|"
        "it rains|"
        "pouring rain|a storm|a thunderstorm",
        snowfall="snowfall|it is snowing|falling snow|snowflakes|a snowstorm|a blizzard|snow is falling|let it snow",
    ),
    ground_views=phrases(
        grass="a meadow|a green field|grass|an empty lawn|a garden|a park|green grass|the countryside|a landscape|"
        "hills",
        snow="a snowy landscape|snow|winter|a field of snow|a winter landscape|deep snow|a white winter world|"
        "wintertime",
        sand="a beach|an empty beach|the beach|sand|a sandy beach|a desert|the desert|the seaside|a lonely beach",
        sea="the sea|the ocean|the open sea|waves|water|an ocean|a calm sea|a lake|the big blue ocean|seascape",
        street="a street|an empty street|a road|a city street|the city|an empty road|a long road|a town",
    ),
    over=choices(
        "{sky} over the {ground}|{sky} over a {ground}|{ground} and {sky}|{sky} at the {ground}|"
        "{sky}, {ground}|{ground}, {sky}|"
        "{sky} {ground}|{ground} {sky}|{sky} on the {ground}|a {ground} in the {sky}"
    ),
    joined=choices(
        "{a} and {b}|{a} and {b}|{a}, {b}|{a} with {b}|{a} & {b}|{a} + {b}|{a} next to {b}|{a} beside {b}|"
        "{a} near {b}|"
        "{a} together with {b}|{a} and also {b}|{a} in front of {b}|{a} behind {b}|{a} plus {b}|{a} by {b}|"
        "{a} under {b}|"
        "{a} {b}|{a} and then {b}|{a}, plus {b}|{a} as well as {b}|{a} looking at {b}"
    ),
    conjunction=" and ",
    places=_PLACES,
    left_of=choices("{a} to the left of {b}|{a} left of {b}|{a} on the left of {b}|{a} on the left side of {b}"),
    right_of=choices("{a} to the right of {b}|{a} right of {b}|{a} on the right of {b}|{a} on the right side of {b}"),
    between=choices("{a} between {b}|{a} in between {b}|{a} in the middle of {b}"),
    with_things=choices(
        "{s} with {t}|{s} and {t}|{s}: {t}|{s}, {t}|{s} where there is {t}|{s}. there is {t}|{s} and there's {t}"
    ),
    requests=choices(
        "draw {}|draw me {}|please draw {}|paint {}|paint me {}|show me {}|can you draw {}?|"
        "could you draw {} please?|{} please|"
        "I want {}|I'd like {}|I would like to see {}|make {}|make me {}|create {}|generate {}|"
        "generate an image of {}|"
        "a picture of {}|a drawing of {}|an image of {}|a cartoon of {}|an illustration of {}|picture of {}|"
        "image of {}|"
        "give me {}|let me see {}|how about {}?|what about {}?|what would {} look like?|there is {}|"
        "there's {}|here is {}|"
        "I see {}|we see {}|you can see {}|imagine {}|can I have {}?|can i get {} pls|"
        "could I please have {}?|do you have {}?|"
        "do {}|I need {}|need {}|sketch {}|design {}|a photo of {}|photo of {}|a painting of {}|just {}|"
        "only {}|simply {}|"
        "hi, please draw {}|hello! could you make {} for me?|hey can you paint {}|please make a picture of {} for me|"
        "i wanna see {}|would you draw {} for me?|my daughter wants {}|my son asked for {}|it should show {}|"
        "the picture shows {}|"
        "{}, that's what I want|{} would be nice|{} would be great|{} for my kids|something with {}|maybe {}|"
        "I was thinking of {}|"
        "can you show me what {} looks like?|render {}|visualize {}|a scene with {}|a view of {}|my idea: {}|"
        "prompt: {}"
    ),
    stories=choices(
        "Once upon a time there was {t} {s}.|When I was a child I often saw {t} {s}, and I still dream of it.|"
        "I have been thinking all day about {t} {s}, so please draw it for me as well as you can.|"
        "Could you please make a picture for my little sister? She would love to see {t} {s}.|"
        "Look, {t} {s}! Isn't that nice?|Today we went for a walk and there was {t} {s}.|We saw {t} {s} today.|"
        "On our last holiday we found {t} {s} and everybody was very happy about it.|"
        "Imagine you wake up and see {t} {s}, what a lovely view.|"
        "I want a picture for my wall that has {t} {s} in it, thank you.|"
        "My favourite picture would be one of {t} {s}.|It is for a birthday card: {t} {s}. Thanks a lot!|"
        "In this picture, {s}, you can see {t}, and nothing else.|There once was {t}. It was {s}.|"
        "Please create the most beautiful picture you can of {t} {s}, it does not have to be perfect.|"
        "I don't know much about drawing but I would like {t} {s}.|What I have in mind is {t}, and it should be {s}.|"
        "{t} standing all alone {s}|{t} resting quietly {s}|{t} seen {s}|{t} sitting {s}|{t} somewhere {s}|"
        "{t} that is {s}"
    ),
    negations=choices(
        "no {x}, just {t}|{t}, no {x}|{t} without {x}|{t} but no {x}|not {x} but {t}|{t} instead of {x}|{t}, not {x}|"
        "I don't want {x}, I want {t}|no {x}, only {t}|{t} and no {x}|don't draw {x}, draw {t}|{t} (no {x})|"
        "{t}. no {x} please|without {x}, just {t}|{t}, but please no {x}|anything but {x}: {t}|"
        "{t} with no {x}|not {x}. {t}!"
    ),
    corrections=choices("not {c} but {v}|{v}, not {c}|{v} instead of {c}|{v} rather than {c}|no, not {c}, {v}"),
    pronouns=choices(
        "{t}. it is {v}|{t}, it is {v}|{t} and it is {v}|{t}, and make it {v}|{t}. It should be {v}.|"
        "{t} and it should be {v}|"
        "{t} which is {v}|{t}, {v}|{t} in {v}|{t}. its colour is {v}|{t}, colour: {v}|{t} ({v})|"
        "{t}. paint it {v}|{t} that's {v}"
    ),
    pronoun_settings=choices(
        "{t}. it is {s}|{t}, it stands {s}|{t} and it is {s}|{t}. it sits {s}|{t} which is {s}|{t}. Put it {s}."
    ),
    before=choices(
        "hi!|hello,|please,|okay so|hey|um,|well,|for my mum:|oh,|good morning!|now|so|ok,|dear computer,|alright,|yo"
    ),
    behind=choices(
        "please|thanks|thank you|for my daughter|that's all|as nice as possible|in cartoon style|, cute|"
        ", simple|, high quality|"
        ", 4k|, masterpiece|, best quality|, highly detailed|, digital art|, beautiful|, colourful|:)|!!!|"
        "...|, thank you so much|"
        "for a birthday card|, trending on artstation|, vector art|asap|pls|, kids drawing|!|, wonderful|"
        ", no text|, clean background|"
        ", peaceful|if you can|, children's book|, art|, minimalistic|, ok?|, aesthetic|and nothing else|"
        ", vivid colors"
    ),
    sky_edits=phrases(
        day="make it day|daytime|let the sun shine|day|make it sunny|sunny please|it should be day|"
        "same but by day|now by day|"
        "change it to day|it should be light outside|brighter please, make it daytime|"
        "no more night, make it day|what about by day?|"
        "stop the rain|let it be a sunny day|I want sunshine|and in the sunshine?|turn night into day|"
        "make the weather nice|sun",
        night="make it night|night|at night|it should be dark outside|make it dark|same but at night|"
        "let it be night|nighttime please|"
        "change it to night|now at night|turn day into night|show it at night|it should be night|I want it at night|"
        "make the sky dark|with stars in the sky|put the moon in the sky|how does it look at night?|"
        "and at night?|night please|dark|"
        "darkness|it gets dark|make it a night picture|can it be night?|it is night now|let it get dark|"
        "make it dark outside|have it at night|nighttime now|could it be dark?|turn off the sun|"
        "set it at midnight|turn it into a night scene|make it a starry night|make the sky black with stars",
        sunset="make it sunset|sunset|at sunset|same but at sunset|let the sun set|evening please|make it evening|"
        "at dusk|"
        "change the sky to a sunset|now at sunset|it should be evening|show it in the evening|the sun should go down|"
        "I want a sunset|turn it into a sunset|give it a sunset sky|make the sky orange",
        rain="make it rain|rain|let it rain|add rain|with rain|same but in the rain|it should rain|rainy|"
        "make it rainy|"
        "change the weather to rain|it should be raining|rain please|bad weather|put it in the rain|"
        "make the weather bad|"
        "it should rain outside|could it rain?|can it be raining?|some rain please|make it wet and rainy|"
        "I want rain|and now it rains|add some raindrops|let there be rain",
        snowfall="make it snow|let it snow|snowfall|add falling snow|it should snow|same but while it snows|"
        "with snowflakes|"
        "it should be snowing|add snowflakes|snow should fall|let snow fall|make snow fall from the sky|"
        "snowing please|could it be snowing?|it should snow outside|some snowflakes please|"
        "now it snows|I want it to snow|add a snowstorm",
    ),
    ground_edits=choices(
        "put it {v}|put everything {v}|same but {v}|{v}|{v} please|it should be {v}|now {v}|move it {v}|"
        "show it {v}|the same {v}|"
        "place it {v}|I want it {v}|let it stand {v}|how about {v}?|could it be {v}?|and now {v}|"
        "make it stand {v}|not here, but {v}|"
        "change the ground to {g}|change the ground: {g}|make the ground {g}|background: {g}|{g} instead|"
        "I want {g} as ground|"
        "change the background to {g}|{g}|make it a {g}|replace the ground with {g}|more like {g}"
    ),
    both_edits=choices("{s}|same but {s}|make it {s}|put it {s}|show it {s}|now {s}|it should be {s}|I want it {s}"),
    season_edits=phrases(
        snow="same but in winter|make it winter|winter|in winter please|it should be winter|now in winter|"
        "cover the ground with snow|"
        "turn it into winter|winter version|snow on the ground|change the season to winter|let it be winter|"
        "what about in winter?|"
        "snowy ground|add snow on the ground|and in winter?|as a winter scene",
        grass="make the ground green|add grass|spring please|let grass grow|melt the snow|back to the meadow",
    ),
    colour_edits=choices(
        "make {the} {v}|turn {the} {v}|paint {the} {v}|{the} should be {v}|colour {the} {v}|color {the} {v}|"
        "change {the} to {v}|"
        "I want {the} {v}|{the} in {v}|{the} {v}|could {the} be {v}?|change the colour of {the} to {v}|"
        "give {the} a {v} colour|"
        "{the} must be {v}|please make {the} {v}|{the}: {v}|can you make {the} {v}?|recolor {the} {v}|dye {the} {v}|"
        "what if {the} were {v}?|let {the} be {v}|{the} needs to be {v}|change color of {the} to {v}|{v} {n}|"
        "a {v} {n}|with a {v} {n}"
    ),
    colour_it=choices(
        "make it {v}|{v}|{v} please|in {v}|it should be {v}|paint it {v}|turn it {v}|colour it {v}|"
        "change the colour to {v}|"
        "now in {v}|same but {v}|I want it in {v}|the same in {v}|change its color to {v}|{v} instead|"
        "no, {v}|rather {v}"
    ),
    size_edits=phrases(
        large="make {the} bigger|make {the} big|{the} should be bigger|enlarge {the}|make {the} larger|{the} bigger|"
        "a bigger {n}|I want {the} bigger|make {the} huge|{the} should be large|let {the} grow|zoom {the}|big {n}",
        small="make {the} smaller|make {the} small|{the} should be smaller|shrink {the}|make {the} tiny|"
        "{the} smaller|"
        "a smaller {n}|I want {the} smaller|{the} should be little|let {the} shrink|{the} is too big|small {n}",
    ),
    size_it=phrases(
        large="bigger|make it bigger|larger please|big|make it big|it should be bigger|a bit bigger please|"
        "it is too small|enlarge it",
        small="smaller|make it smaller|smaller please|small|make it small|it should be smaller|"
        "a bit smaller please|it is too big|shrink it",
    ),
    swap_edits=choices(
        "replace {the} with {a}|swap {the} for {a}|turn {the} into {a}|change {the} into {a}|{a} instead of {the}|"
        "change {the} to {a}|make {the} {a}|put {a} where {the} is|swap {the} with {a}|no {n}, {a} instead|"
        "I want {a} instead of {the}|{the} should become {a}|exchange {the} for {a}|not {the} but {a}|"
        "instead of {the}, {a}|"
        "rather {a} than {the}|make {a} out of {the}|use {a} instead of {the}"
    ),
    move_edits=choices(
        "move {the} {p}|put {the} {p}|shift {the} {p}|{the} should be {p}|bring {the} {p}|I want {the} {p}|"
        "{the} {p}|place {the} {p}|"
        "{the} more {p}|slide {the} {p}|can you move {the} {p}?|let {the} stand {p}|{the} belongs {p}"
    ),
    move_it=choices("move it {p}|put it {p}|{p}|shift it {p}|it should be {p}|{p} please|bring it {p}"),
    goals=phrases(
        left="to the left|on the left|left|to the left side|over to the left",
        middle="to the middle|in the middle|to the centre|to the center|into the center",
        right="to the right|on the right|right|to the right side|over to the right",
    ),
    add_edits=choices(
        "add {a}|put {a} there|also draw {a}|and {a}|with {a}|{a} too|I also want {a}|add {a} please|"
        "draw {a} as well|plus {a}|"
        "put {a} next to it|can you add {a}?|there should be {a} too|place {a} beside it|now add {a}|"
        "add {a} to it|+ {a}|"
        "give me {a} too|include {a}|I'm missing {a}|{a} would be nice too|there's {a} missing|"
        "same but with {a}|let {a} join"
    ),
    add_placed=choices(
        "add {a} {p}|put {a} {p}|also draw {a} {p}|place {a} {p}|{p} {a}|and {a} {p}|I want {a} {p}|"
        "{p}, add {a}|draw {a} {p} too|"
        "with {a} {p}"
    ),
    remove_edits=choices(
        "remove {the}|take away {the}|delete {the}|erase {the}|get rid of {the}|without {the}|no {n}|{the} should go|"
        "take {the} out|I don't want {the}|same without {the}|hide {the}|drop {the}|{the} must go away|"
        "leave out {the}|no more {n}|"
        "please remove {the}|{the} away|make {the} disappear|can you delete {the}?|lose {the}|"
        "everything but {the}, please leave that out"
    ),
    clear_edits=choices(
        "remove everything|empty it|nothing on it|take everything away|delete all things|just the background|"
        "make it empty"
    ),
    keep_edits=choices(
        "the same again|again|same|once more please|keep it as it is|don't change anything|another version|"
        "redo|perfect, thanks|"
        "leave it like this|the same picture|yes|good, keep it|one more time|as it is|describe it|"
        "what is this?|what do you see?|draw this|make a cartoon of it"
    ),
    and_then=choices("{a} and {b}|{a}, {b}|{a}, and {b}|{a}. {b}|{a} and then {b}|{a}; {b}|{a} and also {b}"),
    unknown_nouns=(
        *map(
            noun,
            choices(
                "dog/dogs|horse/horses|dragon/dragons|bird/birds|bicycle/bicycles|bike/bikes|train/trains|"
                "plane/planes|aeroplane/aeroplanes|"
                "airplane/airplanes|snowman/snowmen|mushroom/mushrooms|lamp/lamps|cake/cakes|guitar/guitars|"
                "duck/ducks|man/men|woman/women|"
                "girl/girls|boy/boys|child/children|baby/babies|princess/princesses|king/kings|queen/queens|"
                "knight/knights|robot/robots|"
                "alien/aliens|unicorn/unicorns|dinosaur/dinosaurs|elephant/elephants|lion/lions|tiger/tigers|"
                "bear/bears|wolf/wolves|fox/foxes|"
                "rabbit/rabbits|bunny/bunnies|cow/cows|pig/pigs|sheep/sheep|chicken/chickens|monkey/monkeys|"
                "snake/snakes|frog/frogs|"
                "penguin/penguins|owl/owls|eagle/eagles|shark/sharks|whale/whales|dolphin/dolphins|octopus/octopuses|"
                "butterfly/butterflies|"
                "bee/bees|spider/spiders|table/tables|chair/chairs|sofa/sofas|bed/beds|door/doors|window/windows|"
                "bridge/bridges|"
                "castle/castles|tower/towers|church/churches|mountain/mountains|volcano/volcanoes|river/rivers|"
                "forest/forests|island/islands|"
                "cloud/clouds|rainbow/rainbows|apple/apples|banana/bananas|pizza/pizzas|burger/burgers|"
                "cup of coffee/cups of coffee|"
                "bottle/bottles|book/books|computer/computers|phone/phones|television/televisions|clock/clocks|"
                "hat/hats|shoe/shoes|"
                "dress/dresses|sword/swords|crown/crowns|ring/rings|heart/hearts|skull/skulls|angel/angels|"
                "ghost/ghosts|witch/witches|"
                "wizard/wizards|pirate/pirates|ninja/ninjas|samurai/samurai|astronaut/astronauts|doctor/doctors|"
                "teacher/teachers|"
                "policeman/policemen|soldier/soldiers|dancer/dancers|singer/singers|grandmother/grandmothers|"
                "grandma/grandmas|"
                "grandfather/grandfathers|mother/mothers|father/fathers|friend/friends|family/families|wife/wives|"
                "husband/husbands|"
                "bus/buses|truck/trucks|lorry/lorries|motorcycle/motorcycles|tractor/tractors|helicopter/helicopters|"
                "submarine/submarines|"
                "tank/tanks|tent/tents|swing/swings|piano/pianos|violin/violins|drum/drums|"
                "football player/football players|cowboy/cowboys|"
                "mermaid/mermaids|fairy/fairies|giraffe/giraffes|zebra/zebras|kangaroo/kangaroos|panda/pandas|"
                "koala/koalas|camel/camels|"
                "mouse/mice|hamster/hamsters|squirrel/squirrels|hedgehog/hedgehogs|turtle/turtles|snail/snails|"
                "crab/crabs|lobster/lobsters|"
                "parrot/parrots|swan/swans|goose/geese|donkey/donkeys|goat/goats|deer/deer|crocodile/crocodiles|"
                "rhino/rhinos|gorilla/gorillas|"
                "skyscraper/skyscrapers|lighthouse/lighthouses|windmill/windmills|pyramid/pyramids|statue/statues|"
                "fountain/fountains|"
                "fence/fences|lantern/lanterns|candle/candles|mirror/mirrors|key/keys|box/boxes|bag/bags|"
                "knife/knives|spoon/spoons|"
                "sandwich/sandwiches|strawberry/strawberries|cherry/cherries|orange juice/orange juices|"
                "ice cream/ice creams|bread/breads|"
                "egg/eggs|carrot/carrots|tomato/tomatoes|pumpkin/pumpkins|cactus/cactuses|palm/palms|leaf/leaves|"
                "bush/bushes|rock/rocks|"
                "stone/stones|waterfall/waterfalls|cave/caves|planet/planets|ufo/ufos|satellite/satellites|"
                "superhero/superheroes|"
                "vampire/vampires|zombie/zombies|monster/monsters|clown/clowns|santa claus/santas|"
                "president/presidents|mona lisa/mona lisas|"
                "eiffel tower/eiffel towers|portrait/portraits|logo/logos|map/maps|flag/flags|kitchen/kitchens|"
                "room/rooms|office/offices|"
                "school/schools|hospital/hospitals|factory/factories|garden gnome/garden gnomes|toaster/toasters|"
                "camera/cameras|radio/radios|"
                "toothbrush/toothbrushes|hammer/hammers|ladder/ladders|kite/kites|doll/dolls|teddy bear/teddy bears|"
                "puzzle/puzzles|"
                "skateboard/skateboards|surfboard/surfboards|wheel/wheels|engine/engines|spoonful/spoonfuls|"
                "puppy/puppies|poodle/poodles"
            ),
        ),
        *more_nouns("en"),
    ),
    unknown_tails=choices(
        "riding a bicycle|playing the guitar|wearing a hat|with wings|eating a pizza|reading a book|"
        "drinking coffee|driving a truck|"
        "with sunglasses|on a skateboard|chasing a mouse|wearing a red dress|with a sword|holding a cup|"
        "on the moon|in a kitchen|"
        "made of glass|made of chocolate|with a beard|smoking a pipe|in a forest|on a mountain|in space|"
        "with two heads|fighting a dragon|"
        "in the style of van gogh|in a suit|wearing boots|with long hair|dancing with a girl|playing chess|"
        "in a library|at school|"
        "with a smiling face|kissing a frog|on a bridge|on fire|with a rainbow|with fireworks|"
        "under a waterfall|in a castle|on a horse|"
        "with big teeth|and a man|full of people|made of cheese|with a dog|at the airport|singing a song|"
        "cooking dinner|on a sofa"
    ),
    unknown_wholes=choices(
        "my grandmother|hello|how are you?|what is your name?|tell me a joke|who are you?|what can you do?|"
        "write a poem|"
        "the meaning of life|freedom|love|happiness|abstract art|cyberpunk|a portrait of a young woman|"
        "mona lisa|pikachu|mickey mouse|"
        "albert einstein|the eiffel tower|new york|paris|mathematics|2 + 2|what time is it?|test|asdf|"
        "something funny|anything|"
        "surprise me|a famous painting|people dancing at a party|a football match|a birthday party|"
        "dinner with friends|"
        "my best friend and me|an angry crowd|a beautiful woman with long hair|a man walking his dog|"
        "kids playing football|"
        "a bowl of fruit|breakfast|a cup of tea on a table|a knight fighting a dragon|a steampunk robot|"
        "a fantasy world|"
        "the solar system|a chemical formula|democracy|music|war and peace|a sad clown|the president|"
        "a wedding|jesus|superman|batman|"
        "help|123|lorem ipsum dolor sit amet|translate this|who won the game|a bar chart|a website|"
        "a logo for my company|christmas|"
        "easter|halloween|an old man with a beard|my mother|me|you|a selfie|naked woman|a gun|blood|"
        "a dog riding a bicycle"
    ),
    unknown_colours=choices(
        "grey|gray|silver|turquoise|beige|rainbow|striped|transparent|invisible|checkered|metallic|"
        "polka-dotted|made of gold"
    ),
)
