"""Hashes of files by content, so that a renamed file is still recognized."""

import hashlib
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from x2i_app.errors import MediaError
from x2i_app.media.budget import current_budget
from x2i_app.media.guard import is_path, show_name, sniff
from x2i_app.request import GenerationRequest


def file_hash(path: str | os.PathLike) -> str:
    """SHA-256 of a media file's bytes, in hexadecimal. Raises MediaError if `sniff` refuses the file."""
    sniff(path)
    current_budget().charge("file_bytes", Path(os.fsdecode(path)).stat().st_size)
    return path_hash(path).removeprefix("sha256:")


def path_hash(path: str | os.PathLike) -> str:
    """`sha256:` and the SHA-256 of any file's bytes, in hexadecimal. Raises MediaError if it cannot be read."""
    try:
        with Path(os.fsdecode(path)).open("rb") as file:
            return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
    except (OSError, ValueError):
        raise MediaError(f"{show_name(path)} cannot be read; check its path and permissions.") from None


def hash_inputs(request: GenerationRequest) -> dict[str, str]:
    """SHA-256 in hexadecimal of each file of a request by its path; each file is read once. Other media have no hash.

    Raises MediaError for a path that is not a media file within the caps.
    """
    turns = (*request.history, request)
    media = [source for turn in turns for source in (*turn.images, *turn.videos, *turn.audios)]
    hashes: dict[str, str] = {}
    for source in (*media, request.source_image, request.mask, request.reference, request.controlnet_image):
        if is_path(source) and os.fsdecode(source) not in hashes:
            hashes[os.fsdecode(source)] = file_hash(source)
    for file, _ in request.loras:
        if is_path(file) and os.fsdecode(file) not in hashes:
            with suppress(MediaError):  # loading the LoRA explains what is wrong with the file
                hashes[os.fsdecode(file)] = path_hash(file).removeprefix("sha256:")
    return hashes


def known_hash(source: Any, hashes: Mapping[str, str]) -> str | None:
    """The hash of a file among `hashes`; None for media that are not files, and for a file that is not among them."""
    return hashes.get(os.fsdecode(source)) if is_path(source) else None


def conversation_hash(request: GenerationRequest, hashes: Mapping[str, str]) -> str | None:
    """Hash of everything that the MLLM reads: texts, and the contents of files, not their names.

    hashes: from `hash_inputs`. None if media are values instead of files; those are encoded again each time.
    """
    parts = [str(request.reason), str(request.video_part)]
    for turn in (*request.history, request.turn):
        digests = [[known_hash(source, hashes) for source in kind] for kind in (turn.images, turn.videos, turn.audios)]
        if any(None in kind for kind in digests):
            return None
        parts.append(repr((turn.prompt, digests, turn.answer)))
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()
