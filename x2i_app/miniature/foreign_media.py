"""Images and audio that show nothing of the world, to learn to say so: made of noise, shapes, waves and tones.

They stand for photographs, pages, music and speech, of which this project trains on none.
"""

import random

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from x2i_app.miniature.devices import random_view


def foreign_image(size: int, seed: int) -> Image.Image:
    """An RGB image; the same seed gives the same one."""
    rng = random.Random(f"foreign image {seed}")
    image = rng.choice((_clouds, _clouds, _clouds, _shapes, _shapes, _page, _waves, _plain, _mixed))(size, rng)
    return random_view(rng)(image).resize((size, size)) if rng.random() < 0.5 else image


def foreign_audio(seconds: float, rate: int, seed: int) -> np.ndarray:
    """Samples (round(seconds x rate),) in [-1, 1]: noise, tones, pulses, something like speech, or silence."""
    rng = np.random.default_rng(seed)
    count = round(seconds * rate)
    time = np.arange(count) / rate
    kind = rng.integers(5)
    if kind == 0:
        samples = _filtered(rng, count, rate, rng.uniform(50, 3000), rng.uniform(3500, 8000))
    elif kind == 1:  # a melody
        notes = 220 * 2 ** (rng.integers(0, 25, 1 + count // (rate // 4)) / 12)
        pitch = np.repeat(notes, rate // 4)[:count]
        samples = sum(np.sin(2 * np.pi * k * np.cumsum(pitch) / rate) / k for k in range(1, rng.integers(2, 6)))
        samples *= np.exp(-rng.uniform(2, 8) * (time % 0.25))
    elif kind == 2:  # pulses of a voice through moving formants
        pitch = rng.uniform(90, 250) * (1 + 0.15 * np.sin(2 * np.pi * rng.uniform(0.3, 1) * time))
        pulses = np.diff(np.floor(np.cumsum(pitch) / rate), prepend=0)
        samples = sum(np.convolve(pulses, _ring(rate, rng.uniform(300, 3000)), "same") for _ in range(3))
        samples *= np.clip(np.sin(2 * np.pi * rng.uniform(2, 5) * time + rng.uniform(0, 6)), 0, 1)
    elif kind == 3:  # steady tones
        samples = sum(np.sin(2 * np.pi * rng.uniform(60, 4000) * time) for _ in range(rng.integers(1, 5)))
    else:
        samples = 1e-4 * rng.standard_normal(count)
        return samples.astype(np.float32)
    samples = samples / (np.abs(samples).max() + 1e-9) * 10 ** rng.uniform(-1.2, -0.1)
    return samples.astype(np.float32)


def _ring(rate, pitch):
    time = np.arange(round(0.02 * rate)) / rate
    return np.sin(2 * np.pi * pitch * time) * np.exp(-200 * time)


def _filtered(rng, count, rate, low, high):
    spectrum = np.fft.rfft(rng.standard_normal(count))
    frequency = np.fft.rfftfreq(count, 1 / rate)
    spectrum[(frequency < low) | (frequency > high)] = 0
    return np.fft.irfft(spectrum, count)


def _clouds(size, rng):
    """Noise of the spectrum that photographs have, 1 / frequency, mixed into colours."""
    noise = np.random.default_rng(rng.randrange(1 << 30))
    frequency = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None])
    weight = 1 / np.maximum(frequency, 1 / size) ** rng.uniform(0.7, 1.8)
    layers = np.stack([np.fft.irfft2(np.fft.rfft2(noise.standard_normal((size, size))) * weight) for _ in range(3)], -1)
    layers /= layers.std((0, 1)) + 1e-9
    mixed = layers @ (noise.standard_normal((3, 3)) * rng.uniform(0.3, 1) + np.eye(3) * 0.3)
    mixed = mixed + rng.uniform(0, 2) * layers[..., :1]
    values = rng.uniform(0.3, 0.7) + mixed / (mixed.std() + 1e-9) * rng.uniform(0.08, 0.3)
    return Image.fromarray((values.clip(0, 1) * 255).astype(np.uint8))


def _shapes(size, rng):
    """Many overlapping polygons and ellipses."""
    image = _clouds(size, rng) if rng.random() < 0.4 else Image.new("RGB", (size, size), _colour(rng))
    drawer = ImageDraw.Draw(image)
    for _ in range(rng.randint(6, 60)):
        middle, reach = [rng.uniform(0, size) for _ in range(2)], size * rng.uniform(0.03, 0.35)
        points = [tuple(place + rng.uniform(-reach, reach) for place in middle) for _ in range(rng.randint(3, 6))]
        if rng.random() < 0.4:
            (x0, y0), (x1, y1) = points[:2]
            drawer.ellipse((min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1)), _colour(rng))
        else:
            drawer.polygon(points, _colour(rng))
    return image.filter(ImageFilter.GaussianBlur(rng.choice((0, 0, 1, 2, 4)) * size / 128))


def _page(size, rng):
    """Rows of small marks on a light or dark ground, and boxes: a page, a chart, a window."""
    light, dark = rng.choice((((255, 255, 255), (20, 20, 20)), ((30, 30, 34), (220, 220, 220))))
    image = Image.new("RGB", (size, size), light)
    drawer = ImageDraw.Draw(image)
    height = rng.uniform(2, 7) * size / 128
    top = rng.uniform(2, 20)
    while top < size - height:
        left = rng.uniform(2, 20)
        while left < size * rng.uniform(0.6, 1):
            width = height * rng.uniform(0.3, 4)
            drawer.rectangle((left, top, left + width, top + height * rng.uniform(0.4, 1)), dark)
            left += width + height * rng.uniform(0.3, 1)
        top += height * rng.uniform(1.4, 2.5)
    for _ in range(rng.choice((0, 0, 2, 5))):
        x, y = rng.uniform(0, size), rng.uniform(0, size)
        drawer.rectangle((x, y, x + rng.uniform(5, 60), y + rng.uniform(5, 60)), _colour(rng))
    return image


def _waves(size, rng):
    """Stripes, checks and rings."""
    y, x = np.mgrid[:size, :size] / size
    values = np.zeros((size, size, 3))
    for _ in range(rng.randint(1, 3)):
        along = (
            np.hypot(x - rng.random(), y - rng.random())
            if rng.random() < 0.3
            else x * rng.gauss(0, 1) + y * rng.gauss(0, 1)
        )
        wave = np.sin(along * rng.uniform(5, 80) + rng.uniform(0, 6))[..., None]
        values += (np.sign(wave) if rng.random() < 0.4 else wave) * np.array([rng.uniform(-0.4, 0.4) for _ in range(3)])
    return Image.fromarray(((values + 0.5).clip(0, 1) * 255).astype(np.uint8))


def _plain(size, rng):
    """One colour, or a gradient of two."""
    image = Image.new("RGB", (size, size), _colour(rng))
    if rng.random() < 0.7:
        ramp = Image.linear_gradient("L").rotate(rng.choice((0, 90, 180, 270))).resize((size, size))
        image.paste(Image.new("RGB", (size, size), _colour(rng)), mask=ramp)
    return image


def _mixed(size, rng):
    """Halves of two others."""
    first, second = (rng.choice((_clouds, _shapes, _waves, _plain))(size, rng) for _ in range(2))
    first.paste(second.crop((0, 0, size, round(size * rng.uniform(0.2, 0.8)))), (0, 0))
    return first


def _colour(rng):
    return tuple(rng.randrange(256) for _ in range(3))
