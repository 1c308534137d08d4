"""The three tokenizers of x2i-tiny, trained on sentences of the cartoon world before all other training."""

import math
import random
import re
from collections import Counter
from functools import cache

from transformers import CLIPTokenizer, Qwen2Tokenizer, T5TokenizerFast

from x2i_app.miniature.corpus import corpus
from x2i_app.miniature.models import MEDIA_TOKENS, train_tokenizer
from x2i_app.miniature.scene import random_scene
from x2i_app.miniature.sentences import describe

# In tokens; no English sentence of the world is longer.
T5_LENGTH = 44
CLIP_LENGTH = 56
_SENTENCES = 60_000
_CLIP_VOCAB_SIZE = 512
_FALLBACK_SCORE = -20.0  # of single letters, so that they are used only if no word fits


def mllm_tokenizer(seed: int = 0) -> Qwen2Tokenizer:
    """Byte-level BPE over all six languages, with Qwen's chat tokens and Omni's media tokens."""
    return train_tokenizer(corpus(_SENTENCES, seed), **MEDIA_TOKENS)


def clip_tokenizer(seed: int = 0) -> CLIPTokenizer:
    """CLIP's BPE over English sentences; the teacher reads nothing else."""
    tokenizer = CLIPTokenizer().train_new_from_iterator(_english(seed), _CLIP_VOCAB_SIZE)
    tokenizer.model_max_length = CLIP_LENGTH
    return tokenizer


def t5_tokenizer(seed: int = 0) -> T5TokenizerFast:
    """T5's unigram model over English sentences, with a piece for every word and every letter.

    The trainer of `tokenizers` counts each distinct word once and would keep hardly any of so small a vocabulary. The
    scores, which are log frequencies, are therefore computed here.
    """
    counts = Counter(piece for text in _english(seed) for piece in _pieces(text))
    total = sum(counts.values())
    letters = {letter for piece in counts for letter in piece} - counts.keys()
    scored = [(piece, math.log(count / total)) for piece, count in sorted(counts.items())]
    specials = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
    vocabulary = [*specials, *scored, *((letter, _FALLBACK_SCORE) for letter in sorted(letters))]
    tokenizer = T5TokenizerFast(vocab=vocabulary, extra_ids=0)
    tokenizer.model_max_length = T5_LENGTH
    return tokenizer


def _pieces(text: str) -> list[str]:
    marked = ["▁" + word for word in text.split(" ")]
    return [piece for word in marked for piece in re.findall(r"▁?\w+|▁?[^\w▁]", word)]


@cache
def _english(seed: int) -> tuple[str, ...]:
    """The sentences for two of the tokenizers: a few MB, which take seconds to make."""
    rng = random.Random(f"english {seed}")
    return tuple(describe(random_scene(rng), "en", rng if index % 2 else None) for index in range(_SENTENCES // 2))
