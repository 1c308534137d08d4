"""What travels with a request to another machine: the files that it names, which lie here alone."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from x2i_app.media import is_path
from x2i_app.request import GenerationRequest, Turn


@dataclass(frozen=True)
class File:
    """A file on its way: its name without the folder, and its bytes."""

    name: str
    content: bytes = field(repr=False)


def pack(request: GenerationRequest) -> GenerationRequest:
    """The request with a File in place of each path. What cannot be read stays a path, and is complained of there."""

    def take(source: Any) -> Any:
        if not is_path(source):
            return source
        try:
            return File(Path(source).name, Path(source).read_bytes())
        except (OSError, ValueError):
            return source

    return _with_files(request, take)


def unpack(request: GenerationRequest, folder: Path) -> GenerationRequest:
    """The request with paths in `folder`, an empty one, in place of its Files."""
    count = 0

    def put(source: Any) -> Any:
        nonlocal count
        if not isinstance(source, File):
            return source
        count += 1
        path = folder / str(count) / source.name
        path.parent.mkdir()
        path.write_bytes(source.content)
        return str(path)

    return _with_files(request, put)


def _with_files(request: GenerationRequest, change: Callable[[Any], Any]) -> GenerationRequest:
    def media(turn: Turn | GenerationRequest) -> dict[str, tuple[Any, ...]]:
        return {kind: tuple(map(change, getattr(turn, kind))) for kind in ("images", "videos", "audios")}

    return replace(
        request,
        **media(request),
        history=tuple(replace(turn, **media(turn)) for turn in request.history),
        mask=change(request.mask),
        source_image=change(request.source_image),
        loras=tuple((change(file), weight) for file, weight in request.loras),
    )
