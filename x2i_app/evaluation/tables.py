"""Tables of prompts as spreadsheets and programs write them, with commas, semicolons or tabs between their cells."""

import csv
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from x2i_app.errors import InvalidRequestError
from x2i_app.limits import show_value

_DELIMITERS = (",", ";", "\t")
_LONGEST_CELL = 2**24  # characters
_INDEX = ("", "unnamed: 0")  # how pandas names the column of its row numbers
_BAD_QUOTES = (
    'a quotation mark that opens a cell has no partner at the cell\'s end; close it, and write "" for a mark inside.'
)


@dataclass(frozen=True)
class Record:
    """A row of a table. place: its first line. cells: by the names of the columns, in lower case; none are missing.

    problem: a sentence about a row that cannot be read, which has no cells.
    """

    place: str
    cells: Mapping[str, str]
    problem: str = ""

    def read(self) -> Mapping[str, str]:
        """The cells. Raises InvalidRequestError with the problem."""
        if self.problem:
            raise InvalidRequestError(self.problem)
        return self.cells


class Table(NamedTuple):
    """columns: their names as the file writes them."""

    columns: tuple[str, ...]
    records: list[Record]


class _Found(NamedTuple):
    """A row as it stands in the file: its first line, from 1, and its cells; None if its quotation marks are wrong."""

    number: int
    cells: list[str] | None


def read_table(path: Path, text: str, needed: Sequence[Collection[str]]) -> Table:
    """The rows of a table. needed: names in lower case; the columns of the file must have one of these sets.

    Raises InvalidRequestError for a file without a first line that names its columns.
    """
    csv.field_size_limit(_LONGEST_CELL)
    texts = [f"{each}\n" for each in text.split("\n")]
    usual = "\t" if path.suffix.lower() == ".tsv" else ","
    for delimiter in sorted(_DELIMITERS, key=lambda each: each != usual):
        rows = _rows(texts, delimiter)
        columns = _columns(next(rows, None))
        if any(set(map(str.lower, columns)).issuperset(each) for each in needed):
            return Table(columns, list(_records(columns, rows)))
    first = next(_rows(texts, usual), None)
    raise InvalidRequestError(
        f"--prompts {str(path)!r} has no column prompt; its first line has {show_value(list(_columns(first)))}. "
        "Name the columns there, such as id,prompt,questions."
    )


def _columns(first: _Found | None) -> tuple[str, ...]:
    return tuple(cell.strip() for cell in first.cells or ()) if first else ()


def _rows(texts: Sequence[str], delimiter: str) -> Iterator[_Found]:
    """The rows that are not empty. With tabs, quotation marks may be just text: PartiPrompts writes them so."""
    strict = _strict_rows(texts, delimiter)
    if delimiter != "\t":
        return strict
    found = list(strict)
    if all(row.cells is not None for row in found):
        return iter(found)
    plain = enumerate(csv.reader(texts, delimiter=delimiter, quoting=csv.QUOTE_NONE), 1)
    return (_Found(number, cells) for number, cells in plain if cells)


def _strict_rows(texts: Sequence[str], delimiter: str) -> Iterator[_Found]:
    """After a row that cannot be read, reading goes on at the next line."""
    at = 0
    while at < len(texts):
        rest = (texts[index] for index in range(at, len(texts)))
        reader = csv.reader(rest, delimiter=delimiter, strict=True, skipinitialspace=True)
        number = at
        try:
            for cells in reader:
                if cells:
                    yield _Found(number + 1, cells)
                number = at + reader.line_num
            return
        except csv.Error:
            yield _Found(number + 1, None)
            at = number + 1


def _records(columns: Sequence[str], rows: Iterator[_Found]) -> Iterator[Record]:
    names = [column.lower() for column in columns]
    if names[0] in _INDEX and "id" not in names:
        names[0] = "id"
    if twice := [column for column, name in zip(columns, names, strict=True) if name and names.count(name) > 1]:
        raise InvalidRequestError(f"The table has two columns {show_value(twice[0])}; rename or remove one of them.")
    for number, cells in rows:
        place = f"line {number}"
        if cells is None:
            yield Record(place, {}, _BAD_QUOTES)
        elif len(cells) > len(columns) and any(each.strip() for each in cells[len(columns) :]):
            yield Record(
                place, {}, "this row has more cells than there are columns; put cells with commas in quotation marks."
            )
        elif any(cell.strip() and not name for name, cell in zip(names, cells, strict=False)):
            yield Record(place, {}, "this row has a cell in a column without a name; name it in the first line.")
        elif any(each.strip() for each in cells):
            padded = [*cells, *[""] * (len(names) - len(cells))]
            yield Record(place, {name: cell for name, cell in zip(names, padded, strict=False) if name})
