"""Untrusted videos -> a few RGB frames at known times.

`remux` copies the video stream out of its container, its header is checked against the limits, and an ffmpeg process
with limits decodes, samples and scales it into a short lossless video, which moviepy reads. moviepy sets no limits, so
it only opens this video, never the original.
"""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from math import ceil
from numbers import Integral, Real
from typing import Any

import numpy as np
from PIL import Image

from x2i_app.errors import MediaError
from x2i_app.media.budget import current_budget
from x2i_app.media.ffmpeg import CleanStream, can_tone_map, decode, remux
from x2i_app.media.guard import CAPS, MediaCaps, check_duration, check_size, is_path, show_name, show_value, sniff
from x2i_app.media.images import fit_size, load_image, open_image, to_rgb
from x2i_app.media.isolation import in_child, reading

_LOSSLESS_FPS = 10  # of the video that moviepy reads; a whole number, so that frame times are exact
_DEFAULT_FRAME_SECONDS = 0.1  # of an animation's frame without a duration, as in browsers
_MAX_FPS = 240
_SDR_WHITE = 203  # cd/m2 of diffuse white in HDR videos (ITU-R BT.2408)
_NAME = "The video"


@dataclass(frozen=True, eq=False)
class VideoClip:
    """Frames sampled from a video.

    frames: (T, H, W, 3) uint8, RGB. fps: frame rate of these frames, in frames/s. duration: of the whole video, in
    seconds. has_audio: whether the file also has audio, which is not included here.
    is_incomplete: the file was cut, and the frames are from what is left of it.
    """

    frames: np.ndarray
    fps: float
    duration: float
    has_audio: bool = False
    is_incomplete: bool = False


@dataclass(frozen=True)
class VideoPart:
    """A part of a video. source: as in `load_video`. start, end: in seconds; None is where the video starts or ends."""

    source: Any
    start: float | None = None
    end: float | None = None


def load_video(
    source: Any, fps: float = 1.0, max_frames: int = 32, max_pixels: int | None = None, caps: MediaCaps = CAPS
) -> VideoClip:
    """Sample the frames of a video at 0, 1/fps, 2/fps ... seconds; HDR (HLG, PQ) becomes SDR, and wide colors sRGB.

    source: the path of a video (guard.KINDS), or of a GIF or WebP animation; a pair (frames, frames/s),
    where frames is an array (T, H, W, 3) of uint8 or a list of images as in `load_image`; a VideoClip; or a VideoPart
    of any of them, whose times and duration count from its start.
    fps: frames to sample per second, above 0 and up to 240. If that gives more than `max_frames` (or
    caps.video_frames) frames, that many are spread evenly over the video; if it gives a single frame of a video that
    has several, two are sampled. `fps` of the result is the actual rate.
    max_pixels: largest area of a frame, None for caps.frame_pixels; larger frames are scaled down, none is enlarged.

    Raises MediaError for anything else, for damaged files, and for videos longer or larger than the limits.
    """
    part = source if isinstance(source, VideoPart) else VideoPart(source)
    source = part.source
    plan = replace(_Plan.checked(fps, max_frames, max_pixels, caps), start=part.start or 0.0, end=part.end)
    if is_path(source):
        with reading():
            clip = _from_file(source, plan)
        current_budget().charge("video_seconds", plan.start + clip.duration)
        return clip
    if isinstance(source, VideoClip):
        return _from_frames(source.frames, source.fps, source.duration, plan)
    if isinstance(source, (list, tuple)) and len(source) == 2:
        return _from_frames(source[0], source[1], None, plan)
    raise MediaError(f"The video is {show_value(source)}; it must be a file or a pair (frames, frames per second).")


def _from_file(path: str | os.PathLike, plan: "_Plan") -> VideoClip:
    if sniff(path, "video", plan.caps).modality == "image":
        return VideoClip(*_read_animation(path, plan))
    with remux(path, "video", plan.caps) as stream:
        return _from_stream(stream, plan)


