"""The loss of answers neither teaches pairs that training never shows, nor teaches against them."""

import pytest
import torch
from transformers import PreTrainedTokenizerFast

from x2i_app.miniature.scene import COLOURS, HELD_OUT, KINDS, Scene, Thing
from x2i_app.miniature.sentences import describe
from x2i_app.miniature.unseen import UnseenPairs
from x2i_app.settings import ASSETS

TOKENIZER = PreTrainedTokenizerFast.from_pretrained(ASSETS / "x2i-tiny" / "processor")


@pytest.fixture(scope="module")
def pairs():
    return UnseenPairs(TOKENIZER)


def token(word):
    return TOKENIZER(f" {word}")["input_ids"][0]


def named(pairs, text):
    """For each word of a text, the word that would make an untrained pair with its neighbour, if there is one."""
    tokens = TOKENIZER(text, return_tensors="pt")["input_ids"]
    beside = pairs.beside(tokens)
    assert beside.shape == tokens.shape
    return {
        TOKENIZER.decode(word).strip(): TOKENIZER.decode(other).strip()
        for word, other in zip(tokens[0].tolist(), beside[0].tolist(), strict=True)
        if other >= 0
    }


def test_untrained_pairs_of_a_text(pairs):
    for kind in KINDS:
        for colour in COLOURS:
            if (kind, colour) in HELD_OUT:
                continue
            text = describe(Scene("night", "snow", (Thing(kind, colour), Thing("rocket", "red", "right"))))
            expected = {"red": None, "rocket": "fish"}
            expected |= {colour: next((c for k, c in HELD_OUT if k == kind), None)}
            expected |= {kind: next((k for k, c in HELD_OUT if c == colour), None)}
            if kind != "rocket" and colour != "red":  # each word once
                assert named(pairs, text) == {word: other for word, other in expected.items() if other}
    assert named(pairs, "snow and night, red") == {}


def test_an_untrained_word_is_no_choice(pairs):
    tokens = torch.tensor([token("umbrella"), token("on")])
    beside = torch.tensor([token("tree"), -1])
    logits = torch.randn(2, len(TOKENIZER), generator=torch.Generator().manual_seed(0))
    first, _ = pairs.losses(logits, tokens, beside)
    logits[0, token("tree")] = 50
    second, less = pairs.losses(logits, tokens, beside)
    assert first == second
    assert less == 0, "it is not made less likely"
    logits[0, token("car")] = 50
    assert pairs.losses(logits, tokens, beside)[0] > 10, "a kind that is trained in this colour is wrong"


def test_an_untrained_word_becomes_as_likely_as_other_wrong_ones(pairs):
    tokens, beside = torch.tensor([token("umbrella")]), torch.tensor([token("tree")])
    logits = torch.zeros(1, len(TOKENIZER))
    logits[0, token("umbrella")], logits[0, token("tree")] = 9, -4
    logits.requires_grad_()
    less = pairs.losses(logits, tokens, beside)[1]
    assert less == 16
    (gradient,) = torch.autograd.grad(less, logits)
    assert gradient.nonzero().tolist() == [[0, token("tree")]]
    assert gradient[0, token("tree")] < 0
    with torch.no_grad():
        logits[0, token("tree")] = 0
    assert pairs.losses(logits, tokens, beside)[1] == 0


def test_without_untrained_pairs_it_is_the_cross_entropy(pairs):
    tokens, logits = torch.tensor([3, 5]), torch.randn(2, len(TOKENIZER))
    loss, less = pairs.losses(logits, tokens, torch.tensor([-1, -1]))
    assert loss == torch.nn.functional.cross_entropy(logits, tokens)
    assert less == 0
