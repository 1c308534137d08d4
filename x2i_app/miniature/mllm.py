"""Second stage of x2i-tiny: the MLLM learns to answer anything it is told, shown or played with a sentence."""

import random
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
    SHOWN,
    TOLD,
    Dialogue,
    Exchange,
    Shown,
    Source,
    draw,
    typed,
)
from x2i_app.miniature.draw import draw_scene
from x2i_app.miniature.hearing import SoundPool
from x2i_app.miniature.reading import LETTERS, reading
from x2i_app.miniature.screenshot import screenshot
from x2i_app.specs import EncodingSpec
from x2i_app.training.loop import LoopOptions, train

_PARTS = {"picture": "image", "screenshot": "image", "film": "video", "sound": "audio"}
_READ = {"letters": 0.05, "tokens": 0.3}  # weights of what is read in a screenshot's squares
_LIKENESS_WEIGHT = 0.2
_RARELY = -4.5  # log odds of a letter in a square, to begin with
_FILM_FRAMES = (4, 4, 4, 4, 4, 2, 3, 5, 6, 8)  # at one a second


@dataclass(frozen=True)
class ConversationBatches(Dataset):
    """The batches of a step as a function of it: in words alone, of screenshots, and of other kinds of conversation.

    processor, spec: of the MLLM. sounds: what it may hear. words_size, media_size: conversations in the batch of words
    alone, and in each of the others. kinds: how many other kinds.
    reading_steps: so many come first, in which the eyes learn to read: three times as many screenshots and
    nothing else. basic_steps: over so many more, other kinds go from the basic ones to all.
    """

    processor: Qwen2_5OmniProcessor
    spec: EncodingSpec
    sounds: SoundPool
    words_size: int
    media_size: int
    kinds: int = 1
    reading_steps: int = 800
    basic_steps: int = 2400
    seed: int = 0
    _heard: dict[Shown, int] = field(init=False, repr=False)
    _source: Source = field(init=False, repr=False)

    def __post_init__(self):
        heard = {recipe: index for index, recipe in enumerate(self.sounds.recipes)}
        object.__setattr__(self, "_heard", heard)
        object.__setattr__(self, "_source", Source("train", self.sounds.by_voice))

    def __getitem__(self, step: int) -> list[dict[str, torch.Tensor]]:
        """The batches: in words alone, of screenshots (with `letters` and `tokens`, see `reading`), of other kinds.

        Each has in `plain` a batch of the same last answers, asked for in the answers' own words.
        """
        rng = random.Random(f"conversations {self.seed} {step}")
        if step < self.reading_steps:
            return [self._screenshots(3 * self.media_size, rng)]
        beginner = 1 - (step - self.reading_steps) / self.basic_steps
        batches = [self._batch([draw(TOLD, rng)(self._source, rng) for _ in range(self.words_size)], rng)]
        batches.append(self._screenshots(self.media_size, rng))
        for _ in range(self.kinds):
            kind = draw(BASICS if rng.random() < beginner else SHOWN, rng)
            batches.append(self._batch([kind(self._source, rng) for _ in range(self.media_size)], rng))
        return batches

    def _screenshots(self, count, rng):
        dialogues = [typed(self._source, rng) for _ in range(count)]
        written = [reading(exchange.shown[0], self.processor.tokenizer) for (exchange,) in dialogues]
        return self._batch(dialogues, rng) | {n: torch.stack([found[n] for found in written]) for n in _READ}

    def _batch(self, dialogues: list[Dialogue], rng: random.Random) -> dict[str, torch.Tensor]:
        frames = rng.choice(_FILM_FRAMES)
        shown = [medium for dialogue in dialogues for exchange in dialogue for medium in exchange.shown]
        images = [_render(medium, self.spec.image_size, rng) for medium in shown if _PARTS[medium.kind] == "image"]
        films = [_shoot(medium, frames, self.spec, rng) for medium in shown if medium.kind == "film"]
        features = [self.sounds.features[self._heard[medium]] for medium in shown if medium.kind == "sound"]
        batch = collate(self.processor, self.spec, dialogues, images, films, features)
        plainly = [(Exchange(dialogue[-1].answer, (), dialogue[-1].answer, None),) for dialogue in dialogues]
        return batch | {"plain": collate(self.processor, self.spec, plainly, [], [], [])}


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


class Learner(nn.Module):
    """The MLLM with a layer that tells the letters in each square of a screenshot: to learn to read by, then left out.

    Answers alone do not teach a model of this size to read: they say too little about where which letter is.
    """

    def __init__(self, mllm: Qwen2_5OmniThinkerForConditionalGeneration):
        super().__init__()
        self.mllm = mllm
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
    """Train in place; the loss is the answers' cross entropy, and see `Learner` and `_answer_losses`."""
    # On a CPU the backward pass of the fused attention takes several times that of plain matrix products.
    fused = mllm.config._attn_implementation
    mllm.set_attn_implementation("eager")
    train(Learner(mllm), data, _loss, directory, options, title="MLLM")
    mllm.set_attn_implementation(fused)


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
    answers, likeness = zip(*(_answer_losses(learner.mllm, batch) for batch in (*told, typed_, *others)), strict=True)
    share = 1 / len(batches)
    return {
        "words": share * answers[0],
        "screenshots": share * answers[1],
        "other": share * sum(answers[2:]),
        **read,
        "likeness": _LIKENESS_WEIGHT * share * sum(likeness),
    }


def _answer_losses(mllm, batch):
    """The cross entropy of the answers' tokens, and how unlike the last answers' states are to those asked for plainly.

    The second teaches nothing about what to answer, but AlignNet, which only ever sees English asked in words, can use
    what it learnt there only as far as an answer's states do not depend on how one was asked.
    """
    plain, asked = batch.pop("plain"), batch.pop("answer_mask")
    said = plain.pop("answer_mask")
    outputs = mllm.model(**batch, use_cache=False, output_hidden_states=True)
    # The head is worth its time at the answers' tokens only.
    logits = mllm.lm_head(outputs.last_hidden_state[:, :-1][asked[:, 1:]])
    answer_loss = nn.functional.cross_entropy(logits.float(), batch["input_ids"][:, 1:][asked[:, 1:]])
    with torch.no_grad():
        wanted = mllm.model(**plain, use_cache=False, output_hidden_states=True).hidden_states
    from_last = asked.flip(1).cumsum(1).flip(1)
    last = asked & (from_last <= said.sum(1, keepdim=True))
    unlike = [
        (states[last].float() - like[said].float()).square().mean() / like[said].float().square().mean()
        for states, like in zip(outputs.hidden_states[1:], wanted[1:], strict=True)
    ]
    return answer_loss, sum(unlike) / len(unlike)


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
