"""Typed text as a picture, as if somebody had photographed a screen or pasted a screenshot.

The only font is the scalable one inside Pillow, so that nothing needs installing. It has the ASCII letters; accents of
Western European letters, ß and œ are drawn here. That covers English, German and French (and most of Spanish, Italian,
Portuguese); Chinese, Japanese and Vietnamese are refused.
"""

import random
import re
import unicodedata
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from x2i_app.errors import InvalidRequestError
from x2i_app.miniature.brush import Colour, curve, mix

SCREENSHOT_LANGUAGES = ("en", "de", "fr")

_OVERSAMPLING = 3
_PAPERS: tuple[tuple[Colour, Colour], ...] = (  # paper, ink
    ((255, 255, 255), (28, 28, 32)),
    ((250, 243, 224), (70, 46, 30)),
    ((232, 242, 252), (24, 44, 84)),
    ((240, 240, 242), (52, 54, 60)),
    ((226, 244, 230), (22, 66, 44)),
    ((252, 232, 238), (96, 28, 58)),
    ((255, 249, 190), (60, 54, 20)),
    ((34, 36, 46), (238, 238, 244)),
    ((24, 52, 74), (230, 240, 250)),
)
_STYLES = ("plain", "plain", "window", "note", "bubble")
_REPLACEMENTS = str.maketrans({"–": "-", "—": "-", "\u00a0": " ", "\u202f": " ", "œ": "oe", "Œ": "OE", "æ": "ae"})
_MARKS = {"\u0300": "grave", "\u0301": "acute", "\u0302": "circumflex", "\u0303": "tilde", "\u0308": "diaeresis"} | {
    "\u0327": "cedilla"
}


def screenshot(text: str, size: int = 256, seed: int = 0) -> Image.Image:
    """The text, wrapped, as a square RGB picture of `size` pixels (128 to 1024).

    seed: picks paper, ink, frame, margin and size of the letters. The same arguments give the same pixels.
    Raises InvalidRequestError for letters that the font cannot draw, and for text too long to be read at that size.
    """
    return typeset(text, size, seed)[0].copy()


@lru_cache(maxsize=256)  # one is asked for its letters and its picture
def typeset(text: str, size: int, seed: int) -> tuple[Image.Image, list[tuple[str, float, float]]]:
    """A screenshot, and its letters, each with the middle of its body (x, y) in pixels from the top left."""
    if not 128 <= size <= 1024:
        raise InvalidRequestError(f"size is {size}; it must be 128 to 1024 pixels.")
    text = unicodedata.normalize("NFC", text.translate(_REPLACEMENTS))
    check_covered(text)
    rng = random.Random(f"screenshot {seed}")
    paper, ink = rng.choice(_PAPERS)
    full = size * _OVERSAMPLING
    picture = Image.new("RGB", (full, full), paper)
    draw = ImageDraw.Draw(picture)
    left, top, right, bottom = _frame(draw, full, paper, ink, rng)
    font, lines = _fit(text, right - left, bottom - top, full, rng.uniform(0.8, 1.0))
    step = round(font.size * 1.3)
    spare = bottom - top - step * len(lines)
    y = top + round(spare * rng.choice((0.0, 0.35, 0.5)))
    centred = rng.random() < 0.3
    letters = []
    for line in lines:
        x = left + (right - left - _length(line, font)) / 2 if centred else left
        letters += _write(picture, x, y, line, font, ink)
        y += step
    placed = [(letter, x / _OVERSAMPLING, y / _OVERSAMPLING) for letter, x, y in letters]
    return picture.reduce(_OVERSAMPLING), placed


def check_covered(text: str) -> None:
    """InvalidRequestError if a letter of the text (NFC) cannot be drawn."""
    missing = sorted({letter for letter in text if not letter.isspace() and not _covered(letter)})
    if missing:
        shown = " ".join(missing[:12])
        raise InvalidRequestError(
            f"A screenshot cannot show {shown}; its font covers {', '.join(SCREENSHOT_LANGUAGES)} (Latin letters)."
        )
    if not text.strip():
        raise InvalidRequestError("A screenshot of no text was asked for; it needs at least one letter.")


