"""Generate and judge images for every kind of input; write a table, a JSON file and a contact sheet.

python -m x2i_app evaluate --preset x2i-tiny [--scenes 500] [--rows english,image] [--output artifacts/evaluation]
"""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from x2i_app.errors import EngineError, InvalidRequestError
from x2i_app.miniature.autoencoder import reconstruction_psnr
from x2i_app.miniature.evaluation.attributes import Tally, compare, tally_interval
from x2i_app.miniature.evaluation.cases import ROWS, SCENES, Case, Row, cases
from x2i_app.miniature.evaluation.contact_sheet import Example, Section, contact_sheet
from x2i_app.miniature.evaluation.judge import Judge
from x2i_app.miniature.evaluation.likeness import Likeness, likeness
from x2i_app.miniature.evaluation.results import TEACHER_GOAL, Results, RowResult
from x2i_app.miniature.evaluation.sampling import FIRST_SEED, Drawn, Embeds, Sampling, draw, encode, teach
from x2i_app.miniature.pixels import to_tensor
from x2i_app.miniature.pool import pool_image
from x2i_app.miniature.world import Scene, draw_scene
from x2i_app.pipeline import X2IPipeline
from x2i_app.training import TeacherText

EXAMPLES = 3  # cases of each row on the contact sheet: the first ones, not the best
_FRESH = 250  # renders for measuring the judge and the VAE
_LARGEST = 512  # px of these renders
_FRESH_SEED = 7_003
_DEFAULT = Sampling()


@dataclass(frozen=True)
class Models:
    """The pipeline under test, its teacher, and the judge.

    teacher: None if there is none; the rows then have no goals. text_length: tokens to which the teacher pads.
    """

    pipeline: X2IPipeline
    teacher: TeacherText | None
    judge: Judge
    text_length: int = 512


def evaluate(
    models: Models,
    output: Path,
    *,
    preset: str = "x2i-tiny",
    scenes: int = SCENES,
    rows: Sequence[Row] = tuple(ROWS.values()),
    sampling: Sampling = _DEFAULT,
) -> Results:
    """Generate and judge `scenes` images for each row that the MLLM accepts, with a progress bar.

    Prints the rows that it does not accept to standard error. Writes report.json, report.md and contact-sheet.png to
    the folder `output` after every row.
    Raises InvalidRequestError if the MLLM accepts none of the rows, EngineError if the folder cannot be created.
    """
    accepted = models.pipeline.encoder.spec.modalities
    left_out = [row.name for row in rows if not set(row.modalities) <= set(accepted)]
    rows = [row for row in rows if row.name not in left_out]
    if not rows:
        raise InvalidRequestError(f"{preset} accepts {', '.join(accepted)}; each of the given --rows needs more.")
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EngineError(f"{str(output)!r} cannot be created ({error.strerror}); choose another --output.") from error
    done: list[RowResult] = []
    sections: list[Section] = []
    with _progress() as progress:
        if left_out:
            progress.console.print(f"{preset} accepts {', '.join(accepted)}; rows left out: {', '.join(left_out)}.")
        fresh, images = fresh_images(min(scenes, _FRESH), min(sampling.size, _LARGEST))
        # With offloading, the VAE moves to that device when it is called.
        psnr = reconstruction_psnr(models.pipeline.vae, images, device=models.pipeline._execution_device)
        bounds = judge_bounds(models.judge, fresh, images)
        teacher = _judge_teacher(models, scenes, sampling, progress) if models.teacher else None
        for row in rows:
            result, examples = _judge_row(models, row, scenes, sampling, teacher, progress)
            done.append(result)
            sections.append(Section(row.title, result.tally.accuracy, examples))
            results = Results(preset, scenes, sampling.steps, sampling.size, psnr, *bounds, teacher, tuple(done))
            _write(results, sections, output)
    return results


def fresh_images(count: int, size: int) -> tuple[list[Scene], np.ndarray]:
    """`count` scenes, and renders of them, uint8 (N, size, size, 3), on which nothing was trained."""
    drawn = [pool_image(index, None, _FRESH_SEED) for index in range(count)]
    images = [draw_scene(scene, size, moment, seed) for scene, moment, seed in drawn]
    return [scene for scene, *_ in drawn], np.stack([np.asarray(image) for image in images])


def judge_bounds(judge: Judge, scenes: Sequence[Scene], images: np.ndarray) -> tuple[float, float]:
    """Shares of attributes, 0 to 1, that the judge finds in renders of the same scenes, and of other scenes."""
    readings = judge.read(to_tensor(images))
    others = [*scenes[1:], scenes[0]]
    own, other = (sum(map(compare, readings, wanted), Tally()) for wanted in (scenes, others))
    return own.accuracy, other.accuracy


