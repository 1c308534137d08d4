"""Fingerprints of files by their content, so that the same picture under another name is known again."""

import hashlib
import os
from pathlib import Path

from x2i_app.media.guard import sniff


def file_hash(path: str | os.PathLike) -> str:
    """SHA-256 of a media file's bytes, in hexadecimal. Raises MediaError for what is no media file within the caps."""
    sniff(path)
    with Path(os.fsdecode(path)).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
