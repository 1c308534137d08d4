"""What LightControl is good for: pictures changed by an instruction, drawn with it and without, from the same noise.

python -m x2i_app.miniature.evaluation.fidelity [--scenes 200] [--strength 1] [--output artifacts/fidelity]

Judged are the attributes that the instruction changes, those that it leaves alone, and the pixels that it leaves alone:
their peak signal-to-noise ratio to the world's own drawing of the edited scene. Each share comes with its 95 % interval
(see `interval`), the ratio with its standard error. Every third scene has a pair of kind and colour that training never
showed.
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
from x2i_app.miniature.evaluation.attributes import Tally, attributes, compare
from x2i_app.miniature.evaluation.cases import ROWS, Case, cases
from x2i_app.miniature.evaluation.command import SCENES_RANGE, load_models
from x2i_app.miniature.evaluation.interval import interval
from x2i_app.miniature.evaluation.judge import Judge
from x2i_app.miniature.evaluation.report import Models
from x2i_app.miniature.evaluation.results import show_interval
from x2i_app.miniature.evaluation.sampling import FIRST_SEED, encode, teach
from x2i_app.miniature.pixels import to_tensor
from x2i_app.miniature.world import draw_scene
from x2i_app.pipeline import Conditioning
from x2i_app.settings import ASSETS

_SIZE = 128
_SAME = 3  # of 255: drawings that differ by no more are the same there
_MARGIN = 9  # pixels, odd: what is so near to an edit counts to it, as antialiasing and ripples reach out
_LEAST = 1 / 12  # mean square of what rounding to 8 bits takes: equal pictures have 58.9 dB, not infinity
_STEPS = 8
_SHOWN = 8  # rows of the sheet


@dataclass(frozen=True)
class Fidelity:
    """How one way of drawing edits went. asked, kept: of each picture. ratios: of each outside of its edit, in dB;

    of those that leave enough.
    """

    title: str
    asked: Sequence[Tally]
    kept: Sequence[Tally]
    ratios: Sequence[float]

    def as_dict(self) -> dict[str, Any]:
        """Ready for JSON; shares from 0 to 1; None for the ratio, or its standard error, where too few have one."""
        count = len(self.ratios)
        return {
            "title": self.title,
            "asked": sum(self.asked, Tally()).accuracy,
            "asked_interval_95": interval(self.asked),
            "kept": sum(self.kept, Tally()).accuracy,
            "kept_interval_95": interval(self.kept),
            "psnr_db": float(np.mean(self.ratios)) if count else None,
            "psnr_standard_error_db": float(np.std(self.ratios, ddof=1) / count**0.5) if count > 1 else None,
        }

    def as_cells(self) -> tuple[str, ...]:
        """A row of the table."""
        found = self.as_dict()
        shares = (
            text
            for name in ("asked", "kept")
            for text in (f"{found[name]:.1%}", show_interval(found[f"{name}_interval_95"]))
        )
        ratio, error = found["psnr_db"], found["psnr_standard_error_db"]
        return (self.title, *shares, *("" if each is None else f"{each:.1f}" for each in (ratio, error)))


_HEADINGS = ("drawn with", "asked", "95% within", "kept", "95% within", "dB outside", "+-")


@dataclass(frozen=True)
class Edited:
    """A case with what is shown, what should come out, and where the two are the same, (H, W) of bool."""

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
        """Of the pixels that stay; None where hardly any do, as when the sky changes."""
        if self.same.mean() < 0.05:
            return None
        error = (np.asarray(image, float) - np.asarray(self.target, float))[self.same]
        return float(10 * np.log10(255**2 / max(np.square(error).mean(), _LEAST)))


def measure(
    models: Models, scenes: int, strengths: Sequence[float], *, by_teacher: bool = False
) -> tuple[list[Fidelity], Image.Image]:
    """Each strength of LightControl over the same cases, and a sheet: shown, drawn at each strength, wanted.

    by_teacher: the transformer reads T5's and CLIP's words for the wanted scene, not the MLLM's, which may mistake it.
    """
    pipeline = models.pipeline
    edited = [Edited.of(case) for case in cases(ROWS["instruction"], scenes)]
    if by_teacher:
        embeds = teach(models.teacher, [one.case.answer for one in edited], models.text_length)
    else:
        embeds = [found for found, _ in encode(pipeline, [one.case for one in edited], lambda count: None)]
    results, columns = [], [[one.source for one in edited[:_SHOWN]]]
    for strength in strengths:
        drawn = []
        for one, conditioning in zip(tqdm(edited, desc=f"strength {strength:g}"), embeds, strict=True):
            output = pipeline(
                conditioning=Conditioning(*conditioning),
                control_image=one.source,
                control_strength=strength,
                width=_SIZE,
                height=_SIZE,
                num_inference_steps=_STEPS,
                generator=torch.Generator().manual_seed(FIRST_SEED + one.case.index),
            )
            drawn.append(output.images[0])
        results.append(judge(models.judge, f"LightControl {strength:g}", edited, drawn))
        columns.append(drawn[:_SHOWN])
    columns.append([one.target for one in edited[:_SHOWN]])
    return results, _sheet(columns)


def judge(reader: Judge, title: str, edited: Sequence[Edited], drawn: Sequence[Image.Image]) -> Fidelity:
    """Pictures of 128 x 128, one of each edit, as the judge reads them, and their pixels."""
    pairs = list(zip(edited, reader.read(to_tensor(drawn)), strict=True))
    asked = [
        compare(seen, one.case.wanted, attributes(one.case.wanted).keys() - one.case.unchanged) for one, seen in pairs
    ]
    kept = [compare(seen, one.case.wanted, one.case.unchanged) for one, seen in pairs]
    ratios = [one.psnr(image) for one, image in zip(edited, drawn, strict=True)]
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
    parser.add_argument("--light-control", type=Path, help="another than the bundled one")
    parser.add_argument("--scenes", type=int, default=200)
    parser.add_argument("--strength", type=float, action="append", help="to compare with 0; may be repeated")
    parser.add_argument("--by-teacher", action="store_true", help="read T5's and CLIP's words instead of the MLLM's")
    parser.add_argument("--output", type=Path, default=Path("artifacts/fidelity"))
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
        parser.exit(2, f"x2i: --output {str(options.output)!r} cannot be made ({error.strerror}).\n")
    pipeline.set_progress_bar_config(disable=True)
    models = load_models(pipeline, ASSETS / "x2i-tiny")
    results, sheet = measure(models, options.scenes, strengths, by_teacher=options.by_teacher)
    rows = [result.as_dict() for result in results]
    (options.output / "fidelity.json").write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
    sheet.save(options.output / "sheet.png")
    print(table(_HEADINGS, [result.as_cells() for result in results]))


if __name__ == "__main__":
    main()
