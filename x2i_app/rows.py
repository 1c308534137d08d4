"""Rows of a batch, from a JSONL file or a folder. Each row is a request with a unique name.

An error in a row is kept in that row and does not affect the others.
"""

import contextlib
import hashlib
import json
import os
import re
import stat
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

from x2i_app.caption_files import (
    CAPTION_SUFFIXES,
    TableRow,
    describe_strangers,
    find_tables,
    is_stranger,
    read_table,
    read_text,
    visible_files,
    without_suffix,
)
from x2i_app.controlnet import CONTROLNET_SETTINGS
from x2i_app.errors import InvalidRequestError, X2IError, explain_failure
from x2i_app.media import modality_of, sniff
from x2i_app.output_names import is_device_name
from x2i_app.request import (
    IMAGE_SETTINGS,
    LATER_SETTINGS,
    LIMITS,
    NOTHING_ADDED,
    SETTINGS,
    VIDEO_SETTINGS,
    GenerationRequest,
    Turn,
    as_turn,
    is_hub_lora,
    show_value,
)

_MEDIA = ("images", "videos", "audios")
_ROW_FIELDS = (
    {name: name for name in ("prompt", *_MEDIA, "history", "loras")}
    | SETTINGS
    | LATER_SETTINGS
    | IMAGE_SETTINGS
    | CONTROLNET_SETTINGS
    | VIDEO_SETTINGS
)
_IMAGES = ("source", "mask", "reference", "controlnet_image")  # one file each
_SIGN = r"[^\x00-\x1f<>:\"\\|?*/]"  # allowed in a file name on every system
_PART = re.compile(rf"(?!\.){_SIGN}+")
_ODD = ("Cc", "Cs", "Zl", "Zp")  # control characters, lone surrogates, line ends
_DIRECTIONS = "\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"  # show a name in another order
_LONGEST_NAME = 200  # bytes; file systems allow 255, with suffixes
_LONGEST_ROW = 2**24  # bytes
_DEEPEST = 20  # levels; a history has 3


