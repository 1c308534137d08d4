r"""Prompts as people write them for other programs: LoRA tags, choices, wildcards, and signs that go.

- `<lora:NAME:WEIGHT>` adds a LoRA of this machine.
- `{a|b}`, `{2$$a|b|c}`, `{0.7::a|0.3::b}` and `<random:a,b>` choose by the seed; `__name__` and `<wildcard:name>` take
  a row of `name.txt` in a folder. `${name=text}` keeps a text, and `${name}` is that text.
- Of `(text:1.2)` and other weights, the text stays; see `prompt_weights.py`.
- `embedding:NAME` is for text encoders that X2I lacks, and goes; so do SwarmUI's tags, Midjourney's parameters at the
  end (`--ar 16:9`), and settings of A1111 pasted with the prompt.
- A backslash keeps a sign: `\(`, `\[`, `\{`.

What a prompt wants to show in quotation marks stays as it is, but for choices and wildcards. Each change is told.
"""

import json
import random
import re
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from x2i_app.errors import InvalidRequestError
from x2i_app.limits import LIMITS
from x2i_app.notes import (
    CHOICES_FILLED,
    LORA_MISSING,
    LORA_TAGGED,
    LORA_TOO_MANY,
    SIGNS_LEFT_OUT,
    TAG_LEFT_OUT,
    WILDCARD_MISSING,
    Note,
    of_negative,
)
from x2i_app.prompt_weights import ESCAPED_BRACES, NUMBER, tidy, without_weights
from x2i_app.request import NOTHING, GenerationRequest
from x2i_app.settings import ASSETS, FileSettings, ModelSettings

_SUFFIX = ".safetensors"
_LIST_BYTES = 2**20  # of a wildcard's file that are read
_MOST_CHOICES = 500  # replaced in one prompt, so that lists that name each other end
_LONGEST_TAG = 100  # characters, in a note
_MOST_SIGNS = 6  # named in a note
# Braces and bars that are no choice, and what they were; prompts have no control characters.
_OPEN, _CLOSE = "\x01", "\x02"
_KEPT_SIGNS = {_OPEN: "{", _CLOSE: "}", "\x04": r"\{", "\x05": r"\}", "\x06": r"\|"}

# Prompts are of strangers, and a search holds up all threads. So each pattern takes a time that grows with the prompt's
# length and not with its square: what was matched is not given back ("++"), and runs of spaces are searched once.
_BRACES = re.compile(r"\{([^{}]*)\}")
_VARIABLE = re.compile(r"\$\{\s*+(\w++)\s*+(?:([=:])([^{}]*+))?+\}")  # what it is set to has no choices any more
_AS_KEPT = {ord("{"): _OPEN, ord("}"): _CLOSE}
_AMOUNT = re.compile(r"\s*+(\d{1,3})?(?:(-)(\d{1,3})?)?\s*+\$\$(?:([^$|]*)\$\$)?(.*)", re.DOTALL)
_WILDCARD = re.compile(r"(?<!\w)__[~@]?([\w*-]+?(?:/[\w*-]+?)*)__")
_LEFT_OUT = ("hypernet", "embed", "embedding", "preset", "segment", "object", "region", "refiner", "video")
_TAG = re.compile(
    rf"<\s*+(lora|lyco|{'|'.join(_LEFT_OUT)})\s*+:\s*+((?:[a-z]:(?=[\\/]))?+[^:<>]++)((?::[^:<>]*+)*+)>", re.IGNORECASE
)
_CHOICE_TAG = re.compile(r"<(random|wildcard):([^<>]++)>", re.IGNORECASE)  # SwarmUI's
_FLAG = re.compile(r"(?:(?<=\s)|(?<=^))(?:--|—)(?=[a-z])")
# Midjourney's parameters, which come last. Those of _LONG_FLAGS have as many values as follow, others one at most.
_FLAGS = re.compile(
    "ar|aspect|v|version|niji|s|stylize|c|chaos|q|quality|seed|style|iw|weird|w|tile|raw|stop|repeat|r|video|cw|sw|ow|sv"
    "|profile|fast|relax|turbo|hd|draft|exp|stealth|public|test|testp|upbeta|creative|uplight|hq"
)
_LONG_FLAGS = ("no", "sref", "cref", "oref", "p")
_COMMAND = re.compile(r"/imagine\s++(?:prompt:\s*+)?+")
_EMBEDDING = re.compile(rf"(?<![\w:])(\()?+embedding:[\w.\\/-]++(?::\s*+{NUMBER})?+(?(1)\))")


