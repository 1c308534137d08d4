"""Which files a pipeline takes: flag, environment, folder of models, the hub's cache, the hub; and are they whole."""

import json
import shutil

import pytest
import torch
from safetensors.torch import save_file

from x2i_app.errors import CheckpointError, InvalidRequestError
from x2i_app.loading import hashes
from x2i_app.loading.sources import find_sources
from x2i_app.presets import FLUX_MODELS, PRESETS
from x2i_app.settings import ASSETS

TINY = ASSETS / "x2i-tiny"
PRESET = PRESETS["qwen2.5-vl-3b"]
ALIGNNET = PRESET.align_net.filename
FLUX = FLUX_MODELS["shuttle-3-diffusion"]


@pytest.fixture
def mllm(tmp_path):
    folder = tmp_path / "an mllm"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    save_file({"a": torch.zeros(3)}, folder / "model.safetensors")
    return folder


@pytest.fixture
def released(hub, mllm):
    """All that a preset needs, on the hub at the preset's own revisions."""
    hub.add(PRESET.mllm.repo_id, mllm, revisions=(PRESET.mllm.revision,))
    hub.add("OPPOer/X2I", files={ALIGNNET: b"an AlignNet"})
    flux = {
        f"{part}/{p.name}": p.read_bytes()
        for part in ("transformer", "vae", "scheduler")
        for p in (TINY / part).iterdir()
    }
    hub.add(FLUX.repo_id, files=flux | {"text_encoder_2/model.safetensors": b"T5"}, revisions=(FLUX.revision,))
    return hub


def where(name="mllm", environment=None, **given):
    return find_sources("qwen2.5-vl-3b", **given, environment=environment or {}).said[name]


def test_each_place_goes_before_the_next_and_is_said(released, mllm, tmp_path):
    assert where().endswith(" (qwen2.5-vl-3b, hub)")
    released.asked.clear()
    assert where().endswith(" (qwen2.5-vl-3b, hub cache)")
    assert released.asked == []
    shutil.copytree(mllm, tmp_path / "models" / "Qwen2.5-VL-3B-Instruct")
    assert where() == f"{tmp_path}/models/Qwen2.5-VL-3B-Instruct (qwen2.5-vl-3b, models folder)"
    environment = {"X2I_MLLM": str(mllm)}
    assert where(environment=environment) == f"{mllm} (environment, local path)"
    other = shutil.copytree(mllm, tmp_path / "other")
    assert where(environment=environment, mllm=other) == f"{other} (flag, local path)"


def test_alignnet_and_flux_come_from_the_same_places_and_t5_from_none(released, tmp_path):
    assert where("alignnet").endswith(f"/{ALIGNNET} (qwen2.5-vl-3b, hub)")
    assert "text_encoder_2/model.safetensors" not in released.fetched()
    assert where("flux").endswith(" (qwen2.5-vl-3b, hub cache)")
    models = tmp_path / "models"
    models.mkdir()
    (models / ALIGNNET).write_bytes(b"an AlignNet")
    shutil.copytree(TINY, models / "shuttleai/shuttle-3-diffusion")
    assert where("alignnet") == f"{models}/{ALIGNNET} (qwen2.5-vl-3b, models folder)"
    assert where("flux") == f"{models}/shuttleai/shuttle-3-diffusion (qwen2.5-vl-3b, models folder)"
    assert where("flux", flux="x2i-tiny") == f"{TINY} (flag, bundled)"


def test_a_light_control_comes_from_the_same_places_where_there_is_one(released, tmp_path):
    released.add("owner/control", files={"deep/control.bin": b"a LightControl"})
    file, name = "owner/control/deep/control.bin", "light_control"
    assert find_sources("qwen2.5-vl-3b", environment={}).light_control is None
    environment = {"X2I_LIGHT_CONTROL": file}
    assert where(name, environment).endswith("/deep/control.bin (environment, hub)")
    assert where(name, environment).endswith("/deep/control.bin (environment, hub cache)")
    (tmp_path / "models/control/deep").mkdir(parents=True)
    (tmp_path / "models/control/deep/control.bin").write_bytes(b"a LightControl")
    assert where(name, environment) == f"{tmp_path}/models/control/deep/control.bin (environment, models folder)"
    own = tmp_path / "own.bin"
    own.write_bytes(b"a LightControl")
    assert where(name, environment, light_control=own) == f"{own} (flag, local path)"
    assert find_sources("qwen2.5-vl-3b", light_control=own, environment={}).light_control == own
    bundled = find_sources("x2i-tiny", environment=environment)
    assert bundled.said[name] == f"{TINY}/light_control (x2i-tiny, bundled)"
    assert find_sources("x2i-tiny", flux=TINY, environment={}).light_control is None


