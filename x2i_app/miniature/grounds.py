"""Everything below the horizon: meadow, snow, beach, sea and street, in the light of the sky above.

As in skies.py, images have twice the final size, `seed` gives all variation and `time`, in seconds, all movement.
"""

import math
import random
from functools import lru_cache

from PIL import Image, ImageDraw

from x2i_app.miniature.brush import Colour, lighter, mix
from x2i_app.miniature.skies import GRADIENTS, HORIZON, LOOP, gradient, under

SURFACES: dict[str, tuple[Colour, Colour]] = {  # far, near
    "grass": ((150, 212, 112), (84, 170, 76)),
    "snow": ((250, 252, 255), (214, 230, 248)),
    "sand": ((252, 232, 176), (236, 200, 132)),
    "sea": ((92, 186, 222), (30, 112, 186)),
    "street": ((134, 136, 148), (104, 106, 120)),
}
KERB = 0.675  # in image heights: where the pavement ends


@lru_cache(maxsize=64)
def backdrop(sky: str, ground: str, size: int) -> Image.Image:
    """The gradients of sky and ground, which are always the same. Copy the image before painting."""
    image = Image.new("RGB", (size, size))
    horizon = round(HORIZON * size)
    image.paste(gradient(GRADIENTS[sky], size, horizon), (0, 0))
    colours = tuple(under(sky, colour, ground) for colour in SURFACES[ground])
    image.paste(gradient(colours, size, size - horizon), (0, horizon))
    if ground == "street":
        _pave(image, sky)
    return image


def paint_ground(image: Image.Image, sky: str, ground: str, seed: int, time: float):
    """Paint the details of the ground: hills, distant houses, tufts, ripples or waves."""
    rng = random.Random(f"ground {seed}")
    draw = ImageDraw.Draw(image)
    # A low sun may cross the horizon: paint the ground again.
    horizon = round(HORIZON * image.height)
    plain = backdrop(sky, ground, image.height).crop((0, horizon, image.width, image.height))
    image.paste(plain, (0, horizon))
    _PAINTERS[ground](draw, image.height, sky, rng, time)


def paint_shore(image: Image.Image, sky: str, seed: int, time: float):
    """Paint the nearest wave of the sea, in front of all swimming things."""
    draw = ImageDraw.Draw(image)
    size = image.height
    base = under(sky, SURFACES["sea"][1])
    drift = 0.02 * math.sin(2 * math.pi * time / LOOP) + (seed % 7) / 70
    _wave_band(draw, size, 0.925, 0.012, 0.1, drift, lighter(base, 0.16))
    _wave_band(draw, size, 0.962, 0.012, 0.1, 0.05 - drift, base)


def _hills(draw, size, rng, colours, height):
    """Two ranges of hills behind the plain; their feet lie just below the horizon."""
    for index, colour in enumerate(colours):
        amplitude = height * (1.0, 0.55)[index]
        first, second = rng.uniform(0, 2 * math.pi), rng.uniform(0, 2 * math.pi)
        low, high = rng.uniform(0.8, 1.3), rng.uniform(1.8, 2.6)
        points = []
        for step in range(41):
            x = step / 40
            rise = (
                0.5 + 0.32 * math.sin(2 * math.pi * low * x + first) + 0.18 * math.sin(2 * math.pi * high * x + second)
            )
            points.append((x * size, (HORIZON + 0.005 - amplitude * rise) * size))
        draw.polygon([*points, (size, (HORIZON + 0.012) * size), (0, (HORIZON + 0.012) * size)], fill=colour)


