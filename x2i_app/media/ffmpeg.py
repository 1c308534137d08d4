"""Runs ffmpeg with limits: `remux` copies one stream of an untrusted file into a clean file, `decode` decodes that.

By default, ffmpeg also opens playlists, manifests and network addresses. Here it may only use the demuxer for the kind
that `guard.sniff` detected and the protocol `file`, in a private folder, with limits on wall time, CPU time, memory and
written bytes. At a limit, it is killed with all its child processes.
"""

import os
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import cache
from math import ceil
from pathlib import Path
from typing import Literal

from x2i_app.errors import MediaError
from x2i_app.media.budget import current_budget
from x2i_app.media.edit_lists import shown_seconds
from x2i_app.media.guard import CAPS, MediaCaps, show_name, sniff
from x2i_app.workspace import without_secrets

_THREADS = min(4, os.cpu_count() or 1)  # each decoding thread keeps frames in memory
_MAX_PIXEL_ASPECT = 4
_OFFSET = 1000  # seconds, added to the times in clean files
_TRIMMED = 0.1  # seconds; encoders hide less than that at the end, to fill a packet
_LOG_HEAD, _LOG_TAIL = 200_000, 20_000  # bytes of the log that are read
# What demuxers log about a truncated file. It starts a row with a bracket, which metadata of the file never do.
_DAMAGE = r"^\[.*\].*(partial file|ended prematurely|corrupt input packet)"
# Dolby Vision whose base layer is neither HDR10, HLG nor SDR, as ffmpeg lists it below a stream.
_NO_BASE_LAYER = r"^ +DOVI configuration record: .*profile: (5|10), .*compatibility id: 0"

# The shell sets the limits and replaces itself with ffmpeg. Unlike `preexec_fn`, this is safe with threads.
# Limits that the system does not support are skipped (macOS has none for memory). On Linux, `setpriv` has the kernel
# kill ffmpeg when the thread that waits for it ends.
_LIMITED = """
ulimit -c 0 2>/dev/null || :
ulimit -t "$1" 2>/dev/null || :
ulimit -v "$2" 2>/dev/null || :
ulimit -f "$3" 2>/dev/null || :
shift 3
command -v setpriv >/dev/null && exec setpriv --pdeathsig KILL "$@"
exec "$@"
"""


@dataclass(frozen=True)
class CleanStream:
    """One stream of an untrusted file, copied into a new Matroska file that exists until `remux`'s block ends.

    path: the clean file. name: of the original, for messages. duration: seconds, measured from the packets, without
    what an edit list hides.
    frames: number of video packets. width, height: square pixels, after rotation. All three are 0 for audio.
    has_audio: whether the original has an audio stream. hdr: transfer function of an HDR video, as ffmpeg calls it
    ("arib-std-b67" is HLG, "smpte2084" is PQ), else None. primaries: "bt2020", "smpte432" (Display P3) or "smpte431"
    (DCI-P3) of a video with more colors than sRGB, else None. skipped: seconds at the start that an edit list hides,
    not part of the duration. is_incomplete: the file was cut, and this is what is left of it.
    edited: the original file, if `decode` has to read it because its edit list hides some of the packets.
    """

    path: Path
    name: str
    duration: float
    frames: int = 0
    width: int = 0
    height: int = 0
    has_audio: bool = False
    hdr: str | None = None
    primaries: str | None = None
    skipped: float = 0.0
    is_incomplete: bool = False
    edited: Path | None = None


@contextmanager
def remux(
    path: str | os.PathLike,
    stream: Literal["video", "audio"],
    caps: MediaCaps = CAPS,
    reading_options: Sequence[str] = (),
) -> Iterator[CleanStream]:
    """Copy the first stream of a type out of a video or audio file, without its metadata and without decoding it.

    reading_options: of ffmpeg, for the file's demuxer.
    Raises MediaError if the file is of another kind, damaged, has no such stream, or exceeds the limits; also if it is
    truncated and of a kind with an index.
    """
    name = show_name(path)
    kind = sniff(path, caps=caps)
    if kind.demuxer is None:
        raise MediaError(f"{name} is a {kind.name} file; use a video or an audio file instead.")
    with _private_folder() as folder:
        clean = folder / "clean.mkv"
        selected = "0:V:0" if stream == "video" else "0:a:0"  # V excludes cover images
        options = ["-map", selected, "-c", "copy", "-map_metadata", "-1", "-map_chapters", "-1"]
        # What an edit list hides has times below 0, which Matroska cannot store.
        muxing = ["-output_ts_offset", str(_OFFSET), "-allow_raw_vfw", "1", "-f", "matroska", str(clean)]
        source_path = Path(os.fsdecode(path)).absolute()
        source = _input(source_path, kind.demuxer)
        # AVI files have no presentation times, so ffmpeg has to generate them.
        code, log = _run(["-fflags", "+genpts", *reading_options, *source, *options, *muxing], folder, name, caps)
        if re.search(r"^(\[.*\] )?Stream map .* matches no streams", log, re.MULTILINE):
            raise MediaError(f"{name} has no {stream} stream; choose another file.")
        is_cut = re.search(_DAMAGE, log, re.MULTILINE) is not None
        if is_cut and kind.has_index:
            raise MediaError(f"{name} is damaged or incomplete; choose an undamaged copy.")
        if code:
            other = "MP4" if kind.modality == "video" else "WAV"
            raise MediaError(f"{name} cannot be read as {kind.name}; it may be damaged, so convert it to {other}.")
        if dolby := re.search(_NO_BASE_LAYER, log, re.MULTILINE):
            raise MediaError(
                f"{name} is a Dolby Vision video of profile {dolby[1]}, whose colors ffmpeg cannot read; "
                "export it as HDR10, HLG or SDR."
            )
        found = replace(_describe(clean, log, stream, name, caps), is_incomplete=is_cut)
        shown = shown_seconds(path, stream) if kind.demuxer == "mov" else None
        if shown is not None and shown < found.duration - _TRIMMED:
            found = replace(found, duration=shown, skipped=0.0, edited=source_path)
        yield found


