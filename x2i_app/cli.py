"""The command line: python -m x2i_app app | generate | batch | upscale | evaluate | caption | align | train | plan, ...

Bad input is one sentence on standard error and exit status 2; a job that fails is one sentence and exit status 1.
Each command is a dataclass of its options and a method that runs it; heavy libraries are imported when it runs.
"""

import json
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import tyro
from tyro.constructors import PrimitiveConstructorSpec

from x2i_app.errors import EngineError, GenerationCancelledError, InvalidRequestError, X2IError
from x2i_app.hosting import print_any_text, use_persistent_storage, use_proxies, wait_passively
from x2i_app.limits import LIMITS, validate_integer
from x2i_app.options import choose, parse, read_variables
from x2i_app.output_names import DEFAULT_TEMPLATE, free_path, output_name
from x2i_app.presets import MEMORY_PROFILES
from x2i_app.quiet import quiet
from x2i_app.request import (
    IMAGE_SETTINGS,
    LATER_SETTINGS,
    NOTHING_ADDED,
    SETTINGS,
    GenerationRequest,
    GenerationResult,
)
from x2i_app.settings import FORMATS, MODEL_SETTINGS, FileSettings, ModelSettings, PlanSettings, Settings
from x2i_app.workspace import Stopped, workspace

if TYPE_CHECKING:
    from x2i_app.batch import Draw
    from x2i_app.serving.engine import Engine
    from x2i_app.serving.jobs import Job
    from x2i_app.specs import FluxSpec


