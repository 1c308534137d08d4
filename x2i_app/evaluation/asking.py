"""Ask the judges about the images of a run, one judge after the other, and keep their answers."""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from x2i_app.devices import best_device, return_unused_memory
from x2i_app.disk import flush
from x2i_app.errors import EngineError, explain_failure
from x2i_app.evaluation.judges import Judge, Measured, MLLMJudge, Sample, self_check
from x2i_app.evaluation.media import content_hash, drawn
from x2i_app.evaluation.outcome import Options, Outcome, parts_of, phase, read_records
from x2i_app.evaluation.prompts import Problem, Row
from x2i_app.evaluation.similarity import CLIPJudge, DINOJudge, PixelJudge
from x2i_app.evaluation.weights import fingerprint
from x2i_app.loading.sources import find_sources
from x2i_app.media import load_image
from x2i_app.media.hashing import path_hash
from x2i_app.miniature.evaluation.questions import AttributeJudge, known_samples
from x2i_app.presets import PRESETS, known_flux
from x2i_app.settings import ASSETS, Settings

ATTRIBUTES, OWN_MLLM, NO_JUDGE = "attributes", "own", "none"  # judges that are no folders
_PIXELS = "pixels"
ANSWERS = "answers.jsonl"


def ask_judges(outcome: Outcome, options: Options) -> None:
    """One judge after the other, so that only one is in memory."""
    for name, load in _judges(options):
        with phase(outcome, f"judge: {name}"):
            if name not in (ATTRIBUTES, _PIXELS):  # those are small
                return_unused_memory()
            judge = load()
            key = judge.name if judge.name not in outcome.measured else f"{judge.name} (2)"
            digest = fingerprint([judge.directory]) if judge.directory else ""
            asked = f"{key} {digest}"
            check = _self_check(judge, asked, outcome.folder / ANSWERS)
            outcome.judges.append({"name": key, "weights": digest, "notes": list(judge.notes), "self_check": check})
            outcome.measured[key] = _ask(judge, asked, outcome, options.output / "media")
            del judge


def _judges(options: Options) -> Iterator[tuple[str, Callable[[], Judge]]]:
    settings = options.settings
    device = torch.device(settings.device or ("cpu" if settings.profile == "cpu" else best_device()))
    dtype = torch.float32 if device.type == "cpu" else torch.bfloat16
    for name in options.judges or (default_judge(settings),):
        if name == NO_JUDGE:
            continue
        if name == ATTRIBUTES:
            yield name, lambda: AttributeJudge.load(ASSETS / "judge")
            continue
        source = name
        if name == OWN_MLLM:
            source = str(find_sources(settings.preset, **parts_of(settings), models=settings.models).mllm)
        yield name, lambda source=source: MLLMJudge.load(source, device, dtype, settings.models)
    if options.clip:
        yield "CLIP", lambda: CLIPJudge.load(options.clip, device, settings.models)
    if options.dino:
        yield "DINO", lambda: DINOJudge.load(options.dino, device, settings.models)
    yield _PIXELS, PixelJudge


def default_judge(settings: Settings) -> str:
    """The cartoon world's own judge for what draws that world, else the preset's MLLM."""
    flux = known_flux(settings.flux or (PRESETS[settings.preset].flux if settings.preset in PRESETS else ""))
    return ATTRIBUTES if flux and flux.directory else OWN_MLLM


def _self_check(judge: Judge, key: str, path: Path) -> dict[str, Any] | None:
    """That of this judge, from an earlier run if it was there."""
    for record in read_records(path):
        if record.get("judge") == key and "self_check" in record:
            return record["self_check"]
    found = self_check(judge, _drawings())
    with _appending(path) as append:
        append({"judge": key, "self_check": found})
    return found


_drawings = cache(known_samples)  # the same for every judge


def _ask(judge: Judge, key: str, outcome: Outcome, media: Path) -> dict[str, Measured]:
    """What a judge says about every image, by the image's name below the folder; what is in ANSWERS is not asked."""
    path = outcome.folder / ANSWERS
    known = {(each.get("judge"), each.get("sample")): each for each in read_records(path)}
    found: dict[str, Measured] = {}
    todo = [(row, image) for row in outcome.rows for _, _, image in outcome.images(row)]
    with _appending(path) as append:
        for row, image in tqdm(todo, desc=f"judge {judge.name}", unit="image", disable=None):
            name = image.relative_to(outcome.folder).as_posix()
            try:
                digest = _sample_digest(row, name, image)
                record = known.get((key, digest))
                measured = judge.judge(_sample(row, image, media)) if record is None else None
            except Exception as error:  # noqa: BLE001 - no row may stop the others
                why = explain_failure(error, "an image could not be judged")
                outcome.problems.append(Problem(row.place, f"{judge.name} cannot judge it: {why}"))
                continue
            if measured:
                record = {"judge": key, "sample": digest, "image": name, "answers": measured.answers}
                record |= {"scores": dict(measured.scores)}
                append(record)
            found[name] = Measured(tuple(record["answers"]), record["scores"])
    return found


@contextmanager
def _appending(path: Path) -> Iterator[Callable[[Mapping[str, Any]], None]]:
    """Yields what writes one more record, at once to the disk. Raises EngineError."""
    try:
        with path.open("a+b") as file:
            if file.tell() and not path.read_bytes().endswith(b"\n"):
                file.write(b"\n")  # what a killed run began to write

            def append(record: Mapping[str, Any]) -> None:
                file.write(json.dumps(record).encode() + b"\n")
                flush(file)

            yield append
    except OSError as error:
        raise EngineError(f"{str(path)!r} cannot be written ({error.strerror}); make room.") from error


def _sample_digest(row: Row, name: str, image: Path) -> str:
    """A hash of all that a judge sees."""
    media = [each and content_hash(each) for each in (_source(row), row.changed)]
    shown = (name, path_hash(image), [each.text for each in row.questions], row.text, *media)
    return hashlib.sha256(repr(shown).encode()).hexdigest()


def _source(row: Row) -> Any:
    """The image that an edit changes, or the only one that is shown; None if there is none."""
    images = row.request.get("images", ())
    return row.request.get("source") or row.request.get("reference") or (images[0] if len(images) == 1 else None)


def _sample(row: Row, image: Path, media: Path) -> Sample:
    source, changed = (each and load_image(drawn(each, media)) for each in (_source(row), row.changed))
    return Sample(load_image(str(image)), row.questions, row.text, source, changed)
