"""`train captions`: make a clean list of captions for `train distill` from a raw corpus."""

import json
import random
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from x2i_app.limits import MAX_SEED, Range, clean_numbers
from x2i_app.training.caption_data import read_captions
from x2i_app.training.checkpoints import replace_text, written_to
from x2i_app.training.job import Job
from x2i_app.training.samples import Broken

_INTEGERS = {
    "min_length": Range(1, 10_000),
    "max_length": Range(1, 10_000),
    "seed": Range(0, MAX_SEED),
    "count": Range(1, 1e9),
}


@dataclass(frozen=True, kw_only=True)
class CaptionsJob(Job):
    """Clean, filter, shuffle and count the captions of a corpus, for `train distill`.

    A caption is kept if it has an allowed number of words, is written in Latin letters, has no web address, and is not
    a repetition, whatever its letter case and spaces. The others are counted by reason.
    """

    RENAMED: ClassVar[dict[str, str]] = {"min_words": "min_length", "max_words": "max_length"}

    captions: tuple[str, ...]
    """the corpus: .txt, .jsonl or .tar files, folders, patterns; separated by commas"""
    caption_field: str = "caption"
    """field of a caption in JSON"""
    max_broken: int = 100
    """broken samples that are left out before the job stops"""
    count: int | None = None
    """captions to keep, chosen at random; none: all"""
    min_length: int = 3
    """fewest words in a caption"""
    max_length: int = 200
    """most words in a caption; T5 reads about 380 words in 512 tokens"""
    latin_share: float = 0.9
    """least share of English letters among a caption's letters"""
    seed: int = 0
    """seed of the order and the choice"""

    def __post_init__(self):
        clean_numbers(self, _INTEGERS, {"latin_share": Range(0, 1)})

    def run(self) -> Path:
        """The file of captions."""
        raw = [each.caption for each in read_captions(self.captions, self.caption_field, Broken(self.max_broken))]
        left_out: Counter[str] = Counter()
        kept: dict[str, str] = {}
        for caption in (" ".join(text.split()) for text in raw):
            reason = self._reason_against(caption) or ("a repetition" if caption.casefold() in kept else None)
            if reason:
                left_out[reason] += 1
            else:
                kept[caption.casefold()] = caption
        chosen = list(kept.values())
        random.Random(self.seed).shuffle(chosen)
        chosen = chosen[: self.count]
        path = self.output / "captions.jsonl"
        records = (json.dumps({"caption": caption}, ensure_ascii=False) + "\n" for caption in chosen)
        with written_to(self.output):
            replace_text(path, "".join(records))
        reasons = "".join(f", {number:,} {reason}" for reason, number in left_out.most_common())
        print(f"{len(raw):,} captions read{reasons}; {len(chosen):,} written")
        return path

    def _reason_against(self, caption: str) -> str | None:
        """Why a caption is left out, if it is."""
        length = len(caption.split())
        if not self.min_length <= length <= self.max_length:
            return "too short" if length < self.min_length else "too long"
        if re.search(r"https?://|www\.", caption):
            return "with a web address"
        letters = [letter for letter in caption if letter.isalpha()]
        latin = sum(letter.isascii() for letter in letters)
        return None if letters and latin >= self.latin_share * len(letters) else "not in English letters"
