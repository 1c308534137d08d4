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
from x2i_app.miniature.audio import audio
from x2i_app.miniature.audio_pool import RATE, SECONDS, AudioPool, hear
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
from x2i_app.miniature.devices import random_recording, random_view
from x2i_app.miniature.draw import draw_scene
from x2i_app.miniature.foreign_media import foreign_audio, foreign_image
from x2i_app.miniature.reading import reading
from x2i_app.miniature.screenshot import screenshot
from x2i_app.specs import EncodingSpec

_GROUP = 6  # steps
_VIDEO_FRAMES = (4, 4, 4, 4, 4, 2, 3, 5, 6, 8)  # at 1 frame/s
_DEVICE_DURATIONS = (4.0, 4.0, 1.0, 1.0, 1.5, 2.0, 3.0, 6.0, 8.0, 12.0, 20.0, 30.0)  # seconds of videos of devices
_DEVICE_SECONDS = (2.0, 10.0)  # of audio


@dataclass(frozen=True)
class ConversationBatches(Dataset):
    """The batches of a step, as a function of the step: one of text, one of screenshots, and one with other media.

    processor, spec: of the MLLM. audios: the pool to take audio from. text_size, media_size: conversations in the batch
    of text and in the one with other media; the batch of screenshots has a quarter of the latter.
    reading_steps: number of first steps, in which the vision encoder learns to read: one batch of three times
    `media_size` screenshots. basic_steps: number of following steps, at least 1, over which the batch with other media
    changes from BASICS to all kinds. devices: share of media that are as devices deliver them (`devices.py`).
    """

    processor: Qwen2_5OmniProcessor
    spec: EncodingSpec
    audios: AudioPool
    text_size: int
    media_size: int
    reading_steps: int
    basic_steps: int
    seed: int = 0
    devices: float = 0.0
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
        frames, rate = rng.choice(_VIDEO_FRAMES), 1.0
        if rng.random() < self.devices:
            duration = rng.choice(_DEVICE_DURATIONS)
            frames = max(2, min(round(duration), self.spec.max_video_frames))  # as `load_video` samples it
            rate = min(frames / duration, 2.0)
        shown = [medium for dialogue in dialogues for exchange in dialogue for medium in exchange.shown]
        size, share = self.spec.image_size, self.devices
        images = [render(medium, size, rng, share) for medium in shown if MODALITIES[medium.kind] == "image"]
        videos = [shoot(medium, frames, self.spec, rng, share, rate) for medium in shown if medium.kind == "video"]
        features = [self._features(medium, rng) for medium in shown if MODALITIES[medium.kind] == "audio"]
        batch = collate(self.processor, self.spec, dialogues, images, videos, features, rate)
        plainly = [(Exchange(dialogue[-1].answer, (), dialogue[-1].answer, None),) for dialogue in dialogues]
        return batch | {"plain": collate(self.processor, self.spec, plainly, [], [], [])}

    def _features(self, medium, rng):
        """Those of the pool, or of new audio."""
        extractor = self.processor.feature_extractor
        if medium.kind == "foreign audio":
            return hear(extractor, foreign_audio(rng.uniform(1, 2 * SECONDS), RATE, medium.seed))
        if rng.random() >= self.devices:
            return self.audios.features[self._heard[medium]]
        samples = audio(medium.scene, rng.uniform(*_DEVICE_SECONDS), RATE, medium.seed)
        return hear(extractor, random_recording(samples, RATE, rng))


@dataclass(frozen=True)
class EverydayBatches(ConversationBatches):
    """The batches of a step in the stage of everyday wording: one of text, with conversations of similar length.

    Every `basic_steps`-th step has two more, of screenshots and with other media, as in `ConversationBatches`. They
    have `plain`, and so has the batch of text in every third step.
    """

    def __getitem__(self, step: int) -> list[dict[str, torch.Tensor]]:
        rng = random.Random(f"everyday {self.seed} {step}")
        batches = [self._told(step)]
        if step % 3:
            del batches[0]["plain"]
        if step % self.basic_steps == 0:
            batches.append(self._screenshots(max(1, self.media_size // 4), rng))
            batches.append(self._alike(EVERYDAY_SHOWN, self.media_size, rng))
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
    video_rate: float = 1.0,
) -> dict[str, torch.Tensor]:
    """Arguments of the MLLM's forward pass, padded on the right, and `answer_mask` (B, S): True for answer tokens.

    images, videos (T, H, W, 3), features (mel bins, frames): the media in order of appearance. video_rate: in frames/s.
    The result equals the processor's own, but the features of audio are not computed again.
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
        seconds = processor.video_processor.temporal_patch_size / video_rate
        inputs["video_second_per_grid"] = torch.full((len(videos),), seconds)
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


def render(medium: Shown, size: tuple[int, int], rng: random.Random, devices: float = 0.0) -> Image.Image:
    """Render what is an image to an MLLM, at its size or larger; drawings are sometimes blurred a little.

    devices: share of drawings that are as devices deliver them.
    """
    drawn = size[0] * rng.choice((1, 1, 1, 2))
    if medium.kind == "screenshot":
        image = screenshot(medium.text, drawn, medium.seed)
    elif medium.kind == "foreign image":
        image = foreign_image(size[0], medium.seed)
    else:
        image = draw_scene(medium.scene, drawn, medium.time, medium.seed)
        if rng.random() < devices:
            image = random_view(rng)(image)
        elif rng.random() < 0.3:
            image = image.filter(ImageFilter.GaussianBlur(rng.uniform(0.2, 0.9) * drawn / size[0]))
    return image if image.size == size else image.resize(size)


def shoot(
    medium: Shown, frames: int, spec: EncodingSpec, rng: random.Random, devices: float = 0.0, rate: float = 1.0
) -> np.ndarray:
    """`frames` frames (T, H, W, 3) of a video, `rate` a second. devices: as in `render`; some are slow or fast then."""
    side = int(spec.max_video_pixels**0.5)
    drawn, pace, view = side * rng.choice((1, 1, 2)), 1.0, None
    if rng.random() < devices:
        pace, view = rng.choice((1.0, rng.uniform(0.2, 3))), random_view(rng)
    moments = [medium.time + pace * index / rate for index in range(frames)]
    images = [draw_scene(medium.scene, drawn, moment, medium.seed) for moment in moments]
    images = map(view, images) if view else images
    return np.stack([np.asarray(image.resize((side, side))) for image in images])
