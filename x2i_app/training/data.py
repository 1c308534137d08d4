"""Training data where it lies: tar shards as the `webdataset` library names them, plain folders, JSONL and text files.

Shards are indexed once, by their headers, and then read at any place: a batch can so be a function of its step, which
is what makes a run resumable. Nothing is unpickled, extracted or run. What is broken is counted and named, and more of
it than a limit stops the run.
"""

import itertools
import json
import re
import sys
import tarfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from accelerate import PartialState
from tqdm.auto import tqdm

from x2i_app.errors import InvalidRequestError, TrainingError
from x2i_app.request import validate_text

_ALTERNATIVES = re.compile(r"\{([^{}]+)\}")
IMAGES = ("jpg", "jpeg", "png", "webp")
_RANGE = re.compile(r"(\d+)\.\.(\d+)")
_FORMS = (
    "give a .tar, .jsonl or .txt file, a folder, or several of them by a pattern such as shards/*.tar or {000..099}.tar"
)


@dataclass(frozen=True)
class Place:
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
    """Files that belong together, told apart by extension, e.g. {"jpg": ..., "png": ..., "json": ...}.

    key: unique and readable, e.g. "shard-000.tar/0007". A line of a JSONL file is a sample whose only part is "json".
    """

    key: str
    parts: Mapping[str, Place]

    def read(self, extension: str) -> bytes:
        """A part's bytes. Raises LookupError if there is no such part, OSError if it cannot be read."""
        if extension not in self.parts:
            raise LookupError(f"it has no .{extension}, only {', '.join(sorted(self.parts))}")
        return self.parts[extension].read()

    def read_json(self) -> dict[str, Any]:
        """The part "json", an object. Raises LookupError, OSError or ValueError."""
        content = json.loads(self.read("json"))
        if not isinstance(content, dict):
            raise ValueError("its JSON is no object")
        return content


@dataclass
class Broken:
    """Samples that could not be used: each is named on standard error, and too many of them stop the run."""

    limit: int
    names: list[str] = field(default_factory=list)

    def add(self, name: str, reason: object) -> None:
        """Count one. Raises TrainingError when there are more than `limit`."""
        self.names.append(name)
        if PartialState().is_main_process:  # all of them read the same
            tqdm.write(f"Left out {name}: {reason}", file=sys.stderr)
        if len(self.names) > self.limit:
            raise TrainingError(
                f"{len(self.names)} samples are broken and {self.limit} may be, the last one is {name} ({reason}); "
                "mend the data or raise max_broken."
            )


def find_samples(source: str | Path, broken: Broken) -> list[Sample]:
    """Every sample of a source, in a fixed order.

    source: a .tar shard, a .jsonl file, or a folder of such shards, of such files, or of plain files, which belong
    together if they differ in extension only; also a pattern with `*`, `?`, `{000..099}` and `{a,b}`.
    Raises TrainingError if there is nothing, or too much of it is broken.
    """
    samples = [sample for path in find_files(source) for sample in _samples_of(path, broken)]
    if not samples:
        raise TrainingError(f"{str(source)!r} holds no samples; {_FORMS}.")
    return samples


def find_files(source: str | Path) -> list[Path]:
    """The files and folders that a source names. Raises TrainingError for one that is not there."""
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
        # People's own names have dots in them, before the last one too.
        return _group(
            (str(file.with_suffix("")), file.suffix[1:], Place(file, 0, file.stat().st_size)) for file in files
        )
    if path.suffix == ".tar":
        return _group((*_split(f"{path}/{name}"), place) for name, place in _members(path, broken))
    if path.suffix == ".jsonl":
        return [Sample(f"{path}:{number}", {"json": place}) for number, place in _lines(path)]
    raise TrainingError(f"{str(path)!r} is no data file; {_FORMS}.")


