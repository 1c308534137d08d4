"""Options of the command line: each is a field of a frozen dataclass, from which tyro builds the flag and its help.

The fields' types, defaults and docstrings are all there is to write. A YAML file and X2I_* variables are turned into
flags and put in front of the flags that the user typed, so that all three follow the same rules and the last one wins.
"""

import contextlib
import csv
import io
import os
import re
import sys
import types
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import tyro
import yaml
from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

from x2i_app.errors import InvalidRequestError
from x2i_app.limits import show_value

Options = TypeVar("Options")

_REGISTRY = ConstructorRegistry()
_STYLE = (tyro.conf.OmitArgPrefixes, tyro.conf.HelptextFromCommentsOff)
_BOOLEANS = ("1", "true", "yes", "on", "0", "false", "no", "off")
_SENTENCE = {int: "a whole number", float: "a number", bool: "1 or 0", str: "text", Path: "a path"}
_SENTENCE |= {type(None): "none", Ellipsis: "...", ",": ", ", "|": " or "}
_METAVARS = {
    bool: "yes|no",
    int: "INT",
    float: "NUMBER",
    str: "TEXT",
    Path: "PATH",
    type(None): "",
    Ellipsis: "...",
    ",": ",",
    "|": "|",
}


@dataclass(frozen=True)
class _ConfigFile:
    config: Path | None = None


def parse(
    kind: type[Options], arguments: Sequence[str], *, prog: str, environment: Mapping[str, str] = os.environ
) -> Options:
    """An instance of the dataclass `kind` from flags; what they leave open comes from a file, then from variables.

    A field `config` is the flag for a YAML file. Fields of a dataclass that defines VARIABLES, e.g. as "X2I_", are
    also read from variables of that prefix, and from the variable in the field's metadata. Nested dataclasses are
    flattened: `loop.steps` is --steps. RENAMED of `kind` has fields by their earlier names, which still work. A method
    `unfit_variables` of a dataclass says of fields why their variables are not for the options that were given.
    Raises InvalidRequestError with one sentence for anything that is not allowed. --help exits with status 0.
    """
    variables = read_variables(kind, environment)
    ahead = []
    if "config" in get_type_hints(kind):
        file, _ = _parse(_ConfigFile, arguments, prog, add_help=False, return_unknown_args=True)
        ahead = _flags(kind, read_file(file.config) if file.config else {})
    for old, new in getattr(kind, "RENAMED", {}).items():
        flag = re.compile(f"--{old.replace('_', '[-_]')}(?=$|=)")
        ahead, arguments = ([flag.sub(f"--{new}", each) for each in given] for given in (ahead, arguments))
    found = _parse(kind, [*_flags(kind, variables), *ahead, *arguments], prog)
    if unfit := _unfit_variables(found, variables, environment):
        fit = {name: value for name, value in variables.items() if name not in unfit}
        found = _parse(kind, [*_flags(kind, fit), *ahead, *arguments], prog)
        for name in unfit.keys() - _unfit_variables(found, variables, environment):  # a flag may say the same
            print(f"x2i: {unfit[name]}", file=sys.stderr)
    return found


def choose(commands: Mapping[str, str], arguments: Sequence[str], prog: str, title: str) -> tuple[str, list[str]]:
    """The command that the arguments begin with, and its own arguments. --help lists the commands and exits.

    commands: what each of them does, in one sentence. Raises InvalidRequestError without a command, or for an unknown
    one.
    """
    name, *rest = arguments or [""]
    if name in commands:
        return name, rest
    if name in ("-h", "--help"):
        print(f"usage: {prog} COMMAND [OPTIONS]\n\n{title}\n")
        for command, summary in commands.items():
            print(f"  {command:<15} {summary}")
        print(f"\n{prog} COMMAND --help lists the options of a command.")
        raise SystemExit(0)
    came = f"{show_value(name)} is not a command" if name else "The command is missing"
    raise InvalidRequestError(f"{came}; choose one of {', '.join(commands)}.")


