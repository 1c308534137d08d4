"""The command line: python -m x2i_app app | generate | batch | evaluate | train | plan.

Bad input is one sentence on standard error and exit status 2; a job that fails is one sentence and exit status 1.
Each command is a dataclass of its options and a method that runs it; heavy libraries are imported when it runs.
"""

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import tyro
from tyro.constructors import PrimitiveConstructorSpec

from x2i_app.errors import EngineError, GenerationCancelledError, InvalidRequestError, X2IError
from x2i_app.hosting import use_persistent_storage, wait_passively
from x2i_app.options import choose, parse
from x2i_app.presets import MEMORY_PROFILES
from x2i_app.request import IMAGE_SETTINGS, SETTINGS, GenerationRequest, GenerationResult
from x2i_app.settings import FileSettings, ModelSettings, PlanSettings, Settings

if TYPE_CHECKING:
    from x2i_app.serving.engine import Engine
    from x2i_app.serving.jobs import Job


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status."""
    wait_passively()
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        name, arguments = choose(COMMANDS, arguments, "x2i", "Anything to image: text, images, video, audio.")
        if name == "train":
            return _train(arguments)
        return parse(COMMANDS[name], arguments, prog=f"x2i {name}").run()
    except (EngineError, GenerationCancelledError) as error:
        print(f"x2i: {error}", file=sys.stderr)
        return 1
    except X2IError as error:
        print(f"x2i: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("x2i: stopped.", file=sys.stderr)
        return 130


def _read_lora(arguments: list[str]) -> tuple[str, float]:
    """`FILE:WEIGHT`, or a file with the weight 1."""
    path, _, weight = arguments[0].rpartition(":")
    try:
        return path, float(weight)
    except ValueError:
        return arguments[0], 1.0


def _reader(nargs, metavar: str, read: Callable[[list[str]], Any]) -> PrimitiveConstructorSpec:
    return PrimitiveConstructorSpec(nargs, metavar, read, lambda value: True, lambda value: [str(value)])


Files = tyro.conf.UseAppendAction[tuple[str, ...]]
LoRA = Annotated[tuple[str, float], _reader(1, "FILE[:WEIGHT]", _read_lora)]
Number = Annotated[int | float | None, tyro.conf.arg(metavar="NUMBER")]
RayAddress = Annotated[str | None, _reader("*", "[ADDRESS]", lambda given: " ".join(given) or "here")]
Switch = tyro.conf.FlagCreatePairsOff[bool]  # --name without --no-name


@dataclass(frozen=True, kw_only=True)
class ClusterOptions:
    """Where to draw."""

    ray: RayAddress = None
    """generate on a Ray cluster: auto, HOST:PORT, or no address for a new one on this machine"""
    replicas: Annotated[str, tyro.conf.arg(metavar="N[:M]")] = "1"
    """with --ray: copies of the model, from N to M"""
    gpus: float | None = None
    """with --ray: GPUs for each replica, or a fraction of one; none: 1 if the cluster has any"""


@dataclass(frozen=True, kw_only=True)
class ImageOptions:
    """What to generate. GenerationRequest says which values are allowed."""

    prompt: str | None = None
    """what to show, in any language"""
    width: int | None = None
    """pixels"""
    height: int | None = None
    """pixels"""
    steps: int | None = None
    """denoising steps"""
    guidance: Number = None
    """guidance scale"""
    seed: int | None = None
    """seed of the first image; each further one adds 1"""
    count: int | None = None
    """how many images"""
    reason: Switch = False
    """let the model answer first, and draw its answer"""
    control: Number = None
    """how closely LightControl keeps to the source image: 0 not at all, 1 as trained"""
    strength: Number = None
    """how much of the source image is redrawn, up to 1"""
    loras: Annotated[tyro.conf.UseAppendAction[tuple[LoRA, ...]], tyro.conf.arg(name="lora")] = ()
    """a LoRA in a safetensors file; weight 1 is as trained; may be repeated"""

    def given(self) -> dict[str, object]:
        """The options that were given, by the names of flags; a prompt may be empty."""
        values = {name: getattr(self, name) for name in ("prompt", *SETTINGS, "control", "strength")}
        values |= {"reason": self.reason or None, "loras": self.loras or None}
        return {name: value for name, value in values.items() if value is not None}


@dataclass(frozen=True, kw_only=True)
class App:
    """Open the page in a browser."""

    settings: Settings = field(default_factory=Settings)
    cluster: ClusterOptions = field(default_factory=ClusterOptions)

    def run(self) -> int:
        """Serve the page until the process is stopped."""
        use_persistent_storage()
        engine = None
        if self.cluster.ray is not None:
            from x2i_app.scale.worker import engine_on

            engine = engine_on(self.settings, self.cluster.ray, self.cluster.replicas, self.cluster.gpus)
        from x2i_app.ui.server import serve

        serve(self.settings, engine)
        return 0


@dataclass(frozen=True, kw_only=True)
class Generate(ImageOptions):
    """Generate images and write them to files."""

    RENAMED: ClassVar[dict[str, str]] = {"from_picture": "from_image"}

    from_image: str | None = None
    """a PNG of X2I: take its prompt and settings where no flag says otherwise; give its input files again"""
    images: Annotated[Files, tyro.conf.arg(name="image")] = ()
    """image to look at; may be repeated"""
    videos: Annotated[Files, tyro.conf.arg(name="video")] = ()
    """video to look at; may be repeated"""
    audios: Annotated[Files, tyro.conf.arg(name="audio")] = ()
    """audio to listen to; may be repeated"""
    source: str | None = None
    """image to edit or to keep to; none: the only --image"""
    mask: str | None = None
    """image of the source's shape; its white area is redrawn"""
    outpaint: Annotated[tuple[int, int, int, int] | None, tyro.conf.arg(metavar="L,T,R,B")] = None
    """pixels to add on the left, top, right and bottom of the source"""
    history: Path | None = None
    """JSON list of earlier turns: prompt, images, videos, audios, answer; file names are relative to its folder"""
    output: Path = Path("x2i.png")
    """PNG file; several images are numbered"""
    settings: FileSettings = field(default_factory=FileSettings)

    def run(self) -> int:
        """Generate, show the progress, and write the files."""
        from x2i_app.media import describe, save_png
        from x2i_app.serving.engine import Engine

        request = self._request()
        paths = _output_paths(self.output, request.num_images_per_prompt)
        settings = Settings(**asdict(self.settings))
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
        _print_result(result, paths)
        return 0

    def _request(self) -> GenerationRequest:
        """The request of the flags, which win over the settings in --from-image."""
        from x2i_app.media import read_recipe, sniff
        from x2i_app.rows import read_history

        files = {"images": self.images, "videos": self.videos, "audios": self.audios}
        for kind, paths in files.items():
            for file in paths:
                sniff(file, kind.removesuffix("s"))  # a missing file is reported before the model is loaded
        for file in filter(None, (self.mask, self.source)):
            sniff(file, "image")
        given = self.given() | {name: getattr(self, name) for name in ("source", "mask", "outpaint")}
        loras = given.pop("loras", ())
        fields = SETTINGS | IMAGE_SETTINGS
        values = {fields.get(name, name): value for name, value in given.items() if value is not None}
        if self.history:
            values["history"] = read_history(self.history)
        if self.from_image is None:
            return GenerationRequest(**files, **values, loras=loras)
        recipe = read_recipe(self.from_image)
        if recipe.preset and recipe.preset != self.settings.preset:
            advice = f"--preset {recipe.preset} would use the same model"
            print(f"x2i: {recipe.preset} generated {self.from_image}; {advice}.", file=sys.stderr)
        return replace(recipe.with_files(loras=loras, **files), **values)


