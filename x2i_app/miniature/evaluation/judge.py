"""The judge: a small classifier that reads the attributes of a cartoon scene from an image.

It is trained only on the cartoon world's own renders:

python -m x2i_app.miniature.evaluation.judge --output assets/judge [--steps 2000] [--work runs/judge]
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional

from x2i_app.errors import CheckpointError
from x2i_app.loading.checkpoints import check_state_dict, read_state_dict
from x2i_app.miniature.evaluation.attributes import NOTHING, Reading
from x2i_app.miniature.world import COLOURS, GROUNDS, KINDS, PLACES, SIZES, SKIES, Thing

SIZE = 128  # pixels: width and height of the judge's input
KINDS_OR_NOTHING = (*KINDS, NOTHING)
WEIGHTS_NAME = "model.safetensors"
CONFIG_NAME = "config.json"

_BATCH = 64  # images at a time: enough to be fast, with little memory
# The columns, of 16, that show the thing at each place. Things are centred at 0.18, 0.5 and 0.82 of the width.
_WINDOWS = ((0, 6), (5, 11), (10, 16))
_ROWS = 16


class Logits(NamedTuple):
    """The judge's logits for B images: sky (B, 5), ground (B, 5), and for each of the three places

    kind (B, 3, 13; the last is "nothing"), colour (B, 3, 10) and size (B, 3, 2).
    """

    sky: torch.Tensor
    ground: torch.Tensor
    kind: torch.Tensor
    colour: torch.Tensor
    size: torch.Tensor


class Judge(nn.Module):
    """Strided convolutions to a 16 x 16 map; its rows give sky and ground, three windows of it give the things.

    The windows share their weights, as a thing looks the same at every place.
    widths: channels at 64, 32 and 16 rows and, in a window, at 8 and 4 rows. hidden: width of the last hidden layer.
    """

    def __init__(self, widths: Sequence[int] = (24, 48, 64, 96, 128), hidden: int = 128):
        super().__init__()
        self.config = {"widths": list(widths), "hidden": hidden}
        first, second, third, fourth, fifth = widths
        self.trunk = nn.Sequential(
            *_shrink(3, first), *_shrink(first, second), *_shrink(second, third), *_shrink(third, third, stride=1)
        )
        self.setting = nn.Sequential(
            nn.Linear(third * _ROWS, hidden), nn.ReLU(), nn.Linear(hidden, len(SKIES) + len(GROUNDS))
        )
        self.thing = nn.Sequential(
            *_shrink(third, fourth),
            *_shrink(fourth, fifth),
            nn.Flatten(),
            nn.Linear(fifth * 4 * 2, hidden),
            nn.ReLU(),
            nn.Linear(hidden, len(KINDS_OR_NOTHING) + len(COLOURS) + len(SIZES)),
        )

    @classmethod
    def load(cls, directory: str | Path) -> "Judge":
        """Load from a folder that `save` wrote, in evaluation mode. Raises CheckpointError for any other folder."""
        directory = Path(directory)
        try:
            config = json.loads((directory / CONFIG_NAME).read_text(encoding="utf-8"))
            judge = cls(**config)
        except (OSError, ValueError, TypeError, RuntimeError) as error:
            raise CheckpointError(
                f"{str(directory)!r} has no readable {CONFIG_NAME} of a judge; train one with "
                "`python -m x2i_app.miniature.evaluation.judge`."
            ) from error
        path = directory / WEIGHTS_NAME
        state_dict = read_state_dict(path)
        check_state_dict(path, state_dict, judge)
        judge.load_state_dict(state_dict, strict=True)
        return judge.eval().requires_grad_(False)

    def save(self, directory: Path) -> None:
        """Write the weights, in half precision, and the configuration to a folder, which may exist."""
        directory.mkdir(parents=True, exist_ok=True)
        weights = {key: value.detach().to("cpu", torch.float16) for key, value in self.state_dict().items()}
        save_file(weights, directory / WEIGHTS_NAME)
        (directory / CONFIG_NAME).write_text(json.dumps(self.config, indent=2) + "\n", encoding="utf-8")

    def forward(self, images: torch.Tensor) -> Logits:
        """Logits of images (B, 3, H, W) in [-1, 1]; sizes other than 128 x 128 are resized."""
        features = self.trunk(fit(images))
        sky, ground = self.setting(features.mean(dim=3).flatten(1)).split((len(SKIES), len(GROUNDS)), dim=1)
        windows = torch.stack([features[..., start:end] for start, end in _WINDOWS], dim=1)
        things = self.thing(windows.flatten(0, 1)).unflatten(0, (-1, len(PLACES)))
        kind, colour, size = things.split((len(KINDS_OR_NOTHING), len(COLOURS), len(SIZES)), dim=2)
        return Logits(sky, ground, kind, colour, size)

    @torch.no_grad()
    def read(self, images: torch.Tensor) -> list[Reading]:
        """The most likely attributes of each image, (B, 3, H, W) in [-1, 1]."""
        readings: list[Reading] = []
        for batch in images.split(_BATCH):
            best = [logits.argmax(dim=-1).tolist() for logits in self(batch)]
            readings.extend(_reading(*choices) for choices in zip(*best, strict=True))
        return readings


def fit(images: torch.Tensor) -> torch.Tensor:
    """Images (B, 3, H, W) resized to the judge's input, (B, 3, 128, 128)."""
    if images.shape[-2:] == (SIZE, SIZE):
        return images
    return functional.interpolate(images, (SIZE, SIZE), mode="bilinear", antialias=True)


def _shrink(width_in, width_out, stride=2):
    return (
        nn.Conv2d(width_in, width_out, 3, stride, padding=1, bias=False),
        nn.GroupNorm(8, width_out),  # no running statistics, so averaged weights stay consistent
        nn.ReLU(),
    )


def _reading(sky, ground, kinds, colours, sizes):
    things = tuple(
        Thing(KINDS[kind], COLOURS[colour], place, SIZES[size])
        for place, kind, colour, size in zip(PLACES, kinds, colours, sizes, strict=True)
        if KINDS_OR_NOTHING[kind] != NOTHING
    )
    return Reading(SKIES[sky], GROUNDS[ground], things)


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of the command."""
    from x2i_app.miniature.evaluation import judge_training  # it imports this module

    judge_training.main(arguments)


if __name__ == "__main__":
    main()
