"""Run many requests: for each row, write image files and a record in results.jsonl.

The record of a row is written after its images are on disk. A run can therefore resume after it was killed at any time:
it generates the rows that have no record, failed, or changed.
"""

import errno
import json
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from x2i_app.controlnet import CONTROLNET_DEFAULTS
from x2i_app.disk import flush
from x2i_app.errors import EngineError, InvalidRequestError, X2IError, explain_failure
from x2i_app.media import describe, save_image
from x2i_app.notes import SETTINGS_TOO_LONG
from x2i_app.output_names import free_path, output_name
from x2i_app.request import IMAGE_SETTINGS, LATER_SETTINGS, SETTINGS, GenerationRequest, GenerationResult
from x2i_app.rows import Row, describe_passed_over, read_rows
from x2i_app.serving.engine import Engine
from x2i_app.serving.jobs import Job
from x2i_app.settings import MODEL_SETTINGS, FileSettings, Settings

RESULTS = "results.jsonl"
_LOCK = ".lock"
# A file or folder is in the way, or the file system does not allow the name; other errors concern all rows.
_OF_THE_NAME = (
    errno.EEXIST,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.ENOTEMPTY,
    errno.ENAMETOOLONG,
    errno.EINVAL,
    errno.EILSEQ,
)
_FLAG_FIELDS = SETTINGS | LATER_SETTINGS | IMAGE_SETTINGS
_CHANGE_NO_IMAGE = ("keep_quantized", "compile")  # but for rounding
_LATER_NAMES = ("kontext", "image_format", "controlnet")
_LATER = {each.name: each.default for each in fields(FileSettings) if each.name in _LATER_NAMES}
_IN_HAND = 2  # while the files of a row are written, the next row is generated


@dataclass
class Outcome:
    """How many rows were generated, failed, and were kept because an earlier run had generated them.

    noted: how many of those that were generated have notes, which stand in their records.
    """

    drawn: int = 0
    failed: int = 0
    kept: int = 0
    noted: int = 0


@dataclass(frozen=True)
class Batch:
    """What all rows share: the settings of the model, the folder for the images, and the absolute path of the input."""

    settings: Settings
    output: Path
    source: str = ""

    @property
    def model(self) -> dict[str, Any]:
        """The settings on which an image file depends, for the digests of rows."""
        names = [name for name in (*MODEL_SETTINGS, "image_format") if name not in _CHANGE_NO_IMAGE]
        values = {name: getattr(self.settings, name) for name in names}
        # Settings that came later are left out at their default, so that what an earlier version has drawn stays done.
        return {name: value for name, value in values.items() if name not in _LATER or value != _LATER[name]}

    def path(self, row: Row, result: GenerationResult, number: int) -> Path:
        """The file of a row's image `number`, from 0: the row's own name, or one by the template."""
        suffix, template = f".{self.settings.image_format}", self.settings.output_template
        if template is None:
            return self.output / f"{row.images[number].removesuffix('.png')}{suffix}"
        facts = result.facts(number, self.settings.preset) | {"id": row.name}
        return free_path(self.output, output_name(template, facts), suffix)


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
    # Rows have what these settings need.
    needed = {"prompt": "any", "source_image": "any"}
    needed |= {"controlnet_image": "any"} if any(name in given for name in CONTROLNET_DEFAULTS) else {}
    GenerationRequest(**needed | given)
    batch = Batch(settings, output, str(source.resolve()))
    count, rows = read_rows(source, defaults, settings.models)
    if source.is_dir() and output.absolute().resolve().is_relative_to(source.resolve()):
        raise InvalidRequestError(
            "--output is inside --input: the next run would use its images as inputs. Choose another folder."
        )
    if passed_over := describe_passed_over(source):
        print(passed_over, file=sys.stderr)
    try:
        output.mkdir(parents=True, exist_ok=True)
        with _only_run(output):
            return _run(batch, source, count, rows, defaults, draw or draw_here)
    except OSError as error:
        raise InvalidRequestError(
            f"--output {str(output)!r} cannot be used ({error.strerror}); choose a folder."
        ) from error


def _run(
    batch: Batch, source: Path, count: int, rows: Iterable[Row], defaults: Mapping[str, Any], draw: Draw
) -> Outcome:
    """Draw what is missing. Raises OSError if the records cannot be opened, EngineError if the disk becomes full."""
    done, foreign = _keep_what_is_done(batch, rows)
    results = (batch.output / RESULTS).open("ab")
    outcome = Outcome(kept=len(done))
    try:  # around `results` too: on a full disk, closing the file fails like writing to it
        with results, tqdm(total=count, initial=len(done), unit="row", disable=None) as bar:
            todo = (
                _refuse_foreign(row, foreign)
                for row in read_rows(source, defaults, batch.settings.models)[1]
                if row.error or row.name not in done
            )
            with closing(draw(batch, todo, bar)) as records:
                for record in records:
                    # A lone surrogate of a file's name becomes an escape, which JSON reads again.
                    results.write(json.dumps(record, ensure_ascii=False).encode(errors="backslashreplace") + b"\n")
                    flush(results)
                    outcome.failed += "error" in record
                    outcome.drawn += "error" not in record
                    outcome.noted += bool(record.get("notes"))
                    bar.update()
    except OSError as error:
        raise EngineError(
            f"{str(batch.output)!r} cannot be written to ({error.strerror}). Finished rows are kept: make room, and "
            "run the same command again."
        ) from error
    return outcome