@dataclass(frozen=True, kw_only=True)
class Batch(ImageOptions):
    """Generate the images of a folder or a JSONL file; started again, it continues."""

    input: Path
    """JSONL file, or folder of media and .txt files"""
    output: Path = Path("outputs")
    """folder for the images and results.jsonl"""
    cluster: ClusterOptions = field(default_factory=ClusterOptions)
    settings: FileSettings = field(default_factory=FileSettings)

    def run(self) -> int:
        """Generate what is missing; status 1 if a row failed."""
        from x2i_app.batch import run_batch

        draw = None
        if self.cluster.ray is not None:
            from x2i_app.scale.batch import draw_on

            draw = draw_on(self.cluster.ray, self.cluster.replicas, self.cluster.gpus)
        outcome = run_batch(Settings(**asdict(self.settings)), self.input, self.output, self.given(), draw)
        print(f"{outcome.drawn} rows drawn, {outcome.failed} failed, {outcome.kept} drawn before: {self.output}")
        return 1 if outcome.failed else 0


@dataclass(frozen=True, kw_only=True)
class Evaluate:
    """Measure how well a model draws what each kind of input asks for."""

    scenes: int = 500
    """new scenes for each kind of input"""
    rows: str = ""
    """kinds of input, e.g. english,image; empty: all"""
    steps: int | None = None
    """denoising steps; none: the model's own"""
    output: Path = Path("artifacts/evaluation")
    """folder for the report"""
    settings: ModelSettings = field(default_factory=ModelSettings)

    def run(self) -> int:
        """Write the report."""
        from x2i_app.serving.model_manager import quiet_libraries

        quiet_libraries()  # before they are imported
        from x2i_app.miniature.evaluation.command import run

        run(Settings(**asdict(self.settings)), self.output, self.scenes, self.rows, self.steps)
        return 0


