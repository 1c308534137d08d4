"""Finding and downloading files: local paths, the models folder, the hub's cache, and downloads by the real client.

The hub is a server on this machine.
"""

import multiprocessing
import os
import shutil
import sys

import pytest
import torch
from huggingface_hub import constants, snapshot_download
from waiting import wait_until

from x2i_app.errors import CheckpointError
from x2i_app.loading import load_alignnet, load_pipeline
from x2i_app.loading.hub import (
    Download,
    Found,
    commit_name,
    download_file,
    download_snapshot,
    find_directory,
    find_file,
    list_files,
)
from x2i_app.loading.lora import find_lora
from x2i_app.models import AlignNet
from x2i_app.presets import PRESETS

COMMIT = "0" * 40
NAME = "owner/model"
FILES = ["*.json", "*.safetensors"]
CHUNK = constants.DOWNLOAD_CHUNK_SIZE  # about 10 MB
WEIGHTS = os.urandom(25_000_000)


# ----- Find ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "source",
    ["owner/na me", "owner/..", "../owner", "owner/", "a--b/c", "/no/such", "owner", "a\nb/c", "a" * 5000, "a\0b/c"],
)
def test_no_folder(source):
    """A string that is neither a folder nor a hub id is quoted in one line."""
    with pytest.raises(CheckpointError, match=r"There is no folder '.*'; give a folder or a hub id") as raised:
        find_directory(source, None, ["*"])
    assert "\n" not in str(raised.value)


def test_not_cached():
    with pytest.raises(CheckpointError, match="owner/name is not in the hub cache and cannot be downloaded"):
        find_directory("owner/name", None, ["*"])


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("owner/name/file.bin", "file.bin of owner/name is not in the hub cache"),
        ("owner/name/folder/file.bin", "folder/file.bin of owner/name is not in the hub cache"),
        ("owner/na me/file.bin", "There is no file 'owner/na me/file.bin'; give a file or a hub file"),
        ("owner/name/../file.bin", "There is no file 'owner/name/../file.bin'"),
        ("../../file.bin", "There is no file '../../file.bin'"),
        ("/no/such/file.bin", "There is no file '/no/such/file.bin'"),
        ("no\nsuch.bin", r"There is no file 'no\\nsuch.bin'"),
    ],
)
def test_no_file(source, message):
    with pytest.raises(CheckpointError, match=message) as raised:
        load_alignnet(find_file(source).path)
    assert "\n" not in str(raised.value)


def test_file_sources(tmp_path, monkeypatch):
    """A file is found as a folder, in the hub's cache, and by a relative path that looks like a hub file."""
    align_net = AlignNet(3, 6, joint_dim=4, pooled_dim=2)
    align_net.save_pretrained(tmp_path / "folder")
    assert find_file(tmp_path / "folder").path == tmp_path / "folder"
    cached = tmp_path / "cache/models--owner--name"
    (cached / "snapshots" / COMMIT / "deep").mkdir(parents=True)
    (cached / "refs").mkdir()
    (cached / "refs/main").write_text(COMMIT)
    torch.save(align_net.state_dict(), cached / "snapshots" / COMMIT / "deep/a.bin")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    found = find_file("owner/name/deep/a.bin")
    assert found.place == "hub cache"
    assert load_alignnet(found.path).config.num_states == 3
    monkeypatch.chdir(tmp_path)
    relative = find_file(f"cache/models--owner--name/snapshots/{COMMIT}/deep/a.bin")
    assert relative.place == "local path"
    assert load_alignnet(relative.path)


def test_pattern_in_name(hub):
    """A file whose name contains glob characters is downloaded, and no other."""
    hub.add(NAME, files={"a[1].bin": b"this", "a1.bin": b"not this"})
    assert find_file(f"{NAME}/a[1].bin").path.read_bytes() == b"this"
    assert hub.fetched() == ["a[1].bin"]


def test_no_released_alignnet():
    unreleased = [preset for preset in PRESETS.values() if not preset.align_net.filenames]
    assert unreleased
    for preset in unreleased:
        with pytest.raises(CheckpointError, match=f"No AlignNet is released for {preset.name}; train your own"):
            load_pipeline(preset.name, profile="cpu")


