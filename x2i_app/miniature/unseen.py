"""Answers teach nothing against the pairs of kind and colour that training never shows."""

import torch
from torch import nn
from transformers import PreTrainedTokenizerBase

from x2i_app.miniature.scene import COLOURS, HELD_OUT, KINDS


class UnseenPairs(nn.Module):
    """What answers teach of words that would make a pair of HELD_OUT: that they are neither right nor wrong.

    What is never shown a model takes for impossible. Where it then comes, a pink tree, say, it is seen as something
    that may be pink. So where training says which kind a pink thing is, "tree" is not among the kinds to choose from,
    and is held to be no less likely than the other wrong ones are.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase):
        super().__init__()
        kinds, colours = ({word: _token(word, tokenizer) for word in words} for words in (KINDS, COLOURS))
        never = torch.full((len(tokenizer),), -1)
        group = torch.zeros(len(tokenizer), dtype=torch.long)
        for kind, colour in HELD_OUT:
            never[kinds[kind]], never[colours[colour]] = colours[colour], kinds[kind]
        group[list(kinds.values())], group[list(colours.values())] = 1, 2
        self.register_buffer("_never", never, persistent=False)  # by a token: that which never stands beside it
        self.register_buffer("_group", group, persistent=False)  # of a token: 1 kinds, 2 colours, 0 all others

    def beside(self, tokens: torch.Tensor) -> torch.Tensor:
        """For each of the tokens (B, S) that which, there, would make such a pair with its neighbour; -1 for none.

        A colour's neighbour is the kind behind it, and a kind's the colour before it.
        """
        nothing = torch.zeros_like(tokens[:, :1])
        before, behind = torch.cat([nothing, tokens[:, :-1]], dim=1), torch.cat([tokens[:, 1:], nothing], dim=1)
        group = self._group[tokens]
        is_kind, is_colour = (group == 1) & (self._group[before] == 2), (group == 2) & (self._group[behind] == 1)
        return torch.where(is_kind, self._never[before], torch.where(is_colour, self._never[behind], -1))

    def losses(
        self, logits: torch.Tensor, tokens: torch.Tensor, beside: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The tokens' cross entropy, and how much less likely the unseen are than the other wrong words of their group.

        logits: (N, vocabulary). tokens: (N,), the right ones. beside: (N,), of `beside`. The second is a mean square of
        differences of logits.
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
