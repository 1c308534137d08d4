"""Two reports side by side: the same prompts, judged by the same judge, of two presets or two AlignNets."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from x2i_app.errors import InvalidRequestError
from x2i_app.evaluation.report import REPORT, STUDENT, Report, summarize

FIRST, SECOND = "A", "B"


def read_report(source: Path) -> tuple[Report, Path]:
    """A report, and the folder below which its images are. source: the folder, or its report.json.

    Raises InvalidRequestError.
    """
    path = source / REPORT if source.is_dir() else source
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
        if report["format"] != 1 or not report["rows"]:
            raise ValueError
    except OSError as error:
        raise InvalidRequestError(
            f"--compare {str(source)!r} has no {REPORT} ({error.strerror}); give the folder of an evaluation."
        ) from None
    except (ValueError, LookupError, TypeError):
        raise InvalidRequestError(f"{str(path)!r} is no report of x2i evaluate --prompts; make it again.") from None
    return report, path.parent


def compare(first: Report, second: Report, folders: tuple[str, str] = ("A", "B")) -> Report:
    """A report of the rows that both have, with A in the student's place and B as the other side.

    folders: how to tell two reports apart that measured models of the same name.
    Raises InvalidRequestError for reports of different prompts, or judged by different judges.
    """
    if first["prompts"]["sha256"] != second["prompts"]["sha256"]:
        raise InvalidRequestError(
            f"The reports are of {first['prompts']['name']!r} and {second['prompts']['name']!r}, which differ; "
            "compare two runs of the same prompts."
        )
    judges = [[(each["name"], each["weights"]) for each in report["judges"]][:1] for report in (first, second)]
    if judges[0] != judges[1]:
        names = " and ".join(judge[0][0] if judge else "none" for judge in judges)
        raise InvalidRequestError(f"The reports are by different judges ({names}); judge both by the same one.")
    others = {row["id"]: row for row in second["rows"]}
    rows = [_join(row, others[row["id"]]) for row in first["rows"] if row["id"] in others]
    if not rows:
        raise InvalidRequestError("The reports have no prompt in common; compare runs with the same --limit.")
    left_out = len(first["rows"]) + len(second["rows"]) - 2 * len(rows)
    names = [_name(report) for report in (first, second)]
    if names[0] == names[1]:
        names = [f"{name} in {folder}" for name, folder in zip(names, folders, strict=True)]
    problems = [{"place": "rows", "sentence": f"{left_out} are in only one of the reports."}] if left_out else []
    return {
        "format": 1,
        "preset": f"A: {names[0]}, B: {names[1]}",
        "sides": [FIRST, SECOND],
        "prompts": first["prompts"],
        "settings": _both(first, second, "settings"),
        "weights": _both(first, second, "weights"),
        "versions": _both(first, second, "versions"),
        "judges": first["judges"],
        "agreement": [],
        "table": summarize(rows, (FIRST, SECOND)),
        "questions": [],
        "rows": rows,
        "problems": problems,
        "phases": {},
    }


def _name(report: Report) -> str:
    changed = report["settings"].get("alignnet") or report["settings"].get("flux")
    return f"{report['preset']} with {Path(changed).name}" if changed else report["preset"]


def _join(row: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """The row with the student's images of both reports."""
    samples = [
        each | {"side": side}
        for side, source in ((FIRST, row), (SECOND, other))
        for each in source["samples"]
        if each["side"] == STUDENT
    ]
    return {**row, "samples": samples}


def _both(first: Report, second: Report, name: str) -> dict[str, str]:
    found = {}
    for key in first[name] | second[name]:
        one, other = first[name].get(key), second[name].get(key)
        found[key] = str(one) if one == other else f"A: {one}, B: {other}"
    return found