@contextmanager
def _only_run(output: Path) -> Iterator[None]:
    """Hold a lock on the folder. Raises InvalidRequestError if another run has it."""
    from filelock import FileLock, Timeout  # takes 0.1 s to import

    lock = FileLock(output / _LOCK, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise InvalidRequestError(
            f"Another run writes to --output {str(output)!r} now; wait for its end, or choose another folder."
        ) from None
    try:
        yield
    finally:
        with suppress(OSError):
            (output / _LOCK).unlink()  # before the release, so that nobody has locked it meanwhile
        lock.release()


def _keep_what_is_done(batch: Batch, rows: Iterable[Row]) -> tuple[set[str], dict[str, str]]:
    """The names of the rows that are done, and the input of each image that another batch has written here.

    Records of rows that will be generated again are removed.
    """
    path = batch.output / RESULTS
    if not path.exists():
        return set(), {}
    digests = {row.name: row.digest(batch.model) for row in rows if not row.error}
    done, kept, foreign = set(), [], {}
    with path.open("rb") as file:
        for record in file:
            try:
                known = json.loads(record)
                name, files, digest = known["id"], known["files"], known["digest"]
                is_complete = all((batch.output / each).is_file() for each in files)
                source = known.get("input", batch.source)  # earlier versions did not write it
                is_known = name in digests
            except (ValueError, KeyError, TypeError, AttributeError, OSError, RecursionError):
                continue  # a row that failed, or an incomplete record of a run that was killed
            if is_known and digest == digests[name]:
                if is_complete and name not in done:
                    done.add(name)
                    kept.append(record)
            elif not is_known or (source != batch.source and is_complete):
                kept.append(record)
                if source != batch.source:
                    foreign.update((str(each).casefold(), str(source)) for each in files)
    fresh = path.with_suffix(".tmp")
    with fresh.open("wb") as file:
        file.writelines(kept)
        flush(file)
    fresh.replace(path)
    return done, foreign


def _refuse_foreign(row: Row, foreign: Mapping[str, str]) -> Row:
    """The row, with an error if it would replace an image of another batch."""
    if not row.error and (taken := next((name for name in row.images if name.casefold() in foreign), None)):
        message = (
            f"{taken!r} was made from {foreign[taken.casefold()]!r}, and another batch may not replace it; choose "
            "another --output, or give the row another id."
        )
        return replace(row, error=InvalidRequestError(message))
    return row


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
    place = {"id": row.name, "place": row.place}
    if isinstance(result, X2IError):
        return place | {"error": str(result)}
    settings, files, all_saved = batch.settings, [], True
    for number, (image, texts) in enumerate(zip(result.images, describe(result, settings), strict=True)):
        path = batch.path(row, result, number)
        name = path.relative_to(batch.output).as_posix()
        try:
            all_saved &= _write_image(path, image, texts, settings.image_format)
        except OSError as error:
            if error.errno not in _OF_THE_NAME:
                raise
            return place | {"error": f"{name!r} cannot be written ({error.strerror}); give the row another id."}
        files.append(name)
    record = place | {"input": batch.source, "files": files, "prompt": result.request.prompt} | result.report()
    if not all_saved:
        record["notes"].append(SETTINGS_TOO_LONG)
    return record | {"digest": row.digest(batch.model)}


def _write_image(path: Path, image: Any, texts: Mapping[str, str], form: str) -> bool:
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.tmp")  # a file is complete or absent
    try:
        with fresh.open("wb") as file:
            is_complete = save_image(image, file, texts, form)
            flush(file)
        fresh.replace(path)
        return is_complete
    finally:
        fresh.unlink(missing_ok=True)  # after a full disk, remove the incomplete file


def _draw(engine: Engine, rows: Iterable[Row], bar: tqdm) -> Iterator[tuple[Row, GenerationResult | X2IError]]:
    """Each row with its result or its error, in order."""
    hand: deque[tuple[Row, Job | X2IError]] = deque()
    for row in rows:
        try:
            hand.append((row, engine.submit(row.request())))
        except Exception as error:  # noqa: BLE001 - no row may stop the others
            hand.append((row, explain_failure(error, "This row could not be read")))
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
    status = engine.status
    if isinstance(result, X2IError) and status.state == "failed":
        raise EngineError(status.detail)  # without a model, no row can be generated
    return row, result
