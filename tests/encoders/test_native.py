"""Qwen2.5-VL and Qwen2.5-Omni in their own on-disk formats, against transformers' own generate."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from factories import save_qwen_omni, save_qwen_vl
from safetensors.torch import load_file, save_file
from transformers import (
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5OmniThinkerForConditionalGeneration,
)

from x2i_app.encoders import load_encoder
from x2i_app.encoders.base import fill_template
from x2i_app.encoders.native import clean_answer
from x2i_app.errors import CheckpointError, UnknownPresetError, UnsupportedModalityError
from x2i_app.presets import get_family
from x2i_app.request import Turn
from x2i_app.specs import MLLMSpec

FAMILIES = {
    "qwen2.5-vl": Qwen2_5_VLForConditionalGeneration,
    "qwen2.5-omni": Qwen2_5OmniThinkerForConditionalGeneration,
}
SIZES = {"qwen2.5-vl": (4, 32), "qwen2.5-omni": (9, 192)}


@pytest.fixture(params=FAMILIES)
def family(request):
    return request.param


@pytest.fixture
def directory(family, qwen_vl_directory, qwen_omni_directory):
    return qwen_vl_directory if family == "qwen2.5-vl" else qwen_omni_directory


@pytest.fixture
def encoder(family, directory):
    return load_encoder(family, directory, dtype=torch.float32)


@pytest.fixture
def conversations(family, image, video, tone):
    """The modalities of each family, one by one and together."""
    mixed = {"prompt": "all of it", "images": [image, image], "videos": [video]}
    found = {
        "text": {"prompt": "a red house"},
        "image": {"images": [image]},
        "two images": {"images": [image, image.rotate(180)], "prompt": "both"},
        "video": {"videos": [video]},
        "mixed": mixed,
    }
    if family == "qwen2.5-omni":
        found |= {"audio": {"audios": [tone]}, "mixed": mixed | {"audios": [tone, tone]}}
    return found


def reference(family, directory, encoder, given, max_new_tokens=1):
    """transformers' own way: the complete model, its `generate`, hidden states of every step."""
    model = FAMILIES[family].from_pretrained(directory, dtype=torch.float32).eval()
    inputs = encoder._tokenize(encoder._build_conversation([turn_of(given)]))
    output = model.generate(
        **inputs,
        max_new_tokens=max_new_tokens,
        do_sample=False,
        output_hidden_states=True,
        return_dict_in_generate=True,
    )
    return output, inputs["input_ids"].shape[1]


def turn_of(given):
    return Turn(**{k: v if k == "prompt" else tuple(v) for k, v in given.items()})


def test_states_equal_generate(family, directory, encoder, conversations):
    states, width = SIZES[family]
    for name, given in conversations.items():
        encoded = encoder.encode(**given, padding="compact")
        expected = torch.stack(reference(family, directory, encoder, given)[0].hidden_states[0], dim=1)
        assert encoded.hidden_states.shape == (1, states, expected.shape[2], width), name
        torch.testing.assert_close(encoded.hidden_states, expected, atol=1e-4, rtol=1e-4, msg=name)
        assert encoded.mask.all()
        assert encoded.answer is None


def test_padding_equals_a_full_prefill(encoder, conversations):
    """Padding computed as one row equals a prefill of all 512 tokens with the reference's positions."""
    for name, given in conversations.items():
        padded = encoder.encode(**given, padding="padded")
        inputs = encoder._tokenize(encoder._build_conversation([turn_of(given)]))
        length = inputs["input_ids"].shape[1]
        pads = 512 - length
        position_ids = torch.nn.functional.pad(encoder._position_ids(inputs), (0, pads), value=1)
        fill = {"input_ids": encoder.processor.tokenizer.pad_token_id, "attention_mask": 0, "mm_token_type_ids": 0}
        for key in fill.keys() & inputs.keys():
            inputs[key] = torch.nn.functional.pad(inputs[key], (0, pads), value=fill[key])
        with torch.no_grad():
            whole = encoder.base(**inputs, position_ids=position_ids, output_hidden_states=True, use_cache=False)
        expected = torch.stack(whole.hidden_states, dim=1)
        torch.testing.assert_close(padded.hidden_states, expected, atol=1e-4, rtol=1e-4, msg=name)
        assert padded.mask.sum() == length


