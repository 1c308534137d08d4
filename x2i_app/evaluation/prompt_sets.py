"""Prompt sets: a user's own rows, and lists in the forms in which they are published.

| form | file | a row is |
|---|---|---|
| own | .jsonl, .json list, .csv or .tsv with a column `prompt` | FIELDS |
| | .json list of texts | a prompt |
| GenEval | evaluation_metadata.jsonl: tag, include, exclude, prompt | one object; its questions follow from include |
| DPG-Bench | dpg_bench.csv: item_id, text, proposition_id, dependency, question_natural_language ... | an item_id |
| | the folder of dpg_bench.csv, or its folder prompts | an item_id |
| T2I-CompBench | color_val.txt ..., or the folder of them | a prompt; the file's name is the category |
| | a folder of other .txt files | a file, whose name is the id |
| PartiPrompts | PartiPrompts.tsv: Prompt, Category, Challenge, Note | a prompt |
| MJHQ-30K | meta_data.json: an object of id -> prompt, category | an id |

Lists without questions get the one of VQAScore (Lin et al. 2024, arXiv 2404.01291): does the image show the prompt?
A row that cannot be used becomes a Problem with its place, and the other rows go on.
"""

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from x2i_app.caption_files import decode_text
from x2i_app.errors import InvalidRequestError, explain_failure
from x2i_app.evaluation.own_rows import own_row, parse_object, parse_or_none, table_row
from x2i_app.evaluation.prompts import MEDIA, Problem, PromptSet, Question, Row
from x2i_app.evaluation.tables import Record, read_table
from x2i_app.limits import show_value
from x2i_app.request import validate_text

OWN = "own"  # the bundled set
OWN_SET = Path(__file__).with_name("own_set.jsonl")
_DPG = "dpg_bench.csv"
_DPG_COLUMNS = {"item_id", "text", "question_natural_language"}
_COMPBENCH = re.compile(r"(3d_spatial|color|complex|non_spatial|numeracy|shape|spatial|texture)(_|\Z)")  # its files
_ES = re.compile(r"(?:[sx]|[cs]h)\Z")  # endings with a plural in -es
_PLURALS = {"person": "people", "knife": "knives", "sheep": "sheep", "broccoli": "broccoli", "mouse": "mice"}
_PAIRS = ("skis", "scissors")  # names of objects that are plurals


def read_prompts(source: str | Path) -> PromptSet:
    """The set in a file, or in a folder of DPG-Bench or T2I-CompBench; `own` is the bundled one.

    Raises InvalidRequestError if there is no such file, if it is in none of the forms, or if no row can be used.
    """
    path = OWN_SET if str(source) == OWN else Path(source)
    try:
        paths = _files_of(path) if path.is_dir() else [path]
        contents = [each.read_bytes() for each in paths]
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "no such name is possible"
        raise InvalidRequestError(f"--prompts {str(path)!r} cannot be read ({reason}); give a file, or own.") from None
    if not paths:
        raise InvalidRequestError(
            f"--prompts {str(path)!r} is a folder without dpg_bench.csv and without .txt files; give a file."
        )
    digest = hashlib.sha256(b"".join(contents)).hexdigest()
    form, found = _read(paths, contents)
    rows, problems, ids = [], [], {}
    for number, (place, make) in enumerate(found, 1):
        try:
            row = make(number, place)
            if row.id in ids:
                raise InvalidRequestError(f"the id {show_value(row.id)} is that of {ids[row.id]} too; give another.")
            ids[row.id] = place
            rows.append(row)
        except Exception as error:  # noqa: BLE001 - no row may stop the others
            problems.append(Problem(place, str(explain_failure(error, "this row could not be read"))))
    if not rows:
        why = f"; the first: {problems[0]}" if problems else ""
        raise InvalidRequestError(f"--prompts {str(path)!r} has no row that can be used{why}")
    name = OWN if path == OWN_SET else path.name
    return PromptSet(name, form, digest, tuple(rows), tuple(problems))


def _files_of(folder: Path) -> list[Path]:
    """The files with the prompts in a folder of a published set."""
    for table in (folder / _DPG, *([folder.parent / _DPG] if folder.absolute().name == "prompts" else [])):
        if table.is_file():
            return [table]
    return sorted(folder.glob("*_val.txt")) or sorted(folder.glob("*.txt"))


# A place in the file, and what makes its row from a number and that place.
_Found = Iterator[tuple[str, Callable[[int, str], Row]]]


def _read(paths: Sequence[Path], contents: Sequence[bytes]) -> tuple[str, _Found]:
    """The form of the files, and their rows."""
    path, content = paths[0], contents[0]
    suffix = path.suffix.lower()
    if suffix == ".txt":
        if len(paths) > 1 and not any(_COMPBENCH.match(each.stem) for each in paths):
            return "one prompt a file", _read_files(paths, contents)
        return "one prompt a line", _read_lists(paths, contents)
    text = _decode(content)
    if suffix in (".jsonl", ".ndjson", ".json"):
        return _read_json(path, text)
    if suffix in (".csv", ".tsv"):
        return _read_table(path, text)
    raise InvalidRequestError(
        f"--prompts {str(path)!r} must end in .jsonl, .json, .csv, .tsv or .txt; unpack or convert it."
    )


