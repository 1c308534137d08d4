"""The report of a run: report.json with everything, report.md with the tables; `html_report.py` writes the page.

A prompt's score is the share of its questions that are answered as expected, over all of its images. A question counts
as wrong if one that it depends on is.
"""

import json
import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from x2i_app.errors import EngineError
from x2i_app.evaluation.judges import Measured
from x2i_app.evaluation.outcome import STUDENT, TEACHER, Outcome, image_name
from x2i_app.evaluation.prompt_sets import OWN
from x2i_app.evaluation.prompts import Question, Row
from x2i_app.evaluation.statistics import Estimate, difference, estimate, estimate_share, kappa, relative_loss, verdict

REPORT = "report.json"
ALL = "all"  # the row of all prompts together
Report = dict[str, Any]


def build_report(outcome: Outcome, settings: Mapping[str, Any]) -> Report:
    """Everything that was found, ready for JSON; shares from 0 to 1. settings: the options of the command."""
    rows = [_row(row, outcome) for row in outcome.rows]
    return {
        "format": 1,
        **outcome.identity,
        "settings": dict(settings) | _drawn_with(outcome),
        "versions": {name: version(name) for name in ("torch", "diffusers", "transformers")}
        | {"python": platform.python_version()},
        "judges": outcome.judges,
        "agreement": _agreement(outcome),
        "table": summarize(rows, sides=outcome.sides),
        "questions": _by_kind(rows, outcome.sides),
        "rows": rows,
        "problems": [asdict(problem) for problem in dict.fromkeys(outcome.problems)],
        "phases": outcome.phases,
    }


def _drawn_with(outcome: Outcome) -> dict[str, Any]:
    """What the FLUX model's own values turned out to be."""
    record = next(iter(outcome.records.values()), {})
    return {name: record[name] for name in ("width", "height", "steps", "guidance") if name in record}


def _row(row: Row, outcome: Outcome) -> dict[str, Any]:
    samples = []
    for side, seed, path in outcome.images(row):
        name = path.relative_to(outcome.folder).as_posix()
        said = {judge: found[name] for judge, found in outcome.measured.items() if name in found}
        right, total = _count(row.questions, next(iter(said.values()), Measured()).answers)
        record = outcome.records.get(image_name(row, seed), {})
        samples.append(
            {
                "side": side,
                "seed": seed,
                "file": name,
                "right": right,
                "total": total,
                "answers": {judge: list(each.answers) for judge, each in said.items() if each.answers},
                "scores": {score: value for each in said.values() for score, value in each.scores.items()},
                "mllm": record.get("answer") if side == STUDENT else None,
                "notes": record.get("notes", []) if side == STUDENT else [],
            }
        )
    return {
        "id": row.id,
        "place": row.place,
        "category": row.category,
        "language": row.language,
        "prompt": row.prompt,
        "caption": row.caption,
        "inputs": _inputs(row),
        "questions": [asdict(question) for question in row.questions],
        "samples": samples,
    }


def _inputs(row: Row) -> list[str]:
    """What the row has besides its prompt, e.g. ["2 images", "history"]."""
    counts = {name: len(row.request.get(name, ())) for name in ("images", "videos", "audios")}
    found = [f"{count} {name if count > 1 else name[:-1]}" for name, count in counts.items() if count]
    return [*found, *(["history"] if row.request.get("history") else [])]


def _count(questions: Sequence[Question], answers: Sequence[float | None]) -> tuple[int, int]:
    """Questions answered as expected, and questions answered at all."""
    pairs = list(zip(questions, answers, strict=False))
    is_wrong = [answer is not None and (answer >= 0.5) != question.expected for question, answer in pairs]
    for index, (question, _) in enumerate(pairs):  # in this order, as DPG-Bench does it, where a parent may come later
        is_wrong[index] |= any(is_wrong[parent] for parent in question.depends)
    asked = [wrong for wrong, (_, answer) in zip(is_wrong, pairs, strict=True) if answer is not None]
    return asked.count(False), len(asked)


def _score(row: Mapping[str, Any], side: str) -> float | None:
    samples = [each for each in row["samples"] if each["side"] == side and each["total"]]
    return float(np.mean([each["right"] / each["total"] for each in samples])) if samples else None


