"""The three tokenizers of x2i-tiny, trained on sentences of the cartoon world before all other training."""

import json
import math
import random
import re
import unicodedata
from collections import Counter
from functools import cache

from tokenizers import Tokenizer
from transformers import CLIPTokenizer, PreTrainedTokenizerFast, T5TokenizerFast
from transformers.convert_slow_tokenizer import bytes_to_unicode

from x2i_app.miniature.corpus import corpus
from x2i_app.miniature.everyday.vocabulary import known_vocabulary
from x2i_app.miniature.models import MEDIA_TOKENS, train_tokenizer
from x2i_app.miniature.scene import random_scene
from x2i_app.miniature.sentences import describe

# In tokens; no English sentence of the world is longer.
T5_LENGTH = 44
CLIP_LENGTH = 56
_SENTENCES = 60_000
_CLIP_VOCAB_SIZE = 512
_FALLBACK_SCORE = -20.0  # of single letters, so that they are used only if no word fits


# What a keyboard or a phone puts between letters without anybody seeing it.
_INVISIBLE = (
    r"[\x{00ad}\x{034f}\x{061c}\x{115f}\x{1160}\x{17b4}\x{17b5}\x{180e}\x{200b}-\x{200f}\x{202a}-\x{202e}\x{2060}-\x{206f}"
    r"\x{3164}\x{fe00}-\x{fe0f}\x{feff}\x{ffa0}\x{fff9}-\x{fffb}\x{e0000}-\x{e0fff}]"
)
_SAME = (  # pattern, what it becomes
    (_INVISIBLE, ""),
    ("[‘’‚‛`´′ʼ＇]", "'"),
    ("[“”„‟«»″〝〞]", '"'),
    ("[‐‑‒–—―−]", "-"),
    (r"(?<!\Auser)(?<!\Aassistant)\n\s*(?=\S)", " "),  # within a prompt only
    (r"(?<!\Auser)(?<!\Aassistant)(?<!\A)\n\s*$", ""),
    (r"[^\S\n]+", " "),
    (r" +(?=\n|$)", ""),
    # Behind these signs too a word has the same tokens as within a sentence.
    *((rf"\{sign}(?=\p{{L}})", f"{sign} ") for sign in ',.:;+/(#"'),
)


def mllm_tokenizer(seed: int = 0) -> PreTrainedTokenizerFast:
    """Byte-level BPE over all six languages, with Qwen's chat tokens and Omni's media tokens; see `fold`.

    Its config has the `vocabulary` by which the encoder names unknown words.
    """
    texts = (f" {normalize(text)}" for text in corpus(_SENTENCES, seed))  # a prompt begins with a space
    tokenizer = fold(train_tokenizer(texts, **MEDIA_TOKENS))
    tokenizer.init_kwargs["vocabulary"] = known_vocabulary(seed).as_dict()
    return tokenizer


def normalize(text: str) -> str:
    """The text as the MLLM's tokenizer reads it."""
    return Tokenizer.from_str(json.dumps(_EMPTY | {"normalizer": _NORMALIZER})).normalizer.normalize_str(text)


def fold(tokenizer: PreTrainedTokenizerFast) -> PreTrainedTokenizerFast:
    """The same tokenizer, to which letter case, Unicode's forms of a letter, typographic quotes and what cannot be seen

    make no difference. Tokens of capitals become those of small letters where there is none yet, with the same number.
    """
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    state["normalizer"] = _NORMALIZER
    model = state["model"]
    vocabulary, renamed = dict(model["vocab"]), set()
    special = {token["content"] for token in state["added_tokens"]}
    for token, number in model["vocab"].items():
        folded = _folded(token)
        if folded not in vocabulary and token not in special:
            renamed.add(folded)
            del vocabulary[token]
            vocabulary[folded] = number
    merges = {}
    for pair in model["merges"]:
        first, second = map(_folded, pair)
        # No other way to a token that was there before: texts of small letters stay as they were.
        if [first, second] == list(pair) or (first + second in renamed and {first, second} <= vocabulary.keys()):
            merges[first, second] = None
    model["vocab"], model["merges"] = vocabulary, [list(pair) for pair in merges]
    names = {name: getattr(tokenizer, name) for name in ("eos_token", "pad_token", "unk_token")}
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(state)),
        extra_special_tokens=MEDIA_TOKENS,
        **names,
    )


_NORMALIZER = {
    "type": "Sequence",
    "normalizers": [
        {"type": "NFKC"},
        {"type": "Lowercase"},
        *({"type": "Replace", "pattern": {"Regex": pattern}, "content": content} for pattern, content in _SAME),
    ],
}
_EMPTY = {"version": "1.0", "model": {"type": "BPE", "vocab": {}, "merges": []}, "added_tokens": []}
_TO_SIGN = bytes_to_unicode()
_TO_BYTE = {sign: byte for byte, sign in _TO_SIGN.items()}


def _folded(token: str) -> str:
    """A token of byte signs, of small letters; what is no whole text stays."""
    if not all(sign in _TO_BYTE for sign in token):
        return token
    try:
        text = bytes(_TO_BYTE[sign] for sign in token).decode()
    except UnicodeDecodeError:
        return token
    return "".join(_TO_SIGN[byte] for byte in unicodedata.normalize("NFKC", text).lower().encode())


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
