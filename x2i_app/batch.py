"""Run many requests: for each row, write PNG files and a record in results.jsonl.

The record of a row is written after its images are on disk. A run can therefore resume after it was killed at any time:
it generates the rows that have no record, failed, or changed.
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
_FLAG_FIELDS = SETTINGS | IMAGE_SETTINGS
_IN_HAND = 2  # while the files of a row are written, the next row is generated


@dataclass
class Outcome:
    """How many rows were generated, failed, and were kept because an earlier run had generated them."""

    drawn: int = 0
    failed: int = 0
    kept: int = 0


@dataclass(frozen=True)
class Batch:
    """What all rows share: the settings of the model, and the folder for the images."""

    settings: Settings
    output: Path

    @property
    def model(self) -> dict[str, Any]:
        """The settings on which an image depends, for the digests of rows."""
        return {name: getattr(self.settings, name) for name in MODEL_SETTINGS}


Record = dict[str, Any]  # of RESULTS
Draw = Callable[[Batch, Iterable[Row], tqdm], Iterator[Record]]


def run_batch(
    settings: Settings, source: Path, output: Path, defaults: Mapping[str, Any], draw: Draw | None = None
) -> Outcome:
    """Generate every row of `source` into the folder `output`; for `source` and `defaults`, see `read_rows`.

    draw: writes the images of rows and yields a record for each, in any order; None uses a model in this process.
    The record of a row that fails has the error, and the next row follows. Raises InvalidRequestError if the source or
    the output cannot be used, EngineError if the model cannot be loaded or a file cannot be written.
    """
    given = {_FLAG_FIELDS.get(name, name): value for name, value in defaults.items()}
    GenerationRequest(**{"prompt": "any", "source_image": "any"} | given)
    batch = Batch(settings, output)
    count, rows = read_rows(source, defaults)
    if source.is_dir() and output.absolute().resolve().is_relative_to(source.resolve()):
        raise InvalidRequestError(
            "--output is inside --input: the next run would use its images as inputs. Choose another folder."
        )
    try:
        output.mkdir(parents=True, exist_ok=True)
        done = _keep_what_is_done(output, rows, batch.model)
        results = (output / RESULTS).open("ab")
    except OSError as error:
        raise InvalidRequestError(
            f"--output {str(output)!r} cannot be used ({error.strerror}); choose a folder."
        ) from error
    outcome = Outcome(kept=len(done))
    try:  # around `results` too: on a full disk, closing the file fails like writing to it
        with results, tqdm(total=count, initial=len(done), unit="row", disable=None) as bar:
            todo = (row for row in read_rows(source, defaults)[1] if row.error or row.name not in done)
            with closing((draw or draw_here)(batch, todo, bar)) as records:
                for record in records:
                    results.write(json.dumps(record, ensure_ascii=False).encode() + b"\n")
                    _flush(results)
                    outcome.failed += "error" in record
                    outcome.drawn += "error" not in record
                    bar.update()
    except OSError as error:
        raise EngineError(
            f"{str(output)!r} cannot be written to ({error.strerror}). Finished rows are kept: make room, and run "
            "the same command again."
        ) from error
    return outcome


def _keep_what_is_done(output: Path, rows: Iterable[Row], model: Mapping[str, Any]) -> set[str]:
    """The names of the rows that are done. Records of rows that will be generated again are removed."""
    path = output / RESULTS
    if not path.exists():
        return set()
    digests = {row.name: row.digest(model) for row in rows if not row.error}
    done, kept = set(), []
    with path.open("rb") as file:
        for record in file:
            try:
                known = json.loads(record)
                name, files, digest = known["id"], known["files"], known["digest"]
            except (ValueError, KeyError, TypeError):
                continue  # a row that failed, or an incomplete record of a run that was killed
            if name not in digests:
                kept.append(record)  # of another batch with the same output
            elif digest == digests[name] and all((output / file).is_file() for file in files):
                done.add(name)
                kept.append(record)
    fresh = path.with_suffix(".tmp")
    with fresh.open("wb") as file:
        file.writelines(kept)
        _flush(file)
    fresh.replace(path)
    return done


def draw_here(batch: Batch, rows: Iterable[Row], bar: tqdm) -> Iterator[Record]:
    """Generate rows with one model in this process, in order. Raises EngineError if it cannot be loaded."""
    engine = Engine(batch.settings)
    try:
        engine.start()
        for row, result in _draw(engine, rows, bar):
            yield write_row(batch, row, result)
    finally:
        engine.close()


def write_row(batch: Batch, row: Row, result: GenerationResult | X2IError) -> Record:
    """Write the images of a row; return its record."""
    if isinstance(result, X2IError):
        return {"id": row.name, "place": row.place, "error": str(result)}
    for name, image, texts in zip(row.images, result.images, describe(result, batch.settings), strict=True):
        path = batch.output / name
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = path.with_name(f".{path.name}.tmp")  # a file is complete or absent
        try:
            with fresh.open("wb") as file:
                save_png(image, file, texts)
                _flush(file)
            fresh.replace(path)
        finally:
            fresh.unlink(missing_ok=True)  # after a full disk, remove the incomplete file
    record = {"id": row.name, "place": row.place, "files": list(row.images), "prompt": result.request.prompt}
    return record | result.report() | {"digest": row.digest(batch.model)}


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
        raise result  # without a model, no row can be generated
    return row, result


def _flush(file) -> None:
    file.flush()
    os.fsync(file.fileno())
