"""`train captions`: from a raw corpus to captions that are worth distilling from."""

import json
import random
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from x2i_app.limits import MAX_SEED, Range, validate_integer, validate_number
from x2i_app.training.checkpoints import replace_text, written_to
from x2i_app.training.data import Broken, read_captions

_WHOLE = {"min_words": Range(1, 10_000), "max_words": Range(1, 10_000), "seed": Range(0, MAX_SEED)}
_COUNT = Range(1, 1e9)


@dataclass(frozen=True, kw_only=True)
class CaptionsJob:
    """Clean, sort out, shuffle and count the captions of a corpus, for `train distill`.

    A caption stays if it has as many words as it should, is written in Latin letters, is no web address, and came only
    once, however it was spelt and spaced. What is left out is counted by reason.
    """

    config: Path | None = None
    """YAML file of the options below; flags win over it"""
    output: Path
    """folder for captions.jsonl"""
    captions: tuple[str, ...]
    """the corpus: .txt, .jsonl or .tar files, folders, patterns; commas between"""
    caption_field: str = "caption"
    """field of a caption in JSON"""
    max_broken: int = 100
    """samples that may be broken before it stops"""
    count: int | None = None
    """captions to keep, chosen at random; none: all"""
    min_words: int = 3
    """a caption has at least"""
    max_words: int = 200
    """and at most; T5 reads about 380 words in 512 tokens"""
    latin_share: float = 0.9
    """of a caption's letters that are of the English alphabet, at least"""
    seed: int = 0
    """of the order and the choice"""

    def __post_init__(self):
        for name, allowed in _WHOLE.items():
            validate_integer(name, getattr(self, name), allowed)
        validate_number("latin_share", self.latin_share, Range(0, 1))
        if self.count is not None:
            validate_integer("count", self.count, _COUNT)

    def run(self) -> Path:
        """The file of captions."""
        raw = [each.caption for each in read_captions(self.captions, self.caption_field, Broken(self.max_broken))]
        left_out: Counter[str] = Counter()
        kept: dict[str, str] = {}
        for caption in (" ".join(text.split()) for text in raw):
            reason = self._fault(caption) or ("a repetition" if caption.casefold() in kept else None)
            if reason:
                left_out[reason] += 1
            else:
                kept[caption.casefold()] = caption
        chosen = list(kept.values())
        random.Random(self.seed).shuffle(chosen)
        chosen = chosen[: self.count]
        path = self.output / "captions.jsonl"
        lines = (json.dumps({"caption": caption}, ensure_ascii=False) + "\n" for caption in chosen)
        with written_to(self.output):
            replace_text(path, "".join(lines))
        reasons = "".join(f", {number:,} {reason}" for reason, number in left_out.most_common())
        print(f"{len(raw):,} captions read{reasons}; {len(chosen):,} written")
        return path

    def _fault(self, caption: str) -> str | None:
        """Why a caption is left out, if it is."""
        words = len(caption.split())
        if not self.min_words <= words <= self.max_words:
            return "too short" if words < self.min_words else "too long"
        if re.search(r"https?://|www\.", caption):
            return "with a web address"
        letters = [letter for letter in caption if letter.isalpha()]
        latin = sum(letter.isascii() for letter in letters)
        return None if letters and latin >= self.latin_share * len(letters) else "not in English letters"
