"""How well does each way to edit an image work with x2i-tiny? python -m tests.benchmarks.bench_edits runs/edits

It draws fresh scenes, changes one thing in each by a sentence written here, and lets x2i-tiny do it from the same
noise: by words alone, with LightControl, with a mask of what changes, and with the original as a reference, for which
x2i-tiny is not trained. The world's own judge says what changed as asked and what stayed; PSNR is of the pixels outside
the edit. The folder gets `before-after.png`, the first ten edits with LightControl, whatever came of them.
"""

import argparse
import random
import textwrap
from collections.abc import Sequence
from dataclasses import astuple
from pathlib import Path

import torch
from PIL import Image, ImageDraw, ImageFont

from x2i_app import load_pipeline
from x2i_app.loading.report import table
from x2i_app.media.inpaint_source import extend_source
from x2i_app.miniature.conversations import Exchange, Shown
from x2i_app.miniature.edits import ACTIONS, Edit, random_edit
from x2i_app.miniature.evaluation.cases import Case
from x2i_app.miniature.evaluation.command import JUDGE
from x2i_app.miniature.evaluation.fidelity import Edited, Fidelity, judge
from x2i_app.miniature.evaluation.judge import Judge
from x2i_app.miniature.scene import random_scene
from x2i_app.miniature.sentences import describe

SIDE, STEPS, SHOWN = 128, 8, 10
WAYS = ("words alone", "LightControl", "mask", "reference, untrained")

SAID = {"rain": "rainy", "snowfall": "snowy", "day": "a sunny day", "sea": "the sea", "street": "a street"}
SAID |= {
    "small": "smaller",
    "large": "bigger",
    "left": "to the left",
    "right": "to the right",
    "middle": "to the middle",
}
# Of each action, in the order of ACTIONS.
SENTENCES = dict(
    zip(
        ACTIONS,
        (
            ("I would like it to be {value}", "could you make it {value}?", "same place, but {value}"),
            ("the ground should be {value}", "put it all on {value}", "change the floor to {value}"),
            ("paint the {target} {value}", "I want the {target} in {value}", "the {target} must be {value}"),
            ("make the {target} {value}", "the {target} should be {value}"),
            ("swap the {target} for a {value}", "I want a {value} instead of the {target}"),
            ("move the {target} {value}", "please shift the {target} {value}"),
            ("add a {addition}", "there should also be a {addition}", "put a {addition} into it"),
            ("take the {target} away", "get rid of the {target}", "delete the {target}"),
        ),
        strict=True,
    )
)


def sentence(edit: Edit, rng: random.Random) -> str:
    values = {"value": SAID.get(edit.value, edit.value)}
    if edit.target:
        kind, color, place, _ = astuple(edit.target)
        values["target"] = kind
        if edit.told_by:  # there is another one of its kind
            values["target"] = f"{kind} {_at(place)}" if "place" in edit.told_by else f"{color} {kind}"
    if edit.addition:
        kind, color, place, size = astuple(edit.addition)
        values["addition"] = f"{size} {color} {kind} {_at(place)}"
    return rng.choice(SENTENCES[edit.action]).format_map(values)


def _at(place: str) -> str:
    return "in the middle" if place == "middle" else f"on the {place}"


def make_case(index: int) -> Case:
    rng = random.Random(f"edits of one's own {index}")
    scene = random_scene(rng, split="test")
    edit = random_edit(scene, rng)
    wanted = edit.apply(scene)
    shown = Shown("image", scene, seed=700 + index, time=1.0)
    return Case(index, (Exchange(sentence(edit, rng), (shown,), describe(wanted), wanted),), is_edit=True)


def draw(pipeline, edit: Edited, conditioning, way: str) -> Image.Image:
    given = {}
    if way == "LightControl":
        given = {"control_image": edit.source}
    elif way == "mask":
        mask = Image.fromarray(~edit.same)
        given = {"inpaint_source": extend_source(edit.source, mask.convert("L"), (0, 0, 0, 0))}
    elif way.startswith("reference"):
        given = {"reference": edit.source}
    return pipeline(
        conditioning=conditioning,
        width=SIDE,
        height=SIDE,
        num_inference_steps=STEPS,
        generator=torch.Generator().manual_seed(edit.case.index),
        **given,
    ).images[0]


def sheet(pairs: Sequence[tuple[Edited, Image.Image]]) -> Image.Image:
    """Before, after, and the sentence below; two pairs in a row."""
    width, height, font = 2 * SIDE + 28, SIDE + 34, ImageFont.load_default(13)
    image = Image.new("RGB", (2 * width + 8, (len(pairs) + 1) // 2 * height + 8), "white")
    drawing = ImageDraw.Draw(image)
    for number, (edit, drawn) in enumerate(pairs):
        x, y = 8 + number % 2 * width, 8 + number // 2 * height
        image.paste(edit.source, (x, y))
        image.paste(drawn, (x + SIDE + 8, y))
        text = textwrap.shorten(edit.case.dialogue[-1].text, 48, placeholder=" ...")
        drawing.text((x, y + SIDE + 6), text, font=font, fill=(40, 40, 50))
    return image


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("output", type=Path)
    parser.add_argument("--edits", type=int, default=100)
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    pipeline = load_pipeline("x2i-tiny", profile="cpu", kontext=True)
    pipeline.set_progress_bar_config(disable=True)
    reader = Judge.load(JUDGE)
    edits = [Edited.of(make_case(index)) for index in range(options.edits)]
    conditionings = []
    for edit in edits:
        (turn,) = edit.case.turns()
        conditionings.append(pipeline.encode(turn.prompt, images=turn.images))
    results: list[Fidelity] = []
    for way in WAYS:
        drawn = [draw(pipeline, edit, each, way) for edit, each in zip(edits, conditionings, strict=True)]
        results.append(judge(reader, way, edits, drawn))
        print(results[-1].as_dict(), flush=True)
        if way == "LightControl":
            sheet(list(zip(edits, drawn, strict=True))[:SHOWN]).save(options.output / "before-after.png")
    headings = ("edited by", "asked", "95% within", "kept", "95% within", "dB outside", "+-")
    print(table(headings, [each.as_cells() for each in results]))


if __name__ == "__main__":
    main()
