"""Styles: words that are put around a prompt. Some of our own, and a user's from a file in the form of other programs.

A1111 keeps styles as CSV with the columns name, prompt and negative_prompt; Fooocus keeps a JSON list of objects with
the same fields. In both, {prompt} stands for the prompt; without it, the words follow the prompt after a comma.
"""

import csv
import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from x2i_app.ui.i18n import PageError

MAX_STYLES = 500  # of one file
_MAX_BYTES = 1_000_000
_MAX_LETTERS = 2000  # of one style


@dataclass(frozen=True)
class Style:
    """prompt: with {prompt} where the user's own words go. negative_prompt: what the style avoids."""

    prompt: str
    negative_prompt: str = ""


# By the end of their keys in ui/i18n. English words, which every FLUX model and MLLM knows best.
STYLES: dict[str, Style] = {
    "photo": Style("a photograph of {prompt}, natural light, sharp focus, fine detail", "drawing, painting, cartoon"),
    "portrait": Style("a portrait photograph of {prompt}, 85 mm lens, soft background", "drawing, deformed face"),
    "cinema": Style("a film still of {prompt}, wide shot, dramatic light, shallow depth of field", "flat light"),
    "analog": Style("an analog photograph of {prompt}, film grain, faded colors, light leaks", "digital, oversharp"),
    "black_white": Style("a black and white photograph of {prompt}, strong contrast", "color"),
    "macro": Style("a macro photograph of {prompt}, extreme close-up, tiny details", "wide shot"),
    "aerial": Style("an aerial view of {prompt}, seen from far above", "close-up"),
    "night": Style("{prompt} at night, glowing lights, deep shadows, reflections", "daylight"),
    "golden_hour": Style("{prompt} at golden hour, warm low sunlight, long shadows", "noon, flat light"),
    "neon": Style("{prompt} in neon light, pink and cyan glow, rain on the street", "daylight, pastel"),
    "watercolor": Style("a watercolor painting of {prompt}, soft washes, visible paper", "photograph, hard edges"),
    "oil": Style("an oil painting of {prompt}, thick brush strokes, rich colors", "photograph, flat color"),
    "ink": Style("an ink wash painting of {prompt}, few strokes, much empty paper", "photograph, color"),
    "pencil": Style("a pencil sketch of {prompt}, fine hatching, white paper", "photograph, color"),
    "charcoal": Style("a charcoal drawing of {prompt}, smudged shadows, rough paper", "photograph, color"),
    "line": Style("a line drawing of {prompt}, one clean black line on white", "shading, color, photograph"),
    "gouache": Style("a gouache illustration of {prompt}, flat matte colors, simple shapes", "photograph"),
    "impression": Style("an impressionist painting of {prompt}, short dabs of color, shimmering light", "photograph"),
    "woodcut": Style("a woodcut print of {prompt}, bold carved lines, two colors", "photograph, gradient"),
    "poster": Style("a travel poster of {prompt}, flat shapes, limited palette", "photograph, clutter"),
    "comic": Style("a comic panel of {prompt}, ink outlines, halftone dots, bright colors", "photograph"),
    "anime": Style("an anime illustration of {prompt}, clean outlines, cel shading", "photograph, realistic"),
    "storybook": Style("a picture book illustration of {prompt}, gentle colors, cozy", "photograph, horror"),
    "pixel": Style("pixel art of {prompt}, 16-bit game, limited palette", "smooth, photograph, blur"),
    "low_poly": Style("a low poly 3D model of {prompt}, flat triangles, soft studio light", "photograph, texture"),
    "clay": Style(
        "a clay figure of {prompt}, stop motion, fingerprints, small studio set", "photograph of real people"
    ),
    "toy": Style("a plastic toy of {prompt}, product photograph, plain background", "dirt, clutter"),
    "paper": Style("{prompt} made of cut paper, layers, soft shadows", "photograph, plastic"),
    "origami": Style("origami of {prompt}, folded paper, clean creases, plain background", "clutter"),
    "felt": Style("{prompt} made of felt and wool, stitched, handmade", "plastic, metal"),
    "glass": Style("{prompt} made of stained glass, lead lines, light shining through", "matte, photograph of people"),
    "mosaic": Style("a mosaic of {prompt}, small colored tiles", "smooth, photograph"),
    "isometric": Style("an isometric view of {prompt}, small diorama, soft shadows", "perspective, clutter"),
    "blueprint": Style("a blueprint of {prompt}, white lines on blue paper, measurements", "photograph, shading"),
    "sticker": Style("a sticker of {prompt}, thick white outline, plain background", "background, photograph"),
    "minimal": Style("a minimalist image of {prompt}, one subject, large empty space, two colors", "clutter, texture"),
}


def with_style(prompt: str, style: Style) -> str:
    """The prompt in a style."""
    template = style.prompt
    if "{prompt}" in template:
        return template.replace("{prompt}", prompt.strip())
    return ", ".join(filter(None, (prompt.strip().rstrip(","), template.strip().strip(","))))


def read_styles(path: Any) -> dict[str, Style]:
    """The styles of a CSV or JSON file by name; empty for None. Raises PageError."""
    if not isinstance(path, str):
        return {}
    file = Path(path)
    if file.stat().st_size > _MAX_BYTES:
        raise PageError("error.styles_large", most=f"{_MAX_BYTES / 1e6:g}")
    try:
        content = file.read_text(encoding="utf-8-sig")
        rows = json.loads(content) if file.suffix.lower() == ".json" else list(csv.DictReader(io.StringIO(content)))
    except (ValueError, csv.Error, RecursionError):
        raise PageError("error.styles_form") from None
    styles = {}
    for row in rows if isinstance(rows, list) else []:
        fields = (
            [row.get(name) or "" for name in ("name", "prompt", "negative_prompt")] if isinstance(row, dict) else []
        )
        if fields and all(map(_is_text, fields)):
            name, prompt, negative = (each.strip() for each in fields)
            # A1111 writes headings as rows without words.
            styles |= {name: Style(prompt, negative)} if name and (prompt or negative) else {}
    if not styles:
        raise PageError("error.styles_form")
    return dict(list(styles.items())[:MAX_STYLES])


def _is_text(value: Any) -> bool:
    """Whether the page can show this. JSON may contain halves of characters, which no response can."""
    if not isinstance(value, str) or len(value) > _MAX_LETTERS:
        return False
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
