"""Write the data with which `python -m x2i_app train` trains x2i-tiny's AlignNet and LightControl, and a LoRA:

python -m x2i_app.miniature.training_data captions|edits|striped [--output runs/miniature/captions.jsonl] [--count 6000]

captions: English prompts and their canonical sentences, for `train distill`. edits: pairs of renders, for `train
light-control`. striped: images in a style, for `train lora`. The files configs/miniature-*.yaml expect the data at the
default outputs.
"""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from x2i_app.miniature.align import write_prompts
from x2i_app.miniature.control import write_edits
from x2i_app.miniature.pool import edit_pools
from x2i_app.miniature.recipe import RECIPE
from x2i_app.miniature.striped import write_striped


class _Kind(NamedTuple):
    """write: writes `count` samples to a file or folder. output, count: the defaults."""

    write: Callable[[Path, int, int], None]
    output: str
    count: int


def _write_edits(path: Path, count: int, seed: int) -> None:
    path.unlink(missing_ok=True)
    write_edits(edit_pools(path.parent / "images", count, seed), path, seed)


KINDS = {
    "captions": _Kind(write_prompts, "runs/miniature/captions.jsonl", RECIPE.align.captions),
    "edits": _Kind(_write_edits, "runs/miniature/edits.tar", RECIPE.control.pairs),
    "striped": _Kind(lambda path, count, seed: write_striped(path, count), "runs/miniature/striped", 20),
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of the command."""
    parser = argparse.ArgumentParser(
        prog="python -m x2i_app.miniature.training_data", description=__doc__.splitlines()[0]
    )
    parser.add_argument("kind", choices=KINDS, help="which data to write")
    parser.add_argument("--output", type=Path, help="file, or folder of images")
    parser.add_argument("--count", type=int, help="number of prompts, pairs or images")
    parser.add_argument("--seed", type=int, default=0, help="seed of the data (0)")
    options = parser.parse_args(arguments)
    kind = KINDS[options.kind]
    output = options.output or Path(kind.output)
    kind.write(output, options.count or kind.count, options.seed)
    print(output)


if __name__ == "__main__":
    main()
