"""The ffmpeg process: what it copies, its limits, and that nothing of it is left behind."""

import os
import re
import tempfile
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from PIL import Image
from waiting import wait_until

from x2i_app.media import CAPS, load_audio, load_video
from x2i_app.media.ffmpeg import remux

FEW_SECONDS = replace(CAPS, child_seconds=3)  # in which a shell starts also on a busy machine


@pytest.fixture(autouse=True)
def nothing_stays_behind(tmp_path_factory, monkeypatch):
    """Temporary files are written to the test's own folder, which must be empty afterwards."""
    folder = tmp_path_factory.mktemp("temporary")
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield folder
    assert list(folder.iterdir()) == []


@pytest.fixture
def fake_ffmpeg(tmp_path, monkeypatch):
    """Install a shell script in place of ffmpeg."""

    def install(script):
        path = tmp_path / "ffmpeg"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(path))
        return path

    return install


@pytest.mark.parametrize("name", ["both.mp4", "both.mov", "both.mkv", "both.webm", "both.avi"])
def test_one_stream_is_copied_and_measured(samples, ffmpeg, tmp_path, name):
    with remux(samples / name, "video") as video:
        assert (video.width, video.height, video.frames) == (64, 48, 20)
        assert video.duration == pytest.approx(2, abs=0.02)
        ffmpeg("-i", video.path, "-map", "0:v", "-f", "null", "-")
        with pytest.raises(Exception, match="returned non-zero"):
            ffmpeg("-i", video.path, "-map", "0:a", "-f", "null", "-")
    with remux(samples / name, "audio") as audio:
        assert audio.duration == pytest.approx(2, abs=0.1)
    assert not video.path.exists()
    assert not audio.path.parent.exists()


def test_files_are_deleted_on_errors(samples):
    with pytest.raises(ZeroDivisionError), remux(samples / "both.mp4", "video"):
        1 / 0  # noqa: B018


def test_unusual_file_names(samples, tmp_path, monkeypatch):
    """They are never taken for options or protocols."""
    monkeypatch.chdir(tmp_path)
    for name in ("-i", "concat:a.mp4|b.mp4", "http:x.mp4", "pipe:0", "50%d.mp4", "two\nlines.mp4", "视频 🎬.mp4"):
        Path(name).write_bytes((samples / "both.mp4").read_bytes())
        assert len(load_video(name).frames) == 2


def test_metadata_cannot_imitate_the_log(samples, tmp_path, ffmpeg):
    title = "x\n[a] File ended prematurely\nStream map '0:V:0' matches no streams.\nframe= 99999"
    ffmpeg("-i", samples / "both.mp4", "-c", "copy", "-metadata", f"title={title}", tmp_path / "a.mp4")
    with remux(tmp_path / "a.mp4", "video") as video:
        assert video.frames == 20


def test_an_image_is_not_remuxed(tmp_path, refused):
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    refused(lambda: remux(tmp_path / "a.png", "audio").__enter__(), contains="a PNG file")


def test_a_hanging_ffmpeg_is_killed(samples, tmp_path, fake_ffmpeg, refused):
    """Its child processes are killed too."""
    pids = tmp_path / "pids"
    fake_ffmpeg(f"sleep 3600 &\necho $$ $! > {pids}\nsleep 3600")
    for load in (load_video, load_audio):
        refused(load, samples / "both.mp4", caps=FEW_SECONDS, contains=["'both.mp4' takes longer than 3 s"])
        numbers = [int(pid) for pid in pids.read_text().split()]
        assert len(numbers) == 2
        wait_until(lambda numbers=numbers: not any(map(alive, numbers)))


def test_an_ffmpeg_that_ignores_signals_is_killed(samples, fake_ffmpeg, refused):
    fake_ffmpeg("trap '' TERM INT HUP\nwhile :; do sleep 0.1; done")
    refused(load_video, samples / "both.mp4", caps=FEW_SECONDS, contains="3 s")


def test_ffmpeg_runs_with_limits(samples, tmp_path, fake_ffmpeg, refused):
    log = tmp_path / "limits"
    fake_ffmpeg(f"{{ ulimit -v; ulimit -f; ulimit -c; ulimit -t; cut -d' ' -f5 /proc/$$/stat; pwd; }} > {log}; exit 1")
    refused(load_video, samples / "both.mp4", caps=replace(CAPS, child_seconds=7))
    memory, written, core, cpu, group, folder = log.read_text().split()
    assert int(memory) == CAPS.child_bytes // 1024
    assert int(written) in (CAPS.child_file_bytes // 512, CAPS.child_file_bytes // 1024)  # blocks differ by shell
    assert int(core) == 0
    assert int(cpu) % 7 == 0
    assert int(group) != os.getpgrp()
    assert re.match(r"x2i-media-", Path(folder).name)


def test_memory_and_output_limits(samples, refused):
    refused(load_video, samples / "both.mp4", caps=replace(CAPS, child_bytes=2 * 10**8))
    refused(load_audio, samples / "both.mp4", caps=replace(CAPS, child_file_bytes=100_000), contains="100,000 bytes")


def test_an_endless_log(samples, fake_ffmpeg, refused):
    fake_ffmpeg("exec yes")
    refused(load_video, samples / "both.mp4", caps=replace(CAPS, child_file_bytes=10**6), contains="1,000,000 bytes")


@pytest.mark.parametrize("broken", ["missing", "not a program", "a folder"])
def test_a_missing_ffmpeg(samples, tmp_path, monkeypatch, refused, broken):
    path = tmp_path / "ffmpeg"
    if broken == "not a program":
        path.write_bytes(b"\x00\x01\x02")
        path.chmod(0o755)
    if broken == "a folder":
        path.mkdir()
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(path))
    for load in (load_video, load_audio):
        refused(load, samples / "both.mp4", contains=["ffmpeg cannot be started", "IMAGEIO_FFMPEG_EXE"])


def test_an_unwritable_temporary_folder(samples, tmp_path, monkeypatch, refused):
    with monkeypatch.context() as patch:
        patch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
        refused(load_video, samples / "both.mp4", contains="temporary file")


def alive(pid):
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
