"""Typed text as an image: the screen of a small computer, eight rows of sixteen letters.

The font is the bitmap font inside Pillow (Courier, Latin-1), so that nothing must be installed. The cell of a letter is
as wide as a patch of the miniature's vision encoder and twice as high: so small an encoder learns to read only letters
at fixed places.
"""

import random
import re
import unicodedata
from functools import lru_cache

from PIL import Image, ImageDraw, ImageFont

from x2i_app.errors import InvalidRequestError
from x2i_app.miniature.brush import Colour

SCREENSHOT_LANGUAGES = ("en", "de", "fr")
COLUMNS, ROWS = 16, 8

_SIDE = 128  # pixels: width and height of the screen, with cells of 8 x 16
_CELL = (_SIDE // COLUMNS, _SIDE // ROWS)
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
    ((16, 20, 16), (120, 240, 140)),
)
_REPLACEMENTS = str.maketrans({"–": "-", "—": "-", "’": "'", "œ": "oe", "Œ": "OE"})


def screenshot(text: str, size: int = 256, seed: int = 0) -> Image.Image:
    """The text, wrapped between words, as a square RGB image of `size` pixels (128 to 1024).

    seed: selects the colours and the position of the text. The same arguments give the same pixels.
    Raises InvalidRequestError for letters outside Latin-1, and for text that does not fit.
    """
    if not _SIDE <= size <= 1024:
        raise InvalidRequestError(f"size is {size}; it must be {_SIDE} to 1024 pixels.")
    paper, ink = _PAPERS[_random(seed).randrange(len(_PAPERS))]
    image = Image.new("RGB", (_SIDE, _SIDE), paper)
    draw = ImageDraw.Draw(image)
    for letter, column, row in typeset(text, seed):
        draw.text((column * _CELL[0] + 1, row * _CELL[1] + 2), letter, font=_font(), fill=ink)
    return image.resize((size, size), Image.Resampling.NEAREST if size % _SIDE == 0 else Image.Resampling.BICUBIC)


def typeset(text: str, seed: int) -> list[tuple[str, int, int]]:
    """The letters of a screenshot, with the spaces within a row, in reading order: letter, column, row."""
    rows = _wrap(_drawable(text))
    rng = _random(seed)
    rng.randrange(len(_PAPERS))  # `screenshot` uses this number for the colours
    top = rng.choice((0, (ROWS - len(rows)) // 2))
    centred = rng.random() < 0.3
    placed = []
    for row, content in enumerate(rows, top):
        left = (COLUMNS - len(content)) // 2 if centred else 0
        placed += [(letter, column, row) for column, letter in enumerate(content, left)]
    return placed


def _random(seed):
    return random.Random(f"screenshot {seed}")


def _drawable(text):
    text = unicodedata.normalize("NFC", text.translate(_REPLACEMENTS))
    missing = sorted(
        {letter for letter in text if not (letter.isspace() or "!" <= letter <= "~" or "¡" <= letter <= "ÿ")}
    )
    if missing:
        raise InvalidRequestError(
            f"A screenshot cannot show {' '.join(missing[:12])}; its font covers {', '.join(SCREENSHOT_LANGUAGES)} "
            f"(Latin letters)."
        )
    if not text.strip():
        raise InvalidRequestError("The text of the screenshot is empty; it needs at least one letter.")
    return text


def _wrap(text):
    """The rows of a text; a French colon follows a space, but never begins a row."""
    rows = []
    for paragraph in text.split("\n"):
        rows.append("")
        for word in re.findall(r"\S+(?:\s[:;!?»])?", paragraph):
            longer = f"{rows[-1]} {word}" if rows[-1] else word
            if len(longer) > COLUMNS and rows[-1]:
                rows.append(word)
            else:
                rows[-1] = longer
    if len(rows) > ROWS or max(map(len, rows)) > COLUMNS:
        raise InvalidRequestError(
            f"The text has {len(text)} letters; a screenshot holds {ROWS} rows of {COLUMNS} letters; shorten it."
        )
    return rows


@lru_cache(maxsize=1)
def _font():
    return ImageFont.load_default_imagefont()
