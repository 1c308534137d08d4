"""Hashes of files by content, so that a renamed file is still recognized."""

import hashlib
import os
from pathlib import Path

from x2i_app.errors import MediaError
from x2i_app.media.guard import is_path, show_name, sniff
from x2i_app.request import GenerationRequest


def file_hash(path: str | os.PathLike) -> str:
    """SHA-256 of a media file's bytes, in hexadecimal. Raises MediaError if `sniff` refuses the file."""
    sniff(path)
    return path_hash(path).removeprefix("sha256:")


def path_hash(path: str | os.PathLike) -> str:
    """`sha256:` and the SHA-256 of any file's bytes, in hexadecimal. Raises MediaError if it cannot be read."""
    try:
        with Path(os.fsdecode(path)).open("rb") as file:
            return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
    except (OSError, ValueError):
        raise MediaError(f"{show_name(path)} cannot be read; check its path and permissions.") from None


def request_hash(request: GenerationRequest) -> str | None:
    """Hash of everything that the MLLM reads: texts, and the contents of files, not their names.

    None if media are values instead of files, as Python callers may pass them; those are encoded again each time.
    """
    parts = [str(request.reason)]
    for turn in (*request.history, request.turn):
        sources = (turn.images, turn.videos, turn.audios)
        if not all(is_path(source) for kind in sources for source in kind):
            return None
        parts.append(repr((turn.prompt, [[file_hash(path) for path in kind] for kind in sources], turn.answer)))
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()