@dataclass(frozen=True)
class Row:
    """One row. name: the path of its images without a suffix; place: the line or the files that it comes from.

    values: fields of the request, with the names of JSONL and of flags; None if there is an `error`.
    """

    name: str | None
    place: str
    values: Mapping[str, Any] | None = None
    error: X2IError | None = None
    files: tuple[Path, ...] = field(default=(), repr=False)

    def request(self) -> GenerationRequest:
        """The request. Raises the row's X2IError."""
        if self.error:
            raise self.error
        for kind in _MEDIA:
            for path in self.values.get(kind, ()):
                sniff(path, kind.removesuffix("s"))
        for name in _IMAGES:
            if path := self.values.get(name):
                sniff(path, "image")
        return GenerationRequest(**{_ROW_FIELDS[name]: value for name, value in self.values.items()})

    @property
    def images(self) -> tuple[str, ...]:
        """The names of its image files, numbered if there are several; `batch` replaces .png by the format's suffix."""
        count = (self.values or {}).get("count", 1)
        if count not in range(2, int(LIMITS.num_images_per_prompt.high) + 1):
            return (f"{self.name}.png",)
        return tuple(f"{self.name}-{i}.png" for i in range(1, int(count) + 1))

    def digest(self, model: Mapping[str, Any]) -> str:
        """A hash of all on which the images depend: the values, the files' sizes and times, and the model."""
        stats = [(s.st_size, s.st_mtime_ns) for s in map(_stat, self.files) if s and stat.S_ISREG(s.st_mode)]
        text = json.dumps([self.values, stats, model], sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()


def read_rows(source: Path, defaults: Mapping[str, Any], models: str | None = None) -> tuple[int, Iterator[Row]]:
    """The number of rows in `source`, and an iterator over them, which never holds all rows in memory.

    source: a JSONL file, or a folder of images, videos and audios, in which files with the same stem form one row; for
    its prompts see `caption_files`. defaults: values of fields that a row does not have.
    models: the folder in which LoRAs with names of the hub are looked for first, as in `hub.find_directory`.
    Raises InvalidRequestError if the source does not exist or is empty.
    """
    try:
        if source.is_dir():
            folder = _Folder.read(source)
            count, rows = len(folder.groups) + len(folder.problems), _rows_of_folder(folder, defaults)
        elif source.is_file():
            count = sum(1 for _, row in _numbered(source) if row.strip())
            rows = _rows_of_file(source, defaults, models)
        else:
            raise InvalidRequestError(f"There is no file or folder {str(source)!r} for --input.")
    except OSError as error:
        raise InvalidRequestError(f"--input {str(source)!r} cannot be read ({error.strerror}).") from error
    if not count:
        raise InvalidRequestError(f"--input {str(source)!r} is empty; give a JSONL file or a folder with files.")
    return count, _unique(rows)


def _stat(path: Path) -> os.stat_result | None:
    with contextlib.suppress(OSError, ValueError):  # reported when the file is opened
        return path.stat()
    return None


def describe_passed_over(source: Path) -> str:
    """One sentence about the files of a folder that are in no row; empty if there are none."""
    return describe_strangers(_Folder.read(source).strangers) if source.is_dir() else ""


@dataclass(frozen=True)
class _Folder:
    """groups: the files of each row, by the row's name. captions: by their images, from tables.

    problems: rows of tables that cannot be used. strangers: files that are in no row.
    """

    groups: Mapping[str, list[Path]]
    captions: Mapping[Path, str]
    problems: Sequence[TableRow]
    strangers: Sequence[Path]

    @classmethod
    def read(cls, folder: Path) -> "_Folder":
        tables = find_tables(folder)
        listed = [row for table in tables for row in read_table(table, "prompt")]
        groups: dict[str, list[Path]] = {}
        strangers = []
        for path in visible_files(folder):
            if path in tables:
                continue
            if is_stranger(path):
                strangers.append(path)
            else:
                groups.setdefault(without_suffix(path).relative_to(folder).as_posix(), []).append(path)
        captions = {row.file: row.caption for row in listed if not row.problem}
        return cls(groups, captions, [row for row in listed if row.problem], strangers)


def _rows_of_folder(folder: _Folder, defaults: Mapping[str, Any]) -> Iterator[Row]:
    for name, paths in folder.groups.items():
        place = ", ".join(path.name for path in paths)
        safe = _safe_name(name)
        arguments = (safe, paths, place, folder.captions, defaults)
        yield _row(place, lambda arguments=arguments: _row_of_files(*arguments), safe)
    for row in folder.problems:
        yield Row(None, row.place, error=InvalidRequestError(f"{row.place}: {row.problem}."))


def _row_of_files(
    name: str, paths: list[Path], place: str, captions: Mapping[Path, str], defaults: Mapping[str, Any]
) -> Row:
    _check_name(name)
    values: dict[str, Any] = {}
    prompts: dict[int, str] = {}  # by their rank: of a table, else a .txt, else a .caption
    for path in paths:
        if (suffix := path.suffix.lower()) in CAPTION_SUFFIXES:
            if (rank := CAPTION_SUFFIXES.index(suffix)) in prompts:
                raise InvalidRequestError(f"{place} are two prompts for one row; rename one of them.")
            prompts[rank] = read_text(path)
        else:
            values.setdefault(f"{modality_of(path)}s", []).append(str(path))
            if path in captions:
                prompts[-1] = captions[path]
    if prompts:
        values["prompt"] = prompts[min(prompts)]
    return Row(name, place, {**defaults, **values}, files=tuple(paths))


def _rows_of_file(source: Path, defaults: Mapping[str, Any], models: str | None) -> Iterator[Row]:
    for number, content in _numbered(source):
        if content.strip():
            place = f"line {number}"
            arguments = (content, number, place, source.parent, defaults, models)
            yield _row(place, lambda arguments=arguments: _parse_row(*arguments))


def _numbered(source: Path) -> Iterator[tuple[int, bytes]]:
    """Number and bytes of each line. Of a longer line than the limit, only as much as shows that it is too long."""
    with source.open("rb") as file:
        number = 1
        while row := file.readline(_LONGEST_ROW + 1):
            yield number, row
            while len(row) > _LONGEST_ROW and not row.endswith(b"\n"):
                row = file.readline(_LONGEST_ROW + 1)
            number += 1


def _row(place: str, read: Callable[[], Row], name: str | None = None) -> Row:
    """A row, or a row with the error of `read`, whatever it is: no row may stop the others."""
    try:
        return read()
    except Exception as error:  # noqa: BLE001 - see above
        return Row(name, place, error=explain_failure(error, "This row could not be read"))


def _parse_row(
    content: bytes, number: int, place: str, folder: Path, defaults: Mapping[str, Any], models: str | None
) -> Row:
    name = None
    try:
        values = {key: value for key, value in _parse(content).items() if value is not None}
        given = values.pop("id", f"{number:06d}")
        _check_name(given)
        name = given
        values = {**defaults, **values}
        if values.get("outpaint") == [0, 0, 0, 0] and values.get("mask") is None and values.get("strength") is None:
            raise InvalidRequestError(NOTHING_ADDED)
        history = values.get("history", [])
        turns = [turn for turn in history if isinstance(turn, dict)] if isinstance(history, list) else []
        files = [path for turn in (*turns, values) for path in _find_media(turn, folder)]
        files += _find_others(values, folder, defaults, models)
        return Row(name, place, values, files=tuple(files))
    except X2IError as error:
        return Row(name, place, error=error)


def _parse(content: bytes) -> dict[str, Any]:
    if len(content) > _LONGEST_ROW:
        raise InvalidRequestError(f"This line is longer than {_LONGEST_ROW:,} bytes; write one object in each line.")
    try:
        values = json.loads(content)
        _check_depth(values)
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError is a ValueError too
        raise InvalidRequestError(f"This is not JSON ({error}); write one object in each line.") from None
    if not isinstance(values, dict):
        raise InvalidRequestError(f"This is {show_value(values)}; write one object in each line.")
    unknown = [name for name in values if name not in _ROW_FIELDS and name != "id"]
    if unknown:
        raise InvalidRequestError(
            f"There is no field {show_value(unknown[0])}; choose from id, {', '.join(_ROW_FIELDS)}."
        )
    return values


def _check_depth(value: Any, depth: int = 0) -> None:
    """Raise ValueError for values that are nested deeper than those of any row."""
    if depth > _DEEPEST:
        raise ValueError(f"nested deeper than {_DEEPEST} levels")
    if isinstance(value, (dict, list)):
        for each in value.values() if isinstance(value, dict) else value:
            _check_depth(each, depth + 1)


def _find_media(turn: dict[str, Any], folder: Path) -> Iterator[Path]:
    """The files of a turn. Their names, relative to the JSONL file, become relative to the working folder."""
    for kind in _MEDIA:
        named = turn.get(kind, [])
        if not isinstance(named, list) or not all(isinstance(path, str) for path in named):
            raise InvalidRequestError(f"{kind} is {show_value(named)}; it must be a list of file names.")
        if named:
            turn[kind] = [str(folder / path) for path in named]
            for path in named:
                _check_there(path, folder)
            yield from map(Path, turn[kind])


def _check_there(name: str, folder: Path) -> None:
    with contextlib.suppress(OSError, ValueError):  # reported when the file is opened
        if not (folder / name).exists():
            raise InvalidRequestError(
                f"There is no file called {show_value(name)} in {str(folder)!r}; "
                "paths are relative to the folder of the file that has them."
            )


def _find_others(
    values: dict[str, Any], folder: Path, defaults: Mapping[str, Any], models: str | None
) -> Iterator[Path]:
    """The same for the other files of a row; the paths in flags are relative to the working folder already."""
    for name in _IMAGES:
        if name in values:
            if not (isinstance(values[name], str) and values[name]):
                raise InvalidRequestError(f"{name} is {show_value(values[name])}; it must be a file name.")
            if values[name] is not defaults.get(name):
                values[name] = str(folder / values[name])
            yield Path(values[name])
    loras = values.get("loras")
    if loras is not None and loras is not defaults.get("loras"):
        if not isinstance(loras, list):
            raise InvalidRequestError(f"loras is {show_value(loras)}; it must be a list.")
        pairs = [lora if isinstance(lora, list) and len(lora) == 2 else [lora, 1.0] for lora in loras]
        if not all(isinstance(path, str) for path, _ in pairs):
            raise InvalidRequestError(
                f"loras is {show_value(loras)}; it must be a list of file names, or of pairs [file name, weight]."
            )
        values["loras"] = [(local_lora(path, folder, models), weight) for path, weight in pairs]
    yield from (Path(path) for path, _ in values.get("loras") or ())


def local_lora(name: str, folder: Path = Path(), models: str | None = None) -> str:
    """The path of a LoRA in `folder`, or of one that is named as on the hub, which is downloaded if need be.

    models: as in `hub.find_directory`. Raises CheckpointError.
    """
    path = folder / name
    if path.exists() or not is_hub_lora(name):
        return str(path)
    from x2i_app.loading.lora import find_lora

    return str(find_lora(name, models))


def read_history(path: Path) -> tuple[Turn, ...]:
    """Earlier turns from a JSON file; paths are relative to its folder. Raises InvalidRequestError."""
    try:
        turns = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise InvalidRequestError(f"The history {str(path)!r} cannot be read ({error}); give a JSON list.") from None
    if not isinstance(turns, list):
        raise InvalidRequestError(f"The history is {show_value(turns)}; it must be a list of turns.")
    for turn in turns:
        if isinstance(turn, dict):
            for file in _find_media(turn, path.parent):
                sniff(file)
    return tuple(map(as_turn, turns))


def _check_name(name: Any) -> None:
    parts = name.split("/") if isinstance(name, str) else [""]
    if not all(map(_is_part, parts)) or len(name.encode()) > _LONGEST_NAME:
        raise InvalidRequestError(
            f"id is {show_value(name)}; it must be a file name without a suffix, with up to {_LONGEST_NAME} bytes, "
            "which every system allows."
        )


def _is_part(part: str) -> bool:
    """Whether every system allows a file or a folder of this name."""
    is_odd = any(unicodedata.category(c) in _ODD or c in _DIRECTIONS for c in part)
    return bool(_PART.fullmatch(part)) and not is_odd and not is_device_name(part) and part[-1] not in ". "


def _safe_name(name: str) -> str:
    """The name of an input file, changed where some system does not allow it: Windows has no `a:b` and no `con`."""
    parts = [re.sub(rf"(?!{_SIGN}).", "_", part).rstrip(". ") or "_" for part in name.split("/")]
    return "/".join(f"_{part}" if is_device_name(part) else part for part in parts)


def _unique(rows: Iterator[Row]) -> Iterator[Row]:
    """The rows, with an error for each that would write to a file of an earlier one, or into a folder of its name."""
    places: dict[str, str] = {}
    folders: dict[str, str] = {}
    for row in rows:
        if not row.error:
            # On some disks, A.png and a.png are the same file, and so are two ways to write an accent.
            names = [unicodedata.normalize("NFC", name.casefold()) for name in row.images]
            above = [str(folder) for folder in PurePosixPath(names[0]).parents if folder.name]
            taken = next((name for name in (*names, *above) if name in places), None)
            holds = next((name for name in names if name in folders), None)
            if taken or holds:
                first = places[taken] if taken else folders[holds]
                message = f"{first} also writes the file {taken or holds!r}; give each row its own id."
                row = replace(row, error=InvalidRequestError(message))
            else:
                places.update(dict.fromkeys(names, row.place))
                for name in above:
                    folders.setdefault(name, row.place)
        yield row
