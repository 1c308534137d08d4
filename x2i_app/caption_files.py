"""Captions and prompts in folders as other trainers and data sets have them; training and batches read them here.

Beside an image: `.txt` or `.caption` (`cat.txt`, `cat.png.txt`), in any common code page. For a whole folder:
`metadata.jsonl` or `metadata.csv` with the columns `file_name` and `text`, as the `imagefolder` of Hugging Face
datasets reads them (https://huggingface.co/docs/datasets/image_dataset). kohya's folders `10_cat` repeat their images
ten times and name what images without a caption show.
"""

import csv
import io
import json
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath

from x2i_app.errors import InvalidRequestError

CAPTION_SUFFIXES = (".txt", ".caption")  # the first that exists is read
IMAGE_SUFFIXES = frozenset(
    (".jpg", ".jpeg", ".jfif", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".heic", ".heif", ".avif")
)
TABLES = ("metadata.jsonl", "metadata.csv")
_FILES = ("file_name", "image", "image_path")  # names of the column with the file; DiffSynth-Studio's is the second
_COLUMNS = ("text", "caption", "prompt")  # beside the one that the user names
_SYSTEM_FOLDERS = ("@eaDir", "#recycle", "$RECYCLE.BIN", "__MACOSX")  # Synology's thumbnails and what was deleted
_STRANGERS = re.compile(  # caches of trainers, what systems leave in folders, and notes about a data set
    r"npz|npy|pt|pth|bin|ckpt|safetensors|parquet|arrow|db|ini|cfg|toml|ya?ml|md|log|csv|tsv|jsonl?|html?|py|zip|7z|rar"
    r"|tar|gz|tmp|part|bak|lnk|url|lock",
    re.IGNORECASE,
)
_MASKS = ("-masklabel", "-condlabel")  # behind the name of an image: what OneTrainer keeps beside it
_LONGEST_FILE = 2**28  # bytes that are read of a file; a table of a million captions has about 100 MB
_REPEATS = re.compile(r"(\d{1,3})_(.+)")  # more than 999 repeats are a year or a number
_WESTERN = ("cp1252", "cp1250", "cp1254")
# Latin words: one or two letters with marks, and a plain letter beside them. Chinese and Cyrillic ones have more.
_LATIN = re.compile(
    rb"(?:[\x00-\x7f]|(?<=[a-zA-Z])[\xc0-\xff]{1,2}(?![\x80-\xff])|(?<![\x80-\xff])[\xc0-\xff]{1,2}(?=[a-zA-Z]))*"
)
_CODE_PAGES = ("cp1252", "gb18030", "cp932", "big5", "cp949", "cp1251", "cp1250", "cp1253", "cp1254")


def decode_text(content: bytes) -> str:
    """Text in UTF-8 or in another code page, which is detected; no byte order mark, and \\n at the ends of rows.

    Raises InvalidRequestError if it is no text.
    """
    encoding = "utf-8-sig"
    if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
        encoding = "utf-16"
    elif b"\0" in content:  # UTF-16 without a mark: Latin letters have a zero byte beside them
        encoding = "utf-16-le" if content[1::2].count(0) >= content[::2].count(0) else "utf-16-be"
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError:
        from charset_normalizer import from_bytes

        pages = _WESTERN if _LATIN.fullmatch(content) else _CODE_PAGES
        found = from_bytes(content, cp_isolation=list(pages))
        if not found:
            raise InvalidRequestError("its text is in an unknown code page; save it as UTF-8") from None
        # Of a short text several are equally likely; then the first one of the list is.
        text = str(min(found, key=lambda each: (each.chaos, -each.coherence, _CODE_PAGES.index(each.encoding))))
    return "\n".join(text.replace("\ufeff", "").splitlines())  # also of files that were put together


def read_text(path: Path) -> str:
    """The text of a file as `decode_text`, stripped. Raises InvalidRequestError, which names the file."""
    try:
        with path.open("rb") as file:
            return decode_text(file.read(_LONGEST_FILE)).strip()
    except InvalidRequestError as error:
        raise InvalidRequestError(f"{path.name!r} cannot be read: {error}.") from None
    except OSError as error:
        raise InvalidRequestError(f"{path.name!r} cannot be read ({error.strerror}); check its permissions.") from None


def without_suffix(path: Path) -> Path:
    """What the files of one image share. `cat.png.txt` is a caption of `cat.png`, as some taggers write it."""
    stem = path.with_suffix("")
    is_double = path.suffix.lower() in CAPTION_SUFFIXES and stem.suffix.lower() in IMAGE_SUFFIXES and stem.is_file()
    return stem.with_suffix("") if is_double else stem


def is_stranger(path: Path) -> bool:
    """Whether a file in a folder of images is neither media nor a caption, such as a trainer's cache or a mask."""
    return path.name == "Thumbs.db" or bool(_STRANGERS.fullmatch(path.suffix[1:])) or is_mask(path)


def is_mask(path: Path) -> bool:
    """Whether a file is a mask of an image beside it, and not an image of its own."""
    return path.stem.endswith(_MASKS)


