"""Many requests in one go: rows in, PNG files and a line of JSON for each row out.

A row's line is written after its pictures are on the disk, so that a run killed at any moment goes on where it was:
started again, it draws the rows that have no line, failed, or are not what they were.
"""

import json
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from x2i_app.errors import EngineError, InvalidRequestError, X2IError
from x2i_app.media import describe, save_png
from x2i_app.request import IMAGE_SETTINGS, SETTINGS, GenerationRequest, GenerationResult
from x2i_app.rows import Row, read_rows
from x2i_app.serving.engine import Engine
from x2i_app.serving.jobs import Job
from x2i_app.settings import MODEL_SETTINGS, Settings

RESULTS = "results.jsonl"
_FIELDS = SETTINGS | IMAGE_SETTINGS
_IN_HAND = 2  # while a row's files are written, the next one is drawn already


@dataclass
class Outcome:
    """How many rows were drawn now, failed now, and were kept because an earlier run had drawn them."""

    drawn: int = 0
    failed: int = 0
    kept: int = 0


@dataclass(frozen=True)
class Batch:
    """What whoever draws must know: the model, and the folder for the pictures."""

    settings: Settings
    output: Path

    @property
    def model(self) -> dict[str, Any]:
        """The settings that decide a picture, for the digests of rows."""
        return {name: getattr(self.settings, name) for name in MODEL_SETTINGS}


Line = dict[str, Any]  # of RESULTS
Draw = Callable[[Batch, Iterable[Row], tqdm], Iterator[Line]]


def run_batch(
    settings: Settings, source: Path, output: Path, defaults: Mapping[str, Any], draw: Draw | None = None
) -> Outcome:
    """Draw every row of `source` into the folder `output`; `read_rows` says what a source and its `defaults` are.

    draw: writes the pictures of rows and gives back a line for each, in any order; None does it in this process.
    A row that fails gets a line that says why, and the next one comes. Raises InvalidRequestError for a source or an
    output that cannot be used, and EngineError if the model cannot be loaded or a file cannot be written.
    """
    given = {_FIELDS.get(name, name): value for name, value in defaults.items()}
    GenerationRequest(**{"prompt": "any", "source_image": "any"} | given)
    batch = Batch(settings, output)
    count, rows = read_rows(source, defaults)
    if source.is_dir() and output.absolute().resolve().is_relative_to(source.resolve()):
        raise InvalidRequestError("--output lies in the folder of --input; its pictures would be drawn from next time.")
    try:
        output.mkdir(parents=True, exist_ok=True)
        done = _keep_what_is_done(output, rows, batch.model)
        results = (output / RESULTS).open("ab")
    except OSError as error:
        raise InvalidRequestError(
            f"--output {str(output)!r} cannot be used ({error.strerror}); give the name of a folder."
        ) from error
    outcome = Outcome(kept=len(done))
    try:  # around the file too: what a full disk did not take is tried, and refused, once more when it is closed
        with results, tqdm(total=count, initial=len(done), unit="row", disable=None) as bar:
            todo = (row for row in read_rows(source, defaults)[1] if row.error or row.name not in done)
            with closing((draw or draw_here)(batch, todo, bar)) as lines:
                for line in lines:
                    results.write(json.dumps(line, ensure_ascii=False).encode() + b"\n")
                    _flush(results)
                    outcome.failed += "error" in line
                    outcome.drawn += "error" not in line
                    bar.update()
    except OSError as error:
        raise EngineError(
            f"{str(output)!r} cannot be written to ({error.strerror}); what is done is kept: make room and start "
            "again to go on from there."
        ) from error
    return outcome


def _keep_what_is_done(output: Path, rows: Iterable[Row], model: Mapping[str, Any]) -> set[str]:
    """The names of the rows that need no drawing; of the others' lines, which would be wrong soon, none stays."""
    path = output / RESULTS
    if not path.exists():
        return set()
    digests = {row.name: row.digest(model) for row in rows if not row.error}
    done, kept = set(), []
    with path.open("rb") as file:
        for line in file:
            try:
                known = json.loads(line)
                name, files, digest = known["id"], known["files"], known["digest"]
            except (ValueError, KeyError, TypeError):
                continue  # a row that failed, or the last line of a killed run, which may be half a line
            if name not in digests:
                kept.append(line)  # of another batch, into the same folder
            elif digest == digests[name] and all((output / file).is_file() for file in files):
                done.add(name)
                kept.append(line)
    fresh = path.with_suffix(".tmp")
    with fresh.open("wb") as file:
        file.writelines(kept)
        _flush(file)
    fresh.replace(path)
    return done


def draw_here(batch: Batch, rows: Iterable[Row], bar: tqdm) -> Iterator[Line]:
    """Draw rows with one model in this process, in their order. Raises EngineError if it cannot be loaded."""
    engine = Engine(batch.settings)
    try:
        engine.start()
        for row, result in _draw(engine, rows, bar):
            yield write_row(batch, row, result)
    finally:
        engine.close()


def write_row(batch: Batch, row: Row, result: GenerationResult | X2IError) -> Line:
    """Put the row's pictures on the disk; its line of RESULTS."""
    if isinstance(result, X2IError):
        return {"id": row.name, "place": row.place, "error": str(result)}
    for name, image, texts in zip(row.images, result.images, describe(result, batch.settings), strict=True):
        path = batch.output / name
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = path.with_name(f".{path.name}.tmp")  # a picture is there as a whole or not at all
        try:
            with fresh.open("wb") as file:
                save_png(image, file, texts)
                _flush(file)
            fresh.replace(path)
        finally:
            fresh.unlink(missing_ok=True)  # where the disk was full, what it took is in the way
    line = {"id": row.name, "place": row.place, "files": list(row.images), "prompt": result.request.prompt}
    return line | result.report() | {"digest": row.digest(batch.model)}


def _draw(engine: Engine, rows: Iterable[Row], bar: tqdm) -> Iterator[tuple[Row, GenerationResult | X2IError]]:
    """Each row with its result or its error, in order."""
    hand: deque[tuple[Row, Job | X2IError]] = deque()
    for row in rows:
        try:
            hand.append((row, engine.submit(row.request())))
        except X2IError as error:
            hand.append((row, error))
        if len(hand) == _IN_HAND:
            yield _wait(engine, *hand.popleft(), bar)
    while hand:
        yield _wait(engine, *hand.popleft(), bar)


def _wait(engine: Engine, row: Row, job: Job | X2IError, bar: tqdm) -> tuple[Row, GenerationResult | X2IError]:
    result = job
    if isinstance(job, Job):
        for moment in job.watch():
            steps = f" {moment.step}/{moment.steps}" if moment.steps else ""
            bar.set_postfix_str(f"{row.name}: {moment.phase}{steps}")
        result = job.error or job.result
    if isinstance(result, EngineError) and engine.status.state == "failed":
        raise result  # no model, no rows
    return row, result


def _flush(file) -> None:
    file.flush()
    os.fsync(file.fileno())
