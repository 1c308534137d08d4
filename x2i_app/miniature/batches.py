"""Training batches of the miniature's MLLM."""

import random
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageFilter
from torch.utils.data import Dataset
from transformers import Qwen2_5OmniProcessor

from x2i_app.encoders.qwen import frame_options
from x2i_app.miniature.audio_pool import AudioPool
from x2i_app.miniature.conversations import (
    BASICS,
    EVERYDAY_SHOWN,
    EVERYDAY_TOLD,
    MODALITIES,
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
from x2i_app.miniature.reading import reading
from x2i_app.miniature.screenshot import screenshot
from x2i_app.specs import EncodingSpec

_GROUP = 6  # steps
_VIDEO_FRAMES = (4, 4, 4, 4, 4, 2, 3, 5, 6, 8)  # at 1 frame/s


@dataclass(frozen=True)
class ConversationBatches(Dataset):
    """The batches of a step, as a function of the step: one of text, one of screenshots, and one with other media.

    processor, spec: of the MLLM. audios: the pool to take audio from. text_size, media_size: conversations in the batch
    of text and in the one with other media; the batch of screenshots has a quarter of the latter.
    reading_steps: number of first steps, in which the vision encoder learns to read: one batch of three times
    `media_size` screenshots. basic_steps: number of following steps, at least 1, over which the batch with other media
    changes from BASICS to all kinds.
    """

    processor: Qwen2_5OmniProcessor
    spec: EncodingSpec
    audios: AudioPool
    text_size: int
    media_size: int
    reading_steps: int
    basic_steps: int
    seed: int = 0
    _heard: dict[Shown, int] = field(init=False, repr=False)
    _source: Source = field(init=False, repr=False)

    def __post_init__(self):
        heard = {recipe: index for index, recipe in enumerate(self.audios.recipes)}
        object.__setattr__(self, "_heard", heard)
        object.__setattr__(self, "_source", Source("train", self.audios.by_voice))

    def __getitem__(self, step: int) -> list[dict[str, torch.Tensor]]:
        """The batches of text, of screenshots (with `letters` and `tokens`, see `reading`), and with other media.

        Each contains as `plain` a batch with the same last answers, in which the answer itself is the prompt.
        """
        rng = random.Random(f"conversations {self.seed} {step}")
        if step < self.reading_steps:
            return [self._screenshots(3 * self.media_size, rng)]
        beginner = 1 - (step - self.reading_steps) / self.basic_steps
        return [
            self._alike(TOLD, self.text_size, rng),
            self._screenshots(max(1, self.media_size // 4), rng),
            self._alike(BASICS if rng.random() < beginner else SHOWN, self.media_size, rng),
        ]

    def _alike(self, kinds, count, rng):
        """A batch of one kind of conversation, so that nothing is padded to the length of a longer kind."""
        kind = draw(kinds, rng)
        return self._batch([kind(self._source, rng) for _ in range(count)], rng)

    def _screenshots(self, count, rng):
        dialogues = [typed(self._source, rng) for _ in range(count)]
        written = [reading(exchange.shown[0], self.processor.tokenizer) for (exchange,) in dialogues]
        return self._batch(dialogues, rng) | {n: torch.stack([found[n] for found in written]) for n in written[0]}

    def _batch(self, dialogues: list[Dialogue], rng: random.Random) -> dict[str, torch.Tensor]:
        frames = rng.choice(_VIDEO_FRAMES)
        shown = [medium for dialogue in dialogues for exchange in dialogue for medium in exchange.shown]
        images = [render(medium, self.spec.image_size, rng) for medium in shown if MODALITIES[medium.kind] == "image"]
        videos = [shoot(medium, frames, self.spec, rng) for medium in shown if medium.kind == "video"]
        features = [self.audios.features[self._heard[medium]] for medium in shown if medium.kind == "audio"]
        batch = collate(self.processor, self.spec, dialogues, images, videos, features)
        plainly = [(Exchange(dialogue[-1].answer, (), dialogue[-1].answer, None),) for dialogue in dialogues]
        return batch | {"plain": collate(self.processor, self.spec, plainly, [], [], [])}


@dataclass(frozen=True)
class EverydayBatches(ConversationBatches):
    """The batches of a step in the stage of everyday wording: one of text, with conversations of similar length.

    Every `basic_steps`-th step has two more, of screenshots and with other media, as in `ConversationBatches`. They
    have `plain`, and so has the batch of text in these steps and in the ones that follow them.
    """

    def __getitem__(self, step: int) -> list[dict[str, torch.Tensor]]:
        rng = random.Random(f"everyday {self.seed} {step}")
        batches = [self._told(step)]
        if step % self.basic_steps == 0:
            batches.append(self._screenshots(max(1, self.media_size // 4), rng))
            batches.append(self._alike(EVERYDAY_SHOWN, self.media_size, rng))
        elif step % self.basic_steps != 1:
            del batches[0]["plain"]
        return batches

    def _told(self, step):
        """A part of the conversations of several steps, which are sorted by length so that little is padded."""
        group, part = divmod(step, _GROUP)
        rng = random.Random(f"everyday told {self.seed} {group}")
        dialogues = [draw(EVERYDAY_TOLD, rng)(self._source, rng) for _ in range(_GROUP * self.text_size)]
        dialogues.sort(key=lambda dialogue: sum(len(turn.text.encode()) + len(turn.answer) for turn in dialogue))
        order = rng.sample(range(_GROUP), _GROUP)  # no step is always the one with the longest
        start = order[part] * self.text_size
        return self._batch(dialogues[start : start + self.text_size], rng)


def collate(
    processor: Qwen2_5OmniProcessor,
    spec: EncodingSpec,
    dialogues: list[Dialogue],
    images: list[Image.Image],
    videos: list[np.ndarray],
    features: list[np.ndarray],
) -> dict[str, torch.Tensor]:
    """Arguments of the MLLM's forward pass, padded on the right, and `answer_mask` (B, S): True for answer tokens.

    images, videos (T, H, W, 3) at 1 frame/s, features (mel bins, frames): the media in order of appearance. The result
    equals the processor's own, but the features of audio are not computed again.
    """
    inputs, counts = {}, {"image": [], "video": [], "audio": []}
    merged = processor.image_processor.merge_size**2
    if images:
        inputs |= processor.image_processor(images=images, return_tensors="pt")
        counts["image"] = (inputs["image_grid_thw"].prod(-1) // merged).tolist()
    if videos:
        options = frame_options(processor.video_processor, spec.max_video_pixels)
        inputs |= processor.video_processor(videos=videos, return_tensors="pt", **options)
        counts["video"] = (inputs["video_grid_thw"].prod(-1) // merged).tolist()
        inputs["video_second_per_grid"] = torch.full(
            (len(videos),), float(processor.video_processor.temporal_patch_size)
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


def _messages(dialogue: tuple[Exchange, ...]) -> list[dict[str, Any]]:
    messages = []
    for exchange in dialogue:
        # The order of MLLMEncoder: images, then videos, then audios, then text.
        kinds = [MODALITIES[medium.kind] for medium in exchange.shown]
        content = [{"type": kind} for kind in sorted(kinds, key=("image", "video", "audio").index)]
        if exchange.text:
            content.append({"type": "text", "text": exchange.text})
        messages.append({"role": "user", "content": content})
        messages.append({"role": "assistant", "content": [{"type": "text", "text": exchange.answer}]})
    return messages


def _expand(texts, token, counts):
    """Repeat every placeholder as often as its medium has tokens."""
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


def render(medium: Shown, size: tuple[int, int], rng: random.Random) -> Image.Image:
    """Render a drawing or a screenshot, at its size or larger; drawings are sometimes blurred a little."""
    drawn = size[0] * rng.choice((1, 1, 1, 2))
    if medium.kind == "screenshot":
        image = screenshot(medium.text, drawn, medium.seed)
    else:
        image = draw_scene(medium.scene, drawn, medium.time, medium.seed)
    image = image.resize(size) if drawn != size[0] else image
    if medium.kind == "image" and rng.random() < 0.3:
        image = image.filter(ImageFilter.GaussianBlur(rng.uniform(0.2, 0.9)))
    return image


def shoot(medium: Shown, frames: int, spec: EncodingSpec, rng: random.Random) -> np.ndarray:
    """`frames` frames (T, H, W, 3) of a video, at 1 frame/s."""
    side = int(spec.max_video_pixels**0.5)
    drawn = side * rng.choice((1, 1, 2))
    images = [draw_scene(medium.scene, drawn, medium.time + second, medium.seed) for second in range(frames)]
    return np.stack([np.asarray(p.resize((side, side)) if drawn != side else p) for p in images])
