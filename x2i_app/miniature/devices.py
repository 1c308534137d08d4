"""Images, videos and audio as devices deliver them: cropped, padded, tilted, dark, noisy, quiet, cut off.

view = random_view(rng)          # one way to change an image, the same one for all frames of a video
image = view(image)
samples = random_recording(samples, 16_000, rng)
"""

import io
import random
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageEnhance, ImageFilter, ImageOps

View = Callable[[Image.Image], Image.Image]


def random_view(rng: random.Random) -> View:
    """One to three of the changes below, in the order in which they happen between a scene and a file; or, at times,

    all that happens to a print that is photographed.
    """
    if rng.random() < 0.15:
        return _all([_framed(rng), _turned(rng), _lit(rng), _coloured(rng), _softened(rng), _grainy(rng)])
    chosen = set(rng.choices(range(len(_CHANGES)), _WEIGHTS, k=rng.choice((1, 1, 2, 3))))
    return _all([_CHANGES[index](rng) for index in sorted(chosen)])


def _all(views: list[View]) -> View:
    def view(image: Image.Image) -> Image.Image:
        for each in views:
            image = each(image)
        return image

    return view


def cropped(left: float, top: float, right: float, bottom: float) -> View:
    """Without these shares of the width and height at its edges; the rest has the old size."""

    def view(image: Image.Image) -> Image.Image:
        width, height = image.size
        box = (left * width, top * height, width - right * width, height - bottom * height)
        return image.resize(image.size, Image.Resampling.BILINEAR, box=box)

    return view


