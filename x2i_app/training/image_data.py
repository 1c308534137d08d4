"""Images for training, each with its caption and sometimes with a source, and their sizes."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from accelerate import PartialState
from PIL import Image, ImageOps
from tqdm.auto import tqdm

from x2i_app.errors import TrainingError
from x2i_app.media import load_image
from x2i_app.training.caption_data import TrainingCaption, check_caption, clean_text, read_field
from x2i_app.training.samples import IMAGE_EXTENSIONS, Broken, Sample, find_samples, printable

_TARGET_EXTENSIONS = ("png",)
_SOURCE_EXTENSIONS = tuple(each for each in IMAGE_EXTENSIONS if each not in _TARGET_EXTENSIONS)
_SMALLEST_SIDE = 8  # pixels of an image: the size of one latent
_UNEVEN = 1.05  # times by which the aspect ratios of a pair may differ


@dataclass(frozen=True)
class TrainingImage:
    """caption: of the target, or an instruction where there is a source. target, source: extensions in the sample.

    name: of this sample with this content, for caches. is_even: target and source have about the same aspect ratio.
    """

    sample: Sample
    caption: str
    target: str
    source: str | None
    name: str
    is_even: bool = True

    @classmethod
    def of_prompt(cls, prompt: str) -> "TrainingImage":
        """A prompt without an image, in the place of an image's caption."""
        return cls(Sample(prompt, {}), prompt, "", None, f"prompt {prompt}")

    @property
    def digest(self) -> str:
        """Of the caption and all images: equal for copies."""
        return self.name.rpartition(" ")[2]

    def open(self, extension: str) -> Image.Image:
        """The target or the source as an RGB image. Raises OSError, MediaError."""
        return open_image(self.sample.read(extension))


def read_images(
    sources: Sequence[str], caption_field: str, broken: Broken, *, with_source: bool
) -> list[TrainingImage]:
    """Samples of a .png image, or of any single image, and a caption: a .txt part or a field of a .json part.

    Any other image beside a .png is its source. Images of kohya's folders come as often as these say, the copies last.
    with_source: every sample must have one.
    Raises TrainingError if there are none, or more are broken than allowed.
    """
    images, repeated, orphans, copies = [], [], [], []
    known: dict[str, str] = {}
    samples = [sample for source in sources for sample in find_samples(source, broken, caption_field)]
    for sample in tqdm(samples, desc="images", dynamic_ncols=True, disable=not PartialState().is_main_process):
        if sample.is_loose and not set(IMAGE_EXTENSIONS) & sample.parts.keys():
            orphans.append(Path(sample.key).name)
            continue
        try:
            image = _read_image(sample, caption_field, with_source)
            first = known.setdefault(image.digest, sample.key)
            if first != sample.key:
                copies.append(f"{Path(sample.key).name} of {Path(first).name}")
                continue
            images.append(image)
            repeated += [image] * (sample.repeats - 1)
        except Exception as error:  # noqa: BLE001 - whatever is wrong with one sample, the others are read
            broken.add(sample.key, error)
    if orphans:
        broken.say(printable(f"Passed over {len(orphans):,} captions without an image: {', '.join(orphans[:5])}."))
    if copies:
        broken.say(printable(f"Passed over {len(copies):,} copies with equal captions: {', '.join(copies[:5])}."))
    if uneven := [Path(image.sample.key).name for image in images if not image.is_even]:
        broken.say(
            printable(
                f"Of {len(uneven):,} pairs the two images have other aspect ratios, so only their middles are used and "
                f"may not match: {', '.join(uneven[:5])}."
            )
        )
    if not images:
        raise TrainingError(f"There are no images with captions in {', '.join(map(str, sources))}.")
    return images + repeated


def _read_image(sample: Sample, caption_field: str, with_source: bool) -> TrainingImage:
    found = [part for part in sample.parts if part in IMAGE_EXTENSIONS]
    if not found:
        raise LookupError(f"it has no image, only {', '.join(sorted(sample.parts))}")
    target = next((part for part in found if part in _TARGET_EXTENSIONS), found[0])
    source = next((part for part in found if part in _SOURCE_EXTENSIONS and part != target), None)
    if with_source and source is None:
        raise LookupError("it has no source image, a .jpg beside the .png")
    check_caption(sample)
    caption = clean_text(sample.read("txt") if "txt" in sample.parts else read_field(sample.read_json(), caption_field))
    digest, ratios = hashlib.sha256(caption.encode()), []
    for part in filter(None, (target, source)):
        content = sample.read(part)
        digest.update(content)
        try:
            width, height = open_image(content).size
        except Exception as error:
            raise ValueError(f"its .{part} is not a readable image ({error})") from error
        if min(width, height) < _SMALLEST_SIDE:
            raise ValueError(f"its .{part} has {width} x {height} pixels; a side needs at least {_SMALLEST_SIDE}")
        ratios.append(width / height)
    is_even = max(ratios) <= _UNEVEN * min(ratios)
    return TrainingImage(sample, caption, target, source, f"{sample.key} {digest.hexdigest()}", is_even)


def leave_out_broken_images(captions: Sequence[TrainingCaption], broken: Broken) -> list[TrainingCaption]:
    """The captions whose image, which each must have, can be opened."""
    found = []
    for caption in tqdm(captions, desc="images", dynamic_ncols=True, disable=not PartialState().is_main_process):
        try:
            open_image(caption.image.read())
            found.append(caption)
        except Exception as error:  # noqa: BLE001 - whatever is wrong with one image, the others are read
            broken.add(str(caption.image.path), f"its image at byte {caption.image.offset:,} cannot be read ({error})")
    return found


def open_image(content: bytes) -> Image.Image:
    """An RGB image as `load_image` gives it. Raises MediaError for what is none, or is too large."""
    return load_image(content)


def bucket_size(width: int, height: int, resolution: int) -> tuple[int, int]:
    """Width and height near an image's aspect ratio, up to 2 : 1, and near the area of a square of side `resolution`.

    Both are multiples of a 16th of the resolution and of 16, so that few sizes share all images.
    """
    ratio = min(max(width / height, 0.5), 2.0)
    step = max(16, resolution // 16 // 16 * 16)
    size = tuple(max(1, round(resolution * share / step)) * step for share in (ratio**0.5, ratio**-0.5))
    return (resolution, resolution) if size[0] == size[1] else size


def to_pixels(image: Image.Image, size: tuple[int, int]) -> torch.Tensor:
    """(3, height, width) in [-1, 1], of the middle of an RGB image. size: width and height."""
    pixels = np.array(ImageOps.fit(image, size, Image.Resampling.BICUBIC))
    return torch.from_numpy(pixels).permute(2, 0, 1).float() / 127.5 - 1