def test_environment_variables_are_for_the_preset_they_came_with_and_never_for_a_bundled_one(released, mllm):
    environment = {"X2I_MLLM": str(mllm), "X2I_PRESET": "qwen2.5-vl-3b"}
    assert "(environment" in where(environment=environment)
    assert "(qwen2.5-vl-3b" in where(environment=environment | {"X2I_PRESET": "qwen2.5-vl-7b"})
    assert (
        find_sources("x2i-tiny", environment={"X2I_MLLM": str(mllm)}).said["mllm"] == f"{TINY}/mllm (x2i-tiny, bundled)"
    )


def test_a_custom_model_takes_its_parts_from_the_environment_too(mllm, hub):
    environment = {"X2I_MLLM": str(mllm), "X2I_FLUX": "x2i-tiny", "X2I_ALIGNNET": str(TINY / "align_net")}
    assert find_sources("custom:qwen2.5-vl", environment=environment).mllm == mllm
    with pytest.raises(InvalidRequestError, match="came without alignnet; give all of mllm, flux and alignnet"):
        find_sources("custom:qwen2.5-vl", mllm=mllm, flux="x2i-tiny", environment={})


def test_what_other_programs_left_in_the_cache_is_completed_and_not_taken_for_whole(released, tmp_path):
    where()
    cache = tmp_path / "cache/models--Qwen--Qwen2.5-VL-3B-Instruct"
    (cache / f"snapshots/{PRESET.mllm.revision}/model.safetensors").unlink()
    shutil.rmtree(cache / "trees")  # as older versions of the library leave it
    assert where().endswith(" (qwen2.5-vl-3b, hub)")


BROKEN = {
    "missing": (None, "model-00002.safetensors is missing from an mllm; download the complete model"),
    "cut": (lambda whole: whole[:-5], "model-00002.safetensors of an mllm is cut or damaged"),
    "empty": (lambda whole: b"", "model-00002.safetensors is empty; download it again"),
    "pointer": (
        lambda whole: b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
        "model-00002.safetensors is only a Git LFS pointer",
    ),
    "page": (lambda whole: b"<!DOCTYPE html><html>", "model-00002.safetensors is a web page instead of weights"),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_a_shard_that_is_not_what_it_should_be_is_named_before_anything_is_loaded(mllm, fault):
    change, words = BROKEN[fault]
    (mllm / "model.safetensors.index.json").write_text(
        json.dumps({"weight_map": {"a": "model.safetensors", "b": "model-00002.safetensors"}})
    )
    if change:
        (mllm / "model-00002.safetensors").write_bytes(change((mllm / "model.safetensors").read_bytes()))
    with pytest.raises(CheckpointError, match=words):
        find_sources("custom:qwen2.5-vl", mllm=mllm, flux="x2i-tiny", alignnet=TINY / "align_net")


def test_a_released_alignnet_is_recorded_when_first_found_and_checked_after(released, tmp_path):
    where()
    name = f"OPPOer/X2I/{ALIGNNET}"
    assert set(json.loads(hashes.register().read_text())) == {name}
    where()
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / ALIGNNET).write_bytes(b"another")
    with pytest.raises(
        CheckpointError, match="is not the file it was when first loaded: its SHA-256 is ae448ac86c4e8e4d"
    ):
        where()
    # One's own file, given by name, may be what it likes.
    assert where("alignnet", alignnet=tmp_path / "models" / ALIGNNET).endswith("(flag, local path)")
    hashes.register().write_text("{not json")
    with pytest.raises(CheckpointError, match=r"sha256.json cannot be read; correct it, or remove it"):
        where()


def test_a_register_that_cannot_be_written_is_no_reason_not_to_draw(released, monkeypatch, tmp_path, caplog):
    (tmp_path / "home").write_text("a file where the folder would be")
    where()
    assert "the AlignNet will not be checked next time" in caplog.text


@pytest.mark.parametrize("part", ["preset", "mllm", "flux", "alignnet", "light_control"])
def test_what_is_no_name_is_refused_in_one_sentence(part):
    given = {"preset": "x2i-tiny"} | {part: 5}
    with pytest.raises(InvalidRequestError, match=rf"^{part} is 5; give a name( or a path)?\.$"):
        find_sources(**given)
