"""Training data where it lies: tar shards as the `webdataset` library names them, plain folders, JSONL and text files.

Shards are indexed once, by their headers, and then read at any position: a batch can so be a function of its step,
which makes a run resumable. Nothing is unpickled, extracted or run. Broken samples are counted and named; more of them
than a limit stops the run.
"""

import hashlib
import itertools
import json
import re
import sys
import tarfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from math import gcd
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from accelerate import PartialState
from PIL import Image, ImageOps
from tqdm.auto import tqdm

from x2i_app.caption_files import (
    CAPTION_SUFFIXES,
    IMAGE_SUFFIXES,
    decode_text,
    describe_strangers,
    find_tables,
    folder_repeats,
    read_table,
    visible_files,
)
from x2i_app.errors import InvalidRequestError, TrainingError
from x2i_app.media import load_image
from x2i_app.request import validate_text

_ALTERNATIVES = re.compile(r"\{([^{}]+)\}")
_RANGE = re.compile(r"(\d+)\.\.(\d+)")
_FORMS = (
    "give a .tar, .jsonl or .txt file, a folder, or several of them by a pattern such as shards/*.tar or {000..099}.tar"
)
_IMAGE_EXTENSIONS = tuple(sorted(suffix[1:] for suffix in IMAGE_SUFFIXES))
_TARGET_EXTENSIONS = ("png",)
_SOURCE_EXTENSIONS = tuple(each for each in _IMAGE_EXTENSIONS if each not in _TARGET_EXTENSIONS)
_TEXT_EXTENSIONS = (*(suffix[1:] for suffix in CAPTION_SUFFIXES), "json")
_EXTENSIONS = (*_IMAGE_EXTENSIONS, *_TEXT_EXTENSIONS)
_PAIRS = ("source", "target")  # folders of pairs of images
_LONGEST_TEXT = 2**22  # bytes of one caption or JSON object
_LONGEST_HEADER = 2**20  # bytes of one header in a shard; a usual one has 512
_LONGEST_REASON = 300  # characters of a name or a reason in a message
_MOST_FILES = 1_000_000  # of one pattern
_SMALLEST_SIDE = 8  # pixels of an image: the size of one latent
_UNEVEN = 1.05  # times by which the aspect ratios of a pair may differ


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
class Given:
    """A part that is not a file of its own, such as a caption from a table."""

    content: bytes

    @property
    def size(self) -> int:
        """Bytes."""
        return len(self.content)

    def read(self) -> bytes:
        return self.content


@dataclass(frozen=True)
class Sample:
    """Files that belong together, by extension, e.g. {"jpg": ..., "png": ..., "json": ...}.

    key: unique and readable, e.g. "shard-000.tar/0007". A JSONL record is a sample whose only part is "json".
    repeats: how often it counts compared to others. is_loose: its parts are files of a folder.
    """

    key: str
    parts: Mapping[str, Span | Given]
    repeats: int = 1
    is_loose: bool = False

    def read(self, extension: str) -> bytes:
        """A part's bytes. Raises LookupError if there is no such part, OSError if it cannot be read."""
        if extension not in self.parts:
            raise LookupError(f"it has no .{extension}, only {', '.join(sorted(self.parts))}")
        size = self.parts[extension].size
        if extension in _TEXT_EXTENSIONS and size > _LONGEST_TEXT:
            raise ValueError(f"its .{extension} has {size:,} bytes, and {_LONGEST_TEXT:,} are allowed")
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

    @staticmethod
    def say(text: str) -> None:
        """Tell the user about something, broken or not."""
        if text and PartialState().is_main_process:  # all processes read the same
            tqdm.write(text, file=sys.stderr)

    def add(self, name: str, reason: object) -> None:
        """Count one. Raises TrainingError when there are more than `limit`."""
        self.names.append(name)
        name, reason = _printable(name), _printable(str(reason) or type(reason).__name__)
        self.say(f"Left out {name}: {reason}")
        if len(self.names) > self.limit:
            raise TrainingError(
                f"{len(self.names)} samples are broken and {self.limit} may be, the last one is {name} ({reason}); "
                "repair the data or raise max_broken."
            )


def _printable(text: str) -> str:
    """Text of a stranger's file for a terminal: on one row, without control characters, shortened."""
    text = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
    return text if len(text) <= _LONGEST_REASON else f"{text[: _LONGEST_REASON - 3]}..."


# Samples


