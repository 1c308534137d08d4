"""MiniCPM-o in openbmb's own on-disk format: what it takes, what it refuses, and what it answers."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from encoders.minicpm_o_cases import audio, make_image
from encoders.minicpm_o_factory import HIDDEN, LAYERS, QUERIES, save_minicpm_o
from safetensors.torch import load_file
from transformers import Qwen2Config, Qwen2ForCausalLM

from x2i_app import X2IPipeline, load_pipeline
from x2i_app.encoders import load_encoder
from x2i_app.errors import MediaError
from x2i_app.models import AlignNet
from x2i_app.presets import get_family
from x2i_app.request import Turn

HEAD = "llm.lm_head.weight"


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    return save_minicpm_o(tmp_path_factory.mktemp("minicpm-o"))


@pytest.fixture(scope="module")
def encoder(directory):
    return load(directory)


def load(directory):
    return load_encoder(
        "minicpm-o", directory, spec=replace(get_family("minicpm-o"), max_new_tokens=12), dtype=torch.float32
    )


def inputs_of(encoder, **given):
    return encoder._tokenize(encoder._build_conversation([Turn(**given)]))


def template_rows(encoder):
    """Rows of a turn with nothing in it: the chat template's own."""
    return inputs_of(encoder)["input_ids"].shape[1]


def rows(encoder, **given):
    return encoder.encode(**given).hidden_states.shape[2]


def test_every_modality(encoder, image, video, tone):
    modalities = {
        "text": {"prompt": "a red house"},
        "image": {"images": [image]},
        "images": {"images": [image, make_image(50, 700, 1)], "prompt": "both"},
        "video": {"videos": [video]},
        "audio": {"audios": [tone]},
        "all": {"prompt": "all", "images": [image], "videos": [video, video], "audios": [tone, tone]},
    }
    for name, given in modalities.items():
        encoded = encoder.encode(**given)
        assert encoded.hidden_states.shape[:2] == (1, LAYERS + 1), name
        assert encoded.hidden_states.shape[3] == HIDDEN
        assert encoded.hidden_states.isfinite().all()
        assert encoded.mask.shape == (1, encoded.hidden_states.shape[2])
        assert encoded.mask.all()
        assert encoded.answer is None
    assert (encoder.num_states, encoder.hidden_size) == (LAYERS + 1, HIDDEN)


def test_there_is_no_padding(encoder, image):
    given = {"prompt": "a red house", "images": [image]}
    compact = encoder.encode(**given, padding="compact").hidden_states
    assert torch.equal(encoder.encode(**given, padding="padded").hidden_states, compact)


def test_frames_become_images(encoder, video):
    frames, _ = video
    shown = encoder.encode(videos=[video]).hidden_states
    assert torch.equal(shown, encoder.encode(images=list(frames)).hidden_states)
    assert shown.shape[2] - template_rows(encoder) == len(frames) * (QUERIES + 3)  # two brackets and a line break


def test_order_and_content_of_images(encoder):
    one, other = make_image(90, 60, 1), make_image(90, 60, 2)
    ahead = encoder.encode(images=[one, other]).hidden_states
    behind = encoder.encode(images=[other, one]).hidden_states
    assert ahead.shape == behind.shape
    assert (ahead - behind).abs().max() > 1e-2


def test_media_stay_in_their_turns(encoder, video):
    one, other = make_image(90, 60, 1), make_image(200, 60, 2)
    kwargs = {"videos": [video], "history": [Turn("first", images=(one,)), Turn("then", images=(other,))]}
    swapped = {"videos": [video], "history": [Turn("first", images=(other,)), Turn("then", images=(one,))]}
    straight, crossed = (encoder.encode(**given).hidden_states for given in (kwargs, swapped))
    assert straight.shape == crossed.shape
    assert (straight - crossed).abs().max() > 1e-2