def _members(path: Path, broken: Broken) -> Iterator[tuple[str, Place]]:
    """Name and place of every file in a shard, up to where it is cut or damaged."""
    size = path.stat().st_size
    try:
        with tarfile.open(path, "r:") as shard:
            for member in shard:
                if member.isfile():
                    if member.offset_data + member.size > size:
                        raise tarfile.ReadError(f"it is cut inside {member.name}")
                    yield member.name, Place(path, member.offset_data, member.size)
                elif not member.isdir():
                    broken.add(f"{path}/{member.name}", "it is a link or a device, not a file")
            if shard.offset + tarfile.BLOCKSIZE > size:  # tarfile takes half a header for the end
                raise tarfile.ReadError("it is cut, its mark of the end is missing")
    except (tarfile.TarError, OSError) as error:
        broken.add(str(path), error)


def _lines(path: Path) -> Iterator[tuple[int, Place]]:
    offset = 0
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                yield number, Place(path, offset, len(line))
            offset += len(line)


def _split(name: str) -> tuple[str, str]:
    """The name of a shard's file up to its first dot, as the webdataset library reads it, and what comes after that."""
    folder, _, base = name.rpartition("/")
    stem, _, extension = base.partition(".")
    return f"{folder}/{stem}" if stem else "", extension


def _group(files: Iterator[tuple[str, str, Place]]) -> list[Sample]:
    """Files, by name and extension, that follow each other and have one name are one sample."""
    named = [(name, extension.lower(), place) for name, extension, place in files if name and extension]
    grouped = itertools.groupby(named, key=lambda item: item[0])
    return [Sample(key, {extension: place for _, extension, place in items}) for key, items in grouped]


@dataclass(frozen=True)
class Captioned:
    """caption: what the MLLM reads. taught: what the teacher reads, mostly the same. picture: beside it, if any."""

    caption: str
    taught: str
    image: Place | None = None


def read_captions(
    sources: Sequence[str | Path], caption_field: str, broken: Broken, taught_field: str | None = None
) -> list[Captioned]:
    """Captions in a fixed order: the lines of .txt files, or the `txt` or JSON field of samples.

    caption_field: of samples with JSON. taught_field: likewise, for a teacher that reads something else; None: it does
    not. Raises TrainingError if there are none, or more are broken than may be.
    """
    found = []
    for source in sources:
        for path in find_files(source):
            for name, read in _readers(path, caption_field, taught_field, broken):
                try:
                    found.append(read())
                except (LookupError, OSError, ValueError, InvalidRequestError) as error:
                    broken.add(name, error)
    if not found:
        raise TrainingError(f"There are no captions in {', '.join(map(str, sources))}; {_FORMS}.")
    return found


def _readers(
    path: Path, caption_field: str, taught_field: str | None, broken: Broken
) -> Iterator[tuple[str, Callable[[], Captioned]]]:
    """Name of every sample of a file or folder, and a function that reads it."""
    if path.suffix == ".txt":
        for number, line in enumerate(path.read_bytes().splitlines(), 1):
            if line.strip():
                yield f"{path}:{number}", lambda line=line: Captioned(_clean(line), _clean(line))
        return
    for sample in _samples_of(path, broken):
        yield sample.key, lambda sample=sample: _read_captioned(sample, caption_field, taught_field)


def _read_captioned(sample: Sample, caption_field: str, taught_field: str | None) -> Captioned:
    content = {} if "txt" in sample.parts and taught_field is None else sample.read_json()
    caption = _clean(sample.read("txt") if "txt" in sample.parts else _field(content, caption_field))
    taught = caption if taught_field is None else _clean(_field(content, taught_field))
    images = [sample.parts[extension] for extension in IMAGES if extension in sample.parts]
    return Captioned(caption, taught, images[0] if images else None)


def _field(content: Mapping[str, Any], name: str) -> Any:
    if name not in content:
        raise LookupError(f"its JSON has no {name!r}, only {', '.join(sorted(content))}")
    return content[name]


def _clean(text: Any) -> str:
    caption = validate_text("its caption", text.decode("utf-8") if isinstance(text, bytes) else text).strip()
    if not caption:
        raise ValueError("its caption is empty")
    return caption
