"""The published configurations of the Qwen families, on the meta device: their sizes are what the presets say."""

import pytest
import torch
from transformers import Qwen2_5OmniThinkerConfig, Qwen2_5OmniThinkerForConditionalGeneration

from x2i_app.encoders import encoder_class
from x2i_app.errors import CheckpointError
from x2i_app.presets import PRESETS

VISION = {
    "depth": 32,
    "hidden_size": 1280,
    "intermediate_size": 3420,
    "num_heads": 16,
    "window_size": 112,
    "fullatt_block_indexes": [7, 15, 23, 31],
}
TEXT = {
    "3b": {
        "vocab_size": 151_936,
        "hidden_size": 2048,
        "intermediate_size": 11_008,
        "num_hidden_layers": 36,
        "num_attention_heads": 16,
        "num_key_value_heads": 2,
    },
    "7b": {
        "vocab_size": 152_064,
        "hidden_size": 3584,
        "intermediate_size": 18_944,
        "num_hidden_layers": 28,
        "num_attention_heads": 28,
        "num_key_value_heads": 4,
    },
}
# As counted by others on the released 3B, talker left out; the head is its own although the 3B's VL sibling ties it.
OMNI_3B_PARAMETERS = 4_703_464_448


def omni_config(size: str) -> Qwen2_5OmniThinkerConfig:
    width = TEXT[size]["hidden_size"]
    return Qwen2_5OmniThinkerConfig(
        text_config=TEXT[size] | {"tie_word_embeddings": False},
        vision_config=VISION | {"out_hidden_size": width},
        audio_config={"output_dim": width},
        tie_word_embeddings=False,
    )


@pytest.mark.parametrize("size", TEXT)
def test_omni_at_its_real_size_gives_the_states_that_the_preset_says(size):
    with torch.device("meta"):
        model = Qwen2_5OmniThinkerForConditionalGeneration(omni_config(size))
    preset = PRESETS[f"qwen2.5-omni-{size}"]
    encoder = encoder_class("qwen2.5-omni")(model, None, preset.encoding)
    assert (encoder.num_states, encoder.hidden_size) == (preset.mllm.num_states, preset.mllm.hidden_size)
    if size == "3b":
        assert sum(parameter.numel() for parameter in model.parameters()) == OMNI_3B_PARAMETERS


@pytest.mark.parametrize(("size", "other"), [("3b", "7b"), ("7b", "3b")])
def test_omni_of_the_other_size_is_refused(tmp_path, size, other):
    omni_config(size).save_pretrained(tmp_path)
    expected = PRESETS[f"qwen2.5-omni-{other}"].mllm
    with pytest.raises(CheckpointError, match=f"expected {expected.num_layers} of width {expected.hidden_size}"):
        encoder_class("qwen2.5-omni").load(tmp_path, PRESETS["qwen2.5-omni-3b"].encoding, expected=expected)
