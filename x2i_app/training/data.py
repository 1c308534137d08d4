"""Training data where it lies: tar shards as the `webdataset` library names them, plain folders, JSONL and text files.

Shards are indexed once, by their headers, and then read at any position: a batch can so be a function of its step,
which makes a run resumable. Nothing is unpickled, extracted or run. Broken samples are counted and named; more of them
than a limit stops the run.
"""

import hashlib
import io
import itertools
import json
import re
import sys
import tarfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import PartialState
from PIL import Image, ImageOps, UnidentifiedImageError
from tqdm.auto import tqdm

from x2i_app.errors import InvalidRequestError, TrainingError, X2IError
from x2i_app.request import validate_text

_ALTERNATIVES = re.compile(r"\{([^{}]+)\}")
_RANGE = re.compile(r"(\d+)\.\.(\d+)")
_FORMS = (
    "give a .tar, .jsonl or .txt file, a folder, or several of them by a pattern such as shards/*.tar or {000..099}.tar"
)
_SOURCE_EXTENSIONS, _TARGET_EXTENSIONS = ("jpg", "jpeg", "webp"), ("png",)
_IMAGE_EXTENSIONS = ("jpg", "jpeg", "png", "webp")
_MAX_PIXELS = 2**26


@dataclass(frozen=True)
class Span:
    """Some bytes of a file."""

    path: Path
    offset: int
    size: int

    def read(self) -> bytes:
        """Raises OSError, also where the file ends too early."""
        with self.path.open("rb") as file:
            file.seek(self.offset)
            content = file.read(self.size)
        if len(content) < self.size:
            raise OSError(f"{self.path.name} is cut")
        return content


@dataclass(frozen=True)
class Sample:
    """Files that belong together, by extension, e.g. {"jpg": ..., "png": ..., "json": ...}.

    key: unique and readable, e.g. "shard-000.tar/0007". A JSONL record is a sample whose only part is "json".
    """

    key: str
    parts: Mapping[str, Span]

    def read(self, extension: str) -> bytes:
        """A part's bytes. Raises LookupError if there is no such part, OSError if it cannot be read."""
        if extension not in self.parts:
            raise LookupError(f"it has no .{extension}, only {', '.join(sorted(self.parts))}")
        return self.parts[extension].read()

    def read_json(self) -> dict[str, Any]:
        """The part "json", an object. Raises LookupError, OSError or ValueError."""
        content = json.loads(self.read("json"))
        if not isinstance(content, dict):
            raise ValueError("its JSON is not an object")
        return content


@dataclass
class Broken:
    """Samples that cannot be used: each is named on standard error, and too many of them stop the run."""

    limit: int
    names: list[str] = field(default_factory=list)

    def add(self, name: str, reason: object) -> None:
        """Count one. Raises TrainingError when there are more than `limit`."""
        self.names.append(name)
        if PartialState().is_main_process:  # all processes read the same
            tqdm.write(f"Left out {name}: {reason}", file=sys.stderr)
        if len(self.names) > self.limit:
            raise TrainingError(
                f"{len(self.names)} samples are broken and {self.limit} may be, the last one is {name} ({reason}); "
                "repair the data or raise max_broken."
            )


# Samples


def find_samples(source: str | Path, broken: Broken) -> list[Sample]:
    """Every sample of a source, in a fixed order.

    source: a .tar shard, a .jsonl file, or a folder of such shards, of such files, or of plain files, where files with
    the same stem form one sample; also a pattern with `*`, `?`, `{000..099}` and `{a,b}`.
    Raises TrainingError if there are no samples, or too many of them are broken.
    """
    samples = [sample for path in find_files(source) for sample in _samples_of(path, broken)]
    if not samples:
        raise TrainingError(f"{str(source)!r} holds no samples; {_FORMS}.")
    return samples


def find_files(source: str | Path) -> list[Path]:
    """The files and folders that a source names. Raises TrainingError for one that does not exist."""
    found = []
    for pattern in _expand(str(source)):
        path = Path(pattern)
        if path.exists():
            found.append(path)
            continue
        root = Path(path.anchor)
        matches = sorted(root.glob(str(path.relative_to(root)))) if re.search(r"[*?\[]", pattern) else []
        if not matches:
            raise TrainingError(f"There is no {pattern!r}; {_FORMS}.")
        found += matches
    return found