def test_vision_batch_size_does_not_matter(encoder, video):
    config = encoder.model.config
    together = encoder.encode(videos=[video]).hidden_states
    config.vision_batch_size, most = 2, config.vision_batch_size
    try:
        torch.testing.assert_close(encoder.encode(videos=[video]).hidden_states, together, atol=1e-5, rtol=0)
    finally:
        config.vision_batch_size = most


@pytest.mark.parametrize(("size", "fitted"), [((90, 60), (546, 364)), ((60, 90), (364, 546)), ((2000, 20), (4396, 42))])
def test_image_sizes(encoder, size, fitted):
    pixels = inputs_of(encoder, images=(make_image(*size, 1),))["pixel_values"]
    assert [tuple(image.shape) for image in pixels] == [(3, *fitted[::-1])]
    assert -1 <= pixels[0].min() < pixels[0].max() <= 1


def test_spec_sizes_of_images_and_frames(directory, video):
    spec = replace(get_family("minicpm-o"), image_size=(100, 50), max_image_pixels=112 * 112, max_video_pixels=56 * 56)
    encoder = load_encoder("minicpm-o", directory, spec=spec)
    image, *frames = inputs_of(encoder, images=(make_image(90, 60, 1),), videos=(video,))["pixel_values"]
    assert image.shape == (3, 84, 154)  # twice as wide as high, in whole patches
    assert {frame.shape for frame in frames} == {(3, 42, 70)}


def test_patch_positions_matter(encoder):
    """Wide and tall images with equal patches differ only by their positions."""
    wide, tall = (np.full(shape, 90, np.uint8) for shape in ((60, 90, 3), (90, 60, 3)))
    states = [encoder.encode(images=[image]).hidden_states for image in (wide, tall)]
    assert states[0].shape == states[1].shape
    assert (states[0] - states[1]).abs().max() > 1e-3


def test_audio_placeholders(encoder):
    silence = template_rows(encoder)
    for seconds, tokens, brackets in ((0.03, 1, 1), (1.0, 25, 1), (2.5, 62, 3), (31.0, 775, 31), (60.02, 1500, 60)):
        given = {"audios": ((audio(seconds, 1), 16_000),)}
        inputs = inputs_of(encoder, **given)
        assert inputs["audio_mask"].sum() == tokens, seconds
        assert rows(encoder, **given) - silence == tokens + 2 * brackets + 1, seconds


def test_long_audio_is_split(encoder):
    long = audio(31.0, 1)
    inputs = inputs_of(encoder, audios=((long, 16_000),))
    assert inputs["audio_features"].shape == (2, 80, 3000)
    assert inputs["audio_lengths"].tolist() == [3000, 100]
    louder = np.concatenate((long[:-8000], 2 * long[-8000:]))
    states = [encoder.encode(audios=[(samples, 16_000)]).hidden_states for samples in (long, louder)]
    assert (states[0] - states[1]).abs().max() > 1e-3


def test_audio_chunks_are_causal(encoder):
    quiet = audio(3.0, 1)
    loud = np.concatenate((quiet[:32_000], 1.5 * quiet[32_000:])).clip(-1, 1)

    def heard(samples):
        inputs = inputs_of(encoder, audios=((samples, 16_000),))
        return encoder.model.embed_audios(inputs["audio_features"], inputs["audio_lengths"])

    with torch.no_grad():
        difference = (heard(quiet) - heard(loud)).abs().amax(dim=1)
    # The extractor's and the convolutions' windows reach two tokens over the edge at most.
    assert difference[:23].max() < 1e-5
    assert difference[50:].min() > 1e-3


def test_audio_that_is_too_short_is_refused(encoder):
    with pytest.raises(MediaError, match=r"lasts 20 ms, which is too short for MiniCPM-o; use one of at least 21 ms"):
        encoder.encode(audios=[(audio(0.02, 1), 16_000)])
    assert encoder.encode(audios=[(audio(0.021, 1), 16_000)]).mask.all()