def _decode(content: bytes) -> str:
    """Text as `decode_text`, but UTF-8 keeps what only some programs take for the end of a line."""
    try:
        text = content.decode("utf-8-sig").replace("\r\n", "\n")
        return text if "\n" in text else text.replace("\r", "\n")
    except UnicodeDecodeError:
        return decode_text(content)


def _maker(make: Callable[..., Row], *arguments: Any) -> Callable[[int, str], Row]:
    return lambda number, place: make(number, place, *arguments)


# ----- Published lists -----------------------------------------------------------------------------------------------


def _read_lists(paths: Sequence[Path], contents: Sequence[bytes]) -> _Found:
    for path, content in zip(paths, contents, strict=True):
        category = path.stem.removesuffix("_val").removesuffix("_train")
        where = f"{path.name}, " if len(paths) > 1 else ""
        for number, text in enumerate(_decode(content).split("\n"), 1):
            if text.strip():
                yield f"{where}line {number}", _maker(_listed_row, text.strip(), category)


def _read_files(paths: Sequence[Path], contents: Sequence[bytes]) -> _Found:
    for path, content in zip(paths, contents, strict=True):
        yield path.name, _maker(_listed_row, _decode(content).strip(), "all", path.stem)


def _listed_row(number: int, place: str, prompt: str, category: str, row_id: str = "") -> Row:
    """A row of a list that has no questions of its own."""
    prompt = validate_text("prompt", prompt)
    if not prompt.strip():
        raise InvalidRequestError("the prompt is empty; write one.")
    shown = f"Does this image show “{prompt.strip()}”?"
    return Row(number, row_id or str(number), place, category or "all", {"prompt": prompt}, (Question(shown, True),))


def _geneval_row(number: int, place: str, text: str) -> Row:
    values = parse_object(text)
    if not isinstance(values.get("tag"), str) or not isinstance(values.get("include"), list):
        raise InvalidRequestError("this is no row of GenEval; it needs tag, include and prompt.")
    prompt = validate_text("prompt", values.get("prompt"))
    try:
        questions = _geneval_questions(values["include"], values.get("exclude") or ())
    except (LookupError, TypeError, ValueError, AttributeError):
        raise InvalidRequestError("include or exclude is not as GenEval writes it; see docs/EVALUATION.md.") from None
    return Row(number, str(number), place, validate_text("tag", values["tag"]), {"prompt": prompt}, questions)


def _geneval_questions(include: Sequence[Any], exclude: Sequence[Any]) -> tuple[Question, ...]:
    """Of each object of `include` whether it is there, how often, and of what color; then where, and what must not be.

    A color and a position are those of an object that is there: their questions depend on its.
    """
    names, most = [_word(each["class"]) for each in include], {_word(each["class"]): each["count"] for each in exclude}
    questions, first = [], []
    for each, name in zip(include, names, strict=True):
        first.append(len(questions))
        questions.append(_is_there(name, each.get("count", 1), is_exact=name in most))
        if (color := each.get("color")) is not None:
            questions.append(Question(f"{_be(name)} the {name} {_word(color)}?", True, "color", (first[-1],)))
    for index, each in enumerate(include):
        if (position := each.get("position")) is not None:
            relation, other = position
            text = f"{_be(names[index])} the {names[index]} {_word(relation)} the {names[other]}?"
            questions.append(Question(text, True, "position", (first[index], first[other])))
    for name, count in most.items():
        questions.append(Question(f"Are there {int(count)} or more {_plural(name)} in this image?", False, "counting"))
    return tuple(questions)