@dataclass(frozen=True)
class _Plan:
    """How to sample frames; see `load_video`."""

    fps: float
    max_frames: int
    max_pixels: int
    caps: MediaCaps
    start: float = 0.0
    end: float | None = None

    @classmethod
    def checked(cls, fps, max_frames, max_pixels, caps):
        if not _is_rate(fps):
            raise MediaError(f"fps is {show_value(fps)}; it must be a number above 0 and up to {_MAX_FPS}.")
        for name, value in (("max_frames", max_frames), ("max_pixels", max_pixels)):
            allowed = isinstance(value, Integral) and not isinstance(value, bool) and value >= 1
            if not (allowed or (value is None and name == "max_pixels")):
                raise MediaError(f"{name} is {show_value(value)}; it must be a whole number, 1 or more.")
        area = min(max_pixels or caps.frame_pixels, caps.frame_pixels)
        return cls(float(fps), min(int(max_frames), caps.video_frames), int(area), caps)

    def sample(self, name, duration, spacing):
        """(count, fps, seconds) of the samples from the part of a video whose frames are `spacing` s apart.

        duration: of the whole video. seconds: of the part. Raises MediaError if the part is empty.
        """
        end = duration if self.end is None else min(self.end, duration)
        if self.start >= end:
            raise MediaError(
                f"{name} is {duration:.1f} s long, so there is nothing from {self.start:g} s to {end:.1f} s; choose "
                "another start and end."
            )
        seconds = end - self.start
        # Containers round durations up; a remainder that short does not give another sample.
        count = max(1, ceil((seconds - min(0.02, spacing / 2)) * self.fps))
        at_least = min(2, ceil(seconds / spacing - 1e-6), self.max_frames)
        if at_least <= count <= self.max_frames:
            return count, self.fps, seconds
        count = min(max(count, at_least), self.max_frames)
        return count, float(count / seconds), seconds

    def resized(self, image):
        size = fit_size(*image.size, self.max_pixels)
        return image if size == image.size else image.resize(size, Image.Resampling.LANCZOS)


def _is_rate(fps):
    return isinstance(fps, Real) and not isinstance(fps, bool) and 0 < fps <= _MAX_FPS


def _from_stream(stream: CleanStream, plan: _Plan) -> VideoClip:
    caps = plan.caps
    check_size(stream.name, stream.width, stream.height, caps.video_side)
    check_duration(stream.name, stream.duration, caps.video_seconds)
    # The duration of a video with one frame can be 0.
    duration = stream.duration or 1 / _LOSSLESS_FPS
    count, fps, seconds = plan.sample(stream.name, duration, duration / max(stream.frames, 1))
    width, height = fit_size(stream.width, stream.height, plan.max_pixels)
    rate = Fraction(max(fps, 0.001)).limit_denominator(100_000)  # at least 0.001, so that it does not become 0/1
    filters = (
        # Half a millisecond early, because Matroska rounds times to milliseconds.
        f"settb=1/100000,setpts=PTS-{50 + round((stream.skipped + plan.start) * 100_000)}",
        f"fps={rate.numerator}/{rate.denominator}:round=up:start_time=0",  # the frame visible at each time
        "tpad=stop=-1:stop_mode=clone",  # repeats the last frame until the end
        f"scale={width}:{height}:flags=lanczos+accurate_rnd+full_chroma_int",
        *_to_srgb(stream),
        f"setsar=1,settb=1/{_LOSSLESS_FPS},setpts=N,fps={_LOSSLESS_FPS}",
    )
    coding = ["-c:v", "ffv1", "-pix_fmt", "bgr0", "-f", "matroska"]
    video, written = decode(
        stream,
        ["-map", "0:V:0", "-vf", ",".join(filters), "-frames:v", str(count), *coding],
        "frames.mkv",
        caps,
        max_pixels=caps.video_side**2,
    )
    if written != count:
        raise MediaError(f"{stream.name} has frames that cannot be decoded; it may be damaged, so convert it to MP4.")
    return VideoClip(_read_video(video, count, stream.name), fps, seconds, stream.has_audio, stream.is_incomplete)


def _to_srgb(stream: CleanStream) -> tuple[str, ...]:
    """Filters from HDR to SDR, which keep colors and compress highlights, and from wide primaries to those of sRGB.

    Empty for other videos, and if ffmpeg lacks the filters.
    """
    if not (stream.hdr or stream.primaries) or not can_tone_map():
        return ()
    if not stream.hdr:
        return (
            "format=gbrp16le",
            f"setparams=colorspace=gbr:color_primaries={stream.primaries}:color_trc=bt709:range=pc",
            "zscale=primaries=bt709:transfer=bt709:matrix=gbr:range=pc,format=gbrp",
        )
    return (
        "format=yuv444p10le",  # zscale requires even sides for subsampled chroma
        f"setparams=colorspace=bt2020nc:color_primaries=bt2020:color_trc={stream.hdr}",
        f"zscale=transfer=linear:npl={_SDR_WHITE},format=gbrpf32le,zscale=primaries=bt709",
        "tonemap=mobius:param=0.7:desat=0",
        "zscale=transfer=bt709:matrix=bt709:range=pc,format=gbrp",
    )


