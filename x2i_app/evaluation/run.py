"""One run of a prompt set: draw its media, the student's images and the teacher's, ask the judges, keep all of it.

The folder of a run:

    run.json             what decides the images; a run with other values is refused
    media/               media that rows describe, drawn once
    student/             images, and results.jsonl of `x2i_app.batch`
    teacher/             images of T5 and CLIP: same noise, same steps
    answers.jsonl        what each judge says about each image
    report.json, .md, .html

Images and answers are on disk before the next ones begin, so a run that was killed continues where it was.
"""

import hashlib
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from x2i_app.batch import RESULTS
from x2i_app.errors import InvalidRequestError
from x2i_app.evaluation.asking import ANSWERS, ATTRIBUTES, NO_JUDGE, OWN_MLLM, ask_judges
from x2i_app.evaluation.images import TEXT_ENCODERS, draw_student, draw_teacher, has_text_encoders
from x2i_app.evaluation.judges import find_judge
from x2i_app.evaluation.media import content_hash
from x2i_app.evaluation.outcome import STUDENT, TEACHER, Options, Outcome, parts_of, phase, write_whole
from x2i_app.evaluation.prompts import Problem, PromptSet
from x2i_app.evaluation.similarity import find_clip, find_dino
from x2i_app.evaluation.weights import pipeline_fingerprints
from x2i_app.loading.sources import find_sources

RUN = "run.json"
_NO_QUESTIONS = "it has no questions, so it is drawn but not judged; add questions, or --clip."


def run(prompts: PromptSet, options: Options) -> Outcome:
    """Draw and judge what is not done yet. Raises X2IError."""
    rows = prompts.spread(options.limit)
    if options.shard:
        number, count = options.shard
        rows = rows[number - 1 :: count]
        if not rows:
            raise InvalidRequestError(f"Shard {number} of {count} has no rows; use at most {len(prompts.rows)} shards.")
    sources = find_sources(options.settings.preset, **parts_of(options.settings), models=options.settings.models)
    _check_what_comes_later(options, sources.flux.base)
    identity = _identity(prompts, options, pipeline_fingerprints(sources))
    outcome = Outcome(prompts, rows, identity, options.folder, options.seeds, problems=list(prompts.problems))
    _begin(options.folder, identity)
    if options.shard is None:
        _take_over_shards(options.output, identity)
    with phase(outcome, STUDENT):
        draw_student(outcome, options)
    if options.teacher or (options.teacher is None and has_text_encoders(sources.flux.base)):
        draw_teacher(outcome, options)
    elif options.teacher is None:
        print(
            "x2i: the FLUX model's folder has no T5 and CLIP, so there is no teacher to compare with.", file=sys.stderr
        )
    if not options.clip:
        outcome.problems += [Problem(row.place, _NO_QUESTIONS) for row in rows if not row.questions]
    ask_judges(outcome, options)
    return outcome


def _check_what_comes_later(options: Options, flux: Path) -> None:
    """Find the judges and the teacher before hours of drawing. Raises X2IError."""
    for name in options.judges:
        if name not in (ATTRIBUTES, OWN_MLLM, NO_JUDGE):
            find_judge(name, options.settings.models)
    if options.clip:
        find_clip(options.clip, options.settings.models)
    if options.dino:
        find_dino(options.dino, options.settings.models)
    if options.teacher and Path(options.settings.flux or "").is_dir() and not has_text_encoders(flux):
        raise InvalidRequestError(
            f"--teacher needs T5 and CLIP, and {str(flux)!r} has not all of {', '.join(TEXT_ENCODERS)}."
        )


def _identity(prompts: PromptSet, options: Options, weights: Mapping[str, str]) -> dict[str, Any]:
    """All that the images depend on."""
    return {
        "preset": options.settings.preset,
        "prompts": {"name": prompts.name, "form": prompts.form, "sha256": prompts.digest},
        "media": hashlib.sha256(repr([[*map(content_hash, row.media)] for row in prompts.rows]).encode()).hexdigest(),
        "steps": options.steps,
        "size": options.size,
        "weights": dict(weights),
    }


def _begin(folder: Path, identity: Mapping[str, Any]) -> None:
    """Make the folder, or check that it holds the same run. Raises InvalidRequestError."""
    path = folder / RUN
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if path.is_file():
            known = json.loads(path.read_text(encoding="utf-8"))
            changed = [name for name in identity if known.get(name) != identity[name]]
            if changed:
                raise InvalidRequestError(
                    f"--output {str(folder)!r} holds a run with other {' and '.join(changed)}; choose another folder."
                )
        else:
            write_whole(path, json.dumps(identity, indent=2) + "\n")
    except OSError as error:
        raise InvalidRequestError(
            f"--output {str(folder)!r} cannot be used ({error.strerror}); choose a folder."
        ) from error
    except (ValueError, AttributeError):
        raise InvalidRequestError(f"{str(path)!r} is damaged; remove it, or choose another --output.") from None


def _take_over_shards(output: Path, identity: Mapping[str, Any]) -> None:
    """Images and answers of finished and unfinished shards become those of the whole run."""
    for shard in sorted(output.glob("shard-*-of-*")):
        if not (shard / RUN).is_file() or json.loads((shard / RUN).read_text(encoding="utf-8")) != identity:
            continue
        for image in (*shard.glob(f"{STUDENT}/*.png"), *shard.glob(f"{TEACHER}/*.png")):
            target = output / image.relative_to(shard)
            target.parent.mkdir(exist_ok=True)
            if not target.exists():
                os.link(image, target) if hasattr(os, "link") else target.write_bytes(image.read_bytes())
        for name in (f"{STUDENT}/{RESULTS}", ANSWERS):
            known = (output / name).read_bytes() if (output / name).is_file() else b""
            added = (shard / name).read_bytes() if (shard / name).is_file() else b""
            fresh = [each for each in added.splitlines(keepends=True) if each.endswith(b"\n") and each not in known]
            if fresh:
                with (output / name).open("ab") as file:
                    file.writelines(fresh)
