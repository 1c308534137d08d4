"""Frames of a video are those visible at the requested times, within the limits."""

import concurrent.futures
import struct
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from x2i_app.media import CAPS, VideoClip, VideoPart, load_video

RED, BLUE = (255, 0, 0), (0, 0, 255)
LEVELS = [12 * i for i in range(20)]  # two seconds at 10 frames a second; the level tells the frame


def indices(clip):
    """Indices of these frames in a video of LEVELS."""
    return [round(level) for level in clip.frames.mean(axis=(1, 2, 3)) / 12]


def animation(path, colors, durations, **options):
    frames = [Image.new("RGB", (16, 12), color) for color in colors]
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=durations, **options)
    return path


@pytest.mark.parametrize("name", ["both.mp4", "both.mov", "both.mkv", "both.webm", "both.avi", "silent.mp4"])
def test_every_container(samples, name):
    clip = load_video(samples / name)
    assert clip.frames.shape == (2, 48, 64, 3)
    assert clip.frames.dtype == np.uint8
    assert clip.fps == 1
    assert clip.duration == pytest.approx(2, abs=0.02)
    assert clip.frames[0].mean(axis=(0, 1)) == pytest.approx(RED, abs=12)
    assert clip.frames[1].mean(axis=(0, 1)) == pytest.approx(BLUE, abs=12)


@pytest.mark.parametrize(
    ("fps", "max_frames", "expected", "real_fps"),
    [
        (1, 32, [0, 10], 1),
        (2, 32, [0, 5, 10, 15], 2),
        (2.5, 32, [0, 4, 8, 12, 16], 2.5),
        (10, 32, list(range(20)), 10),
        (10, 5, [0, 4, 8, 12, 16], 2.5),  # spread over the whole video
        (10, 4, [0, 5, 10, 15], 2),
        (0.1, 32, [0, 10], 1),  # two where there are two
        (5, 1, [0], 0.5),
        (30, 32, None, 16),  # the cap: 32 frames in 2 seconds
    ],
)
def test_sampling_takes_the_visible_frames(tmp_path, video, fps, max_frames, expected, real_fps):
    path = video(tmp_path / "a.mp4", LEVELS, more=("-q:v", "1"))
    clip = load_video(path, fps=fps, max_frames=max_frames)
    frames, from_array = np.array(LEVELS, np.uint8)[:, None, None, None].repeat(3, 3), None
    from_array = load_video((frames.repeat(2, 1).repeat(2, 2), 10), fps=fps, max_frames=max_frames)
    assert clip.fps == from_array.fps == pytest.approx(real_fps)
    expected = expected or [int(i / real_fps * 10 + 1e-6) for i in range(32)]
    assert indices(clip) == indices(from_array) == expected


@pytest.mark.parametrize(
    ("start", "end", "fps", "expected"),
    [
        (0.5, 1.5, 10, list(range(5, 15))),
        (0.5, None, 2, [5, 10, 15]),
        (None, 1.2, 10, list(range(12))),
        (1.25, 1.55, 10, [12, 13, 14]),
        (1.9, 60, 10, [19]),
        (0.5, 1.5, 1, [5, 10]),  # two where there are two
        (0.7, 0.75, 1, [7]),
        (None, None, 1, [0, 10]),
    ],
)
def test_a_part_of_a_video(tmp_path, video, start, end, fps, expected):
    """The same frames of a file, of an array and of an animation; times and duration count from the part's start."""
    path = video(tmp_path / "a.mp4", LEVELS, more=("-q:v", "1"))
    frames = np.array(LEVELS, np.uint8)[:, None, None, None].repeat(3, 3).repeat(4, 1).repeat(4, 2)
    colors = [(level, level, level) for level in LEVELS]
    moving = animation(tmp_path / "a.webp", colors, 100, lossless=True)
    for source in (path, (frames, 10), moving):
        clip = load_video(VideoPart(source, start, end), fps=fps)
        assert indices(clip) == expected, source
        assert clip.duration == pytest.approx(min(end or 2, 2) - (start or 0), abs=0.05)


@pytest.mark.parametrize(("start", "end"), [(2.5, None), (2.5, 3), (1, 1)])
def test_no_part_of_a_video(tmp_path, video, refused, start, end):
    path = video(tmp_path / "a.mp4", LEVELS)
    refused(load_video, VideoPart(path, start, end), contains=["2.0 s long", f"nothing from {start:g} s"])


