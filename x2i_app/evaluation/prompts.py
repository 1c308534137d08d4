"""Prompts and questions as plain values."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

MEDIA = {"images": "image", "videos": "video", "audios": "audio"}
FILES = {"source": "image", "mask": "image", "reference": "image", "changed": "image"}


@dataclass(frozen=True)
class Question:
    """A question about the image that has the answer yes or no.

    expected: whether yes is right. kind: what it is about, such as "content", "change" or "kept".
    depends: indices of questions of the same row; if the answer to one is wrong, this one counts as wrong too.
    """

    text: str
    expected: bool = True
    kind: str = "content"
    depends: tuple[int, ...] = ()


@dataclass(frozen=True)
class Row:
    """One prompt. number: its place in the set, from 1. place: where it stands in the file, for messages.

    request: fields of a row of `batch`: prompt, images, history, width ... A medium is an absolute path, or a recipe
    for `media.draw`. caption: what the image must show, in English; None if the prompt says it. changed: an image that
    is white where an edit may change the source; None if there is none.
    """

    number: int
    id: str
    place: str
    category: str
    request: Mapping[str, Any]
    questions: tuple[Question, ...] = ()
    language: str = ""
    caption: str | None = None
    changed: Any = None

    @property
    def name(self) -> str:
        """A file name for what belongs to this row."""
        return f"{self.number:05d}"

    @property
    def prompt(self) -> str:
        """What the user wrote; empty if the row has only media."""
        return self.request.get("prompt", "")

    @property
    def media(self) -> tuple[Any, ...]:
        """All files and recipes, those of earlier turns too."""
        turns = (*self.request.get("history", ()), self.request)
        found = [each for turn in turns for name in MEDIA for each in turn.get(name, ())]
        return (*found, *filter(None, (*map(self.request.get, FILES), self.changed)))

    @property
    def text(self) -> str | None:
        """What a text encoder reads in place of the row: its caption, else a prompt without media; None if neither."""
        has_more = any(self.request.get(name) for name in (*MEDIA, "history", "source", "reference"))
        return self.caption or (None if has_more else self.prompt) or None


@dataclass(frozen=True)
class Problem:
    """A row, or a part of one, that could not be used. place: such as "line 7"."""

    place: str
    sentence: str

    def __str__(self):
        return f"{self.place}: {self.sentence}"


@dataclass(frozen=True)
class PromptSet:
    """The rows of a file. form: one of the module's table. digest: SHA-256 of the file or files."""

    name: str
    form: str
    digest: str
    rows: tuple[Row, ...]
    problems: tuple[Problem, ...] = ()

    @property
    def categories(self) -> tuple[str, ...]:
        """Each once, in order."""
        return tuple(dict.fromkeys(row.category for row in self.rows))

    def spread(self, limit: int | None) -> tuple[Row, ...]:
        """At most `limit` rows: the first of each category, then the second of each, and so on, in the set's order."""
        if limit is None or limit >= len(self.rows):
            return self.rows
        ranks: dict[str, int] = {}
        ranked = []
        for row in self.rows:
            ranks[row.category] = rank = ranks.get(row.category, 0) + 1
            ranked.append((rank, row.number))
        chosen = {number for _, number in sorted(ranked)[:limit]}
        return tuple(row for row in self.rows if row.number in chosen)
