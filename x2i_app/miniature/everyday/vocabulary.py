"""The words that everyday prompts, changes and the world's own sentences use, for saying which words are unknown."""

import random
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields, replace
from functools import cache

from x2i_app.encoders.vocabulary import Vocabulary
from x2i_app.miniature.edits import random_edit
from x2i_app.miniature.everyday.base import Noun, Wording
from x2i_app.miniature.everyday.prompts import WORDINGS, name, random_group
from x2i_app.miniature.languages import LANGUAGES
from x2i_app.miniature.scene import random_scene
from x2i_app.miniature.sentences import describe

_WORD = re.compile(r"[^\W\d_]+")
_LONGEST = 3  # words of a phrase
_SAMPLES = 1000  # of each language: enough for every article and ending


@cache
def known_vocabulary(seed: int = 0) -> Vocabulary:
    """Of all six languages; the same seed gives the same words."""
    rng = random.Random(f"vocabulary {seed}")
    known: set[str] = set()
    strange: set[str] = set()
    for wording in WORDINGS.values():
        wording = replace(wording, is_mixed=False)
        texts = [*_table_texts(wording), *_samples(wording, rng)]
        nouns = [form for noun in wording.unknown_nouns for form in (noun.one, noun.many)]
        if wording.is_spaced:
            known.update(word for text in texts for word in _WORD.findall(_folded(text)))
            strange.update(_folded(noun) for noun in nouns if len(_WORD.findall(noun)) <= _LONGEST)
        else:
            known.update(piece for text in texts if len(piece := _folded(text)) <= 8 and piece.isalpha())
            strange.update(map(_folded, (*nouns, *wording.unknown_tails)))
            known.update(sign for text in texts for sign in _folded(text) if "\u3040" <= sign <= "\u309f")
            known.update("一这那了着么没")
    # A phrase of known words may mean something else, and so may a short word in another language.
    strange = {each for each in strange if not known.issuperset(_WORD.findall(each)) and (len(each) > 2 or each > "z")}
    return Vocabulary(frozenset(known), frozenset(strange), tuple(LANGUAGES))


def _folded(text: str) -> str:
    return unicodedata.normalize("NFKC", text).replace("’", "'").lower()


def _table_texts(wording: Wording) -> Iterator[str]:
    """All that the tables have, in pieces between fields and punctuation; not what is unknown."""
    for field in fields(wording):
        if not field.name.startswith("unknown") and field.name not in ("code", "stop", "comma"):
            for text in _strings(getattr(wording, field.name)):
                yield from re.split(r"\{\w*\}|[\s,，、。.:：/!?！？()（）]+", text)


def _strings(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Noun):
        yield from (value.one, value.many, value.gender)
    elif isinstance(value, Mapping):
        yield from _strings(tuple(value.values()))
    elif isinstance(value, Iterable):
        for each in value:
            yield from _strings(each)


def _samples(wording: Wording, rng: random.Random) -> Iterator[str]:
    """Things with their articles and endings, and the world's own sentences."""
    if not wording.is_spaced:
        return
    for _ in range(_SAMPLES):
        group = random_group(rng)
        yield name(group, wording, rng, rng.choice(("a", "the", "")), rng.choice(("acc", "dat")))
        scene = random_scene(rng)
        yield describe(scene, wording.code, rng)
        yield random_edit(scene, rng).instruction(wording.code, rng)