@pytest.mark.parametrize(("rate", "suffix"), [("30000/1001", "mp4"), ("25", "webm"), ("60", "mkv"), ("15", "avi")])
def test_every_frame_at_the_videos_own_rate(tmp_path, video, rate, suffix):
    codec = {"webm": "libvpx", "mp4": "libx264"}.get(suffix, "mpeg4")
    path = video(tmp_path / f"a.{suffix}", LEVELS, fps=rate, codec=codec, more=("-b:v", "4M", "-qmin", "1"))
    top, _, bottom = rate.partition("/")
    assert indices(load_video(path, fps=int(top) / int(bottom or 1))) == list(range(20))


def test_one_frame(tmp_path, video):
    clip = load_video(video(tmp_path / "a.mp4", [200]))
    assert clip.frames.shape == (1, 48, 64, 3)
    assert clip.frames.mean() == pytest.approx(200, abs=4)
    assert len(load_video(tmp_path / "a.mp4", fps=1e-9, max_frames=np.int64(3)).frames) == 1


def test_slow_videos(tmp_path, video):
    clip = load_video(video(tmp_path / "a.mp4", [0, 120, 240], fps="1/10"), fps=0.2)
    assert clip.duration == pytest.approx(30)
    assert indices(clip) == [0, 0, 10, 10, 20, 20]


def test_frames_are_only_scaled_down(tmp_path, video):
    path = video(tmp_path / "a.mp4", [100, 100], size=(160, 90))
    assert load_video(path).frames.shape[1:3] == (90, 160)
    assert load_video(path, max_pixels=10**9).frames.shape[1:3] == (90, 160)
    assert load_video(path, max_pixels=1600).frames.shape[1:3] == (30, 53)
    assert load_video(path, max_pixels=1).frames.shape[1:3] == (1, 1)
    assert load_video(path, caps=replace(CAPS, frame_pixels=3600)).frames.shape[1:3] == (45, 80)


def test_a_caller_cannot_raise_the_limits(samples):
    few = replace(CAPS, video_frames=3, frame_pixels=32 * 24)
    clip = load_video(samples / "both.mp4", fps=10, max_frames=20, max_pixels=10**6, caps=few)
    assert clip.frames.shape == (3, 24, 32, 3)


