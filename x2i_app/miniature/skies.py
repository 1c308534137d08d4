"""Everything above the horizon, rain and snow included: gradients, sun, moon, clouds, twinkling stars, rain, snow.

Functions paint on an image of twice the final size, so that edges are smooth after it is reduced. All randomness comes
from `seed`; `time` is in seconds, and everything repeats after LOOP.
"""

import math
import random
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from x2i_app.miniature.brush import Colour, mix

LOOP = 4.0  # seconds after which every movement repeats
HORIZON = 0.6  # in image heights

GRADIENTS: dict[str, tuple[Colour, ...]] = {
    "day": ((92, 180, 240), (150, 212, 248), (222, 243, 252)),
    "night": ((24, 28, 84), (48, 54, 124), (98, 100, 172)),
    "sunset": ((124, 92, 170), (240, 136, 138), (255, 214, 150)),
    "rain": ((98, 114, 138), (136, 152, 172), (178, 192, 204)),
    "snowfall": ((150, 164, 202), (184, 196, 224), (222, 229, 242)),
}
# How the sky changes the colours of the ground. Things keep their colours, as these must be recognisable at night too.
LIGHT: dict[str, tuple[float, float, float]] = {
    "day": (1.0, 1.0, 1.0),
    "night": (0.44, 0.5, 0.76),
    "sunset": (1.0, 0.83, 0.76),
    "rain": (0.72, 0.77, 0.82),
    "snowfall": (0.87, 0.9, 0.97),
}
# Exceptions, where one ground would look like another one: sand like street at night.
_LIGHT_ON: dict[tuple[str, str], tuple[float, float, float]] = {
    ("night", "sand"): (0.62, 0.56, 0.62),
    ("night", "snow"): (0.6, 0.66, 0.9),
    ("sunset", "snow"): (0.98, 0.88, 0.95),
    ("rain", "snow"): (0.84, 0.88, 0.92),
}
CLOUDS: dict[str, tuple[Colour, int, int]] = {  # colour, opacity, number
    "day": ((255, 255, 255), 235, 2),
    "night": ((92, 96, 160), 150, 1),
    "sunset": ((255, 196, 178), 200, 2),
    "rain": ((84, 96, 118), 235, 4),
    "snowfall": ((240, 243, 250), 220, 3),
}


def under(sky: str, colour: Colour, ground: str | None = None) -> Colour:
    """A colour of the ground in the light of a sky."""
    light = _LIGHT_ON.get((sky, ground), LIGHT[sky])
    return tuple(round(c * share) for c, share in zip(colour, light, strict=True))


def gradient(colours: tuple[Colour, ...], width: int, height: int) -> Image.Image:
    """A vertical gradient through the colours, from top to bottom."""
    stops = np.linspace(0, 1, len(colours))
    rows = np.linspace(0, 1, height)
    channels = [np.interp(rows, stops, [colour[i] for colour in colours]) for i in range(3)]
    column = np.stack(channels, axis=1).round().astype(np.uint8)[:, None]
    return Image.fromarray(column).resize((width, height), Image.Resampling.NEAREST)


def paint_sky(image: Image.Image, sky: str, seed: int, time: float):
    """Paint sun or moon, stars and clouds on an image that already has the gradient."""
    rng = random.Random(f"sky {seed}")
    # Between the places, so that no thing hides it.
    x = rng.choice((1 / 3, 2 / 3)) + rng.uniform(-0.03, 0.03)
    y = rng.uniform(0.12, 0.17)
    if sky == "night":
        _paint_stars(image, rng, time)
    light = {"day": _sun, "night": _moon, "sunset": _evening_sun}.get(sky)
    if light:
        size = image.height
        glow = light(size)
        y = HORIZON - 0.04 if sky == "sunset" else y
        y += 0.008 * math.sin(2 * math.pi * time / LOOP)
        _paste(image, glow, x, y)
    colour, opacity, count = CLOUDS[sky]
    for index in range(count):
        cloud = _cloud(image.height, colour, opacity, rng.randrange(4))
        x = (index + rng.uniform(0.25, 0.75)) / count
        y = rng.uniform(0.05, 0.2) if sky in ("rain", "snowfall") else rng.uniform(0.08, 0.36)
        drift = 0.035 * math.sin(2 * math.pi * (time / LOOP + rng.random() * 0.25))
        _paste(image, cloud, x + drift, y)


