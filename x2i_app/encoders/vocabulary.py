"""Which words of a prompt an MLLM of a small world does not know, and whether it is in a language that it cannot read.

Such an MLLM marks its answer (`EncodingSpec.unknown_mark`), but its answer does not name the words. Its tokenizer's
config has them, as `vocabulary`: the words that its training used. Importing this module loads nothing else.
"""

import difflib
import re
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

_WORD = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)*")
_SHORTEST_TYPO, _LIKE = 5, 0.84  # letters, and difflib's ratio, from which a word may be a known one with a typo
_LONGEST = 8  # characters of a word in languages without spaces
_UNSPACED = r"\u3005\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff"  # kana and Chinese characters
# How much likelier, as a logarithm, a language must be than each of the known ones. Of 1,910 prompts in these, the
# detector takes none for another language with 12, and two with 8; of 27 in other languages it finds 26 and 27.
_MARGIN = 10.0
_NEGATIONS = {
    *("no", "not", "without", "don't", "nothing", "kein", "keine", "keinen", "ohne", "nicht", "pas", "sans", "không"),
    *("不", "不要", "没有", "别", "なし", "ない", "いらない"),
}
_OTHER_LANGUAGES = {
    "ar": "Arabic",
    "cs": "Czech",
    "da": "Danish",
    "el": "Greek",
    "es": "Spanish",
    "fi": "Finnish",
    "he": "Hebrew",
    "hi": "Hindi",
    "hu": "Hungarian",
    "id": "Indonesian",
    "it": "Italian",
    "ko": "Korean",
    "nl": "Dutch",
    "no": "Norwegian",
    "pl": "Polish",
    "pt": "Portuguese",
    "ro": "Romanian",
    "ru": "Russian",
    "sv": "Swedish",
    "th": "Thai",
    "tr": "Turkish",
    "uk": "Ukrainian",
}


@dataclass(frozen=True)
class Vocabulary:
    """known: words that the MLLM knows, in lower case. languages: ISO 639 codes of the languages that it reads.

    strange: common words and phrases that it does not know, even if its answer has no mark. In languages without spaces
    they also show where an unknown word ends.
    """

    known: frozenset[str]
    strange: frozenset[str]
    languages: tuple[str, ...]

    @classmethod
    def from_dict(cls, values: Mapping[str, str] | None) -> "Vocabulary":
        """From a tokenizer's config, which has each field as one string; None: every word is known."""
        if values is None:
            return cls(frozenset(), frozenset(), ())
        return cls(
            frozenset(values["known"].split("|")),
            frozenset(values["strange"].split("|")),
            tuple(values["languages"].split()),
        )

    def as_dict(self) -> dict[str, str]:
        """The fields as in a tokenizer's config."""
        return {
            "known": "|".join(sorted(self.known)),
            "strange": "|".join(sorted(self.strange)),
            "languages": " ".join(self.languages),
        }

    def unknown_terms(self, text: str) -> tuple[str, ...]:
        """The words of a text that are not known, each once, in its order; not those with a typo."""
        return tuple(dict.fromkeys(word for word, is_known in self._split(text) if not is_known))

    def knows_any(self, text: str) -> bool:
        """Whether a text has a known word, or none at all."""
        found = list(self._split(text))
        return not found or any(is_known for _, is_known in found)

    def has_strange(self, text: str) -> bool:
        """Whether one of `strange` is in a text, and nothing in it says that it is not wanted."""
        found = [word for word, _ in self._split(text)]
        if not _NEGATIONS.isdisjoint(found):
            return False
        phrases = (" ".join(found[at : at + size]) for size in (1, 2, 3) for at in range(len(found) - size + 1))
        return not self.strange.isdisjoint(phrases)

    def foreign_language(self, text: str) -> str | None:
        """The English name of the language of a text, if it is probably none of `languages`.

        None also for one word, and for a text whose words are all known.
        """
        found = [word for word, _ in self._split(text)]
        if self.known.issuperset(found) or (len(found) == 1 and found[0].isascii()):
            return None
        import py3langid  # unpacks its model, which takes about a second

        try:
            scores = dict(py3langid.rank(text.lower()))  # logarithms of likelihoods, of 97 languages
        except OSError:  # at its first use it unpacks its model into the temporary folder, which may be full
            return None
        likeliest = max(_OTHER_LANGUAGES, key=scores.__getitem__)
        if scores[likeliest] - max(scores[code] for code in self.languages) < _MARGIN:
            return None
        return _OTHER_LANGUAGES[likeliest]

    def _split(self, text: str) -> Iterator[tuple[str, bool]]:
        """Each word, and whether it is known; none where no known word is listed."""
        if not self.known:
            return
        text = unicodedata.normalize("NFKC", text).replace("’", "'").lower()
        for word in _WORD.findall(re.sub(rf"([{_UNSPACED}]+)", r" \1 ", text)):
            if re.match(rf"[{_UNSPACED}]", word):
                yield from self._segmented(word)
            else:
                yield word, self._knows(word)

    def _knows(self, word: str) -> bool:
        if word in self.known or all(part in self.known for part in word.split("'")):
            return True
        if len(word) < _SHORTEST_TYPO:
            return False
        swapped = (word[:at] + word[at + 1] + word[at] + word[at + 2 :] for at in range(len(word) - 1))
        return not self.known.isdisjoint(swapped) or bool(difflib.get_close_matches(word, self.known, 1, _LIKE))

    def _segmented(self, text: str) -> Iterator[tuple[str, bool]]:
        """The longest words of a text without spaces, from its start; what is between them is not known."""
        rest, longest = "", _LONGEST
        while text:
            sizes = range(min(longest, len(text)), 0, -1)
            word = next((text[:size] for size in sizes if text[:size] in self.known or text[:size] in self.strange), "")
            if word and rest:
                yield rest, False
                rest = ""
            if word:
                yield word, word in self.known
            else:
                rest += text[0]
            text = text[len(word) or 1 :]
        if rest:
            yield rest, False
