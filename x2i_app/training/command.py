"""python -m x2i_app train distill --config FILE: one command for everything that is trained.

The same command runs on one CPU, one GPU or, started by `accelerate launch -m x2i_app train ...`, on many. Every field
of a job is a flag and an entry of its YAML file. A run that was stopped continues from its newest checkpoint.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import yaml
from accelerate import PartialState

from x2i_app.errors import TrainingError
from x2i_app.options import as_values, choose, parse
from x2i_app.training.captions_job import CaptionsJob
from x2i_app.training.distill_job import DistillJob
from x2i_app.training.image_jobs import LightControlJob, LoRAJob
from x2i_app.training.precision import training_device


class Job(Protocol):
    """A frozen dataclass of everything that decides a training run; the first line of its docstring is its help.

    output: folder of checkpoints, history, samples and what is trained.
    """

    output: Path

    def run(self) -> Path:
        """Train, and return the file or folder of what was trained. Raises X2IError's kinds."""


JOBS: dict[str, type[Job]] = {
    "captions": CaptionsJob,
    "distill": DistillJob,
    "light-control": LightControlJob,
    "lora": LoRAJob,
}


def main(arguments: Sequence[str]) -> int:
    """Run a job of the command line and return its exit status. Raises X2IError's kinds."""
    training_device()
    name, arguments = choose(JOBS, arguments, "x2i train", "Train parts of X2I.")
    job = parse(JOBS[name], arguments, prog=f"x2i train {name}")
    if PartialState().is_main_process:
        write_settings(job)
    made = job.run()
    if PartialState().is_main_process:
        print(made)
    PartialState().destroy_process_group()
    return 0


def write_settings(job: Job) -> None:
    """Write what a run was started with to settings.yaml in its folder, a file for `--config`. Raises TrainingError."""
    values = as_values(job)
    values.pop("config")
    try:
        job.output.mkdir(parents=True, exist_ok=True)
        (job.output / "settings.yaml").write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")
    except OSError as error:
        raise TrainingError(
            f"{str(job.output)!r} cannot be written ({error.strerror}); choose another --output."
        ) from error
