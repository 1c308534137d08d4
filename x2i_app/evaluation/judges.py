"""What every judge of images is, and a multimodal LLM as one, which answers questions.

A judge's self-check shows it right and wrong images, drawn by the cartoon world: how well does it tell them apart?
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import exp
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from jinja2 import TemplateError
from PIL import Image
from transformers import PreTrainedTokenizerBase

from x2i_app.encoders import MLLMEncoder, encoder_class, family_of, load_encoder
from x2i_app.encoders.native import processor_directory
from x2i_app.encoders.weights import short_message
from x2i_app.errors import CheckpointError
from x2i_app.evaluation.prompts import Question
from x2i_app.loading.hub import find_directory
from x2i_app.loading.sources import MLLM_FILES
from x2i_app.presets import FAMILIES
from x2i_app.request import Turn

_MOST_PIXELS = 512 * 512  # of an image that an MLLM judges
_AT_ONCE = 8  # prompts; the states of all of them are in memory together
_ASK = "{}\nAnswer with yes or no only."
_ASK_NEGATED = "Is “no” the right answer to this question? {}\nAnswer with yes or no only."


@dataclass(frozen=True)
class Sample:
    """An image to judge. text: what it must show, None if unknown. source: the image that was edited or shown, None

    without one. changed: white where an edit may change the source.
    """

    image: Image.Image
    questions: tuple[Question, ...] = ()
    text: str | None = None
    source: Image.Image | None = None
    changed: Image.Image | None = None


@dataclass(frozen=True)
class Measured:
    """answers: for each question the probability of yes, 0 to 1; None for what the judge cannot answer.

    scores: other figures by name.
    """

    answers: tuple[float | None, ...] = ()
    scores: Mapping[str, float] = field(default_factory=dict)


class Judge(Protocol):
    """name: for tables. directory: the folder of its weights, None without any. notes: sentences for the user."""

    name: str
    directory: Path | None
    notes: Sequence[str]

    def judge(self, sample: Sample) -> Measured:
        """What it says about an image. Raises X2IError for a sample that it cannot read."""


class MLLMJudge:
    """An MLLM that answers questions about an image, by the probabilities of "yes" and "no" as its next token.

    Each question is asked a second time, negated. An MLLM that likes to say yes does so both times: the mean of the two
    log-odds, of which the second counts reversed, is free of that. encoder: of any family.
    """

    def __init__(self, encoder: MLLMEncoder, name: str, directory: Path | None = None, notes: Sequence[str] = ()):
        self.name, self.directory, self.notes = name, directory, list(notes)
        # As the family's users chat with it, not as X2I feeds it: the plain text, larger images, the prompt's states.
        encoder.spec = replace(
            encoder.spec,
            template="plain",
            states="prompt",
            padding="compact",
            image_size=None,
            max_image_pixels=_MOST_PIXELS,
            unknown_mark="",
        )
        self._encoder = encoder
        encoder.add_head()
        heads = (module for name, module in encoder.model.named_modules() if name.endswith("lm_head"))
        ids = [first_tokens(encoder.processor.tokenizer, word) for word in ("yes", "no")]
        if set(ids[0]) & set(ids[1]):
            raise CheckpointError(
                f"The tokenizer of {name} begins “yes” and “no” with one token; choose another judge."
            )
        self._ids, self._head = ids, next(heads)

    @classmethod
    def load(cls, source: str, device: torch.device, dtype: torch.dtype, models: str | None = None) -> "MLLMJudge":
        """From a folder or a hub id of any family. Raises CheckpointError."""
        directory, family = find_judge(source, models)
        encoder = load_encoder(family, directory, dtype=dtype)
        notes = []
        if not _has_chat_template(directory):
            notes.append(f"{directory.name} has no chat template of its own; that of {encoder.family} is used.")
        _check_chat_template(encoder, directory.name)
        encoder.model.to(device)
        judge = cls(encoder, directory.name, directory, notes)
        encoder.model.to(device)  # the head came later
        return judge

    def judge(self, sample: Sample) -> Measured:
        return Measured(tuple(self.ask(sample.image, [question.text for question in sample.questions])))

    @torch.no_grad()
    def ask(self, image: Image.Image, questions: Sequence[str]) -> list[float]:
        """The probability of yes for each question, calibrated."""
        asked = [form.format(question) for question in questions for form in (_ASK, _ASK_NEGATED)]
        odds: list[float] = []
        for start in range(0, len(asked), _AT_ONCE):
            turns = [[Turn(text, (image,))] for text in asked[start : start + _AT_ONCE]]
            odds += [self._log_odds(each.hidden_states[0, -1, -1]) for each in self._encoder.encode_batch(turns)]
        return [
            1 / (1 + exp(min(700.0, (negated - plain) / 2)))
            for plain, negated in zip(odds[::2], odds[1::2], strict=True)
        ]

    def _log_odds(self, state: torch.Tensor) -> float:
        """Of yes against no as the next token, from the last state (H,), which is that of the final norm."""
        logits = self._head(state[None].to(self._head.weight.dtype))[0].float()
        yes, no = (torch.logsumexp(logits[ids], dim=0) for ids in self._ids)
        return float(yes - no)


def find_judge(source: str, models: str | None = None) -> tuple[Path, str]:
    """The folder of an MLLM, and its family; no weights are read.

    Raises CheckpointError, also for a folder without a chat template if the family has none of its own.
    """
    directory = find_directory(source, None, MLLM_FILES, models).path
    family = family_of(directory)
    if family is None:
        raise CheckpointError(
            f"The judge {directory.name} has no config.json of a known MLLM; families: {', '.join(FAMILIES)}."
        )
    if not _has_chat_template(directory) and getattr(encoder_class(family), "chat_template", "") is None:
        raise CheckpointError(
            f"The judge {directory.name} has no chat template, so it cannot be asked; add chat_template.jinja."
        )
    return directory, family


def first_tokens(tokenizer: PreTrainedTokenizerBase, word: str) -> list[int]:
    """The tokens with which an answer may begin: in lower, title and upper case, with a space before it or without.

    If the tokenizer has some of these whole, only those.
    """
    forms = [word, word.capitalize(), word.upper()]
    found = [tokenizer(form, add_special_tokens=False)["input_ids"] for form in (*forms, *(f" {f}" for f in forms))]
    whole = [ids for ids in found if len(ids) == 1]
    return sorted({ids[0] for ids in whole or found[: len(forms)]})


def _has_chat_template(directory: Path) -> bool:
    folder = processor_directory(directory)
    if any((folder / name).is_file() for name in ("chat_template.jinja", "chat_template.json")):
        return True
    return any(_has_entry(folder / name) for name in ("tokenizer_config.json", "processor_config.json"))


def _has_entry(path: Path) -> bool:
    try:
        return bool(json.loads(path.read_text(encoding="utf-8")).get("chat_template"))
    except (OSError, ValueError, AttributeError):
        return False


def _check_chat_template(encoder: MLLMEncoder, name: str) -> None:
    """Raise CheckpointError if the template cannot be used, or lets the MLLM think before it answers."""
    messages = [{"role": "user", "content": [{"type": "text", "text": "?"}]}]
    try:
        prompt = encoder.processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    except (TemplateError, ValueError, TypeError, LookupError) as error:
        raise CheckpointError(
            f"The chat template of the judge {name} cannot be used ({short_message(error)})."
        ) from None
    if prompt.rstrip().endswith("<think>"):
        raise CheckpointError(f"The judge {name} thinks before it answers yes or no; choose its Instruct model.")


def self_check(judge: Judge, samples: Sequence[Sample]) -> dict[str, Any] | None:
    """How a judge tells right images from wrong ones.

    samples: right images, with what they show; the wrong image of each is the right one of the next.
    right, wrong: for a judge of questions, the share of answers that are as expected for a right and for a wrong image;
    for scores, for each name the mean of both, and `told_apart`: in what share of pairs the right image has more.
    None if the judge can say nothing about them.
    """
    answers: dict[str, list[bool]] = {"right": [], "wrong": []}
    scores: dict[str, list[tuple[float, float]]] = {}
    others = [*samples[1:], *samples[:1]]
    for sample, other in zip(samples, others, strict=True):
        pair = [judge.judge(sample), judge.judge(replace(sample, image=other.image))]
        for side, measured in zip(answers, pair, strict=True):
            for question, answer in zip(sample.questions, measured.answers, strict=False):
                if answer is not None:
                    answers[side].append((answer >= 0.5) == question.expected)
        for name in pair[0].scores:
            scores.setdefault(name, []).append((pair[0].scores[name], pair[1].scores[name]))
    found: dict[str, Any] = {side: float(np.mean(given)) for side, given in answers.items() if given}
    for name, pairs in scores.items():
        right, wrong = np.mean(pairs, axis=0)
        apart = float(np.mean([one > two for one, two in pairs]))
        found[name] = {"right": float(right), "wrong": float(wrong), "told_apart": apart}
    return found or None
