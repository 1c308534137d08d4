"""What a screenshot says, square by square: the miniature's MLLM learns to read by it."""

import unicodedata

import torch
from transformers import PreTrainedTokenizerBase

from x2i_app.miniature.conversations import Shown
from x2i_app.miniature.models import PATCH_SIZE
from x2i_app.miniature.screenshot import typeset

LETTERS = "abcdefghijklmnopqrstuvwxyzß"


def reading(shown: Shown, side: int, tokenizer: PreTrainedTokenizerBase) -> dict[str, torch.Tensor]:
    """What stands where in a screenshot of `side` pixels, as a row for each square of 2 x 2 patches, 1 where it does.

    A square is a token of the MLLM. `letters` (squares, 4 x letters): each patch has a place of its own for every
    letter, without its accent. `tokens` (squares, vocabulary): those of the text that begin there.
    """
    written = typeset(shown.text, side, shown.seed)[1]
    text, at = "", []  # with the spaces that the ends of lines have swallowed
    for index, (letter, x, y) in enumerate(written):
        if index and y != written[index - 1][2]:
            text, at = text + " ", [*at, None]
        visible = letter != " " and max(x, y) < side
        text, at = text + letter, [*at, (int(x / PATCH_SIZE), int(y / PATCH_SIZE)) if visible else None]
    across = side // (2 * PATCH_SIZE)
    letters = torch.zeros(across, across, 2, 2, len(LETTERS))
    tokens = torch.zeros(across, across, len(tokenizer))
    for letter, patch in zip(text, at, strict=True):
        plain = unicodedata.normalize("NFD", letter.lower())[0]
        if patch and plain in LETTERS:
            letters[patch[1] // 2, patch[0] // 2, patch[1] % 2, patch[0] % 2, LETTERS.index(plain)] = 1
    encoded = tokenizer(text, return_offsets_mapping=True)
    for token, (start, end) in zip(encoded["input_ids"], encoded["offset_mapping"], strict=True):
        begun = next(filter(None, at[start:end]), None)
        if begun:
            tokens[begun[1] // 2, begun[0] // 2, token] += 1
    return {"letters": letters.flatten(2).flatten(0, 1), "tokens": tokens.flatten(0, 1)}