def summarize(rows: Sequence[Mapping[str, Any]], sides: Sequence[str]) -> list[dict[str, Any]]:
    """A summary of each category, in order, and of all rows together."""
    categories = dict.fromkeys(row["category"] for row in rows)
    found = [_summary(name, [row for row in rows if row["category"] == name], sides) for name in categories]
    return found if [*categories] == [ALL] else [*found, _summary(ALL, rows, sides)]


def _summary(name: str, rows: Sequence[Mapping[str, Any]], sides: Sequence[str]) -> dict[str, Any]:
    first, other = sides[0], next(iter(sides[1:]), None)
    scored = [score for row in rows if (score := _score(row, first)) is not None]
    samples = [each for row in rows for each in row["samples"] if each["side"] == first]
    answered = [each["right"] == each["total"] for each in samples if each["total"]]
    pairs = [(_score(row, first), _score(row, other)) for row in rows] if other else []
    pairs = [pair for pair in pairs if None not in pair]
    loss = relative_loss(*zip(*pairs, strict=True)) if pairs else None
    return {
        "name": name,
        "prompts": len(rows),
        "images": len(samples),
        "unanswered": sum(sum(answer is None for answer in _first(each["answers"])) for each in samples),
        "unjudged": _unjudged(rows, first),
        "missing": len([row for row in rows if not any(each["side"] == first for each in row["samples"])]),
        "score": _as_dict(estimate_share(scored)),
        "all_right": float(np.mean(answered)) if answered else None,
        "compared": {
            "prompts": len(pairs),
            "score": _as_dict(estimate_share([second for _, second in pairs])),
            "difference": _as_dict(difference(*zip(*pairs, strict=True), is_symmetric=first != STUDENT))
            if pairs
            else None,
            "loss": _as_dict(loss),
            "less_than_1_percent": verdict(loss),
        }
        if other
        else None,
        "scores": _scores(rows, sides),
    }


def _unjudged(rows: Sequence[Mapping[str, Any]], side: str) -> int:
    """Images whose questions no judge could read; 0 if nobody was asked."""
    asked = [each for row in rows if row["questions"] for each in row["samples"] if each["side"] == side]
    return sum(not each["answers"] for each in asked) if any(each["answers"] for each in asked) else 0


def _first(answers: Mapping[str, Sequence[Any]]) -> Sequence[Any]:
    return next(iter(answers.values()), ())


