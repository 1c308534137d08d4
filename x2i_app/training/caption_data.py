"""Captions for training, from samples with text and from files with a caption in each row."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from x2i_app.caption_files import decode_text
from x2i_app.errors import InvalidRequestError, TrainingError
from x2i_app.request import validate_text
from x2i_app.training.samples import FORMS, IMAGE_EXTENSIONS, Broken, Sample, Span, find_files, samples_of


@dataclass(frozen=True)
class TrainingCaption:
    """caption: what the MLLM reads. taught: what the teacher reads, mostly the same. image: beside it, if any."""

    caption: str
    taught: str
    image: Span | None = None


def read_captions(
    sources: Sequence[str | Path], caption_field: str, broken: Broken, taught_field: str | None = None
) -> list[TrainingCaption]:
    """Captions in a fixed order: the lines of .txt files, or the `txt` or JSON field of samples.

    caption_field: of samples with JSON. taught_field: likewise, for a teacher that reads another text; None: it reads
    the caption. Raises TrainingError if there are none, or more are broken than allowed.
    """
    found = []
    for source in sources:
        for path in find_files(source):
            for name, read in _caption_readers(path, caption_field, taught_field, broken):
                try:
                    found.append(read())
                except Exception as error:  # noqa: BLE001 - whatever is wrong with one sample, the others are read
                    broken.add(name, error)
    if not found:
        raise TrainingError(f"There are no captions in {', '.join(map(str, sources))}; {FORMS}.")
    return found


def _caption_readers(
    path: Path, caption_field: str, taught_field: str | None, broken: Broken
) -> Iterator[tuple[str, Callable[[], TrainingCaption]]]:
    """Name of every sample of a file or folder, and a function that reads it."""
    if path.suffix == ".txt":
        try:
            texts = _rows(path)
        except OSError as error:
            broken.add(str(path), error)
            return
        for number, text in enumerate(texts, 1):
            if text.strip():
                yield f"{path}:{number}", lambda text=text: TrainingCaption(clean_text(text), clean_text(text))
        return
    for sample in samples_of(path, broken, caption_field):
        yield sample.key, lambda sample=sample: _read_caption(sample, caption_field, taught_field)


def _rows(path: Path) -> list[str] | list[bytes]:
    """The rows of a text file; in bytes if its code page is unknown, so that each row that is UTF-8 can be read."""
    content = path.read_bytes()
    try:
        return decode_text(content).splitlines()
    except InvalidRequestError:
        return content.splitlines()


def _read_caption(sample: Sample, caption_field: str, taught_field: str | None) -> TrainingCaption:
    check_caption(sample)
    content = {} if "txt" in sample.parts and taught_field is None else sample.read_json()
    caption = clean_text(sample.read("txt") if "txt" in sample.parts else read_field(content, caption_field))
    taught = caption if taught_field is None else clean_text(read_field(content, taught_field))
    images = [sample.parts[extension] for extension in IMAGE_EXTENSIONS if extension in sample.parts]
    return TrainingCaption(caption, taught, images[0] if images else None)


def check_caption(sample: Sample) -> None:
    """Raises LookupError for a sample without a caption."""
    if not {"txt", "json"} & sample.parts.keys():
        raise LookupError("it has no caption, a .txt (or .json) of the same name")


def read_field(content: Mapping[str, Any], name: str) -> Any:
    if name not in content:
        raise LookupError(f"its JSON has no {name!r}, only {', '.join(sorted(content))}")
    return content[name]


def clean_text(text: Any) -> str:
    caption = validate_text("its caption", decode_text(text) if isinstance(text, bytes) else text).strip()
    if not caption:
        raise ValueError("its caption is empty; write what it shows, or delete the image")
    return caption
