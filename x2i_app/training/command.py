"""python -m x2i_app train distill --config FILE: one command for everything that is trained.

The same command runs on one CPU, one GPU or, started by `accelerate launch -m x2i_app train ...`, on many. Every field
of a job is a flag and a line of the file. A run that was stopped goes on from its newest checkpoint by itself.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from accelerate import PartialState

from x2i_app.settings import SentenceParser
from x2i_app.training.captions_job import CaptionsJob
from x2i_app.training.distill_job import DistillJob
from x2i_app.training.image_jobs import LightControlJob, LoRAJob
from x2i_app.training.options import add_flags, build, read_file, write_settings
from x2i_app.training.precision import training_device


class Job(Protocol):
    """A frozen dataclass of everything that decides a training run; the first line of its docstring is its help.

    output: folder of checkpoints, history, pictures and what comes out.
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
    namespace = vars(_parser().parse_args(list(arguments)))
    kind, file = namespace.pop("job"), namespace.pop("config")
    job = build(kind, (read_file(file) if file else {}) | namespace)
    if PartialState().is_main_process:
        write_settings(job)
    made = job.run()
    if PartialState().is_main_process:
        print(made)
    PartialState().destroy_process_group()
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = SentenceParser(prog="x2i train", description="Train parts of X2I; see each job's --help.")
    commands = parser.add_subparsers(required=True, metavar="job", parser_class=SentenceParser)
    for name, job in JOBS.items():
        words = job.__doc__.splitlines()[0]
        command = commands.add_parser(name, help=words, description=words)
        command.add_argument("--config", type=Path, metavar="FILE", help="YAML file of the fields below")
        command.set_defaults(job=job)
        add_flags(command, job)
    return parser