def _scores(rows: Sequence[Mapping[str, Any]], sides: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Figures of judges that answer no questions, by name and side; one value a prompt."""
    names = dict.fromkeys(name for row in rows for each in row["samples"] for name in each["scores"])
    found: dict[str, dict[str, Any]] = {}
    for name in names:
        for side in sides:
            values = [
                np.mean(given)
                for row in rows
                if (given := [s["scores"][name] for s in row["samples"] if s["side"] == side and name in s["scores"]])
            ]
            if values:
                found.setdefault(name, {})[side] = _as_dict(estimate(values))
    return found


def _by_kind(rows: Sequence[Mapping[str, Any]], sides: Sequence[str]) -> list[dict[str, Any]]:
    """For each kind of question the share that is answered as expected; intervals over prompts."""
    kinds = dict.fromkeys(question["kind"] for row in rows for question in row["questions"])
    found = []
    for kind in kinds:
        entry: dict[str, Any] = {"kind": kind}
        for side in sides:
            shares = [share for row in rows if (share := _share_of_kind(row, side, kind)) is not None]
            entry[side] = _as_dict(estimate_share(shares))
        found.append(entry)
    return found


def _share_of_kind(row: Mapping[str, Any], side: str, kind: str) -> float | None:
    right = [
        (answer >= 0.5) == question["expected"]
        for sample in row["samples"]
        if sample["side"] == side
        for question, answer in zip(row["questions"], _first(sample["answers"]), strict=False)
        if question["kind"] == kind and answer is not None
    ]
    return float(np.mean(right)) if right else None


def _agreement(outcome: Outcome) -> list[dict[str, Any]]:
    """For each two judges of questions: on what share of the same questions about the same images they agree."""
    found = []
    for one, other in combinations(outcome.measured, 2):
        pairs = [
            (first >= 0.5, second >= 0.5)
            for name in outcome.measured[one].keys() & outcome.measured[other].keys()
            for first, second in zip(
                outcome.measured[one][name].answers, outcome.measured[other][name].answers, strict=False
            )
            if first is not None and second is not None
        ]
        if pairs:
            share = float(np.mean([first == second for first, second in pairs]))
            found.append(
                {
                    "judges": [one, other],
                    "answers": len(pairs),
                    "share": share,
                    "kappa": kappa(*zip(*pairs, strict=True)),
                }
            )
    return found


def _as_dict(found: Estimate | None) -> dict[str, Any] | None:
    return (
        None if found is None else {"mean": found.mean, "interval_95": [found.low, found.high], "prompts": found.count}
    )


# ----- Text ----------------------------------------------------------------------------------------------------------


def percent(found: Mapping[str, Any] | None, *, signed: bool = False) -> str:
    """A share with its interval in percent; empty for None."""
    if found is None:
        return ""
    low, high = (100 * each for each in found["interval_95"])
    mean = f"{100 * found['mean']:{'+' if signed else ''}.1f}"
    return f"{mean} {'points' if signed else '%'} ({low:.1f} to {high:.1f})"


def number(found: Mapping[str, Any] | None) -> str:
    """Any figure with its interval; empty for None."""
    if found is None:
        return ""
    between = " ({:.3g} to {:.3g})".format(*found["interval_95"]) if found["prompts"] > 1 else ""
    return f"{found['mean']:.3g}{between}"


def headings(report: Mapping[str, Any]) -> list[str]:
    """The columns of the main table."""
    names = sides_of(report)
    columns = ["row", "prompts", f"{names[0]}, right", "all right"]
    return columns + ([f"{names[1]}, right", "difference", "< 1 % worse"] if len(names) > 1 else [])


def cells(report: Mapping[str, Any], entry: Mapping[str, Any]) -> list[str]:
    """A row of the main table."""
    found = [entry["name"], str(entry["prompts"]), percent(entry["score"])]
    found.append("" if entry["all_right"] is None else f"{100 * entry['all_right']:.1f} %")
    if len(sides_of(report)) > 1:
        compared = entry["compared"]
        shown = {"open": "not sure yet", None: ""}
        found += [percent(compared["score"]), percent(compared["difference"], signed=True)]
        found.append(shown.get(compared["less_than_1_percent"], compared["less_than_1_percent"]))
    return found


def score_table(report: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Columns and rows of the judges' other figures, such as CLIP scores; no rows without any."""
    pairs = ((name, side) for entry in report["table"] for name, sides in entry["scores"].items() for side in sides)
    columns = [*dict.fromkeys(pairs)]
    rows = [
        [entry["name"], *(number(entry["scores"].get(name, {}).get(side)) for name, side in columns)]
        for entry in report["table"]
        if entry["scores"]
    ]
    return ["row", *(f"{name}, {side}" for name, side in columns)], rows


def kind_table(report: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Columns and rows of the kinds of questions; no rows if there is only one kind."""
    sides = sides_of(report)
    rows = [[entry["kind"], *(percent(entry.get(side)) for side in sides)] for entry in report["questions"]]
    return ["questions about", *sides], rows if len(rows) > 1 else []


def sides_of(report: Mapping[str, Any]) -> list[str]:
    """student, and teacher if it was drawn; A and B in a comparison."""
    return report.get("sides") or [STUDENT, *([TEACHER] if any(entry["compared"] for entry in report["table"]) else [])]


def title(report: Mapping[str, Any]) -> str:
    """What was measured."""
    prompts, count = report["prompts"], len(report["rows"])
    form = "" if prompts["form"] == "own rows" else f" ({prompts['form']})"
    name = "the project's own prompts" if prompts["name"] == OWN else prompts["name"]
    return f"{report['preset']}: {count} of {name}{form}"


def conclusion(report: Mapping[str, Any]) -> str:
    """What all prompts together say about the two sides; empty for one side, or without a pair of answers."""
    compared = report["table"][-1]["compared"]
    if not compared or not compared["difference"]:
        return ""
    found, count = compared["difference"], compared["prompts"]
    shown = f"{percent(found, signed=True)} over {count} {'prompt' if count == 1 else 'prompts'}"
    first, other = sides_of(report)
    if first != STUDENT:
        low, high = found["interval_95"]
        if low > 0:
            return f"{first} is better than {other}: {shown}."
        if high < 0:
            return f"{first} is worse than {other}: {shown}."
        return f"Neither is shown to be better: {first} minus {other} is {shown}. More prompts may tell."
    loss = percent(compared["loss"]) or "unknown, as the teacher has none right"
    claim = {
        "yes": "The student is less than 1 % worse than the teacher",
        "no": "The student is 1 % or more worse than the teacher",
    }.get(compared["less_than_1_percent"], "It is not sure yet whether the student is less than 1 % worse")
    return f"{claim}: the loss is {loss}; the difference is {shown}."


def judge_sentences(report: Mapping[str, Any]) -> list[str]:
    """How to read the tables, and what the judges' self-checks and their agreement say."""
    found = ["Each figure is a mean over prompts, with its 95 % interval by bootstrap over prompts."]
    if len(sides_of(report)) > 1:
        found.append("“Not sure yet” says that more prompts are needed to know whether the loss is below 1 %.")
    for judge in report["judges"]:
        check = judge["self_check"] or {}
        parts = []
        if "right" in check:
            parts.append(
                f"{100 * check['right']:.1f} % of its answers are as expected for right images, "
                f"{100 * check['wrong']:.1f} % for wrong ones"
            )
        for name, each in check.items():
            if isinstance(each, dict):
                parts.append(
                    f"{name} {each['right']:.3g} for right images, {each['wrong']:.3g} for wrong ones, "
                    f"told apart in {100 * each['told_apart']:.0f} % of pairs"
                )
        found.append(f"Self-check of {judge['name']}: {'; '.join(parts) or 'it can say nothing about drawings'}.")
        found += judge["notes"]
    for each in report["agreement"]:
        chance = "" if each["kappa"] is None else f", kappa {each['kappa']:.2f}"
        one, other = each["judges"]
        found.append(f"{one} and {other} agree on {100 * each['share']:.1f} % of {each['answers']} answers{chance}.")
    return found


def as_markdown(report: Mapping[str, Any]) -> str:
    """The tables and what to know about them."""
    parts = [f"# {_plain(title(report))}", *filter(None, [_plain(conclusion(report))])]
    main = headings(report), [cells(report, entry) for entry in report["table"]]
    parts += [_markdown_table(*table) for table in (main, score_table(report), kind_table(report)) if table[1]]
    parts.append("\n".join(f"- {_plain(each)}" for each in judge_sentences(report)))
    if report["problems"]:
        listed = "\n".join(f"- {_plain(each['place'])}: {_plain(each['sentence'])}" for each in report["problems"])
        parts.append(f"Not measured, or not completely:\n\n{listed}")
    return "\n\n".join(parts) + "\n"


def _markdown_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    header = f"| {' | '.join(map(_plain, columns))} |\n|{' --- |' * len(columns)}"
    return "\n".join([header, *(f"| {' | '.join(map(_plain, row))} |" for row in rows)])


def _plain(text: str) -> str:
    """Text that no Markdown reader takes for markup, in one line: prompts and names are strangers' words."""
    marked = "".join(f"\\{c}" if c in "\\`*_{}[]<>|#!" else c for c in text)
    return " ".join(marked.replace("&", "&amp;").split())


def write_report(report: Report, folder: Path, page: str) -> None:
    """report.json, report.md and report.html. Raises EngineError."""
    contents = {
        REPORT: json.dumps(report, indent=1, ensure_ascii=False) + "\n",
        "report.md": as_markdown(report),
        "report.html": page,
    }
    for name, content in contents.items():
        try:
            (folder / f"new-{name}").write_text(content, encoding="utf-8")
            (folder / f"new-{name}").replace(folder / name)
        except OSError as error:
            raise EngineError(f"{str(folder / name)!r} cannot be written ({error.strerror}); make room.") from error