def test_a_prompt_longer_than_the_padding(encoder):
    long = encoder.encode(prompt="a red house on snow. " * 200, padding="padded")
    assert long.hidden_states.shape[2] > 512
    assert long.mask.all()


def test_answer_equals_generate(family, directory, encoder, image):
    """The answer is that of transformers' `generate`, with the states of its tokens."""
    given = {"prompt": "a red house", "images": [image]}
    encoded = encoder.encode(**given, reason=True)
    output, prompt_length = reference(family, directory, encoder, given, max_new_tokens=encoder.spec.max_new_tokens)
    expected = torch.cat([torch.stack(step, dim=1) for step in output.hidden_states[1:]], dim=2)
    torch.testing.assert_close(encoded.hidden_states, expected, atol=1e-4, rtol=1e-4)
    said = encoder.processor.tokenizer.decode(output.sequences[0, prompt_length:], skip_special_tokens=True)
    assert encoded.answer == clean_answer(said)
    assert encoded.hidden_states.shape[2] == output.sequences.shape[1] - prompt_length - 1


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("save", [save_qwen_vl, save_qwen_omni])
def test_the_head_is_loaded_for_the_first_answer(tmp_path, save, tied):
    directory = save(tmp_path, tied=tied)
    encoder = load_encoder("qwen2.5-vl" if save is save_qwen_vl else "qwen2.5-omni", directory, dtype=torch.float32)
    before = {key: value.data_ptr() for key, value in encoder.model.named_parameters()}
    assert not any("lm_head" in key for key in before)
    encoder.encode(prompt="a red house", reason=True)
    headed = dict(encoder.model.named_parameters(remove_duplicate=False))
    assert headed["lm_head.weight"].shape == encoder.model.get_input_embeddings().weight.shape
    assert (headed["lm_head.weight"] is encoder.model.get_input_embeddings().weight) is tied
    # Nothing that was loaded has moved or been copied.
    assert all(headed[f"model.{key}"].data_ptr() == pointer for key, pointer in before.items())


def test_history(encoder, image):
    without = encoder.encode(prompt="make it night", padding="compact")
    turn = {"prompt": "a red house", "images": (image,), "answer": "a red house on grass"}
    answered = encoder.encode(prompt="make it night", history=[Turn(**turn)], padding="compact")
    unanswered = encoder.encode(prompt="make it night", history=[Turn(**turn | {"answer": ""})], padding="compact")
    lengths = [states.hidden_states.shape[2] for states in (without, unanswered, answered)]
    assert lengths == sorted(set(lengths))


def test_order_and_content_of_media(encoder, image):
    turned = image.rotate(180)
    one = encoder.encode(images=[image, turned], padding="compact").hidden_states
    other = encoder.encode(images=[turned, image], padding="compact").hidden_states
    assert one.shape == other.shape
    assert (one - other).abs().max() > 1e-3


def test_the_frame_rate_matters(encoder):
    def gray(seconds):
        return np.full((seconds, 48, 64, 3), 120, dtype=np.uint8), 1.0

    # At most 32 frames are taken: one a second of the one, 0.8 of the other; nothing else is different.
    one = encoder.encode(videos=[gray(32)], padding="compact").hidden_states
    other = encoder.encode(videos=[gray(40)], padding="compact").hidden_states
    assert one.shape == other.shape
    assert (one - other).abs().max() > 1e-3


