"""Training data for a LoRA of a style: renders with stripes, each with its caption."""

import random
from pathlib import Path

import numpy as np
from PIL import Image

from x2i_app.miniature.draw import draw_scene
from x2i_app.miniature.scene import random_scene
from x2i_app.miniature.sentences import describe

_WIDTH = 8  # pixels: horizontal and vertical width of a stripe in an image of 128 pixels
_DARK = 0.45  # brightness of a dark stripe, as a share


def stripe(image: Image.Image) -> Image.Image:
    """The same RGB image with dark stripes from the lower left to the upper right."""
    light = np.where(_is_dark(image), _DARK, 1.0)[..., None]
    return Image.fromarray((np.asarray(image) * light).round().astype(np.uint8))


def _is_dark(image: Image.Image) -> np.ndarray:
    rows, columns = np.indices((image.height, image.width))
    return (rows + columns) // max(1, _WIDTH * image.width // 128) % 2 == 1


def write_striped(directory: Path, count: int) -> None:
    """Write striped renders and captions of `count` scenes without pairs of HELD_OUT, for `train lora`."""
    directory.mkdir(parents=True, exist_ok=True)
    for index in range(count):
        scene = random_scene(random.Random(f"striped {index}"), split="train")
        stripe(draw_scene(scene, 128, seed=index)).save(directory / f"{index:03d}.png")
        (directory / f"{index:03d}.txt").write_text(describe(scene) + "\n", encoding="utf-8")
