"""Where parts lie: local paths, hub ids, and everything that is neither. The hub's cache is a folder like any other."""

import pytest
import torch

from x2i_app.errors import CheckpointError
from x2i_app.loading import hub as places
from x2i_app.loading import load_alignnet, load_pipeline
from x2i_app.models import AlignNet
from x2i_app.presets import PRESETS

COMMIT = "0" * 40


@pytest.mark.parametrize(
    "source",
    ["owner/na me", "owner/..", "../owner", "owner/", "a--b/c", "/no/such", "owner", "a\nb/c", "a" * 5000, "a\0b/c"],
)
def test_what_is_no_folder_and_no_hub_id_is_quoted_on_one_line(source):
    with pytest.raises(CheckpointError, match=r"There is no folder '.*'; give a folder or a hub id") as raised:
        places.resolve_directory(source, None, ["*"])
    assert "\n" not in str(raised.value)


def test_a_hub_id_that_is_not_in_the_cache_says_so():
    with pytest.raises(CheckpointError, match="owner/name is not in the hub cache and cannot be downloaded"):
        places.resolve_directory("owner/name", None, ["*"])


@pytest.mark.parametrize(
    ("source", "words"),
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
def test_an_alignnet_that_is_nowhere_is_said_to_be(source, words):
    with pytest.raises(CheckpointError, match=words) as raised:
        load_alignnet(places.resolve_file(source))
    assert "\n" not in str(raised.value)


def test_an_alignnet_is_taken_from_a_path_a_folder_or_the_hub(tmp_path, monkeypatch):
    align_net = AlignNet(3, 6, joint_dim=4, pooled_dim=2)
    align_net.save_pretrained(tmp_path / "folder")
    assert places.resolve_file(tmp_path / "folder") == tmp_path / "folder"
    cached = tmp_path / "cache/models--owner--name"
    (cached / "snapshots" / COMMIT / "deep").mkdir(parents=True)
    (cached / "refs").mkdir()
    (cached / "refs/main").write_text(COMMIT)
    torch.save(align_net.state_dict(), cached / "snapshots" / COMMIT / "deep/a.bin")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    found = places.resolve_file("owner/name/deep/a.bin")
    assert load_alignnet(found).config.num_states == 3
    monkeypatch.chdir(tmp_path)
    assert load_alignnet(places.resolve_file("cache/models--owner--name/snapshots/" + COMMIT + "/deep/a.bin"))


def test_a_preset_without_a_released_alignnet_says_so():
    unreleased = [preset for preset in PRESETS.values() if preset.align_net.filename is None]
    assert unreleased
    for preset in unreleased:
        with pytest.raises(CheckpointError, match=f"No AlignNet is released for {preset.name}; train your own"):
            load_pipeline(preset.name, profile="cpu")


def test_an_mllm_of_ones_own_is_not_asked_for_at_the_presets_revision(hub):
    for name in ("Qwen/Qwen2.5-VL-3B-Instruct", "owner/finetune"):
        hub.add(name, files={}, revisions=())
    for mllm in (None, "owner/finetune"):
        with pytest.raises(CheckpointError, match="it has no revision"):
            load_pipeline("qwen2.5-vl-3b", profile="cpu", mllm=mllm, alignnet="some.bin")
    asked = [line for line in hub.asked if "/api/models/" in line]
    assert asked == [
        "GET /api/models/Qwen/Qwen2.5-VL-3B-Instruct/tree/66285546d2b821cf421d4f5eb2576359d3770cd3",
        "GET /api/models/owner/finetune/revision/main",
    ]
