"""Second stage of x2i-tiny: the MLLM learns to answer anything it is told, shown or played with a sentence."""

import random
import unicodedata
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageFilter
from torch import nn
from torch.utils.data import Dataset
from transformers import Qwen2_5OmniProcessor, Qwen2_5OmniThinkerForConditionalGeneration

from x2i_app.encoders.qwen_vl import frame_options
from x2i_app.miniature.conversations import (
    BASICS,
    CONVERSATIONS,
    Dialogue,
    Exchange,
    Shown,
    Source,
    typed,
    typed_simply,
    words,
)
from x2i_app.miniature.draw import draw_scene
from x2i_app.miniature.hearing import SoundPool
from x2i_app.miniature.models import PATCH_SIZE
from x2i_app.miniature.screenshot import screenshot, typeset
from x2i_app.specs import EncodingSpec
from x2i_app.training.loop import LoopOptions, train

_PARTS = {"picture": "image", "screenshot": "image", "film": "video", "sound": "audio"}
_LETTERS = "abcdefghijklmnopqrstuvwxyzß"
_SPELLING_WEIGHT = 0.05
_RARELY = -4.5  # log odds of a letter at a place, to begin with
_FILM_FRAMES = (4, 4, 4, 4, 4, 2, 3, 5, 6, 8)  # at one a second