class Train:
    """Train an AlignNet, a LightControl or a LoRA."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Show how much memory a model needs, without downloading it."""

    width: int | None = None
    """pixels; none: the FLUX model's own"""
    height: int | None = None
    """pixels; none: the FLUX model's own"""
    gib: float | None = None
    """free memory to plan for; none: what is usual"""
    all: Switch = False
    """every profile in one table"""
    distill: Switch = False
    """plan a step of training its AlignNet instead of an image"""
    json: Switch = False
    """bytes, as JSON"""
    settings: PlanSettings = field(default_factory=PlanSettings)

    def run(self) -> int:
        """Print the plan."""
        from x2i_app.serving.model_manager import quiet_libraries

        quiet_libraries()  # before they are imported
        from x2i_app.loading.report import plan_memory, show_plan, show_plans

        if self.distill:
            return self._plan_distillation()
        model = self.settings
        profiles = list(MEMORY_PROFILES) if self.all else [model.profile]
        parts = {"mllm": model.mllm, "flux": model.flux, "light_control": model.light_control}
        plans = plan_memory(model.preset, profiles, **parts, width=self.width, height=self.height, gib=self.gib)
        if self.json:
            found = [{"preset": model.preset, "flux": model.flux} | plan.as_dict() for plan in plans]
            print(json.dumps(found if self.all else found[0], indent=2))
        else:
            print(show_plans(plans) if self.all else show_plan(plans[0]))
        return 0

    def _plan_distillation(self) -> int:
        from x2i_app.loading.sizes import build_skeleton
        from x2i_app.training.plan import plan_distillation, show_distillation

        model = self.settings
        plans = plan_distillation(build_skeleton(model.preset, model.mllm, model.flux))
        if self.json:
            print(json.dumps([asdict(plan) | {"needed": plan.needed} for plan in plans], indent=2))
        else:
            print(show_distillation(plans))
        return 0


COMMANDS = {"app": App, "generate": Generate, "batch": Batch, "evaluate": Evaluate, "train": Train, "plan": Plan}


def _train(arguments: Sequence[str]) -> int:
    """Its jobs are dataclasses too, in modules that import torch."""
    from x2i_app.serving.model_manager import quiet_libraries

    quiet_libraries()  # before they are imported
    from x2i_app.training import JOBS
    from x2i_app.training.job import run_job

    name, arguments = choose(JOBS, arguments, "x2i train", "Train parts of X2I.")
    return run_job(parse(JOBS[name], arguments, prog=f"x2i train {name}"))


def _output_paths(output: Path, count: int) -> list[Path]:
    """The file of each image, checked before any work is done."""
    if output.suffix.lower() != ".png":
        raise InvalidRequestError(f"--output is {str(output)!r}; it must end in .png.")
    if not output.parent.is_dir():
        raise InvalidRequestError(f"There is no folder {str(output.parent)!r} for --output; make it first.")
    paths = [output] if count == 1 else [output.with_stem(f"{output.stem}-{i}") for i in range(1, count + 1)]
    for path in paths:
        if path.is_dir():
            raise InvalidRequestError(f"--output {str(path)!r} is a folder; give the name of a file.")
    return paths


def _show(job: "Job", engine: "Engine") -> None:
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
            text = escape(status.detail) if status.state == "loading" and status.detail else moment.phase
            bar.update(task, description=text, total=total, completed=done)


def _print_result(result: GenerationResult, paths: Sequence[Path]) -> None:
    for path, seed in zip(paths, result.seeds, strict=True):
        print(f"{path} (seed {seed})")
    if result.answer:
        print(f"The model answered: {result.answer!r}")
    for note in result.notes:
        print(note)