def test_revisions(hub):
    """The preset's MLLM is asked for at its pinned revision, one that the user names at its newest."""
    for name in ("Qwen/Qwen2.5-VL-3B-Instruct", "owner/finetune"):
        hub.add(name, files={}, revisions=())
    for mllm in (None, "owner/finetune"):
        with pytest.raises(CheckpointError, match="it has no revision"):
            load_pipeline("qwen2.5-vl-3b", profile="cpu", mllm=mllm, alignnet="some.bin")
    assert [request for request in hub.asked if "/api/models/" in request] == [
        "GET /api/models/Qwen/Qwen2.5-VL-3B-Instruct/tree/66285546d2b821cf421d4f5eb2576359d3770cd3",
        "GET /api/models/owner/finetune/revision/main",
    ]


def test_a_named_revision(hub):
    """OWNER/NAME@REVISION is asked for; without one, the commit that was found first is used until it is removed."""
    hub.add(NAME, files={"config.json": b"{}"})
    first = find_directory(NAME, None, ["*.json"])
    commit = "d" * 40
    hub.add(NAME, files={"config.json": b"[]", "a.bin": b"new"}, revisions=("main", "v2", commit))
    hub.asked.clear()
    assert find_directory(NAME, None, ["*.json"]) == Found(first.path, "hub cache")
    assert hub.asked == []
    for source, revision in ((f"{NAME}@{commit}", None), (f"{NAME}@v2", None), (f"{NAME}@{commit}", "main")):
        found = find_directory(source, revision, ["*.json"])
        assert (found.path / "config.json").read_bytes() == b"[]"
        assert commit_name(found.path) == f"{NAME}@{commit}"
    assert commit_name(find_file(f"{NAME}@{commit}/a.bin").path) == f"{NAME}@{commit}/a.bin"
    with pytest.raises(CheckpointError, match="it has no revision 'v3'"):
        find_directory(f"{NAME}@v3", None, ["*.json"])


@pytest.mark.parametrize("source", [f"{NAME}@", f"{NAME}@../../x", f"{NAME}@a b", f"{NAME}@/a", f"{NAME}@a@b"])
def test_an_odd_revision(source):
    with pytest.raises(CheckpointError, match="There is no revision"):
        find_directory(source, None, ["*"])


def test_commits_are_named_only_in_the_cache(tmp_path, hub):
    cache = hub.cache
    for path in (tmp_path, cache, cache / "models--a--b", cache / "datasets--a--b/snapshots" / COMMIT / "c.bin"):
        assert commit_name(path) is None


def test_required_commits(hub, tmp_path, monkeypatch):
    """With X2I_REQUIRE_REVISION nothing comes from the hub or its cache that can change; local files do."""
    hub.add(NAME, files={"config.json": b"{}", "a.bin": b"x"}, revisions=("main", COMMIT))
    find_directory(NAME, None, ["*.json"])
    monkeypatch.setenv("X2I_REQUIRE_REVISION", "1")
    hub.asked.clear()
    unpinned = (
        lambda: find_directory(NAME, None, ["*.json"]),
        lambda: find_directory(NAME, "main", ["*.json"]),
        lambda: find_file(f"{NAME}@main/a.bin"),
        lambda: list_files(NAME, None, "a.bin"),
        lambda: find_lora(NAME),
    )
    for find in unpinned:
        with pytest.raises(CheckpointError, match=f"{NAME} is named without a commit, which X2I_REQUIRE_REVISION"):
            find()
    assert hub.asked == []
    assert find_directory(f"{NAME}@{COMMIT}", None, ["*.json"]).place == "hub cache"
    assert find_file(f"{NAME}@{COMMIT}/a.bin").place == "hub"
    folder = tmp_path / "models" / NAME
    folder.mkdir(parents=True)
    assert find_directory(NAME, None, ["*.json"]) == Found(folder, "models folder")
    monkeypatch.setenv("X2I_REQUIRE_REVISION", "0")
    folder.rmdir()
    assert find_directory(NAME, None, ["*.json"]).place == "hub cache"


# ----- Download ------------------------------------------------------------------------------------------------------


def refusal(repo_id=NAME, revision=None, files=FILES):
    with pytest.raises(CheckpointError) as raised:
        download_snapshot(repo_id, revision, files)
    assert "\n" not in str(raised.value)
    return str(raised.value)