def test_long_audio_is_cut_with_a_note(qwen_omni_directory):
    encoder = load_encoder("qwen2.5-omni", qwen_omni_directory, dtype=torch.float32)
    noise = np.random.default_rng(0).normal(0, 0.1, 16_000 * 40).astype(np.float32)
    cut = encoder.encode(audios=[(noise, 16_000)])
    assert cut.notes == ("The audio is 40 s long; this MLLM hears the first 30 s.",)
    whole = encoder.encode(audios=[(noise[: 16_000 * 30], 16_000)])
    assert whole.notes == ("The model hears the audio directly, all 30.0 s of it.",)
    assert torch.equal(cut.hidden_states, whole.hidden_states)


def test_prompt_and_answer_states(family, directory, image):
    def encode(states):
        spec = replace(get_family(family), states=states, padding="compact")
        encoder = load_encoder(family, directory, spec=spec, dtype=torch.float32)
        return encoder.encode(prompt="a red house", images=[image])

    prompt, answer, both = (encode(states) for states in ("prompt", "answer", "prompt+answer"))
    joined = torch.cat((prompt.hidden_states, answer.hidden_states), dim=2)
    torch.testing.assert_close(both.hidden_states, joined, atol=1e-4, rtol=1e-4)
    assert both.mask.all()
    assert both.answer == answer.answer


def test_an_unsupported_modality_is_refused(qwen_vl_directory, tone):
    """The message names presets that support it; modalities of earlier turns count too."""
    encoder = load_encoder("qwen2.5-vl", qwen_vl_directory)
    with pytest.raises(UnsupportedModalityError, match=r"qwen2.5-vl does not support audio.*x2i-tiny.*minicpm-o-2.6"):
        encoder.encode(prompt="listen", audios=[tone])
    with pytest.raises(UnsupportedModalityError, match="does not support audio"):
        encoder.encode(prompt="draw it", history=[Turn("listen", audios=[tone])])


def test_the_instruction_template(encoder, directory, family):
    plain = fill_template("plain", "a cat", has_image=True)
    worded = fill_template("instruction", "a cat", has_image=True)
    assert plain == "a cat"
    assert worded == "{'Text input': 'a cat', 'Instruction editing description': 'no', 'image input': 'yes'}"
    instructed = load_encoder(family, directory, template="instruction", dtype=torch.float32)
    expected = encoder.encode(prompt=fill_template("instruction", "a cat", has_image=False))
    assert torch.equal(instructed.encode(prompt="a cat").hidden_states, expected.hidden_states)
    with pytest.raises(UnknownPresetError, match="no template 'poem'"):
        load_encoder(family, directory, template="poem")


def test_another_depth_or_width_is_refused(family, directory):
    """The preset's sizes are compared with config.json before any weight is read."""
    states, width = SIZES[family]
    expected = MLLMSpec(family, "owner/name", "", num_layers=28, hidden_size=3584)
    with pytest.raises(CheckpointError, match=f"{states - 1} layers of width {width}; expected 28 of width 3584"):
        load_encoder(family, directory, expected=expected)


def test_other_folders_are_refused(qwen_vl_directory, tmp_path):
    with pytest.raises(CheckpointError, match=r"type 'qwen2_5_vl', not qwen2\.5-omni"):
        load_encoder("qwen2.5-omni", qwen_vl_directory)
    with pytest.raises(CheckpointError, match=r"no readable config\.json"):
        load_encoder("qwen2.5-vl", tmp_path)
    with pytest.raises(UnknownPresetError, match="no MLLM family called 'gpt'"):
        load_encoder("gpt", tmp_path)


@pytest.mark.parametrize("lost", ["model.layers.1.mlp.up_proj.weight", "lm_head.weight"])
def test_a_missing_weight_is_refused(tmp_path, qwen_vl_directory, lost):
    directory = shutil.copytree(qwen_vl_directory, tmp_path / "lossy")
    weights = load_file(directory / "model.safetensors")
    del weights[lost]
    save_file(weights, directory / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=r"lacks 1 weights|has no lm_head.weight"):
        load_encoder("qwen2.5-vl", directory).encode(prompt="a red house", reason=True)