def _word(value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise TypeError
    return value


def _is_there(name: str, count: int, *, is_exact: bool) -> Question:
    if type(count) is not int or count < 1:
        raise TypeError
    if count > 1:
        amount = "exactly" if is_exact else "at least"
        return Question(f"Are there {amount} {count} {_plural(name)} in this image?", True, "counting")
    if name in _PAIRS:
        return Question(f"Are there {name} in this image?", True, "object")
    article = "an" if name[0] in "aeiou" else "a"
    return Question(f"Is there {article} {name} in this image?", True, "object")


def _be(name: str) -> str:
    return "Are" if name in _PAIRS else "Is"


def _plural(name: str) -> str:
    if name in _PAIRS:
        return name
    before, _, last = name.rpartition(" ")
    plural = _PLURALS.get(last) or f"{last}{'es' if _ES.search(last) else 's'}"
    return f"{before} {plural}".lstrip()


def _read_json(path: Path, text: str) -> tuple[str, _Found]:
    """One object a line, a list of rows, or the object of MJHQ-30K, whatever the file's suffix says."""
    whole = parse_or_none(text)
    numbered = [(f"line {number}", each) for number, each in enumerate(text.split("\n"), 1) if each.strip()]
    if isinstance(whole, dict) and _is_by_id(whole, path):
        return "MJHQ-30K", ((f"id {show_value(key)}", _maker(_mjhq_row, key, each)) for key, each in whole.items())
    if isinstance(whole, list):
        parts = [(f"entry {number}", json.dumps(each)) for number, each in enumerate(whole, 1)]
        if whole and all(isinstance(each, str) for each in whole):
            rows = ((f"entry {number}", _maker(_listed_row, each, "")) for number, each in enumerate(whole, 1))
            return "one prompt an entry", rows
    elif isinstance(whole, dict):
        parts = [(numbered[0][0], text)]
    else:
        parts = numbered
    values = [each for _, part in parts if isinstance(each := parse_or_none(part), dict)]
    is_broken_list = whole is None and text.lstrip().startswith("[") and parse_or_none(parts[0][1]) is None
    if is_broken_list or (not values and path.suffix.lower() == ".json"):
        raise InvalidRequestError(f"--prompts {str(path)!r} is not JSON of rows{_why(text)}; give a list of objects.")
    if values and values[0].keys() >= {"tag", "include"}:
        return "GenEval", ((place, _maker(_geneval_row, each)) for place, each in parts)
    return "own rows", ((place, _maker(own_row, each, path.parent)) for place, each in parts)


def _is_by_id(values: Mapping[str, Any], path: Path) -> bool:
    """Whether an object holds rows by their ids, and is no row itself."""
    if values.keys() & {"prompt", "instruction", *MEDIA}:
        return False
    return path.suffix.lower() == ".json" or any(isinstance(each, dict) for each in values.values())


def _why(text: str) -> str:
    """What is wrong with JSON, for a message; empty if nothing is."""
    try:
        json.loads(text)
    except (ValueError, RecursionError) as error:
        return f" ({error})"
    return ""


def _mjhq_row(number: int, place: str, row_id: str, values: Any) -> Row:
    if not isinstance(values, dict) or not isinstance(values.get("prompt"), str):
        raise InvalidRequestError("this is no row of MJHQ-30K; it needs prompt and category.")
    return _listed_row(number, place, values["prompt"], str(values.get("category") or "all"), row_id)


def _read_table(path: Path, text: str) -> tuple[str, _Found]:
    columns, records = read_table(path, text, (_DPG_COLUMNS, {"prompt"}, {"instruction"}))
    names = {column.lower() for column in columns}
    if names >= _DPG_COLUMNS:
        return "DPG-Bench", _dpg_rows(records)
    is_parti = names >= {"prompt", "category", "challenge"} or {"Prompt", "Category"} == {*columns}
    if is_parti and "questions" not in names:
        return "PartiPrompts", ((each.place, _maker(_parti_row, each)) for each in records)
    return "own rows", ((each.place, _maker(table_row, each, path.parent)) for each in records)


def _parti_row(number: int, place: str, record: Record) -> Row:
    cells = record.read()
    return _listed_row(number, place, cells["prompt"], cells["category"])


def _dpg_rows(records: Iterable[Record]) -> _Found:
    """An item's questions stand in several records, one below the other."""
    items: dict[str, list[Record]] = {}
    for record in records:
        items.setdefault(record.cells.get("item_id") or record.place, []).append(record)
    for row_id, parts in items.items():
        yield parts[0].place, _maker(_dpg_row, row_id, parts)


def _dpg_row(number: int, place: str, row_id: str, records: Sequence[Record]) -> Row:
    cells = records[0].read()
    prompt = validate_text("text", cells["text"])
    for name in ("item_id", "text"):
        if not cells[name].strip():
            raise InvalidRequestError(f"{name} is empty; fill the cell in.")
    indices = {record.cells.get("proposition_id", "").strip(): index for index, record in enumerate(records)}
    questions = tuple(_dpg_question(record, row_id, indices) for record in records)
    return Row(number, row_id, place, "dpg", {"prompt": prompt}, questions)


def _dpg_question(record: Record, row_id: str, indices: Mapping[str, int]) -> Question:
    cells = record.read()
    text = validate_text("question_natural_language", cells["question_natural_language"])
    if not text.strip():
        raise InvalidRequestError(f"a question of {show_value(row_id)} is empty, in {record.place}; fill the cell in.")
    # "0" stands for no dependency.
    depends = [each.strip() for each in cells.get("dependency", "").split(",") if each.strip() not in ("0", "")]
    if unknown := [each for each in depends if each not in indices]:
        raise InvalidRequestError(
            f"dependency {show_value(unknown[0])} is no proposition_id of {show_value(row_id)}, in {record.place}."
        )
    kind = cells.get("category_broad") or "content"
    return Question(text, True, kind, tuple(indices[each] for each in depends))
