"""A scene as an image: backdrop, things with their shadows, weather in front."""

import math
import random
from functools import lru_cache

from PIL import Image, ImageDraw, ImageFilter

from x2i_app.errors import InvalidRequestError
from x2i_app.miniature.brush import PAINTS, Canvas, mix
from x2i_app.miniature.grounds import SURFACES, backdrop, paint_ground, paint_shore
from x2i_app.miniature.objects import SHAPES
from x2i_app.miniature.scene import PLACES, Scene
from x2i_app.miniature.skies import LOOP, paint_sky, paint_weather, under

SMALL = 0.6  # height of a small thing, as a share of a large one's
CENTRES = {"left": 0.18, "middle": 0.5, "right": 0.82}
BASELINE = 0.875  # where large things stand, in image heights; small ones stand a little farther away
OVERSAMPLING = 2

SWIMS = ("boat", "fish", "ball")  # need no island at sea
WET = ("boat", "fish")  # need a puddle on land


def draw_scene(scene: Scene, size: int = 256, time: float = 0.0, seed: int = 0) -> Image.Image:
    """The scene as a square RGB image.

    size: pixels, 32 to 1024. time: seconds in its video; movements repeat after 4 seconds. seed: varies clouds, hills
    and the direction in which things look, never an attribute. The same arguments give the same pixels.
    Raises InvalidRequestError for a size out of range.
    """
    if not 32 <= size <= 1024:
        raise InvalidRequestError(f"size is {size}; it must be 32 to 1024 pixels.")
    time %= LOOP
    full = size * OVERSAMPLING
    image = backdrop(scene.sky, scene.ground, full).copy()
    paint_sky(image, scene.sky, seed, time)
    paint_ground(image, scene.sky, scene.ground, seed, time)
    variations = _variations(seed)
    for thing in scene.things:
        _paint_thing(image, scene, thing, variations[thing.place], time)
    if scene.ground == "sea":
        paint_shore(image, scene.sky, seed, time)
    paint_weather(image, scene.sky, seed, time)
    return image.reduce(OVERSAMPLING)


def thing_boxes(scene: Scene, time: float = 0.0, seed: int = 0) -> list[tuple[float, float, float, float]]:
    """Left, top, right and bottom of each thing in the image that `draw_scene` draws with these arguments.

    In image heights, and without what is around the thing: its shadow, puddle or islet.
    """
    boxes, variations = [], _variations(seed)
    for thing in scene.things:
        shape, variation = SHAPES[thing.kind], variations[thing.place]
        dx, dy, _, _ = _movement(thing.kind, time % LOOP, variation[0])
        x, bottom, height = _standing(thing, variation)
        half = height * shape.aspect / 2
        boxes.append((x + dx - half, bottom + dy - height, x + dx + half, bottom + dy))
    return boxes


def _variations(seed):
    """Three random numbers for each place, which vary the thing there."""
    rng = random.Random(f"things {seed}")
    return {place: (rng.random(), rng.random(), rng.random()) for place in PLACES}


def _standing(thing, variation):
    """The middle (x), the lower edge and the height of a thing that does not move, in image heights."""
    shape = SHAPES[thing.kind]
    height = shape.height * (SMALL if thing.size == "small" else 1.0)
    jitter = 0.02 * (variation[1] - 0.5)
    on_ground = BASELINE - (0.03 if thing.size == "small" else 0.0) + jitter
    bottom = 0.31 + jitter + height / 2 if shape.flies else on_ground
    return CENTRES[thing.place] + 0.012 * (variation[0] - 0.5), bottom, height


def _paint_thing(image, scene, thing, variation, time):
    shape = SHAPES[thing.kind]
    size = image.height
    dx, dy, tilt, phase = _movement(thing.kind, time, variation[0])
    x, bottom, height = _standing(thing, variation)
    if not shape.flies:
        _paint_footing(image, scene, thing, x, bottom, height)
    sprite = _sprite(thing.kind, thing.colour, round(height * size), phase, scene.sky == "night")
    if variation[2] < 0.5 and thing.kind != "house":
        sprite = sprite.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    if tilt:
        anchor = (sprite.width / 2, sprite.height * (0.5 if shape.flies or thing.kind in WET else 0.9))
        sprite = sprite.rotate(tilt, Image.Resampling.BILINEAR, center=anchor)
    margin = sprite.height - round(height * size)
    corner = (
        round((x + dx) * size - sprite.width / 2),
        round((bottom + dy) * size - sprite.height + margin / 2),
    )
    image.paste(sprite, corner, sprite)
    if not shape.flies and scene.ground == "sea" and thing.kind in SWIMS:
        _paint_ripple(image, scene, x + dx, bottom, height * shape.aspect)


