"""Everyday sentences that were written by hand and are never trained on: to judge by.

Each row of own_wordings.jsonl has a `text` in the `language` of an ISO code, the right `answer`, and, where the text
changes an image, the canonical sentence of what it shows as `shown`. first_prompts.jsonl has shorter ones, as people
type them first.
"""

import json
import unicodedata
from dataclasses import dataclass
from functools import cache
from pathlib import Path

_FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class OwnWording:
    """A row of the file; see there."""

    language: str
    text: str
    answer: str
    shown: str | None = None


@cache
def own_wordings() -> tuple[OwnWording, ...]:
    """All of them, in the file's order."""
    return _read("own_wordings.jsonl")


@cache
def first_prompts() -> tuple[OwnWording, ...]:
    """All rows of the other file, in its order."""
    return _read("first_prompts.jsonl")


def _read(name: str) -> tuple[OwnWording, ...]:
    rows = (_FOLDER / name).read_text(encoding="utf-8").splitlines()
    return tuple(OwnWording(**json.loads(row)) for row in rows)


def is_own_wording(text: str) -> bool:
    """Whether the letters of a text are those of one of them."""
    return _letters(text) in _known()


def _letters(text: str) -> str:
    """What is left without case, blanks and punctuation; a text of signs alone stays as it is."""
    text = unicodedata.normalize("NFKC", text).casefold()
    return "".join(letter for letter in text if letter.isalnum()) or text


@cache
def _known() -> frozenset[str]:
    return frozenset(_letters(row.text) for row in (*own_wordings(), *first_prompts()))
