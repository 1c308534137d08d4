"""The report as one HTML file: tables, and the worst and best images with filters. It loads nothing from elsewhere.

Prompts are strangers' words: all text is escaped, and the page's own policy lets only its own script run.
"""

import base64
import hashlib
import io
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from x2i_app.errors import MediaError
from x2i_app.evaluation.report import cells, conclusion, headings, judge_sentences, kind_table, score_table, title
from x2i_app.media import load_image

_SHOWN = 12  # prompts of each category, the worst and the best half of these; fewer if there are many categories
_MOST = 120  # prompts in all
_SEEDS = 4  # images of a prompt on each side: the worst and the best half of these
_SIDE = 256  # pixels: longer side of an embedded image
_QUALITY = 85

_STYLE = """
:root { color-scheme: light dark; --text: #1d1d1f; --back: #fff; --faint: #6b6b70; --edge: #d9d9de; --card: #f6f6f8;
  --good: #14713a; --bad: #b3261e; --focus: #0b57d0; }
@media (prefers-color-scheme: dark) { :root { --text: #ececf0; --back: #141416; --faint: #a2a2aa; --edge: #3a3a40;
  --card: #1f1f23; --good: #6fd394; --bad: #ff9b92; --focus: #8ab4ff; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 80rem; padding: 1.5rem 1rem 4rem; color: var(--text); background: var(--back);
  font: 16px/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.5rem; line-height: 1.25; margin: 0 0 1rem; } h2 { font-size: 1.15rem; margin: 2rem 0 .5rem; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; font-size: .92rem; overflow-wrap: normal; }
th, td { padding: .35rem .9rem .35rem 0; text-align: left; vertical-align: top; border-bottom: 1px solid var(--edge);
  font-variant-numeric: tabular-nums; } th { font-weight: 600; } .main tbody tr:last-child td { font-weight: 600; }
td:first-child, th:first-child { position: sticky; left: 0; background: var(--back); }
@media (max-width: 40rem) { th, td { padding-right: .6rem; } td:first-child { white-space: normal; min-width: 6rem; } }
td span { display: block; font-size: .85em; font-weight: 400; }
td { white-space: nowrap; } table.facts td { white-space: normal; font-weight: 400; overflow-wrap: anywhere; }
ul { padding-left: 1.2rem; } .faint { color: var(--faint); }
form { display: flex; flex-wrap: wrap; gap: .75rem 1rem; margin: .5rem 0 1rem; }
label { display: flex; flex-direction: column; font-size: .85rem; color: var(--faint); }
select, input { font: inherit; color: var(--text); background: var(--card); border: 1px solid var(--edge);
  border-radius: .4rem; padding: .35rem .5rem; min-height: 2.5rem; }
:focus-visible { outline: 2px solid var(--focus); outline-offset: 1px; }
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(21rem, 100%), 1fr)); gap: 1rem;
  align-items: start; }
article { background: var(--card); border: 1px solid var(--edge); border-radius: .6rem; padding: .8rem; min-width: 0; }
article[hidden] { display: none; } article h3 { margin: 0 0 .25rem; font-size: .95rem; }
article p { margin: .25rem 0; font-size: .92rem; }
.images { display: grid; grid-template-columns: repeat(auto-fit, minmax(7.5rem, 1fr)); gap: .5rem; margin: .5rem 0; }
figure { margin: 0; max-width: 11rem; } figure img { width: 100%; height: auto; border-radius: .3rem; display: block; }
figcaption { font-size: .8rem; color: var(--faint); } details { font-size: .9rem; }
summary { cursor: pointer; min-height: 2rem; } details ul { margin: .25rem 0; list-style: none; padding: 0; }
.yes { color: var(--good); } .no { color: var(--bad); }
"""

