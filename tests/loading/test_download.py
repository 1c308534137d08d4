"""Real downloads by huggingface_hub from a hub on this machine: progress, cut connections, no room, no permission."""

import os
import sys

import pytest
from huggingface_hub import constants

from x2i_app.errors import CheckpointError
from x2i_app.loading.download import Download, download_snapshot

NAME = "owner/model"
FILES = ["*.json", "*.safetensors"]
WEIGHTS = os.urandom(25_000_000)  # pieces are of 10 MB


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
    hub.add(NAME, files={"config.json": b"{}"}, gated=True)
    said = refusal()
    assert (
        f"its licence must be accepted first; do so at {hub.url}/owner/model, then log in with `hf auth login`" in said
    )
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    assert (download_snapshot(NAME, None, FILES) / "config.json").exists()


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