@dataclass(frozen=True)
class ConversationBatches(Dataset):
    """The batches of a step as a function of it: of descriptions, of screenshots, and of other kinds of conversation.

    processor, spec: of the MLLM. sounds: what it may hear. words_size, media_size: conversations in the batch of
    descriptions, and in each of the others; of screenshots come half as many more. kinds: how many other kinds.
    basic_steps: over so many steps they go from only the basic ones to all, and screenshots from few words in large
    letters halfway to all that people write.
    """

    processor: Qwen2_5OmniProcessor
    spec: EncodingSpec
    sounds: SoundPool
    words_size: int
    media_size: int
    kinds: int = 2
    basic_steps: int = 2400
    seed: int = 0
    _heard: dict[Shown, int] = field(init=False, repr=False)
    _source: Source = field(init=False, repr=False)

    def __post_init__(self):
        heard = {recipe: index for index, recipe in enumerate(self.sounds.recipes)}
        object.__setattr__(self, "_heard", heard)
        object.__setattr__(self, "_source", Source("train", self.sounds.by_voice))

    def __getitem__(self, step: int) -> list[dict[str, torch.Tensor]]:
        """The batches of descriptions, of screenshots (with `letters`, see `letter_map`), and of other kinds."""
        rng = random.Random(f"conversations {self.seed} {step}")
        beginner = 1 - step / self.basic_steps
        batches = [self._batch([words(self._source, rng) for _ in range(self.words_size)], rng)]
        # To read is the hardest to begin with, so it is never left out, and what is simple never quite disappears.
        simple = max(0.5, beginner)
        typed_kinds = rng.choices((typed_simply, typed), (simple, 1 - simple), k=3 * self.media_size // 2)
        screenshots = [kind(self._source, rng) for kind in typed_kinds]
        letters = [letter_map(exchange.shown[0], self.spec.image_size[0]) for (exchange,) in screenshots]
        batches.append(self._batch(screenshots, rng) | {"letters": torch.stack(letters)})
        for _ in range(self.kinds):
            table = BASICS if rng.random() < beginner else CONVERSATIONS
            (kind,) = rng.choices(list(table), list(table.values()))
            batches.append(self._batch([kind(self._source, rng) for _ in range(self.media_size)], rng))
        return batches

    def _batch(self, dialogues: list[Dialogue], rng: random.Random) -> dict[str, torch.Tensor]:
        frames = rng.choice(_FILM_FRAMES)
        shown = [medium for dialogue in dialogues for exchange in dialogue for medium in exchange.shown]
        images = [_render(medium, self.spec.image_size, rng) for medium in shown if _PARTS[medium.kind] == "image"]
        films = [_shoot(medium, frames, self.spec, rng) for medium in shown if medium.kind == "film"]
        features = [self.sounds.features[self._heard[medium]] for medium in shown if medium.kind == "sound"]
        return collate(self.processor, self.spec, dialogues, images, films, features)


def collate(
    processor: Qwen2_5OmniProcessor,
    spec: EncodingSpec,
    dialogues: list[Dialogue],
    images: list[Image.Image],
    films: list[np.ndarray],
    features: list[np.ndarray],
) -> dict[str, torch.Tensor]:
    """Arguments of the MLLM's forward pass, padded on the right, and `answer_mask` (B, S): True at an answer's tokens.

    images, films (T, H, W, 3) at one frame a second, features (mel bins, frames): the media in order of appearance. The
    same as the processor itself makes of a conversation, without making a sound's features again.
    """
    inputs, counts = {}, {"image": [], "video": [], "audio": []}
    merged = processor.image_processor.merge_size**2
    if images:
        inputs |= processor.image_processor(images=images, return_tensors="pt")
        counts["image"] = (inputs["image_grid_thw"].prod(-1) // merged).tolist()
    if films:
        options = frame_options(processor.video_processor, spec.max_video_pixels)
        inputs |= processor.video_processor(videos=films, return_tensors="pt", **options)
        counts["video"] = (inputs["video_grid_thw"].prod(-1) // merged).tolist()
        inputs["video_second_per_grid"] = torch.full(
            (len(films),), float(processor.video_processor.temporal_patch_size)
        )
    if features:
        length = max(feature.shape[1] for feature in features)
        padded = np.stack([np.pad(f, ((0, 0), (0, length - f.shape[1]))) for f in features])
        inputs["input_features"] = torch.from_numpy(padded.astype(np.float32))
        lengths = torch.tensor([feature.shape[1] for feature in features])
        inputs["feature_attention_mask"] = (torch.arange(length) < lengths[:, None]).long()
        counts["audio"] = [((frames - 1) // 2 - 1) // 2 + 1 for frames in lengths.tolist()]
    texts = [processor.apply_chat_template(_messages(dialogue), tokenize=False) for dialogue in dialogues]
    for kind, token in (
        ("image", processor.image_token),
        ("video", processor.video_token),
        ("audio", processor.audio_token),
    ):
        texts = _expand(texts, token, counts[kind])
    tokens = processor.tokenizer(texts, padding=True, padding_side="right", return_tensors="pt")
    answer_mask = torch.stack([_answer_mask(row, processor.tokenizer) for row in tokens["input_ids"]])
    return {
        **inputs,
        "input_ids": tokens["input_ids"],
        "attention_mask": tokens["attention_mask"],
        "answer_mask": answer_mask,
    }


def letter_map(shown: Shown, side: int) -> torch.Tensor:
    """Which letters stand where in a screenshot of `side` pixels: (tokens, 4 x letters), 1 where one does.

    A token of the MLLM is a square of 2 x 2 patches, and each patch has a place of its own for every letter.
    """
    across = side // (2 * PATCH_SIZE)
    found = torch.zeros(across, across, 2, 2, len(_LETTERS))
    for letter, x, y in typeset(shown.text, side, shown.seed)[1]:
        plain = unicodedata.normalize("NFD", letter.lower())[0]
        column, row = int(x / PATCH_SIZE), int(y / PATCH_SIZE)
        if plain in _LETTERS and max(column, row) < 2 * across:
            found[row // 2, column // 2, row % 2, column % 2, _LETTERS.index(plain)] = 1
    return found.flatten(2).flatten(0, 1)


class Learner(nn.Module):
    """The MLLM with what it learns to read by: a layer that tells the letters in each token of a screenshot.

    Answers alone do not teach a model of this size to read: they say too little about where which letter is. The layer
    is not kept.
    """

    def __init__(self, mllm: Qwen2_5OmniThinkerForConditionalGeneration):
        super().__init__()
        self.mllm = mllm
        self.spell = nn.Linear(mllm.config.vision_config.out_hidden_size, 4 * len(_LETTERS), bias=False)


def train_mllm(
    mllm: Qwen2_5OmniThinkerForConditionalGeneration,
    data: ConversationBatches,
    directory: Path,
    options: LoopOptions,
) -> None:
    """Train in place; the loss is the cross entropy of the answers' tokens, and of a screenshot's letters."""
    # On a CPU the backward pass of the fused attention takes several times that of plain matrix products.
    fused = mllm.config._attn_implementation
    mllm.set_attn_implementation("eager")
    train(Learner(mllm), data, _loss, directory, options, title="MLLM")
    mllm.set_attn_implementation(fused)


def _loss(learner, batches):
    told, typed_, *others = (dict(batch) for batch in batches)
    share = 1 / len(batches)
    letters = typed_.pop("letters")
    images = learner.mllm.get_image_features(typed_.pop("pixel_values"), typed_["image_grid_thw"], return_dict=True)
    spelt = learner.spell(torch.cat(images.pooler_output)).float() + _RARELY
    spelling = nn.functional.binary_cross_entropy_with_logits(spelt, letters.flatten(0, 1), reduction="sum") / len(
        spelt
    )
    return {
        "words": share * _answer_loss(learner.mllm, told),
        "screenshots": share * _answer_loss(learner.mllm, typed_ | {"mm_encoder_outputs": {"image": images}}),
        "letters": _SPELLING_WEIGHT * spelling,
        "other": share * sum(_answer_loss(learner.mllm, batch) for batch in others),
    }


def _answer_loss(mllm, batch):
    asked = batch.pop("answer_mask")[:, 1:]
    hidden_states = mllm.model(**batch, use_cache=False).last_hidden_state[:, :-1]
    # The head is worth its time at the answers' tokens only.
    logits = mllm.lm_head(hidden_states[asked])
    return nn.functional.cross_entropy(logits.float(), batch["input_ids"][:, 1:][asked])


def _messages(dialogue: tuple[Exchange, ...]) -> list[dict[str, Any]]:
    messages = []
    for exchange in dialogue:
        # As MLLMEncoder shows them: pictures, then films, then sounds, then words.
        kinds = [_PARTS[medium.kind] for medium in exchange.shown]
        content = [{"type": kind} for kind in sorted(kinds, key=("image", "video", "audio").index)]
        if exchange.words:
            content.append({"type": "text", "text": exchange.words})
        messages.append({"role": "user", "content": content})
        messages.append({"role": "assistant", "content": [{"type": "text", "text": exchange.answer}]})
    return messages


def _expand(texts, token, counts):
    """Every placeholder as often as its medium has tokens."""
    counts = iter(counts)
    pieces = [text.split(token) for text in texts]
    return ["".join(p + token * next(counts) for p in parts[:-1]) + parts[-1] for parts in pieces]


def _answer_mask(row, tokenizer):
    start = tokenizer("<|im_start|>assistant\n")["input_ids"]
    ids, mask, end = row.tolist(), torch.zeros(len(row), dtype=torch.bool), tokenizer.eos_token_id
    for index in range(len(ids) - len(start)):
        if ids[index : index + len(start)] == start:
            first = index + len(start)
            mask[first : ids.index(end, first) + 1] = True
    return mask


def _render(medium, size, rng):
    """A picture as it arrives: drawn at its size or larger, at times a little soft, as what the model draws is."""
    drawn = size[0] * rng.choice((1, 1, 1, 2))
    if medium.kind == "screenshot":
        image = screenshot(medium.text, drawn, medium.seed)
    else:
        image = draw_scene(medium.scene, drawn, medium.time, medium.seed)
    image = image.resize(size) if drawn != size[0] else image
    if medium.kind == "picture" and rng.random() < 0.3:
        image = image.filter(ImageFilter.GaussianBlur(rng.uniform(0.2, 0.9)))
    return image


def _shoot(medium, frames, spec, rng):
    side = int(spec.max_video_pixels**0.5)
    drawn = side * rng.choice((1, 1, 2))
    pictures = [draw_scene(medium.scene, drawn, medium.time + second, medium.seed) for second in range(frames)]
    return np.stack([np.asarray(p.resize((side, side)) if drawn != side else p) for p in pictures])
