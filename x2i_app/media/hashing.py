"""Fingerprints of media by their content, so that the same picture under another name is known again."""

import hashlib
import os
from pathlib import Path
from typing import Any

import numpy as np

from x2i_app.media.audio import AudioClip
from x2i_app.media.guard import is_path, sniff
from x2i_app.media.video import VideoClip


def media_hash(source: Any) -> str:
    """SHA-256, in hexadecimal, of a file's bytes, or of an image's, array's or clip's shape, values and rate.

    source: as in GenerationRequest. Raises MediaError for a path that is no media file within the caps.
    """
    if is_path(source):
        sniff(source)
        with Path(os.fsdecode(source)).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    if isinstance(source, VideoClip):
        source = (source.frames, source.fps)
    elif isinstance(source, AudioClip):
        source = (source.samples, source.rate)
    values, rate = source if isinstance(source, tuple) else (source, None)
    digest = hashlib.sha256(repr(rate).encode())
    for array in map(np.ascontiguousarray, values if isinstance(values, list) else [values]):
        digest.update(repr((array.shape, array.dtype.str)).encode())
        digest.update(array)
    return digest.hexdigest()
