"""Conversations as MiniCPM-o reads them: token ids, pictures and mel spectrograms.

Rules and names are those of the original processor with one slice an image, no image numbers and sounds in pieces of a
second, as X2I feeds it (infer/inference_minicpm.py of the public code).
"""

import math
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers import BatchFeature, ImageProcessingMixin, ProcessorMixin, Qwen2Tokenizer, WhisperFeatureExtractor

from x2i_app.encoders.minicpm_o.audio import count_tokens
from x2i_app.encoders.minicpm_o.configuration import POOL_STEP
from x2i_app.errors import MediaError

IMAGE_BRACKETS = ("<image>", "</image>")
AUDIO_BRACKETS = ("<|audio_start|>", "<|audio_end|>")
PLACEHOLDER = "<unk>"
STOP_WORDS = ("<|im_end|>", "<|endoftext|>")
NEEDED_TOKENS = (*IMAGE_BRACKETS, *AUDIO_BRACKETS, PLACEHOLDER, *STOP_WORDS)
# How a chat message says where media go. Users cannot write these: the brackets in them are reserved.
_TAGS = {"image": "(<image>./</image>)", "audio": "(<audio>./</audio>)"}
_TAG = re.compile("|".join(re.escape(tag) for tag in _TAGS.values()))
_TOKENS_A_SECOND = 25


