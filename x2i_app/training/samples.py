"""Training data where it lies: tar shards as the `webdataset` library names them, plain folders, JSONL and text files.

Shards are indexed once, by their headers, and then read at any position: a batch can so be a function of its step,
which makes a run resumable. Nothing is unpickled, extracted or run. Broken samples are counted and named; more of them
than a limit stops the run.
"""

import itertools
import json
import re
import sys
import tarfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from math import gcd
from pathlib import Path
from typing import Any, BinaryIO

from accelerate import PartialState
from tqdm.auto import tqdm

from x2i_app.caption_files import (
    CAPTION_SUFFIXES,
    IMAGE_SUFFIXES,
    describe_strangers,
    find_tables,
    folder_repeats,
    is_mask,
    read_table,
    visible_files,
    without_suffix,
)
from x2i_app.errors import TrainingError

_ALTERNATIVES = re.compile(r"\{([^{}]+)\}")
_RANGE = re.compile(r"(\d+)\.\.(\d+)")
FORMS = (
    "give a .tar, .jsonl or .txt file, a folder, or several of them by a pattern such as shards/*.tar or {000..099}.tar"
)
IMAGE_EXTENSIONS = tuple(sorted(suffix[1:] for suffix in IMAGE_SUFFIXES))
_TEXT_EXTENSIONS = (*(suffix[1:] for suffix in CAPTION_SUFFIXES), "json")
_EXTENSIONS = (*IMAGE_EXTENSIONS, *_TEXT_EXTENSIONS)
_PAIRS = ("source", "target")  # folders of pairs of images
_LONGEST_TEXT = 2**22  # bytes of one caption or JSON object
_LONGEST_HEADER = 2**20  # bytes of one header in a shard; a usual one has 512
_LONGEST_REASON = 300  # characters of a name or a reason in a message
_MOST_FILES = 1_000_000  # of one pattern


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
        name, reason = printable(name), printable(str(reason) or type(reason).__name__)
        self.say(f"Left out {name}: {reason}")
        if len(self.names) > self.limit:
            raise TrainingError(
                f"{len(self.names)} samples are broken and {self.limit} may be, the last one is {name} ({reason}); "
                "repair the data or raise max_broken."
            )


def printable(text: str) -> str:
    """Text of a stranger's file for a terminal: on one row, without control characters, shortened."""
    text = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
    return text if len(text) <= _LONGEST_REASON else f"{text[: _LONGEST_REASON - 3]}..."


# Samples


def find_samples(source: str | Path, broken: Broken, caption_field: str = "caption") -> list[Sample]:
    """Every sample of a source, in a fixed order.

    source: a .tar shard, a .jsonl file, or a folder of such shards, of such files, or of images, where files with the
    same stem form one sample; also a pattern with `*`, `?`, `{000..099}` and `{a,b}`. caption_field: of tables.
    Raises TrainingError if there are no samples, or too many of them are broken.
    """
    samples = [sample for path in find_files(source) for sample in samples_of(path, broken, caption_field)]
    if not samples:
        raise TrainingError(f"{str(source)!r} holds no samples; {FORMS}.")
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
            raise TrainingError(f"There is no {pattern!r}; {FORMS}.")
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
                f"The pattern {printable(pattern)!r} means more than {_MOST_FILES:,} files; shorten it."
            )
        choices = [str(number).zfill(len(low)) for number in range(int(low), int(high) + 1)]
    else:
        choices = match[1].split(",")
    for choice in choices:
        yield from _expand(pattern[: match.start()] + choice + pattern[match.end() :])


def samples_of(path: Path, broken: Broken, caption_field: str = "caption") -> list[Sample]:
    if path.is_dir():
        if all((path / name).is_dir() for name in _PAIRS):
            return _samples_of_pairs(path, broken)
        tables = find_tables(path)
        has_images = any(each.suffix.lower() in IMAGE_SUFFIXES for each in path.iterdir())
        for suffix in () if tables or has_images else (".tar", ".jsonl"):  # beside images, they are strangers
            if files := sorted(path.glob(f"*{suffix}")):
                return [sample for file in files for sample in samples_of(file, broken)]
        return _samples_of_folder(path, tables, caption_field, broken)
    if path.suffix == ".tar":
        return _group(((*_split(f"{path}/{name}"), span) for name, span in _members(path, broken)), broken)
    if path.suffix == ".jsonl":
        return [Sample(f"{path}:{number}", {"json": span}) for number, span in _records(path, broken)]
    raise TrainingError(f"{str(path)!r} is not a data file; {FORMS}.")


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
    for path in sorted(visible_files(folder), key=lambda path: (path.parent, without_suffix(path).name, path.suffix)):
        extension = path.suffix[1:].lower()
        if path in tables or extension not in _EXTENSIONS or is_mask(path):
            strangers += [] if path in tables else [path]
            continue
        stem = str(without_suffix(path))  # file names that people choose have dots in their stem too
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
