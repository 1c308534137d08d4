"""openbmb's MiniCPM-o checkpoints: every weight is known and none is missing, or the folder is refused."""

import json
import shutil

import pytest
import torch
from encoders.minicpm_o_cases import audio, make_image
from encoders.minicpm_o_factory import HIDDEN, LAYERS, QUERIES, save_minicpm_o
from safetensors.torch import load_file, save_file

from x2i_app.encoders import load_encoder
from x2i_app.errors import CheckpointError
from x2i_app.specs import MLLMSpec

HEAD = "llm.lm_head.weight"


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    return save_minicpm_o(tmp_path_factory.mktemp("minicpm-o"))


@pytest.fixture
def copy(directory, tmp_path):
    return shutil.copytree(directory, tmp_path / "copy")


def change_weights(directory, change):
    """`change` a shard's dictionary of weights in place, for every shard."""
    for file in directory.glob("*.safetensors"):
        weights = load_file(file)
        change(weights)
        save_file(weights, file, metadata={"format": "pt"})


def test_speech_output_is_not_loaded(directory):
    on_disk = {key for file in directory.glob("*.safetensors") for key in load_file(file)}
    assert any(key.startswith("tts.") for key in on_disk)
    assert not any(key.startswith("tts.") for key in load_encoder("minicpm-o", directory).model.state_dict())


def test_the_dtype_of_the_file_is_kept(copy):
    def to_bfloat16(weights):
        weights.update({key: value.bfloat16() for key, value in weights.items()})

    change_weights(copy, to_bfloat16)
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(config | {"torch_dtype": "bfloat16"}))
    encoder = load_encoder("minicpm-o", copy)
    assert {value.dtype for value in encoder.model.parameters()} == {torch.bfloat16}
    encoded = encoder.encode("a red house", [make_image(90, 60, 1)], audios=[(audio(1.0, 2), 16_000)])
    assert encoded.hidden_states.dtype == torch.bfloat16
    assert encoded.hidden_states.isfinite().all()


@pytest.mark.parametrize(
    "lost",
    ["llm.model.layers.1.mlp.up_proj.weight", "resampler.query", "apm.layer_norm.bias", "vpm.post_layernorm.bias"],
)
def test_a_missing_weight_is_refused(copy, lost):
    change_weights(copy, lambda weights: weights.pop(lost, None))
    with pytest.raises(CheckpointError, match=rf"lacks 1 weights, such as {lost}"):
        load_encoder("minicpm-o", copy)


def test_a_missing_head_is_refused(copy):
    change_weights(copy, lambda weights: weights.pop(HEAD, None))
    encoder = load_encoder("minicpm-o", copy)
    assert encoder.encode("a red house").mask.all()
    with pytest.raises(CheckpointError, match=rf"has no {HEAD}, which is needed to answer"):
        encoder.encode("a red house", reason=True)


@pytest.mark.parametrize("more", ["vpm.encoder.layers.3.mlp.fc1.weight", "vpm.head.probe", "ttsx.weight"])
def test_an_unknown_weight_is_refused(copy, more):
    change_weights(copy, lambda weights: weights.update({more: torch.zeros(3)} if HEAD in weights else {}))
    with pytest.raises(CheckpointError, match=rf"1 weights that are unknown to minicpm-o, such as {more}"):
        load_encoder("minicpm-o", copy)


def test_a_dropped_vision_layer_may_be_in_the_file(directory, tmp_path):
    whole = save_minicpm_o(tmp_path, drop_vision_last_layer=False)
    edit(whole / "config.json", drop_vision_last_layer=True)
    expected = load_encoder("minicpm-o", directory).encode(images=[make_image(90, 60, 1)]).hidden_states
    assert torch.equal(load_encoder("minicpm-o", whole).encode(images=[make_image(90, 60, 1)]).hidden_states, expected)


@pytest.mark.parametrize("key", ["resampler.proj", "llm.model.embed_tokens.weight", HEAD])
def test_a_wrong_shape_is_refused(copy, key):
    def shorten(weights):
        if key in weights:
            weights[key] = weights[key][:-1].contiguous()

    change_weights(copy, shorten)
    with pytest.raises(CheckpointError, match=rf"{key}.* has shape \(\d+, 256\).* \(\d+, 256\)"):
        load_encoder("minicpm-o", copy).encode("a red house", reason=True)


def test_another_depth_or_width_is_refused(directory):
    """The preset's sizes are compared with config.json before any weight is read."""
    expected = MLLMSpec("minicpm-o", "openbmb/MiniCPM-o-2_6", "", num_layers=28, hidden_size=3584)
    with pytest.raises(CheckpointError, match=f"{LAYERS} layers of width {HIDDEN}; expected 28 of width 3584"):
        load_encoder("minicpm-o", directory, expected=expected)


def edit(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | changes), encoding="utf-8")


@pytest.mark.parametrize(
    ("file", "changes", "complaint"),
    [
        ("config.json", {"model_type": "minicpmv"}, "type 'minicpmv', not minicpm-o"),
        ("config.json", {"audio_pool_step": 3}, "audio_pool_step is 3; it must be 2"),
        ("config.json", {"vision_config": 3}, r"no readable config\.json of minicpm-o"),
        ("config.json", {"hidden_size": "wide"}, r"no readable config\.json of minicpm-o"),
        ("config.json", {"query_num": 64}, f"produces {QUERIES} tokens per image; the model expects 64"),
        ("config.json", {"vocab_size": 100}, "embeddings for 100 tokens, but its tokenizer has ids up to"),
        ("config.json", {"num_hidden_layers": 3}, "lacks 12 weights"),
        ("config.json", {"num_hidden_layers": 1}, "12 weights that are unknown to minicpm-o"),
        ("preprocessor_config.json", {"patch_size": 16}, "produces 16 pixels per patch; the model expects 14"),
        ("preprocessor_config.json", {"feature_size": 128}, "produces 128 mel bins; the model expects 80"),
        ("tokenizer_config.json", {"chat_template": None}, "has no chat template"),
    ],
)
def test_inconsistent_files_are_refused(copy, file, changes, complaint):
    edit(copy / file, **changes)
    with pytest.raises(CheckpointError, match=complaint):
        load_encoder("minicpm-o", copy)


@pytest.mark.parametrize("lost", ["config.json", "preprocessor_config.json", "model-00001-of-00002.safetensors"])
def test_an_incomplete_folder(copy, lost):
    (copy / lost).unlink()
    with pytest.raises(CheckpointError):
        load_encoder("minicpm-o", copy)


def test_a_folder_without_a_tokenizer(copy):
    for file in [*copy.glob("*token*"), copy / "vocab.json", copy / "merges.txt"]:
        file.unlink()
    with pytest.raises(CheckpointError, match="tokenizer"):
        load_encoder("minicpm-o", copy)


def test_a_damaged_file_of_weights(copy):
    (copy / "model-00001-of-00002.safetensors").write_bytes(b"\x10" * 64)
    with pytest.raises(CheckpointError, match="cannot be loaded as minicpm-o"):
        load_encoder("minicpm-o", copy)
