"""Rows of a batch, from a JSONL file or a folder. Each row is a request with a unique name.

An error in a row is kept in that row and does not affect the others.
"""

import contextlib
import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from x2i_app.errors import InvalidRequestError, X2IError
from x2i_app.media import is_animation, sniff
from x2i_app.request import IMAGE_SETTINGS, LIMITS, SETTINGS, GenerationRequest, Turn, as_turn, show_value

_MEDIA = ("images", "videos", "audios")
_ROW_FIELDS = {name: name for name in ("prompt", *_MEDIA, "history", "loras")} | SETTINGS | IMAGE_SETTINGS
_IMAGES = ("source", "mask")  # one file each
_SIGN = r"[^\x00-\x1f<>:\"\\|?*/]"  # allowed in a file name on every system
_PART = re.compile(rf"(?!\.){_SIGN}+")
_LONGEST_NAME = 200  # bytes; file systems allow 255, with suffixes
_PROMPT_SUFFIX = ".txt"


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
        """The names of its PNG files, numbered if there are several."""
        count = (self.values or {}).get("count", 1)
        if count not in range(2, int(LIMITS.num_images_per_prompt.high) + 1):
            return (f"{self.name}.png",)
        return tuple(f"{self.name}-{i}.png" for i in range(1, int(count) + 1))

    def digest(self, model: Mapping[str, Any]) -> str:
        """A hash of all on which the images depend: the values, the files' sizes and times, and the model."""
        stats = [(s.st_size, s.st_mtime_ns) for s in (path.stat() for path in self.files if path.is_file())]
        text = json.dumps([self.values, stats, model], sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()


def read_rows(source: Path, defaults: Mapping[str, Any]) -> tuple[int, Iterator[Row]]:
    """The number of rows in `source`, and an iterator over them, which never holds all rows in memory.

    source: a JSONL file, or a folder of images, videos, audios and .txt files with prompts, in which files with the
    same stem form one row. defaults: values of fields that a row does not have.
    Raises InvalidRequestError if the source does not exist or is empty.
    """
    if source.is_dir():
        groups = _groups(source)
        count, rows = len(groups), _rows_of_folder(groups, defaults)
    elif source.is_file():
        with source.open("rb") as file:
            count = sum(1 for row in file if row.strip())
        rows = _rows_of_file(source, defaults)
    else:
        raise InvalidRequestError(f"There is no file or folder {str(source)!r} for --input.")
    if not count:
        raise InvalidRequestError(f"--input {str(source)!r} is empty; give a JSONL file or a folder with files.")
    return count, _unique(rows)


def _groups(folder: Path) -> dict[str, list[Path]]:
    groups: dict[str, list[Path]] = {}
    for path in sorted(folder.rglob("*")):
        relative = path.relative_to(folder)
        if path.is_file() and not any(part.startswith(".") for part in relative.parts):
            groups.setdefault(relative.with_suffix("").as_posix(), []).append(path)
    return groups


def _rows_of_folder(groups: dict[str, list[Path]], defaults: Mapping[str, Any]) -> Iterator[Row]:
    for name, paths in groups.items():
        place = ", ".join(path.name for path in paths)
        try:
            _check_name(name)
            values: dict[str, Any] = {}
            for path in paths:
                if path.suffix.lower() == _PROMPT_SUFFIX:
                    values["prompt"] = _read_prompt(path)
                else:
                    kind = "videos" if is_animation(path) else f"{sniff(path).modality}s"
                    values.setdefault(kind, []).append(str(path))
            yield Row(name, place, {**defaults, **values}, files=tuple(paths))
        except X2IError as error:
            yield Row(name, place, error=error)


def _read_prompt(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except UnicodeDecodeError:
        raise InvalidRequestError(f"{path.name!r} is not UTF-8; save it as UTF-8.") from None


def _rows_of_file(source: Path, defaults: Mapping[str, Any]) -> Iterator[Row]:
    with source.open("rb") as file:
        for number, content in enumerate(file, 1):
            if content.strip():
                yield _parse_row(content, number, source.parent, defaults)


def _parse_row(content: bytes, number: int, folder: Path, defaults: Mapping[str, Any]) -> Row:
    name, place = None, f"line {number}"
    try:
        values = _parse(content)
        name = values.pop("id", f"{number:06d}")
        _check_name(name)
        values = {**defaults, **{key: value for key, value in values.items() if value is not None}}
        history = values.get("history", [])
        turns = [turn for turn in history if isinstance(turn, dict)] if isinstance(history, list) else []
        files = [path for turn in (*turns, values) for path in _find_media(turn, folder)]
        files += _find_others(values, folder, defaults)
        return Row(name, place, values, files=tuple(files))
    except X2IError as error:
        return Row(name, place, error=error)


def _parse(content: bytes) -> dict[str, Any]:
    try:
        values = json.loads(content)
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


def _find_others(values: dict[str, Any], folder: Path, defaults: Mapping[str, Any]) -> Iterator[Path]:
    """The same for the other files of a row; the paths in flags are relative to the working folder already."""
    for name in _IMAGES:
        if isinstance(values.get(name), str):
            values[name] = str(folder / values[name])
            yield Path(values[name])
    loras = values.get("loras")
    if isinstance(loras, list) and loras is not defaults.get("loras"):
        pairs = [lora if isinstance(lora, list) and len(lora) == 2 else [lora, 1.0] for lora in loras]
        if not all(isinstance(path, str) for path, _ in pairs):
            raise InvalidRequestError(
                f"loras is {show_value(loras)}; it must be a list of file names, or of pairs [file name, weight]."
            )
        values["loras"] = [(str(folder / path), weight) for path, weight in pairs]
    yield from (Path(path) for path, _ in values.get("loras") or ())


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
    if not all(map(_PART.fullmatch, parts)) or len(name.encode(errors="replace")) > _LONGEST_NAME:
        raise InvalidRequestError(
            f"id is {show_value(name)}; it must be a file name without a suffix, with up to {_LONGEST_NAME} bytes."
        )


def _unique(rows: Iterator[Row]) -> Iterator[Row]:
    places: dict[str, str] = {}
    for row in rows:
        if not row.error:
            names = [name.casefold() for name in row.images]  # on some disks, A.png and a.png are the same file
            if taken := next(filter(places.get, names), None):
                message = f"{places[taken]} also writes the file {taken!r}; give each row its own id."
                row = replace(row, error=InvalidRequestError(message))
            else:
                places.update(dict.fromkeys(names, row.place))
        yield row