def test_progress(hub):
    """Progress is in bytes, grows, and ends at the total."""
    hub.add(NAME, files={"config.json": b"{}", "a.safetensors": WEIGHTS, "b.bin": b"not wanted"})
    reports = []
    folder = download_snapshot(NAME, None, FILES, reports.append)
    assert (folder / "a.safetensors").read_bytes() == WEIGHTS
    assert not (folder / "b.bin").exists()
    total = len(WEIGHTS) + 2
    assert {report.total for report in reports} == {total}
    counts = [report.done for report in reports]
    assert counts == sorted(counts)
    assert counts[-1] == total
    assert len(counts) > 2
    assert str(reports[-1]) == "Downloading owner/model: 25.0 MB of 25.0 MB"


def test_report_text():
    assert str(Download("a/b", 1_234_000_000, 22_000_000_000)) == "Downloading a/b: 1.2 GB of 22.0 GB"


def test_report_stops(hub):
    """An exception in `report` ends the download; what was downloaded so far stays."""
    hub.add(NAME, files={"a.safetensors": WEIGHTS})

    def stop(progress):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        download_snapshot(NAME, None, FILES, stop)
    assert hub.fetched() == ["a.safetensors"]
    assert (download_snapshot(NAME, None, FILES) / "a.safetensors").read_bytes() == WEIGHTS


def test_terminal_bar(hub, monkeypatch, capsys):
    """Without `report` a terminal shows a progress bar; with it, or without a terminal, nothing is drawn."""
    hub.add(NAME, files={"a.safetensors": WEIGHTS})
    hub.add("owner/other", files={"a.safetensors": WEIGHTS[1:]})
    hub.add("owner/third", files={"a.safetensors": WEIGHTS[2:]})
    download_snapshot("owner/third", None, FILES)
    assert capsys.readouterr() == ("", "")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    download_snapshot(NAME, None, FILES)
    assert "owner/model: 100%" in capsys.readouterr().err
    download_snapshot("owner/other", None, FILES, lambda progress: None)
    assert capsys.readouterr() == ("", "")


def test_broken_connection(hub):
    """A connection that breaks is continued at the byte where it broke."""
    hub.add(NAME, files={"a.safetensors": WEIGHTS}, cuts={"a.safetensors": [12_000_000]})
    reports = []
    folder = download_snapshot(NAME, None, FILES, reports.append)
    assert (folder / "a.safetensors").read_bytes() == WEIGHTS
    whole, resumed = hub.fetched()
    assert whole == "a.safetensors"
    assert int(resumed.split("bytes=")[1].strip("-")) > 0
    assert reports[-1].done == len(WEIGHTS)


def kill_download(hub, tmp_path, download, *arguments):
    """Kill a process that has two chunks of a.safetensors and all of b.safetensors; the partial file."""
    other = os.urandom(12_000_000)
    repository = hub.add(NAME, files={"a.safetensors": WEIGHTS, "b.safetensors": other, "config.json": b"{}"})
    repository.stalls["a.safetensors"] = 22_000_000
    process = multiprocessing.get_context("fork").Process(target=download, args=arguments)
    process.start()
    blobs = tmp_path / "cache/models--owner--model/blobs"
    assert hub.stalled.wait(60)
    expected = {(".incomplete", 2 * CHUNK), ("", len(other))}
    wait_until(lambda: expected <= {(path.suffix, path.stat().st_size) for path in blobs.iterdir()})
    process.kill()
    process.join()
    assert process.exitcode == -9
    repository.stalls.clear()
    hub.asked.clear()
    return next(blobs.glob("*.incomplete"))


def test_client_restarts(hub, tmp_path):
    """huggingface_hub alone drops what a killed process has of a file.

    When this test fails, the client resumes by itself, and `hub._download_large` can be removed.
    """
    kill_download(hub, tmp_path, snapshot_download, NAME)
    snapshot_download(NAME)
    assert "a.safetensors" in hub.fetched()  # from its first byte


def test_killed(hub, tmp_path):
    """The next process resumes the partial file at its last byte, and the complete file is not read again."""
    partial = kill_download(hub, tmp_path, download_snapshot, NAME, None, FILES)
    reports = []
    folder = download_snapshot(NAME, None, FILES, reports.append)
    assert hub.fetched() == [f"a.safetensors bytes={2 * CHUNK}-", "config.json"]
    assert (folder / "a.safetensors").read_bytes() == WEIGHTS
    assert (reports[0].done, reports[-1].done) == (2 * CHUNK, len(WEIGHTS) + 2)  # without the complete file
    assert not partial.exists()
    hub.asked.clear()
    assert download_snapshot(NAME, None, FILES) == folder
    assert hub.fetched() == []


