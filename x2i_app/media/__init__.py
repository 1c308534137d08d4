"""Untrusted files and arrays -> clean images, video frames and sounds; every failure is a MediaError."""

from x2i_app.media.audio import AudioClip, load_audio
from x2i_app.media.guard import CAPS, MediaCaps, sniff
from x2i_app.media.hashing import media_hash
from x2i_app.media.images import load_image
from x2i_app.media.video import VideoClip, load_video

__all__ = [
    "CAPS",
    "AudioClip",
    "MediaCaps",
    "VideoClip",
    "load_audio",
    "load_image",
    "load_video",
    "media_hash",
    "sniff",
]