def paint_weather(image: Image.Image, sky: str, seed: int, time: float):
    """Paint rain or snow in front of everything, thin enough to see through."""
    if sky not in ("rain", "snowfall"):
        return
    rng = random.Random(f"weather {seed}")
    size = image.height
    draw = ImageDraw.Draw(image)
    if sky == "rain":
        for _ in range(54):
            x, y, length = rng.uniform(0, 1.1), rng.random(), rng.uniform(0.035, 0.065)
            y = (y + time * rng.choice((3, 4)) / LOOP) % 1.0
            x = (x - 0.25 * y) % 1.1
            draw.line(
                (x * size, y * size, (x - 0.25 * length) * size, (y + length) * size),
                fill=(206, 222, 240),
                width=max(1, round(size / 190)),
            )
        return
    for _ in range(46):
        x, y, r = rng.random(), rng.random(), rng.choice((0.007, 0.009, 0.0125))
        y = (1.05 * (y + time * rng.choice((1, 2)) / LOOP)) % 1.05
        x += 0.015 * math.sin(2 * math.pi * (time / LOOP + rng.random()))
        draw.ellipse(((x - r) * size, (y - r) * size, (x + r) * size, (y + r) * size), fill=(255, 255, 255))


def _paint_stars(image, rng, time):
    size = image.height
    draw = ImageDraw.Draw(image)
    for _ in range(26):
        x, y, r = rng.random() * size, rng.uniform(0.0, 0.52) * size, rng.choice((0.004, 0.005, 0.008)) * size
        shine = 0.55 + 0.45 * math.sin(2 * math.pi * (rng.choice((1, 2)) * time / LOOP + rng.random()))
        colour = mix((70, 76, 146), (255, 248, 214), shine)
        draw.ellipse((x - r, y - r, x + r, y + r), fill=colour)
        if r > 0.007 * size:
            w = max(1, round(size / 256))
            draw.line((x - 2.2 * r, y, x + 2.2 * r, y), fill=colour, width=w)
            draw.line((x, y - 2.2 * r, x, y + 2.2 * r), fill=colour, width=w)


def _disc(size, radius, colour, halo, strength):
    """A shining disc with a soft halo around it, as a sprite of 4.8 radii."""
    half = round(2.4 * radius * size)
    axis = np.arange(-half, half + 1) / (radius * size)
    distance = np.hypot(axis[:, None], axis[None])
    core = np.clip((1 - distance) * radius * size + 0.5, 0, 1)
    soft = strength * np.clip((2.4 - distance) / 1.4, 0, 1) ** 2
    rgba = np.empty((*distance.shape, 4))
    rgba[..., :3] = np.array(halo) + (np.array(colour) - halo) * core[..., None]
    rgba[..., 3] = 255 * np.maximum(core, soft)
    return Image.fromarray(rgba.round().astype(np.uint8))


@lru_cache(maxsize=8)
def _sun(size):
    return _disc(size, 0.07, (255, 222, 92), (255, 240, 170), 0.6)


@lru_cache(maxsize=8)
def _evening_sun(size):
    return _disc(size, 0.1, (255, 238, 170), (255, 220, 150), 0.75)


@lru_cache(maxsize=8)
def _moon(size):
    moon = _disc(size, 0.065, (255, 246, 212), (220, 224, 255), 0.4)
    draw = ImageDraw.Draw(moon)
    centre, unit = moon.width / 2, 0.065 * size
    for x, y, r in ((-0.35, -0.25, 0.2), (0.3, 0.3, 0.26), (0.25, -0.45, 0.13), (-0.3, 0.45, 0.12)):
        box = [centre + unit * v for v in (x - r, y - r, x + r, y + r)]
        draw.ellipse(box, fill=(236, 224, 184, 255))
    return moon


@lru_cache(maxsize=64)
def _cloud(size, colour, opacity, variant):
    rng = random.Random(f"cloud {variant}")
    width, height = round(0.36 * size), round(0.16 * size)
    mask = Image.new("L", (2 * width, 2 * height))
    draw = ImageDraw.Draw(mask)
    puffs = rng.choice((3, 4))
    for index in range(puffs):
        x = 2 * width * (0.22 + 0.56 * index / (puffs - 1))
        r = 2 * height * (rng.uniform(0.3, 0.42) if 0 < index < puffs - 1 else rng.uniform(0.2, 0.26))
        y = 2 * height * 0.8 - r
        draw.ellipse((x - r, y - r, x + r, y + r), fill=255)
    draw.rounded_rectangle(
        (0.2 * width, 2 * height * 0.5, 1.8 * width, 2 * height * 0.8), radius=0.3 * height, fill=255
    )
    mask = mask.filter(ImageFilter.GaussianBlur(0.004 * size)).resize((width, height), Image.Resampling.BOX)
    shade = gradient((colour, colour, mix(colour, (120, 130, 170), 0.22)), width, height).convert("RGBA")
    shade.putalpha(mask.point([v * opacity // 255 for v in range(256)]))
    return shade


def _paste(image, sprite, x, y):
    """Paste a sprite with its centre at (x, y), in image heights."""
    corner = (round(x * image.width - sprite.width / 2), round(y * image.height - sprite.height / 2))
    image.paste(sprite, corner, sprite)