def _frame(draw, full, paper, ink, rng):
    """Paint the surroundings and return the box for the text: left, top, right, bottom."""
    style = rng.choice(_STYLES)
    margin = rng.uniform(0.05, 0.09) * full
    top = margin
    faint = mix(paper, ink, 0.12)
    if style == "window":
        bar = 0.09 * full
        draw.rectangle((0, 0, full, bar), fill=mix(paper, ink, 0.16))
        for index, colour in enumerate(((255, 96, 88), (255, 190, 46), (40, 200, 64))):
            x, r = (0.05 + 0.055 * index) * full, 0.018 * full
            draw.ellipse((x - r, bar / 2 - r, x + r, bar / 2 + r), fill=colour)
        top = bar + margin * 0.7
    elif style == "note":
        draw.line((0.035 * full, 0, 0.035 * full, full), fill=mix(paper, (220, 70, 70), 0.6), width=full // 200)
        margin = max(margin, 0.07 * full)
    elif style == "bubble":
        inset = 0.03 * full
        draw.rounded_rectangle((inset, inset, full - inset, full - inset), radius=0.07 * full, fill=faint)
        margin = max(margin, 0.085 * full)
        top = margin
    return margin, top, full - margin, full - margin


def _fit(text, width, height, full, share):
    """A font and the wrapped lines: the largest letters that fit, times `share`, but no smaller than can be read."""
    smallest, largest = round(0.042 * full), round(0.115 * full)
    for points in range(largest, smallest - 1, -max(1, full // 256)):
        lines = _wrap(text, _font(points), width)
        if lines is not None and len(lines) * round(points * 1.3) <= height:
            chosen = _font(max(smallest, round(points * share)))
            return chosen, _wrap(text, chosen, width)
    raise InvalidRequestError(
        f"The text has {len(text)} letters; a screenshot of this size cannot hold them, shorten it."
    )


def _wrap(text, font, width):
    """Lines no longer than `width`, or None if a word alone is longer."""
    lines = []
    for paragraph in text.split("\n"):
        line = ""
        # A French colon stands alone, but never at the beginning of a line.
        for word in re.findall(r"\S+(?: [:;!?»])?", paragraph):
            longer = f"{line} {word}" if line else word
            if line and _length(longer, font) > width:
                lines.append(line)
                line = word
            else:
                line = longer
            if _length(line, font) > width:
                return None
        lines.append(line)
    return lines


@lru_cache(maxsize=64)
def _font(points):
    return ImageFont.load_default(points)


@lru_cache(maxsize=4096)
def _in_font(letter):
    font = _font(24)
    # A missing glyph is drawn as the same box as a code point that is no character.
    return bytes(font.getmask(letter)) != bytes(font.getmask("\uffff")) or letter == " "


def _parts(letter):
    """A letter as its base letter and the name of its mark; (letter, None) without one."""
    decomposed = unicodedata.normalize("NFD", letter)
    if len(decomposed) == 2 and decomposed[1] in _MARKS:
        return decomposed[0], _MARKS[decomposed[1]]
    return letter, None


def _covered(letter):
    return letter == "ß" or _in_font(letter) or (_parts(letter)[1] is not None and _in_font(_parts(letter)[0]))


@lru_cache(maxsize=65536)
def _advance(letter, points):
    font = _font(points)
    if letter == "ß":
        return 0.54 * points
    return font.getlength(letter if _in_font(letter) else _parts(letter)[0])


def _length(line, font):
    return sum(_advance(letter, font.size) for letter in line)


def _write(picture, x, y, line, font, ink):
    draw = ImageDraw.Draw(picture)
    ascent = font.getmetrics()[0]
    written = []
    for letter in line:
        written.append((letter, x + _advance(letter, font.size) / 2, y + ascent - 0.25 * font.size))
        if letter == "ß":
            _write_eszett(draw, x, y + ascent, font.size, ink)
        elif _in_font(letter):
            draw.text((x, y), letter, font=font, fill=ink)
        else:
            base, mark = _parts(letter)
            draw.text((x, y), base, font=font, fill=ink)
            _write_mark(picture, x, y + ascent, base, mark, font, ink)
        x += _advance(letter, font.size)
    return written


def _write_mark(picture, x, baseline, base, mark, font, ink):
    """An accent over (or a cedilla under) a letter, in strokes of the font's weight."""
    draw = ImageDraw.Draw(picture)
    em = font.size
    left, top, right, _ = font.getbbox(base, anchor="ls")
    middle = x + (left + right) / 2
    if base in "ij":
        # Its own dot gives way: paint over it with the paper, from the x-height up.
        top = font.getbbox("x", anchor="ls")[1]
        paper = picture.getpixel((round(middle), max(0, round(baseline - 1.05 * em))))
        draw.rectangle((x + left - 1, baseline - em, x + right + 1, baseline + top - 0.04 * em), fill=paper)
    low, high = baseline + top - 0.075 * em, baseline + top - 0.215 * em
    if mark == "diaeresis":
        r, centre = 0.052 * em, (low + high) / 2
        for side in (-0.12, 0.12):
            cx = middle + side * em
            draw.ellipse((cx - r, centre - r, cx + r, centre + r), fill=ink)
        return
    points = {
        "acute": [(-0.05, low), (0.09, high)],
        "grave": [(0.05, low), (-0.09, high)],
        "circumflex": [(-0.14, low), (0.0, high), (0.14, low)],
        "tilde": [(-0.15, low), (-0.06, high), (0.06, low), (0.15, high)],
        "cedilla": [(0.0, baseline), (0.06, baseline + 0.1 * em), (-0.06, baseline + 0.18 * em)],
    }[mark]
    draw.line([(middle + dx * em, y) for dx, y in points], fill=ink, width=round(0.07 * em), joint="curve")


def _write_eszett(draw, x, baseline, em, ink):
    path = curve(
        (0.09, 0.0),
        (0.09, 0.3),
        (0.09, 0.54),
        (0.16, 0.68),
        (0.28, 0.705),
        (0.39, 0.64),
        (0.4, 0.53),
        (0.31, 0.43),
        (0.27, 0.37),
        (0.35, 0.29),
        (0.46, 0.21),
        (0.45, 0.07),
        (0.34, 0.015),
        (0.22, 0.03),
        closed=False,
    )
    points = np.stack([x + path[:, 0] * em, baseline - path[:, 1] * em], axis=1)
    draw.line([tuple(point) for point in points.tolist()], fill=ink, width=round(0.085 * em), joint="curve")
