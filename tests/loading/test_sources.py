"""Which files a pipeline takes, from which place, and whether they are complete. The hub is a local server."""

import json
import shutil

import pytest
import torch
from safetensors.torch import save_file

from x2i_app.errors import CheckpointError, InvalidRequestError
from x2i_app.loading import load_alignnet
from x2i_app.loading.sources import find_sources, hash_record
from x2i_app.models import AlignNet
from x2i_app.presets import FAMILIES, FLUX_MODELS, PRESETS
from x2i_app.settings import ASSETS, read_parts
from x2i_app.specs import AlignNetSpec, MLLMSpec, Preset

TINY = ASSETS / "x2i-tiny"
PRESET = PRESETS["qwen2.5-vl-3b"]
ALIGNNET = PRESET.align_net.filenames[0]
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
    """Everything that a preset needs, on the hub at the preset's revisions."""
    hub.add(PRESET.mllm.repo_id, mllm, revisions=(PRESET.mllm.revision,))
    hub.add("OPPOer/X2I", files={ALIGNNET: b"an AlignNet"})
    flux = {
        f"{part}/{p.name}": p.read_bytes()
        for part in ("transformer", "vae", "scheduler")
        for p in (TINY / part).iterdir()
    }
    hub.add(FLUX.repo_id, files=flux | {"text_encoder_2/model.safetensors": b"T5"}, revisions=(FLUX.revision,))
    return hub


def find(preset="qwen2.5-vl-3b", environment=None, **given):
    """As the app does: variables are read with the settings."""
    environment = environment or {}
    return find_sources(preset, **read_parts(preset, environment) | given, environment=environment)


def describe(name="mllm", environment=None, **given):
    return find(environment=environment, **given).descriptions[name]


def test_order_of_places(released, mllm, tmp_path):
    """The flag, the environment, the models folder, the hub's cache and the hub, each before the next."""
    assert describe().endswith(" (qwen2.5-vl-3b, hub)")
    released.asked.clear()
    assert describe().endswith(" (qwen2.5-vl-3b, hub cache)")
    assert released.asked == []
    shutil.copytree(mllm, tmp_path / "models" / "Qwen2.5-VL-3B-Instruct")
    assert describe() == f"{tmp_path}/models/Qwen2.5-VL-3B-Instruct (qwen2.5-vl-3b, models folder)"
    environment = {"X2I_MLLM": str(mllm)}
    assert describe(environment=environment) == f"{mllm} (X2I_MLLM, local path)"
    other = shutil.copytree(mllm, tmp_path / "other")
    assert describe(environment=environment, mllm=other) == f"{other} (flag, local path)"


def test_commits(released, mllm, tmp_path, monkeypatch):
    """Each part from the hub is named with its commit. The preset's own files may lie in the models folder."""
    found = find_sources("qwen2.5-vl-3b", environment={})
    assert found.commits == {
        "mllm": f"{PRESET.mllm.repo_id}@{PRESET.mllm.revision}",
        "flux": f"{FLUX.repo_id}@{'c' * 40}",
        "alignnet": f"OPPOer/X2I@{'c' * 40}/{ALIGNNET}",
    }
    assert find_sources("x2i-tiny", environment={}).commits == {}
    released.add("owner/finetune", mllm, revisions=("main", "e" * 40))
    assert find_sources("qwen2.5-vl-3b", mllm=f"owner/finetune@{'e' * 40}", environment={}).commits["mllm"] == (
        f"owner/finetune@{'e' * 40}"
    )
    monkeypatch.setenv("X2I_REQUIRE_REVISION", "1")
    with pytest.raises(CheckpointError, match="OPPOer/X2I is named without a commit"):
        find_sources("qwen2.5-vl-3b", environment={})
    models = tmp_path / "models"
    models.mkdir()
    (models / ALIGNNET).write_bytes(b"an AlignNet")
    shutil.copytree(TINY, models / "shuttleai/shuttle-3-diffusion")
    assert set(find_sources("qwen2.5-vl-3b", environment={}).commits) == {"mllm"}


def test_alignnet_and_flux_places(released, tmp_path):
    """AlignNet and FLUX come from the same places; T5 is never downloaded."""
    assert describe("alignnet").endswith(f"/{ALIGNNET} (qwen2.5-vl-3b, hub)")
    assert "text_encoder_2/model.safetensors" not in released.fetched()
    assert describe("flux").endswith(" (qwen2.5-vl-3b, hub cache)")
    models = tmp_path / "models"
    models.mkdir()
    (models / ALIGNNET).write_bytes(b"an AlignNet")
    shutil.copytree(TINY, models / "shuttleai/shuttle-3-diffusion")
    assert describe("alignnet") == f"{models}/{ALIGNNET} (qwen2.5-vl-3b, models folder)"
    assert describe("flux") == f"{models}/shuttleai/shuttle-3-diffusion (qwen2.5-vl-3b, models folder)"
    assert describe("flux", flux="x2i-tiny") == f"{TINY} (flag, bundled)"