_SCRIPT = """
const cards = [...document.querySelectorAll("article")];
const form = document.querySelector("form");
const count = document.getElementById("count");
function show() {
  const wanted = new FormData(form);
  const text = wanted.get("text").trim().toLowerCase();
  let shown = 0;
  for (const card of cards) {
    const fits = ["category", "language", "end"].every(
      (name) => !wanted.get(name) || card.dataset[name].split(" ").includes(wanted.get(name)));
    card.hidden = !fits || !card.textContent.toLowerCase().includes(text);
    shown += !card.hidden;
  }
  count.textContent = shown + " of " + cards.length;
}
form.addEventListener("input", show);
form.addEventListener("submit", (event) => event.preventDefault());
show();
"""


def as_html(report: Mapping[str, Any], folders: Mapping[str, Path]) -> str:
    """The page. folders: for each side the folder below which its images are."""
    script = base64.b64encode(hashlib.sha256(_SCRIPT.encode()).digest()).decode()
    policy = f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{script}'"
    head = (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title(report))}</title>\n<style>{_STYLE}</style>\n</head>\n"
    )
    chosen = _choose(report["rows"])
    more = (("Other figures", score_table(report)), ("By kind of question", kind_table(report)))
    parts = [
        f"<h1>{escape(title(report))}</h1>",
        f"<p>{escape(said)}</p>" if (said := conclusion(report)) else "",
        _table(headings(report), [cells(report, entry) for entry in report["table"]], "main"),
        *(f"<h2>{name}</h2>{_table(*table)}" for name, table in more if table[1]),
        f"<ul>{''.join(f'<li>{escape(each)}</li>' for each in judge_sentences(report))}</ul>",
        _problems(report["problems"]),
        "<h2>Worst and best images</h2>",
        f'<p class="faint">Of each row of the table up to {_shown(report["rows"])} prompts, those with the lowest and '
        f"the highest score; of each prompt up to {_SEEDS} images, likewise. report.json has all.</p>",
        _filters(chosen),
        f'<div class="cards">{"".join(_card(row, end, key, folders) for row, end, key in chosen)}</div>',
        "<h2>Settings and weights</h2>",
        _facts(report),
    ]
    main = "\n".join(filter(None, parts))
    return f"{head}<body>\n<main>\n{main}\n</main>\n<script>{_SCRIPT}</script>\n</body>\n</html>\n"


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]], name: str = "more") -> str:
    header = "".join(f'<th scope="col">{escape(each)}</th>' for each in columns)
    body = "".join(f"<tr>{''.join(f'<td>{_cell(each)}</td>' for each in row)}</tr>" for row in rows)
    return (
        f'<div class="scroll"><table class="{name}"><thead><tr>{header}</tr></thead><tbody>{body}</tbody></table></div>'
    )


def _cell(text: str) -> str:
    """A figure with its interval below it."""
    mean, bracket, between = text.rpartition(" (")
    is_figure = bracket and between.endswith(")") and " to " in between
    return f'{escape(mean)} <span class="faint">{escape(between[:-1])}</span>' if is_figure else escape(text)


def _problems(problems: Sequence[Mapping[str, str]]) -> str:
    if not problems:
        return ""
    listed = "".join(f"<li>{escape(each['place'])}: {escape(each['sentence'])}</li>" for each in problems)
    return f"<h2>Not measured, or not completely</h2><ul>{listed}</ul>"


