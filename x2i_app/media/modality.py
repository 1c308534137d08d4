"""Whether a file is read as an image, a video or audio."""

import os

from x2i_app.media.ffmpeg import has_video
from x2i_app.media.guard import CAPS, MediaCaps, MediaModality, sniff
from x2i_app.media.images import is_animation
from x2i_app.media.isolation import reading

_CONTAINERS = ("mov", "matroska", "avi", "asf", "flv", "mpeg", "mpegts")  # demuxers of files with or without video


def modality_of(path: str | os.PathLike, caps: MediaCaps = CAPS) -> MediaModality:
    """What a file is, from its content: an animation is a video, a WebM or MP4 file without video is audio.

    Raises MediaError for a file of another kind.
    """
    kind = sniff(path, caps=caps)
    if kind.demuxer in _CONTAINERS:
        with reading():
            return "video" if has_video(path, caps) else "audio"
    return "video" if is_animation(path) else kind.modality
