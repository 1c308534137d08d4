"""app, generate and batch: what draws images."""

import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

import tyro

from x2i_app.commands.flags import ClusterOptions, Files, ImageOptions, Switch
from x2i_app.errors import EngineError, InvalidRequestError
from x2i_app.hosting import use_persistent_storage
from x2i_app.notes import readable_answer
from x2i_app.output_names import DEFAULT_TEMPLATE, free_path, output_name
from x2i_app.request import (
    IMAGE_SETTINGS,
    LATER_SETTINGS,
    NOTHING_ADDED,
    SETTINGS,
    GenerationRequest,
    GenerationResult,
)
from x2i_app.settings import FORMATS, FileSettings, Settings

if TYPE_CHECKING:
    from x2i_app.serving.engine import Engine
    from x2i_app.serving.jobs import Job
    from x2i_app.specs import FluxSpec


_EDITING = ("source", "mask", "outpaint", "mask_grow", "mask_feather", "only_masked", "controlnet_image")


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
    controlnet_image: str | None = None
    """image that the ControlNet follows (--controlnet): a photo or its edges for canny, else such as a depth map"""
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
        for file in filter(None, (self.mask, self.source, self.controlnet_image, *self.reference)):
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
        recipe = read_recipe(self.from_image).for_flux(flux, bool(self.settings.controlnet))
        if recipe.request.loras:  # those of this machine need not be given again
            recipe = replace(recipe, request=recipe.with_known([*known_loras(self.settings).values()]))
        for note in recipe.notes:
            print(f"x2i: {note}", file=sys.stderr)
        if recipe.preset and recipe.preset != self.settings.preset:
            advice = f"--preset {recipe.preset} would use the same model"
            print(f"x2i: {recipe.preset} generated {self.from_image}; {advice}.", file=sys.stderr)
        if self.controlnet_image:
            recipe = replace(recipe, request=replace(recipe.request, controlnet_image=self.controlnet_image))
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
        from x2i_app.batch import RESULTS, run_batch
        from x2i_app.rows import local_lora

        given, draw = self.given(), self.cluster.draw()
        if self.loras:
            given["loras"] = [(local_lora(name, models=self.settings.models), weight) for name, weight in self.loras]
        outcome = run_batch(Settings(**asdict(self.settings)), self.input, self.output, given, draw)
        rows = "row" if outcome.drawn == 1 else "rows"
        print(f"{outcome.drawn} {rows} drawn, {outcome.failed} failed, {outcome.kept} drawn before: {self.output}")
        if outcome.noted:
            print(f"Read the notes in {self.output / RESULTS} on rows just drawn: {outcome.noted}")
        return 1 if outcome.failed else 0


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
        print(f"The model answered: {readable_answer(result.answer)!r}")
    for note in (*result.notes, *notes):
        print(note)
