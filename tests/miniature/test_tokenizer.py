"""The tokenizer of the MLLM: what makes no difference to it, and that answers come back unchanged."""

import random
import unicodedata

import pytest
from transformers import AutoProcessor, Qwen2_5OmniProcessor, Qwen2Tokenizer

from x2i_app.miniature.everyday import everyday_prompt
from x2i_app.miniature.models import MEDIA_TOKENS, train_tokenizer
from x2i_app.miniature.scene import random_scene
from x2i_app.miniature.sentences import describe
from x2i_app.miniature.tokenizers import fold, normalize
from x2i_app.settings import ASSETS

PROCESSOR = ASSETS / "x2i-tiny" / "processor"
TOKENIZER = Qwen2_5OmniProcessor.from_pretrained(PROCESSOR).tokenizer


def ids(text: str) -> list[int]:
    return TOKENIZER(text)["input_ids"]


@pytest.mark.parametrize(
    "text",
    [
        "A RED HOUSE ON SNOW AT NIGHT",
        "a\u00a0red\u2009house on\u3000snow at night",
        "a red\u200b house\u2060 on s\u00adnow at night\ufeff",
        "  a red  house\ton snow at night ",
        "ａ ｒｅｄ ｈｏｕｓｅ ｏｎ ｓｎｏｗ ａｔ ｎｉｇｈｔ",
        "\u202aa red house on snow at night\u202c",
    ],
)
def test_what_makes_no_difference(text):
    assert ids(f"user\n {text}") == ids("user\n a red house on snow at night")


def test_a_word_has_the_same_tokens_wherever_it_stands():
    """At the start of a prompt, alone or with media, behind a sign or on another row."""
    processor = Qwen2_5OmniProcessor.from_pretrained(PROCESSOR)
    house = ids(" house")
    assert len(house) == 1

    def asked(text: str, *media: str) -> list[int]:
        content = [*({"type": kind} for kind in media), {"type": "text", "text": text}]
        return ids(processor.apply_chat_template([{"role": "user", "content": content}], tokenize=False))

    for texts in (["house", "House", " house", "\n house\n"], ["tree house", "tree\nhouse", "tree\n\n house"]):
        assert len({tuple(asked(text)) for text in texts}) == 1
        assert set(house) < set(asked(texts[0]))
    assert asked("house", "image")[-3:-2] == house
    for sign in ',.:;+/(#"':
        assert house[0] in ids(f"tree{sign}house"), sign


def test_an_answer_begins_without_a_space():
    processor = Qwen2_5OmniProcessor.from_pretrained(PROCESSOR)
    answer = {"role": "assistant", "content": [{"type": "text", "text": "a large red house"}]}
    assert processor.apply_chat_template([answer], tokenize=False).startswith("<|im_start|>assistant\na large")
    assert TOKENIZER.decode(ids("<|im_start|>assistant\na large")).endswith("assistant\na large")


def test_quotes_apostrophes_and_accents():
    assert normalize("a\n\nb\n") == "a b"
    assert ids("it’s “night” – l‘arbre") == ids("it's \"night\" - l'arbre")
    assert ids(unicodedata.normalize("NFD", "Cái CÂY, grün, été")) == ids("cái cây, grün, été")


def test_what_makes_a_difference():
    assert ids("a red house") != ids("a rad house")
    assert ids("là") != ids("la")
    assert normalize("“A”\u200b B ") == '" a" b'


def test_answers_come_back_to_the_letter():
    rng = random.Random(0)
    for _ in range(300):
        sentence = describe(random_scene(rng))
        assert TOKENIZER.decode(ids(sentence)) == sentence
        assert TOKENIZER.decode(ids(f"{sentence}; ?")) == f"{sentence}; ?"


def test_every_loader_reads_the_normalizer(tmp_path):
    processor = AutoProcessor.from_pretrained(PROCESSOR)
    assert processor.tokenizer("A Red\u200b House")["input_ids"] == ids("a red house")
    processor.save_pretrained(tmp_path)
    again = Qwen2_5OmniProcessor.from_pretrained(tmp_path)
    assert again.tokenizer("A Red\u200b House")["input_ids"] == ids("a red house")
    assert again.tokenizer.image_token == MEDIA_TOKENS["image_token"]


def test_fold_keeps_numbers_and_texts():
    rng = random.Random(1)
    corpus = [everyday_prompt(rng, unknown=0.0).text for _ in range(3000)]
    trained = train_tokenizer(corpus, 1200, **MEDIA_TOKENS)
    folded = fold(trained)
    assert isinstance(trained, Qwen2Tokenizer)
    assert len(folded) == len(trained)
    for token in (*MEDIA_TOKENS.values(), "<|im_start|>", "<|im_end|>"):
        assert folded.convert_tokens_to_ids(token) == trained.convert_tokens_to_ids(token)
        assert folded(token)["input_ids"] == [trained.convert_tokens_to_ids(token)]
    assert (folded.eos_token, folded.pad_token) == (trained.eos_token, trained.pad_token)
    for text in corpus[:300]:
        small = normalize(text)
        assert folded(text)["input_ids"] == folded(small)["input_ids"]
        assert folded.decode(folded(text)["input_ids"]) == small