def test_light_control_places(released, tmp_path):
    """A LightControl is used if one is named, or with the bundled preset's own FLUX model."""
    released.add("owner/control", files={"deep/control.bin": b"a LightControl"})
    file, name = "owner/control/deep/control.bin", "light_control"
    assert find_sources("qwen2.5-vl-3b", environment={}).light_control is None
    environment = {"X2I_LIGHT_CONTROL": file}
    assert describe(name, environment).endswith("/deep/control.bin (X2I_LIGHT_CONTROL, hub)")
    assert describe(name, environment).endswith("/deep/control.bin (X2I_LIGHT_CONTROL, hub cache)")
    (tmp_path / "models/control/deep").mkdir(parents=True)
    (tmp_path / "models/control/deep/control.bin").write_bytes(b"a LightControl")
    kept = f"{tmp_path}/models/control/deep/control.bin (X2I_LIGHT_CONTROL, models folder)"
    assert describe(name, environment) == kept
    own = tmp_path / "own.bin"
    own.write_bytes(b"a LightControl")
    assert describe(name, environment, light_control=own) == f"{own} (flag, local path)"
    assert find_sources("qwen2.5-vl-3b", light_control=own, environment={}).light_control == own
    bundled = find("x2i-tiny", environment)
    assert bundled.descriptions[name] == f"{TINY}/light_control (x2i-tiny, bundled)"
    assert find_sources("x2i-tiny", flux=TINY, environment={}).light_control is None


def test_environment(released, mllm):
    """X2I_MLLM and the others are for the preset in X2I_PRESET, and never for a bundled preset."""
    environment = {"X2I_MLLM": str(mllm), "X2I_PRESET": "qwen2.5-vl-3b"}
    assert "(X2I_MLLM" in describe(environment=environment)
    assert "(qwen2.5-vl-3b" in describe(environment=environment | {"X2I_PRESET": "qwen2.5-vl-7b"})
    bundled = find("x2i-tiny", {"X2I_MLLM": str(mllm)})
    assert bundled.descriptions["mllm"] == f"{TINY}/mllm (x2i-tiny, bundled)"


def test_custom_environment(mllm, hub):
    """A custom preset takes its parts from the environment too, and names those that are missing."""
    environment = {"X2I_MLLM": str(mllm), "X2I_FLUX": "x2i-tiny", "X2I_ALIGNNET": str(TINY / "align_net")}
    assert find("custom:qwen2.5-vl", environment).mllm == mllm
    with pytest.raises(InvalidRequestError, match="came without mllm and flux and alignnet"):
        find_sources("custom:qwen2.5-vl", environment=environment)
    with pytest.raises(InvalidRequestError, match="came without alignnet; give all of mllm, flux and alignnet"):
        find_sources("custom:qwen2.5-vl", mllm=mllm, flux="x2i-tiny", environment={})


def test_mistyped_path(released):
    """A part that the user named is looked for before anything is downloaded."""
    with pytest.raises(CheckpointError, match="There is no folder '/no/such'"):
        find_sources("qwen2.5-vl-3b", flux="/no/such", environment={})
    assert released.asked == []


def test_incomplete_cache(released, tmp_path):
    """A folder in the hub's cache that another program left incomplete is completed."""
    describe()
    cache = tmp_path / "cache/models--Qwen--Qwen2.5-VL-3B-Instruct"
    (cache / f"snapshots/{PRESET.mllm.revision}/model.safetensors").unlink()
    shutil.rmtree(cache / "trees")  # as older versions of the library leave it
    assert describe().endswith(" (qwen2.5-vl-3b, hub)")


