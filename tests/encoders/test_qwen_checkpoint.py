"""Qwen checkpoints: every weight is known, none is missing, each has its shape, or the folder is refused by its key."""

import json
import os
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from factories import REPETITION_PENALTY
from PIL import Image
from safetensors.torch import load_file, save_file

from x2i_app.encoders import load_encoder
from x2i_app.errors import CheckpointError, MediaError
from x2i_app.presets import get_family
from x2i_app.request import Turn

LAYER = {"qwen2.5-vl": "language_model.layers.1", "qwen2.5-omni": "model.layers.1"}


@pytest.fixture(params=LAYER)
def family(request):
    return request.param


@pytest.fixture
def copy(family, qwen_vl_directory, qwen_omni_directory, tmp_path):
    original = qwen_vl_directory if family == "qwen2.5-vl" else qwen_omni_directory
    return shutil.copytree(original, tmp_path / "copy")


def load(family, directory):
    spec = replace(get_family(family), max_new_tokens=12)
    return load_encoder(family, directory, spec=spec, dtype=torch.float32)


def change_weights(directory, change):
    weights = load_file(directory / "model.safetensors")
    change(weights)
    save_file(weights, directory / "model.safetensors", metadata={"format": "pt"})


def find(directory, end, without=("talker", "token2wav", "visual", "audio")):
    keys = load_file(directory / "model.safetensors")
    return next(key for key in keys if key.endswith(end) and not any(word in key for word in without))


def refusal(family, directory, **given):
    with pytest.raises(CheckpointError) as raised:
        load(family, directory).encode(**{"prompt": "a red house", "reason": True} | given)
    assert "\n" not in str(raised.value)
    return str(raised.value)


@pytest.mark.parametrize("end", ["layers.1.mlp.up_proj.weight", "lm_head.weight"])
def test_a_wrong_shape_is_refused(family, copy, end):
    key = find(copy, end)
    shapes = []

    def shorten(weights):
        shapes.append(tuple(weights[key].shape))
        weights[key] = weights[key][:-1].contiguous()
        shapes.append(tuple(weights[key].shape))

    change_weights(copy, shorten)
    assert refusal(family, copy).endswith(f"{end} of copy has shape {shapes[1]}; expected {shapes[0]}.")


def test_an_unknown_weight_is_refused(family, copy):
    change_weights(copy, lambda weights: weights.update({"evil.extra": torch.zeros(3)}))
    assert f"has 1 weights that are unknown to {family}, such as evil.extra" in refusal(family, copy)


@pytest.mark.parametrize("content", [b"\x10" * 64, b""])
def test_a_damaged_file_of_weights(family, copy, content):
    (copy / "model.safetensors").write_bytes(content)
    assert f"copy cannot be loaded as {family}: " in refusal(family, copy)


class Bomb:
    """Pickled, it asks the loader to make a folder."""

    def __init__(self, canary):
        self.canary = canary

    def __reduce__(self):
        return os.mkdir, (str(self.canary),)


@pytest.mark.parametrize("forced", [False, True])
def test_a_pickle_is_never_opened(family, copy, tmp_path, monkeypatch, forced):
    if forced:
        monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    torch.save(load_file(copy / "model.safetensors") | {"x": Bomb(tmp_path / "canary")}, copy / "pytorch_model.bin")
    (copy / "model.safetensors").unlink()
    assert f"copy cannot be loaded as {family}: " in refusal(family, copy)
    assert not (tmp_path / "canary").exists()


@pytest.mark.parametrize(
    ("name", "value"),
    [("num_hidden_layers", "three"), ("num_attention_heads", 0), ("hidden_act", "magic"), ("rope_parameters", 3)],
)
def test_invalid_configurations(family, copy, name, value):
    config = json.loads((copy / "config.json").read_text())
    text = config.get("thinker_config", config)["text_config"]
    text[name] = value
    (copy / "config.json").write_text(json.dumps(config))
    said = refusal(family, copy)
    assert "no readable config.json" in said or "cannot be loaded as" in said or " of copy has shape" in said


