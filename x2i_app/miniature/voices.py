"""The sounds of the cartoon world, one function each, synthesised with numpy.

An ambience (of a sky or a ground) has `count` samples and is scaled later. A voice (of a thing) is one short event with
its own length and peak 1. Frequencies are in Hz and below 7.5 kHz, so that audio of 16 kHz contains them all.
"""

import numpy as np


def noise(rng: np.random.Generator, count: int, rate: int, low: float, high: float) -> np.ndarray:
    """Noise between two frequencies, of standard deviation 1."""
    spectrum = np.fft.rfft(rng.standard_normal(count))
    frequency = np.fft.rfftfreq(count, 1 / rate)
    # Smooth slopes, as steep filters ring.
    spectrum *= 1 / (1 + (low / np.maximum(frequency, 1e-3)) ** 6) / (1 + (frequency / high) ** 6)
    signal = np.fft.irfft(spectrum, count)
    return signal / (signal.std() + 1e-9)


def tone(frequency: np.ndarray, rate: int, harmonics: tuple[float, ...] = (1.0,)) -> np.ndarray:
    """A tone of a changing frequency (one value a sample) with harmonics of the given strengths."""
    phase = 2 * np.pi * np.cumsum(frequency) / rate
    return sum(strength * np.sin((index + 1) * phase) for index, strength in enumerate(harmonics))


def times(seconds: float, rate: int) -> np.ndarray:
    """The time of every sample, in seconds."""
    return np.arange(max(2, round(seconds * rate))) / rate


def fade(t: np.ndarray, attack: float = 0.02, release: float = 0.05) -> np.ndarray:
    """An envelope: it rises in the first `attack` seconds and falls in the last `release` seconds."""
    return np.minimum(1, t / attack) * np.minimum(1, np.maximum(0, t[-1] - t) / release)


def add(target: np.ndarray, clip: np.ndarray, start: int):
    """Mix a clip into `target` from sample `start` on; what does not fit is cut off."""
    start = max(0, start)
    end = min(len(target), start + len(clip))
    if end > start:
        target[start:end] += clip[: end - start]


def _scatter(rng, count, rate, every, clip, regular=0.5):
    """Clips about `every` seconds apart; `regular` 1 keeps the beat exactly."""
    out = np.zeros(count)
    start = rng.uniform(0, 0.3 * every)
    while start * rate < count:
        add(out, clip(start), round(start * rate))
        start += every * (1 + (1 - regular) * rng.uniform(-0.7, 0.7))
    return out


def birds(rng, count, rate):
    def song(_):
        out = np.zeros(round(0.7 * rate))
        pitch = rng.uniform(2400, 3600)
        for index in range(rng.integers(3, 6)):
            t = times(rng.uniform(0.07, 0.12), rate)
            bend = pitch * (1 + 0.35 * np.sin(np.pi * t / t[-1] * rng.choice((1, 2))))
            add(out, tone(bend, rate) * fade(t, 0.015, 0.03), round(index * 0.13 * rate))
        return out * rng.uniform(0.5, 1.0)

    return _scatter(rng, count, rate, 0.8, song)


def crickets(rng, count, rate):
    out = np.zeros(count)
    for pitch, strength in ((rng.uniform(4100, 4500), 1.0), (rng.uniform(4700, 5100), 0.45)):
        t = times(0.02, rate)
        pulse = tone(np.full(len(t), pitch), rate) * np.sin(np.pi * t / t[-1]) * strength

        def chirp(_, pulse=pulse):
            burst = np.zeros(round(0.16 * rate))
            for index in range(4):
                add(burst, pulse, round(index * 0.036 * rate))
            return burst

        out += _scatter(rng, count, rate, 0.42, chirp, 0.95)
    return out


def evening_tune(rng, count, rate):
    scale = np.array((196.0, 220.0, 246.9, 293.7, 329.6, 392.0)) * rng.uniform(0.96, 1.04)
    place = [int(rng.integers(2, 6))]

    def note(_):
        place[0] = int(np.clip(place[0] + rng.choice((-2, -1, -1, 1)), 0, 5)) if place[0] else 5
        t = times(1.1, rate)
        return tone(np.full(len(t), scale[place[0]]), rate, (1.0, 0.35, 0.12)) * np.exp(-3.2 * t) * fade(t, 0.01)

    return _scatter(rng, count, rate, 0.5, note, 1.0)


