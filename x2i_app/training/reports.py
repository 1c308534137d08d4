"""What a training run shows: history.jsonl, loss.png, and sheets of sample images."""

import json
import textwrap
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from accelerate import PartialState
from diffusers import FlowMatchEulerDiscreteScheduler, FluxKontextPipeline, FluxPipeline
from PIL import Image, ImageDraw, ImageOps

from x2i_app.training.checkpoints import replace_text, written_to
from x2i_app.training.frozen import FluxParts

if TYPE_CHECKING:
    from x2i_app.training.loop import LoopOptions

_AVERAGED_STEPS = 25  # that one record of the history averages over, fewer in a short run
_PLOT_SECONDS = 30  # between plots, each of which takes as long as some steps of a small model
_NOT_LOSSES = ("step", "learning_rate", "seconds_per_step")

_TILE, _GAP, _TITLE_HEIGHT, _ROW_HEIGHT = 256, 8, 32, 14  # pixels
_CONTACT_ROWS = 10  # of earlier sheets
_CAPTION_ROWS, _CAPTION_COLUMNS = 4, 40  # characters
_PAPER, _INK = (255, 255, 255), (32, 34, 46)


class History:
    """Means over some steps, a JSON record each, in history.jsonl; a resumed run drops the records of its own steps.

    start: the first step to come. steps: of the whole run. latest: the newest means, with learning_rate and samples/s.
    """

    def __init__(self, directory: Path, start: int, steps: int, title: str):
        self.path, self.title = directory / "history.jsonl", title
        self.latest: dict[str, float] = {}
        self._averaged_steps = min(_AVERAGED_STEPS, max(1, steps // 10))
        self._next_plot = time.monotonic() + _PLOT_SECONDS
        self._reset()
        records = self.path.read_text(encoding="utf-8").splitlines() if self.path.is_file() else []
        with written_to(directory):
            replace_text(self.path, "".join(f"{record}\n" for record in records if _step(record) < start))

    def add(self, step: int, terms: Mapping[str, float], learning_rate: float, samples: int) -> bool:
        """Add a step, which used so many samples; whether a record was written. Raises TrainingError on a full disk."""
        for name, value in terms.items():
            self._sums[name] = self._sums.get(name, 0.0) + value
        self._count += 1
        self._samples += samples
        if (step + 1) % self._averaged_steps:
            return False
        seconds = time.monotonic() - self._since
        means = {name: value / self._count for name, value in self._sums.items()}
        rates = {"learning_rate": learning_rate, "seconds_per_step": round(seconds / self._count, 4)}
        with written_to(self.path.parent), self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, **means, **rates}) + "\n")
        speed = self._samples / max(seconds, 1e-9)
        self.latest = {**means, "learning_rate": learning_rate, "samples/s": speed}
        self.summary = {name: f"{value:.4f}" for name, value in means.items()} | {"samples/s": f"{speed:.3g}"}
        self._reset()
        return True

    def note(self, step: int, values: Mapping[str, float]) -> None:
        """Add values that are known only after some steps, such as the loss of held-out images."""
        with written_to(self.path.parent), self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step - 1, **values}) + "\n")

    def plot(self) -> None:
        """Write loss.png."""
        with written_to(self.path.parent):
            plot_losses(self.path, self.path.with_name("loss.png"), self.title)
        self._next_plot = time.monotonic() + _PLOT_SECONDS

    def plot_sometimes(self) -> None:
        """The same if the last plot is old enough."""
        if time.monotonic() > self._next_plot:
            self.plot()

    def _reset(self) -> None:
        self._sums: dict[str, float] = {}
        self._count, self._samples, self._since = 0, 0, time.monotonic()


def _step(record: str) -> float:
    """Of a record; infinite if it was cut while it was written."""
    try:
        return json.loads(record)["step"]
    except (ValueError, LookupError, TypeError):
        return float("inf")