class MiniCPMOImageProcessor(ImageProcessingMixin):
    """One picture, whole: scaled to the area of a square, in its own shape, to sides of whole patches.

    scale_resolution: side of that square in pixels. patch_size: pixels. image_feature_size: tokens an image becomes.
    norm_mean, norm_std: of each channel, of pixels in [0, 1]. Other fields of the original's file are kept.
    """

    def __init__(
        self,
        scale_resolution: int = 448,
        patch_size: int = 14,
        image_feature_size: int = 64,
        norm_mean: Sequence[float] = (0.5, 0.5, 0.5),
        norm_std: Sequence[float] = (0.5, 0.5, 0.5),
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.scale_resolution = scale_resolution
        self.patch_size = patch_size
        self.image_feature_size = image_feature_size
        self.norm_mean = list(norm_mean)
        self.norm_std = list(norm_std)

    def fit_size(self, width: int, height: int, area: int | None = None) -> tuple[int, int]:
        """(width, height) in pixels that a picture of that size is brought to; small ones grow.

        area: pixels that it is to have, about; None takes the square's.
        """
        side = math.sqrt(area or self.scale_resolution**2)
        ratio = width / height
        height = int(side / math.sqrt(ratio))
        width = int(height * ratio)
        # Python rounds halves to the even number, as the original does.
        width, height = (max(round(side / self.patch_size), 1) * self.patch_size for side in (width, height))
        return width, height

    def resize(self, image: Image.Image, area: int | None = None) -> Image.Image:
        """An RGB picture at `fit_size`. Not to be done twice: the size that fits the result may be another."""
        return image.resize(self.fit_size(*image.size, area), Image.Resampling.BICUBIC)

    def normalise(self, image: Image.Image) -> torch.Tensor:
        """(3, H, W) float32 of a picture that `resize` made."""
        pixels = np.asarray(image, dtype=np.float32) / 255
        pixels = (pixels - np.float32(self.norm_mean)) / np.float32(self.norm_std)
        return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()


class MiniCPMOProcessor(ProcessorMixin):
    """Tokenizer (Qwen2's with MiniCPM-o's special tokens and chat template), image processor and Whisper's mels."""

    def __init__(
        self,
        image_processor: MiniCPMOImageProcessor,
        feature_extractor: WhisperFeatureExtractor,
        tokenizer: Qwen2Tokenizer,
    ):
        super().__init__(image_processor, feature_extractor, tokenizer)

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, **kwargs: Any) -> "MiniCPMOProcessor":
        """From a folder with the original's preprocessor_config.json and tokenizer files, or one saved from here."""
        # transformers would ask the folder which classes these are, and the original names remote code.
        kinds = (MiniCPMOImageProcessor, WhisperFeatureExtractor, Qwen2Tokenizer)
        return cls(*(kind.from_pretrained(pretrained_model_name_or_path, **kwargs) for kind in kinds))

    def apply_chat_template(self, conversation: list[dict[str, Any]], **kwargs: Any) -> str:
        """The tokenizer's template over messages of parts: "text", "image" and "audio", each medium on its own line."""

        def spell(part):
            return part["text"] if part["type"] == "text" else f"{_TAGS[part['type']]}\n"

        spelled = [message | {"content": "".join(map(spell, message["content"]))} for message in conversation]
        return self.tokenizer.apply_chat_template(spelled, **kwargs)

    def __call__(
        self,
        text: Sequence[str],
        images: Sequence[Image.Image] = (),
        audios: Sequence[np.ndarray] = (),
        return_tensors: str = "pt",
    ) -> BatchFeature:
        """MiniCPMOModel's inputs.

        text: one conversation as `apply_chat_template` wrote it, media in its order.
        images: RGB, as `MiniCPMOImageProcessor.resize` made them. audios: (N,) float32 mono at the feature extractor's
        rate, of any length. return_tensors: torch's only.
        Raises MediaError for a sound too short to be heard, ValueError for more than one conversation.
        """
        if len(text) != 1 or return_tensors != "pt":
            raise ValueError(f"{len(text)} conversations as {return_tensors!r}; expected 1 as 'pt'.")
        image = self.image_processor.image_feature_size * PLACEHOLDER
        spans = {"image": iter([_enclose(image, IMAGE_BRACKETS)] * len(images)), "audio": map(self._spell, audios)}
        spans = {_TAGS[kind]: spelled for kind, spelled in spans.items()}
        written = _TAG.sub(lambda tag: next(spans[tag.group()]), text[0])
        input_ids = torch.tensor([self.tokenizer.encode(written, add_special_tokens=False)])
        inputs = {"input_ids": input_ids}
        if images:
            inputs["image_mask"] = self._inside(input_ids, IMAGE_BRACKETS)
            inputs["pixel_values"] = [self.image_processor.normalise(image) for image in images]
        if audios:
            inputs["audio_mask"] = self._inside(input_ids, AUDIO_BRACKETS)
            inputs |= self._hear(audios)
        return BatchFeature(inputs)

    def _spell(self, audio: np.ndarray) -> str:
        """Placeholders of a sound, one pair of brackets a second."""
        hop, rate = self.feature_extractor.hop_length, self.feature_extractor.sampling_rate
        tokens = count_tokens(math.ceil(len(audio) / hop), POOL_STEP)
        if not tokens:
            raise MediaError(
                f"The sound lasts {1000 * len(audio) / rate:.0f} ms, too short for MiniCPM-o; "
                f"send one of {math.ceil(1000 * (2 * hop + 1) / rate)} ms or more."
            )
        seconds = (min(_TOKENS_A_SECOND, tokens - done) for done in range(0, tokens, _TOKENS_A_SECOND))
        return "".join(_enclose(PLACEHOLDER * count, AUDIO_BRACKETS) for count in seconds)

    def _hear(self, audios: Sequence[np.ndarray]) -> dict[str, torch.Tensor]:
        """Mel spectrograms of pieces of up to 30 s, as long as the longest, and the length of each."""
        most = self.feature_extractor.n_samples
        heard = self.feature_extractor(
            [audio[start : start + most] for audio in audios for start in range(0, len(audio), most)],
            sampling_rate=self.feature_extractor.sampling_rate,
            padding="max_length",
            return_attention_mask=True,
            return_tensors="pt",
        )
        lengths = heard["attention_mask"].sum(dim=1)
        features = heard["input_features"][:, :, : lengths.max()]
        # The extractor's silence is not zero, the original's padding is.
        is_audio = torch.arange(features.shape[2]) < lengths[:, None]
        return {"audio_features": features * is_audio[:, None], "audio_lengths": lengths}

    def _inside(self, input_ids: torch.Tensor, brackets: tuple[str, str]) -> torch.Tensor:
        """(1, S) bool: placeholders between such brackets. Users cannot write brackets, so they always pair."""
        start, end, placeholder = self.tokenizer.convert_tokens_to_ids([*brackets, PLACEHOLDER])
        depth = (input_ids == start).cumsum(1) - (input_ids == end).cumsum(1)
        return (depth > 0) & (input_ids == placeholder)


def _enclose(text: str, brackets: tuple[str, str]) -> str:
    return f"{brackets[0]}{text}{brackets[1]}"