def find_samples(source: str | Path, broken: Broken, caption_field: str = "caption") -> list[Sample]:
    """Every sample of a source, in a fixed order.

    source: a .tar shard, a .jsonl file, or a folder of such shards, of such files, or of plain files, where files with
    the same stem form one sample; also a pattern with `*`, `?`, `{000..099}` and `{a,b}`. caption_field: of tables.
    Raises TrainingError if there are no samples, or too many of them are broken.
    """
    samples = [sample for path in find_files(source) for sample in _samples_of(path, broken, caption_field)]
    if not samples:
        raise TrainingError(f"{str(source)!r} holds no samples; {_FORMS}.")
    return samples


def find_files(source: str | Path) -> list[Path]:
    """The files and folders that a source names. Raises TrainingError for one that does not exist."""
    found = []
    for pattern in _expand(str(source)):
        path = Path(pattern)
        matches = []
        with suppress(OSError, ValueError, NotImplementedError):  # no such name, or no such pattern
            if path.exists():
                found.append(path)
                continue
            root = Path(path.anchor)
            if re.search(r"[*?\[]", pattern):
                matches = sorted(root.glob(str(path.relative_to(root))))
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
        if len(high) > len(str(_MOST_FILES)) or int(high) - int(low) >= _MOST_FILES:
            raise TrainingError(
                f"The pattern {_printable(pattern)!r} means more than {_MOST_FILES:,} files; shorten it."
            )
        choices = [str(number).zfill(len(low)) for number in range(int(low), int(high) + 1)]
    else:
        choices = match[1].split(",")
    for choice in choices:
        yield from _expand(pattern[: match.start()] + choice + pattern[match.end() :])


def _samples_of(path: Path, broken: Broken, caption_field: str = "caption") -> list[Sample]:
    if path.is_dir():
        if all((path / name).is_dir() for name in _PAIRS):
            return _samples_of_pairs(path, broken)
        tables = find_tables(path)
        for suffix in () if tables else (".tar", ".jsonl"):
            if files := sorted(path.glob(f"*{suffix}")):
                return [sample for file in files for sample in _samples_of(file, broken)]
        return _samples_of_folder(path, tables, caption_field, broken)
    if path.suffix == ".tar":
        return _group(((*_split(f"{path}/{name}"), span) for name, span in _members(path, broken)), broken)
    if path.suffix == ".jsonl":
        return [Sample(f"{path}:{number}", {"json": span}) for number, span in _records(path, broken)]
    raise TrainingError(f"{str(path)!r} is not a data file; {_FORMS}.")


def _samples_of_pairs(folder: Path, broken: Broken) -> list[Sample]:
    """The images of `target`, each with the one of the same stem in `source`, and a caption.

    The caption is in `captions`, in `target`, in `source` or in the folder itself, the first that is there. As in a
    shard, the target is the part "png" and the source the part "jpg", whatever their format.
    """
    sources, samples = {}, []
    for path in visible_files(folder / _PAIRS[0]):
        if path.suffix.lower() in IMAGE_SUFFIXES and sources.setdefault(path.stem, path) is not path:
            broken.add(str(path), f"there is {sources[path.stem].name} beside it, and a pair has one source")
    for path in visible_files(folder / _PAIRS[1]):
        if path.suffix.lower() not in IMAGE_SUFFIXES:
            continue
        places = [folder / name for name in ("captions", _PAIRS[1], _PAIRS[0], ".")]
        texts = [place / f"{path.stem}{suffix}" for place in places for suffix in (*CAPTION_SUFFIXES, ".json")]
        text = next((text for text in texts if text.is_file()), None)
        if path.stem not in sources:
            broken.add(str(path), f"there is no image {path.stem!r} in the folder {_PAIRS[0]}")
            continue
        files = {"png": path, "jpg": sources.pop(path.stem)}
        if text:
            files["json" if text.suffix == ".json" else "txt"] = text
        parts = {extension: Span(file, 0, file.stat().st_size) for extension, file in files.items()}
        samples.append(Sample(str(path.with_suffix("")), parts, is_loose=True))
    for stem, path in sources.items():
        broken.add(str(path), f"there is no image {stem!r} in the folder {_PAIRS[1]}")
    return samples


