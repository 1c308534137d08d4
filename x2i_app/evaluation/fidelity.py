"""What LightControl is good for: pictures changed by an instruction, drawn with it and without, from the same noise.

python -m x2i_app.evaluation.fidelity [--preset x2i-tiny] [--scenes 200] [--strength 1] [--output artifacts/fidelity]

Judged are the attributes that the instruction changes, those that it leaves alone, and the pixels that it leaves alone:
their peak signal-to-noise ratio to the world's own drawing of the edited scene. Every third scene has a pair of kind
and colour that training never showed.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageFilter
from tqdm.auto import tqdm

from x2i_app.evaluation.cases import ROWS, Case, cases
from x2i_app.evaluation.command import load_models
from x2i_app.evaluation.drawing import FIRST_SEED, encode, teach
from x2i_app.evaluation.judge import to_tensor
from x2i_app.evaluation.report import Models
from x2i_app.evaluation.seen import Tally, attributes, compare
from x2i_app.loading import load_pipeline
from x2i_app.miniature.world import draw_scene
from x2i_app.pipeline import Conditioning
from x2i_app.settings import ASSETS

_SIZE = 128
_SAME = 3  # of 255: drawings that differ by no more are the same there
_MARGIN = 9  # pixels, odd: what is so near to an edit counts to it, as antialiasing and ripples reach out
_STEPS = 8
_SHOWN = 8  # rows of the sheet


@dataclass(frozen=True)
class Fidelity:
    """How one way of drawing edits went. psnr: mean over pictures of that outside of the edited region, in dB."""

    title: str
    asked: Tally
    kept: Tally
    psnr: float

    def as_dict(self) -> dict[str, object]:
        """Ready for JSON; shares from 0 to 1."""
        return {"title": self.title, "asked": self.asked.accuracy, "kept": self.kept.accuracy, "psnr_db": self.psnr}


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

    def psnr(self, picture: Image.Image) -> float | None:
        """Of the pixels that stay; None where hardly any do, as when the sky changes."""
        if self.same.mean() < 0.05:
            return None
        error = (np.asarray(picture, float) - np.asarray(self.target, float))[self.same]
        return float(10 * np.log10(255**2 / np.square(error).mean()))


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
        results.append(_judge(models, f"LightControl {strength:g}", edited, drawn))
        columns.append(drawn[:_SHOWN])
    columns.append([one.target for one in edited[:_SHOWN]])
    return results, _sheet(columns)


def _judge(models: Models, title: str, edited: Sequence[Edited], drawn: Sequence[Image.Image]) -> Fidelity:
    asked, kept, ratios = Tally(), Tally(), []
    for one, picture, seen in zip(edited, drawn, models.judge.read(to_tensor(drawn)), strict=True):
        wanted = one.case.wanted
        asked += compare(seen, wanted, attributes(wanted).keys() - one.case.unchanged)
        kept += compare(seen, wanted, one.case.unchanged)
        ratios.append(one.psnr(picture))
    return Fidelity(title, asked, kept, float(np.mean([ratio for ratio in ratios if ratio is not None])))


def _sheet(columns: Sequence[Sequence[Image.Image]]) -> Image.Image:
    sheet = Image.new("RGB", (len(columns) * (_SIZE + 4) - 4, len(columns[0]) * (_SIZE + 4) - 4), "white")
    for x, column in enumerate(columns):
        for y, picture in enumerate(column):
            sheet.paste(picture, (x * (_SIZE + 4), y * (_SIZE + 4)))
    return sheet


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of the command."""
    parser = argparse.ArgumentParser(prog="python -m x2i_app.evaluation.fidelity", description=__doc__.splitlines()[0])
    parser.add_argument("--preset", default="x2i-tiny")
    parser.add_argument("--light-control", type=Path, help="another than the preset's")
    parser.add_argument("--scenes", type=int, default=200)
    parser.add_argument("--strength", type=float, action="append", help="to compare with 0; may be repeated")
    parser.add_argument("--by-teacher", action="store_true", help="read T5's and CLIP's words instead of the MLLM's")
    parser.add_argument("--output", type=Path, default=Path("artifacts/fidelity"))
    options = parser.parse_args(arguments)
    pipeline = load_pipeline(options.preset, light_control=options.light_control)
    pipeline.set_progress_bar_config(disable=True)
    models = load_models(pipeline, ASSETS / options.preset)
    strengths = [0.0, *(options.strength or [1.0])]
    results, sheet = measure(models, options.scenes, strengths, by_teacher=options.by_teacher)
    options.output.mkdir(parents=True, exist_ok=True)
    rows = [result.as_dict() for result in results]
    (options.output / "fidelity.json").write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
    sheet.save(options.output / "sheet.png")
    for row in rows:
        print(f"{row['title']}: asked {row['asked']:.1%}, kept {row['kept']:.1%}, {row['psnr_db']:.1f} dB outside")


if __name__ == "__main__":
    main()