def has_video(path: str | os.PathLike, caps: MediaCaps = CAPS) -> bool:
    """Whether a video file has a video stream, other than a cover image. Nothing is decoded. Raises MediaError.

    Voice recorders and browsers also write WebM, MP4 and WMV files that only have audio.
    """
    name, kind = show_name(path), sniff(path, caps=caps)
    with _private_folder() as folder:
        _, log = _run(_input(Path(os.fsdecode(path)).absolute(), kind.demuxer), folder, name, caps)
    streams = re.findall(r"^  Stream #0:\d+.*: (Video|Audio): (?!.*\(attached pic\))", log, re.MULTILINE)
    return "Video" in streams or not streams


def decode(
    stream: CleanStream, options: Sequence[str], output: str, caps: MediaCaps = CAPS, max_pixels: int | None = None
) -> tuple[Path, int]:
    """Decode a clean stream into the file `output` in the same folder.

    options: ffmpeg's output options. max_pixels: the decoder refuses larger frames, whatever the header says.
    Returns the path and, for video, the number of frames. Raises MediaError if too little of the stream can be decoded.
    """
    path = stream.path.with_name(output)
    source = _input(stream.edited, "mov") if stream.edited else _input(stream.path, "matroska")
    limits = ["-threads", str(_THREADS)] + (["-max_pixels", str(max_pixels)] if max_pixels else [])
    code, log = _run(
        # If more than a tenth cannot be decoded, ffmpeg fails.
        [*limits, "-max_error_rate", "0.1", *source, *options, str(path)],
        stream.path.parent,
        stream.name,
        caps,
    )
    if code or not path.exists():
        raise MediaError(f"{stream.name} cannot be decoded; it may be damaged, so convert it to MP4 or WAV.")
    return path, _frames(log)


@cache
def can_tone_map() -> bool:
    """Whether ffmpeg has the filters that `load_video` needs to convert HDR videos."""
    listed = subprocess.run([_ffmpeg(), "-hide_banner", "-filters"], capture_output=True, text=True, check=False).stdout
    return all(re.search(rf"^ \S+ {name} ", listed, re.MULTILINE) for name in ("zscale", "tonemap"))


def _input(path, demuxer):
    whitelist = ["-protocol_whitelist", "file", "-format_whitelist", demuxer]
    return [*whitelist, "-f", demuxer, "-i", f"file:{path}"]


@contextmanager
def _private_folder():
    try:
        folder = tempfile.TemporaryDirectory(prefix="x2i-media-", ignore_cleanup_errors=True)
    except OSError as error:
        raise MediaError(f"A temporary file cannot be written ({error.strerror}); free some disk space.") from None
    with folder as path:
        yield Path(path)


def _run(arguments, folder, name, caps):
    """Run ffmpeg once; returns its exit status and log. Raises MediaError if it exceeds a limit."""
    command = [_ffmpeg(), "-hide_banner", "-nostdin", "-y", *arguments]
    if os.name == "posix":
        limits = (ceil(caps.child_seconds) * _THREADS, caps.child_bytes // 1024, caps.child_file_bytes // 512)
        command = ["/bin/sh", "-c", _LIMITED, "ffmpeg", *map(str, limits), *command]
    # Windows has such limits only through job objects; there, only the wall time is limited.
    log_path = folder / "ffmpeg.log"
    try:
        with log_path.open("wb") as log:
            code = _wait(_start(command, folder, log), caps.child_seconds)
    except subprocess.TimeoutExpired as error:
        raise MediaError(
            f"{name} takes longer than {error.timeout:g} s to read; use a shorter or smaller one."
        ) from None
    except OSError:
        raise MediaError(_NO_FFMPEG) from None
    text = _read_log(log_path)
    _check_exit(code, text, name, caps)
    return code, text


def _ffmpeg():
    try:
        import imageio_ffmpeg

        found = shutil.which(imageio_ffmpeg.get_ffmpeg_exe())
    except (ImportError, RuntimeError):
        found = None
    if found is None:
        raise MediaError(_NO_FFMPEG)
    return found


_NO_FFMPEG = "ffmpeg cannot be started; reinstall imageio-ffmpeg, or set IMAGEIO_FFMPEG_EXE to a working ffmpeg."


def _start(command, folder, log):
    environment = without_secrets() | {
        "AV_LOG_FORCE_NOCOLOR": "1",
        "MALLOC_ARENA_MAX": "2",  # glibc reserves 64 MB of address space per arena, with up to 8 arenas per core
    }
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        cwd=folder,
        env=environment,
        start_new_session=True,  # its own process group, so that its child processes can be killed with it
    )


