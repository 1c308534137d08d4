"""What a training run tells while it runs: means over some steps, as lines of JSON, and at any time as a picture."""

import json
import time
from collections.abc import Mapping
from pathlib import Path

from x2i_app.training.checkpoints import replace_text, written_to


class History:
    """Means over some steps, one JSON line each; lines of steps that a resumed run does again are dropped.

    path: of the lines. start: the first step to come. averaged: steps a line.
    latest: the newest means, by name. samples_per_second: while they were made.
    """

    def __init__(self, path: Path, start: int, averaged: int):
        self.path, self.averaged = path, averaged
        self.latest: dict[str, float] = {}
        self.samples_per_second = 0.0
        self._reset()
        lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
        with written_to(path.parent):
            replace_text(path, "".join(f"{line}\n" for line in lines if _step(line) < start))

    def add(self, step: int, values: Mapping[str, float], learning_rate: float, samples: int) -> bool:
        """Count a step in, of so many samples; whether a line was written. Raises TrainingError if the disk is full."""
        for name, value in values.items():
            self._sums[name] = self._sums.get(name, 0.0) + value
        self._count += 1
        self._samples += samples
        if (step + 1) % self.averaged:
            return False
        seconds = time.monotonic() - self._since
        self.latest = {name: value / self._count for name, value in self._sums.items()}
        self.samples_per_second = self._samples / max(seconds, 1e-9)
        rates = {"learning_rate": learning_rate, "seconds_per_step": round(seconds / self._count, 4)}
        with written_to(self.path.parent), self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, **self.latest, **rates}) + "\n")
        self._reset()
        return True

    def _reset(self) -> None:
        self._sums: dict[str, float] = {}
        self._count, self._samples, self._since = 0, 0, time.monotonic()


def _step(line: str) -> float:
    """Of a line; infinitely late if it was cut while it was written."""
    try:
        return json.loads(line)["step"]
    except (ValueError, LookupError, TypeError):
        return float("inf")
