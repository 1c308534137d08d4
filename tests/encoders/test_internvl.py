"""InternVL 2.5 in OpenGVLab's on-disk format: what it reads, what it answers, and its place in a pipeline."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from encoders.internvl_checkpoint_factory import LAYERS, TILE, WIDTH, save_internvl
from transformers import InternVLForConditionalGeneration, InternVLProcessor

from x2i_app import X2IPipeline
from x2i_app.encoders import load_encoder
from x2i_app.encoders.base import fill_template
from x2i_app.encoders.internvl import SYSTEM_PROMPT
from x2i_app.encoders.native import clean_answer
from x2i_app.errors import CheckpointError, UnsupportedModalityError
from x2i_app.miniature import models
from x2i_app.models import AlignNet
from x2i_app.presets import get_family
from x2i_app.request import Turn


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    return save_internvl(tmp_path_factory.mktemp("internvl"), shards=2)


@pytest.fixture
def encoder(directory):
    return load_encoder("internvl2.5", directory, spec=replace(get_family("internvl2.5"), max_new_tokens=8))


@pytest.fixture
def conversations(image, video):
    return {
        "text": {"prompt": "a red house"},
        "image": {"images": [image]},
        "two images": {"images": [image, image.rotate(180)], "prompt": "both"},
        "video": {"videos": [video]},
        "mixed": {"prompt": "all of it", "images": [image, image], "videos": [video, video]},
        "dialogue": {"prompt": "make it night", "history": [Turn("a red house", images=(image,), answer="a house")]},
    }


def inputs_of(encoder, given):
    given = dict(given)
    history = given.pop("history", [])
    turn = Turn(**{key: value if key == "prompt" else tuple(value) for key, value in given.items()})
    return encoder._tokenize(encoder._build_conversation([*history, turn]))


def text_of(encoder, given):
    """The text that the model reads, with the tokens of an image written as one."""
    text = encoder.processor.tokenizer.decode(inputs_of(encoder, given)["input_ids"][0])
    assert text.count("<IMG_CONTEXT>") == text.count("<img>") * 256
    return text.replace("<IMG_CONTEXT>" * 256, "<IMG_CONTEXT>").replace("<img><IMG_CONTEXT></img>", "<image>")


def test_every_modality(encoder, conversations):
    assert {"text", "image", "video"} == set(encoder.spec.modalities)
    for name, given in conversations.items():
        encoded = encoder.encode(**given, padding="compact")
        tokens = inputs_of(encoder, given)["input_ids"].shape[1]
        assert encoded.hidden_states.shape == (1, LAYERS + 1, tokens, WIDTH), name
        assert encoded.hidden_states.isfinite().all()
        assert encoded.mask.all()
        assert (encoded.answer, encoded.notes) == (None, ())
    assert (encoder.num_states, encoder.hidden_size) == (LAYERS + 1, WIDTH)


def test_tiles(encoder, image, video):
    """One tile per image and per frame."""
    assert inputs_of(encoder, {"images": [image, image.resize((900, 100))]})["pixel_values"].shape == (2, 3, TILE, TILE)
    assert inputs_of(encoder, {"videos": [video]})["pixel_values"].shape == (len(video[0]), 3, TILE, TILE)
    assert "pixel_values" not in inputs_of(encoder, {"prompt": "a red house"})


def test_a_long_video_is_sampled(encoder):
    video = np.zeros((40, 48, 64, 3), dtype=np.uint8), 1.0
    assert len(inputs_of(encoder, {"videos": [video]})["pixel_values"]) == get_family("internvl2.5").max_video_frames


def test_the_chat_template(encoder, image, video):
    opening = f"<|im_start|>system\n{SYSTEM_PROMPT}<|im_end|>\n<|im_start|>user\n"
    closing = "<|im_end|>\n<|im_start|>assistant\n"
    said = fill_template("short-instruction", "a cat", has_image=False)
    nothing = "{'Text input': None, 'Instruction editing description': 'no'}"
    assert said == "{'Text input': 'a cat', 'Instruction editing description': 'no'}"
    short_video = video[0][:2], video[1]
    for given, turns in (
        ({"prompt": "a cat"}, said),
        ({"images": [image]}, f"<image>\n{nothing}"),
        ({"images": [image, image], "prompt": "a cat"}, f"Image-1: <image>\nImage-2: <image>\n{said}"),
        ({"videos": [short_video], "prompt": "a cat"}, f"Frame1: <image>\nFrame2: <image>\n{said}"),
        (
            {"images": [image], "videos": [short_video, short_video], "prompt": "a cat"},
            "<image>\nFrame1: <image>\nFrame2: <image>\nFrame1: <image>\nFrame2: <image>\n" + said,
        ),
        (
            {"prompt": "a cat", "images": [image], "history": [Turn("", images=(image,), answer="a house")]},
            f"Image-1: <image>\n{nothing}<|im_end|>\n<|im_start|>assistant\na house<|im_end|>\n<|im_start|>user\n"
            f"Image-2: <image>\n{said}",
        ),
    ):
        assert text_of(encoder, given) == opening + turns + closing


def test_the_plain_template(directory, image):
    encoder = load_encoder("internvl2.5", directory, template="plain")
    assert text_of(encoder, {"images": [image]}).endswith(
        "<|im_start|>user\n<image>\n<|im_end|>\n<|im_start|>assistant\n"
    )
    assert "user\na cat<|im_end|>" in text_of(encoder, {"prompt": "a cat"})


def test_order_and_content_of_images(encoder, image):
    turned = image.rotate(180)
    one = encoder.encode(images=[image, turned], padding="compact").hidden_states
    other = encoder.encode(images=[turned, image], padding="compact").hidden_states
    assert one.shape == other.shape
    assert (one - other).abs().max() > 1e-2


def test_padding_equals_a_full_prefill(encoder, conversations):
    """Pad rows equal those of a prefill of 512 tokens, and differ from each other."""
    for name in ("text", "image"):
        padded = encoder.encode(**conversations[name], padding="padded")
        inputs = inputs_of(encoder, conversations[name])
        length = inputs["input_ids"].shape[1]
        pads = 512 - length
        for key, value in (("input_ids", encoder.processor.tokenizer.pad_token_id), ("attention_mask", 0)):
            inputs[key] = torch.nn.functional.pad(inputs[key], (0, pads), value=value)
        with torch.no_grad():
            whole = encoder.model(**inputs, output_hidden_states=True)
        torch.testing.assert_close(padded.hidden_states, torch.stack(whole.hidden_states, dim=1), atol=1e-4, rtol=1e-4)
        assert padded.mask.sum() == length
        last, first = padded.hidden_states[0, -1, -1], padded.hidden_states[0, -1, length]
        assert (last - first).abs().max() > 1e-2
        compact = encoder.encode(**conversations[name], padding="compact").hidden_states
        torch.testing.assert_close(padded.hidden_states[:, :, :length], compact, atol=1e-4, rtol=1e-4)
    assert encoder.spec.padding == "padded"


def test_a_prompt_longer_than_the_padding(encoder, conversations):
    for given in ({"prompt": "a red house on snow. " * 200}, conversations["two images"]):
        long = encoder.encode(**given, padding="padded")
        assert long.hidden_states.shape[2] > 512
        assert long.mask.all()
        assert torch.equal(long.hidden_states, encoder.encode(**given, padding="compact").hidden_states)


@pytest.mark.parametrize("name", ["text", "two images", "video", "dialogue"])
def test_answer_equals_generate(encoder, conversations, name):
    """The answer is that of transformers' `generate`, with the states of its tokens."""
    given = conversations[name]
    prompt = encoder.encode(**given, padding="compact").hidden_states
    encoded = encoder.encode(**given, reason=True)
    inputs = inputs_of(encoder, given)
    length = inputs["input_ids"].shape[1]
    said = encoder.model.generate(**inputs, max_new_tokens=encoder.spec.max_new_tokens, do_sample=False)[0]
    assert encoded.answer == clean_answer(encoder.processor.tokenizer.decode(said[length:], skip_special_tokens=True))
    # The whole conversation at once, without a cache, has the same states; the last token was never read.
    with torch.no_grad():
        whole = encoder.base(
            input_ids=said[None, :-1], pixel_values=inputs.get("pixel_values"), output_hidden_states=True
        )
    states = torch.stack(whole.hidden_states, dim=1)
    torch.testing.assert_close(states[:, :, :length], prompt, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(encoded.hidden_states, states[:, :, length:], atol=1e-4, rtol=1e-4)
    assert encoded.mask.all()


def test_an_empty_answer(encoder):
    encoder.add_head()
    asked = encoder.encode(prompt="a red house", padding="compact").hidden_states
    end = encoder.processor.tokenizer.convert_tokens_to_ids("<|im_end|>")
    head = torch.zeros_like(encoder.model.lm_head.weight)
    head[end] = asked[0, -1, -1]  # of all tokens, the end of the turn is the likeliest here
    encoder.model.lm_head.weight = torch.nn.Parameter(head, requires_grad=False)
    encoded = encoder.encode(prompt="a red house", reason=True)
    torch.testing.assert_close(encoded.hidden_states, asked)
    assert encoded.answer == ""
    assert encoded.notes == ("The MLLM gave no answer, so the image follows the input directly.",)


@pytest.mark.parametrize("tied", [True, False])
def test_the_head_is_loaded_for_the_first_answer(tmp_path, tied):
    spec = replace(get_family("internvl2.5"), max_new_tokens=2)
    encoder = load_encoder("internvl2.5", save_internvl(tmp_path, tied=tied), spec=spec)
    before = {key: value.data_ptr() for key, value in encoder.model.named_parameters()}
    assert not any("lm_head" in key for key in before)
    encoder.encode(prompt="a red house", reason=True)
    assert isinstance(encoder.model, InternVLForConditionalGeneration)
    headed = dict(encoder.model.named_parameters(remove_duplicate=False))
    assert (headed["lm_head.weight"] is encoder.model.get_input_embeddings().weight) is tied
    # Nothing that was loaded has moved or been copied.
    assert all(headed[f"model.{key}"].data_ptr() == pointer for key, pointer in before.items())


def test_audio_is_refused(encoder, tone):
    """The message names presets that support it."""
    with pytest.raises(UnsupportedModalityError, match=r"internvl2.5 does not support audio.*x2i-tiny.*minicpm-o-2.6"):
        encoder.encode(prompt="listen", audios=[tone])


def test_a_pipeline_is_saved_and_loaded(encoder, image, tmp_path):
    torch.manual_seed(0)
    pipeline = X2IPipeline.from_encoder(
        encoder,
        AlignNet(LAYERS + 1, WIDTH, fusion="scale", joint_dim=models.JOINT_DIM, pooled_dim=models.POOLED_DIM),
        models.build_transformer(),
        models.build_vae(),
        models.build_scheduler(),
    )
    given = {"prompt": "make it night", "images": [image]}
    expected = pipeline.encode(**given)
    answered = pipeline.encode(**given, reason=True)
    pipeline.save_pretrained(tmp_path)
    loaded = X2IPipeline.from_pretrained(tmp_path)
    assert isinstance(loaded.processor, InternVLProcessor)
    assert isinstance(loaded.mllm, InternVLForConditionalGeneration)
    assert loaded.encoder.spec == encoder.spec
    assert expected.prompt_embeds.shape == (1, 512, models.JOINT_DIM)
    torch.testing.assert_close(loaded.encode(**given).prompt_embeds, expected.prompt_embeds, atol=1e-4, rtol=1e-4)
    again = loaded.encode(**given, reason=True)
    assert again.answer == answered.answer
    torch.testing.assert_close(again.prompt_embeds, answered.prompt_embeds, atol=1e-4, rtol=1e-4)
    image = loaded(**given, width=64, height=64, num_inference_steps=1).images[0]
    assert image.size == (64, 64)


def test_a_model_saved_without_its_head(encoder, tmp_path):
    encoder.model.save_pretrained(tmp_path)
    loaded = type(encoder)(type(encoder.model).from_pretrained(tmp_path), encoder.processor, encoder.spec)
    states = encoder.encode(prompt="a red house").hidden_states
    torch.testing.assert_close(loaded.encode(prompt="a red house").hidden_states, states, atol=1e-4, rtol=1e-4)
    with pytest.raises(CheckpointError, match=r"has no language_model.lm_head.weight or lm_head.weight"):
        loaded.encode(prompt="a red house", reason=True)