def _choose(rows: Sequence[Mapping[str, Any]]) -> list[tuple[Mapping[str, Any], str, float]]:
    """The rows to show, each as worst or best, with its score; the worst first."""
    found, shown = [], _shown(rows)
    categories = dict.fromkeys(row["category"] for row in rows)
    for category in categories:
        scored = [(_key(row), index, row) for index, row in enumerate(rows) if row["category"] == category]
        scored = sorted((each for each in scored if each[2]["samples"]), key=lambda each: each[:2])
        half = min(shown // 2, (len(scored) + 1) // 2)
        both = "worst best" if len(scored) == 1 else "worst"
        found += [(row, both, key) for key, _, row in scored[:half]]
        found += [(row, "best", key) for key, _, row in scored[half:][-(shown // 2) :]]
    found = sorted(found, key=lambda each: each[2])
    return found if len(found) <= _MOST else [*found[: _MOST // 2], *found[-_MOST // 2 :]]


def _shown(rows: Sequence[Mapping[str, Any]]) -> int:
    """How many prompts of a category are shown: an even number."""
    categories = len({row["category"] for row in rows})
    return min(_SHOWN, max(2, _MOST // max(1, categories) // 2 * 2))


def _some_samples(row: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The images of a row to show: the same seeds of both sides, chosen by the first side's scores."""
    samples = row["samples"]
    ranked = sorted((_sample_key(each), each["seed"]) for each in samples if each["side"] == samples[0]["side"])
    seeds = {seed for _, seed in (*ranked[: _SEEDS // 2], *ranked[_SEEDS // 2 :][-_SEEDS // 2 :])}
    return [each for each in samples if each["seed"] in seeds]


def _sample_key(sample: Mapping[str, Any]) -> float:
    if sample["total"]:
        return sample["right"] / sample["total"]
    return next(iter(sample["scores"].values()), 0.0)


def _key(row: Mapping[str, Any]) -> float:
    """The score of the first side's images; without questions, their first other figure."""
    side = row["samples"][0]["side"] if row["samples"] else ""
    mine = [each for each in row["samples"] if each["side"] == side]
    asked = [each["right"] / each["total"] for each in mine if each["total"]]
    values = asked or [value for each in mine for value in [*each["scores"].values()][:1]]
    return sum(values) / len(values) if values else 0.0


def _filters(chosen: Sequence[tuple[Mapping[str, Any], str, float]]) -> str:
    categories = dict.fromkeys(row["category"] for row, *_ in chosen)
    languages = dict.fromkeys(row["language"] for row, *_ in chosen if row["language"])
    selects = [("category", "row", [*categories]), ("end", "which", ["worst", "best"])]
    if languages:
        selects.insert(1, ("language", "language", [*languages]))
    options = "".join(
        f'<label>{shown}<select name="{name}"><option value="">all</option>'
        + "".join(f'<option value="{_token(value)}">{escape(value)}</option>' for value in values)
        + "</select></label>"
        for name, shown, values in selects
    )
    if not languages:
        options += '<input type="hidden" name="language" value="">'
    return (
        f'<form>{options}<label>text<input name="text" type="search" autocomplete="off"></label></form>'
        '<p class="faint" aria-live="polite"><span id="count"></span> prompts</p>'
    )


def _token(value: str) -> str:
    """A value as one word of an attribute, whatever it has in it."""
    return "x" + value.encode(errors="replace").hex() if value not in ("worst", "best") else value


def _card(row: Mapping[str, Any], end: str, key: float, folders: Mapping[str, Path]) -> str:
    row = {**row, "samples": _some_samples(row)}
    figures = "".join(_figure(sample, row, folders) for sample in row["samples"])
    has_questions = any(sample["total"] for sample in row["samples"])
    score = f"{100 * key:.0f} % right" if has_questions else f"{key:.3g}"
    prompt = f"<p>{escape(row['prompt'])}</p>" if row["prompt"] else ""
    inputs = f'<p class="faint">with {escape(", ".join(row["inputs"]))}</p>' if row["inputs"] else ""
    caption = f'<p class="faint">must show: {escape(row["caption"])}</p>' if row["caption"] else ""
    said = next((sample["mllm"] for sample in row["samples"] if sample["mllm"]), None)
    said = f'<p class="faint">the MLLM said: {escape(said)}</p>' if said else ""
    language = f' data-language="{_token(row["language"])}"' if row["language"] else ' data-language=""'
    return (
        f'<article data-category="{_token(row["category"])}"{language} data-end="{end}">'
        f"<h3>{escape(row['id'])}: {score}</h3>{prompt}{inputs}{caption}{said}"
        f'<div class="images">{figures}</div>{_answers(row)}</article>'
    )


def _figure(sample: Mapping[str, Any], row: Mapping[str, Any], folders: Mapping[str, Path]) -> str:
    share = f"{sample['right']} of {sample['total']} right" if sample["total"] else ""
    scores = [f"{name} {value:.3g}" for name, value in sample["scores"].items()]
    text = ", ".join(filter(None, (sample["side"], f"seed {sample['seed']}", share, *scores)))
    source = _embedded(folders[sample["side"]], sample["file"])
    shown = f"{sample['side']}, seed {sample['seed']}: {row['prompt'] or row['caption'] or row['id']}"
    image = f'<img src="{source}" alt="{escape(shown)}" loading="lazy">' if source else "<p>the image is missing</p>"
    return f"<figure>{image}<figcaption>{escape(text)}</figcaption></figure>"


def _embedded(folder: Path, name: str) -> str | None:
    """An image of a report as a data URL; None without one. The report may be a stranger's, which names other files."""
    path = folder / name
    try:
        if not path.resolve().is_relative_to(folder.resolve()):
            return None
        small = load_image(path)
    except (MediaError, OSError, ValueError):
        return None
    small.thumbnail((_SIDE, _SIDE))
    content = io.BytesIO()
    small.save(content, "WEBP", quality=_QUALITY)
    return f"data:image/webp;base64,{base64.b64encode(content.getvalue()).decode()}"


def _answers(row: Mapping[str, Any]) -> str:
    samples = [each for each in row["samples"] if each["answers"]]
    if not samples:
        return ""
    items = []
    for index, question in enumerate(row["questions"]):
        marks = "".join(_mark(sample, index, question["expected"]) for sample in samples)
        wanted = "" if question["expected"] else ' <span class="faint">(no is right)</span>'
        items.append(f"<li>{marks} {escape(question['text'])}{wanted}</li>")
    order = ", ".join(f"{each['side']} seed {each['seed']}" for each in samples)
    marks = f'<li class="faint">marks: {escape(order)}</li>'
    return f"<details><summary>Questions</summary><ul>{marks}{''.join(items)}</ul></details>"


def _mark(sample: Mapping[str, Any], index: int, expected: bool) -> str:
    given = next(iter(sample["answers"].values()))
    answer = given[index] if index < len(given) else None
    if answer is None:
        return '<span class="faint" title="not answered">?</span>'
    is_right = (answer >= 0.5) == expected
    judged = f"yes with {100 * answer:.0f} %"
    return f'<span class="{"yes" if is_right else "no"}" title="{judged}">{"✓" if is_right else "✗"}</span>'


def _facts(report: Mapping[str, Any]) -> str:
    facts = {"prompts, SHA-256": report["prompts"]["sha256"]}
    for name, value in report["settings"].items():
        if value not in (None, "", []):
            facts[str(name)] = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    facts |= {f"weights: {name}": digest for name, digest in report["weights"].items()}
    facts |= {f"judge {each['name']}": each["weights"] or "no weights" for each in report["judges"]}
    facts |= report["versions"]
    for name, phase in report["phases"].items():
        gpu = f", {phase['gpu_gib']} GiB on the GPU at most" if "gpu_gib" in phase else ""
        peak = f", {phase['peak_gib']} GiB at most" if "peak_gib" in phase else ""
        facts[f"phase {name}"] = f"{phase['seconds']} s, {phase['memory_gib']} GiB of memory at its end{peak}{gpu}"
    rows = "".join(
        f"<tr><th scope='row'>{escape(name)}</th><td>{escape(value)}</td></tr>" for name, value in facts.items()
    )
    return f'<div class="scroll"><table class="facts"><tbody>{rows}</tbody></table></div>'
