"""OpenGVLab's InternVL 2.5 checkpoints: every key of the published ones has its place, and nothing is made up."""

import gzip
import json
import shutil
from pathlib import Path

import pytest
import torch
from accelerate import init_empty_weights
from encoders.internvl_checkpoint_factory import LAYERS, REAL, REAL_VOCABULARY, WIDTH, save_internvl, write_config
from safetensors.torch import load_file, save_file
from transformers import InternVLModel

from x2i_app.encoders import load_encoder
from x2i_app.encoders.internvl_checkpoint import HEAD_KEY, original_key, original_shapes, read_config
from x2i_app.errors import CheckpointError
from x2i_app.presets import get_preset
from x2i_app.specs import MLLMSpec

# Key and shape of every weight of the published 1B and 4B.
MANIFESTS = json.loads(
    gzip.decompress((Path(__file__).parents[1] / "fixtures" / "internvl_shapes.json.gz").read_bytes())
)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return save_internvl(tmp_path_factory.mktemp("internvl"))


@pytest.fixture
def directory(whole, tmp_path):
    """A checkpoint to damage."""
    return shutil.copytree(whole, tmp_path / "damaged")


def edit_weights(directory, edit):
    weights = load_file(directory / "model.safetensors")
    edit(weights)
    save_file({key: value.contiguous() for key, value in weights.items()}, directory / "model.safetensors")


def edit_config(directory, edit):
    config = json.loads((directory / "config.json").read_text(encoding="utf-8"))
    edit(config)
    (directory / "config.json").write_text(json.dumps(config), encoding="utf-8")


@pytest.mark.parametrize("size", MANIFESTS)
def test_published_keys_and_shapes(size, tmp_path):
    write_config(tmp_path, REAL[size], REAL_VOCABULARY)
    config = read_config(tmp_path)
    with init_empty_weights():
        model = InternVLModel(config)
    shapes = {key: tuple(shape) for key, shape in MANIFESTS[size].items()}
    assert shapes.pop(HEAD_KEY) == model.get_input_embeddings().weight.shape
    assert original_shapes(model) == shapes
    mllm = get_preset(f"internvl2.5-{size}").mllm
    assert (config.text_config.num_hidden_layers, config.text_config.hidden_size) == (mllm.num_layers, mllm.hidden_size)
    assert config.image_seq_length == 256


def test_loaded_weights_equal_the_file(whole):
    """No two of them share memory."""
    weights = load_file(whole / "model.safetensors")
    state = load_encoder("internvl2.5", whole).model.state_dict()
    for name, value in state.items():
        key, third = original_key(name)
        expected = weights[key] if third is None else weights[key].chunk(3)[third]
        assert torch.equal(value, expected), name
    assert len({value.untyped_storage().data_ptr() for value in state.values()}) == len(state)


@pytest.mark.parametrize("shards", [1, 3])
def test_shards_and_dtypes(tmp_path, whole, shards):
    state = load_encoder("internvl2.5", whole).model.state_dict()
    encoder = load_encoder("internvl2.5", save_internvl(tmp_path, shards=shards), dtype=torch.bfloat16)
    assert all(torch.equal(value, state[key].bfloat16()) for key, value in encoder.model.state_dict().items())
    assert encoder.encode(prompt="a red house").hidden_states.dtype == torch.bfloat16
    assert not any(parameter.requires_grad for parameter in encoder.model.parameters())
    assert not encoder.model.training


@pytest.mark.parametrize(
    "key",
    [
        "vision_model.encoder.layers.1.attn.qkv.bias",
        "vision_model.embeddings.class_embedding",
        "mlp1.3.weight",
        "language_model.model.layers.2.self_attn.k_proj.weight",
        "language_model.model.norm.weight",
    ],
)
def test_a_missing_weight_is_refused(directory, key):
    edit_weights(directory, lambda weights: weights.pop(key))
    with pytest.raises(CheckpointError, match=f"lacks 1 weights, such as {key}"):
        load_encoder("internvl2.5", directory)


@pytest.mark.parametrize(
    "key", ["vision_model.encoder.layers.1.attn.q_norm.weight", "language_model.model.layers.9.mlp.up_proj.weight", "x"]
)
def test_an_unknown_weight_is_refused(directory, key):
    edit_weights(directory, lambda weights: weights.update({key: torch.zeros(3)}))
    with pytest.raises(CheckpointError, match=f"has 1 weights that are unknown to internvl2.5, such as {key}"):
        load_encoder("internvl2.5", directory)