def _wait(child, seconds):
    try:
        with current_budget().process(lambda: _kill(child), seconds) as allowed:
            return child.wait(timeout=allowed)
    finally:  # the time limit was reached, or the caller was interrupted
        if child.poll() is None:
            _kill(child)
            child.wait()


def _kill(child):
    with suppress(ProcessLookupError):
        if os.name == "posix":
            os.killpg(child.pid, signal.SIGKILL)
        else:
            child.kill()


def _read_log(path):
    with path.open("rb") as log:
        head = log.read(_LOG_HEAD)
        rest = log.seek(0, os.SEEK_END) - len(head)
        log.seek(-min(rest, _LOG_TAIL), os.SEEK_END)
        return (head + b"\n" + log.read()).decode(errors="replace")


def _check_exit(code, log, name, caps):
    if code in (126, 127):
        raise MediaError(_NO_FFMPEG)
    if code in _killed_by("SIGXFSZ"):
        raise MediaError(f"{name} decodes to more than {caps.child_file_bytes:,} bytes; use a shorter or smaller one.")
    no_memory = code and re.search(r"^\[.*(Cannot allocate memory|temporarily unavailable)", log, re.MULTILINE)
    if no_memory or code in _killed_by("SIGXCPU", "SIGKILL"):
        raise MediaError(
            f"{name} needs more than {caps.child_bytes / 2**30:g} GB or {caps.child_seconds:g} s to read; "
            "use a shorter or smaller one."
        )


def _killed_by(*names):
    """Exit statuses of a process killed by one of these signals; signals that the system lacks are skipped."""
    return [-getattr(signal, name) for name in names if hasattr(signal, name)]


def _describe(clean, log, stream, name, caps):
    # The clean file's times come from the packets, so a wrong header of the original has no effect.
    _, header = _run(_input(clean, "matroska"), clean.parent, name, caps)
    time = re.search(r"^  Duration: (\d+):(\d\d):(\d\d\.\d+)(, start: (-?[\d.]+))?", header, re.MULTILINE)
    if time is None:
        raise MediaError(f"The {stream} stream of {name} is empty or damaged; choose another file.")
    hours, minutes, seconds, _, start = time.groups()
    begin, end = float(start or 0), int(hours) * 3600 + int(minutes) * 60 + float(seconds)
    if stream == "audio":
        return CleanStream(clean, name, max(0.0, end - begin))
    duration = max(0.0, end - max(begin, _OFFSET))
    size = re.search(r"^  Stream #0:0.*: Video: .*?, (\d+)x(\d+)\b.*", header, re.MULTILINE)
    width, height = (int(side) for side in size.groups()) if size else (0, 0)
    if aspect := re.search(r"^  Stream #0:0.*: Video: .*\bSAR (\d+):(\d+)", header, re.MULTILINE):
        width = max(1, round(width * _pixel_aspect(*map(int, aspect.groups())))) if width else 0
    rotation = re.search(r"rotation of (-?[\d.]+) degrees", header)
    if rotation and round(abs(float(rotation[1]))) % 180 == 90:
        width, height = height, width
    has_audio = re.search(r"Stream #0:\d+.*: Audio: ", log) is not None
    hdr = re.search(r"^  Stream #0:0.*: Video: .*\b(arib-std-b67|smpte2084)\b", header, re.MULTILINE)
    wide = re.search(r"^  Stream #0:0.*: Video: .*/(bt2020|smpte43[12])/", header, re.MULTILINE)
    colors = {"hdr": hdr and hdr[1], "primaries": wide and wide[1]}
    skipped = max(0.0, _OFFSET - begin)
    return CleanStream(clean, name, duration, _frames(log), width, height, has_audio, **colors, skipped=skipped)


def _pixel_aspect(across, down):
    """Width of a pixel divided by its height; 1 where the header says what no camera and no DVD has."""
    aspect = across / down if across and down else 1
    return aspect if 1 / _MAX_PIXEL_ASPECT <= aspect <= _MAX_PIXEL_ASPECT else 1


def _frames(log):
    counts = re.findall(r"^frame=\s*(\d+)", log.replace("\r", "\n"), re.MULTILINE)
    return int(counts[-1]) if counts else 0
