"""A loss for answers that does not teach against pairs of kind and colour that training never shows."""

import torch
from torch import nn
from transformers import PreTrainedTokenizerBase

from x2i_app.miniature.scene import COLOURS, HELD_OUT, KINDS


class UnseenPairs(nn.Module):
    """The cross entropy of answers, in which words that would make a pair of HELD_OUT are neither right nor wrong.

    A model learns that what is never shown is impossible: it takes a pink tree for something else that may be pink. So
    if an answer says which kind a pink thing is, "tree" is not among the kinds to choose from, and a second loss keeps
    it as likely as the other wrong kinds.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase):
        super().__init__()
        kinds, colours = ({word: _token(word, tokenizer) for word in group} for group in (KINDS, COLOURS))
        never = torch.full((len(tokenizer),), -1)
        group = torch.zeros(len(tokenizer), dtype=torch.long)
        for kind, colour in HELD_OUT:
            never[kinds[kind]], never[colours[colour]] = colours[colour], kinds[kind]
        group[list(kinds.values())], group[list(colours.values())] = 1, 2
        self.register_buffer("_never", never, persistent=False)  # for each token: the one never next to it
        self.register_buffer("_group", group, persistent=False)  # for each token: 1 a kind, 2 a colour, 0 others

    def beside(self, tokens: torch.Tensor) -> torch.Tensor:
        """For each of the tokens (B, S), the token that would make such a pair with its neighbour; -1 for none.

        The neighbour of a colour is the kind behind it, that of a kind is the colour before it.
        """
        nothing = torch.zeros_like(tokens[:, :1])
        before, behind = torch.cat([nothing, tokens[:, :-1]], dim=1), torch.cat([tokens[:, 1:], nothing], dim=1)
        group = self._group[tokens]
        is_kind, is_colour = (group == 1) & (self._group[before] == 2), (group == 2) & (self._group[behind] == 1)
        return torch.where(is_kind, self._never[before], torch.where(is_colour, self._never[behind], -1))

    def losses(
        self, logits: torch.Tensor, tokens: torch.Tensor, beside: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The tokens' cross entropy, and by how much words of HELD_OUT are less likely than other wrong words.

        logits: (N, vocabulary). tokens: (N,), the right ones. beside: (N,), from `beside`. The second loss is the mean
        square of the differences between logits.
        """
        rows = (beside >= 0).nonzero().flatten()
        unseen = beside[rows]
        wrong = self._group == self._group[unseen][:, None]
        wrong[torch.arange(len(rows)), unseen] = wrong[torch.arange(len(rows)), tokens[rows]] = False
        usual = (logits[rows] * wrong).sum(1) / wrong.sum(1).clamp(min=1)
        less = (usual.detach() - logits[rows, unseen]).clamp(min=0).square().sum() / max(1, len(rows))
        logits = logits.clone()
        logits[rows, unseen] = -torch.inf
        return nn.functional.cross_entropy(logits, tokens), less


def _token(word, tokenizer):
    (token,) = tokenizer(f" {word}")["input_ids"]
    return token