@pytest.mark.parametrize("content", ["", "[1]", "3", '{"model_type": 3}', "{}"])
def test_unreadable_configurations(family, copy, content):
    (copy / "config.json").write_text(content)
    assert family in refusal(family, copy)


def test_a_folder_without_a_processor(family, copy):
    for file in ("processor_config.json", "tokenizer_config.json", "tokenizer.json"):
        (copy / file).unlink()
    assert f"copy has no readable {family} processor: " in refusal(family, copy)


def edit_generation(directory, **changes):
    file = directory / "generation_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def test_generation_config(family, copy):
    """Penalties of generation_config.json are used, its sampling options are not."""
    shaped = load(family, copy)
    answer = shaped.encode(prompt="a red house", reason=True).answer
    assert shaped.model.generation_config.repetition_penalty == REPETITION_PENALTY
    edit_generation(copy, do_sample=True, temperature=5.0, num_beams=3, num_return_sequences=2, max_new_tokens=3)
    assert load(family, copy).encode(prompt="a red house", reason=True).answer == answer
    edit_generation(copy, repetition_penalty=1.0)
    assert load(family, copy).encode(prompt="a red house", reason=True).answer != answer


def test_end_tokens_of_generation_config(family, copy):
    whole = load(family, copy)
    [states] = whole._answer([whole._build_conversation([Turn(prompt="a red house")])])
    assert states.hidden_states.shape[2] > 3
    edit_generation(copy, eos_token_id=list(range(len(whole.processor.tokenizer))))
    silent = load(family, copy).encode(prompt="a red house", reason=True)
    assert silent.notes[0].startswith("The MLLM gave no answer")


def test_the_tokenizers_end_token_is_the_default(family, copy):
    config = json.loads((copy / "config.json").read_text())
    for part in (config, config.get("thinker_config", {}), config.get("thinker_config", config)["text_config"]):
        part["eos_token_id"] = None
    (copy / "config.json").write_text(json.dumps(config))
    (copy / "generation_config.json").unlink()
    encoder = load(family, copy)
    encoder.add_head()
    assert encoder.model.generation_config.eos_token_id == encoder.processor.tokenizer.eos_token_id


@pytest.mark.parametrize("content", ["{", "[1]"])
def test_a_damaged_generation_config(family, copy, content):
    (copy / "generation_config.json").write_text(content)
    assert "generation_config.json of copy cannot be read" in refusal(family, copy)


@pytest.mark.parametrize("shape", [(1, 4000), (4000, 1)])
def test_extreme_aspect_ratios_are_refused(family, copy, shape):
    encoder = load(family, copy)
    encoder.spec = replace(encoder.spec, image_size=None)
    strip = np.zeros((*shape, 3), dtype=np.uint8)
    with pytest.raises(
        MediaError, match=r"The image is \d+ x \d+ pixels; this MLLM accepts aspect ratios up to 200 : 1"
    ):
        encoder.encode(images=[Image.fromarray(strip)])
    with pytest.raises(
        MediaError, match=r"The video is \d+ x \d+ pixels; this MLLM accepts aspect ratios up to 200 : 1"
    ):
        encoder.encode(videos=[(np.stack([strip] * 3), 1.0)])


@pytest.mark.parametrize("shape", [(1, 1), (1, 150), (150, 1), (2, 300), (3, 3), (3, 64), (48, 3)])
def test_small_images_and_videos(family, copy, shape):
    """Of three rows and of three channels the last axis is always the colors."""
    encoder = load(family, copy)
    encoder.spec = replace(encoder.spec, image_size=None)
    red = np.zeros((*shape, 3), dtype=np.uint8)
    red[..., 0] = 255
    video = encoder._tokenize(encoder._build_conversation([Turn(videos=[(np.stack([red] * 4), 1.0)])]))[
        "pixel_values_videos"
    ]
    image = encoder._tokenize(encoder._build_conversation([Turn(images=[Image.fromarray(red)])]))["pixel_values"]
    for pixels in (video, image):
        colors = pixels.unflatten(1, (3, -1))
        assert (colors - colors.mean(dim=(0, 2), keepdim=True)).abs().max() < 1e-3
        assert colors[:, 0].min() > 1.5 > -1 > colors[:, 1:].max()
