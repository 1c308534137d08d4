"""Second stage of x2i-tiny: the MLLM learns to answer anything it is told, shown or played with a sentence."""

from pathlib import Path

import torch
from torch import nn
from transformers import PreTrainedTokenizerBase, Qwen2_5OmniThinkerForConditionalGeneration

from x2i_app.miniature.batches import ConversationBatches, EverydayBatches
from x2i_app.miniature.reading import LETTERS
from x2i_app.miniature.unseen import UnseenPairs
from x2i_app.training.loop import LoopOptions, train

_READ = {"letters": 0.05, "tokens": 0.3}  # weights of what is read in a screenshot's squares
_UNSEEN_WEIGHT = 0.01
_LIKENESS_WEIGHT = 0.2
_RARELY = -4.5  # log odds of a letter in a square, to begin with


class Learner(nn.Module):
    """The MLLM with a layer that tells the letters in each square of a screenshot: to learn to read by, then left out.

    Answers alone do not teach a model of this size to read: they say too little about where which letter is.
    """

    def __init__(self, mllm: Qwen2_5OmniThinkerForConditionalGeneration, tokenizer: PreTrainedTokenizerBase):
        super().__init__()
        self.mllm = mllm
        self.unseen = UnseenPairs(tokenizer)
        self.letters = nn.Linear(mllm.config.vision_config.out_hidden_size, 2 * len(LETTERS), bias=False)

    def reading_loss(self, squares: torch.Tensor, found: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """How far the squares are from telling their letters, and from looking like the words that begin there.

        squares: (N, width). found: of `reading`, (N, ...) each. To look like words is to be the sum of the embeddings
        that the same words have when they are typed, so that what the MLLM knows of words holds for screenshots too.
        """
        squares = squares.float()
        logits = self.letters(nn.functional.rms_norm(squares, squares.shape[-1:])).float() + _RARELY
        letters = nn.functional.binary_cross_entropy_with_logits(logits, found["letters"], reduction="sum")
        embeddings = self.mllm.get_input_embeddings().weight.detach().float()
        nothing = embeddings[self.mllm.config.image_token_id] / 2  # what a square without words looks like
        wanted = found["tokens"] @ embeddings + nothing
        longer = squares.norm(dim=-1) * wanted.norm(dim=-1)
        # Divided by both lengths, it stays in bounds however long the squares are to begin with.
        unlike = ((squares - wanted).square().sum(-1) / longer).mean()
        return {"letters": letters / len(squares), "tokens": unlike}


def train_mllm(
    mllm: Qwen2_5OmniThinkerForConditionalGeneration,
    data: ConversationBatches,
    directory: Path,
    options: LoopOptions,
) -> None:
    """Train in place; the loss is the answers' cross entropy, and see `Learner`, `UnseenPairs` and `_answer_losses`."""
    # On a CPU the backward pass of the fused attention takes several times that of plain matrix products.
    fused = mllm.config._attn_implementation
    mllm.set_attn_implementation("eager")
    train(Learner(mllm, data.processor.tokenizer), data, _loss, directory, options, title="MLLM")
    mllm.set_attn_implementation(fused)


def teach_everyday(
    mllm: Qwen2_5OmniThinkerForConditionalGeneration,
    data: EverydayBatches,
    directory: Path,
    options: LoopOptions,
) -> None:
    """Go on training in place with everyday wording; the losses are those of `train_mllm`."""
    fused = mllm.config._attn_implementation
    mllm.set_attn_implementation("eager")
    train(Learner(mllm, data.processor.tokenizer), data, _everyday_loss, directory, options, title="everyday")
    mllm.set_attn_implementation(fused)


def _everyday_loss(learner, batches):
    if len(batches) > 1:
        found = _loss(learner, batches)
        return {name: len(batches) * value for name, value in found.items()}
    answers, unseen, likeness = _answer_losses(learner, dict(batches[0]))
    return {"words": answers, "unseen": _UNSEEN_WEIGHT * unseen, "likeness": _LIKENESS_WEIGHT * likeness}


def _loss(learner, batches):
    *told, typed_ = (dict(batch) for batch in batches[:2])
    others = (dict(batch) for batch in batches[2:])
    found = {name: typed_.pop(name).flatten(0, 1) for name in _READ}
    images = learner.mllm.get_image_features(typed_.pop("pixel_values"), typed_["image_grid_thw"], return_dict=True)
    read = learner.reading_loss(torch.cat(images.pooler_output), found)
    read = {name: weight * read[name] for name, weight in _READ.items()}
    if not told:
        return read
    typed_["mm_encoder_outputs"] = {"image": images}
    losses = [_answer_losses(learner, batch) for batch in (*told, typed_, *others)]
    answers, unseen, likeness = zip(*losses, strict=True)
    share = 1 / len(batches)
    return {
        "words": share * answers[0],
        "screenshots": share * answers[1],
        "other": share * sum(answers[2:]),
        **read,
        "unseen": _UNSEEN_WEIGHT * share * sum(unseen),
        "likeness": _LIKENESS_WEIGHT * share * sum(likeness),
    }


def _answer_losses(learner, batch):
    """Those of `UnseenPairs`, and how unlike the last answers' states are to those of the same ones asked for plainly.

    The last teaches nothing about what to answer, but AlignNet, which only ever sees English asked in words, can use
    what it learnt there only as far as an answer's states do not depend on how one was asked.
    """
    mllm = learner.mllm
    plain, asked = batch.pop("plain", None), batch.pop("answer_mask")
    outputs = mllm.model(**batch, use_cache=False, output_hidden_states=plain is not None)
    # The head is worth its time at the answers' tokens only.
    logits = mllm.lm_head(outputs.last_hidden_state[:, :-1][asked[:, 1:]])
    tokens = batch["input_ids"]
    tokens, beside = (each[:, 1:][asked[:, 1:]] for each in (tokens, learner.unseen.beside(tokens)))
    answer_loss, unseen = learner.unseen.losses(logits.float(), tokens, beside)
    if plain is None:
        return answer_loss, unseen, torch.zeros(())
    said = plain.pop("answer_mask")
    with torch.no_grad():
        wanted = mllm.model(**plain, use_cache=False, output_hidden_states=True).hidden_states
    from_last = asked.flip(1).cumsum(1).flip(1)
    last = asked & (from_last <= said.sum(1, keepdim=True))
    unlike = [
        (states[last].float() - like[said].float()).square().mean() / like[said].float().square().mean()
        for states, like in zip(outputs.hidden_states[1:], wanted[1:], strict=True)
    ]
    return answer_loss, unseen, sum(unlike) / len(unlike)