def rain(rng, count, rate):
    out = 0.5 * noise(rng, count, rate, 1200, 6500)

    def drop(_):
        t = times(0.03, rate)
        return rng.uniform(0.8, 3) * tone(np.full(len(t), rng.uniform(1200, 3200)), rate) * np.exp(-160 * t)

    return out + _scatter(rng, count, rate, 0.035, drop, 0)


def sleigh_bells(rng, count, rate):
    def jingle(start):
        t = times(0.2, rate)
        accent = 1.0 if round(start / 0.22) % 2 == 0 else 0.55
        partials = sum(np.sin(2 * np.pi * f * rng.uniform(0.99, 1.01) * t) for f in (5150, 5900, 6500, 7100))
        return accent * partials * np.exp(-22 * t)

    return _scatter(rng, count, rate, 0.22, jingle, 1.0)


def meadow(rng, count, rate):
    t = np.arange(count) / rate
    swish = np.maximum(0, np.sin(2 * np.pi * (0.7 * t + rng.random()))) ** 3
    rustle = noise(rng, count, rate, 1400, 4200) * (0.12 + 0.6 * swish)
    weave = rng.random()
    buzz = tone(225 * (1 + 0.05 * np.sin(2 * np.pi * (0.6 * t + weave))), rate, (1.0, 0.7, 0.5, 0.3, 0.2))
    return rustle + 0.55 * buzz * (0.35 + 0.65 * np.sin(np.pi * (0.5 * t + weave)) ** 2)


def wind(rng, count, rate):
    t = np.arange(count) / rate
    pitch = 520 * 2 ** (0.5 * np.sin(2 * np.pi * (0.3 * t + rng.random())) + 0.2 * np.sin(2 * np.pi * 0.8 * t))
    howl = tone(pitch, rate) * (1 + 0.5 * noise(rng, count, rate, 2, 40))
    return howl * (0.65 + 0.35 * np.sin(2 * np.pi * (0.3 * t + rng.random()))) + 0.3 * noise(rng, count, rate, 250, 900)


def shifting_sand(rng, count, rate):
    def scrape(_):
        t = times(0.2, rate)
        return noise(rng, len(t), rate, 3200, 6800) * np.sin(np.pi * t / t[-1]) ** 2

    return _scatter(rng, count, rate, 0.36, scrape, 0.97) + 0.03 * noise(rng, count, rate, 3200, 6800)


def waves(rng, count, rate):
    t = np.arange(count) / rate
    swell = (0.5 + 0.5 * np.sin(2 * np.pi * (0.42 * t + rng.random()))) ** 2
    return (
        noise(rng, count, rate, 120, 700) * (0.25 + 0.75 * swell) + 0.6 * noise(rng, count, rate, 500, 2400) * swell**2
    )


def traffic(rng, count, rate):
    t = np.arange(count) / rate
    hum = tone(np.full(count, rng.uniform(66, 74)), rate, (0.5, 1.0, 0.6, 0.3))
    passing = np.exp(-(((t - rng.uniform(0.25, 0.75) * count / rate) / 0.5) ** 2))
    return 0.8 * hum + 0.4 * noise(rng, count, rate, 70, 260) + 1.2 * passing * noise(rng, count, rate, 200, 800)


def door_bell(rng, rate):
    out = np.zeros(round(1.3 * rate))
    key = rng.uniform(0.96, 1.04)
    for start, pitch in ((0.0, 784.0), (0.45, 622.3)):
        t = times(0.85, rate)
        bell = tone(np.full(len(t), pitch * key), rate, (1.0, 0.0, 0.35, 0.12)) * np.exp(-4 * t) * fade(t, 0.004)
        add(out, bell, round(start * rate))
    return out


def woodpecker(rng, rate):
    out = np.zeros(round(0.9 * rate))
    pitch = rng.uniform(950, 1200)
    for index in range(9):
        t = times(0.05, rate)
        knock = np.sin(2 * np.pi * pitch * t) + 0.5 * np.sin(2 * np.pi * 2.3 * pitch * t)
        add(out, knock * np.exp(-90 * t), round(index * 0.07 * rate))
    return out