def read_file(path: Path) -> dict[str, Any]:
    """The options in a YAML (or JSON) file by the names of their fields. Raises InvalidRequestError."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not text"
        raise InvalidRequestError(f"{str(path)!r} cannot be read ({reason}); give a YAML file to --config.") from error
    except yaml.YAMLError as error:
        reason = str(error).splitlines()[0]
        raise InvalidRequestError(f"{path} is not YAML ({reason}); write `name: value` in each line.") from error
    if content is None:
        return {}
    if not isinstance(content, dict) or not all(isinstance(name, str) for name in content):
        raise InvalidRequestError(f"{path} holds {show_value(content)}; write `name: value` in each line.")
    return {name.replace("-", "_"): value for name, value in content.items()}


def as_values(options: Any) -> dict[str, Any]:
    """The fields of a dataclass, nested ones flattened, as plain values for a YAML file."""
    values: dict[str, Any] = {}
    for each in fields(options):
        value = getattr(options, each.name)
        values |= as_values(value) if is_dataclass(value) else {each.name: _as_plain(value)}
    return values


def _as_plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return list(map(_as_plain, value))
    return str(value) if isinstance(value, Path) else value


def read_text(text: str, kind: Any) -> Any:
    """Text of a flag, a file or a variable as a value of a field's type. Raises ValueError saying what it is not.

    A tuple's parts are separated by commas, as in CSV; `none` is None where the type allows that.
    """
    try:
        return _convert(text, kind)
    except (ValueError, OverflowError):
        raise ValueError(f"{show_value(text)} is not {_describe(kind, _SENTENCE)}") from None


def _convert(text: str, kind: Any) -> Any:
    origin, arms = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        if type(None) in arms and text.strip().lower() == "none":
            return None
        for arm in filter(lambda arm: arm is not type(None), arms):
            with contextlib.suppress(ValueError):
                return _convert(text, arm)
        raise ValueError
    if origin is Literal:
        return arms[arms.index(text)]
    if origin is tuple:
        parts = next(csv.reader([text]), [])
        arms = [arms[0]] * len(parts) if arms[-1] is Ellipsis else arms
        return tuple(_convert(part, arm) for part, arm in zip(parts, arms, strict=True))
    if kind is bool:
        return _BOOLEANS.index(text.strip().lower()) < len(_BOOLEANS) // 2
    if kind is int and not re.fullmatch(r"[+-]?\d{1,300}", text):  # 1e4 and 10.0 count; integers stay exact
        number = float(text)
        if number.is_integer():
            return int(number)
        raise ValueError
    return kind(text)


def _describe(kind: Any, names: Mapping[Any, str]) -> str:
    """A type in the words of `names`, for error sentences or for the help."""
    if not get_args(kind):
        return names[kind]
    arms = [arm if get_origin(kind) is Literal else _describe(arm, names) for arm in get_args(kind)]
    return names["," if get_origin(kind) is tuple else "|"].join(filter(None, arms))


@_REGISTRY.primitive_rule
def _read_argument(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec | None:
    """tyro's rule for every type that `read_text` knows, but for switches and for flags that may be repeated."""
    if info.type is bool or tyro.conf.UseAppendAction in info.markers:
        return None
    try:
        metavar = _describe(info.type, _METAVARS)
    except KeyError:
        return None
    return PrimitiveConstructorSpec(
        nargs=1,
        metavar=metavar,
        instance_from_str=lambda arguments: read_text(arguments[0], info.type),
        is_instance=lambda value: True,
        str_from_instance=lambda value: [_as_text(value)],
    )


def _parse(kind: type, arguments: Sequence[str], prog: str, **options: Any) -> Any:
    """`tyro.cli`, whose error in a frame of several rows becomes one sentence."""
    errors = io.StringIO()
    try:
        with contextlib.redirect_stderr(errors):
            return tyro.cli(kind, args=arguments, prog=prog, config=_STYLE, registry=_REGISTRY, **options)
    except SystemExit as stopped:
        if not stopped.code:
            raise
        raise InvalidRequestError(_as_sentence(errors.getvalue(), prog)) from None


def _as_sentence(frame: str, prog: str) -> str:
    """tyro's error message without its frame, its title and the help texts that it repeats."""
    text = " ".join("".join(c if c.isprintable() and c not in "│|" else " " for c in frame).split())
    _, *parts = map(str.strip, re.split("[╭╮╰╯─+-]{3,}", text))  # it is drawn in ASCII on an old terminal
    # A typo in a required option's name is told as a missing option first.
    reason = next((part for part in parts if part.startswith("Unrecognized")), (parts or [text])[0])
    near = re.search(r"(?:Perhaps you meant|Arguments similar to \S+): (--[a-z0-9-]+)", text)
    advice = f"did you mean {near[1]}?" if near else f"{prog} --help lists what is allowed."
    return f"{reason.removeprefix('Error parsing ').rstrip('.')}; {advice}"


def read_variables(kind: type, environment: Mapping[str, str] = os.environ) -> dict[str, Any]:
    """The fields that variables set. Raises InvalidRequestError, which names the variable."""
    hints, values = get_type_hints(kind), {}
    for each in fields(kind):
        if is_dataclass(hints[each.name]):
            values |= read_variables(hints[each.name], environment)
        elif hasattr(kind, "VARIABLES"):
            names = (f"{kind.VARIABLES}{each.name.upper()}", each.metadata.get("variable", ""))
            name = next(filter(environment.get, names), None)
            if name:
                try:
                    values[each.name] = read_text(environment[name], hints[each.name])
                except ValueError as error:
                    raise InvalidRequestError(f"{name}: {error}.") from None
    return values


def _unfit_variables(options: Any, variables: Mapping[str, Any], environment: Mapping[str, str]) -> dict[str, str]:
    """Of each field that has its value from a variable which is not for these options: the sentence about that."""
    found = {}
    for each in fields(options):
        if is_dataclass(value := getattr(options, each.name)):
            found |= _unfit_variables(value, variables, environment)
    if hasattr(options, "unfit_variables"):
        unfit = options.unfit_variables(environment)
        used = (name for name in unfit if name in variables and getattr(options, name, None) == variables[name])
        found |= {name: unfit[name] for name in used}
    return found


def _flags(kind: type, values: Mapping[str, Any]) -> list[str]:
    """Values by the names of `kind`'s fields, as the flags that say the same."""
    found, hints = [], get_type_hints(kind)
    for name, value in values.items():
        flag = name.replace("_", "-")
        if isinstance(value, bool) and hints.get(name, bool) is not bool:  # it may also be none: no switch
            found += [f"--{flag}", "yes" if value else "no"]
        elif isinstance(value, bool):
            found.append(f"--{flag}" if value else f"--no-{flag}")
        else:
            text = _as_text(value)
            found += [f"--{flag}={text}"] if text.startswith("-") else [f"--{flag}", text]
    return found


def _as_text(value: Any) -> str:
    """What `read_text` reads the value from."""
    if isinstance(value, (list, tuple)):
        text = io.StringIO()
        csv.writer(text, lineterminator="").writerow(map(_as_text, value))
        return text.getvalue()
    return "none" if value is None else str(value)
