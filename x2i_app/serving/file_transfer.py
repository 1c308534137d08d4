"""Sends a request to another machine together with the files that it names."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from x2i_app.media import is_path
from x2i_app.request import GenerationRequest, Turn


@dataclass(frozen=True)
class File:
    """A file in transfer: its name without the folder, and its bytes."""

    name: str
    content: bytes = field(repr=False)


def pack(request: GenerationRequest) -> GenerationRequest:
    """The request with a File in place of each path. A file that cannot be read stays a path; drawing it will fail."""

    files: dict[Any, File] = {}  # one for each path: two names of a file stay the same file

    def read(source: Any) -> Any:
        if not is_path(source):
            return source
        if source not in files:
            try:
                files[source] = File(Path(source).name, Path(source).read_bytes())
            except (OSError, ValueError):
                return source
        return files[source]

    return map_files(request, read)


def unpack(request: GenerationRequest, folder: Path) -> GenerationRequest:
    """The request with a path in `folder`, which must be empty, in place of each File."""
    paths: dict[int, str] = {}

    def write(source: Any) -> Any:
        if not isinstance(source, File):
            return source
        if id(source) not in paths:
            path = folder / str(len(paths) + 1) / source.name
            path.parent.mkdir()
            path.write_bytes(source.content)
            paths[id(source)] = str(path)
        return paths[id(source)]

    return map_files(request, write)


def map_files(request: GenerationRequest, change: Callable[[Any], Any]) -> GenerationRequest:
    """The request with `change` applied to each image, video, audio, mask and LoRA, also in its history."""

    def media(turn: Turn | GenerationRequest) -> dict[str, tuple[Any, ...]]:
        return {kind: tuple(map(change, getattr(turn, kind))) for kind in ("images", "videos", "audios")}

    return request.with_values(
        **media(request),
        history=tuple(replace(turn, **media(turn)) for turn in request.history),
        mask=change(request.mask),
        reference=change(request.reference),
        source_image=change(request.source_image),
        loras=tuple((change(file), weight) for file, weight in request.loras),
    )
