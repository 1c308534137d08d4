"""What a run is told and what it finds, and the records that it keeps on disk."""

import json
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import torch

from x2i_app.batch import Draw
from x2i_app.devices import CARDS, best_device
from x2i_app.evaluation.judges import Measured
from x2i_app.evaluation.prompts import Problem, PromptSet, Row
from x2i_app.settings import PARTS, Settings

STUDENT, TEACHER = "student", "teacher"
_STATUS, _PEAK = Path("/proc/self/status"), re.compile(r"VmHWM:\s+(\d+) kB")


@dataclass(frozen=True)
class Options:
    """What to run. seeds: of each row's images. steps, size (of a square, in pixels): None takes the FLUX model's own.

    judges: of questions: attributes, own, a folder or a hub id; the first one's answers are the score. clip, dino: a
    folder or a hub id. teacher: None draws it if the FLUX model's folder has T5 and CLIP. shard: (number from 1, of how
    many). draw: as of `run_batch`.
    """

    settings: Settings
    output: Path
    seeds: tuple[int, ...] = (0,)
    steps: int | None = None
    size: int | None = None
    limit: int | None = None
    judges: tuple[str, ...] = ()
    clip: str | None = None
    dino: str | None = None
    teacher: bool | None = None
    shard: tuple[int, int] | None = None
    draw: Draw | None = None

    @property
    def folder(self) -> Path:
        """Where the run is kept: a shard has a folder of its own, which the whole run takes over."""
        return self.output if self.shard is None else self.output / "shard-{}-of-{}".format(*self.shard)


@dataclass
class Outcome:
    """All that a report is made of. records: of the student's images, by name. measured: by judge and image."""

    prompts: PromptSet
    rows: tuple[Row, ...]
    identity: dict[str, Any]
    folder: Path
    seeds: tuple[int, ...]
    records: dict[str, dict[str, Any]] = field(default_factory=dict)
    measured: dict[str, dict[str, Measured]] = field(default_factory=dict)
    judges: list[dict[str, Any]] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    phases: dict[str, dict[str, float]] = field(default_factory=dict)

    @property
    def sides(self) -> tuple[str, ...]:
        """student, and teacher if any of its images is there."""
        return (STUDENT, TEACHER) if any((self.folder / TEACHER).glob("*.png")) else (STUDENT,)

    def images(self, row: Row) -> Iterator[tuple[str, int, Path]]:
        """Side, seed and file of each image of a row that is there."""
        for side in self.sides:
            for seed in self.seeds:
                path = self.folder / side / f"{image_name(row, seed)}.png"
                if path.is_file() and (side == TEACHER or image_name(row, seed) in self.records):
                    yield side, seed, path


def image_name(row: Row, seed: int) -> str:
    """The name of a row's image, without a suffix."""
    return f"{row.name}-{seed}"


def noise_seed(row: Row, seed: int) -> int:
    """The seed of the noise: another one for each row, the same for every model."""
    return (row.number * 1_000 + seed) % 2**32


@contextmanager
def phase(outcome: Outcome, name: str) -> Iterator[None]:
    """Seconds of a phase of this process, its memory at the phase's end, and the most it had; for the report."""
    card = torch.get_device_module(best_device()) if best_device() in CARDS else None
    if card:
        card.reset_peak_memory_stats()
    has_peak = _forget_peak()
    start = time.monotonic()
    yield
    memory = psutil.Process().memory_info().rss
    found = {"seconds": round(time.monotonic() - start, 2), "memory_gib": _gib(memory)}
    if has_peak and (peak := _PEAK.search(_STATUS.read_text(encoding="ascii"))):
        found["peak_gib"] = _gib(int(peak[1]) * 1024)
    if card:
        found["gpu_gib"] = _gib(card.max_memory_allocated())
    outcome.phases[name] = found


def _forget_peak() -> bool:
    """Let the system count this process's peak memory from now on; whether it can, as Linux does."""
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
        return _STATUS.is_file()
    except OSError:
        return False


def _gib(count: int) -> float:
    return round(count / 2**30, 2)


def read_records(path: Path) -> Iterator[dict[str, Any]]:
    """The objects of a JSONL file; an incomplete last one, of a run that was killed, is left out."""
    if not path.is_file():
        return
    for content in path.read_bytes().split(b"\n"):
        try:
            record = json.loads(content)
        except ValueError:
            continue
        if isinstance(record, dict):
            yield record


def write_whole(path: Path, text: str) -> None:
    """A file that is complete or as it was."""
    fresh = path.with_name(f"new-{path.name}")
    fresh.write_text(text, encoding="utf-8")
    fresh.replace(path)


def parts_of(settings: Settings) -> dict[str, Any]:
    """The arguments of `find_sources`."""
    return {name: getattr(settings, name) for name in (*PARTS, "kontext")}