@pytest.mark.parametrize(
    ("key", "wrong", "right"),
    [
        ("vision_model.encoder.layers.0.attn.qkv.weight", (32, 16), (48, 16)),
        ("mlp1.1.weight", (32, 65), (32, 64)),
        (HEAD_KEY, (9, 32), None),
    ],
)
def test_a_wrong_shape_is_refused(directory, key, wrong, right):
    edit_weights(directory, lambda weights: weights.update({key: torch.zeros(wrong)}))
    right = right or tuple(load_file(directory / "model.safetensors")["language_model.model.embed_tokens.weight"].shape)
    with pytest.raises(CheckpointError) as raised:
        load_encoder("internvl2.5", directory)
    assert str(raised.value) == f"{key} of damaged has shape {wrong}; expected {right}."


@pytest.mark.parametrize(
    ("part", "field", "value", "message"),
    [
        ("llm_config", "num_hidden_layers", LAYERS + 1, "lacks 12 weights, such as language_model.model.layers.3"),
        ("llm_config", "num_hidden_layers", LAYERS - 1, "has 12 weights that .* such as language_model.model.layer"),
        ("llm_config", "hidden_size", 64, r"has shape \(.*\); expected \("),
        ("vision_config", "num_hidden_layers", 1, "has 14 weights that .* such as vision_model.encoder.layers.1"),
        ("vision_config", "qkv_bias", False, "are unknown to internvl2.5, such as .*attn.qkv.bias"),
        ("vision_config", "qk_normalization", True, "lacks 4 weights, such as .*attn.k_norm.weight"),
        ("llm_config", "architectures", ["InternLM2ForCausalLM"], "is 'InternLM2ForCausalLM'; .*choose the 1B or 4B"),
        ("vision_config", "hidden_size", "wide", "no readable config.json"),
    ],
)
def test_a_configuration_of_other_weights(directory, part, field, value, message):
    edit_config(directory, lambda config: config[part].update({field: value}))
    with pytest.raises(CheckpointError, match=message):
        load_encoder("internvl2.5", directory)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("ps_version", "v1", "ps_version of damaged is 'v1'; expected 'v2'"),
        ("template", "Hermes-2", "template of damaged is 'Hermes-2'; expected 'internvl2_5'"),
        ("model_type", "qwen2_vl", "type 'qwen2_vl', not internvl2.5"),
        ("llm_config", None, "no readable config.json"),
    ],
)
def test_another_model_is_refused(directory, field, value, message):
    edit_config(directory, lambda config: config.update({field: value}))
    with pytest.raises(CheckpointError, match=message):
        load_encoder("internvl2.5", directory)


def test_another_depth_or_width_is_refused(directory):
    """The preset's sizes are compared with config.json before any weight is read."""
    (directory / "model.safetensors").unlink()
    expected = MLLMSpec("internvl2.5", "owner/name", "", num_layers=24, hidden_size=896)
    with pytest.raises(CheckpointError, match=f"{LAYERS} layers of width {WIDTH}; expected 24 of width 896"):
        load_encoder("internvl2.5", directory, expected=expected)


def test_missing_duplicate_and_damaged_weights(directory, tmp_path):
    weights = directory / "model.safetensors"
    shutil.copy(weights, directory / "stale.safetensors")
    with pytest.raises(CheckpointError, match=r"in both model\.safetensors and stale\.safetensors"):
        load_encoder("internvl2.5", directory)
    (directory / "stale.safetensors").unlink()
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match=r"model\.safetensors of damaged is damaged"):
        load_encoder("internvl2.5", directory)
    weights.unlink()
    with pytest.raises(CheckpointError, match=r"has no \*.safetensors"):
        load_encoder("internvl2.5", directory)
    with pytest.raises(CheckpointError, match=r"no readable config\.json"):
        load_encoder("internvl2.5", tmp_path)


@pytest.mark.parametrize(
    "lost", [["vocab.json"], ["merges.txt"], ["added_tokens.json", "tokenizer_config.json", "special_tokens_map.json"]]
)
def test_an_incomplete_tokenizer_is_refused(directory, lost):
    for name in lost:
        (directory / name).unlink()
    with pytest.raises(CheckpointError, match="has no tokenizer with"):
        load_encoder("internvl2.5", directory)


def test_a_damaged_tokenizer_and_one_of_another_model(directory, whole):
    (directory / "vocab.json").write_text("{")
    with pytest.raises(CheckpointError, match="damaged tokenizer"):
        load_encoder("internvl2.5", directory)
    shutil.copy(whole / "vocab.json", directory)
    edit_config(directory, lambda config: config["llm_config"].update(vocab_size=300))
    with pytest.raises(CheckpointError, match="embeddings for 300 tokens, but its tokenizer has ids up to"):
        load_encoder("internvl2.5", directory)


def test_code_in_the_folder_is_not_run(directory):
    for name in ("configuration_internvl_chat.py", "modeling_internvl_chat.py"):
        (directory / name).write_text("raise SystemExit('this code ran')")
    load_encoder("internvl2.5", directory).encode(prompt="a red house")