FAULTS = {
    "missing": (None, "model-00002.safetensors is missing from an mllm; download the complete model"),
    "cut": (lambda whole: whole[:-5], "model-00002.safetensors of an mllm is cut or damaged"),
    "empty": (lambda whole: b"", "model-00002.safetensors is empty; download it again"),
    "pointer": (
        lambda whole: b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
        "model-00002.safetensors is only a Git LFS pointer",
    ),
    "page": (lambda whole: b"<!DOCTYPE html><html>", "model-00002.safetensors is a web page instead of weights"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_bad_shard(mllm, fault):
    """A shard that is no weights file is named before anything is loaded."""
    change, message = FAULTS[fault]
    (mllm / "model.safetensors.index.json").write_text(
        json.dumps({"weight_map": {"a": "model.safetensors", "b": "model-00002.safetensors"}})
    )
    if change:
        (mllm / "model-00002.safetensors").write_bytes(change((mllm / "model.safetensors").read_bytes()))
    with pytest.raises(CheckpointError, match=message):
        find_sources("custom:qwen2.5-vl", mllm=mllm, flux="x2i-tiny", alignnet=TINY / "align_net")


@pytest.mark.parametrize("part", ["preset", "mllm", "flux", "alignnet", "light_control"])
def test_wrong_type(part):
    given = {"preset": "x2i-tiny"} | {part: 5}
    with pytest.raises(InvalidRequestError, match=rf"^{part} is 5; give a name( or a path)?\.$"):
        find_sources(**given)


# ----- The released AlignNets ----------------------------------------------------------------------------------------

REPO = "owner/x2i"
OTHER_COMMIT = "d" * 40
SIZES = {"hidden_size": 64, "joint_dim": 64, "pooled_dim": 8}


@pytest.fixture
def small(monkeypatch, hub, mllm, tmp_path):
    """A preset with a small AlignNet of two known names; a function that finds it as `load_pipeline` does."""
    spec = AlignNetSpec(REPO, ("first.pt", "second.bin"), "conv", joint_dim=64, pooled_dim=8)
    preset = Preset(
        "small",
        MLLMSpec("qwen2.5-vl", "owner/mllm", "main", num_layers=3, hidden_size=64),
        spec,
        FAMILIES["qwen2.5-vl"],
        flux="x2i-tiny",
        about="",
    )
    monkeypatch.setitem(PRESETS, "small", preset)

    def find(name="small"):
        sources = find_sources(name, mllm=mllm, flux="x2i-tiny", environment={})
        return sources.alignnet.name, sources.descriptions["alignnet"].split(" (")[1]

    return find


def alignnet_file(tmp_path, num_states=4, seed=0, dtype=torch.bfloat16, wrap=lambda weights: weights, **sizes) -> bytes:
    """The bytes of an AlignNet as a pickle."""
    torch.manual_seed(seed)
    weights = AlignNet(num_states, **SIZES | sizes).to(dtype).state_dict()
    torch.save(wrap(weights), tmp_path / "made.pt")
    return (tmp_path / "made.pt").read_bytes()


def test_known_names(small, hub, tmp_path):
    """All known names are tried, the first one first, and no other file is downloaded."""
    files = {"other.pt": alignnet_file(tmp_path), "second.bin": b"second", "README.md": b"x"}
    hub.add(REPO, files=files)
    assert small() == ("second.bin", "small, hub)")
    hub.add(REPO, files=files | {"first.pt": b"first"}, revisions=(OTHER_COMMIT, "main"))
    assert small() == ("second.bin", "small, hub cache)")
    shutil.rmtree(hub.cache)
    assert small() == ("first.pt", "small, hub)")
    assert hub.fetched() == ["first.pt", "second.bin"]


@pytest.mark.parametrize(("preset", "size"), [("qwen2.5-vl-3b", "3b"), ("qwen2.5-vl-7b", "7b")])
def test_released_names(released, mllm, preset, size):
    """The name published for X2I's ComfyUI nodes comes before the one that is like the other presets'."""

    def find():
        return find_sources(preset, mllm=mllm, flux="x2i-tiny", environment={}).alignnet.name

    names = [f"X2I-Qwen2.5VL-{size.upper()}.bin", f"qwen2.5-vl-{size}_proj.pt"]
    released.add("OPPOer/X2I", files={names[0]: b"x"})
    assert find() == names[0]
    shutil.rmtree(released.cache)
    released.add("OPPOer/X2I", files=dict.fromkeys(names, b"x"), revisions=(OTHER_COMMIT, "main"))
    assert find() == names[1]


@pytest.mark.parametrize("sizes", [{}, {"fusion": "scale"}, {"kernel_size": 3}, {"dtype": torch.float32}])
def test_chosen_by_shapes(small, hub, tmp_path, sizes):
    """Without a known name the file whose shapes fit is taken, said so, and found again in the cache."""
    files = {"a.pt": alignnet_file(tmp_path, hidden_size=60), "README.md": b"x" * 20_000}
    hub.add(REPO, files=files | {"deep/right.bin": alignnet_file(tmp_path, **sizes)})
    assert small() == ("right.bin", "small, hub, chosen by its shapes)")
    assert hub.fetched() == ["a.pt", "deep/right.bin"]
    hub.asked.clear()
    assert small() == ("right.bin", "small, hub cache, chosen by its shapes)")
    assert hub.asked == []


def test_own_family_first(small, hub, tmp_path):
    """Of files that fit, one named after the preset's MLLM family is taken."""
    hub.add(REPO, files={"any.pt": alignnet_file(tmp_path), "z-qwen.pt": alignnet_file(tmp_path, seed=1)})
    assert small() == ("z-qwen.pt", "small, hub, chosen by its shapes)")
    assert hub.fetched() == ["z-qwen.pt"]


def test_training_checkpoint(small, hub, tmp_path):
    """A checkpoint with an optimizer's moments, as DeepSpeed wraps it, is found by its shapes too."""

    def wrap(weights):
        moments = {key: torch.zeros(value.shape) for key, value in weights.items()}
        return {"module": {f"module.{k}": v for k, v in weights.items()}, "optimizer": [moments, dict(moments)]}

    hub.add(REPO, files={"step-100.pt": alignnet_file(tmp_path, wrap=wrap, dtype=torch.float32)})
    assert small()[0] == "step-100.pt"


def test_nothing_fits(small, hub, tmp_path):
    """The error names the known names and the files of the repository, with the reason for those that were read.

    Not read are files of another kind or size, and those named after another preset or another MLLM family: the shapes
    of InternVL2.5 4B, for example, are those of Qwen2.5-VL 3B.
    """
    fits = alignnet_file(tmp_path)
    not_read = {"README.md": fits, "X2I-InternVL2.5-4B.bin": fits, "minicpm.pt": fits}
    not_read |= {"large.pt": b"x" * 900_000, "small.pt": b"x" * 9000, "qwen2.5-vl-7b_proj.pt": fits}
    hub.add(REPO, files=not_read | {"a.pt": alignnet_file(tmp_path, num_states=5), "b.pt": b"x" * 30_000})
    with pytest.raises(CheckpointError) as raised:
        small()
    assert str(raised.value) == (
        "owner/x2i has no first.pt or second.bin, and none of its files fits small; it has a.pt (num_states 5, not 4), "
        "b.pt (no AlignNet), README.md, X2I-InternVL2.5-4B.bin, minicpm.pt, large.pt, small.pt, qwen2.5-vl-7b_proj.pt; "
        "give the right one as `alignnet`, e.g. owner/x2i/FILE."
    )
    assert hub.fetched() == ["a.pt", "b.pt"]


def test_many_files(small, hub):
    """A long list of files is cut."""
    hub.add(REPO, files={f"{number}.txt": b"x" for number in range(20)})
    with pytest.raises(CheckpointError, match=r"it has 0.txt, .*, 7.txt and 12 more; give"):
        small()


def test_models_folder_alignnet(small, hub, tmp_path):
    """A copy of the repository in the models folder is searched in the same way, without the hub."""
    for folder in ("models/x2i", "models/owner/x2i"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "models/x2i/any.pt").write_bytes(alignnet_file(tmp_path))
    assert small() == ("any.pt", "small, models folder, chosen by its shapes)")
    (tmp_path / "models/second.bin").write_bytes(alignnet_file(tmp_path))
    (tmp_path / "models/x2i/any.pt").unlink()
    assert small() == ("second.bin", "small, models folder)")
    assert hub.asked == []


def test_no_list(small, hub):
    """If the hub has no such repository, the error says which AlignNet was looked for."""
    with pytest.raises(
        CheckpointError, match=r"first.pt or second.bin of owner/x2i is not in the hub cache .* no such"
    ):
        small()


def test_chosen_file_loads(small, hub, tmp_path, mllm):
    hub.add(REPO, files={"any.pt": alignnet_file(tmp_path)})
    path = find_sources("small", mllm=mllm, flux="x2i-tiny", environment={}).alignnet
    assert load_alignnet(path, num_states=4, hidden_size=64).config.joint_dim == 64


def test_recorded_hash(released, tmp_path):
    """A released AlignNet's hash is recorded when it is first found, and compared from then on."""
    describe()
    name = f"OPPOer/X2I/{ALIGNNET}"
    assert set(json.loads(hash_record().read_text())) == {name}
    describe()
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / ALIGNNET).write_bytes(b"another")
    with pytest.raises(
        CheckpointError, match="is not the file it was when first loaded: its SHA-256 is ae448ac86c4e8e4d"
    ):
        describe()
    # A file that the user names is not compared.
    assert describe("alignnet", alignnet=tmp_path / "models" / ALIGNNET).endswith("(flag, local path)")
    hash_record().write_text("{not json")
    with pytest.raises(CheckpointError, match=r"sha256.json cannot be read; correct it, or remove it"):
        describe()


def test_read_only_record(released, tmp_path, caplog):
    """A record that cannot be written does not stop the search."""
    (tmp_path / "home").write_text("a file where the folder would be")
    with caplog.at_level("INFO"):
        describe()
    assert "the AlignNet will not be checked next time" in caplog.text
