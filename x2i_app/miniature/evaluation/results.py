"""The numbers of an evaluation, as a table for the terminal, as Markdown and as JSON."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.table import Table
from rich.text import Text

from x2i_app.miniature.evaluation.attributes import ATTRIBUTES, Tally
from x2i_app.miniature.evaluation.likeness import Likeness

TEACHER_GOAL = 0.97
PSNR_GOAL = 32.0  # dB
# Widths of a terminal, in characters, from which the table has columns for single attributes and for "x teacher".
_WIDE, _MIDDLE = 120, 90


@dataclass(frozen=True)
class RowResult:
    """The result for one kind of input.

    tally: all attributes. between: the 95 % interval of its accuracy, from 0 to 1. unchanged: the attributes that an
    edit must not change; untrained: kind and colour of things whose pair is never trained; both may be empty.
    likeness: of the things in the first images; None for audio. exact: share of the MLLM's answers that are exactly the
    canonical sentence, 0 to 1; None without answers.
    told: share of results whose notes say that something is unknown, 0 to 1; None without answers.
    goal: accuracy to reach, 0 to 1; None without a teacher.
    """

    name: str
    title: str
    scenes: int
    tally: Tally
    between: tuple[float, float] | None
    unchanged: Tally
    untrained: Tally
    likeness: Likeness | None
    exact: float | None
    told: float | None
    goal: float | None
    seconds: float

    @property
    def reached(self) -> bool | None:
        """Whether the goal is reached; None without a goal."""
        return None if self.goal is None else self.tally.accuracy >= self.goal

    def as_dict(self) -> dict[str, Any]:
        """Everything, ready for JSON; shares from 0 to 1."""
        return {
            "name": self.name,
            "title": self.title,
            "scenes": self.scenes,
            "accuracy": self.tally.accuracy,
            "interval_95": self.between,
            "goal": self.goal,
            "reached": self.reached,
            "by_attribute": self.tally.by_attribute,
            "right": dict(self.tally.right),
            "total": dict(self.tally.total),
            "untrained_pairs": _share(self.untrained),
            "unchanged_attributes": _share(self.unchanged),
            "likeness": self.likeness and self.likeness.mean,
            "likeness_by_kind": self.likeness and self.likeness.by_kind,
            "exact_answers": self.exact,
            "told_unknown": self.told,
            "seconds": round(self.seconds, 1),
        }


@dataclass(frozen=True)
class Results:
    """All rows of one evaluation.

    teacher: None without its text encoders. psnr: of the VAE's reconstructions, in dB. judge, chance: shares of
    attributes, 0 to 1, that the judge finds as wanted in renders of the wanted scene and in renders of another scene.
    """

    preset: str
    scenes: int
    steps: int
    size: int
    psnr: float
    judge: float
    chance: float
    teacher: RowResult | None
    rows: Sequence[RowResult]

    def as_dict(self) -> dict[str, Any]:
        """Everything, ready for JSON."""
        return {
            "preset": self.preset,
            "scenes": self.scenes,
            "steps": self.steps,
            "size": self.size,
            "vae_psnr_db": self.psnr,
            "vae_psnr_goal_db": PSNR_GOAL,
            "judge": self.judge,
            "chance": self.chance,
            "teacher": self.teacher and self.teacher.as_dict(),
            "rows": [row.as_dict() for row in self.rows],
        }

    def as_table(self, width: int = 80) -> Table:
        """A table for a terminal of `width` characters; columns for single attributes only if they fit."""
        needs = dict.fromkeys(ATTRIBUTES, _WIDE) | {"x teacher": _MIDDLE}
        columns = [i for i, name in enumerate(_HEADINGS) if width >= needs.get(name, 0)]
        table = Table(title=self.title, caption=self._caption, box=None, padding=(0, 1, 0, 0), pad_edge=False)
        for column in columns:
            table.add_column(_HEADINGS[column], justify="right" if column else "left", no_wrap=True)
        for row in self._all:
            style = {True: "green", False: "red", None: ""}[row.reached]
            cells = [Text(cell) for cell in self._cells(row)]
            cells[1].stylize(style)
            table.add_row(*(cells[column] for column in columns))
        return table

    def as_markdown(self) -> str:
        """The same table as Markdown."""
        rows = [_HEADINGS, ("---", *["---:"] * (len(_HEADINGS) - 1)), *map(self._cells, self._all)]
        table = "\n".join(f"| {' | '.join(cells)} |" for cells in rows)
        return f"# {self.title}\n\n{table}\n\n{self._caption}\n"

    @property
    def title(self) -> str:
        """The preset and the settings of the evaluation."""
        return f"{self.preset}: {self.scenes} fresh scenes a row, {self.steps} steps, {self.size} px"

    @property
    def _all(self):
        return [*([self.teacher] if self.teacher else []), *self.rows]

    @property
    def _caption(self):
        reached = "reached" if self.psnr >= PSNR_GOAL else "missed"
        return (
            f"VAE reconstruction: {self.psnr:.1f} dB (goal {PSNR_GOAL:g} dB: {reached}). Attributes that the judge "
            f"finds as wanted in renders of the wanted scene: {self.judge:.1%}, of another scene: {self.chance:.1%}. "
            "untrained: kind and colour of things whose pair is never trained. kept: attributes that an edit must not "
            "change. like, worst: edges of things, as a share of what another drawing reaches, mean of kinds and worst "
            "kind. answers: the MLLM's answers that are exactly right. told: results that name something unknown."
        )

    def _cells(self, row):
        is_compared = self.teacher and self.teacher.tally.accuracy and row is not self.teacher
        found = row.tally.by_attribute
        return (
            row.title,
            _percent(row.tally.accuracy),
            show_interval(row.between),
            f"{row.tally.accuracy / self.teacher.tally.accuracy:.3f}" if is_compared else "",
            _percent(row.goal),
            {True: "yes", False: "no", None: ""}[row.reached],
            *(_percent(found.get(name)) for name in ATTRIBUTES),
            _percent(_share(row.untrained)),
            _percent(_share(row.unchanged)),
            _percent(row.likeness and row.likeness.mean),
            _percent(row.likeness and row.likeness.worst[1]),
            _percent(row.exact),
            _percent(row.told),
        )


_HEADINGS = (
    *("input", "accuracy", "95% within", "x teacher", "goal", "reached"),
    *ATTRIBUTES,
    *("untrained", "kept", "like", "worst", "answers", "told"),
)


def _share(tally):
    return tally.accuracy if sum(tally.total.values()) else None


def show_interval(between: tuple[float, float] | None) -> str:
    """An interval of shares, from 0 to 1, in percent; empty for None."""
    return "" if between is None else f"{100 * between[0]:.1f}-{100 * between[1]:.1f}"


def _percent(share):
    return "" if share is None else f"{share:.1%}"
