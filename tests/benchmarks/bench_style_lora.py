"""Does `train lora` learn a style from twenty drawings? python -m tests.benchmarks.bench_style_lora watercolor runs/x

It writes twenty drawings of x2i-tiny's world in a style, with captions that do not name it, and trains with the flags
after the folder (none: the defaults). Then it draws new scenes, none of them in the data, with and without the LoRA,
from the same noise, and asks two judges:

- style: a small network, trained here on renders in both ways and measured on others, says which of both an image is.
- attributes: the world's own judge, assets/judge. It knows plain renders only, so what the style does to the colors is
  undone first. What that costs is shown by the row `by hand`, the images without the LoRA put into the style by the
  function that made the drawings, and by `renders`, which are right by construction.

The folder gets the LoRA's run and `before-after.png`. Files that are there are used again.
"""

import argparse
import random
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image, ImageFilter
from torch import nn

from x2i_app import load_pipeline
from x2i_app.evaluation.wilson import interval
from x2i_app.loading import use_loras
from x2i_app.miniature.draw import draw_scene
from x2i_app.miniature.evaluation.attributes import Tally, compare
from x2i_app.miniature.evaluation.judge import Judge
from x2i_app.miniature.scene import Scene, random_scene
from x2i_app.miniature.sentences import describe
from x2i_app.settings import ASSETS

DRAWINGS, SIDE, SHOWN = 20, 128, 6
_PAPER, _INK, _PALE = np.array([255, 250, 235.0]), np.array([50, 45, 50.0]), 0.55


def invert(image: Image.Image) -> Image.Image:
    """The negative: every color is its complement."""
    return _to_image(255 - _pixels(image))


def pencil(image: Image.Image) -> Image.Image:
    """Pale colors on yellowish paper inside dark lines."""
    gray = np.asarray(image.convert("L").filter(ImageFilter.GaussianBlur(0.6)), float)
    strokes = np.clip(np.hypot(*np.gradient(gray)) / 18, 0, 1)[..., None]
    pale = (255 - _PALE * (255 - _pixels(image))) * _PAPER / 255
    return _to_image(pale * (1 - strokes) + strokes * _INK)


def watercolor(image: Image.Image) -> Image.Image:
    """Pale colors that run a little, on yellowish paper whose grain shows."""
    soft = _pixels(image.filter(ImageFilter.GaussianBlur(1.2)))
    rows, columns = np.indices(soft.shape[:2])
    grain = 1 + 0.04 * (np.sin(0.9 * rows + 0.4 * columns) + np.sin(0.5 * rows - 1.1 * columns))[..., None]
    return _to_image((255 - _PALE * grain * (255 - soft)) * _PAPER / 255)


def full_colors(image: Image.Image) -> Image.Image:
    """A drawing without the paper and with its full colors; lines and grain stay."""
    return _to_image(255 - (255 - _pixels(image) * 255 / _PAPER) / _PALE)


class Style(NamedTuple):
    """apply: a plain image in the style. undo: the colors back again, for the judge of attributes."""

    apply: Callable[[Image.Image], Image.Image]
    undo: Callable[[Image.Image], Image.Image]