def test_answer_equals_the_language_models(directory, encoder, image, tone):
    given = {"prompt": "a red house", "images": [image], "audios": [tone]}
    weights = {}
    for file in directory.glob("*.safetensors"):
        weights |= load_file(file)
    config = Qwen2Config.from_dict(json.loads((directory / "config.json").read_text()))
    language = Qwen2ForCausalLM(config).eval()
    language.load_state_dict({key[4:]: value for key, value in weights.items() if key.startswith("llm.")})
    prompt = encoder.encode(**given).hidden_states
    tokenizer = encoder.processor.tokenizer
    output = language.generate(
        inputs_embeds=prompt[:, 0],
        max_new_tokens=encoder.spec.max_new_tokens,
        do_sample=False,
        eos_token_id=tokenizer.convert_tokens_to_ids(["<|im_end|>", "<|endoftext|>"]),
        pad_token_id=tokenizer.pad_token_id,
        output_hidden_states=True,
        return_dict_in_generate=True,
    )
    encoded = encoder.encode(**given, reason=True)
    expected = torch.cat([torch.stack(step, dim=1) for step in output.hidden_states[1:]], dim=2)
    torch.testing.assert_close(encoded.hidden_states, expected, atol=1e-4, rtol=0)
    assert encoded.answer == tokenizer.decode(output.sequences[0], skip_special_tokens=True).strip()


def test_max_new_tokens(encoder, image, tone):
    encoded = encoder.encode(images=[image], audios=[tone], reason=True)
    # It would go on, and the last word is never fed.
    assert encoded.hidden_states.shape[2] == encoder.spec.max_new_tokens - 1
    assert encoded.answer


def test_history(encoder, image):
    turn = Turn("a red house", images=(image,), answer="a red house")
    unanswered = Turn("a red house", images=(image,))
    lengths = [rows(encoder, prompt="make it night", history=history) for history in ([], [unanswered], [turn])]
    assert lengths == sorted(set(lengths))


def test_the_head_is_loaded_for_the_first_answer(directory):
    encoder = load(directory)
    before = {key: value.data_ptr() for key, value in encoder.model.named_parameters()}
    assert HEAD not in before
    encoder.encode(prompt="a red house", reason=True)
    headed = {key: value.data_ptr() for key, value in encoder.model.named_parameters()}
    # Nothing that was loaded has moved or been copied.
    assert headed.keys() - before.keys() == {HEAD}
    assert before.items() <= headed.items()


@pytest.mark.parametrize("reason", [False, True])
def test_a_pipeline_is_saved_and_loaded(directory, tmp_path, image, tone, reason):
    flux = load_pipeline("x2i-tiny", profile="cpu")
    sizes = flux.transformer.config
    align_net = AlignNet(
        LAYERS + 1, HIDDEN, joint_dim=sizes.joint_attention_dim, pooled_dim=sizes.pooled_projection_dim
    )
    encoder = load(directory)
    pipeline = X2IPipeline.from_encoder(encoder, align_net, flux.transformer, flux.vae, flux.scheduler)
    given = {"prompt": "a red house", "images": [image], "audios": [tone], "reason": reason}
    expected = pipeline.encode(**given)
    pipeline.save_pretrained(tmp_path)
    loaded = X2IPipeline.from_pretrained(tmp_path)
    got = loaded.encode(**given)
    assert torch.equal(got.prompt_embeds, expected.prompt_embeds)
    assert got.answer == expected.answer
    # The saved model is a checkpoint of the original format again.
    again = load(tmp_path / "mllm")
    states = again.encode("a red house", [image], audios=[tone], reason=reason).hidden_states
    assert torch.equal(states, encoder.encode("a red house", [image], audios=[tone], reason=reason).hidden_states)
    size = {"width": 64, "height": 64, "num_inference_steps": 1}
    assert loaded(**given, **size).images[0].size == (64, 64)
