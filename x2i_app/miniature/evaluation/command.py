"""`python -m x2i_app evaluate`: check the options, load the models, evaluate, print the table."""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from rich.console import Console

from x2i_app.errors import InvalidRequestError
from x2i_app.evaluation.goals import check_names, missed_goals
from x2i_app.limits import LIMITS, Range, validate_integer
from x2i_app.loading import load_pipeline
from x2i_app.miniature.evaluation.cases import find_rows
from x2i_app.miniature.evaluation.evaluate import Models, evaluate
from x2i_app.miniature.evaluation.judge import Judge
from x2i_app.miniature.evaluation.sampling import Sampling
from x2i_app.pipeline import X2IPipeline
from x2i_app.presets import PRESETS, known_flux
from x2i_app.settings import ASSETS, MODEL_SETTINGS, Settings
from x2i_app.training import TeacherText

JUDGE = ASSETS / "judge"
SCENES_RANGE = Range(1, 100_000)
_RESOLUTION, _STEPS = 1024, 4  # for FLUX models that are not in the registry
_TEXT_LENGTH = 512  # tokens: the most that FLUX.1 reads
_TEXT_ENCODERS = ("text_encoder", "tokenizer", "text_encoder_2", "tokenizer_2")


def run(
    settings: Settings,
    output: Path,
    scenes: float,
    rows: str,
    steps: float | None,
    goals: Mapping[str, float] = MappingProxyType({}),
    *,
    as_json: bool = False,
) -> int:
    """Evaluate the model of `settings` and write a report to the folder `output`; status 1 if a row misses its goal.

    scenes, steps: numbers, or strings as the user typed them; without steps, the FLUX model's default is used.
    rows: names separated by commas; empty for all. Raises X2IError.
    """
    # 1. Check
    scenes = validate_integer("scenes", scenes, SCENES_RANGE)
    chosen = find_rows([name for name in (part.strip() for part in rows.split(",")) if name])
    check_names(goals, [row.name for row in chosen])
    name = settings.flux or (PRESETS[settings.preset].flux if settings.preset in PRESETS else "")
    flux = known_flux(name)
    if steps is None:
        steps = flux.num_inference_steps if flux else _STEPS
    steps = validate_integer("steps", steps, LIMITS.num_inference_steps)
    if not next(path for path in (output, *output.absolute().parents) if path.exists()).is_dir():
        raise InvalidRequestError(f"--output {str(output)!r} is a file or lies below one; choose a folder.")
    # 2. Load
    pipeline = load_pipeline(**{name: getattr(settings, name) for name in MODEL_SETTINGS})
    directory = ASSETS / flux.directory if flux and flux.directory else Path(name)
    models = load_models(pipeline, directory)
    # 3. Evaluate
    sampling = Sampling(steps, flux.resolution, flux.guidance_scale) if flux else Sampling(steps, _RESOLUTION)
    results = evaluate(models, output, preset=settings.preset, scenes=scenes, rows=chosen, sampling=sampling)
    if as_json:
        print(json.dumps(results.as_dict()))
    else:
        console = Console()
        console.print(results.as_table(console.width))
        console.print(f"Wrote report.json, report.md and contact-sheet.png to {output}")
    missed = missed_goals(goals, {row.name: row.tally.accuracy for row in results.rows})
    for sentence in missed:
        print(f"x2i: {sentence}", file=sys.stderr)
    return 1 if missed else 0


def load_models(pipeline: X2IPipeline, flux_directory: Path) -> Models:
    """The pipeline with its judge, and with its teacher if the FLUX model's folder also has its text encoders."""
    judge = Judge.load(JUDGE)
    if not all((flux_directory / name).is_dir() for name in _TEXT_ENCODERS):
        return Models(pipeline, None, judge)
    teacher = TeacherText.load(flux_directory, pipeline.transformer.dtype)
    for part in (teacher.text_encoder, teacher.text_encoder_2):
        part.to(pipeline.transformer.device)
    config = json.loads((flux_directory / "tokenizer_2" / "tokenizer_config.json").read_text(encoding="utf-8"))
    return Models(pipeline, teacher, judge, min(_TEXT_LENGTH, config.get("model_max_length", _TEXT_LENGTH)))