_FIRST = {
    "upscale": "--image",
    "comfyui": "--path",
    "caption": "--folder",
}  # what a command's first argument without a flag means
_EDITING = ("source", "mask", "outpaint", "mask_grow", "mask_feather", "only_masked")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status."""
    wait_passively()
    print_any_text()
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        use_proxies()
        name, arguments = choose(COMMANDS, arguments, "x2i", "Anything to image: text, images, video, audio.")
        if name == "train":
            return _train(arguments)
        if name == "align":
            _, arguments = choose({"convert": AlignConvert}, arguments, "x2i align", "Files of AlignNets.")
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


def _read_lora(arguments: list[str]) -> tuple[str, float]:
    """`FILE:WEIGHT`, or a file with the weight 1."""
    path, _, weight = arguments[0].rpartition(":")
    try:
        return (path, float(weight)) if path else (arguments[0], 1.0)
    except ValueError:
        return arguments[0], 1.0


def _first_given(options: Any, *names: str) -> str | None:
    """The flag of the first of these fields that was given another value than its default; None without one.

    X2I_* variables do not count, as they are for all commands.
    """
    variables = read_variables(type(options))
    for each in fields(options):
        value = getattr(options, each.name)
        if each.name in names and value not in (each.default, variables.get(each.name, each.default)):
            return f"--{each.name.replace('_', '-')}"
    return None


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

    def check(self) -> None:
        """Raise InvalidRequestError for what needs --ray, without it."""
        if self.ray is None and (flag := _first_given(self, "replicas", "gpus")):
            raise InvalidRequestError(f"{flag} needs --ray, which says where to draw; add it, or leave {flag} out.")

    def draw(self) -> "Draw | None":
        """What draws rows on the cluster; None without one. Raises InvalidRequestError as `check`."""
        self.check()
        if self.ray is None:
            return None
        from x2i_app.scale.batch import draw_on

        return draw_on(self.ray, self.replicas, self.gpus)


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
    negative_prompt: str | None = None
    """what the image should not show; only models with many steps can follow it"""
    true_cfg_scale: Number = None
    """how strongly the negative prompt is avoided, 1 to 10"""
    fast: Switch = False
    """skip most of FLUX in steps that change little; for 12 steps or more"""
    loras: Annotated[tyro.conf.UseAppendAction[tuple[LoRA, ...]], tyro.conf.arg(name="lora")] = ()
    """a LoRA: a safetensors file, or OWNER/NAME[:FILE] of the hub; weight 1 is as trained; may be repeated"""

    def given(self) -> dict[str, object]:
        """The options that were given, by the names of flags; a prompt may be empty."""
        values = {name: getattr(self, name) for name in ("prompt", *SETTINGS, *LATER_SETTINGS, "control", "strength")}
        values |= {"reason": self.reason or None, "fast": self.fast or None, "loras": self.loras or None}
        return {name: value for name, value in values.items() if value is not None}


@dataclass(frozen=True, kw_only=True)
class App:
    """Open the page in a browser."""

    settings: Settings = field(default_factory=Settings)
    cluster: ClusterOptions = field(default_factory=ClusterOptions)

    def run(self) -> int:
        """Serve the page until the process is stopped."""
        self.cluster.check()
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
    """image of X2I, A1111, ComfyUI, InvokeAI or Fooocus: use its prompt and settings where no flag says otherwise"""
    images: Annotated[Files, tyro.conf.arg(name="image")] = ()
    """image to look at; may be repeated"""
    videos: Annotated[Files, tyro.conf.arg(name="video")] = ()
    """video to look at; may be repeated"""
    audios: Annotated[Files, tyro.conf.arg(name="audio")] = ()
    """audio to listen to; may be repeated"""
    reference: Annotated[Files, tyro.conf.arg(name="reference")] = ()
    """image that the result keeps to, for FLUX.1 Kontext; the model looks at it too"""
    source: str | None = None
    """image to edit or to keep to; none: the only --image"""
    mask: str | None = None
    """image of the source's shape; its white area is redrawn"""
    outpaint: Annotated[tuple[int, int, int, int] | None, tyro.conf.arg(metavar="L,T,R,B")] = None
    """pixels to add on the left, top, right and bottom of the source"""
    mask_invert: Switch = False
    """redraw the mask's black area instead"""
    mask_grow: int | None = None
    """pixels by which the redrawn area grows"""
    mask_feather: int | None = None
    """width in pixels of its soft edge; none: suits the image"""
    only_masked: bool | None = None
    """draw only the surroundings of the mask, in more detail; none: if the mask is small and the image large"""
    history: Path | None = None
    """JSON list of earlier turns: prompt, images, videos, audios, answer; file names are relative to its folder"""
    output: Path = Path("x2i.png")
    """PNG, JPEG or WebP file, several images are numbered; or a folder, whose files --output-template names"""
    settings: FileSettings = field(default_factory=FileSettings)

    def run(self) -> int:
        """Generate, show the progress, and write the files."""
        from x2i_app.media import describe, save_image
        from x2i_app.notes import SETTINGS_TOO_LONG
        from x2i_app.serving.engine import Engine

        settings = Settings(**asdict(self.settings))
        engine = Engine(settings)
        request = self._request(engine.flux)
        output = _Output.of(self.output, settings, request.num_images_per_prompt)
        engine.start()
        job = engine.submit(request)
        try:
            _show(job, engine)
            result = job.wait()
        finally:
            engine.cancel(job)
            engine.close()
        paths, all_saved = [], True
        for number, (image, texts) in enumerate(zip(result.images, describe(result, settings), strict=True)):
            path = output.path(result, settings, number)
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                all_saved &= save_image(image, path, texts, output.form)
            except OSError as error:
                raise EngineError(
                    f"{str(path)!r} cannot be written ({error.strerror}); choose another --output."
                ) from error
            paths.append(path)
        _print_result(result, paths, () if all_saved else (SETTINGS_TOO_LONG,))
        return 0

    def _request(self, flux: "FluxSpec") -> GenerationRequest:
        """The request of the flags, which win over the settings in --from-image. flux: the model that follows it."""
        from x2i_app.media import read_recipe, sniff
        from x2i_app.prompts import known_loras
        from x2i_app.rows import local_lora, read_history

        files = {"images": self.images, "videos": self.videos, "audios": self.audios}
        for kind, paths in files.items():
            for file in paths:
                sniff(file, kind.removesuffix("s"))  # a missing file is reported before the model is loaded
        for file in filter(None, (self.mask, self.source, *self.reference)):
            sniff(file, "image")
        if self.outpaint and not any(self.outpaint) and self.mask is None and self.strength is None:
            raise InvalidRequestError(NOTHING_ADDED)
        given = self.given() | {name: getattr(self, name) for name in _EDITING}
        given |= {"mask_invert": self.mask_invert or None, "reference": self.reference or None}
        loras = [(local_lora(name, models=self.settings.models), weight) for name, weight in given.pop("loras", ())]
        fields = SETTINGS | LATER_SETTINGS | IMAGE_SETTINGS
        values = {fields.get(name, name): value for name, value in given.items() if value is not None}
        if self.history:
            values["history"] = read_history(self.history)
        if self.from_image is None:
            return GenerationRequest(**files, **values, loras=loras)
        recipe = read_recipe(self.from_image).for_flux(flux)
        if recipe.request.loras:  # those of this machine need not be given again
            recipe = replace(recipe, request=recipe.with_known([*known_loras(self.settings).values()]))
        for note in recipe.notes:
            print(f"x2i: {note}", file=sys.stderr)
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
        from x2i_app.rows import local_lora

        given, draw = self.given(), self.cluster.draw()
        if self.loras:
            given["loras"] = [(local_lora(name, models=self.settings.models), weight) for name, weight in self.loras]
        outcome = run_batch(Settings(**asdict(self.settings)), self.input, self.output, given, draw)
        print(f"{outcome.drawn} rows drawn, {outcome.failed} failed, {outcome.kept} drawn before: {self.output}")
        return 1 if outcome.failed else 0


