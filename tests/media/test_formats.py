"""Videos and audio of phones, browsers, camcorders, editors and recorders are read, also if their header is wrong."""

import struct
import subprocess

import imageio_ffmpeg
import numpy as np
import pytest
import soundfile

from x2i_app.errors import MediaError
from x2i_app.media import load_audio, load_video, modality_of
from x2i_app.media.audio_frames import find_audio_frames
from x2i_app.media.edit_lists import shown_seconds
from x2i_app.media.guard import sniff

RED, BLUE = (255, 0, 0), (0, 0, 255)
COLORS = "color=red:s=64x48:r=25:d=0.8[r];color=blue:s=64x48:r=25:d=1.2[b];[r][b]concat=n=2"
H264 = ("-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-c:a", "aac")
SURROUND = ("-af", "pan=5.1|FL=c0|FR=c0|FC=c0|LFE=c0|BL=c0|BR=c0")

VIDEOS = {
    "windows.wmv": ("-c:v", "wmv2", "-c:a", "wmav2"),
    "flash.flv": ("-c:v", "flv", "-c:a", "mp3", "-ar", "44100"),
    "stream.flv": H264,
    "stream.ts": H264,
    "camcorder.m2ts": (*H264, "-mpegts_m2ts_mode", "1"),
    "dvd.mpg": ("-c:v", "mpeg2video", "-c:a", "mp2"),
    "dvd.vob": ("-c:v", "mpeg2video", "-c:a", "ac3"),
    "phone.3gp": (*H264, "-f", "3gp"),
    "old-phone.3gp": ("-s", "128x96", "-c:v", "h263", "-c:a", "libopencore_amrnb", "-ar", "8000", "-ac", "1"),
    "tape.mxf": ("-c:v", "mpeg2video", "-c:a", "pcm_s16le", "-ar", "48000"),
    "free.ogv": ("-c:v", "libtheora", "-c:a", "libvorbis"),
    "apple.mov": ("-c:v", "prores_ks", "-c:a", "pcm_s16le"),
    "camera.avi": ("-c:v", "mjpeg", "-c:a", "pcm_s16le"),
    "iphone.mov": ("-c:v", "libx265", "-preset", "ultrafast", "-tag:v", "hvc1", "-pix_fmt", "yuv420p10le"),
    "av1.mp4": ("-c:v", "libsvtav1", "-preset", "12", "-c:a", "libopus"),
    "vp9.webm": ("-c:v", "libvpx-vp9", "-deadline", "realtime", "-c:a", "libopus"),
    "fragments.mp4": (*H264, "-movflags", "frag_keyframe+empty_moov"),
}
AUDIOS = {
    "recorder.webm": ("-c:a", "libopus"),
    "message.opus": ("-c:a", "libopus"),
    "a.aac": (),
    "a.aiff": (),
    "little-endian.aifc": ("-c:a", "pcm_s16le", "-f", "aiff"),
    "a.caf": (),
    "alac.caf": ("-c:a", "alac"),
    "voice.amr": ("-ar", "8000", "-ac", "1"),
    "a.wma": (),
    "a.ac3": (),
    "surround.ac3": SURROUND,
    "a.eac3": (),
    "a.mp2": (),
    "a.au": (),
    "a.w64": ("-f", "w64"),
    "a.mka": ("-c:a", "aac"),
    "dolby.wav": ("-c:a", "ac3", "-f", "wav"),
    "a.wv": (),
    "a.dts": ("-c:a", "dca", "-strict", "-2", "-ac", "2"),
    "8k.wav": ("-ar", "8000"),
    "192k.wav": ("-ar", "192000"),
    "24-bit.wav": ("-c:a", "pcm_s24le"),
    "float.wav": ("-c:a", "pcm_f32le"),
    "surround.wav": (*SURROUND, "-c:a", "pcm_s24le"),
    "surround.m4a": (*SURROUND, "-c:a", "aac"),
    "8k.mp3": ("-ar", "8000"),
}


def is_tone(clip, seconds=2.0):
    """Whether a clip is the tone of `make_tone`: 440 Hz with an amplitude of 1/8."""
    spectrum = np.abs(np.fft.rfft(clip.samples * np.hanning(len(clip.samples))))
    pitch = np.argmax(spectrum) * clip.rate / len(clip.samples)
    loudness = float(np.sqrt(2 * np.mean(np.square(clip.samples))))
    assert clip.duration == pytest.approx(seconds, abs=0.1)
    assert pitch == pytest.approx(440, abs=2)
    assert 0.06 < loudness < 0.14
    return True