def _judge_teacher(models, scenes, sampling, progress):
    """The English row with T5's and CLIP's embeddings; all goals are relative to its accuracy."""
    start = time.monotonic()
    asked = cases(ROWS["english"], scenes)
    embeds = teach(models.teacher, [case.dialogue[-1].text for case in asked], models.text_length)
    drawn = _draw(models, "teacher", embeds, sampling, progress)
    return RowResult(
        "teacher",
        "teacher, English",
        scenes,
        *_tallies(asked, models.judge, drawn.images),
        likeness=_likeness(asked, drawn),
        exact=None,
        told=None,
        goal=TEACHER_GOAL,
        seconds=time.monotonic() - start,
    )


def _likeness(asked: Sequence[Case], drawn: Drawn) -> Likeness | None:
    pairs = zip(drawn.whole, (case.wanted for case in asked), strict=False)
    found = likeness(
        [(image, wanted) for image, wanted in pairs if isinstance(wanted, Scene)]
    )  # no audio: it has no sizes
    return found if found.found else None


def _judge_row(models, row, scenes, sampling, teacher, progress):
    start = time.monotonic()
    asked = cases(row, scenes)
    with _bar(progress, f"{row.title}: reading", scenes) as advance:
        encoded = encode(models.pipeline, asked, advance)
    drawn = _draw(models, row.title, [each.embeds for each in encoded], sampling, progress)
    answers = [each.answer for each in encoded]
    exact = sum(answer == case.answer for answer, case in zip(answers, asked, strict=True)) / scenes
    result = RowResult(
        row.name,
        row.title,
        scenes,
        *_tallies(asked, models.judge, drawn.images),
        likeness=_likeness(asked, drawn),
        exact=None if None in answers else exact,
        told=None if None in answers else sum(each.is_told for each in encoded) / scenes,
        goal=row.factor * teacher.tally.accuracy if teacher else None,
        seconds=time.monotonic() - start,
    )
    return result, _examples(models, asked[:EXAMPLES], drawn.images, sampling, progress)


def _draw(models, title: str, embeds: Sequence[Embeds], sampling: Sampling, progress: Progress) -> Drawn:
    with _bar(progress, f"{title}: drawing", len(embeds)) as advance:
        return draw(models.pipeline, embeds, range(FIRST_SEED, FIRST_SEED + len(embeds)), sampling, advance)


def _tallies(
    asked: Sequence[Case], judge: Judge, images: torch.Tensor
) -> tuple[Tally, tuple[float, float] | None, Tally, Tally]:
    """The tally of all attributes, the interval of its accuracy, and the tallies of unchanged and untrained ones."""
    pairs = list(zip(asked, judge.read(images), strict=True))
    found = [compare(reading, case.wanted) for case, reading in pairs]
    return (
        sum(found, Tally()),
        tally_interval(found),
        sum((compare(reading, case.wanted, case.unchanged) for case, reading in pairs if case.shown), Tally()),
        sum((compare(reading, case.wanted, case.untrained) for case, reading in pairs if case.untrained), Tally()),
    )


def _examples(models, asked, images, sampling, progress) -> list[Example]:
    taught = None
    if models.teacher:
        embeds = teach(models.teacher, [case.answer for case in asked], models.text_length)
        taught = _draw(models, "teacher", embeds, sampling, progress).images
    examples = []
    for index, case in enumerate(asked):
        drawn = [images[index : index + 1], *([] if taught is None else [taught[index : index + 1]])]
        judged = [(one[0], compare(models.judge.read(one)[0], case.wanted)) for one in drawn]
        examples.append(Example(case, judged[0], judged[1] if taught is not None else None))
    return examples


def _write(results: Results, sections: Sequence[Section], output: Path) -> None:
    (output / "report.json").write_text(json.dumps(results.as_dict(), indent=2) + "\n", encoding="utf-8")
    (output / "report.md").write_text(results.as_markdown(), encoding="utf-8")
    contact_sheet(results.title, sections).save(output / "contact-sheet.png")


def _progress() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True), transient=True)


@contextmanager
def _bar(progress: Progress, title: str, total: int) -> Iterator[Callable[[int], None]]:
    """A progress bar for one task; call the yielded function with the number of steps that were done."""
    task = progress.add_task(title, total=total)
    try:
        yield lambda count: progress.advance(task, count)
    finally:
        progress.remove_task(task)