@dataclass(frozen=True, kw_only=True)
class Upscale:
    """Enlarge an image 2 or 4 times."""

    image: str
    """image to enlarge; may also be given without the flag"""
    scale: int = 2
    """2 or 4"""
    upscaler: str | None = None
    """a file, or a name in the folder upscalers of --models; lanczos: resample only; none: the first in that folder"""
    output: Path = Path("upscaled.png")
    """PNG file"""
    models: str = "models"
    """folder with models"""
    device: str | None = None
    """torch device, e.g. cuda or cpu; none: the fastest"""

    def run(self) -> int:
        """Enlarge the image, and keep its settings with what was done to it."""
        from x2i_app.media import load_image, save_image
        from x2i_app.media.metadata import with_upscale

        if self.output.suffix.lower() != ".png" or self.output.is_dir() or not self.output.parent.is_dir():
            raise InvalidRequestError(
                f"--output is {str(self.output)!r}; give a file that ends in .png, in a folder that exists."
            )
        image = load_image(self.image)
        with quiet():
            from x2i_app.devices import best_device
            from x2i_app.loading.upscaling import LANCZOS, find_upscalers, load_upscaler, upscale

            name = self.upscaler or next(iter(find_upscalers(self.models)), LANCZOS)
            upscaler = None if name == LANCZOS else load_upscaler(name, self.models)
            if upscaler:
                upscaler.to(self.device or best_device())
            enlarged = upscale(image, self.scale, upscaler)
        try:
            save_image(enlarged, self.output, with_upscale(self.image, self.scale, Path(name).name))
        except OSError as error:
            raise EngineError(f"{str(self.output)!r} cannot be written ({error.strerror}).") from error
        print(f"{self.output}: {enlarged.width} x {enlarged.height}, {Path(name).name}")
        return 0


