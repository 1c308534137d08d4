"""InternVL 2.5 against the code that X2I itself ran: OpenGVLab's, as it lies in OPPO-Mente-Lab/X2I at f214efc.

fixtures/internvl_reference.safetensors holds what that code made of the checkpoint that internvl_checkpoint_factory
writes, on transformers 4.44.2 and torch 2.13: its chat template, tokens, tiles, vision tower and language model. For
every input: the tokens, how many of them are no padding, every 13th row and the last, and the states of those rows.
"""

from pathlib import Path

import numpy as np
import pytest
import torch
from encoders.internvl_checkpoint_factory import save_internvl
from PIL import Image
from safetensors.torch import load_file

from x2i_app.encoders import load_encoder
from x2i_app.request import Turn

EXPECTED = load_file(Path(__file__).parents[1] / "fixtures" / "internvl_reference.safetensors")


def noise(seed: int, height: int, width: int) -> np.ndarray:
    return np.random.RandomState(seed).randint(0, 256, (height, width, 3)).astype(np.uint8)


IMAGE, OTHER_IMAGE = Image.fromarray(noise(1, 60, 90)), Image.fromarray(noise(5, 70, 50))
VIDEO = np.stack([noise(2 + i, 48, 64) for i in range(3)]), 1.0

INPUTS = {
    "text": {"prompt": "a red house", "padding": "padded"},
    "image": {"images": [IMAGE], "padding": "padded"},
    "image and text": {"images": [IMAGE], "prompt": "make it night", "padding": "padded"},
    "two images": {"images": [IMAGE, OTHER_IMAGE], "prompt": "both", "padding": "compact"},
    "video": {"videos": [VIDEO], "prompt": "what happens", "padding": "compact"},
    "dialogue": {
        "history": [Turn("a red house", images=(IMAGE,), answer="a red house on grass")],
        "prompt": "make it night",
        "padding": "compact",
    },
}


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    return load_encoder("internvl2.5", save_internvl(tmp_path_factory.mktemp("internvl"), shards=2))


def test_the_reference_has_all_inputs():
    assert {key.rpartition(".")[0] for key in EXPECTED} == set(INPUTS)


@pytest.mark.parametrize("name", INPUTS)
def test_states_equal_the_reference(encoder, name):
    encoded = encoder.encode(**INPUTS[name])
    rows, real = EXPECTED[f"{name}.rows"].long(), int(EXPECTED[f"{name}.real"])
    assert encoded.hidden_states.shape[2] == rows[-1] + 1
    assert encoded.mask.tolist() == [[i < real for i in range(rows[-1] + 1)]]
    got = encoded.hidden_states[0, :, rows]
    torch.testing.assert_close(got, EXPECTED[f"{name}.states"], atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", INPUTS)
def test_token_ids_equal_the_reference(encoder, name):
    given = dict(INPUTS[name])
    history = given.pop("history", [])
    del given["padding"]
    turn = Turn(**{key: value if key == "prompt" else tuple(value) for key, value in given.items()})
    tokens = encoder._tokenize(encoder._build_conversation([*history, turn]))["input_ids"][0]
    expected = EXPECTED[f"{name}.input_ids"].long()
    real = int(EXPECTED[f"{name}.real"])
    assert torch.equal(tokens, expected[:real])
    assert (expected[real:] == encoder.processor.tokenizer.pad_token_id).all()
