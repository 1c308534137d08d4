"""One bounded ffmpeg child at a time: copy one stream of an untrusted file into a clean one, then decode that.

ffmpeg opens more than files: playlists, manifests and network addresses. Here it is told the one demuxer that fits what
`guard.sniff` found and the one protocol `file`, works in a private folder, and is stopped, with its children, at the
caps on wall time, CPU time, memory and written bytes.
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
from math import ceil
from pathlib import Path
from typing import Literal

from x2i_app.errors import MediaError
from x2i_app.media.guard import CAPS, MediaCaps, show_name, sniff

_THREADS = min(4, os.cpu_count() or 1)  # each decoding thread holds frames of its own in the child's memory
_LOG_HEAD, _LOG_TAIL = 200_000, 20_000
# What demuxers log about a file that was cut, at the start of a line, where no title of the file can stand.
_DAMAGE = r"^\[.*\].*(partial file|ended prematurely|corrupt input packet)"

# The shell sets the limits and becomes ffmpeg. Unlike a `preexec_fn` that is safe in a program with threads. A limit
# that the system does not know (macOS has none on memory) is passed over.
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
    """One stream of an untrusted file, copied into a Matroska file of our own. It lives as long as `remux`'s block.

    path: the clean file; name: how messages call the original; duration: seconds, measured from the packets.
    frames: packets of video; width, height: pixels as shown, that is after rotation. These three are 0 of a sound.
    has_sound: whether the original has a sound track.
    """

    path: Path
    name: str
    duration: float
    frames: int = 0
    width: int = 0
    height: int = 0
    has_audio: bool = False


@contextmanager
def remux(path: str | os.PathLike, stream: Literal["video", "audio"], caps: MediaCaps = CAPS) -> Iterator[CleanStream]:
    """The first stream of that type in a video or M4A file, alone and without metadata; nothing is decoded.

    Raises MediaError if the file is of another kind, damaged, cut off, has no such stream, or takes more than the caps.
    """
    name = show_name(path)
    kind = sniff(path, caps=caps)
    if kind.demuxer is None:
        raise MediaError(f"{name} is a {kind.name} file; send an MP4, MOV, WebM, MKV, AVI or M4A file instead.")
    with _private_folder() as folder:
        clean = folder / "clean.mkv"
        wanted = "0:V:0" if stream == "video" else "0:a:0"  # V leaves out cover pictures
        options = ["-map", wanted, "-c", "copy", "-map_metadata", "-1", "-map_chapters", "-1"]
        muxing = ["-allow_raw_vfw", "1", "-f", "matroska", str(clean)]
        source = _input(Path(os.fsdecode(path)).absolute(), kind.demuxer)
        # AVI knows no presentation times: ffmpeg has to make them.
        code, log = _run(["-fflags", "+genpts", *source, *options, *muxing], folder, name, caps)
        if re.search(r"^(\[.*\] )?Stream map .* matches no streams", log, re.MULTILINE):
            raise MediaError(f"{name} has no {'sound' if stream == 'audio' else 'video'} in it; send another file.")
        if re.search(_DAMAGE, log, re.MULTILINE):
            raise MediaError(f"{name} is damaged or cut off; send it again.")
        if code:
            raise MediaError(f"{name} cannot be read as {kind.name}; it may be damaged: send it again or convert it.")
        yield _describe(clean, log, stream, name, caps)


def decode(
    stream: CleanStream, options: Sequence[str], output: str, caps: MediaCaps = CAPS, max_pixels: int | None = None
) -> tuple[Path, int]:
    """Decode a clean stream with ffmpeg's output `options` into the file `output` beside it.

    max_pixels: the decoder refuses larger frames, whatever the header promised.
    Returns its path and, of video, the number of frames written. Raises MediaError if little or nothing can be decoded.
    """
    path = stream.path.with_name(output)
    limits = ["-threads", str(_THREADS)] + (["-max_pixels", str(max_pixels)] if max_pixels else [])
    code, log = _run(
        # A stream of which a tenth does not decode is damaged.
        [*limits, "-max_error_rate", "0.1", *_input(stream.path, "matroska"), *options, str(path)],
        stream.path.parent,
        stream.name,
        caps,
    )
    if code or not path.exists():
        raise MediaError(f"{stream.name} cannot be decoded; it may be damaged: send it again or convert it.")
    return path, _frames(log)


def _input(path, demuxer):
    whitelist = ["-protocol_whitelist", "file", "-format_whitelist", demuxer]
    return [*whitelist, "-f", demuxer, "-i", f"file:{path}"]


@contextmanager
def _private_folder():
    try:
        folder = tempfile.TemporaryDirectory(prefix="x2i-media-", ignore_cleanup_errors=True)
    except OSError as error:
        raise MediaError(f"No temporary file can be written ({error.strerror}); free some disk space.") from None
    with folder as path:
        yield Path(path)


def _run(arguments, folder, name, caps):
    """Run ffmpeg once within the caps: exit status and what it logged. Raises MediaError where a cap bites."""
    command = [_ffmpeg(), "-hide_banner", "-nostdin", "-y", *arguments]
    if os.name == "posix":
        limits = (ceil(caps.child_seconds) * _THREADS, caps.child_bytes // 1024, caps.child_file_bytes // 512)
        command = ["/bin/sh", "-c", _LIMITED, "ffmpeg", *map(str, limits), *command]
    # Windows has no such limits without its job objects: there the wall time alone bounds the child.
    log_path = folder / "ffmpeg.log"
    try:
        with log_path.open("wb") as log:
            code = _wait(_start(command, folder, log), caps.child_seconds)
    except subprocess.TimeoutExpired:
        raise MediaError(
            f"{name} takes longer than {caps.child_seconds:g} s to read; send a shorter or smaller one."
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


_NO_FFMPEG = "ffmpeg cannot be started; reinstall imageio-ffmpeg or let IMAGEIO_FFMPEG_EXE name a working ffmpeg."


def _start(command, folder, log):
    environment = os.environ | {
        "AV_LOG_FORCE_NOCOLOR": "1",
        "MALLOC_ARENA_MAX": "2",  # glibc reserves 64 MB of address space an arena, up to eight arenas a core
    }
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        cwd=folder,
        env=environment,
        start_new_session=True,  # a group of its own, so that its children can be killed with it
    )


def _wait(child, seconds):
    try:
        return child.wait(timeout=seconds)
    finally:  # time is up, or the caller was interrupted
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
        raise MediaError(
            f"{name} unpacks to more than the {caps.child_file_bytes:,} bytes allowed; send a shorter or smaller one."
        )
    no_memory = code and re.search(r"^\[.*(Cannot allocate memory|temporarily unavailable)", log, re.MULTILINE)
    if no_memory or code in _killed_by("SIGXCPU", "SIGKILL"):
        raise MediaError(
            f"{name} takes more than the {caps.child_bytes / 2**30:g} GB and {caps.child_seconds:g} s allowed to read; "
            "send a shorter or smaller one."
        )


def _killed_by(*names):
    """Exit statuses of a child that one of these signals killed; none where the system has no such signals."""
    return [-getattr(signal, name) for name in names if hasattr(signal, name)]


def _describe(clean, log, stream, name, caps):
    # Read from the clean file: its times come from the packets, so a header that lies is of no use.
    _, header = _run(_input(clean, "matroska"), clean.parent, name, caps)
    time = re.search(r"^  Duration: (\d+):(\d\d):(\d\d\.\d+)(, start: (-?[\d.]+))?", header, re.MULTILINE)
    if time is None:
        raise MediaError(
            f"The {stream} stream of {name} has nothing in it that can be read; it may be damaged: send it again."
        )
    hours, minutes, seconds, _, start = time.groups()
    duration = max(0.0, int(hours) * 3600 + int(minutes) * 60 + float(seconds) - float(start or 0))
    if stream == "audio":
        return CleanStream(clean, name, duration)
    line = re.search(r"^  Stream #0:0.*: Video: .*?, (\d+)x(\d+)\b.*", header, re.MULTILINE)
    width, height = (int(side) for side in line.groups()) if line else (0, 0)
    turned = re.search(r"rotation of (-?[\d.]+) degrees", header)
    if turned and round(abs(float(turned[1]))) % 180 == 90:
        width, height = height, width
    has_audio = re.search(r"Stream #0:\d+.*: Audio: ", log) is not None
    return CleanStream(clean, name, duration, _frames(log), width, height, has_audio)


def _frames(log):
    counts = re.findall(r"^frame=\s*(\d+)", log.replace("\r", "\n"), re.MULTILINE)
    return int(counts[-1]) if counts else 0