def describe_strangers(paths: Iterable[Path]) -> str:
    """One sentence about the files that were passed over; empty if there are none."""
    kinds = Counter(path.suffix.lower() or path.name for path in paths)
    listed = ", ".join(f"{count:,} {kind}" for kind, count in kinds.most_common(5))
    more = ", ..." if len(kinds) > 5 else ""
    return f"Passed over {kinds.total():,} files that are neither media nor captions ({listed}{more})." if kinds else ""


def visible_files(folder: Path) -> Iterator[Path]:
    """Every file below a folder, in a fixed order.

    What is hidden is left out, as a .DS_Store or a ._copy of macOS, and what systems keep in folders of their own.
    """
    for path in sorted(folder.rglob("*")):
        parts = path.relative_to(folder).parts
        if path.is_file() and not any(part.startswith(".") or part in _SYSTEM_FOLDERS for part in parts):
            yield path


def find_tables(folder: Path) -> list[Path]:
    """The metadata files of a folder and of its sub-folders that name images."""
    return [path for path in visible_files(folder) if path.name in TABLES and _names_files(path)]


@dataclass(frozen=True)
class TableRow:
    """A row of a metadata file. place: for messages. file: the image; caption: None if there is a `problem`."""

    place: str
    file: Path | None = None
    caption: str | None = None
    problem: str = ""


def read_table(path: Path, column: str | None = None) -> Iterator[TableRow]:
    """The rows of a metadata file. column: of the captions; None, or one that is not there: text, caption or prompt."""
    folders: dict[Path, dict[str, Path]] = {}
    for number, record in _records(path):
        place = f"{path}:{number}"
        name = _file_name(record)
        if name is None:
            yield TableRow(place, problem="it has no file_name")
            continue
        parts = PureWindowsPath(name).parts
        is_outside = ".." in parts or PurePosixPath(name).is_absolute() or bool(PureWindowsPath(name).drive)
        file = path.parent.joinpath(*parts)
        if parts[:1] == (path.parent.name,) and not (is_outside or file.is_file()):  # written from the folder above
            file = path.parent.joinpath(*parts[1:])
        if not (is_outside or file.is_file()):
            file = _as_spelled(file, folders)
        names = [each for each in (column, *_COLUMNS) if each in record]
        if is_outside:
            yield TableRow(place, problem=f"the file {name!r} is outside the folder")
        elif not file.is_file():
            yield TableRow(place, problem=f"there is no file {name!r}")
        elif None in record:  # as csv.DictReader calls it
            yield TableRow(place, file, problem="it has more columns than the first row; quote text with commas")
        elif not names or not isinstance(record[names[0]], str):
            columns = ", ".join(str(each) for each in record if each not in _FILES)
            yield TableRow(place, file, problem=f"it has no column {column or _COLUMNS[0]!r} with text, only {columns}")
        else:
            yield TableRow(place, file, record[names[0]])


def _as_spelled(file: Path, folders: dict[Path, dict[str, Path]]) -> Path:
    """The file of another system that spells its name differently: macOS takes letters apart, Windows reads A as a.

    folders: files by their common spelling, kept here. A name that several files have stays as it is.
    """
    if file.parent not in folders:
        found = folders[file.parent] = {}
        for each in file.parent.iterdir() if file.parent.is_dir() else ():
            key = _common_spelling(each.name)
            found[key] = file if key in found else each
    return folders[file.parent].get(_common_spelling(file.name), file)


def _common_spelling(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def folder_repeats(path: Path, top: Path) -> tuple[int, str]:
    """(repeats, what the images show) of a file in a folder such as kohya's `10_cat`; (1, "") in others."""
    for part in reversed((top.absolute().name, *path.relative_to(top).parent.parts)):
        if match := _REPEATS.fullmatch(part):
            return max(1, int(match[1])), match[2].replace("_", " ").strip()
    return 1, ""


def _names_files(path):
    return any(_file_name(record) is not None for _, record in _records(path))


def _file_name(record: object) -> str | None:
    names = [record[each] for each in _FILES if isinstance(record.get(each), str)] if isinstance(record, dict) else ()
    return names[0] if names else None


def _records(path):
    """Number and content of every row of a metadata file; None for a row that is not JSON."""
    text = read_text(path)
    if path.suffix == ".csv":
        columns = text.partition("\n")[0]
        separator = max(",;\t", key=columns.count)  # spreadsheets write semicolons where a comma is part of numbers
        try:
            rows = csv.DictReader(io.StringIO(text), delimiter=separator, skipinitialspace=True)
            rows.fieldnames = [name.strip() for name in rows.fieldnames or ()]
            yield from enumerate(rows, 2)
        except csv.Error as error:
            raise InvalidRequestError(
                f"{path.name!r} cannot be read as a table ({error}); a quotation mark may not be closed."
            ) from None
        return
    for number, row in enumerate(text.splitlines(), 1):
        if row.strip():
            try:
                yield number, json.loads(row)
            except (ValueError, RecursionError):
                yield number, None