def known_loras(settings: ModelSettings) -> dict[str, Path]:
    """The LoRA files of this machine by name: the bundled ones, and those in `loras` in the models folder."""
    folders = (ASSETS / "examples/loras", Path(settings.models) / "loras")
    return {path.stem: path for folder in folders for path in sorted(folder.rglob(f"*{_SUFFIX}"))}


def resolve_request(request: GenerationRequest, seed: int, settings: FileSettings) -> GenerationRequest:
    """The request with prompts of plain text, with the LoRAs of the prompt's tags, and with notes about the changes.

    In the negative prompt, choices and wildcards are filled in too; LoRA tags mean nothing there and are left out.

    Backslashes stay before the signs that they keep, so that the prompt means the same when it is resolved again.

    seed: of the first image; all images of a request have the same prompt. A request without such signs stays as it is.
    Raises InvalidRequestError if nothing is left, or if the prompt becomes too long.
    """
    wildcards = Path(settings.wildcards)
    prompt, tags, notes = resolve_prompt(request.prompt, seed, wildcards, keep_backslashes=True)
    negative, negative_tags, negative_notes = resolve_prompt(
        request.negative_prompt, seed, wildcards, keep_backslashes=True
    )
    if (prompt, negative) == (request.prompt, request.negative_prompt):  # a tag that was taken is a change too
        return request
    loras = list(request.loras)
    if tags:
        known = {name.casefold(): path for name, path in known_loras(settings).items()}
        for name, weight in tags:
            path = known.get(_lora_key(name))
            if path is None:
                notes.append(Note(LORA_MISSING, name=name))
            elif len(loras) >= LIMITS.loras:
                notes.append(Note(LORA_TOO_MANY, name=name, limit=LIMITS.loras))
            elif str(path) not in [str(file) for file, _ in loras]:
                allowed = LIMITS.lora_weight
                used = min(max(weight, allowed.low), allowed.high)
                loras.append((str(path), used))
                notes.append(Note(LORA_TAGGED, name=path.stem, weight=f"{used:g}"))
    notes += of_negative([*negative_notes, *_tags_left_out(negative_tags)])
    values = {"prompt": prompt, "negative_prompt": negative, "loras": tuple(loras), "notes": (*request.notes, *notes)}
    if not negative:
        values["true_cfg_scale"] = None  # nothing is left to avoid
    resolved = request.with_values(**values)
    if not resolved.modalities:
        raise InvalidRequestError(NOTHING)
    return resolved


def resolve_prompt(
    prompt: str, seed: int, wildcards: Path | None = None, *, keep_backslashes: bool = False
) -> tuple[str, list[tuple[str, float]], list[str]]:
    """The prompt without signs of other programs, the (name, weight) of its LoRA tags, and notes about the changes.

    seed: decides choices and wildcards. wildcards: the folder with their lists. keep_backslashes: those before a sign
    that they keep. Raises InvalidRequestError if the prompt becomes longer than a request allows.
    """
    notes: list[str] = []
    if _is_json(prompt):
        return prompt, [], notes
    prompt = _without_end(prompt, notes)
    filled = _fill_choices(prompt, random.Random(seed), wildcards, notes)
    text, tags = _take_tags(filled, notes)
    plain, signs = without_weights(text, keep_backslashes)
    if signs:
        shown = ", ".join(dict.fromkeys(signs[:_MOST_SIGNS])) + (", ..." if len(signs) > _MOST_SIGNS else "")
        notes.append(Note(SIGNS_LEFT_OUT, signs=shown))
    if filled != prompt:
        notes.insert(0, Note(CHOICES_FILLED, prompt=plain))
    return plain, tags, notes