def _movement(kind, time, shift):
    """Offset (right and down, in image heights), tilt (degrees) and phase of a kind at a time.

    Movements repeat after LOOP seconds, and no thing leaves its place.
    """
    turn = 2 * math.pi * time / LOOP
    wave, fast = math.sin(turn), math.sin(2 * turn)
    phase = int(time * 4) % 4
    match kind:
        case "car":
            return 0.03 * wave, 0.003 * math.sin(8 * turn), 0.0, phase
        case "boat":
            return 0.025 * wave, 0.006 * fast, 3.0 * math.sin(turn + shift), 0
        case "balloon":
            return 0.02 * math.sin(turn + shift), -0.03 * fast, 2.0 * wave, 0
        case "flower":
            return 0.0, 0.0, 5.0 * fast, 0
        case "tree":
            return 0.0, 0.0, 1.6 * fast, 0
        case "cat":
            return 0.0, 0.0, 0.0, phase
        case "fish":
            return 0.02 * wave, -0.05 * abs(fast), 10.0 * fast, phase
        case "star":
            return 0.0, -0.015 * wave, 8.0 * fast, 0
        case "ball":
            return 0.0, -0.1 * abs(fast), -15.0 * wave, 0
        case "rocket":
            return 0.0, -0.035 * wave, 1.5 * fast, phase
        case "umbrella":
            return 0.0, 0.0, 5.0 * wave, 0
    return 0.0, 0.0, 0.0, 0


def _paint_footing(image, scene, thing, x, bottom, height):
    """A shadow on land; a puddle under swimming things on land; an islet under other things at sea."""
    size = image.height
    width = height * SHAPES[thing.kind].aspect
    draw = ImageDraw.Draw(image)
    if scene.ground == "sea":
        if thing.kind not in SWIMS:
            for grow, drop, colour in (
                (0.64, 0.012, (120, 200, 226)),
                (0.56, 0.0, (250, 226, 164)),
                (0.45, -0.008, (146, 204, 108)),
            ):
                rx, ry = grow * max(width, 0.6 * height), 0.036 * (0.75 if thing.size == "small" else 1.0)
                ry *= grow / 0.56
                box = [v * size for v in (x - rx, bottom + drop - ry, x + rx, bottom + drop + ry)]
                draw.ellipse(box, fill=under(scene.sky, colour))
    elif thing.kind in WET:
        far, near = (under(scene.sky, colour) for colour in SURFACES["sea"])
        rx, ry = 0.54 * width, 0.2 * height * (0.5 if thing.kind == "boat" else 0.75)
        y = bottom - 0.35 * ry
        draw.ellipse([v * size for v in (x - rx, y - ry, x + rx, y + ry)], fill=mix(near, (20, 50, 100), 0.15))
        draw.ellipse(
            [v * size for v in (x - 0.94 * rx, y - 0.8 * ry, x + 0.94 * rx, y + 0.95 * ry)], fill=mix(far, near, 0.35)
        )
    else:
        shadow = _shadow(round(1.1 * width * size), round(0.16 * height * size))
        corner = (round(x * size - shadow.width / 2), round(bottom * size - 0.55 * shadow.height))
        image.paste((24, 22, 56), corner, shadow)


def _paint_ripple(image, scene, x, bottom, width):
    """Water over the lower edge of a swimming thing."""
    size = image.height
    draw = ImageDraw.Draw(image)
    far, near = (under(scene.sky, colour) for colour in SURFACES["sea"])
    rx, ry = 0.5 * width, 0.016
    water = mix(far, near, 0.75)
    draw.ellipse([v * size for v in (x - rx, bottom - ry, x + rx, bottom + 1.4 * ry)], fill=water)
    foam = mix(far, (255, 255, 255), 0.5)
    for reach in (1.0, 0.7):
        box = [v * size for v in (x - reach * rx, bottom - ry, x + reach * rx, bottom + reach * ry)]
        draw.arc(box, 15, 165, fill=foam, width=max(1, size // 128))


@lru_cache(maxsize=64)
def _shadow(width, height):
    pad = max(2, height // 3)
    mask = Image.new("L", (width + 2 * pad, height + 2 * pad))
    ImageDraw.Draw(mask).ellipse((pad, pad, pad + width, pad + height), fill=90)
    return mask.filter(ImageFilter.GaussianBlur(pad / 2))


@lru_cache(maxsize=768)
def _sprite(kind, colour, height, phase, lit):
    """A thing, `height` pixels high, with a thin pale rim that separates it from any background."""
    shape = SHAPES[kind]
    canvas = Canvas(2 * height, shape.aspect)
    shape.paint(canvas, PAINTS[colour], phase % shape.phases, lit)
    image = canvas.image.reduce(2)
    pad = max(2, height // 12)
    padded = Image.new("RGBA", (image.width + 2 * pad, image.height + 2 * pad))
    padded.paste(image, (pad, pad))
    reach = max(1.0, height / 60)
    halo = padded.getchannel("A").filter(ImageFilter.GaussianBlur(reach))
    strength = 1.5 if lit else 1.0
    rim = Image.new("RGBA", padded.size, (226, 230, 255) if lit else (255, 252, 244))
    rim.putalpha(halo.point([min(255, int(v * strength * 0.75)) for v in range(256)]))
    return Image.alpha_composite(rim, padded)
