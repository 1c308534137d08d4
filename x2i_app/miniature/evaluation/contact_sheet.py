"""The contact sheet of an evaluation: the input, the teacher's image of the wanted scene, and X2I's image."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from x2i_app.miniature.evaluation.attributes import Tally
from x2i_app.miniature.evaluation.cases import Case
from x2i_app.miniature.pixels import to_image

Judged = tuple[torch.Tensor, Tally]  # an image (3, H, W) in [-1, 1] and the tally of its attributes
_Paint = Callable[[int, int], Image.Image]  # (width, height) -> one part of an input panel

_TILE = 144  # pixels: width and height of an image
_INPUT = 304  # pixels: width of an input panel, as wide as two images and a gap
_GAP, _MARGIN, _PANEL_GAP = 12, 24, 8
_CAPTION = 62
_HEADER, _TITLE = 40, 72
_LEGEND = (
    "The first scenes of each kind of input, not the best ones. Below an input: the answer it should get. "
    "Below an image: how many of its attributes are right."
)
_PAPER, _CARD, _EDGE = (250, 250, 252), (255, 255, 255), (214, 216, 226)
_INK, _FAINT, _GOOD, _BAD = (32, 34, 46), (122, 126, 142), (30, 132, 73), (192, 57, 43)
_STRIP, _HOLE, _WAVE = (38, 40, 52), (250, 250, 252), (88, 101, 242)
_LARGEST, _SMALLEST = 18, 8  # points of text in an input panel

# Fonts with Chinese, Japanese and Vietnamese letters, at the paths of several Linux distributions.
_FONTS = (
    "/usr/share/fonts/opentype/noto/NotoSansCJK-Regular.ttc",
    "/usr/share/fonts/noto-cjk/NotoSansCJK-Regular.ttc",
    "/usr/share/fonts/google-noto-cjk/NotoSansCJK-Regular.ttc",
    "/usr/share/fonts/google-noto-sans-cjk-fonts/NotoSansCJK-Regular.ttc",
)


@dataclass(frozen=True)
class Example:
    """A case, X2I's image, and the teacher's image; None without a teacher."""

    case: Case
    drawn: Judged
    taught: Judged | None


@dataclass(frozen=True)
class Section:
    """Some cases of one row. accuracy: of the whole row, 0 to 1."""

    title: str
    accuracy: float
    examples: Sequence[Example]


def contact_sheet(title: str, sections: Sequence[Section]) -> Image.Image:
    """All sections from top to bottom, their examples from left to right: the input, the teacher's image, X2I's."""
    columns = max((len(section.examples) for section in sections), default=1)
    tiles = 2 if any(example.taught for section in sections for example in section.examples) else 1
    group = _INPUT + tiles * (_GAP + _TILE)
    width = 2 * _MARGIN + columns * group + (columns - 1) * 3 * _GAP
    height = _MARGIN + _TITLE + len(sections) * (_HEADER + _TILE + _CAPTION)
    sheet = Image.new("RGB", (width, height), _PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.text((_MARGIN, _MARGIN - 4), title, font=_font(24), fill=_INK)
    draw.text((_MARGIN, _MARGIN + 32), _LEGEND, font=_font(14), fill=_FAINT)
    y = _MARGIN + _TITLE
    for section in sections:
        draw.line((_MARGIN, y, width - _MARGIN, y), fill=(222, 222, 230))
        draw.text((_MARGIN, y + 10), section.title, font=_font(17), fill=_INK)
        share = f"{section.accuracy:.1%} right"
        draw.text((width - _MARGIN, y + 12), share, font=_font(15), fill=_FAINT, anchor="ra")
        for index, example in enumerate(section.examples):
            _paint_example(sheet, _MARGIN + index * (group + 3 * _GAP), y + _HEADER, example)
        y += _HEADER + _TILE + _CAPTION
    return sheet


def _paint_example(sheet, x, y, example):
    sheet.paste(_input_panel(example.case, _INPUT, _TILE), (x, y))
    draw = ImageDraw.Draw(sheet)
    left = x + _INPUT + _GAP
    for name, judged in (("teacher", example.taught), ("X2I", example.drawn)):
        if judged is None:
            continue
        image, tally = judged
        sheet.paste(to_image(image).resize((_TILE, _TILE), Image.Resampling.LANCZOS), (left, y))
        right, total = tally.counts
        draw.text((left, y + _TILE + 4), name, font=_font(12), fill=_INK)
        place, colour = (left + _TILE, y + _TILE + 4), _GOOD if right == total else _BAD
        draw.text(place, f"{right} of {total}", font=_font(12), fill=colour, anchor="ra")
        left += _TILE + _GAP
    _write_wrapped(draw, example.case.answer, (x, y + _TILE + 4, x + _INPUT, y + _TILE + _CAPTION - 4), 12, _FAINT)


def _input_panel(case: Case, width: int, height: int) -> Image.Image:
    """The whole input of a case: images as they are, a video as a strip, an audio as its waveform, text as text."""
    panel = Image.new("RGB", (width, height), _PAPER)
    turns = case.turns()
    squares = [image for turn in turns for image in turn.images]
    wide = [_video_strip(*video) for turn in turns for video in turn.videos]
    wide += [_waveform(*audio) for turn in turns for audio in turn.audios]
    prompts = [turn.prompt for turn in turns if turn.prompt]
    if prompts:
        wide.append(_text_card(_readable(prompts, case), len(turns) > 1))
    x = 0
    for image in squares:
        panel.paste(image.resize((height, height), Image.Resampling.LANCZOS), (x, 0))
        x += height + _PANEL_GAP
    for index, paint in enumerate(wide):
        top, bottom = (round(edge * (height + _PANEL_GAP) / len(wide)) for edge in (index, index + 1))
        panel.paste(paint(width - x, bottom - top - _PANEL_GAP), (x, top))
    return panel


def _text_card(texts: Sequence[str], numbered: bool) -> _Paint:
    def paint(width, height):
        card, draw = _card(width, height)
        rows = [f"{number}. {text}" for number, text in enumerate(texts, 1)] if numbered else texts
        _write_wrapped(draw, "\n".join(rows), (10, 8, width - 10, height - 6), _LARGEST, _INK)
        return card

    return paint


def _video_strip(frames: np.ndarray, fps: float) -> _Paint:
    def paint(width, height):
        strip = Image.new("RGB", (width, height), _STRIP)
        draw = ImageDraw.Draw(strip)
        rim = max(6, height // 9)
        side = min(height - 2 * rim, (width - 5 * 4) // 4)
        count = max(1, (width - 4) // (side + 4))
        left = (width - count * (side + 4) + 4) // 2
        moments = np.linspace(0, len(frames) - 1, count).round().astype(int)
        for place, moment in enumerate(moments):
            frame = Image.fromarray(frames[moment]).resize((side, side), Image.Resampling.LANCZOS)
            strip.paste(frame, (left + place * (side + 4), (height - side) // 2))
        for x in range(4, width - 4, 12):
            for y in (rim // 2 - 2, height - rim // 2 - 2):
                draw.rounded_rectangle((x, y, x + 5, y + 3), radius=1, fill=_HOLE)
        return strip

    return paint


def _waveform(samples: np.ndarray, rate: int) -> _Paint:
    def paint(width, height):
        card, draw = _card(width, height)
        bars = (width - 20) // 3
        loudest = [np.abs(part).max() for part in np.array_split(samples, bars)]
        for index, peak in enumerate(loudest):
            reach = max(1.0, 0.42 * height * float(peak))
            x = 10 + 3 * index
            draw.line((x, height / 2 - reach, x, height / 2 + reach), fill=_WAVE, width=2)
        draw.text((10, 4), f"{len(samples) / rate:g} s", font=_font(11), fill=_INK)
        return card

    return paint


def _card(width, height):
    card = Image.new("RGB", (width, height), _PAPER)
    draw = ImageDraw.Draw(card)
    draw.rounded_rectangle((0, 0, width - 1, height - 1), radius=8, fill=_CARD, outline=_EDGE)
    return card, draw


def _readable(texts, case):
    """The texts, or the answer that they should get if no installed font has their letters."""
    if _wide_font() or all(text.isascii() for text in texts):
        return texts
    return [f"(no installed font has these letters) {case.answer}"]


@lru_cache(maxsize=64)
def _font(points: int) -> ImageFont.FreeTypeFont:
    """The system's Noto CJK if it is installed, else Pillow's own font, which has only Western letters."""
    path = _wide_font()
    return ImageFont.truetype(path, points) if path else ImageFont.load_default(points)


@lru_cache(maxsize=1)
def _wide_font():
    return next((path for path in _FONTS if Path(path).is_file()), None)


def _write_wrapped(draw, text, box, points, ink):
    """Write text into a box (left, top, right, bottom), in a smaller size than `points` if it would not fit."""
    left, top, right, bottom = box
    for size in range(points, _SMALLEST - 1, -1):
        rows = _wrap(text, _font(size), right - left)
        step = round(1.3 * size)
        if len(rows) * step <= bottom - top or size == _SMALLEST:
            break
    for index, row in enumerate(rows):
        draw.text((left, top + index * step), row, font=_font(size), fill=ink)


def _wrap(text, font, width):
    rows = []
    for paragraph in text.split("\n"):
        row = ""
        # Chinese and Japanese may break between any two letters, other languages only between words.
        for piece in re.findall(r"[\u3000-\u9fff\uff00-\uffef]|[^\s\u3000-\u9fff\uff00-\uffef]+\s*|\s+", paragraph):
            if row and font.getlength((row + piece).rstrip()) > width:
                rows.append(row.rstrip())
                row = piece.lstrip()
            else:
                row += piece
        rows.append(row.rstrip())
    return rows
