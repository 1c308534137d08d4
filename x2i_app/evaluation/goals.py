"""Goals that an evaluation must reach, so that it can be a check in continuous integration."""

from collections.abc import Mapping, Sequence

from x2i_app.errors import InvalidRequestError
from x2i_app.limits import show_value


def parse_goals(texts: Sequence[str]) -> dict[str, float]:
    """ "row=0.95" as a row and a share. Raises InvalidRequestError."""
    goals = {}
    for text in texts:
        name, _, value = text.rpartition("=")
        try:
            share = float(value)
        except ValueError:
            share = -1.0
        if not name or not 0 <= share <= 1:
            raise InvalidRequestError(
                f"--at-least is {show_value(text)}; write ROW=SHARE, such as text=0.95 or all=0.9."
            )
        goals[name] = max(share, goals.get(name, 0.0))
    return goals


def check_names(goals: Mapping[str, float], names: Sequence[str]) -> None:
    """Raise InvalidRequestError if there is no row of a goal's name."""
    for name in goals:
        if name not in names:
            raise InvalidRequestError(f"--at-least names {show_value(name)}; the rows are {', '.join(names)}.")


def missed_goals(goals: Mapping[str, float], found: Mapping[str, float | None]) -> list[str]:
    """A sentence about each goal that is not reached. found: shares by row; None could not be measured."""
    missed = []
    for name, goal in goals.items():
        if found.get(name) is None:
            missed.append(
                f"{name} has no score to compare with {goal:g}: its questions were not answered, or one of its prompts "
                "could not be drawn or judged."
            )
        elif found[name] < goal:
            missed.append(f"{name} is {found[name]:.4f}, which is below {goal:g}.")
    return missed