@dataclass(frozen=True, kw_only=True)
class Evaluate:
    """Measure how well a model draws what a set of prompts asks for, or compare two such measurements."""

    prompts: str | None = None
    """own (160 rows of this project), or a file: own rows, GenEval, DPG-Bench, T2I-CompBench, PartiPrompts, MJHQ-30K"""
    judge: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """who answers the questions: attributes (x2i-tiny's own), own (the preset's MLLM), a folder or hub id; or none"""
    clip: str | None = None
    """CLIP model for CLIP score and image similarity: a folder or a hub id"""
    dino: str | None = None
    """DINOv2 model for the similarity of an edit to its source: a folder or a hub id"""
    teacher: bool | None = None
    """draw with T5 and CLIP too; none: if the FLUX model's folder has them"""
    seeds: str = "1"
    """images of each prompt, or the seeds themselves, as in 0,1,5"""
    limit: int | None = None
    """prompts at most, evenly of all rows"""
    size: int | None = None
    """width and height in pixels; none: the FLUX model's own"""
    steps: int | None = None
    """denoising steps; none: the model's own"""
    shard: Annotated[str | None, tyro.conf.arg(metavar="I/N")] = None
    """only part I of N; run without --shard at the end, it puts all parts together"""
    compare: Annotated[tuple[Path, Path] | None, _reader(2, "A B", lambda given: (Path(given[0]), Path(given[1])))] = (
        None
    )
    """two folders of evaluations to compare, instead of measuring"""
    at_least: Annotated[tyro.conf.UseAppendAction[tuple[str, ...]], tyro.conf.arg(metavar="ROW=SHARE")] = ()
    """exit with status 1 if this row of the table is below this share, e.g. text=0.95; may be repeated"""
    json: Switch = False
    """print one JSON object instead of tables"""
    scenes: int | None = None
    """x2i-tiny without --prompts: new scenes for each kind of input, usually 500"""
    rows: str = ""
    """x2i-tiny without --prompts: kinds of input, e.g. english,image; empty: all"""
    output: Path | None = None
    """folder for images, answers and report; started again, an evaluation continues; none: artifacts/evaluation"""
    cluster: ClusterOptions = field(default_factory=ClusterOptions)
    settings: ModelSettings = field(default_factory=ModelSettings)

    @quiet()
    def run(self) -> int:
        """Evaluate or compare."""
        from x2i_app.evaluation import command
        from x2i_app.evaluation.goals import parse_goals

        settings, goals = Settings(**asdict(self.settings)), parse_goals(self.at_least)
        if self.compare:
            self._check_comparison()
            return command.run_comparison(*self.compare, self.output, goals, as_json=self.json)
        output = self.output or Path("artifacts/evaluation")
        if self.prompts is None and self._is_about_scenes(settings):
            from x2i_app.miniature.evaluation.command import run

            return run(settings, output, self._scenes(), self.rows, self.steps, goals, as_json=self.json)
        if self.scenes is not None or self.rows:
            raise InvalidRequestError("--scenes and --rows are for x2i-tiny without --prompts; use --limit instead.")
        options = command.Options(
            settings,
            output,
            command.parse_seeds(self.seeds),
            self.steps,
            self.size,
            self.limit,
            self.judge,
            self.clip,
            self.dino,
            self.teacher,
            command.parse_shard(self.shard),
            self.cluster.draw(),
        )
        return command.run_prompts(options, self.prompts or "own", goals, as_json=self.json)

    def _is_about_scenes(self, settings: Settings) -> bool:
        """Whether what draws is the miniature, which has an evaluation of its own."""
        from x2i_app.evaluation.asking import ATTRIBUTES, default_judge

        return default_judge(settings) == ATTRIBUTES

    def _scenes(self) -> int:
        """How many scenes. Raises InvalidRequestError for an option that needs --prompts."""
        needs_prompts = ("judge", "clip", "dino", "teacher", "size", "shard", "seeds")
        self.cluster.check()
        if flag := _first_given(self, *needs_prompts) or _first_given(self.cluster, "ray"):
            raise InvalidRequestError(f"{flag} needs --prompts; give a file, or own for the bundled set.")
        if None not in (self.limit, self.scenes):
            raise InvalidRequestError("--limit and --scenes mean the same without --prompts; leave one of them out.")
        default = 500 if self.limit is None else self.limit
        return default if self.scenes is None else self.scenes

    def _check_comparison(self) -> None:
        """Raise InvalidRequestError for an option of a measurement."""
        used = ("compare", "at_least", "json", "output", "cluster", "settings")
        own = [each.name for each in fields(self) if each.name not in used]
        flag = _first_given(self, *own) or _first_given(self.cluster, "ray", "replicas", "gpus")
        if flag := flag or _first_given(self.settings, *MODEL_SETTINGS):
            raise InvalidRequestError(f"--compare reads two folders and measures nothing; leave out {flag}.")


