"""Measure what LightControl keeps: images edited by an instruction, with and without it, from the same noise.

python -m x2i_app.miniature.evaluation.fidelity [--scenes 200] [--strength 1] [--output artifacts/fidelity]

Three numbers: the share of attributes that the instruction asks to change and that changed, the share of the other
attributes that stayed, and, for the pixels outside the edit, the peak signal-to-noise ratio to the render of the edited
scene. Shares come with their 95 % interval, the ratio with its standard error. Every third scene has a pair of kind and
colour that training never shows.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageFilter
from tqdm.auto import tqdm

from x2i_app.errors import X2IError
from x2i_app.limits import LIMITS, validate_integer, validate_number
from x2i_app.loading import load_pipeline
from x2i_app.loading.report import table
from x2i_app.miniature.evaluation.attributes import Tally, attributes, compare, tally_interval
from x2i_app.miniature.evaluation.cases import ROWS, Case, cases
from x2i_app.miniature.evaluation.command import SCENES_RANGE, load_models
from x2i_app.miniature.evaluation.evaluate import Models
from x2i_app.miniature.evaluation.judge import Judge
from x2i_app.miniature.evaluation.results import show_interval
from x2i_app.miniature.evaluation.sampling import FIRST_SEED, encode, teach
from x2i_app.miniature.pixels import to_tensor
from x2i_app.miniature.world import draw_scene
from x2i_app.pipeline import Conditioning
from x2i_app.settings import ASSETS

_SIZE = 128
_SAME = 3  # of 255: pixels of two renders that differ by at most this are equal
_MARGIN = 9  # pixels, odd: the neighbourhood of an edit that belongs to it, because of antialiasing and ripples
_LEAST = 1 / 12  # mean square error of rounding to 8 bits: equal images have 58.9 dB, not infinity
_STEPS = 8
_SHEET_ROWS = 8


@dataclass(frozen=True)
class Fidelity:
    """The result for one strength of LightControl.

    asked, kept: for each image, the tally of the attributes that should change and of those that should stay.
    ratios: PSNR in dB of the pixels outside the edit, for images in which enough of them are left.
    """

    title: str
    asked: Sequence[Tally]
    kept: Sequence[Tally]
    ratios: Sequence[float]

    def as_dict(self) -> dict[str, Any]:
        """All numbers, ready for JSON; shares from 0 to 1; None if too few images have a ratio."""
        count = len(self.ratios)
        return {
            "title": self.title,
            "asked": sum(self.asked, Tally()).accuracy,
            "asked_interval_95": tally_interval(self.asked),
            "kept": sum(self.kept, Tally()).accuracy,
            "kept_interval_95": tally_interval(self.kept),
            "psnr_db": float(np.mean(self.ratios)) if count else None,
            "psnr_standard_error_db": float(np.std(self.ratios, ddof=1) / count**0.5) if count > 1 else None,
        }

    def as_cells(self) -> tuple[str, ...]:
        """The numbers as a row of the table."""
        found = self.as_dict()
        shares = (
            text
            for name in ("asked", "kept")
            for text in (f"{found[name]:.1%}", show_interval(found[f"{name}_interval_95"]))
        )
        ratio, error = found["psnr_db"], found["psnr_standard_error_db"]
        return (self.title, *shares, *("" if each is None else f"{each:.1f}" for each in (ratio, error)))


_HEADINGS = ("generated with", "asked", "95% within", "kept", "95% within", "dB outside", "+-")


@dataclass(frozen=True)
class Edited:
    """A case with its source image, the wanted result, and a mask (H, W) of the pixels in which they are equal."""

    case: Case
    source: Image.Image
    target: Image.Image
    same: np.ndarray

    @classmethod
    def of(cls, case: Case) -> "Edited":
        shown = case.dialogue[-1].shown[0]
        source, target = (draw_scene(scene, _SIZE, shown.time, shown.seed) for scene in (shown.scene, case.wanted))
        change = np.abs(np.asarray(source, int) - np.asarray(target, int)).max(axis=2) > _SAME
        near = Image.fromarray(change).convert("L").filter(ImageFilter.MaxFilter(_MARGIN))
        return cls(case, source, target, np.asarray(near) == 0)

    def psnr(self, image: Image.Image) -> float | None:
        """PSNR in dB of the pixels outside the edit; None if these are less than 5 %, as when the sky changes."""
        if self.same.mean() < 0.05:
            return None
        error = (np.asarray(image, float) - np.asarray(self.target, float))[self.same]
        return float(10 * np.log10(255**2 / max(np.square(error).mean(), _LEAST)))


def measure(
    models: Models, scenes: int, strengths: Sequence[float], *, by_teacher: bool = False
) -> tuple[list[Fidelity], Image.Image]:
    """Results for each strength of LightControl over the same cases, and a sheet: source, each strength, wanted.

    by_teacher: use T5's and CLIP's embeddings of the wanted scene instead of the MLLM's, which may misread the input.
    """
    pipeline = models.pipeline
    edits = [Edited.of(case) for case in cases(ROWS["instruction"], scenes)]
    if by_teacher:
        embeds = teach(models.teacher, [edit.case.answer for edit in edits], models.text_length)
    else:
        embeds = [found.embeds for found in encode(pipeline, [edit.case for edit in edits], lambda count: None)]
    results, columns = [], [[edit.source for edit in edits[:_SHEET_ROWS]]]
    for strength in strengths:
        drawn = []
        for edit, conditioning in zip(tqdm(edits, desc=f"strength {strength:g}"), embeds, strict=True):
            output = pipeline(
                conditioning=Conditioning(*conditioning),
                control_image=edit.source,
                control_strength=strength,
                width=_SIZE,
                height=_SIZE,
                num_inference_steps=_STEPS,
                generator=torch.Generator().manual_seed(FIRST_SEED + edit.case.index),
            )
            drawn.append(output.images[0])
        results.append(judge(models.judge, f"LightControl {strength:g}", edits, drawn))
        columns.append(drawn[:_SHEET_ROWS])
    columns.append([edit.target for edit in edits[:_SHEET_ROWS]])
    return results, _sheet(columns)


def judge(reader: Judge, title: str, edits: Sequence[Edited], drawn: Sequence[Image.Image]) -> Fidelity:
    """Judge images of 128 x 128 pixels, one for each edit."""
    pairs = list(zip(edits, reader.read(to_tensor(drawn)), strict=True))
    asked = [
        compare(reading, edit.case.wanted, attributes(edit.case.wanted).keys() - edit.case.unchanged)
        for edit, reading in pairs
    ]
    kept = [compare(reading, edit.case.wanted, edit.case.unchanged) for edit, reading in pairs]
    ratios = [edit.psnr(image) for edit, image in zip(edits, drawn, strict=True)]
    return Fidelity(title, asked, kept, [ratio for ratio in ratios if ratio is not None])


def _sheet(columns: Sequence[Sequence[Image.Image]]) -> Image.Image:
    sheet = Image.new("RGB", (len(columns) * (_SIZE + 4) - 4, len(columns[0]) * (_SIZE + 4) - 4), "white")
    for x, column in enumerate(columns):
        for y, image in enumerate(column):
            sheet.paste(image, (x * (_SIZE + 4), y * (_SIZE + 4)))
    return sheet


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of the command."""
    parser = argparse.ArgumentParser(
        prog="python -m x2i_app.miniature.evaluation.fidelity", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--light-control", type=Path, help="folder or file of a LightControl (the bundled one)")
    parser.add_argument("--scenes", type=int, default=200, help="images for each strength (200)")
    parser.add_argument(
        "--strength", type=float, action="append", help="strength to compare with 0 (1.0); may be repeated"
    )
    parser.add_argument(
        "--by-teacher", action="store_true", help="use T5's and CLIP's embeddings instead of the MLLM's"
    )
    parser.add_argument("--output", type=Path, default=Path("artifacts/fidelity"), help="folder for the results")
    options = parser.parse_args(arguments)
    strengths = [0.0, *(options.strength or [1.0])]
    try:
        validate_integer("scenes", options.scenes, SCENES_RANGE)
        for strength in strengths:
            validate_number("strength", strength, LIMITS.control_strength)
        pipeline = load_pipeline("x2i-tiny", light_control=options.light_control)
        options.output.mkdir(parents=True, exist_ok=True)
    except X2IError as error:
        parser.exit(2, f"x2i: {error}\n")
    except OSError as error:
        parser.exit(2, f"x2i: --output {str(options.output)!r} cannot be created ({error.strerror}).\n")
    pipeline.set_progress_bar_config(disable=True)
    models = load_models(pipeline, ASSETS / "x2i-tiny")
    results, sheet = measure(models, options.scenes, strengths, by_teacher=options.by_teacher)
    rows = [result.as_dict() for result in results]
    (options.output / "fidelity.json").write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
    sheet.save(options.output / "sheet.png")
    print(table(_HEADINGS, [result.as_cells() for result in results]))


if __name__ == "__main__":
    main()