def plot_losses(history: Path, output: Path, title: str) -> None:
    """Draw every loss term of a history.jsonl over the steps, on a logarithmic axis, as a PNG."""
    # Imported here as it takes seconds, and only training draws plots.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    records = [json.loads(record) for record in history.read_text(encoding="utf-8").splitlines()]
    if not records:
        return
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.add_subplot(title=title, xlabel="step", ylabel="loss", yscale="log")
    axes.grid(alpha=0.3)
    for name in dict.fromkeys(key for record in records for key in record if key not in _NOT_LOSSES):
        points = [(record["step"], record[name]) for record in records if record.get(name, 0) > 0]
        if points:
            axes.plot(*zip(*points, strict=True), label=f"{name} {points[-1][1]:.4g}", linewidth=1.2)
    axes.legend()
    axes.yaxis.set_major_formatter("{x:g}")  # 20 rather than 2 x 10^1
    if axes.get_ylim()[1] < 20 * axes.get_ylim()[0]:  # on a longer axis they would overlap
        axes.yaxis.set_minor_formatter("{x:g}")
    FigureCanvasAgg(figure).print_png(output)


def describe_run(
    title: str, data: Any, options: "LoopOptions", devices: int, step_samples: int, speed: float, start: int
) -> str:
    """One line on a run: what a step takes, how many epochs all steps are, and how long they will take.

    data: with `batch_size` and `count`, the number of samples, if it knows them. step_samples: of a step, as counted.
    speed: samples/s. start: steps that were done before.
    """
    batch_size = getattr(data, "batch_size", step_samples // (options.accumulate * devices))
    mean = getattr(data, "mean_batch_size", batch_size)
    total = mean * options.accumulate * devices
    fewer = f" ({mean:.3g} on average, as a batch holds captions of one length)" if mean < batch_size else ""
    epochs, found = "", getattr(data, "count", None)
    if found:
        epochs = f" = {options.steps * total / found:,.3g} epochs of {found:,}"
    seconds = (options.steps - start) * total / speed
    left = (
        f"{seconds:.0f} s"
        if seconds < 120
        else f"{seconds / 60:.0f} min"
        if seconds < 7200
        else f"{seconds / 3600:.1f} h"
    )
    again = f", {start:,} of them done before" if start else ""
    machines = f"{devices} device{'s' * (devices > 1)}"
    return (
        f"{title}: batch_size {batch_size}{fewer} x accumulate {options.accumulate} x {machines} = "
        f"{total:.4g} samples a step; {options.steps:,} steps{again} = {options.steps * total:,.0f} samples{epochs}; "
        f"{speed:.3g} samples/s, about {left} left"
    )


class Sampler:
    """FLUX.1 as its own pipeline draws, for sample images."""

    def __init__(
        self,
        flux: FluxParts,
        device: torch.device,
        side: int,
        num_inference_steps: int,
        guidance: float,
        takes_reference: bool = False,
    ):
        """side: of an image, in pixels. takes_reference: whether FLUX is a FLUX.1 Kontext."""
        self.device = device
        scheduler = FlowMatchEulerDiscreteScheduler.from_config(flux.scheduler.config)
        no_text = dict.fromkeys(("text_encoder", "tokenizer", "text_encoder_2", "tokenizer_2"))
        self.side, self.takes_reference = side, takes_reference
        pipeline_class = FluxKontextPipeline if takes_reference else FluxPipeline
        self.pipeline = pipeline_class(scheduler, flux.vae, transformer=flux.transformer, **no_text)
        self.pipeline.set_progress_bar_config(disable=True)
        self.options = {"width": side, "height": side, "guidance_scale": guidance}
        self.options |= {"num_inference_steps": num_inference_steps}

    def __call__(
        self, seed: int, prompt_embeds: torch.Tensor, pooled: torch.Tensor, reference: Image.Image | None = None
    ) -> Image.Image:
        """prompt_embeds: (1, S, joint). pooled: (1, pooled). seed: of the noise. reference: for a FLUX.1 Kontext.

        The VAE is moved to the device and back, so that its memory is free while the model learns.
        """
        home = self.pipeline.vae.device
        self.pipeline.vae.to(self.device)
        dtype, kontext = self.pipeline.transformer.dtype, {}
        if self.takes_reference:
            kontext = {"image": reference and ImageOps.fit(reference, (self.side, self.side)), "_auto_resize": False}
            kontext["max_area"] = self.side**2
        image = self.pipeline(
            prompt_embeds=prompt_embeds.to(self.device, dtype),
            pooled_prompt_embeds=pooled.to(self.device, dtype),
            generator=torch.Generator().manual_seed(seed),
            **self.options,
            **kontext,
        ).images[0]
        self.pipeline.vae.to(home)
        return image


def write_sheet(
    directory: Path, step: int, captions: Sequence[str], rows: Mapping[str, Sequence[Image.Image]]
) -> Image.Image | None:
    """Write samples/step-00000100.png: a column for each caption, rows of images with their names; the sheet.

    The last row of all sheets, below each other, is contact-sheet.png. Only the main process writes, though all of
    them draw: a sharded FLUX runs in all processes or in none. The others get None.
    """
    if not PartialState().is_main_process:
        return None
    folder = directory / "samples"
    folder.mkdir(parents=True, exist_ok=True)
    sheet = compose_sheet(captions, rows)
    _save_whole(sheet, folder / f"step-{step:08d}.png")
    _save_whole(_contact_sheet(sorted(folder.glob("step-*.png"))), directory / "contact-sheet.png")
    return sheet


def _save_whole(image: Image.Image, path: Path) -> None:
    image.save(path.with_suffix(".tmp"), "PNG")
    path.with_suffix(".tmp").replace(path)


def _contact_sheet(sheets: Sequence[Path]) -> Image.Image:
    """The newest sheet with the last rows of the earlier ones between its others and its own; some, if there are many.

    Sheets of another width, from a run with other captions, are left out.
    """
    row = _TITLE_HEIGHT + _TILE + _GAP
    *earlier, newest = (Image.open(path) for path in sheets)
    earlier = [sheet for sheet in earlier if sheet.width == newest.width]
    earlier = earlier[:: -(-len(earlier) // _CONTACT_ROWS) or 1]
    contact = Image.new("RGB", (newest.width, newest.height + row * len(earlier)), _PAPER)
    contact.paste(newest.crop((0, 0, newest.width, newest.height - row)), (0, 0))
    for index, sheet in enumerate([*earlier, newest]):
        last = sheet.crop((0, sheet.height - row, sheet.width, sheet.height))
        contact.paste(last, (0, newest.height + row * (index - 1)))
    return contact


def compose_sheet(captions: Sequence[str], rows: Mapping[str, Sequence[Image.Image]]) -> Image.Image:
    """The captions on top, and below them the rows of images, each below its name."""
    step = _TILE + _GAP
    head = _GAP + _CAPTION_ROWS * _ROW_HEIGHT
    sheet = Image.new("RGB", (_GAP + len(captions) * step, head + len(rows) * (_TITLE_HEIGHT + step)), _PAPER)
    draw = ImageDraw.Draw(sheet)
    for column, caption in enumerate(captions):
        draw.text((_GAP + column * step, _GAP), _wrap(caption), fill=_INK)
    for row, (name, images) in enumerate(rows.items()):
        top = head + row * (_TITLE_HEIGHT + step)
        draw.text((_GAP, top + _GAP), name, fill=_INK)
        for column, image in enumerate(images):
            tile = ImageOps.fit(image.convert("RGB"), (_TILE, _TILE), Image.Resampling.BICUBIC)
            sheet.paste(tile, (_GAP + column * step, top + _TITLE_HEIGHT))
    return sheet


def _wrap(caption: str) -> str:
    """A caption in a few rows of the characters that Pillow's own font has."""
    shown = caption.encode("latin-1", "replace").decode("latin-1")
    return textwrap.fill(shown, _CAPTION_COLUMNS, max_lines=_CAPTION_ROWS, placeholder=" ...")