def padded(ratio: float, fill: tuple[int, int, int] | None) -> View:
    """With bars at two sides, to this ratio of width to height. fill: their colour; None: the image itself, blurred."""

    def view(image: Image.Image) -> Image.Image:
        side = image.width
        size = (round(side * ratio), side) if ratio > 1 else (side, round(side / ratio))
        if fill is not None:
            return ImageOps.pad(image, size, Image.Resampling.BILINEAR, color=fill)
        back = ImageOps.fit(image, size).filter(ImageFilter.GaussianBlur(side / 16))
        back.paste(image, ((size[0] - image.width) // 2, (size[1] - image.height) // 2))
        return back

    return view


def brightened(factor: float) -> View:
    """With all values times a factor."""
    return lambda image: ImageEnhance.Brightness(image).enhance(factor)


def _cropped(rng):
    most = rng.choice((0.06, 0.1, 0.14))
    if rng.random() < 0.3:
        share = rng.uniform(0, most)
        return cropped(share, share, share, share)
    return cropped(*(rng.uniform(0, most) for _ in range(4)))


def _padded(rng):
    ratio = rng.choice((16 / 9, 4 / 3, 3 / 2, 9 / 16, 3 / 4, rng.uniform(0.5, 2)))
    kind = rng.random()
    if kind < 0.5:
        fill = (0, 0, 0)
    elif kind < 0.75:
        fill = rng.choice(((255, 255, 255), (128, 128, 128), (240, 240, 240)))
    else:
        fill = None if kind < 0.87 else tuple(rng.randrange(256) for _ in range(3))
    return padded(ratio, fill)


def _framed(rng):
    """Smaller, somewhere on a larger plain or shaded ground, as a print on a table or an image in a page."""
    width, height = rng.uniform(0.6, 0.95), rng.uniform(0.6, 0.95)
    at = rng.random(), rng.random()
    first, last = ([rng.randrange(256) for _ in range(3)] for _ in range(2))
    is_shaded, edge = rng.random() < 0.5, rng.choice((0, 0, 2, 4))
    shade = rng.choice(((255, 255, 255), (0, 0, 0), (120, 80, 40)))

    def view(image: Image.Image) -> Image.Image:
        size = image.size
        ground = Image.new("RGB", size, tuple(first))
        if is_shaded:
            ground.paste(Image.new("RGB", size, tuple(last)), mask=Image.linear_gradient("L").resize(size))
        inner = image.resize((round(size[0] * width), round(size[1] * height)), Image.Resampling.BILINEAR)
        inner = ImageOps.expand(inner, edge, shade)
        ground.paste(
            inner, tuple(round(share * (all_ - own)) for share, all_, own in zip(at, size, inner.size, strict=True))
        )
        return ground

    return view


def _turned(rng):
    """Tilted by up to 8 degrees and seen a little from the side; what was not in the image is one colour."""
    angle, shift = np.deg2rad(rng.uniform(-8, 8)), rng.choice((0.0, 0.05, 0.08))
    scale = rng.uniform(0.85, 1.0)
    corners = np.array([(0, 0), (1, 0), (1, 1), (0, 1)], float) - 0.5
    turn = np.array([(np.cos(angle), -np.sin(angle)), (np.sin(angle), np.cos(angle))])
    found = corners @ turn.T / scale + 0.5 + [[rng.uniform(-shift, shift) for _ in range(2)] for _ in range(4)]
    fill = rng.choice(((0, 0, 0), (255, 255, 255), tuple(rng.randrange(256) for _ in range(3))))

    def view(image: Image.Image) -> Image.Image:
        size = np.array(image.size)
        coefficients = _perspective((corners + 0.5) * size, found * size)
        return image.transform(
            image.size, Image.Transform.PERSPECTIVE, coefficients, Image.Resampling.BILINEAR, fillcolor=fill
        )

    return view


def _perspective(target, source):
    """Pillow's eight coefficients of the map from four target points to four source points."""
    rows = []
    for (x, y), (u, v) in zip(target, source, strict=True):
        rows += [(x, y, 1, 0, 0, 0, -u * x, -u * y), (0, 0, 0, x, y, 1, -v * x, -v * y)]
    return np.linalg.solve(np.array(rows, float), np.asarray(source, float).reshape(-1)).tolist()


def _lit(rng):
    """Darker or brighter, perhaps more on one side than on the other."""
    factor = rng.choice((rng.uniform(0.5, 0.95), rng.uniform(0.6, 0.9), rng.uniform(1.02, 1.2)))
    contrast, gamma = rng.uniform(0.75, 1.2), rng.choice((1.0, rng.uniform(0.75, 1.35)))
    slope = rng.choice((0.0, 0.0, rng.uniform(-0.3, 0.3)))
    direction = rng.randrange(2)

    def view(image: Image.Image) -> Image.Image:
        values = np.asarray(image, np.float32) / 255
        ramp = 1 + slope * np.linspace(-1, 1, values.shape[direction])
        ramp = ramp[:, None, None] if direction == 0 else ramp[None, :, None]
        values = ((values**gamma - 0.5) * contrast + 0.5) * factor * ramp
        return _image(values)

    return view


def _coloured(rng):
    """With another white balance and saturation."""
    gains = np.array([rng.uniform(0.82, 1.18) for _ in range(3)], np.float32)
    saturation = rng.uniform(0.6, 1.3)

    def view(image: Image.Image) -> Image.Image:
        image = ImageEnhance.Color(image).enhance(saturation)
        return _image(np.asarray(image, np.float32) / 255 * gains)

    return view


def _softened(rng):
    """Blurred, or scaled down and up again, and compressed."""
    radius, share = rng.choice((0.0, rng.uniform(0.3, 1.4))), rng.choice((1.0, rng.uniform(0.35, 0.9)))
    quality = rng.choice((None, rng.randint(15, 90)))

    def view(image: Image.Image) -> Image.Image:
        size = image.size
        image = image.filter(ImageFilter.GaussianBlur(radius * size[0] / 128)) if radius else image
        if share < 1:
            image = image.resize((max(8, round(size[0] * share)), max(8, round(size[1] * share)))).resize(size)
        if quality is None:
            return image
        with io.BytesIO() as file:
            image.save(file, "JPEG", quality=quality)
            return Image.open(file).convert("RGB")

    return view


def _grainy(rng):
    """With a sensor's noise."""
    strength, seed = rng.uniform(0.01, 0.08), rng.randrange(1 << 30)

    def view(image: Image.Image) -> Image.Image:
        values = np.asarray(image, np.float32) / 255
        noise = np.random.default_rng(seed).standard_normal(values.shape, np.float32)
        return _image(values + strength * noise)

    return view


def _image(values):
    return Image.fromarray((values.clip(0, 1) * 255 + 0.5).astype(np.uint8))


# In the order in which they happen.
_CHANGES = (_framed, _turned, _lit, _coloured, _cropped, _padded, _softened, _grainy)
_WEIGHTS = (0.7, 1.2, 2, 1, 2.2, 2, 1, 0.6)


def random_recording(samples: np.ndarray, rate: int, rng: random.Random) -> np.ndarray:
    """Samples (N,) in [-1, 1] as a microphone, a room or a phone gives them: louder or quieter, with noise, an echo,

    without high tones, begun late or cut. The result may have another length, at least a second.
    """
    if rng.random() < 0.3:
        samples = _echoing(samples, rate, rng)
    if rng.random() < 0.25:
        samples = without_high(samples, rate, rng.uniform(2500, 7000))
    if rng.random() < 0.5:
        samples = louder(samples, rng.uniform(-24, 3))
    if rng.random() < 0.3:
        start = round(rng.uniform(0, 0.4) * len(samples))
        samples = samples[start : max(start + rate, round(rng.uniform(0.6, 1) * len(samples)))]
    if rng.random() < 0.35:
        before, behind = round(rng.uniform(0, 1.6) * rate), rng.choice((0, round(rng.uniform(0, 1) * rate)))
        samples = np.pad(samples, (before, behind))
    if rng.random() < 0.5:
        samples = with_noise(samples, rng.uniform(-45, -20), rng.choice((0.0, 0.0, 1.0, 2.0)), rng.randrange(1 << 30))
    return samples.astype(np.float32)


def louder(samples: np.ndarray, decibels: float) -> np.ndarray:
    """The samples times a factor, clipped."""
    return (samples * 10 ** (decibels / 20)).clip(-1, 1)


def with_noise(samples: np.ndarray, decibels: float, slope: float, seed: int) -> np.ndarray:
    """With noise of this level, relative to a sine of full scale. slope: 0 white, 1 pink, 2 brown."""
    size = _power_of_two(len(samples))
    noise = np.fft.rfft(np.random.default_rng(seed).standard_normal(size))
    noise = np.fft.irfft(noise / np.maximum(1, np.arange(len(noise))) ** (slope / 2), size)[: len(samples)]
    return (samples + noise / (noise.std() + 1e-12) * 10 ** (decibels / 20)).clip(-1, 1)


def without_high(samples: np.ndarray, rate: int, limit: float) -> np.ndarray:
    """Without frequencies above a limit in Hz, as a telephone or a strong codec leaves it."""
    size = _power_of_two(len(samples))
    spectrum = np.fft.rfft(samples, size)
    spectrum[round(limit * size / rate) :] = 0
    return np.fft.irfft(spectrum, size)[: len(samples)]


def _echoing(samples, rate, rng):
    """In a room: with a tail that dies away within 0.1 to 0.5 s."""
    length = round(rng.uniform(0.1, 0.5) * rate)
    noise = np.random.default_rng(rng.randrange(1 << 30)).standard_normal(length)
    tail = noise * np.exp(-5 * np.arange(length) / length)
    tail *= rng.uniform(0.2, 0.7) / np.sqrt((tail**2).sum())
    tail[0] = 1.0
    size = _power_of_two(len(samples) + length)
    wet = np.fft.irfft(np.fft.rfft(samples, size) * np.fft.rfft(tail, size), size)[: len(samples)]
    return wet.clip(-1, 1)


def _power_of_two(count):
    """The next one, for which Fourier transforms are fast."""
    return 1 << (count - 1).bit_length()