def _expand(pattern: str) -> Iterator[str]:
    """`a{1..3}b` as a1b, a2b, a3b, with leading zeros kept, and `{x,y}` as x, y."""
    match = _ALTERNATIVES.search(pattern)
    if match is None:
        yield pattern
        return
    if bounds := _RANGE.fullmatch(match[1]):
        low, high = bounds.groups()
        choices = [str(number).zfill(len(low)) for number in range(int(low), int(high) + 1)]
    else:
        choices = match[1].split(",")
    for choice in choices:
        yield from _expand(pattern[: match.start()] + choice + pattern[match.end() :])


def _samples_of(path: Path, broken: Broken) -> list[Sample]:
    if path.is_dir():
        for suffix in (".tar", ".jsonl"):
            if files := sorted(path.glob(f"*{suffix}")):
                return [sample for file in files for sample in _samples_of(file, broken)]
        files = [file for file in path.rglob("*") if file.is_file() and not file.name.startswith(".")]
        files.sort(key=lambda file: (file.parent, file.stem, file.suffix))
        # File names that people choose have dots in their stem too.
        return _group(
            (str(file.with_suffix("")), file.suffix[1:], Span(file, 0, file.stat().st_size)) for file in files
        )
    if path.suffix == ".tar":
        return _group((*_split(f"{path}/{name}"), span) for name, span in _members(path, broken))
    if path.suffix == ".jsonl":
        return [Sample(f"{path}:{number}", {"json": span}) for number, span in _records(path)]
    raise TrainingError(f"{str(path)!r} is not a data file; {_FORMS}.")


def _members(path: Path, broken: Broken) -> Iterator[tuple[str, Span]]:
    """Name and bytes of every file in a shard, up to where it is cut or damaged."""
    size = path.stat().st_size
    try:
        with tarfile.open(path, "r:") as shard:
            for member in shard:
                if member.isfile():
                    if member.offset_data + member.size > size:
                        raise tarfile.ReadError(f"it is cut inside {member.name}")
                    yield member.name, Span(path, member.offset_data, member.size)
                elif not member.isdir():
                    broken.add(f"{path}/{member.name}", "it is a link or a device, not a file")
            if shard.offset + tarfile.BLOCKSIZE > size:  # tarfile takes half a header for the end
                raise tarfile.ReadError("it is cut, its end marker is missing")
    except (tarfile.TarError, OSError) as error:
        broken.add(str(path), error)


def _records(path: Path) -> Iterator[tuple[int, Span]]:
    """Number and bytes of every record of a JSONL file."""
    offset = 0
    with path.open("rb") as file:
        for number, record in enumerate(file, 1):
            if record.strip():
                yield number, Span(path, offset, len(record))
            offset += len(record)


def _split(name: str) -> tuple[str, str]:
    """Stem and extension of a file in a shard: up to the first dot and after it, as the webdataset library has them."""
    folder, _, base = name.rpartition("/")
    stem, _, extension = base.partition(".")
    return f"{folder}/{stem}" if stem else "", extension


def _group(files: Iterator[tuple[str, str, Span]]) -> list[Sample]:
    """Files, by stem and extension, that follow each other and have the same stem are one sample."""
    named = [(stem, extension.lower(), span) for stem, extension, span in files if stem and extension]
    grouped = itertools.groupby(named, key=lambda item: item[0])
    return [Sample(key, {extension: span for _, extension, span in items}) for key, items in grouped]


# Captions


@dataclass(frozen=True)
class TrainingCaption:
    """caption: what the MLLM reads. taught: what the teacher reads, mostly the same. image: beside it, if any."""

    caption: str
    taught: str
    image: Span | None = None


def read_captions(
    sources: Sequence[str | Path], caption_field: str, broken: Broken, taught_field: str | None = None
) -> list[TrainingCaption]:
    """Captions in a fixed order: the lines of .txt files, or the `txt` or JSON field of samples.

    caption_field: of samples with JSON. taught_field: likewise, for a teacher that reads another text; None: it reads
    the caption. Raises TrainingError if there are none, or more are broken than allowed.
    """
    found = []
    for source in sources:
        for path in find_files(source):
            for name, read in _caption_readers(path, caption_field, taught_field, broken):
                try:
                    found.append(read())
                except (LookupError, OSError, ValueError, InvalidRequestError) as error:
                    broken.add(name, error)
    if not found:
        raise TrainingError(f"There are no captions in {', '.join(map(str, sources))}; {_FORMS}.")
    return found


def _caption_readers(
    path: Path, caption_field: str, taught_field: str | None, broken: Broken
) -> Iterator[tuple[str, Callable[[], TrainingCaption]]]:
    """Name of every sample of a file or folder, and a function that reads it."""
    if path.suffix == ".txt":
        for number, text in enumerate(path.read_bytes().splitlines(), 1):
            if text.strip():
                yield f"{path}:{number}", lambda text=text: TrainingCaption(_clean(text), _clean(text))
        return
    for sample in _samples_of(path, broken):
        yield sample.key, lambda sample=sample: _read_caption(sample, caption_field, taught_field)