def _samples_of_folder(folder: Path, tables: Sequence[Path], caption_field: str, broken: Broken) -> list[Sample]:
    """Files with the same stem are a sample; `caption_files` says where its caption is."""
    captions = {}
    for table in tables:
        for row in read_table(table, caption_field):
            if row.problem:
                broken.add(row.place, row.problem)
            else:
                captions[row.file] = row.caption
    strangers: list[Path] = []
    named: list[tuple[str, str, Span]] = []
    listed: dict[str, bytes] = {}
    for path in sorted(visible_files(folder), key=lambda path: (path.parent, path.stem, path.suffix)):
        extension = path.suffix[1:].lower()
        if path in tables or extension not in _EXTENSIONS:
            strangers += [] if path in tables else [path]
            continue
        stem = str(path.with_suffix(""))  # file names that people choose have dots in their stem too
        named.append((stem, extension, Span(path, 0, path.stat().st_size)))
        if path in captions:
            listed[stem] = captions[path].encode()
    broken.say(describe_strangers(strangers))
    samples = _group(named, broken)
    counts = {sample.key: folder_repeats(Path(sample.key), folder) for sample in samples}
    common = gcd(*(repeats for repeats, _ in counts.values()))
    return [
        Sample(sample.key, _with_caption(sample, listed, shown), repeats // common, is_loose=True)
        for sample in samples
        for repeats, shown in [counts[sample.key]]
    ]


def _with_caption(sample: Sample, listed: Mapping[str, bytes], shown: str) -> dict[str, Span | Given]:
    """The parts, with a caption as "txt": of a table, else its own file, else what the folder says."""
    parts = dict(sample.parts)
    other = parts.pop(CAPTION_SUFFIXES[1][1:], None)
    if sample.key in listed:
        parts["txt"] = Given(listed[sample.key])
    elif other:
        parts.setdefault("txt", other)
    elif shown and not {"txt", "json"} & parts.keys():
        parts["txt"] = Given(shown.encode())
    return parts


class _HeaderFile:
    """A shard of which only headers are read: a header that claims gigabytes is refused."""

    def __init__(self, file: BinaryIO):
        self.seek, self.tell, self._read = file.seek, file.tell, file.read

    def read(self, size: int) -> bytes:
        """Raises tarfile.ReadError for more than _LONGEST_HEADER."""
        if not 0 <= size <= _LONGEST_HEADER:
            raise tarfile.ReadError(f"it has a header of {size:,} bytes")
        return self._read(size)


def _members(path: Path, broken: Broken) -> Iterator[tuple[str, Span]]:
    """Name and bytes of every file in a shard, up to where it is cut or damaged."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file, tarfile.open(fileobj=_HeaderFile(file), mode="r:") as shard:
            read_to = -1
            while (member := shard.next()) is not None:
                shard.members.clear()  # which tarfile would keep
                if member.size < 0 or member.offset_data <= read_to:  # tarfile would read in a circle for ever
                    raise tarfile.ReadError(f"it has a wrong size at {member.name}")
                read_to = member.offset_data
                if member.issparse():
                    broken.add(f"{path}/{member.name}", "it is stored as a sparse file; use another tar format")
                elif member.isfile():
                    if member.offset_data + member.size > size:
                        raise tarfile.ReadError(f"it is cut inside {member.name}")
                    yield member.name, Span(path, member.offset_data, member.size)
                elif not member.isdir():
                    broken.add(f"{path}/{member.name}", "it is a link or a device, not a file")
            # tarfile takes half a header for the end, and a damaged one.
            file.seek(shard.offset)
            end = file.read(tarfile.BLOCKSIZE)
            if len(end) < tarfile.BLOCKSIZE:
                raise tarfile.ReadError("it is cut, its end marker is missing")
            if any(end):
                raise tarfile.ReadError(f"its header at byte {shard.offset:,} is damaged")
    except TrainingError:
        raise
    except Exception as error:  # noqa: BLE001 - tarfile raises anything for a damaged header
        broken.add(str(path), error)


def _records(path: Path, broken: Broken) -> Iterator[tuple[int, Span]]:
    """Number and bytes of every record of a JSONL file."""
    try:
        with path.open("rb") as file:
            for number in itertools.count(1):
                start, is_empty = file.tell(), True
                while part := file.readline(_LONGEST_TEXT):  # a long record in parts
                    is_empty = is_empty and not part.strip()
                    if part.endswith(b"\n"):
                        break
                if not is_empty:
                    yield number, Span(path, start, file.tell() - start)
                if not part:
                    return
    except OSError as error:
        broken.add(str(path), error)


def _split(name: str) -> tuple[str, str]:
    """Stem and extension of a file in a shard: up to the first dot and after it, as the webdataset library has them."""
    folder, _, base = name.rpartition("/")
    stem, _, extension = base.partition(".")
    return f"{folder}/{stem}" if stem else "", extension


def _group(files: Iterable[tuple[str, str, Span]], broken: Broken) -> list[Sample]:
    """Files, by stem and extension, that follow each other and have the same stem are one sample."""
    named = ((stem, extension.lower(), span) for stem, extension, span in files if stem and extension)
    samples = []
    for key, items in itertools.groupby(named, key=lambda item: item[0]):
        parts: dict[str, Span] = {}
        twice = [extension for _, extension, span in items if parts.setdefault(extension, span) is not span]
        if twice:
            broken.add(key, f"it has more than one .{twice[0]}")
        else:
            samples.append(Sample(key, parts))
    return samples


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
                except Exception as error:  # noqa: BLE001 - whatever is wrong with one sample, the others are read
                    broken.add(name, error)
    if not found:
        raise TrainingError(f"There are no captions in {', '.join(map(str, sources))}; {_FORMS}.")
    return found


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


def _caption_readers(
    path: Path, caption_field: str, taught_field: str | None, broken: Broken
) -> Iterator[tuple[str, Callable[[], TrainingCaption]]]:
    """Name of every sample of a file or folder, and a function that reads it."""
    if path.suffix == ".txt":
        try:
            texts = _rows(path)
        except OSError as error:
            broken.add(str(path), error)
            return
        for number, text in enumerate(texts, 1):
            if text.strip():
                yield f"{path}:{number}", lambda text=text: TrainingCaption(_clean(text), _clean(text))
        return
    for sample in _samples_of(path, broken, caption_field):
        yield sample.key, lambda sample=sample: _read_caption(sample, caption_field, taught_field)


def _rows(path: Path) -> list[str] | list[bytes]:
    """The rows of a text file; in bytes if its code page is unknown, so that each row that is UTF-8 can be read."""
    content = path.read_bytes()
    try:
        return decode_text(content).splitlines()
    except InvalidRequestError:
        return content.splitlines()


def _read_caption(sample: Sample, caption_field: str, taught_field: str | None) -> TrainingCaption:
    _check_caption(sample)
    content = {} if "txt" in sample.parts and taught_field is None else sample.read_json()
    caption = _clean(sample.read("txt") if "txt" in sample.parts else _field(content, caption_field))
    taught = caption if taught_field is None else _clean(_field(content, taught_field))
    images = [sample.parts[extension] for extension in _IMAGE_EXTENSIONS if extension in sample.parts]
    return TrainingCaption(caption, taught, images[0] if images else None)


def _check_caption(sample: Sample) -> None:
    """Raises LookupError for a sample without a caption."""
    if not {"txt", "json"} & sample.parts.keys():
        raise LookupError("it has no caption, a .txt (or .json) of the same name")


def _field(content: Mapping[str, Any], name: str) -> Any:
    if name not in content:
        raise LookupError(f"its JSON has no {name!r}, only {', '.join(sorted(content))}")
    return content[name]


def _clean(text: Any) -> str:
    caption = validate_text("its caption", decode_text(text) if isinstance(text, bytes) else text).strip()
    if not caption:
        raise ValueError("its caption is empty; write what it shows, or delete the image")
    return caption


# Images


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
        if sample.is_loose and not set(_IMAGE_EXTENSIONS) & sample.parts.keys():
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
        broken.say(_printable(f"Passed over {len(orphans):,} captions without an image: {', '.join(orphans[:5])}."))
    if copies:
        broken.say(_printable(f"Passed over {len(copies):,} copies with equal captions: {', '.join(copies[:5])}."))
    if uneven := [Path(image.sample.key).name for image in images if not image.is_even]:
        broken.say(
            _printable(
                f"Of {len(uneven):,} pairs the two images have other aspect ratios, so only their middles are used and "
                f"may not match: {', '.join(uneven[:5])}."
            )
        )
    if not images:
        raise TrainingError(f"There are no images with captions in {', '.join(map(str, sources))}.")
    return images + repeated


def _read_image(sample: Sample, caption_field: str, with_source: bool) -> TrainingImage:
    found = [part for part in sample.parts if part in _IMAGE_EXTENSIONS]
    if not found:
        raise LookupError(f"it has no image, only {', '.join(sorted(sample.parts))}")
    target = next((part for part in found if part in _TARGET_EXTENSIONS), found[0])
    source = next((part for part in found if part in _SOURCE_EXTENSIONS and part != target), None)
    if with_source and source is None:
        raise LookupError("it has no source image, a .jpg beside the .png")
    _check_caption(sample)
    caption = _clean(sample.read("txt") if "txt" in sample.parts else _field(sample.read_json(), caption_field))
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