STYLES = {
    "watercolor": Style(watercolor, full_colors),
    "pencil": Style(pencil, full_colors),
    "inverted": Style(invert, invert),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("style", choices=STYLES)
    parser.add_argument("output", type=Path)
    parser.add_argument("--scenes", type=int, default=40)
    parser.add_argument("--lora", type=Path, help="this file in place of training")
    options, flags = parser.parse_known_args()
    style = STYLES[options.style]
    lora = options.lora or train(style, options.output, flags)
    torch.manual_seed(0)
    judge = train_style_judge(style)
    scenes = [random_scene(random.Random(f"proof {index}"), split="test") for index in range(options.scenes)]
    pipeline = load_pipeline("x2i-tiny")
    print("images", file=sys.stderr)
    plain = [draw(pipeline, scene, seed) for seed, scene in enumerate(scenes)]
    use_loras(pipeline, [(lora, 1.0)])
    styled = [draw(pipeline, scene, seed) for seed, scene in enumerate(scenes)]
    renders = [style.apply(draw_scene(scene, SIDE, seed=seed)) for seed, scene in enumerate(scenes)]

    attributes = Judge.load(ASSETS / "judge")
    print(f"{'':12}{'in the style':>16}{'attributes right':>20}   95 % interval of these")
    for name, images, undo in (
        ("without", plain, lambda image: image),
        ("with", styled, style.undo),
        ("by hand", list(map(style.apply, plain)), style.undo),
        ("renders", renders, style.undo),
    ):
        tallies = [
            compare(reading, scene)
            for reading, scene in zip(attributes.read(_batch(map(undo, images))), scenes, strict=True)
        ]
        low, high = interval([tally.counts for tally in tallies])
        found = sum(tallies, Tally())
        styled_count = in_style(judge, images)
        print(
            f"{name:12}{styled_count:>12} of {len(images)}{found.accuracy:>18.1%}   {low:.1%} to {high:.1%}; "
            f"{', '.join(f'{key} {value:.0%}' for key, value in found.by_attribute.items())}"
        )
    show(options.output / "before-after.png", [plain, styled, renders])


def train(style: Style, output: Path, flags: Sequence[str]) -> Path:
    """The LoRA of `train lora` on drawings of scenes."""
    data, lora = output / "drawings", output / "lora.safetensors"
    data.mkdir(parents=True, exist_ok=True)
    for index in range(DRAWINGS):
        scene = random_scene(random.Random(f"drawing {index}"), split="train")
        style.apply(draw_scene(scene, SIDE, seed=index)).save(data / f"{index:03d}.png")
        (data / f"{index:03d}.txt").write_text(describe(scene) + "\n", encoding="utf-8")
    if not lora.is_file():
        command = [sys.executable, "-m", "x2i_app", "train", "lora", "--data", data, "--output", output, *flags]
        subprocess.run(command, check=True)
    return lora


def train_style_judge(style: Style, count: int = 240, steps: int = 150) -> nn.Module:
    """A network that gives a number above 0 for an image in the style. Prints how right it is on others."""
    judge = nn.Sequential(
        *(nn.Conv2d(3, 16, 5, 2), nn.ReLU(), nn.Conv2d(16, 32, 3, 2), nn.ReLU()),
        *(nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(512, 32), nn.ReLU(), nn.Linear(32, 1)),
    )
    plain = [draw_scene(random_scene(random.Random(f"judge {index}")), SIDE, seed=index) for index in range(count)]
    rng = random.Random(0)
    # FLUX draws a little softer than the renderer; softness must not tell the two apart.
    soft = [image.filter(ImageFilter.GaussianBlur(rng.uniform(0, 1.2))) for image in [*plain, *map(style.apply, plain)]]
    images, wanted = _batch(soft), torch.tensor([0.0] * count + [1.0] * count)
    places = torch.randperm(2 * count)
    unknown, known = places[: count // 3], places[count // 3 :]
    optimizer = torch.optim.AdamW(judge.parameters(), 2e-3)
    for _ in range(steps):
        chosen = known[torch.randint(len(known), (32,))]
        loss = nn.functional.binary_cross_entropy_with_logits(judge(images[chosen])[:, 0], wanted[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        right = ((judge(images[unknown])[:, 0] > 0) == (wanted[unknown] > 0)).float().mean()
    print(f"The judge of the style is right on {right:.1%} of {len(unknown)} renders that it never saw.")
    return judge


@torch.no_grad()
def in_style(judge: nn.Module, images: Sequence[Image.Image]) -> int:
    return int((judge(_batch(images))[:, 0] > 0).sum())


def draw(pipeline, scene: Scene, seed: int) -> Image.Image:
    return pipeline(
        prompt=describe(scene), width=SIDE, height=SIDE, generator=torch.Generator().manual_seed(seed)
    ).images[0]


def show(path: Path, rows: Sequence[Sequence[Image.Image]]) -> None:
    """A sheet: a row without the LoRA, one with it, one of renders."""
    sheet = Image.new("RGB", (SHOWN * SIDE, len(rows) * SIDE))
    for y, row in enumerate(rows):
        for x, image in enumerate(row[:SHOWN]):
            sheet.paste(image, (x * SIDE, y * SIDE))
    sheet.save(path)
    print(path)


def _pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image.convert("RGB"), float)


def _to_image(pixels: np.ndarray) -> Image.Image:
    return Image.fromarray(pixels.clip(0, 255).round().astype(np.uint8))


def _batch(images) -> torch.Tensor:
    return torch.from_numpy(np.stack([_pixels(image) for image in images])).permute(0, 3, 1, 2).float() / 127.5 - 1


if __name__ == "__main__":
    main()