def engine(rng, rate):
    t = times(1.1, rate)
    idle = rng.uniform(0.92, 1.08)
    turn = 82 * idle * (1 + 0.5 * np.sin(np.pi * t / t[-1]) ** 2)
    putter = 0.6 + 0.4 * np.sign(np.sin(2 * np.pi * np.cumsum(turn / 5) / rate))
    motor = tone(turn, rate, (0.9, 0.7, 0.8, 0.5, 0.4, 0.3, 0.2)) * putter * fade(t, 0.05, 0.15)
    for start in (0.25, 0.5):
        beep = times(0.17, rate)
        horn = tone(np.full(len(beep), 440 * idle), rate, (1, 0.6, 0.5, 0.3)) + tone(
            np.full(len(beep), 554 * idle), rate, (1, 0.6, 0.5, 0.3)
        )
        add(motor, 1.1 * horn * fade(beep, 0.01, 0.03), round(start * rate))
    return motor


def ship_horn(rng, rate):
    t = times(1.25, rate)
    pitch = 147 * rng.uniform(0.95, 1.05) * (1 - 0.05 * np.exp(-12 * t))
    low = tone(pitch, rate, (1.0, 0.8, 0.7, 0.5, 0.35, 0.2, 0.1))
    return (low + 0.6 * tone(1.26 * pitch, rate, (1.0, 0.6, 0.4, 0.2))) * fade(t, 0.08, 0.2)


def meow(rng, rate):
    t = times(0.75, rate)
    u = t / t[-1]
    pitch = 620 * rng.uniform(0.9, 1.12) * (0.78 + 0.42 * np.sin(np.pi * u**0.7) - 0.12 * u)
    phase = 2 * np.pi * np.cumsum(pitch) / rate
    # The mouth opens and closes: a formant that rises from "m" over "ia" to "ow".
    formant = 700 + 1500 * np.sin(np.pi * np.minimum(1, 1.15 * u)) ** 1.5
    voice = sum(np.exp(-(((k * pitch - formant) / 700) ** 2)) * np.sin(k * phase) for k in range(1, 7))
    return (voice + 0.3 * np.sin(phase)) * np.sin(np.pi * u) ** 0.6


def bubbles(rng, rate):
    out = np.zeros(round(0.95 * rate))
    for index in range(5):
        t = times(0.11, rate)
        rise = rng.uniform(300, 480) * 2 ** (1.6 * t / t[-1])
        add(out, tone(rise, rate, (1.0, 0.15)) * np.sin(np.pi * t / t[-1]) ** 0.7, round((index * 0.17) * rate))
    return out


def glitter(rng, rate):
    out = np.zeros(round(1.1 * rate))
    key = rng.uniform(0.97, 1.03)
    for index, pitch in enumerate((1568, 1760, 2093, 2349, 2637, 3136, 3520, 4186)):
        t = times(0.4, rate)
        bell = np.sin(2 * np.pi * pitch * key * t) + 0.3 * np.sin(2 * np.pi * 1.5 * pitch * key * t)
        add(out, bell * np.exp(-9 * t) * fade(t, 0.004), round(index * 0.075 * rate))
    return out


def bounces(rng, rate):
    out = np.zeros(round(1.1 * rate))
    start, gap, strength = 0.0, 0.34, 1.0
    key = rng.uniform(0.92, 1.08)
    for _ in range(5):
        t = times(0.16, rate)
        thud = tone(key * (130 + 330 * np.exp(-26 * t)), rate, (1.0, 0.4)) * np.exp(-17 * t) * fade(t, 0.003)
        add(out, strength * thud, round(start * rate))
        start, gap, strength = start + gap, gap * 0.72, strength * 0.8
    return out


def roar(rng, rate):
    t = times(1.3, rate)
    u = t / t[-1]
    rumble = noise(rng, len(t), rate, 40, 420) * (1 + 0.4 * np.sin(2 * np.pi * 17 * t))
    hiss = 0.5 * noise(rng, len(t), rate, 1500, 5500) * u
    whistle = 0.9 * tone(400 + 1400 * u**2, rate, (1.0, 0.3)) * u
    return (rumble + hiss + whistle) * fade(t, 0.15, 0.2)


AMBIENCES = {
    "day": birds,
    "night": crickets,
    "sunset": evening_tune,
    "rain": rain,
    "snowfall": sleigh_bells,
    "grass": meadow,
    "snow": wind,
    "sand": shifting_sand,
    "sea": waves,
    "street": traffic,
}
VOICES = {
    "house": door_bell,
    "tree": woodpecker,
    "car": engine,
    "boat": ship_horn,
    "cat": meow,
    "fish": bubbles,
    "star": glitter,
    "ball": bounces,
    "rocket": roar,
}
