"""Reads untrusted images, videos and audio into plain values. Every failure is a MediaError."""

from x2i_app.media.audio import AudioClip, load_audio
from x2i_app.media.guard import CAPS, MediaCaps, is_path, sniff
from x2i_app.media.hashing import file_hash
from x2i_app.media.image_texts import save_image
from x2i_app.media.images import is_animation, load_image
from x2i_app.media.inpaint_source import InpaintSource, outpaint_canvas
from x2i_app.media.metadata import Recipe, describe, read_recipe
from x2i_app.media.modality import modality_of
from x2i_app.media.prepared import Prepared
from x2i_app.media.video import VideoClip, VideoPart, load_video

__all__ = [
    "CAPS",
    "AudioClip",
    "InpaintSource",
    "MediaCaps",
    "Prepared",
    "Recipe",
    "VideoClip",
    "VideoPart",
    "describe",
    "file_hash",
    "is_animation",
    "is_path",
    "load_audio",
    "load_image",
    "load_video",
    "modality_of",
    "outpaint_canvas",
    "read_recipe",
    "save_image",
    "sniff",
]
