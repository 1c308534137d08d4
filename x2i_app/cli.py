"""The command line: python -m x2i_app app | generate | batch | evaluate | train | plan.

Bad input is one line on standard error and exit status 2; a job that fails is one line and exit status 1.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from x2i_app.batch import run_batch
from x2i_app.errors import EngineError, GenerationCancelledError, InvalidRequestError, X2IError
from x2i_app.flags import add_image_flags, add_numbers, add_request, number
from x2i_app.hosting import use_persistent_storage
from x2i_app.media import describe, read_recipe, save_png, sniff
from x2i_app.presets import MEMORY_PROFILES
from x2i_app.request import IMAGE_SETTINGS, SETTINGS, GenerationRequest, GenerationResult
from x2i_app.rows import read_history
from x2i_app.serving.engine import Engine
from x2i_app.serving.jobs import Job
from x2i_app.serving.model_manager import quiet_libraries
from x2i_app.settings import FILE_SETTINGS, MODEL_SETTINGS, SentenceParser, Settings, add_settings


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status."""
    try:
        namespace = _parser().parse_args(arguments)
        return namespace.run(namespace)
    except (EngineError, GenerationCancelledError) as error:
        print(f"x2i: {error}", file=sys.stderr)
        return 1
    except X2IError as error:
        print(f"x2i: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("x2i: stopped.", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = SentenceParser(prog="x2i", description="Anything to image: text, pictures, films, sounds.")
    commands = parser.add_subparsers(required=True, metavar="command", parser_class=SentenceParser)

    app = commands.add_parser("app", help="open the page in a browser")
    add_settings(app)
    _add_cluster(app)
    app.set_defaults(run=_app)

    generate = commands.add_parser("generate", help="make pictures and write them to files")
    add_settings(generate, names=FILE_SETTINGS)
    add_request(generate)
    generate.set_defaults(run=_generate)

    batch = commands.add_parser("batch", help="make the pictures of a folder or a JSONL file, and go on where it was")
    add_settings(batch, names=FILE_SETTINGS)
    _add_batch(batch)
    _add_cluster(batch)
    batch.set_defaults(run=_batch)

    evaluate = commands.add_parser("evaluate", help="judge by numbers what a model draws of every kind of input")
    add_settings(evaluate, names=MODEL_SETTINGS)
    _add_evaluation(evaluate)
    evaluate.set_defaults(run=_evaluate)

    # Its flags are the fields of the training jobs, which need torch: they are read there, not here.
    train = commands.add_parser(
        "train", help="train an AlignNet: train distill --help", add_help=False, prefix_chars=" "
    )
    train.add_argument("arguments", nargs="*")
    train.set_defaults(run=_train)

    plan = commands.add_parser("plan", help="how much memory a model will need; nothing is downloaded")
    add_settings(plan, names=("preset", "flux", "mllm", "light_control", "profile"))
    _add_plan(plan)
    plan.set_defaults(run=_plan)
    return parser


def _add_batch(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--input", type=Path, required=True, help="JSONL file, or folder of media and .txt files")
    parser.add_argument(
        "--output", type=Path, default=Path("outputs"), help="folder for the pictures and results.jsonl"
    )
    parser.add_argument("--prompt", help="what to show, for rows that do not say")
    add_numbers(parser)
    add_image_flags(parser)


def _add_cluster(parser: argparse.ArgumentParser) -> None:
    words = "draw on a Ray cluster: auto, HOST:PORT, or without either, one of this machine alone"
    parser.add_argument("--ray", nargs="?", const="here", metavar="ADDRESS", help=words)
    parser.add_argument("--replicas", default="1", metavar="N[:M]", help="with --ray: models in memory, from N to M")
    words = "with --ray: GPUs for each replica, or a part of one; default: 1 where the cluster has any"
    parser.add_argument("--gpus", type=number("gpus"), metavar="N", help=words)


def _add_evaluation(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--scenes", type=number("scenes"), default=500, metavar="N", help="fresh scenes a row")
    parser.add_argument(
        "--rows", default="", metavar="NAMES", help="kinds of input, e.g. english,picture; default: all"
    )
    parser.add_argument("--steps", type=number("steps"), metavar="N", help="denoising steps; default: the model's own")
    parser.add_argument("--output", type=Path, default=Path("artifacts/evaluation"), help="folder for the report")


def _add_plan(parser: argparse.ArgumentParser) -> None:
    for name in ("width", "height"):
        parser.add_argument(f"--{name}", type=number(name), metavar="N", help="pixels; default: the FLUX model's own")
    parser.add_argument("--gib", type=number("gib"), metavar="N", help="free memory to plan for, instead of the usual")
    parser.add_argument("--all", action="store_true", help="every profile, one a row")
    parser.add_argument("--distill", action="store_true", help="a step of training its AlignNet instead of a picture")
    parser.add_argument("--json", action="store_true", help="bytes, as JSON")


def _app(namespace: argparse.Namespace) -> int:
    settings = Settings.from_namespace(namespace)
    use_persistent_storage()
    engine = None
    if namespace.ray is not None:
        from x2i_app.scale.worker import engine_on

        engine = engine_on(settings, namespace.ray, namespace.replicas, namespace.gpus)
    from x2i_app.ui.server import serve  # Gradio takes seconds to import; other commands do not need it

    serve(settings, engine)
    return 0


def _generate(namespace: argparse.Namespace) -> int:
    request = _request(namespace)
    paths = _output_paths(namespace.output, request.num_images_per_prompt)
    settings = Settings(**{name: getattr(namespace, name) for name in FILE_SETTINGS})
    engine = Engine(settings)
    engine.start()
    job = engine.submit(request)
    try:
        _show(job, engine)
        result = job.wait()
    finally:
        engine.cancel(job)
        engine.close()
    for path, image, texts in zip(paths, result.images, describe(result, settings), strict=True):
        try:
            save_png(image, path, texts)
        except OSError as error:
            raise EngineError(
                f"{str(path)!r} cannot be written ({error.strerror}); choose another --output."
            ) from error
    _tell(result, paths)
    return 0


def _request(namespace: argparse.Namespace) -> GenerationRequest:
    """What the flags ask for, beginning with the settings of --from-picture where that was given."""
    files = {kind: tuple(getattr(namespace, kind.removesuffix("s"))) for kind in ("images", "videos", "audios")}
    for kind, paths in files.items():
        for file in paths:
            sniff(file, kind.removesuffix("s"))  # a missing file is known before the model is loaded
    for file in filter(None, (namespace.mask, namespace.source)):
        sniff(file, "image")
    given = {field: getattr(namespace, name) for name, field in (SETTINGS | IMAGE_SETTINGS).items()}
    given |= {"prompt": namespace.prompt, "history": read_history(namespace.history) if namespace.history else None}
    given = {field: value for field, value in given.items() if value is not None}
    loras = tuple(namespace.loras or ())
    if namespace.from_picture is None:
        return GenerationRequest(**files, **given, loras=loras)
    recipe = read_recipe(namespace.from_picture)
    if recipe.preset and recipe.preset != namespace.preset:
        print(f"x2i: {recipe.preset} drew it; --preset {recipe.preset} would again.", file=sys.stderr)
    return replace(recipe.with_files(loras=loras, **files), **given)


def _batch(namespace: argparse.Namespace) -> int:
    settings = Settings(**{name: getattr(namespace, name) for name in FILE_SETTINGS})
    given = {name: getattr(namespace, name) for name in ("prompt", *SETTINGS, "control", "strength", "loras")}
    defaults = {name: value for name, value in given.items() if value is not None}
    draw = None
    if namespace.ray is not None:
        from x2i_app.scale.batch import draw_on

        draw = draw_on(namespace.ray, namespace.replicas, namespace.gpus)
    outcome = run_batch(settings, namespace.input, namespace.output, defaults, draw)
    print(f"{outcome.drawn} rows drawn, {outcome.failed} failed, {outcome.kept} drawn before: {namespace.output}")
    return 1 if outcome.failed else 0


def _evaluate(namespace: argparse.Namespace) -> int:
    quiet_libraries()
    settings = Settings(**{name: getattr(namespace, name) for name in MODEL_SETTINGS})
    from x2i_app.miniature.evaluation.command import run  # with torch, which the other commands do without for a while

    run(settings, namespace.output, namespace.scenes, namespace.rows, namespace.steps)
    return 0


def _train(namespace: argparse.Namespace) -> int:
    quiet_libraries()
    from x2i_app.training.command import main as train  # with torch, as above

    return train(namespace.arguments)


def _plan(namespace: argparse.Namespace) -> int:
    quiet_libraries()
    from x2i_app.loading.report import plan_memory, show_plan, show_plans  # with torch

    if namespace.distill:
        return _plan_distillation(namespace)
    preset, every = namespace.preset, namespace.all
    profiles = list(MEMORY_PROFILES) if every else [namespace.profile]
    given = {name: getattr(namespace, name) for name in ("mllm", "flux", "light_control", "width", "height", "gib")}
    plans = plan_memory(preset, profiles, **given)
    if namespace.json:
        found = [{"preset": preset, "flux": namespace.flux} | plan.as_dict() for plan in plans]
        print(json.dumps(found if every else found[0], indent=2))
    else:
        print(show_plans(plans) if every else show_plan(plans[0]))
    return 0


def _plan_distillation(namespace: argparse.Namespace) -> int:
    from x2i_app.loading.skeletons import build_skeleton
    from x2i_app.training.plan import plan_distillation, show_distillation

    plans = plan_distillation(build_skeleton(namespace.preset, namespace.mllm, namespace.flux))
    if namespace.json:
        print(json.dumps([asdict(plan) | {"needed": plan.needed} for plan in plans], indent=2))
    else:
        print(show_distillation(plans))
    return 0


def _output_paths(output: Path, count: int) -> list[Path]:
    """Where each picture goes, checked before any work is done."""
    if output.suffix.lower() != ".png":
        raise InvalidRequestError(f"--output is {str(output)!r}; it must end in .png.")
    if not output.parent.is_dir():
        raise InvalidRequestError(f"There is no folder {str(output.parent)!r} for --output; make it first.")
    paths = [output] if count == 1 else [output.with_stem(f"{output.stem}-{i}") for i in range(1, count + 1)]
    for path in paths:
        if path.is_dir():
            raise InvalidRequestError(f"--output {str(path)!r} is a folder; give the name of a file.")
    return paths


def _show(job: Job, engine: Engine) -> None:
    """A progress bar on standard error while the job runs."""
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("starting", total=None)
        for moment in job.watch(interval=0.5):
            total = moment.steps * moment.images or None
            done = moment.steps * max(0, moment.image - 1) + moment.step
            status = engine.status
            words = escape(status.detail) if status.state == "loading" and status.detail else moment.phase
            bar.update(task, description=words, total=total, completed=done)


def _tell(result: GenerationResult, paths: list[Path]) -> None:
    for path, seed in zip(paths, result.seeds, strict=True):
        print(f"{path} (seed {seed})")
    if result.answer:
        print(f"The model said: {result.answer!r}")
    for note in result.notes:
        print(note)