@pytest.fixture
def make_tone(ffmpeg):
    def make(path, *options, seconds=2):
        ffmpeg("-f", "lavfi", "-i", f"sine=440:d={seconds}:r=48000", *options, path)
        return path

    return make


@pytest.mark.parametrize("name", VIDEOS)
def test_videos(tmp_path, ffmpeg, name):
    path = tmp_path / name
    ffmpeg("-f", "lavfi", "-i", COLORS, "-f", "lavfi", "-i", "sine=440:d=2", "-shortest", *VIDEOS[name], path)
    clip = load_video(path)
    assert clip.duration == pytest.approx(2, abs=0.1)
    assert clip.has_audio
    assert not clip.is_incomplete
    assert clip.frames[0].mean(axis=(0, 1)) == pytest.approx(RED, abs=12)
    assert clip.frames[1].mean(axis=(0, 1)) == pytest.approx(BLUE, abs=12)
    assert modality_of(path) == "video"
    assert is_tone(load_audio(path))


@pytest.mark.parametrize("name", AUDIOS)
def test_audio(tmp_path, make_tone, name):
    path = make_tone(tmp_path / name, *AUDIOS[name])
    assert is_tone(load_audio(path))
    assert modality_of(path) == "audio"


def test_every_channel_counts(tmp_path, ffmpeg):
    """Also those of a surround track, not only the first two."""
    ffmpeg("-f", "lavfi", "-i", "sine=440:d=1:r=48000", "-af", "pan=5.1|BR=c0", tmp_path / "a.wav")
    loudness = np.sqrt(2 * np.mean(np.square(load_audio(tmp_path / "a.wav").samples)))
    assert loudness == pytest.approx(0.125 / 6, rel=0.05)


@pytest.mark.parametrize("size", [0, 0xFFFFFFFF, 0x7FFFFFFF, 10**8])
@pytest.mark.parametrize("riff_size", [None, 0, 0xFFFFFFFF])
def test_wav_headers_without_a_length(tmp_path, size, riff_size):
    """Recorders that were switched off, and pipes, leave 0 or the largest number where the length belongs."""
    tone = 0.125 * np.sin(2 * np.pi * 440 * np.arange(32_000) / 16_000)
    soundfile.write(tmp_path / "a.wav", tone, 16_000)
    content = bytearray((tmp_path / "a.wav").read_bytes())
    place = content.index(b"data") + 4
    content[place : place + 4] = struct.pack("<I", size)
    if riff_size is not None:
        content[4:8] = struct.pack("<I", riff_size)
    (tmp_path / "a.wav").write_bytes(content)
    assert is_tone(load_audio(tmp_path / "a.wav"))


@pytest.mark.parametrize("size", [1000, 1001, 16_000])
def test_wav_headers_that_were_not_brought_up_to_date(tmp_path, size):
    """A recorder that crashed leaves the length of its last save. Chunks and zeros behind samples are no samples."""
    tone = 0.125 * np.sin(2 * np.pi * 440 * np.arange(32_000) / 16_000)
    soundfile.write(tmp_path / "a.wav", tone, 16_000)
    content = (tmp_path / "a.wav").read_bytes()
    place = content.index(b"data") + 4
    length = struct.pack("<I", size)
    (tmp_path / "b.wav").write_bytes(content[:place] + length + content[place + 4 :])
    assert is_tone(load_audio(tmp_path / "b.wav"))
    text = b"LIST" + struct.pack("<I", 20_000) + tone.tobytes()[:20_000]
    for behind in (text, b"\0" * (size % 2) + text, bytes(20_000), b"\xff" * 500):
        (tmp_path / "c.wav").write_bytes(content[:place] + length + content[place + 4 :][:size] + behind)
        assert load_audio(tmp_path / "c.wav").duration == pytest.approx(size / 32_000, abs=0.001)


@pytest.mark.parametrize("kind", ["wav", "flac", "aiff", "au", "caf", "webm", "ogg", "mp3"])
def test_files_written_to_a_pipe(tmp_path, kind):
    """A program that writes to a pipe cannot go back and write the length."""
    source = ("-f", "lavfi", "-i", "sine=440:d=2:r=48000")
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", *source, "-f", kind, "-"]
    written = subprocess.run(command, check=True, capture_output=True, timeout=60).stdout
    (tmp_path / f"a.{kind}").write_bytes(written)
    clip = load_audio(tmp_path / f"a.{kind}")
    assert is_tone(clip)
    assert not clip.is_incomplete


