"""What was given to the MLLM, so that people can see it: words, pictures, films and sounds in one panel."""

import re
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from x2i_app.miniature.evaluation.cases import Case

PAPER = (250, 250, 252)
_CARD, _EDGE, _INK = (255, 255, 255), (214, 216, 226), (32, 34, 46)
_VIDEO, _HOLE, _WAVE = (38, 40, 52), (250, 250, 252), (88, 101, 242)
_GAP = 8
_LARGEST, _SMALLEST = 18, 8  # points of written words

# Fonts that have Chinese, Japanese and Vietnamese letters, where Linux distributions put them.
_FONTS = (
    "/usr/share/fonts/opentype/noto/NotoSansCJK-Regular.ttc",
    "/usr/share/fonts/noto-cjk/NotoSansCJK-Regular.ttc",
    "/usr/share/fonts/google-noto-cjk/NotoSansCJK-Regular.ttc",
    "/usr/share/fonts/google-noto-sans-cjk-fonts/NotoSansCJK-Regular.ttc",
)


@lru_cache(maxsize=64)
def font(points: int) -> ImageFont.FreeTypeFont:
    """The system's Noto CJK if it has it, else Pillow's own font, which has Western letters only."""
    path = _wide_font()
    return ImageFont.truetype(path, points) if path else ImageFont.load_default(points)


@lru_cache(maxsize=256)
def input_panel(case: Case, width: int, height: int) -> Image.Image:
    """Everything that a case gives: pictures as they are, a film as a strip, a sound as its wave, words as written."""
    panel = Image.new("RGB", (width, height), PAPER)
    turns = case.turns()
    squares = [image for turn in turns for image in turn.images]
    wide = [_video_strip(*video) for turn in turns for video in turn.videos]
    wide += [_wave(*audio) for turn in turns for audio in turn.audios]
    words = [turn.prompt for turn in turns if turn.prompt]
    if words:
        wide.append(_words(_readable(words, case), len(turns) > 1))
    x = 0
    for image in squares:
        panel.paste(image.resize((height, height), Image.Resampling.LANCZOS), (x, 0))
        x += height + _GAP
    for index, paint in enumerate(wide):
        top, bottom = (round(edge * (height + _GAP) / len(wide)) for edge in (index, index + 1))
        panel.paste(paint(width - x, bottom - top - _GAP), (x, top))
    return panel


def write_wrapped(
    draw: ImageDraw.ImageDraw, text: str, box: tuple[int, int, int, int], points: int, ink: tuple[int, int, int]
) -> None:
    """Write `text` into a box (left, top, right, bottom), at most so large, smaller where it would not fit."""
    left, top, right, bottom = box
    for size in range(points, _SMALLEST - 1, -1):
        lines = _wrap(text, font(size), right - left)
        step = round(1.3 * size)
        if len(lines) * step <= bottom - top or size == _SMALLEST:
            break
    for index, line in enumerate(lines):
        draw.text((left, top + index * step), line, font=font(size), fill=ink)


def _words(texts: Sequence[str], numbered: bool):
    def paint(width, height):
        card = Image.new("RGB", (width, height), PAPER)
        draw = ImageDraw.Draw(card)
        draw.rounded_rectangle((0, 0, width - 1, height - 1), radius=8, fill=_CARD, outline=_EDGE)
        lines = [f"{number}. {text}" for number, text in enumerate(texts, 1)] if numbered else texts
        write_wrapped(draw, "\n".join(lines), (10, 8, width - 10, height - 6), _LARGEST, _INK)
        return card

    return paint


def _video_strip(frames: np.ndarray, fps: float):
    def paint(width, height):
        strip = Image.new("RGB", (width, height), _VIDEO)
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


def _wave(samples: np.ndarray, rate: int):
    def paint(width, height):
        card = Image.new("RGB", (width, height), PAPER)
        draw = ImageDraw.Draw(card)
        draw.rounded_rectangle((0, 0, width - 1, height - 1), radius=8, fill=_CARD, outline=_EDGE)
        bars = (width - 20) // 3
        loudest = [np.abs(part).max() for part in np.array_split(samples, bars)]
        for index, peak in enumerate(loudest):
            reach = max(1.0, 0.42 * height * float(peak))
            x = 10 + 3 * index
            draw.line((x, height / 2 - reach, x, height / 2 + reach), fill=_WAVE, width=2)
        draw.text((10, 4), f"{len(samples) / rate:g} s", font=font(11), fill=_INK)
        return card

    return paint


def _readable(texts, case):
    """The words themselves, or, where no font here has their letters, what they mean."""
    if _wide_font() or all(text.isascii() for text in texts):
        return texts
    return [f"(no font here has its letters) {case.answer}"]


@lru_cache(maxsize=1)
def _wide_font():
    return next((path for path in _FONTS if Path(path).is_file()), None)


def _wrap(text, face, width):
    lines = []
    for paragraph in text.split("\n"):
        line = ""
        # Chinese and Japanese break between any two letters, everything else between words.
        for piece in re.findall(r"[\u3000-\u9fff\uff00-\uffef]|[^\s\u3000-\u9fff\uff00-\uffef]+\s*|\s+", paragraph):
            if line and face.getlength((line + piece).rstrip()) > width:
                lines.append(line.rstrip())
                line = piece.lstrip()
            else:
                line += piece
        lines.append(line.rstrip())
    return lines