def _read_video(path, count, name):
    try:
        from moviepy import VideoFileClip  # slow to import: 0.3 s

        with VideoFileClip(str(path), audio=False) as clip:
            frames = np.empty((count, clip.size[1], clip.size[0], 3), np.uint8)
            for i in range(count):
                frames[i] = clip.get_frame(i / _LOSSLESS_FPS)
            return frames
    except Exception as error:  # moviepy reports ffmpeg's errors as exceptions of many types
        raise MediaError(f"{name} cannot be read by moviepy; convert it to MP4.") from error


@in_child
def _read_animation(path: str | os.PathLike, plan: _Plan) -> tuple[np.ndarray, float, float]:
    """Frames (T, H, W, 3), frames/s and duration of a GIF or WebP.

    Pillow has to decode every frame in order, so the time is limited here.
    """
    deadline = time.monotonic() + plan.caps.child_seconds
    name = show_name(path)
    with open_image(path, plan.caps) as image:
        check_size(name, *image.size, plan.caps.video_side)
        ends = _frame_ends(image, name, deadline, plan.caps)
        count, fps, seconds = plan.sample(name, ends[-1], ends[-1] / len(ends))
        wanted = np.searchsorted(ends, plan.start + np.arange(count) / fps + 1e-9, side="right")
        images = []
        for index in wanted.clip(max=len(ends) - 1):
            _check_deadline(deadline, name, plan.caps)
            image.seek(int(index))
            images.append(np.asarray(plan.resized(to_rgb(image))))
    return np.stack(images), float(fps), float(seconds)


def _frame_ends(image, name, deadline, caps):
    """End time of each frame, in seconds from the start."""
    ends = [0.0]
    for index in range(getattr(image, "n_frames", 1)):
        _check_deadline(deadline, name, caps)
        image.seek(index)
        image.load()  # sets the duration of a WebP's frame
        ends.append(ends[-1] + (image.info.get("duration", 0) / 1000 or _DEFAULT_FRAME_SECONDS))
    check_duration(name, ends[-1], caps.video_seconds)
    return np.array(ends[1:])


def _check_deadline(deadline, name, caps):
    if time.monotonic() > deadline:
        raise MediaError(f"{name} takes longer than {caps.child_seconds:g} s to read; use a shorter or smaller one.")


def _from_frames(frames: Any, rate: Any, duration: float | None, plan: _Plan) -> VideoClip:
    if not _is_rate(rate):
        raise MediaError(
            f"{_NAME} has {show_value(rate)} frames per second; it must be a number above 0 and up to {_MAX_FPS}."
        )
    pick = _picker(frames, plan)
    duration = len(frames) / rate if duration is None else duration
    if not isinstance(duration, Real) or not duration > 0:
        raise MediaError(f"{_NAME} has a duration of {show_value(duration)}; it must be a number of seconds above 0.")
    check_duration(_NAME, duration, plan.caps.video_seconds)
    count, fps, seconds = plan.sample(_NAME, duration, 1 / rate)
    indices = ((plan.start + np.arange(count) / fps) * rate + 1e-6).astype(int).clip(max=len(frames) - 1)
    images = [pick(int(index)) for index in indices]
    if len({image.shape for image in images}) > 1:
        raise MediaError(f"{_NAME} has frames of different sizes; resize them to the same size.")
    return VideoClip(np.stack(images), fps, float(seconds))


def _picker(frames: Any, plan: _Plan) -> Callable[[int], np.ndarray]:
    """A function that returns the frame with an index, checked and scaled."""
    if isinstance(frames, np.ndarray):
        if frames.ndim != 4 or frames.shape[3] != 3 or frames.dtype != np.uint8 or not len(frames):
            raise MediaError(
                f"{_NAME} is an array of shape {frames.shape} and dtype {frames.dtype}; "
                "it must be (T, H, W, 3) of uint8, with T from 1."
            )
    elif not isinstance(frames, (list, tuple)) or not frames:
        raise MediaError(f"{_NAME} has no frames; it must be an array (T, H, W, 3) or a list of images.")

    def pick(index):
        image = load_image(frames[index], plan.caps)
        check_size(_NAME, *image.size, plan.caps.video_side)
        return np.asarray(plan.resized(image))

    return pick
