"""A batch of conversations gives the same states as each conversation by itself, whatever the lengths of answers."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from encoders.internvl_checkpoint_factory import save_internvl
from encoders.minicpm_o_factory import save_minicpm_o
from transformers import BatchFeature

from x2i_app.encoders import load_encoder
from x2i_app.encoders.grouping import run_in_groups
from x2i_app.errors import InvalidRequestError
from x2i_app.presets import get_family
from x2i_app.request import Turn

TEXTS = ["a red house", "a red tree", "a green tree on snow", "Haus", "a red house", "雪地上的红房子"]


@pytest.fixture(params=["qwen2.5-vl", "qwen2.5-omni"])
def encoder(request, qwen_vl_directory, qwen_omni_directory):
    directory = qwen_vl_directory if request.param == "qwen2.5-vl" else qwen_omni_directory
    spec = replace(get_family(request.param), max_new_tokens=12)
    return load_encoder(request.param, directory, spec=spec, dtype=torch.float32)


@pytest.fixture
def conversations(encoder, image, video, tone):
    """Texts of several lengths, media of the same and of other sizes, a history: most of it twice, and different."""
    frames, _ = video
    turns = [[Turn(text)] for text in TEXTS]
    for other in (image, image.rotate(180)):
        turns += [[Turn("look", images=[other])], [Turn(images=[other, image])]]
        turns += [[Turn("a red house", images=[other], answer="a tree"), Turn("make it night")]]
    for clip in (video, (255 - frames, 1.0), (frames, 2.0), (frames[:3], 1.0)):
        turns += [[Turn(videos=[clip])], [Turn("both", images=[image], videos=[clip])]]
    if "audio" in encoder.spec.modalities:
        samples, rate = tone
        for audio in (samples, samples[::-1], np.tile(samples, 2), samples[:-100]):
            turns += [[Turn(audios=[(audio, rate)])], [Turn("hm", images=[image], audios=[(audio, rate)])]]
    return turns


@pytest.fixture
def runs(encoder, monkeypatch):
    """Conversations in each run of the MLLM."""
    sizes = []
    for name in ("_prefill_group", "_answer_group"):
        whole = getattr(encoder, name)

        def count(inputs, *args, whole=whole):
            sizes.append(len(inputs["input_ids"]))
            return whole(inputs, *args)

        monkeypatch.setattr(encoder, name, count)
    return sizes


def assert_same(batch, single):
    assert len(batch) == len(single)
    for ours, theirs in zip(batch, single, strict=True):
        torch.testing.assert_close(ours.hidden_states, theirs.hidden_states, atol=1e-4, rtol=1e-4)
        assert torch.equal(ours.mask, theirs.mask)
        assert (ours.answer, ours.notes) == (theirs.answer, theirs.notes)


@pytest.mark.parametrize("padding", ["compact", "padded"])
def test_a_batch_of_prompts_equals_single_prompts(encoder, conversations, padding, runs):
    single = [encoder.encode_batch([turns], padding)[0] for turns in conversations]
    assert runs == [1] * len(conversations)
    runs.clear()
    batch = encoder.encode_batch(conversations, padding)
    assert_same(batch, single)
    assert sum(runs) == len(conversations)
    assert len(runs) < len(conversations) / 1.5


def test_a_batch_of_answers_equals_single_answers(encoder, conversations, runs):
    """Each answer ends at its own end token."""
    # Let the tokens end an answer that these random models say soon and often, so that answers differ in length.
    encoder.add_head()
    said = Counter()
    for turns in conversations:
        inputs = encoder._tokenize(encoder._build_conversation(turns))
        new = encoder.model.generate(**inputs, max_new_tokens=12, do_sample=False)[0, inputs["input_ids"].shape[1] :]
        said.update(set(new[2:9].tolist()))
    encoder.model.generation_config.eos_token_id = [token for token, _ in said.most_common(4)]
    single = [encoder.encode_batch([turns], reason=True)[0] for turns in conversations]
    runs.clear()
    batch = encoder.encode_batch(conversations, reason=True)
    assert_same(batch, single)
    lengths = {states.hidden_states.shape[2] for states in batch if not states.notes}
    assert len(lengths) > 3
    assert max(lengths) == 11  # one was never ended: its last token has no states
    assert len(runs) < len(conversations) / 1.5


def test_an_empty_answer_in_a_batch(encoder):
    """Its result has the states of its prompt."""
    single = [encoder.encode(text, reason=True) for text in TEXTS]
    prompts = [encoder._tokenize(encoder._build_conversation([Turn(text)])) for text in TEXTS]
    first = [encoder.model.generate(**ids, max_new_tokens=1, do_sample=False)[0, -1].item() for ids in prompts]
    # Let the rarest first word end an answer: some conversations have nothing to say, the others have.
    end = min(first, key=first.count)
    encoder.model.generation_config.eos_token_id = end
    batch = encoder.encode_batch([[Turn(text)] for text in TEXTS], reason=True)
    silent = [token == end for token in first]
    assert any(silent)
    assert not all(silent)
    for states, is_silent, whole, prompt in zip(batch, silent, single, prompts, strict=True):
        assert bool(states.notes) == is_silent
        if is_silent:
            assert states.notes[0].startswith("The MLLM gave no answer")
            assert states.hidden_states.shape[2] == prompt["input_ids"].shape[1]
        else:
            assert whole.answer.startswith(states.answer)


@pytest.mark.parametrize(("family", "save"), [("internvl2.5", save_internvl), ("minicpm-o", save_minicpm_o)])
@pytest.mark.parametrize("reason", [False, True])
def test_batches_of_other_families(tmp_path, family, save, reason, image, video):
    spec = replace(get_family(family), max_new_tokens=4)
    encoder = load_encoder(family, save(tmp_path), spec=spec, dtype=torch.float32)
    turns = [[Turn(text)] for text in TEXTS[:3]]
    turns += [[Turn("look", images=[other])] for other in (image, image.rotate(180))] + [[Turn(videos=[video])]]
    assert_same(
        encoder.encode_batch(turns, reason=reason),
        [encoder.encode_batch([conversation], reason=reason)[0] for conversation in turns],
    )


def test_empty_and_invalid_batches(encoder):
    assert encoder.encode_batch([]) == []
    with pytest.raises(InvalidRequestError, match="request is empty"):
        encoder.encode_batch([[Turn("a red house")], [Turn()]])
    with pytest.raises(InvalidRequestError, match="padding is 'wide'"):
        encoder.encode_batch([[Turn("a red house")]], padding="wide")


def test_groups_are_bounded_and_results_keep_their_order():
    sizes = []

    def run(group):
        sizes.append(len(group["input_ids"]))
        return group["input_ids"][:, 0].tolist()

    inputs = [BatchFeature({"input_ids": torch.full((1, 1 + i % 2), i), "rates": [i]}) for i in range(9)]
    assert run_in_groups(iter(inputs), run, max_group_size=2) == list(range(9))
    assert sizes == [2, 2, 2, 2, 1]
