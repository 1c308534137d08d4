"""A token that an MLLM reserves for itself is text when a user writes it, in every family and for the teacher."""

from pathlib import Path

import pytest
import torch
from encoders.internvl_checkpoint_factory import save_internvl
from encoders.minicpm_o_factory import save_minicpm_o
from encoders.new_families_factory import save_internvl3, save_qwen3_omni, save_qwen3_vl
from factories import save_qwen_omni, save_qwen_vl

from x2i_app.encoders import load_encoder, native
from x2i_app.encoders.reserved import hide, reveal
from x2i_app.request import Turn
from x2i_app.training import TeacherText

SAVE = {
    "qwen2.5-vl": save_qwen_vl,
    "qwen2.5-omni": save_qwen_omni,
    "internvl2.5": save_internvl,
    "minicpm-o": save_minicpm_o,
    "qwen3-vl": save_qwen3_vl,
    "qwen3-omni": save_qwen3_omni,
    "internvl3": save_internvl3,
}
# What processors of several versions look for in a prompt, and markers that are no tokens of their own.
MARKERS = ["<|placeholder|>", "<placeholder>", "<|image_placeholder|>", "(<image>./</image>)", "(<audio>./</audio>)"]
ORDINARY = [
    "a red house",
    "雪地上的红房子\n\n  it's 3 < 4, <b>bold</b> &amp; > \t𝄞 \U000f0041 é e\u0301",
    " <|im_ende> |>  <",
]


@pytest.fixture(scope="module", params=SAVE)
def encoder(request, tmp_path_factory):
    directory = SAVE[request.param](tmp_path_factory.mktemp(request.param))
    return load_encoder(request.param, directory, dtype=torch.float32)


def ids(encoder, *turns):
    return encoder._tokenize(encoder._build_conversation(list(turns)))["input_ids"][0].tolist()


def controls(encoder, *turns):
    reserved = encoder.processor.tokenizer.added_tokens_decoder
    return [token for token in ids(encoder, *turns) if token in reserved]


def test_ordinary_text_keeps_its_ids(encoder, image, monkeypatch):
    """Text that is hidden from the processor gets the ids that the tokenizer gives to the same text in the open."""
    for text in ORDINARY:
        turns = [Turn("before", answer=text), Turn(text, images=(image, image))]
        monkeypatch.setattr(native, "may_be_reserved", lambda *_: False)
        expected = ids(encoder, *turns)
        monkeypatch.setattr(native, "may_be_reserved", lambda *_: True)
        assert ids(encoder, *turns) == expected
        monkeypatch.undo()


def test_reserved_tokens_are_text(encoder, image, video, tone):
    """They add no control token to a conversation with media, and the text is all there, wherever it stands."""
    tokenizer = encoder.processor.tokenizer
    media = {"images": (image,), "videos": (video,)} | ({"audios": (tone,)} if encoder.spec.audio_rate else {})
    expected = controls(encoder, Turn("x", answer="y"), Turn("z", **media))
    text = "".join(f"stop {token}{token} here, <{token}" for token in [*tokenizer.get_added_vocab(), *MARKERS])
    turns = Turn(text, answer=text), Turn(text, **media)
    assert controls(encoder, *turns) == expected
    assert tokenizer.decode(ids(encoder, *turns)).count(text) == 3


def test_reserved_tokens_are_encoded(encoder, image):
    """The states of such a prompt are its own; the processor keeps its tokenizer."""
    tokenizer = encoder.processor.tokenizer
    kept, plain = (
        encoder.encode(prompt=text, images=[image], padding="compact").hidden_states
        for text in ("a house <|im_end|>", "a house")
    )
    assert kept.shape[2] > plain.shape[2]
    assert kept.isfinite().all()
    assert encoder.processor.tokenizer is tokenizer


def test_answers_have_no_reserved_tokens(encoder):
    """Neither the end of an answer nor a token that transformers does not call special is shown."""
    tokenizer = encoder.processor.tokenizer
    spoken = tokenizer("a house", add_special_tokens=False)["input_ids"]
    answer_ids = [*tokenizer.added_tokens_decoder, *spoken, *tokenizer.added_tokens_decoder]
    states = torch.zeros(1, encoder.num_states, len(answer_ids), encoder.hidden_size)
    assert encoder._pair_states(states, states, answer_ids).answer == "a house"


def test_hidden_text_is_revealed():
    text = "<|im_end|> 雪 𝄞 \U000f0041\U0010fffd\n"
    assert reveal(f"a {hide(text)} b") == f"a {text} b"
    assert not set(hide(text)) & set(text)


def test_the_teacher_reads_them_as_text():
    """T5 and CLIP read all of a caption: neither ends at a token in it."""
    teacher = TeacherText.load(Path("assets/x2i-tiny"))
    pipeline = teacher._pipeline
    for tokenizer in (pipeline.tokenizer, pipeline.tokenizer_2):
        plain = tokenizer("a red house")["input_ids"]
        for token in ("</s>", "<pad>", "<|endoftext|>", "<|startoftext|>", "<extra_id_0>"):
            read = tokenizer(teacher.spell_out(f"a red {token} house"))["input_ids"]
            reserved = set(tokenizer.all_special_ids) - {tokenizer.unk_token_id}
            assert [each for each in read if each in reserved] == [each for each in plain if each in reserved], token
            assert len(read) > len(plain)
    cut, whole = (teacher.encode([text], 32)[0] for text in ("a red </s> house", "a red < /s> house"))
    assert torch.equal(cut, whole)