def _read_caption(sample: Sample, caption_field: str, taught_field: str | None) -> TrainingCaption:
    content = {} if "txt" in sample.parts and taught_field is None else sample.read_json()
    caption = _clean(sample.read("txt") if "txt" in sample.parts else _field(content, caption_field))
    taught = caption if taught_field is None else _clean(_field(content, taught_field))
    images = [sample.parts[extension] for extension in _IMAGE_EXTENSIONS if extension in sample.parts]
    return TrainingCaption(caption, taught, images[0] if images else None)


def _field(content: Mapping[str, Any], name: str) -> Any:
    if name not in content:
        raise LookupError(f"its JSON has no {name!r}, only {', '.join(sorted(content))}")
    return content[name]


def _clean(text: Any) -> str:
    caption = validate_text("its caption", text.decode("utf-8") if isinstance(text, bytes) else text).strip()
    if not caption:
        raise ValueError("its caption is empty")
    return caption


# Images


@dataclass(frozen=True)
class TrainingImage:
    """caption: of the target, or an instruction where there is a source. target, source: extensions in the sample.

    name: of this sample with this content, for caches.
    """

    sample: Sample
    caption: str
    target: str
    source: str | None
    name: str

    def open(self, extension: str) -> Image.Image:
        """The target or the source as an RGB image. Raises OSError, ValueError."""
        return open_image(self.sample.read(extension))


def read_images(
    sources: Sequence[str], caption_field: str, broken: Broken, *, with_source: bool
) -> list[TrainingImage]:
    """Samples of a .png image, or of any single image, and a caption: a .txt part or a field of a .json part.

    A .jpg or .webp beside a .png is its source. with_source: every sample must have one.
    Raises TrainingError if there are none, or more are broken than allowed.
    """
    images = []
    samples = [sample for source in sources for sample in find_samples(source, broken)]
    for sample in tqdm(samples, desc="images", dynamic_ncols=True, disable=not PartialState().is_main_process):
        try:
            images.append(_read_image(sample, caption_field, with_source))
        except (LookupError, OSError, ValueError, X2IError) as error:
            broken.add(sample.key, error)
    if not images:
        raise TrainingError(f"There are no images with captions in {', '.join(map(str, sources))}.")
    return images


def _read_image(sample: Sample, caption_field: str, with_source: bool) -> TrainingImage:
    found = [part for part in sample.parts if part in _IMAGE_EXTENSIONS]
    if not found:
        raise LookupError(f"it has no image, only {', '.join(sorted(sample.parts))}")
    target = next((part for part in found if part in _TARGET_EXTENSIONS), found[0])
    source = next((part for part in found if part in _SOURCE_EXTENSIONS and part != target), None)
    if with_source and source is None:
        raise LookupError("it has no source image, a .jpg beside the .png")
    if not {"txt", "json"} & sample.parts.keys():
        raise LookupError("it has no caption, a .txt (or .json) of the same name")
    caption = sample.read("txt").decode("utf-8") if "txt" in sample.parts else _field(sample.read_json(), caption_field)
    caption = validate_text("its caption", caption).strip()
    digest = hashlib.sha256(caption.encode())
    for part in filter(None, (target, source)):
        content = sample.read(part)
        digest.update(content)
        try:
            open_image(content)
        except (UnidentifiedImageError, OSError) as error:
            raise ValueError(f"its .{part} is not a readable image") from error
    return TrainingImage(sample, caption, target, source, f"{sample.key} {digest.hexdigest()}")


def open_image(content: bytes) -> Image.Image:
    """An RGB image, upright. Raises ValueError or OSError for what is none, or has more than 64 million pixels."""
    image = Image.open(io.BytesIO(content), formats=("JPEG", "PNG", "WEBP"))
    if image.width * image.height > _MAX_PIXELS:
        raise ValueError(f"it has {image.width} x {image.height} pixels")
    return ImageOps.exif_transpose(image).convert("RGB")


def to_square(image: Image.Image, side: int) -> torch.Tensor:
    """(3, side, side) in [-1, 1], of the middle square of an RGB image."""
    pixels = np.array(ImageOps.fit(image, (side, side), Image.Resampling.BICUBIC))
    return torch.from_numpy(pixels).permute(2, 0, 1).float() / 127.5 - 1
