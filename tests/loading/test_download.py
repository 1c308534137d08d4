"""Real downloads by huggingface_hub from a hub on this machine: progress, cut connections, no room, no permission."""

import multiprocessing
import os
import sys
import time

import pytest
from huggingface_hub import constants

from x2i_app.errors import CheckpointError
from x2i_app.loading.download import Download, download_snapshot

NAME = "owner/model"
FILES = ["*.json", "*.safetensors"]
PIECE = constants.DOWNLOAD_CHUNK_SIZE  # about 10 MB
WEIGHTS = os.urandom(25_000_000)


def refusal(repo_id=NAME, revision=None, files=FILES):
    with pytest.raises(CheckpointError) as raised:
        download_snapshot(repo_id, revision, files)
    assert "\n" not in str(raised.value)
    return str(raised.value)


def test_progress_is_told_in_bytes_and_ends_at_all_of_them(hub):
    hub.add(NAME, files={"config.json": b"{}", "a.safetensors": WEIGHTS, "b.bin": b"not wanted"})
    told = []
    folder = download_snapshot(NAME, None, FILES, told.append)
    assert (folder / "a.safetensors").read_bytes() == WEIGHTS
    assert not (folder / "b.bin").exists()
    total = len(WEIGHTS) + 2
    assert {moment.total for moment in told} == {total}
    counts = [moment.done for moment in told]
    assert counts == sorted(counts)
    assert counts[-1] == total
    assert len(counts) > 2
    assert str(told[-1]) == "Downloading owner/model: 25.0 MB of 25.0 MB"


def test_a_terminal_shows_a_bar_unless_somebody_else_is_told(hub, monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    hub.add(NAME, files={"a.safetensors": WEIGHTS})
    hub.add("owner/other", files={"a.safetensors": WEIGHTS[1:]})
    download_snapshot(NAME, None, FILES)
    assert "owner/model: 100%" in capsys.readouterr().err
    download_snapshot("owner/other", None, FILES, lambda moment: None)
    assert "owner/other" not in capsys.readouterr().err


def test_a_connection_that_breaks_is_taken_up_where_it_broke(hub):
    hub.add(NAME, files={"a.safetensors": WEIGHTS}, cuts={"a.safetensors": [12_000_000, 10_000_000]})
    told = []
    folder = download_snapshot(NAME, None, FILES, told.append)
    assert (folder / "a.safetensors").read_bytes() == WEIGHTS
    starts = [int(line.split("bytes=")[1].strip("-")) for line in hub.fetched()[1:]]
    assert len(starts) == 2
    assert all(start > 0 for start in starts)
    assert told[-1].done == len(WEIGHTS)


@pytest.fixture
def killed(hub, tmp_path):
    """A download that was killed with two pieces of a file on the disk, and another file whole; the partial file."""
    other = os.urandom(12_000_000)
    repository = hub.add(NAME, files={"a.safetensors": WEIGHTS, "b.safetensors": other, "config.json": b"{}"})
    repository.stalls["a.safetensors"] = 22_000_000
    process = multiprocessing.get_context("fork").Process(target=download_snapshot, args=(NAME, None, FILES))
    process.start()
    blobs = tmp_path / "cache/models--owner--model/blobs"
    assert hub.stalled.wait(60)
    deadline, expected = time.monotonic() + 60, {".incomplete": 2 * PIECE, "": len(other)}
    while {path.suffix: path.stat().st_size for path in blobs.iterdir()} != expected:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.kill()
    process.join()
    assert process.exitcode == -9
    repository.stalls.clear()
    assert hub.fetched() == ["a.safetensors", "b.safetensors"]
    hub.asked.clear()
    return next(blobs.glob("*.incomplete"))


def test_a_download_that_was_killed_is_taken_up_where_it_was(hub, killed):
    told = []
    folder = download_snapshot(NAME, None, FILES, told.append)
    assert hub.fetched() == [f"a.safetensors bytes={2 * PIECE}-", "config.json"]
    assert (folder / "a.safetensors").read_bytes() == WEIGHTS
    assert (told[0].done, told[-1].done) == (2 * PIECE, len(WEIGHTS) + 2)  # the file that is whole is not counted
    assert not killed.exists()
    hub.asked.clear()
    assert download_snapshot(NAME, None, FILES) == folder
    assert hub.fetched() == []


def test_a_part_that_was_damaged_meanwhile_is_found_out_and_fetched_anew(hub, killed):
    with killed.open("r+b") as part:
        part.write(b"not these bytes")
    assert "a.safetensors was damaged while its download was interrupted, and is removed; try again" in refusal()
    hub.asked.clear()
    assert (download_snapshot(NAME, None, FILES) / "a.safetensors").read_bytes() == WEIGHTS
    assert "a.safetensors" in hub.fetched()


def test_after_a_download_that_failed_whole_files_are_not_fetched_again(hub):
    repository = hub.add(NAME, files={"a.safetensors": WEIGHTS, "b.safetensors": b"b" * 100})
    repository.broken.add("b.safetensors")
    assert "cannot be downloaded: the hub answers 500; try again later, or give a local folder or file." in refusal()
    repository.broken.clear()
    hub.asked.clear()
    assert (download_snapshot(NAME, None, FILES) / "b.safetensors").read_bytes() == b"b" * 100
    assert hub.fetched() == ["b.safetensors"]


def test_a_disk_without_room_is_known_before_the_first_byte(hub):
    hub.add(NAME, files={"a.safetensors": b"abc"}, claimed_sizes={"a.safetensors": 10**15})
    assert "owner/model is 1000000.0 GB to download, and the disk of the hub's cache has " in refusal()
    assert hub.fetched() == []


def test_a_gated_model_says_where_to_accept_its_licence_and_opens_with_a_token(hub, monkeypatch):
    hub.add(NAME, files={"config.json": b"{}", "a.safetensors": WEIGHTS}, gated=True)
    said = refusal()
    assert (
        f"its licence must be accepted first; do so at {hub.url}/owner/model, then log in with `hf auth login`" in said
    )
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    assert (download_snapshot(NAME, None, FILES) / "a.safetensors").exists()


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"repo_id": "owner/none"}, "owner/none is not in the hub cache and cannot be downloaded: the hub has none"),
        ({"revision": "refs/pr/7"}, "it has no revision 'refs/pr/7'; check the name"),
        ({"files": ["other.bin"]}, "owner/model has no other.bin on the hub; check the name"),
    ],
)
def test_what_the_hub_does_not_have_is_named(hub, given, words):
    hub.add(NAME, files={"config.json": b"{}"})
    assert words in refusal(**given)


def test_a_revision_that_is_no_branch_is_asked_for_by_its_name(hub):
    hub.add(NAME, files={"config.json": b"{}"}, revisions=("refs/pr/1",))
    assert (download_snapshot(NAME, "refs/pr/1", FILES) / "config.json").exists()
    assert "it has no revision 'main'" in refusal(revision="main")


def test_offline_is_said_to_be_a_setting(hub, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert "HF_HUB_OFFLINE forbids to ask the hub; unset it, or give a local folder or file" in refusal()
    assert hub.asked == []


def test_no_connection_and_a_login_page_in_between_are_told_apart(hub, monkeypatch):
    hub.login_page = True
    assert "what answers is not the hub, but perhaps a proxy or a login page" in refusal()
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    assert "the connection failed (ConnectError); check it and try again" in refusal()


def test_a_moment_says_what_it_is_of_and_how_much():
    assert str(Download("a/b", 1_234_000_000, 22_000_000_000)) == "Downloading a/b: 1.2 GB of 22.0 GB"
