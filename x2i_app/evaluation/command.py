"""`python -m x2i_app evaluate`: check the options, run, print the table, say whether what was asked for is reached."""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from x2i_app.errors import InvalidRequestError
from x2i_app.evaluation.asking import default_judge
from x2i_app.evaluation.comparison import FIRST, SECOND, compare, read_report
from x2i_app.evaluation.goals import check_names, missed_goals
from x2i_app.evaluation.html_report import as_html
from x2i_app.evaluation.outcome import STUDENT, TEACHER, Options
from x2i_app.evaluation.prompt_sets import read_prompts
from x2i_app.evaluation.report import (
    Report,
    build_report,
    cells,
    conclusion,
    headings,
    judge_sentences,
    score_table,
    title,
    write_report,
)
from x2i_app.evaluation.run import run
from x2i_app.limits import LIMITS, Range, show_value, validate_integer

_SEEDS = Range(0, 999)
_MOST_SEEDS = 100
_SHARDS = Range(1, 10_000)
_LIMIT = Range(1, 10_000_000)
_SIZE = LIMITS.width
_WIDE = 130  # characters of a terminal that shows every column


def parse_seeds(text: str) -> tuple[int, ...]:
    """ "3" is three images of each prompt, with the seeds 0, 1 and 2; "5,7" is those seeds. InvalidRequestError."""
    try:
        numbers = [int(part) for part in text.split(",") if part.strip()]
    except ValueError:
        numbers = []
    if not numbers:
        raise InvalidRequestError(f"--seeds is {show_value(text)}; give how many, such as 4, or the seeds: 0,1,5.")
    if len(numbers) == 1 and "," not in text:
        return tuple(range(validate_integer("--seeds", numbers[0], Range(1, _MOST_SEEDS))))
    seeds = tuple(dict.fromkeys(validate_integer("a seed of --seeds", each, _SEEDS) for each in numbers))
    validate_integer("the number of --seeds", len(seeds), Range(1, _MOST_SEEDS))
    return seeds


def parse_shard(text: str | None) -> tuple[int, int] | None:
    """ "2/4" is the second of four parts. Raises InvalidRequestError."""
    if text is None:
        return None
    number, _, count = text.partition("/")
    try:
        found = int(number), validate_integer("the number of shards", int(count), _SHARDS)
    except ValueError:
        raise InvalidRequestError(f"--shard is {show_value(text)}; write 2/4 for the second of four parts.") from None
    if not 1 <= found[0] <= found[1]:
        raise InvalidRequestError(f"--shard is {show_value(text)}; its first number must be 1 to {found[1]}.")
    return found


def run_prompts(options: Options, prompts: str, goals: Mapping[str, float], *, as_json: bool = False) -> int:
    """Evaluate a prompt set; status 1 if a goal is missed. Raises X2IError."""
    if options.steps is not None:
        validate_integer("steps", options.steps, LIMITS.num_inference_steps)
    if options.size is not None:
        validate_integer("size", options.size, _SIZE)
    if options.limit is not None:
        validate_integer("limit", options.limit, _LIMIT)
    if not next(path for path in (options.output, *options.output.absolute().parents) if path.exists()).is_dir():
        raise InvalidRequestError(f"--output {str(options.output)!r} is a file or lies below one; choose a folder.")
    found = read_prompts(prompts)
    check_names(goals, (*found.categories, "all"))
    for problem in found.problems:
        print(f"x2i: {problem}", file=sys.stderr)
    outcome = run(found, options)
    for problem in outcome.problems[len(found.problems) :]:
        print(f"x2i: {problem}", file=sys.stderr)
    report = build_report(outcome, _settings(options))
    page = as_html(report, dict.fromkeys((STUDENT, TEACHER), outcome.folder))
    write_report(report, outcome.folder, page)
    _print(report, outcome.folder, as_json=as_json)
    return _tell(missed_goals(goals, _shares(report)))


def run_comparison(first: Path, second: Path, output: Path | None, goals: Mapping[str, float], *, as_json: bool) -> int:
    """Compare two reports; with `output`, write the comparison there. Status 1 if A misses a goal. Raises X2IError."""
    (one, one_folder), (other, other_folder) = read_report(first), read_report(second)
    report = compare(one, other, (one_folder.absolute().name, other_folder.absolute().name))
    check_names(goals, [entry["name"] for entry in report["table"]])
    if output:
        try:
            output.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InvalidRequestError(f"--output {str(output)!r} cannot be used ({error.strerror}).") from None
        write_report(report, output, as_html(report, {FIRST: one_folder, SECOND: other_folder}))
    _print(report, output, as_json=as_json)
    return _tell(missed_goals(goals, _shares(report)))


def _settings(options: Options) -> dict[str, Any]:
    """The options as the report shows them."""
    values = asdict(options.settings)
    model = {name: values[name] for name in ("flux", "mllm", "alignnet", "light_control", "profile", "device")}
    judges = list(options.judges or (default_judge(options.settings),))
    return model | {
        "seeds": list(options.seeds),
        "limit": options.limit,
        "judges": judges,
        "clip": options.clip,
        "dino": options.dino,
        "shard": options.shard and "{}/{}".format(*options.shard),
    }


def _shares(report: Report) -> dict[str, float | None]:
    """The score of each row; None if an image of it could not be drawn or judged, so that a failure cannot pass."""
    found = {}
    for entry in report["table"]:
        is_whole = entry["score"] and not entry["missing"] and not entry["unjudged"]
        found[entry["name"]] = entry["score"]["mean"] if is_whole else None
    if "all" not in found:
        found["all"] = next(iter(found.values()))
    return found


def _print(report: Report, folder: Path | None, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps({name: value for name, value in report.items() if name != "rows"}, ensure_ascii=False))
        return
    console = Console()
    console.print(Text(title(report), style="bold"))
    if said := conclusion(report):
        console.print(Text(said))
    for columns, rows in ((headings(report), [cells(report, entry) for entry in report["table"]]), score_table(report)):
        if rows:
            console.print(_table(columns, rows, console.width))
    for sentence in judge_sentences(report):
        console.print(Text(sentence))
    if folder:
        console.print(Text(f"Wrote report.html, report.md and report.json to {folder}"))


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]], width: int) -> Table:
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False)
    # In a narrow terminal, the column that is least needed is left out.
    shown = [index for index, column in enumerate(columns) if width >= _WIDE or column != "all right"]
    for index in shown:
        table.add_column(columns[index], justify="right" if index else "left", no_wrap=index < 2)
    for row in rows:
        table.add_row(*(Text(row[index].replace(" (", "\n(") if width < _WIDE else row[index]) for index in shown))
    return table


def _tell(missed: Sequence[str]) -> int:
    for sentence in missed:
        print(f"x2i: {sentence}", file=sys.stderr)
    return 1 if missed else 0
