"""Text that spells a token which the MLLM reserves for itself, such as <|im_end|>, is read as text.

A tokenizer finds such tokens anywhere in a prompt, and processors replace those of media wherever they stand. So the
user's texts are hidden from both, as characters that nothing reserves, until the chat template's own tokens are found.
transformers' `sanitize_control_tokens` covers fewer tokens, and tokenizes a text in parts, which gives other ids.
"""

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from transformers import BatchEncoding, PreTrainedTokenizerBase, ProcessorMixin

_PLANE = 0xF0000  # private characters; the one of each UTF-16 unit has this much more
_SPACE = r"\s*"
_HIDDEN = re.compile(f"[{chr(_PLANE)}-{chr(_PLANE + 0xFFFF)}]+")


def may_be_reserved(texts: Iterable[str], tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether a text might spell a reserved token or a processor's marker; all of these markers have a bracket."""
    tokens = tokenizer.get_added_vocab()
    return any("<" in text or any(token in text for token in tokens) for text in texts)


def hide(text: str) -> str:
    """The text in private characters, one for each UTF-16 unit."""
    return "".join(chr(_PLANE + int(unit)) for unit in np.frombuffer(text.encode("utf-16-le"), "<u2"))


def reveal(text: str) -> str:
    """Text with every hidden part of it as it was."""
    return _HIDDEN.sub(lambda part: _from_units([ord(c) - _PLANE for c in part.group()]), text)


@contextmanager
def reading_hidden_text(processor: ProcessorMixin) -> Iterator[None]:
    """Inside the block, the processor reads hidden text as plain text, and its other text as usual."""
    tokenizer = processor.tokenizer
    processor.tokenizer = _HiddenTextTokenizer(tokenizer)
    try:
        yield
    finally:
        processor.tokenizer = tokenizer


class _HiddenTextTokenizer:
    """A tokenizer that finds reserved tokens outside of hidden text only. All but calling it is as before."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase):
        self._tokenizer = tokenizer
        tokens = sorted(tokenizer.added_tokens_decoder.values(), key=lambda token: -len(token.content))
        forms = (_SPACE * t.lstrip + re.escape(t.content) + _SPACE * t.rstrip for t in tokens)
        self._reserved = re.compile(f"({'|'.join(forms)})")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tokenizer, name)

    def __call__(self, text: list[str], **_: Any) -> BatchEncoding:
        """Ids of every prompt, without padding; other options have no use for a prompt of a chat template."""
        ids = [[token for part in self._split(prompt) for token in part] for prompt in text]
        return BatchEncoding({"input_ids": ids, "attention_mask": [[1] * len(row) for row in ids]})

    def _split(self, prompt: str) -> Iterator[list[int]]:
        """Ids of the reserved tokens, and of the text before, between and after them."""
        for index, part in enumerate(self._reserved.split(prompt)):
            if index % 2:
                yield [self._tokenizer.convert_tokens_to_ids(part.strip())]
            elif part:
                yield self._plain_ids(reveal(part))

    def _plain_ids(self, text: str) -> list[int]:
        """What the tokenizer makes of a text if it reserves nothing."""
        backend = self._tokenizer.backend_tokenizer
        if backend.normalizer:
            text = backend.normalizer.normalize_str(text)
        pieces = backend.pre_tokenizer.pre_tokenize_str(text)
        return [token.id for piece, _ in pieces for token in backend.model.tokenize(piece)]


def _from_units(units: list[int]) -> str:
    return np.array(units, "<u2").tobytes().decode("utf-16-le")
