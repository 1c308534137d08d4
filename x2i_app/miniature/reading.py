"""The position of each letter in a screenshot: targets from which the miniature's MLLM learns to read."""

import unicodedata

import torch
from transformers import PreTrainedTokenizerBase

from x2i_app.miniature.conversations import Shown
from x2i_app.miniature.screenshot import COLUMNS, ROWS, typeset

LETTERS = "abcdefghijklmnopqrstuvwxyzß"


def reading(shown: Shown, tokenizer: PreTrainedTokenizerBase) -> dict[str, torch.Tensor]:
    """The text of a screenshot as one-hot targets for each square of 2 x 2 patches.

    A square is one token of the MLLM and shows two letters. `letters` (squares, 2 x letters): which letters it shows,
    without accents. `tokens` (squares, vocabulary): the tokens of the text that begin in it.
    """
    text, at = "", []  # the text, with a space for each break between rows, and the cell of each letter
    current = None
    for letter, column, row in typeset(shown.text, shown.seed):
        if row != current and text:
            text, at = text + " ", [*at, None]
        text, at, current = text + letter, [*at, (row, column) if letter != " " else None], row
    letters = torch.zeros(ROWS, COLUMNS, len(LETTERS))
    tokens = torch.zeros(ROWS, COLUMNS // 2, len(tokenizer))
    for letter, cell in zip(text, at, strict=True):
        plain = unicodedata.normalize("NFD", letter.lower())[0]
        if cell and plain in LETTERS:
            letters[*cell, LETTERS.index(plain)] = 1
    encoded = tokenizer(text, return_offsets_mapping=True)
    for token, (start, end) in zip(encoded["input_ids"], encoded["offset_mapping"], strict=True):
        begun = next(filter(None, at[start:end]), None)
        if begun:
            tokens[begun[0], begun[1] // 2, token] += 1
    return {"letters": letters.unflatten(1, (-1, 2)).flatten(2).flatten(0, 1), "tokens": tokens.flatten(0, 1)}