@pytest.mark.parametrize("degrees", [90, 180, 270])
@pytest.mark.parametrize("suffix", ["mp4", "mov"])
def test_rotation_is_applied(tmp_path, ffmpeg, degrees, suffix):
    image = "color=red:s=64x48:r=10:d=1,drawbox=x=0:y=0:w=32:h=48:color=blue:t=fill"
    plain, turned = tmp_path / f"plain.{suffix}", tmp_path / f"turned.{suffix}"
    ffmpeg("-f", "lavfi", "-i", image, "-c:v", "libx264", "-pix_fmt", "yuv420p", plain)
    ffmpeg("-display_rotation", degrees, "-i", plain, "-c", "copy", turned)
    frame = load_video(turned).frames[0]
    assert frame.shape[:2] == ((48, 64) if degrees == 180 else (64, 48))
    upright = np.rot90(frame, -degrees // 90)  # ffmpeg counts counterclockwise
    assert upright[24, 8] == pytest.approx(BLUE, abs=30)
    assert upright[24, 56] == pytest.approx(RED, abs=30)


@pytest.mark.parametrize("transfer", ["arib-std-b67", "smpte2084"])
def test_hdr_is_converted_to_sdr(tmp_path, ffmpeg, transfer):
    """A color below diffuse white looks the same in HLG and PQ as in SDR."""
    to_hdr = f"zscale=t=linear,format=gbrpf32le,zscale=p=bt2020:m=bt2020nc:t={transfer}:npl=203:r=tv,format=yuv420p10le"
    source = f"color=0xC52526:s=64x48:r=10:d=1,format=gbrp,setparams=color_primaries=bt709:color_trc=bt709,{to_hdr}"
    tags = ("-color_primaries", "bt2020", "-color_trc", transfer, "-colorspace", "bt2020nc")
    ffmpeg("-f", "lavfi", "-i", source, "-c:v", "libx265", "-x265-params", "lossless=1", *tags, tmp_path / "a.mov")
    clip = load_video(tmp_path / "a.mov")
    assert clip.frames[0].mean(axis=(0, 1)) == pytest.approx((197, 37, 38), abs=4)
    clip = load_video(tmp_path / "a.mov", max_pixels=99)
    assert clip.frames.shape[1:3] == (8, 11)
    assert clip.frames[0].mean(axis=(0, 1)) == pytest.approx((197, 37, 38), abs=4)


@pytest.mark.parametrize(("primaries", "matrix"), [("bt2020", "bt2020nc"), ("smpte432", "bt709")])
@pytest.mark.parametrize("suffix", ["mov", "mkv"])
def test_wide_colors_become_srgb(tmp_path, ffmpeg, primaries, matrix, suffix):
    """BT.2020 without HDR, and Display P3, as screens are recorded."""
    wide = f"zscale=p={primaries}:t=bt709:m={matrix}:r=tv,format=yuv420p10le"
    source = f"color=0xC52526:s=64x48:r=10:d=1,format=gbrp,setparams=color_primaries=bt709:color_trc=bt709,{wide}"
    tags = ("-color_primaries", primaries, "-color_trc", "bt709", "-colorspace", matrix)
    path = tmp_path / f"a.{suffix}"
    ffmpeg("-f", "lavfi", "-i", source, "-c:v", "libx265", "-x265-params", "lossless=1", *tags, path)
    assert load_video(path).frames[0].mean(axis=(0, 1)) == pytest.approx((197, 37, 38), abs=4)


@pytest.mark.parametrize("suffix", ["gif", "webp"])
def test_animations_are_videos(tmp_path, suffix):
    path = animation(tmp_path / f"a.{suffix}", ["red", "lime", "blue"], [500, 1000, 500], lossless=True)
    clip = load_video(path, fps=2)
    assert clip.duration == pytest.approx(2)
    assert clip.fps == 2
    assert clip.frames.shape == (4, 12, 16, 3)
    assert [tuple(frame[5, 5]) for frame in clip.frames] == [RED, (0, 255, 0), (0, 255, 0), BLUE]
    assert load_video(path, max_pixels=48).frames.shape[1:3] == (6, 8)
    assert len(load_video(path, fps=30, max_frames=2).frames) == 2


def test_unusual_animations(tmp_path, refused):
    Image.new("RGB", (16, 12), "red").save(tmp_path / "still.gif")
    assert load_video(tmp_path / "still.gif").frames.shape == (1, 12, 16, 3)
    path = animation(tmp_path / "hasty.gif", ["red", "lime", "blue"], 0)
    assert load_video(path).duration == pytest.approx(0.3)
    many = animation(tmp_path / "many.gif", [(i % 256, i // 256, 0) for i in range(1000)], 100)
    refused(load_video, many, contains=["100.0 s", "60 s"])
    refused(load_video, path, caps=replace(CAPS, child_seconds=0), contains="takes longer")
    refused(load_video, path, caps=replace(CAPS, video_side=15), contains="16 x 12")
    (tmp_path / "cut.gif").write_bytes(path.read_bytes()[:60])
    refused(load_video, tmp_path / "cut.gif", contains="damaged")


def test_pairs_and_clips():
    frames = np.zeros((8, 6, 4, 3), np.uint8)
    frames[4:] = 200
    for given in (frames, list(frames), [Image.fromarray(frame) for frame in frames], tuple(frames / 255)):
        clip = load_video((given, 4))
        assert clip.frames.shape == (2, 6, 4, 3)
        assert clip.frames[:, 0, 0, 0].tolist() == [0, 200]
        assert (clip.fps, clip.duration) == (1, 2)
    again = load_video(clip)
    assert np.array_equal(again.frames, clip.frames)
    assert (again.fps, again.duration) == (clip.fps, clip.duration)
    spread = load_video((frames, 4), fps=4, max_frames=3)
    assert np.array_equal(load_video(spread, fps=4, max_frames=3).frames, spread.frames)


ONE = np.zeros((1, 4, 4, 3), np.uint8)


@pytest.mark.parametrize(
    ("source", "part"),
    [
        ((ONE, 0), "0 frames per second"),
        ((ONE, float("nan")), "nan frames per second"),
        ((ONE, 10**5000), "thousands of digits"),
        ((ONE, ONE), "type ndarray frames per second"),
        ((5, ONE), "frames per second"),
        ((ONE, True), "True frames per second"),
        ((ONE[0], 1), "(T, H, W, 3)"),
        ((ONE / 255, 1), "float64"),
        ((ONE[:0], 1), "T from 1"),
        ((ONE[:, :0], 1), "4 x 0"),
        (([], 1), "has no frames"),
        ((None, 1), "has no frames"),
        (([ONE[0], ONE[0, :2]], 1), "different sizes"),
        (([None], 1), "The image is None"),
        ((np.zeros((61, 2, 2, 3), np.uint8), 1), "61.0 s"),
        ((np.zeros((1, 2, 4097, 3), np.uint8), 1), "4,097"),
        (VideoClip(ONE, 1.0, "long"), "duration"),
        (VideoClip(None, 1.0, 1.0), "has no frames"),
    ],
)
def test_invalid_frames_are_refused(refused, source, part):
    refused(load_video, source, contains=part)


@pytest.mark.parametrize(
    "options",
    [
        {"fps": 0},
        {"fps": float("inf")},
        {"fps": float("nan")},
        {"fps": "1"},
        {"fps": True},
        {"max_frames": 0},
        {"max_frames": 2.5},
        {"max_frames": None},
        {"max_pixels": 0},
        {"max_pixels": "big"},
    ],
)
def test_options_are_checked(samples, refused, options):
    refused(load_video, samples / "both.mp4", **options, contains=next(iter(options)))


def test_long_videos_are_refused_with_their_length(tmp_path, video, refused):
    slow = video(tmp_path / "slow.mp4", [0] * 8, fps="1/10")
    assert slow.stat().st_size < 5000
    refused(load_video, slow, contains=["'slow.mp4'", "80.0 s", "60 s"])
    exact = video(tmp_path / "exact.mp4", [0] * 60, fps=1)
    assert load_video(exact).duration == pytest.approx(60)


def test_a_header_with_a_wrong_duration(tmp_path, video, refused):
    whole = video(tmp_path / "long.mkv", [0] * 8, fps="1/10").read_bytes()
    place = whole.index(b"\x44\x89\x88") + 3  # the Duration element: a double, in milliseconds
    assert struct.unpack(">d", whole[place : place + 8])[0] == 80_000
    (tmp_path / "lie.mkv").write_bytes(whole[:place] + struct.pack(">d", 1000.0) + whole[place + 8 :])
    refused(load_video, tmp_path / "lie.mkv", contains="80.0 s")


def test_a_video_with_thousands_of_frames(tmp_path, video):
    path = video(tmp_path / "fast.mp4", [i // 40 for i in range(10_000)], fps=1000, size=(16, 16))
    clip = load_video(path)
    assert len(clip.frames) == 10
    assert clip.frames[9].mean() == pytest.approx(225, abs=4)


def test_large_frames_are_refused_by_their_header(tmp_path, video, refused):
    path = video(tmp_path / "wide.mp4", [0, 0], size=(4112, 16))
    refused(load_video, path, contains=["4,112 x 16", "4,096"])


def test_a_frame_size_that_grows_is_refused(tmp_path, ffmpeg, video, refused):
    small = video(tmp_path / "small.h264", [0] * 10, size=(64, 64), codec="libx264").read_bytes()
    large = video(tmp_path / "large.h264", [0] * 10, size=(640, 640), codec="libx264").read_bytes()
    (tmp_path / "both.h264").write_bytes(small + large)
    ffmpeg("-r", 5, "-i", tmp_path / "both.h264", "-c", "copy", tmp_path / "a.mp4")
    refused(load_video, tmp_path / "a.mp4", caps=replace(CAPS, video_side=128), contains="cannot be decoded")


def test_files_without_video(samples, ffmpeg, tmp_path, refused):
    refused(load_video, samples / "sound_only.mp4", contains="no video stream")
    cover = tmp_path / "cover.png"
    Image.new("RGB", (16, 16), "red").save(cover)
    streams = ["-map", "0", "-map", "1", "-c", "copy", "-disposition:v:0", "attached_pic"]
    ffmpeg("-i", samples / "sound_only.mp4", "-i", cover, *streams, tmp_path / "album.mp4")
    refused(load_video, tmp_path / "album.mp4", contains="no video stream")


# An AVI file does not mark its end: cut between two frames, it is a shorter video. What is left of an MKV is used.
@pytest.mark.parametrize(
    ("name", "part"), [("both.mp4", 0.02), ("both.mp4", 0.5), ("both.mkv", 0.02), ("both.webm", 0.02)]
)
def test_cut_files_are_refused(samples, tmp_path, refused, name, part):
    whole = (samples / name).read_bytes()
    (tmp_path / name).write_bytes(whole[: int(len(whole) * part)])
    refused(load_video, tmp_path / name, contains=f"'{name}'")


def test_noise_is_refused(samples, tmp_path, refused):
    whole = bytearray((samples / "both.mp4").read_bytes())
    start = whole.index(b"mdat") + 4
    stop = whole.index(b"moov") - 4
    whole[start:stop] = bytes(np.random.default_rng(0).integers(0, 256, stop - start, np.uint8))
    (tmp_path / "a.mp4").write_bytes(whole)
    refused(load_video, tmp_path / "a.mp4", contains="damaged")


def test_videos_load_in_threads(samples):
    names = ["both.mp4", "both.webm", "both.avi", "both.mkv"] * 2
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        clips = list(pool.map(lambda name: load_video(samples / name), names))
    assert all(clip.frames[0, 20, 20, 0] > 200 and clip.frames[1, 20, 20, 2] > 200 for clip in clips)