@pytest.mark.parametrize("kind", ["flac", "mp3", "webm", "mkv", "ts", "flv"])
def test_a_recording_that_was_cut(tmp_path, ffmpeg, make_tone, kind):
    """What is there is used, and the clip says that it is incomplete where the format can tell."""
    options = ("-c:a", "libopus") if kind in ("webm", "mkv") else ()
    whole = make_tone(tmp_path / f"whole.{kind}", *options, seconds=8).read_bytes()
    (tmp_path / f"cut.{kind}").write_bytes(whole[: len(whole) // 2])
    clip = load_audio(tmp_path / f"cut.{kind}")
    assert is_tone(clip, seconds=clip.duration)
    assert 3 < clip.duration < 5
    assert clip.is_incomplete == (kind not in ("ts", "flv"))
    assert not load_audio(tmp_path / f"whole.{kind}").is_incomplete


def test_a_video_that_was_cut(tmp_path, video):
    """As OBS or a browser leaves it after a crash."""
    whole = video(tmp_path / "whole.mkv", [20 * i for i in range(10)] * 4, fps=10).read_bytes()
    (tmp_path / "cut.mkv").write_bytes(whole[: len(whole) // 2])
    clip = load_video(tmp_path / "cut.mkv")
    assert clip.is_incomplete
    assert 1 < clip.duration < 3
    assert not load_video(tmp_path / "whole.mkv").is_incomplete


def damaged_heads(plain):
    """The same MP3 in the ways that tag editors, rippers and stream recorders leave it."""
    image = b"ID3\x04\0\0" + bytes([0, 6, 0, 0]) + bytes(6 << 14)
    return {
        "zeros": bytes(1000) + plain,
        "cut in a frame": plain[37:],
        "a large cover": image + plain,
        "two tags": image + image + plain,
        "a tag without a length": b"ID3\x03\0\0" + bytes(4) + plain,
        "a tag at the end": plain + b"TAG" + bytes(125),
    }


@pytest.mark.parametrize("case", damaged_heads(b""))
def test_mp3_with_an_odd_head(tmp_path, make_tone, case):
    plain = make_tone(tmp_path / "plain.mp3", "-write_xing", "0", "-id3v2_version", "0").read_bytes()
    (tmp_path / "a.mp3").write_bytes(damaged_heads(plain)[case])
    assert sniff(tmp_path / "a.mp3").name == "MP3"
    assert is_tone(load_audio(tmp_path / "a.mp3"))


def test_tags_before_aac_and_flac(tmp_path, make_tone):
    tags = b"ID3\x04\0\0" + bytes([0, 0, 40, 0]) + bytes(40 << 7)
    for name in ("a.aac", "a.flac"):
        path = make_tone(tmp_path / name)
        path.write_bytes(tags + path.read_bytes())
        assert sniff(path).name == name[2:].upper()
        assert is_tone(load_audio(path))


def test_noise_is_not_audio():
    """Two headers in a row that agree are rare in other files."""
    generator = np.random.default_rng(0)
    assert sum(find_audio_frames(generator.bytes(4096)) is not None for _ in range(300)) == 0
    assert find_audio_frames(bytes(4096)) is None
    assert find_audio_frames(b"\xff" * 4096) is None


def test_containers_without_video_are_audio(tmp_path, make_tone, samples):
    """Browsers record a microphone into WebM, phones into MP4, and a song in MP4 may have a cover."""
    make_tone(tmp_path / "microphone.webm", "-c:a", "libopus")
    make_tone(tmp_path / "phone.mp4")
    make_tone(tmp_path / "phone.3gp", "-c:a", "aac")
    for name in ("microphone.webm", "phone.mp4", "phone.3gp"):
        assert modality_of(tmp_path / name) == "audio"
    assert modality_of(samples / "silent.mp4") == "video"


# Frames as a player shows them


@pytest.mark.parametrize(
    ("aspect", "shape"), [("2/1", (48, 128)), ("1/2", (48, 32)), ("16/11", (48, 93)), ("99/1", (48, 64))]
)
@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_pixels_become_square(tmp_path, ffmpeg, aspect, shape, suffix):
    """The width changes, as in players; an aspect that nothing records is taken for a mistake."""
    image = f"color=red:s=64x48:r=10:d=1,setsar={aspect}"
    ffmpeg("-f", "lavfi", "-i", image, "-c:v", "libx264", "-pix_fmt", "yuv420p", path := tmp_path / f"a.{suffix}")
    assert load_video(path).frames.shape[1:3] == shape
    assert load_video(path, max_pixels=1000).frames[0].size // 3 <= 1000


def test_rotated_pixels_become_square(tmp_path, ffmpeg):
    image = "color=red:s=64x48:r=10:d=1,setsar=2/1"
    ffmpeg("-f", "lavfi", "-i", image, "-c:v", "libx264", "-pix_fmt", "yuv420p", tmp_path / "a.mp4")
    ffmpeg("-display_rotation", 90, "-i", tmp_path / "a.mp4", "-c", "copy", tmp_path / "turned.mp4")
    assert load_video(tmp_path / "turned.mp4").frames.shape[1:3] == (128, 48)


def test_an_edit_list_hides_the_start(tmp_path, video, ffmpeg):
    """As a phone trims a video: the hidden frames stay in the file, because the others depend on them."""
    path = video(
        tmp_path / "a.mp4", [12 * i for i in range(20)], codec="libx264", more=("-pix_fmt", "yuv420p", "-crf", "1")
    )
    ffmpeg("-ss", "0.5", "-i", path, "-c", "copy", tmp_path / "trimmed.mp4")
    clip = load_video(tmp_path / "trimmed.mp4", fps=10)
    assert clip.duration == pytest.approx(1.5, abs=0.02)
    assert [round(level) for level in clip.frames.mean(axis=(1, 2, 3)) / 12] == list(range(5, 20))


def with_box(content, place, old, new):
    """A file with a box replaced; place: the names of the boxes around it, from the outside. They grow with it."""
    content = bytearray(content)
    start = content.find(old)
    for name in place:
        at = content.rfind(name, 0, start) - 4
        content[at : at + 4] = struct.pack(">I", struct.unpack_from(">I", content, at)[0] + len(new) - len(old))
    content[start : start + len(old)] = new
    return bytes(content)


def with_edits(path, edits, version=0):
    """The same file with an edit list of (seconds shown, first second); the first second -1 is a pause."""
    content = path.read_bytes()
    start = content.find(b"elst") - 4
    old = content[start : start + struct.unpack_from(">I", content, start)[0]]
    (seconds,) = struct.unpack_from(">I", content, content.find(b"mvhd") + 16)
    (units,) = struct.unpack_from(">I", content, content.find(b"mdhd") + 16)
    entry = ">QqI" if version else ">IiI"
    rows = (struct.pack(entry, round(s * seconds), b if b == -1 else round(b * units), 1 << 16) for s, b in edits)
    body = b"elst" + struct.pack(">B3xI", version, len(edits)) + b"".join(rows)
    trimmed = path.with_name("trimmed.mp4")
    box = struct.pack(">I", 4 + len(body)) + body
    trimmed.write_bytes(with_box(content, (b"moov", b"trak", b"edts"), old, box))
    return trimmed


@pytest.mark.parametrize(
    ("edits", "version", "shown"),
    [
        ([(1.0, 0)], 0, range(10)),
        ([(1.0, 0.5)], 1, range(5, 15)),
        ([(0.5, 0), (0.5, 1.5)], 0, [*range(5), *range(15, 20)]),
        ([(0.3, -1), (0.5, 1)], 0, range(10, 15)),
    ],
)
def test_an_edit_list_hides_any_part(tmp_path, video, edits, version, shown):
    look = ("-pix_fmt", "yuv420p", "-crf", "1", "-bf", "0", "-g", "100")
    path = video(tmp_path / "a.mp4", [12 * i for i in range(20)], codec="libx264", more=look)
    clip = load_video(with_edits(path, edits, version), fps=10)
    assert clip.duration == pytest.approx(len(shown) / 10, abs=0.02)
    assert [round(level) for level in clip.frames.mean(axis=(1, 2, 3)) / 12] == list(shown)


def test_edit_lists_without_an_end(tmp_path, video):
    """A length of 0 is the rest of the track, as fragmented files have it; damaged lists are ignored."""
    path = video(tmp_path / "a.mp4", [12 * i for i in range(20)], codec="libx264", more=("-pix_fmt", "yuv420p"))
    trimmed = with_edits(path, [(1.0, 0)])
    assert shown_seconds(trimmed, "video") == 1
    assert shown_seconds(trimmed, "audio") is None
    content = trimmed.read_bytes()
    for end in range(content.find(b"moov"), content.find(b"elst") + 20, 7):
        trimmed.write_bytes(content[:end])
        assert shown_seconds(trimmed, "video") is None
    assert shown_seconds(with_edits(path, [(0.5, 0), (0, 1)]), "video") is None


def test_an_edit_list_hides_audio(tmp_path, ffmpeg):
    """The first second is silent, and the last one too."""
    tone = "sine=440:d=3:r=48000,volume='between(t,1,2)':eval=frame"
    ffmpeg("-f", "lavfi", "-i", tone, "-c:a", "aac", tmp_path / "a.m4a")
    clip = load_audio(with_edits(tmp_path / "a.m4a", [(1.0, 1.0)]))
    assert clip.duration == pytest.approx(1, abs=0.05)
    assert np.abs(clip.samples[: clip.rate // 4]).max() > 0.05
    assert np.abs(clip.samples[-clip.rate // 4 :]).max() > 0.05


@pytest.mark.parametrize(
    ("profile", "below", "is_read"), [(5, 0, False), (10, 0, False), (5, 1, True), (8, 4, True), (10, 1, True)]
)
def test_dolby_vision(tmp_path, ffmpeg, profile, below, is_read):
    """Phones' profile 8 has HDR10 (1) or HLG (4) below; colors without such a layer (0) need Dolby's own decoder."""
    coding = ("-c:v", "libx265", "-preset", "ultrafast", "-tag:v", "hvc1", "-pix_fmt", "yuv420p10le")
    ffmpeg("-f", "lavfi", "-i", "color=red:s=64x64:r=10:d=1", *coding, tmp_path / "a.mp4")
    content = (tmp_path / "a.mp4").read_bytes()
    start = content.find(b"hvcC") - 4
    box = content[start : start + struct.unpack_from(">I", content, start)[0]]
    record = struct.pack(">BBHB19x", 1, 0, profile << 9 | 5 << 3 | 0b101, below << 4)
    around = (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd", b"hvc1")
    dolby = box + struct.pack(">I", 8 + len(record)) + b"dvvC" + record
    (tmp_path / "dolby.mp4").write_bytes(with_box(content, around, box, dolby))
    if is_read:
        assert load_video(tmp_path / "dolby.mp4").frames.shape[1:] == (64, 64, 3)
    else:
        with pytest.raises(MediaError, match=rf"'dolby.mp4' is a Dolby Vision video of profile {profile}, .* HLG"):
            load_video(tmp_path / "dolby.mp4")


def test_frames_at_uneven_times(tmp_path, ffmpeg, video):
    """Variable frame rate: each frame is shown until the next one."""
    video(
        tmp_path / "even.mp4", [12 * i for i in range(20)], codec="libx264", more=("-pix_fmt", "yuv420p", "-crf", "1")
    )
    kept = ("-vf", "select='not(between(n,3,9))*not(between(n,12,18))'", "-fps_mode", "vfr", "-crf", "1")
    ffmpeg("-i", tmp_path / "even.mp4", *kept, "-c:v", "libx264", tmp_path / "a.mp4")
    clip = load_video(tmp_path / "a.mp4", fps=10)
    shown = [round(level) for level in clip.frames.mean(axis=(1, 2, 3)) / 12]
    assert shown[:20] == [0, 1, 2, *[2] * 7, 10, 11, *[11] * 7, 19]


@pytest.mark.parametrize("transfer", ["bt709", "arib-std-b67", "smpte2084"])
@pytest.mark.parametrize("levels", ["tv", "pc"])
def test_full_and_limited_range_of_10_bit(tmp_path, ffmpeg, transfer, levels):
    """The same color in SDR, HLG and PQ, with the levels of TV and of cameras."""
    hdr = f"zscale=t=linear,format=gbrpf32le,zscale=p=bt2020:m=bt2020nc:t={transfer}:npl=203:r={levels}"
    sdr = f"zscale=m=bt709:r={levels}"
    source = "color=0xC52526:s=64x48:r=10:d=1,format=gbrp,setparams=color_primaries=bt709:color_trc=bt709"
    converted = f"{source},{sdr if transfer == 'bt709' else hdr},format=yuv420p10le"
    space = ("bt709", "bt709") if transfer == "bt709" else ("bt2020", "bt2020nc")
    tags = ("-color_primaries", space[0], "-color_trc", transfer, "-colorspace", space[1], "-color_range", levels)
    ffmpeg("-f", "lavfi", "-i", converted, "-c:v", "libx265", "-x265-params", "lossless=1", *tags, tmp_path / "a.mp4")
    assert load_video(tmp_path / "a.mp4").frames[0].mean(axis=(0, 1)) == pytest.approx((197, 37, 38), abs=5)
