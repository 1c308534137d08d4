"""The command line: python -m x2i_app app | generate | batch | upscale | evaluate | caption | align | train | plan, ...

Bad input is one sentence on standard error and exit status 2; a job that fails is one sentence and exit status 1.
Each command is a dataclass of its options and a method that runs it; heavy libraries are imported when it runs.
"""

import os
import sys
from collections.abc import Sequence
from contextlib import nullcontext

from x2i_app.commands.evaluate import Evaluate
from x2i_app.commands.generate import App, Batch, Generate
from x2i_app.commands.plan import Plan
from x2i_app.commands.tools import AlignConvert, Caption, ComfyUI, Upscale
from x2i_app.errors import EngineError, GenerationCancelledError, X2IError
from x2i_app.hosting import print_any_text, use_proxies, wait_passively
from x2i_app.options import choose, parse
from x2i_app.quiet import quiet
from x2i_app.workspace import Stopped, workspace

_FIRST = {
    "upscale": "--image",
    "comfyui": "--path",
    "caption": "--folder",
}  # what a command's first argument without a flag means


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status."""
    wait_passively()
    print_any_text()
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        use_proxies()
        summaries = {name: command.__doc__.splitlines()[0] for name, command in COMMANDS.items()}
        name, arguments = choose(summaries, arguments, "x2i", "Anything to image: text, images, video, audio.")
        if name == "train":
            return _train(*choose(TRAININGS, arguments, "x2i train", "Train parts of X2I."))
        if name == "align":
            summary = AlignConvert.__doc__.splitlines()[0]
            _, arguments = choose({"convert": summary}, arguments, "x2i align", "Files of AlignNets.")
            return parse(AlignConvert, arguments, prog="x2i align convert").run()
        if name in _FIRST and arguments and not arguments[0].startswith("-"):
            arguments = [_FIRST[name], *arguments]
        command = parse(COMMANDS[name], arguments, prog=f"x2i {name}")
        with workspace():
            return command.run()
    except (EngineError, GenerationCancelledError) as error:
        print(f"x2i: {error}", file=sys.stderr)
        return 1
    except X2IError as error:
        print(f"x2i: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as stop:
        print("x2i: stopped.", file=sys.stderr)
        return stop.status if isinstance(stop, Stopped) else 130


class Train:
    """Train an AlignNet, a LightControl or a LoRA."""


class Align:
    """Convert the file of an AlignNet: `align convert`."""


COMMANDS = {
    "app": App,
    "generate": Generate,
    "batch": Batch,
    "upscale": Upscale,
    "evaluate": Evaluate,
    "caption": Caption,
    "align": Align,
    "train": Train,
    "plan": Plan,
    "comfyui": ComfyUI,
}
# Of `train`: the first sentences of its jobs, which are dataclasses too, in modules that import torch.
TRAININGS = {
    "captions": "Clean, filter, shuffle and count the captions of a corpus, for `train distill`.",
    "distill": "Train an AlignNet for an MLLM and a FLUX.1 model, from English captions alone.",
    "light-control": "Train a LightControl, which keeps what an instruction does not change, from pairs of images and "
    "instructions.",
    "lora": "Train a LoRA for FLUX.1 under X2I: a style or a subject from a few images with captions, or edits of "
    "images.",
}


@quiet()
def _train(name: str, arguments: Sequence[str]) -> int:
    from x2i_app.training import JOBS
    from x2i_app.training.job import run_job

    job = parse(JOBS[name], arguments, prog=f"x2i train {name}")
    # Of the processes that accelerate has started, only the first one writes files, and others may not be able to.
    with workspace() if os.environ.get("RANK", "0") == "0" else nullcontext():
        return run_job(job)