@dataclass(frozen=True, kw_only=True)
class Caption:
    """Describe the images of a folder in text files beside them, for training."""

    folder: Path
    """folder of images; may also be given without the flag"""
    preset: str = "x2i-tiny"
    """preset whose MLLM looks at the images, or custom:FAMILY"""
    mllm: str | None = None
    """MLLM: a folder, a hub id or a repacked .pt file instead of the preset's"""
    prompt: str | None = None
    """what the MLLM is asked; none: for one or two plain sentences"""
    max_broken: int = 10
    """images that cannot be described before the command stops"""
    device: str | None = None
    """torch device, e.g. cuda or cpu; none: the fastest"""

    @quiet()
    def run(self) -> int:
        """Write what is missing; no file is ever replaced."""
        import torch

        from x2i_app.devices import best_device
        from x2i_app.training.image_captions import caption_folder

        if not self.folder.is_dir():
            raise InvalidRequestError(f"There is no folder {str(self.folder)!r}; give one with images.")
        device = torch.device(self.device or best_device())
        written, kept = caption_folder(self.folder, self.preset, self.mllm, self.prompt, self.max_broken, device)
        print(f"{written:,} captions written, {kept:,} images had one")
        return 0


class Train:
    """Train an AlignNet, a LightControl or a LoRA."""


class Align:
    """Convert the file of an AlignNet: `align convert`."""


@dataclass(frozen=True, kw_only=True)
class AlignConvert:
    """Write an AlignNet as a .pt file for the reference's ComfyUI nodes, as .safetensors, or as a folder."""

    input: str
    """a .bin, .pt or .safetensors file of any form, or a folder that training wrote"""
    output: Path
    """a new .pt file, .safetensors file, or folder"""

    @quiet()
    def run(self) -> int:
        """Convert it, and say what it is."""
        from x2i_app.loading.alignnet_forms import convert_alignnet

        sizes = convert_alignnet(self.input, self.output).config
        print(f"{self.output}: {sizes.num_states} states of width {sizes.hidden_size}, fused by {sizes.fusion}")
        return 0


@dataclass(frozen=True, kw_only=True)
class ComfyUI:
    """Put X2I's nodes into a ComfyUI, or remove them."""

    path: Path
    """ComfyUI's folder; may also be given without the flag"""
    remove: Switch = False
    """remove the nodes again"""

    def run(self) -> int:
        """Write or remove a folder in custom_nodes, and say so."""
        from x2i_app.comfyui.install import install, remove

        print(*(remove if self.remove else install)(self.path), sep="\n")
        return 0


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
    """plan a step of training its AlignNet instead of an image; --width is then the side of its latents, in pixels"""
    json: Switch = False
    """bytes, as JSON"""
    settings: PlanSettings = field(default_factory=PlanSettings)

    @quiet()
    def run(self) -> int:
        """Print the plan."""
        if self.distill:
            return self._plan_distillation()
        from x2i_app.loading.report import plan_memory, show_plan, show_plans

        model = self.settings
        if self.all and _first_given(self.settings, "profile"):
            raise InvalidRequestError("--all shows every profile, and --profile one; leave one of them out.")
        profiles = list(MEMORY_PROFILES) if self.all else [model.profile]
        parts = {name: getattr(model, name) for name in ("mllm", "flux", "light_control", "kontext")}
        plans = plan_memory(model.preset, profiles, **parts, width=self.width, height=self.height, gib=self.gib)
        if self.json:
            found = [{"preset": model.preset, "flux": model.flux} | plan.as_dict() for plan in plans]
            print(json.dumps(found if self.all else found[0], indent=2))
        else:
            print(show_plans(plans) if self.all else show_plan(plans[0]))
        return 0

    def _plan_distillation(self) -> int:
        if flag := _first_given(self, "gib", "all") or _first_given(
            self.settings, "light_control", "kontext", "profile"
        ):
            raise InvalidRequestError(
                f"{flag} is about generating an image, and --distill plans a step of training; leave one of them out."
            )
        if None not in (self.width, self.height) and self.width != self.height:
            raise InvalidRequestError(
                f"--width is {self.width} and --height is {self.height}, and a step of training with --distill is "
                "square; give the same number for both, or only one of them."
            )
        from x2i_app.loading.sizes import build_skeleton
        from x2i_app.training.distill import DistillOptions
        from x2i_app.training.plan import plan_distillation, show_distillation

        name, side = ("height", self.height) if self.width is None else ("width", self.width)
        size = {} if side is None else {"resolution": validate_integer(name, side, LIMITS.width)}
        model = self.settings
        plans = plan_distillation(build_skeleton(model.preset, model.mllm, model.flux), DistillOptions(**size))
        if self.json:
            print(json.dumps([asdict(plan) | {"needed": plan.needed} for plan in plans], indent=2))
        else:
            print(show_distillation(plans))
        return 0


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