def _grass(draw, size, sky, rng, time):
    far, near = (under(sky, colour) for colour in SURFACES["grass"])
    haze = GRADIENTS[sky][-1]
    _hills(draw, size, rng, (mix(far, haze, 0.4), mix(mix(far, near, 0.35), haze, 0.12)), 0.13)
    dark = mix(near, under(sky, (30, 90, 50)), 0.45)
    blossoms = [under(sky, colour) for colour in ((255, 255, 255), (255, 236, 140), (255, 190, 214))]
    sway = 0.004 * math.sin(2 * math.pi * time / LOOP)
    for index in range(22):
        x, y = rng.random(), rng.uniform(0.64, 0.985)
        h = 0.012 + 0.022 * (y - 0.6) / 0.4
        for lean in (-0.6, 0.0, 0.6):
            tip = ((x + lean * h + sway) * size, (y - h) * size)
            draw.line((x * size, y * size, *tip), fill=dark, width=max(1, round(size / 150)))
        if index % 4 == 0:
            r = 0.3 * h
            cx, cy = x + 1.6 * h, y - 0.2 * h
            box = [v * size for v in (cx - r, cy - r, cx + r, cy + r)]
            draw.ellipse(box, fill=blossoms[index // 4 % 3])


def _snow(draw, size, sky, rng, time):
    far, near = (under(sky, colour, "snow") for colour in SURFACES["snow"])
    haze = GRADIENTS[sky][-1]
    _hills(draw, size, rng, (mix(mix(near, (120, 150, 210), 0.2), haze, 0.35), mix(far, near, 0.45)), 0.15)
    shade = mix(near, under(sky, (150, 180, 226), "snow"), 0.45)
    for _ in range(7):
        x, y, w = rng.random(), rng.uniform(0.66, 0.97), rng.uniform(0.05, 0.11)
        draw.arc(
            [v * size for v in (x - w, y - 0.25 * w, x + w, y + 0.35 * w)],
            195,
            345,
            fill=shade,
            width=max(1, size // 110),
        )
    spark = lighter(far, 0.8)
    for _ in range(16):
        x, y = rng.random() * size, rng.uniform(0.63, 0.98) * size
        r = size * 0.0035 * (1 + 0.6 * math.sin(2 * math.pi * (time / LOOP + rng.random())))
        draw.ellipse((x - r, y - r, x + r, y + r), fill=spark)


def _sand(draw, size, sky, rng, time):
    far, near = (under(sky, colour, "sand") for colour in SURFACES["sand"])
    haze = GRADIENTS[sky][-1]
    _hills(draw, size, rng, (mix(near, haze, 0.35), mix(far, near, 0.55)), 0.1)
    shade = mix(near, under(sky, (170, 120, 70), "sand"), 0.4)
    for _ in range(9):
        x, y, w = rng.random(), rng.uniform(0.65, 0.98), rng.uniform(0.03, 0.07)
        for part in (0, 1):
            left = x + part * w
            box = [v * size for v in (left, y - 0.008, left + w, y + 0.008)]
            draw.arc(box, *((180, 360), (0, 180))[part], fill=shade, width=max(1, size // 128))
    for index in range(26):
        x, y, r = rng.random(), rng.uniform(0.62, 0.99), rng.choice((0.003, 0.004, 0.006))
        colour = (shade, under(sky, (255, 246, 224), "sand"), under(sky, (222, 150, 130), "sand"))[index % 3]
        draw.ellipse([v * size for v in (x - r, y - 0.7 * r, x + r, y + 0.7 * r)], fill=colour)


def _wave_band(draw, size, y, height, length, shift, colour):
    """Everything below a scalloped line at y."""
    count = round(1 / length) + 2
    points = []
    for step in range(count * 8 + 1):
        x = step / 8 * length - length + (shift % length)
        points.append((x * size, (y - height * abs(math.sin(math.pi * step / 8))) * size))
    draw.polygon([*points, (size * 1.2, size), (-0.2 * size, size)], fill=colour)


def _sea(draw, size, sky, rng, time):
    far, near = (under(sky, colour) for colour in SURFACES["sea"])
    foam = mix(far, under(sky, (255, 255, 255)), 0.55)
    start = rng.random()
    for index, y in enumerate((0.63, 0.665, 0.705, 0.75, 0.8, 0.86)):
        depth = (y - 0.6) / 0.4
        length = 0.045 + 0.06 * depth
        shift = start + index * 0.37 * length + 0.02 * math.sin(2 * math.pi * (time / LOOP + index / 6))
        _wave_band(draw, size, y, 0.1 * length, length, shift, mix(far, near, 0.1 + 0.85 * depth))
        for _ in range(3):
            x, w = rng.random() + 0.02 * math.sin(2 * math.pi * time / LOOP + index), length * 0.5
            box = [v * size for v in (x - w, y - 0.15 * length + 0.012, x + w, y + 0.15 * length + 0.012)]
            draw.arc(box, 200, 340, fill=foam, width=max(1, size // 128))


def _pave(image, sky):
    draw = ImageDraw.Draw(image)
    size = image.height
    pavement, edge, paint = (under(sky, c) for c in ((206, 198, 190), (168, 162, 160), (246, 240, 222)))
    draw.rectangle((0, HORIZON * size, size, KERB * size), fill=pavement)
    draw.rectangle((0, KERB * size, size, (KERB + 0.014) * size), fill=edge)
    for index in range(5):
        x = (index * 0.22 - 0.02) * size
        y = 0.925 * size
        draw.polygon(
            [(x + 0.02 * size, y), (x + 0.14 * size, y), (x + 0.12 * size, y + 0.024 * size), (x, y + 0.024 * size)],
            fill=paint,
        )
    for index in range(1, 12):
        x = index / 12
        draw.line(
            (x * size, HORIZON * size, (x + 0.12 * (x - 0.5)) * size, KERB * size), fill=edge, width=max(1, size // 200)
        )


def _street(draw, size, sky, rng, time):
    haze = GRADIENTS[sky][-1]
    wall = mix(under(sky, (150, 160, 196)), haze, 0.5)
    pane = (250, 222, 130) if sky == "night" else lighter(wall, 0.4)
    x = -0.03
    while x < 1:
        width, height = rng.uniform(0.1, 0.17), rng.uniform(0.08, 0.2)
        top = HORIZON - height
        colour = mix(wall, haze, rng.uniform(0, 0.3))
        draw.rectangle([v * size for v in (x, top, x + width, HORIZON)], fill=colour)
        y = top + 0.025
        while y < HORIZON - 0.03:
            for column in range(3):
                if rng.random() < 0.7:
                    left = x + width * (0.14 + 0.29 * column)
                    draw.rectangle([v * size for v in (left, y, left + 0.018, y + 0.02)], fill=mix(colour, pane, 0.6))
            y += 0.045
        x += width + rng.uniform(-0.005, 0.012)


_PAINTERS = {"grass": _grass, "snow": _snow, "sand": _sand, "sea": _sea, "street": _street}
