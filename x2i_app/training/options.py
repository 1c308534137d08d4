"""A training job's fields, said once: each is a flag of the command and a line of its configuration file.

A job is a frozen dataclass whose fields may be frozen dataclasses in turn; those are laid flat, so that a file reads
`learning_rate: 1e-4` and a command `--learning-rate 1e-4`, wherever the field stands. A flag beats the file, the file
beats the default.
"""

import argparse
import difflib
import types
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import yaml

from x2i_app.errors import InvalidRequestError, TrainingError
from x2i_app.request import show_value


def option(default: Any = MISSING, *, help: str) -> Any:
    """A dataclass field with words for `--help`."""
    return field(default=default, metadata={"help": help})


@dataclass(frozen=True)
class Leaf:
    """A field of a job or of one of its parts. default: MISSING where a value must be given."""

    kind: Any
    default: Any
    help: str


def leaves(job: type, defaults: Any = None) -> dict[str, Leaf]:
    """Every field of a job, laid flat. defaults: an instance that the defaults are read off, if there is one."""
    found: dict[str, Leaf] = {}
    for name, kind, default, words in _fields(job, defaults):
        found |= leaves(kind, default) if is_dataclass(kind) else {name: Leaf(kind, default, words)}
    return found


def add_flags(parser: argparse.ArgumentParser, job: type) -> None:
    """Give `parser` a flag for every field; what was not given is not in the namespace."""
    for name, leaf in leaves(job).items():
        default = "required" if leaf.default is MISSING else _as_words(leaf.default)
        options = {"default": argparse.SUPPRESS, "dest": name, "help": f"{leaf.help} [{default}]".replace("%", "%%")}
        if leaf.kind is bool:
            options["action"] = argparse.BooleanOptionalAction
        else:
            options["metavar"] = _kind_in_words(leaf.kind)
        parser.add_argument(f"--{name.replace('_', '-')}", **options)


def read_file(path: Path) -> dict[str, Any]:
    """The fields that a YAML (or JSON) file names. Raises InvalidRequestError; nothing but plain values is read."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no text"
        raise InvalidRequestError(f"{str(path)!r} cannot be read ({reason}); give a YAML file to --config.") from error
    except yaml.YAMLError as error:
        reason = str(error).splitlines()[0]
        raise InvalidRequestError(f"{path} is no YAML ({reason}); write `name: value` lines.") from error
    if content is None:
        return {}
    if not isinstance(content, dict) or not all(isinstance(name, str) for name in content):
        raise InvalidRequestError(f"{path} holds {show_value(content)}; write `name: value` lines.")
    return {name.replace("-", "_"): value for name, value in content.items()}


def build(job: type, values: Mapping[str, Any], defaults: Any = None) -> Any:
    """A job of flat values, as a file or flags give them. Raises InvalidRequestError for the first wrong one."""
    if defaults is None:
        _check_names(job, values)
    chosen = {}
    for name, kind, default, _ in _fields(job, defaults):
        if is_dataclass(kind):
            chosen[name] = build(kind, values, default)
        elif name in values:
            chosen[name] = convert(name, values[name], kind)
        elif default is MISSING:
            raise InvalidRequestError(f"{name} is missing; give it as --{name.replace('_', '-')} or in the file.")
        else:
            chosen[name] = default
    return job(**chosen)


def as_values(job: Any) -> dict[str, Any]:
    """A job's fields laid flat, as a configuration file can hold them."""
    values: dict[str, Any] = {}
    for each in fields(job):
        value = getattr(job, each.name)
        values |= as_values(value) if is_dataclass(value) else {each.name: _as_plain(value)}
    return values


def write_settings(job: Any) -> None:
    """What a run was started with, into its folder `output`, as a file for `--config`. Raises TrainingError."""
    try:
        job.output.mkdir(parents=True, exist_ok=True)
        (job.output / "settings.yaml").write_text(yaml.safe_dump(as_values(job), sort_keys=False), encoding="utf-8")
    except OSError as error:
        raise TrainingError(
            f"{str(job.output)!r} cannot be written ({error.strerror}); choose another --output."
        ) from error


def convert(name: str, value: Any, kind: Any) -> Any:
    """`value` as a field of that type, or InvalidRequestError. Text is read as a number where one is wanted."""
    arms = get_args(kind) if get_origin(kind) in (Union, types.UnionType) else (kind,)
    if type(None) in arms and (value is None or value == "none"):
        return None
    for arm in arms:
        if arm is not type(None) and (found := _converted(value, arm)) is not None:
            return found
    raise InvalidRequestError(f"{name} is {show_value(value)}; it must be {_kind_in_words(kind)}.")


def _converted(value, kind):
    """None where it cannot be."""
    if get_origin(kind) is Literal:
        return value if value in get_args(kind) else None
    if get_origin(kind) is tuple:
        parts = value.split(",") if isinstance(value, str) else value
        inner = [arm for arm in get_args(kind) if arm is not Ellipsis]
        if not isinstance(parts, (list, tuple)) or (Ellipsis not in get_args(kind) and len(parts) != len(inner)):
            return None
        found = tuple(_converted(part, inner[min(i, len(inner) - 1)]) for i, part in enumerate(parts))
        return None if None in found else found
    if kind is bool or isinstance(value, bool):
        return value if kind is bool and isinstance(value, bool) else None
    if kind in (int, float):
        try:
            number = float(value)
        except (TypeError, ValueError, OverflowError):
            return None
        # Whole numbers stay exact: a seed may be larger than a float can count.
        return number if kind is float else (_whole(value) if number.is_integer() else None)
    return kind(value) if isinstance(value, (str, Path)) else None


def _whole(value):
    return int(value) if isinstance(value, int) or (isinstance(value, str) and value.isdigit()) else int(float(value))


def _fields(job: type, defaults: Any) -> Iterator[tuple[str, Any, Any, str]]:
    """Name, type, default and help of every field."""
    kinds = get_type_hints(job)
    for each in fields(job):
        default = each.default if defaults in (None, MISSING) else getattr(defaults, each.name)
        yield each.name, kinds[each.name], default, each.metadata.get("help", "")


def _check_names(job, values):
    known = leaves(job)
    for name in values:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            advice = f"did you mean {near[0]}?" if near else "--help lists all fields."
            raise InvalidRequestError(f"There is no field {name!r}; {advice}")


def _kind_in_words(kind: Any) -> str:
    if get_origin(kind) is Literal:
        return " or ".join(map(str, get_args(kind)))
    if get_origin(kind) is tuple:
        return ",".join(_kind_in_words(arm) if arm is not Ellipsis else "..." for arm in get_args(kind))
    if get_origin(kind) in (Union, types.UnionType):
        return " or ".join(_kind_in_words(arm) for arm in get_args(kind))
    words = {int: "a whole number", float: "a number", bool: "true or false", Path: "a path", str: "text"}
    return words.get(kind, "none" if kind is type(None) else str(kind))


def _as_words(value: Any) -> str:
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return "none" if value is None else str(value)


def _as_plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return list(map(_as_plain, value))
    return str(value) if isinstance(value, Path) else value
