"""The contact sheet: what was given, what the teacher draws of the sentence meant, what X2I draws of what was given."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from PIL import Image, ImageDraw

from x2i_app.miniature.evaluation.attributes import Tally
from x2i_app.miniature.evaluation.cases import Case
from x2i_app.miniature.evaluation.panels import PAPER, font, input_panel, write_wrapped

Judged = tuple[torch.Tensor, Tally]  # a picture (3, H, W) in [-1, 1] and how much of it is as wanted

_TILE = 144  # pixels of a picture's side
_INPUT = 304  # of the panel that shows what was given, as wide as two pictures and a gap
_GAP, _MARGIN = 12, 24
_CAPTION = 62
_HEADER, _TITLE = 40, 72
_LEGEND = (
    "The first scenes of each kind of input, not the best ones. Below an input what it means; below a picture how many "
    "of its attributes are as wanted."
)
_INK, _FAINT, _GOOD, _BAD = (32, 34, 46), (122, 126, 142), (30, 132, 73), (192, 57, 43)


@dataclass(frozen=True)
class Example:
    """A case, what X2I drew, and what the teacher drew; None without a teacher."""

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
    """All sections below each other, their examples side by side: the input, the teacher's picture, X2I's."""
    columns = max((len(section.examples) for section in sections), default=1)
    tiles = 2 if any(example.taught for section in sections for example in section.examples) else 1
    group = _INPUT + tiles * (_GAP + _TILE)
    width = 2 * _MARGIN + columns * group + (columns - 1) * 3 * _GAP
    height = _MARGIN + _TITLE + len(sections) * (_HEADER + _TILE + _CAPTION)
    sheet = Image.new("RGB", (width, height), PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.text((_MARGIN, _MARGIN - 4), title, font=font(24), fill=_INK)
    draw.text((_MARGIN, _MARGIN + 32), _LEGEND, font=font(14), fill=_FAINT)
    y = _MARGIN + _TITLE
    for section in sections:
        draw.line((_MARGIN, y, width - _MARGIN, y), fill=(222, 222, 230))
        draw.text((_MARGIN, y + 10), section.title, font=font(17), fill=_INK)
        share = f"{section.accuracy:.1%} right"
        draw.text((width - _MARGIN, y + 12), share, font=font(15), fill=_FAINT, anchor="ra")
        for index, example in enumerate(section.examples):
            _paint_example(sheet, _MARGIN + index * (group + 3 * _GAP), y + _HEADER, group, example)
        y += _HEADER + _TILE + _CAPTION
    return sheet


def _paint_example(sheet, x, y, width, example):
    sheet.paste(input_panel(example.case, _INPUT, _TILE), (x, y))
    draw = ImageDraw.Draw(sheet)
    left = x + _INPUT + _GAP
    for name, judged in (("teacher", example.taught), ("X2I", example.drawn)):
        if judged is None:
            continue
        image, tally = judged
        sheet.paste(to_image(image, _TILE), (left, y))
        right, total = sum(tally.right.values()), sum(tally.total.values())
        draw.text((left, y + _TILE + 4), name, font=font(12), fill=_INK)
        count = f"{right} of {total}"
        draw.text(
            (left + _TILE, y + _TILE + 4), count, font=font(12), fill=_GOOD if right == total else _BAD, anchor="ra"
        )
        left += _TILE + _GAP
    write_wrapped(draw, example.case.answer, (x, y + _TILE + 4, x + _INPUT, y + _TILE + _CAPTION - 4), 12, _FAINT)


def to_image(image: torch.Tensor, size: int) -> Image.Image:
    """A picture (3, H, W) in [-1, 1] as a square RGB image."""
    pixels = ((image.clamp(-1, 1) + 1) * 127.5).round().byte().permute(1, 2, 0).numpy()
    return Image.fromarray(pixels).resize((size, size), Image.Resampling.LANCZOS)
