"""The published configurations of the Qwen families, on the meta device: their sizes are what the presets say."""

import pytest
import torch
from transformers import Qwen2_5_VLForConditionalGeneration, Qwen2_5OmniThinkerForConditionalGeneration

from x2i_app.encoders import encoder_class
from x2i_app.errors import CheckpointError
from x2i_app.loading.mllm_configs import qwen_omni_config, qwen_vl_config
from x2i_app.presets import PRESETS

# As counted by others on the released 3B, talker left out; the head is its own although the 3B's VL sibling ties it.
OMNI_3B_PARAMETERS = 4_703_464_448
# As the hub counts the released files.
VL_PARAMETERS = {"3b": 3_754_622_976, "7b": 8_292_166_656}


@pytest.mark.parametrize("size", VL_PARAMETERS)
def test_vl_sizes_match_the_presets(size):
    with torch.device("meta"):
        model = Qwen2_5_VLForConditionalGeneration(qwen_vl_config(size))
    preset = PRESETS[f"qwen2.5-vl-{size}"]
    encoder = encoder_class("qwen2.5-vl")(model, None, preset.encoding)
    assert (encoder.num_states, encoder.hidden_size) == (preset.mllm.num_states, preset.mllm.hidden_size)
    assert sum(parameter.numel() for parameter in model.parameters()) == VL_PARAMETERS[size]


@pytest.mark.parametrize("size", ["3b", "7b"])
def test_omni_sizes_match_the_presets(size):
    with torch.device("meta"):
        model = Qwen2_5OmniThinkerForConditionalGeneration(qwen_omni_config(size))
    preset = PRESETS[f"qwen2.5-omni-{size}"]
    encoder = encoder_class("qwen2.5-omni")(model, None, preset.encoding)
    assert (encoder.num_states, encoder.hidden_size) == (preset.mllm.num_states, preset.mllm.hidden_size)
    if size == "3b":
        assert sum(parameter.numel() for parameter in model.parameters()) == OMNI_3B_PARAMETERS


@pytest.mark.parametrize(("size", "other"), [("3b", "7b"), ("7b", "3b")])
def test_omni_of_another_size_is_refused(tmp_path, size, other):
    qwen_omni_config(size).save_pretrained(tmp_path)
    expected = PRESETS[f"qwen2.5-omni-{other}"].mllm
    with pytest.raises(CheckpointError, match=f"expected {expected.num_layers} of width {expected.hidden_size}"):
        encoder_class("qwen2.5-omni").load(tmp_path, PRESETS["qwen2.5-omni-3b"].encoding, expected=expected)