@quiet()
def _train(arguments: Sequence[str]) -> int:
    """Its jobs are dataclasses too, in modules that import torch."""
    from x2i_app.training import JOBS
    from x2i_app.training.job import run_job

    name, arguments = choose(JOBS, arguments, "x2i train", "Train parts of X2I.")
    job = parse(JOBS[name], arguments, prog=f"x2i train {name}")
    # Of the processes that accelerate has started, only the first one writes files, and others may not be able to.
    with workspace() if os.environ.get("RANK", "0") == "0" else nullcontext():
        return run_job(job)


@dataclass(frozen=True)
class _Output:
    """Where images are written. paths: of each image; empty if a template names them in `folder`. form: of FORMATS."""

    form: str
    folder: Path
    paths: tuple[Path, ...] = ()

    @classmethod
    def of(cls, output: Path, settings: Settings, count: int) -> "_Output":
        """From --output, checked before any work is done."""
        form = {".jpeg": "jpg"}.get(output.suffix.lower(), output.suffix.lower().removeprefix("."))
        is_default = output == Path("x2i.png")
        if output.is_dir() or (settings.output_template and is_default):
            return cls(settings.image_format, Path() if is_default else output)
        if settings.output_template:
            raise InvalidRequestError(f"--output is {str(output)!r}; with --output-template it must be a folder.")
        if is_default:
            output, form = output.with_suffix(f".{settings.image_format}"), settings.image_format
        if form not in FORMATS:
            raise InvalidRequestError(f"--output is {str(output)!r}; it must end in .png, .jpg or .webp.")
        if not output.parent.is_dir():
            raise InvalidRequestError(f"There is no folder {str(output.parent)!r} for --output; make it first.")
        paths = [output] if count == 1 else [output.with_stem(f"{output.stem}-{i}") for i in range(1, count + 1)]
        for path in paths:
            if path.is_dir():
                raise InvalidRequestError(f"--output {str(path)!r} is a folder; give the name of a file.")
        return cls(form, output.parent, tuple(paths))

    def path(self, result: GenerationResult, settings: Settings, number: int) -> Path:
        """The file of image `number`, from 0."""
        if self.paths:
            return self.paths[number]
        name = output_name(settings.output_template or DEFAULT_TEMPLATE, result.facts(number, settings.preset))
        return free_path(self.folder, name, f".{self.form}")


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


def _print_result(result: GenerationResult, paths: Sequence[Path], notes: Sequence[str] = ()) -> None:
    for path, seed in zip(paths, result.seeds, strict=True):
        print(f"{path} (seed {seed})")
    if result.answer:
        print(f"The model answered: {result.answer!r}")
    for note in (*result.notes, *notes):
        print(note)
