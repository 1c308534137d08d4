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
from dataclasses import dataclass
from functools import cache
from math import ceil
from pathlib import Path
from typing import Literal

from x2i_app.errors import MediaError
from x2i_app.media.guard import CAPS, MediaCaps, show_name, sniff

_THREADS = min(4, os.cpu_count() or 1)  # each decoding thread keeps frames in memory
_LOG_HEAD, _LOG_TAIL = 200_000, 20_000  # bytes of the log that are read
# What demuxers log about a truncated file. It starts a row with a bracket, which metadata of the file never do.
_DAMAGE = r"^\[.*\].*(partial file|ended prematurely|corrupt input packet)"

# The shell sets the limits and replaces itself with ffmpeg. Unlike `preexec_fn`, this is safe with threads.
# Limits that the system does not support are skipped (macOS has none for memory).
_LIMITED = """
ulimit -c 0 2>/dev/null || :
ulimit -t "$1" 2>/dev/null || :
ulimit -v "$2" 2>/dev/null || :
ulimit -f "$3" 2>/dev/null || :
shift 3
exec "$@"
"""


@dataclass(frozen=True)
class CleanStream:
    """One stream of an untrusted file, copied into a new Matroska file that exists until `remux`'s block ends.

    path: the clean file. name: of the original, for messages. duration: seconds, measured from the packets.
    frames: number of video packets. width, height: pixels, after rotation. All three are 0 for audio.
    has_audio: whether the original has an audio stream. hdr: transfer function of an HDR video, as ffmpeg calls it
    ("arib-std-b67" is HLG, "smpte2084" is PQ), else None.
    """

    path: Path
    name: str
    duration: float
    frames: int = 0
    width: int = 0
    height: int = 0
    has_audio: bool = False
    hdr: str | None = None


@contextmanager
def remux(path: str | os.PathLike, stream: Literal["video", "audio"], caps: MediaCaps = CAPS) -> Iterator[CleanStream]:
    """Copy the first stream of a type out of a video or M4A file, without its metadata and without decoding it.

    Raises MediaError if the file is of another kind, damaged, truncated, has no such stream, or exceeds the limits.
    """
    name = show_name(path)
    kind = sniff(path, caps=caps)
    if kind.demuxer is None:
        raise MediaError(f"{name} is a {kind.name} file; use an MP4, MOV, WebM, MKV, AVI or M4A file instead.")
    with _private_folder() as folder:
        clean = folder / "clean.mkv"
        selected = "0:V:0" if stream == "video" else "0:a:0"  # V excludes cover images
        options = ["-map", selected, "-c", "copy", "-map_metadata", "-1", "-map_chapters", "-1"]
        muxing = ["-allow_raw_vfw", "1", "-f", "matroska", str(clean)]
        source = _input(Path(os.fsdecode(path)).absolute(), kind.demuxer)
        # AVI files have no presentation times, so ffmpeg has to generate them.
        code, log = _run(["-fflags", "+genpts", *source, *options, *muxing], folder, name, caps)
        if re.search(r"^(\[.*\] )?Stream map .* matches no streams", log, re.MULTILINE):
            raise MediaError(f"{name} has no {stream} stream; choose another file.")
        if re.search(_DAMAGE, log, re.MULTILINE):
            raise MediaError(f"{name} is damaged or incomplete; choose an undamaged copy.")
        if code:
            raise MediaError(f"{name} cannot be read as {kind.name}; it may be damaged, so convert it to MP4.")
        yield _describe(clean, log, stream, name, caps)


def decode(
    stream: CleanStream, options: Sequence[str], output: str, caps: MediaCaps = CAPS, max_pixels: int | None = None
) -> tuple[Path, int]:
    """Decode a clean stream into the file `output` in the same folder.

    options: ffmpeg's output options. max_pixels: the decoder refuses larger frames, whatever the header says.
    Returns the path and, for video, the number of frames. Raises MediaError if too little of the stream can be decoded.
    """
    path = stream.path.with_name(output)
    limits = ["-threads", str(_THREADS)] + (["-max_pixels", str(max_pixels)] if max_pixels else [])
    code, log = _run(
        # If more than a tenth cannot be decoded, ffmpeg fails.
        [*limits, "-max_error_rate", "0.1", *_input(stream.path, "matroska"), *options, str(path)],
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
    except subprocess.TimeoutExpired:
        raise MediaError(
            f"{name} takes longer than {caps.child_seconds:g} s to read; use a shorter or smaller one."
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
    environment = os.environ | {
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
        return child.wait(timeout=seconds)
    finally:  # the time limit was reached, or the caller was interrupted
        if child.poll() is None:
            with suppress(ProcessLookupError):
                if os.name == "posix":
                    os.killpg(child.pid, signal.SIGKILL)
                else:
                    child.kill()
            child.wait()


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
    duration = max(0.0, int(hours) * 3600 + int(minutes) * 60 + float(seconds) - float(start or 0))
    if stream == "audio":
        return CleanStream(clean, name, duration)
    size = re.search(r"^  Stream #0:0.*: Video: .*?, (\d+)x(\d+)\b.*", header, re.MULTILINE)
    width, height = (int(side) for side in size.groups()) if size else (0, 0)
    rotation = re.search(r"rotation of (-?[\d.]+) degrees", header)
    if rotation and round(abs(float(rotation[1]))) % 180 == 90:
        width, height = height, width
    has_audio = re.search(r"Stream #0:\d+.*: Audio: ", log) is not None
    hdr = re.search(r"^  Stream #0:0.*: Video: .*\b(arib-std-b67|smpte2084)\b", header, re.MULTILINE)
    return CleanStream(clean, name, duration, _frames(log), width, height, has_audio, hdr and hdr[1])


def _frames(log):
    counts = re.findall(r"^frame=\s*(\d+)", log.replace("\r", "\n"), re.MULTILINE)
    return int(counts[-1]) if counts else 0
