"""MiniCPM-o against its public modeling code (minicpm/ of OPPO-Mente-Lab/X2I) on the same tiny weights.

fixtures/minicpm_o_reference.safetensors was written by that code on torch 2.13 and transformers 4.48.3, run on
`minicpm_o_factory` and `minicpm_o_cases` as infer/inference_minicpm.py runs it: token ids and the hidden states of all
layers. fixtures/minicpm_o_shapes.json.gz has key and shape of every weight of the published sizes, read from it too.
"""

import gzip
import json
from pathlib import Path

import pytest
import torch
from encoders.minicpm_o_cases import CASES, LONG, STRIDE
from encoders.minicpm_o_factory import (
    HIDDEN,
    LAYERS,
    REAL_AUDIO,
    REAL_TEXT,
    REAL_VISION,
    config_of,
    save_minicpm_o,
    shapes_of,
)
from safetensors.torch import load_file

from x2i_app.encoders import load_encoder
from x2i_app.encoders.minicpm_o.configuration import MiniCPMOConfig
from x2i_app.encoders.minicpm_o.modeling import HEAD_KEY, MiniCPMOModel
from x2i_app.encoders.minicpm_o.vision import bucket_positions
from x2i_app.request import Turn

FIXTURES = Path(__file__).parents[1] / "fixtures"
TOLERANCE = {"atol": 1e-4, "rtol": 0}
REAL_VOCABULARY = 151_700


@pytest.fixture(scope="module")
def reference():
    return load_file(FIXTURES / "minicpm_o_reference.safetensors")


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    return load_encoder("minicpm-o", save_minicpm_o(tmp_path_factory.mktemp("minicpm-o")), dtype=torch.float32)


def turns_of(name):
    return [
        Turn(
            prompt=turn.get("prompt", ""),
            images=tuple(turn.get("images", ())),
            videos=tuple((frames, 1.0) for frames in turn.get("videos", ())),
            audios=tuple((samples, 16_000) for samples in turn.get("audios", ())),
            answer=turn.get("answer", ""),
        )
        for turn in CASES[name]
    ]


def encode(encoder, name, **options):
    *history, last = turns_of(name)
    return encoder.encode(last.prompt, last.images, last.videos, last.audios, history, **options)


@pytest.mark.parametrize("name", CASES)
def test_states_equal_the_reference(encoder, reference, name):
    states = encode(encoder, name).hidden_states
    expected = reference[f"{name}.states"]
    assert expected.shape[::2] == (LAYERS + 1, HIDDEN)
    torch.testing.assert_close(states[0][:, :: STRIDE if name in LONG else 1], expected, **TOLERANCE)


@pytest.mark.parametrize("name", CASES)
def test_token_ids_equal_the_reference(encoder, reference, name):
    ids = encoder._tokenize(encoder._build_conversation(turns_of(name)))["input_ids"]
    assert ids[0].tolist() == reference[f"{name}.ids"].tolist()


def test_answer_equals_the_reference(encoder, reference):
    encoded = encode(encoder, "image", reason=True)
    torch.testing.assert_close(encoded.hidden_states[0], reference["answer.states"], **TOLERANCE)
    said = encoder.processor.tokenizer.decode(reference["answer.ids"], skip_special_tokens=True)
    assert encoded.answer == said.strip()


def test_a_checkpoint_with_its_last_vision_layer(tmp_path, reference):
    directory = save_minicpm_o(tmp_path, drop_vision_last_layer=False)
    states = encode(load_encoder("minicpm-o", directory, dtype=torch.float32), "image").hidden_states
    torch.testing.assert_close(states[0][-1:], reference["whole tower.states"], **TOLERANCE)


def test_position_buckets_equal_the_reference(reference):
    expected = reference["buckets"].long()
    rows = expected.split(list(range(1, 201)))  # of 1, 2 ... 200 patches beside each other
    for count, buckets in enumerate(rows, start=1):
        assert bucket_positions(1, count, 70).tolist() == buckets.tolist(), count
    # Down the image the same, a whole row of the learned grid further on.
    assert bucket_positions(49, 33, 70).tolist() == (rows[48][:, None] * 70 + rows[32]).flatten().tolist()


def test_image_sizes_equal_the_reference(encoder, reference):
    fit_size = encoder.processor.image_processor.fit_size
    for width, height, *expected in reference["sizes"].tolist():
        assert fit_size(width, height) == tuple(expected), (width, height)


def real_model(**changes):
    stated = config_of(REAL_TEXT, REAL_VISION, REAL_AUDIO, REAL_VOCABULARY, **changes)
    del stated["model_type"]
    with torch.device("meta"):
        return MiniCPMOModel(MiniCPMOConfig(**stated))


def test_published_keys_and_shapes():
    published = json.loads(gzip.decompress((FIXTURES / "minicpm_o_shapes.json.gz").read_bytes()))
    shapes = {key: list(value.shape) for key, value in real_model().state_dict().items()}
    assert shapes | {HEAD_KEY: [REAL_VOCABULARY, 3584]} == published
    # The checkpoints of these tests follow the same rules.
    config = config_of(REAL_TEXT, REAL_VISION, REAL_AUDIO, REAL_VOCABULARY)
    made = {key: list(shape) for key, shape in shapes_of(config).items() if not key.startswith("tts.")}
    assert made == published


def test_the_last_vision_layer_can_be_kept():
    dropped, kept = real_model(), real_model(drop_vision_last_layer=False)
    more = kept.state_dict().keys() - dropped.state_dict().keys()
    assert {key.rsplit(".", 3)[0].rsplit(".self_attn")[0] for key in more if "self_attn" in key} == {
        "vpm.encoder.layers.26"
    }
    assert len(more) == 16