def _is_json(prompt: str) -> bool:
    """Whether it is a JSON object, which some people describe images with; its braces are no choices."""
    if not prompt.lstrip().startswith("{"):
        return False
    try:
        return isinstance(json.loads(prompt), dict)
    except (ValueError, RecursionError):
        return False


# Choices and wildcards


def _without_end(prompt: str, notes: list[str]) -> str:
    """The prompt without the settings that A1111 copies with it, or Midjourney's parameters."""
    text, steps, settings = prompt.rpartition("\nSteps: ")
    is_pasted = steps and re.match(r"\d++, [^\n]++\Z", settings)
    text = text.partition("\nNegative prompt:")[0] if is_pasted else prompt
    begin, *flags = _FLAG.split(text)
    if begin.strip() and all(_is_flag(flag.split()) for flag in flags):
        text = begin
    if left_out := " ".join(prompt[len(text) :].split()):
        notes.append(Note(TAG_LEFT_OUT, tag=left_out[:_LONGEST_TAG]))
        text = text.rstrip()
    if command := _COMMAND.match(text):
        notes.append(Note(TAG_LEFT_OUT, tag=command[0].strip()))
        text = text[command.end() :]
    return text


def _is_flag(parts: list[str]) -> bool:
    name = parts[0].rstrip(".0123456789")  # as in --v6
    return name in _LONG_FLAGS or (bool(_FLAGS.fullmatch(name)) and len(parts) <= 2)


def _fill_choices(prompt: str, chance: random.Random, wildcards: Path | None, notes: list[str]) -> str:
    text = ESCAPED_BRACES.sub(lambda match: next(k for k, v in _KEPT_SIGNS.items() if v == match[0]), prompt)
    text = _CHOICE_TAG.sub(_as_choice, text)
    variables: dict[str, str] = {}
    for _ in range(_MOST_CHOICES):
        match, choice = _VARIABLE.search(text), _BRACES.search(text)
        if match and match.start() < choice.start():
            name, is_set, value = match.groups()
            chosen = "" if is_set == "=" else variables.get(name, value or match[0].translate(_AS_KEPT))
            if is_set == "=":
                variables[name] = value.removeprefix("!").strip()
        elif match := choice:
            chosen = _choose(match[1], chance)
        elif match := _find_wildcard(text):
            chosen = _from_list(match[1], chance, wildcards, notes)
        else:
            break
        text = text[: match.start()] + chosen + text[match.end() :]
        if len(text.encode()) > LIMITS.prompt_bytes:
            raise InvalidRequestError(
                f"The prompt has more than {LIMITS.prompt_bytes:,} bytes once its choices and wildcards are filled in; "
                "shorten it."
            )
    else:
        raise InvalidRequestError(f"The prompt has more than {_MOST_CHOICES} choices and wildcards; use fewer of them.")
    for kept, sign in _KEPT_SIGNS.items():
        text = text.replace(kept, sign)
    return tidy(text) if variables else text


def _as_choice(tag: re.Match[str]) -> str:
    if tag[1].lower() == "wildcard":
        return f"__{tag[2].strip()}__"
    return f"{{{tag[2] if '|' in tag[2] else tag[2].replace(',', '|')}}}"


def _find_wildcard(text: str) -> re.Match[str] | None:
    """The first wildcard that is not part of a LoRA's name."""
    tags = [tag.span() for tag in _TAG.finditer(text)]
    found = (match for match in _WILDCARD.finditer(text))
    return next((match for match in found if not any(a <= match.start() < b for a, b in tags)), None)


def _choose(inside: str, chance: random.Random) -> str:
    """One of the choices in braces, or several; braces without a choice stay."""
    least = most = 1
    separator = ", "
    amount = _AMOUNT.fullmatch(inside)
    if amount:
        low, dash, high, between, inside = amount.groups()
        least, most = (int(low or 0), int(high) if high else 10**6) if dash else (int(low or 1),) * 2
        separator = separator if between is None else between
    elif "|" not in inside:
        return f"{_OPEN}{inside}{_CLOSE}"
    options = [_weighted(option) for option in inside.removeprefix("~").removeprefix("@").split("|")]
    left, found = list(range(len(options))), []
    for _ in range(chance.randint(min(least, len(left)), min(max(least, most), len(left)))):
        weights = [options[index][1] for index in left]
        index = chance.choices(left, weights if any(weights) else None)[0]
        left.remove(index)
        found.append(options[index][0])
    return separator.join(found)