def test_damaged_part(hub, tmp_path):
    """A part that was damaged in between is noticed by the file's hash, removed, and downloaded again."""
    partial = kill_download(hub, tmp_path, download_snapshot, NAME, None, FILES)
    with partial.open("r+b") as file:
        file.write(b"not these bytes")
    assert "a.safetensors was damaged while its download was interrupted, and is removed; try again" in refusal()
    hub.asked.clear()
    assert (download_snapshot(NAME, None, FILES) / "a.safetensors").read_bytes() == WEIGHTS
    assert "a.safetensors" in hub.fetched()


def test_failed_file(hub):
    """When one file fails, files that are complete are not downloaded again."""
    repository = hub.add(NAME, files={"a.safetensors": WEIGHTS, "b.safetensors": b"b" * 100})
    repository.broken.add("b.safetensors")
    assert "cannot be downloaded: the hub answers 500; try again later, or give a local folder or file." in refusal()
    repository.broken.clear()
    hub.asked.clear()
    assert (download_snapshot(NAME, None, FILES) / "b.safetensors").read_bytes() == b"b" * 100
    assert hub.fetched() == ["b.safetensors"]


def test_failed_large_file(hub, monkeypatch):
    """When one large file fails, the download of the others stops, and the error is that of the file."""
    repository = hub.add(NAME, files={"a.safetensors": WEIGHTS, "b.safetensors": WEIGHTS[::-1]})
    repository.stalls["a.safetensors"] = 22_000_000
    repository.broken.add("b.safetensors")
    monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 3600)  # for the next bytes of the other file
    assert "the hub answers 500" in refusal()


def test_disk_space(hub, tmp_path):
    """A disk that is too small is noticed before the first byte is downloaded; a GiB must stay free."""
    hub.add(NAME, files={"a.safetensors": b"abc"}, claimed_sizes={"a.safetensors": 10**15})
    assert "owner/model is 1000000.0 GB to download, and the disk of the hub's cache has " in refusal()
    almost_full = shutil.disk_usage(tmp_path).free - 2**29
    hub.add("owner/other", files={"a.safetensors": b"abc"}, claimed_sizes={"a.safetensors": almost_full})
    assert "make room, or set HF_HOME to a folder on another disk" in refusal("owner/other")
    assert hub.fetched() == []


def test_gated(hub, monkeypatch):
    """A gated model names the page where its license is accepted, and can be downloaded with a token."""
    hub.add(NAME, files={"config.json": b"{}", "a.safetensors": WEIGHTS}, gated=True)
    message = f"its license must be accepted first; do so at {hub.url}/owner/model, then log in with `hf auth login`"
    assert message in refusal()
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    assert (download_snapshot(NAME, None, FILES) / "a.safetensors").exists()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"repo_id": "owner/none"}, "owner/none is not in the hub cache and cannot be downloaded: the hub has no such"),
        ({"revision": "refs/pr/7"}, "it has no revision 'refs/pr/7'; check the name"),
        ({"files": ["other.bin"]}, "owner/model has no other.bin on the hub; check the name"),
    ],
)
def test_not_on_hub(hub, given, message):
    hub.add(NAME, files={"config.json": b"{}"})
    assert message in refusal(**given)


def test_pull_request_revision(hub):
    hub.add(NAME, files={"config.json": b"{}"}, revisions=("refs/pr/1",))
    assert (download_snapshot(NAME, "refs/pr/1", FILES) / "config.json").exists()
    assert "it has no revision 'main'" in refusal(revision="main")


def test_offline(hub, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert "HF_HUB_OFFLINE is set, so the hub is not asked; unset it, or give a local folder or file" in refusal()
    with pytest.raises(CheckpointError, match=r"a.bin is not in the hub cache .* HF_HUB_OFFLINE is set"):
        list_files(NAME, None, "a.bin")
    assert hub.asked == []


def test_no_connection(hub, monkeypatch):
    """A missing connection and a login page that answers in the hub's place have messages of their own."""
    hub.login_page = True
    assert "the answer is not the hub's, perhaps a proxy's or a login page" in refusal()
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    assert "the connection failed (ConnectError); check it and try again" in refusal()


def test_list_files(hub):
    hub.add(NAME, files={"a.bin": b"abc", "deep/b.bin": b"b"})
    assert list_files(NAME, None, "a.bin") == {"a.bin": 3, "deep/b.bin": 1}
    assert download_file(NAME, "deep/b.bin", None).read_bytes() == b"b"
    assert hub.fetched() == ["deep/b.bin"]
