"""Flags that say what to draw, as `generate` and `batch` share them."""

import argparse
from collections.abc import Callable
from pathlib import Path


def add_request(parser: argparse.ArgumentParser) -> None:
    """Flags that fill a GenerationRequest. Numbers stay words here: the request itself says what is allowed."""
    parser.add_argument("--prompt", help="what to show, in any language")
    parser.add_argument(
        "--from-picture",
        metavar="FILE",
        help="a PNG of X2I: take its words and settings where no flag says otherwise; give its media files again",
    )
    for modality in ("image", "video", "audio"):
        parser.add_argument(
            f"--{modality}", action="append", default=[], metavar="FILE", help=f"{modality} to look at; may be repeated"
        )
    add_numbers(parser)
    add_image_flags(parser)
    parser.add_argument("--mask", metavar="FILE", help="picture of the source's shape; only what is white is painted")
    parser.add_argument("--outpaint", type=_margins, metavar="L,T,R,B", help="pixels to add on each side, painted")
    parser.add_argument("--source", metavar="FILE", help="picture to keep to or paint on; default: the one --image")
    parser.add_argument(
        "--history",
        type=Path,
        metavar="FILE",
        help="JSON list of turns: prompt, images, videos, audios, answer; names of files count from its folder",
    )
    parser.add_argument("--output", type=Path, default=Path("x2i.png"), help="PNG file; several are numbered")


def add_numbers(parser: argparse.ArgumentParser) -> None:
    """Flags for the numbers and switches of SETTINGS."""
    numbers = {
        "width": "pixels",
        "height": "pixels",
        "steps": "denoising steps",
        "guidance": "guidance scale",
        "seed": "the first picture's seed; each further one adds 1",
        "count": "how many pictures",
    }
    for name, words in numbers.items():
        parser.add_argument(f"--{name}", type=number(name), metavar="N", help=words)
    parser.add_argument(
        "--reason", action="store_true", default=None, help="let the model answer first, and draw its answer"
    )


def add_image_flags(parser: argparse.ArgumentParser) -> None:
    """Flags that also every row of a batch may have: how much of a picture stays, and LoRAs."""
    keep = "how closely to keep to the picture where the words leave it alone; 0: not at all, 1: as trained"
    parser.add_argument("--control", type=number("control"), metavar="N", help=keep)
    change = "how much of the picture is drawn anew, up to 1; below 1 it begins with the picture, not with noise"
    parser.add_argument("--strength", type=number("strength"), metavar="N", help=change)
    parser.add_argument(
        "--lora",
        dest="loras",
        type=_lora,
        action="append",
        metavar="FILE[:WEIGHT]",
        help="a LoRA, a safetensors file, with a weight that is 1 if not given; several are mixed",
    )


def number(name: str) -> Callable[[str], float]:
    """For argparse: text to a number, whole where it is one."""

    def convert(text: str) -> float:
        try:
            return int(text)
        except ValueError:
            pass
        try:
            return float(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is no number") from None

    convert.__name__ = name
    return convert


def _lora(text: str) -> tuple[str, float]:
    """`FILE:WEIGHT`, or a file alone."""
    path, _, weight = text.rpartition(":")
    try:
        return path, float(weight)
    except ValueError:
        return text, 1.0


def _margins(text: str) -> tuple[float, ...]:
    """`L,T,R,B`; the request says what is allowed."""
    return tuple(map(number("outpaint"), text.split(",")))