def _weighted(option: str) -> tuple[str, float]:
    match = re.fullmatch(r"\s*(\d+\.?\d*|\.\d+)::(.*)", option, re.DOTALL)
    return (match[2].strip(), float(match[1])) if match else (option.strip(), 1.0)


def _from_list(name: str, chance: random.Random, wildcards: Path | None, notes: list[str]) -> str:
    rows = [row for path in _list_files(name, wildcards) for row in _read_list(path)]
    if rows:
        return chance.choice(rows)
    plain = PurePosixPath(name.replace("*", "")).name.replace("_", " ").replace("-", " ").strip()
    notes.append(Note(WILDCARD_MISSING, name=f"{name}.txt", used=plain))
    return plain


def _list_files(name: str, wildcards: Path | None) -> list[Path]:
    """The name has letters, digits, - and _, so it cannot leave the folder; * stands for several lists."""
    if wildcards is None or not wildcards.is_dir():
        return []
    pattern = "".join(f"[{c.lower()}{c.upper()}]" if c.isalpha() and len(c.upper()) == 1 else c for c in name)
    places = (f"{pattern}.txt", f"**/{pattern}.txt")  # a name alone may be that of a list in a sub-folder
    found = ([path for path in wildcards.glob(place) if path.is_file()] for place in places)
    return sorted(next(filter(None, found), []))


def _read_list(path: Path) -> Iterator[str]:
    try:
        with path.open("rb") as file:
            content = file.read(_LIST_BYTES)
    except OSError:
        return
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = content.decode("cp1252", "replace")
    for row in text.splitlines():
        row = "".join(c for c in row if c.isprintable()).strip()
        if row and not row.startswith("#"):
            yield row


# LoRA tags


def _take_tags(prompt: str, notes: list[str]) -> tuple[str, list[tuple[str, float]]]:
    tags: list[tuple[str, float]] = []

    def take(match: re.Match[str]) -> str:
        if match[1].lower() in _LEFT_OUT:
            notes.append(Note(TAG_LEFT_OUT, tag=match[0]))
        else:
            tags.append((match[2].strip(), _tag_weight(match[3].split(":")[1:])))
        return ""

    def take_embedding(match: re.Match[str]) -> str:
        notes.append(Note(TAG_LEFT_OUT, tag=match[0]))
        return ""

    text = _TAG.sub(take, prompt)
    text = _EMBEDDING.sub(take_embedding, text)
    return (tidy(text) if text != prompt else prompt), tags


def _tag_weight(values: list[str]) -> float:
    """The weight for the image model: `unet=`, or the second of two numbers; the first is for a text encoder.

    Other names, such as `lbw`, `start` and `stop`, are not weights.
    """
    named = dict(value.replace(" ", "").split("=", 1) for value in values if "=" in value)
    if re.fullmatch(NUMBER, named.get("unet", "")):
        return float(named["unet"])
    weights = [float(value) for value in values if re.fullmatch(NUMBER, value.strip())][:2]
    return weights[-1] if weights else 1.0


def _lora_key(name: str) -> str:
    return re.split(r"[\\/]", name)[-1].removesuffix(_SUFFIX).casefold()


def plain_prompt(prompt: Any, seed: int) -> tuple[Any, tuple[str, ...]]:
    """As `resolve_prompt`, for a pipeline, which has no folders: LoRA tags are left out, with a note."""
    if not isinstance(prompt, str):
        return prompt, ()
    text, tags, notes = resolve_prompt(prompt, seed)
    return text, (*notes, *_tags_left_out(tags))


def _tags_left_out(tags: Iterable[tuple[str, float]]) -> tuple[Note, ...]:
    return tuple(Note(TAG_LEFT_OUT, tag=f"<lora:{name}:{weight:g}>") for name, weight in tags)
