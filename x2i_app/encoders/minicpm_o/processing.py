"""MiniCPM-o's inputs: token ids, pixel values and mel spectrograms.

Follows the original processor with one slice per image, no image numbers, and audio in chunks of one second, as X2I
does (infer/inference_minicpm.py of the public code).
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
STOP_TOKENS = ("<|im_end|>", "<|endoftext|>")
REQUIRED_TOKENS = (*IMAGE_BRACKETS, *AUDIO_BRACKETS, PLACEHOLDER, *STOP_TOKENS)
# Markers for media in chat messages. The user's own are hidden from the processor (encoders/reserved.py).
_TAGS = {"image": "(<image>./</image>)", "audio": "(<audio>./</audio>)"}
_TAG = re.compile("|".join(re.escape(tag) for tag in _TAGS.values()))
_TOKENS_PER_SECOND = 25


class MiniCPMOImageProcessor(ImageProcessingMixin):
    """Scales a whole image to about the area of a square, with its aspect ratio and sides of whole patches.

    scale_resolution: side of that square in pixels. patch_size: pixels. image_feature_size: tokens per image.
    norm_mean, norm_std: per channel, for pixels in [0, 1]. Other fields of the original file are kept.
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
        """(width, height) in pixels to which an image is scaled; small images are enlarged.

        area: approximate target area in pixels; None uses the area of the square.
        """
        side = math.sqrt(area or self.scale_resolution**2)
        ratio = width / height
        height = int(side / math.sqrt(ratio))
        width = int(height * ratio)
        # Python's round() rounds halves to even, as the original does.
        width, height = (max(round(side / self.patch_size), 1) * self.patch_size for side in (width, height))
        return width, height

    def resize(self, image: Image.Image, area: int | None = None) -> Image.Image:
        """Scale an RGB image to `fit_size`. Not idempotent: `fit_size` of the result may differ from its size."""
        return image.resize(self.fit_size(*image.size, area), Image.Resampling.BICUBIC)

    def normalize(self, image: Image.Image) -> torch.Tensor:
        """(3, H, W) float32 from an image returned by `resize`."""
        pixels = np.asarray(image, dtype=np.float32) / 255
        pixels = (pixels - np.float32(self.norm_mean)) / np.float32(self.norm_std)
        return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()


class MiniCPMOProcessor(ProcessorMixin):
    """Qwen2's tokenizer with MiniCPM-o's special tokens, the image processor, and Whisper's feature extractor."""

    def __init__(
        self,
        image_processor: MiniCPMOImageProcessor,
        feature_extractor: WhisperFeatureExtractor,
        tokenizer: Qwen2Tokenizer,
    ):
        super().__init__(image_processor, feature_extractor, tokenizer)

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, **kwargs: Any) -> "MiniCPMOProcessor":
        """Load from a folder with the original preprocessor_config.json and tokenizer files, or one saved by us."""
        # Otherwise transformers would take the class names from the folder, and the original names remote code.
        kinds = (MiniCPMOImageProcessor, WhisperFeatureExtractor, Qwen2Tokenizer)
        return cls(*(kind.from_pretrained(pretrained_model_name_or_path, **kwargs) for kind in kinds))

    def apply_chat_template(self, conversation: list[dict[str, Any]], **kwargs: Any) -> str:
        """Apply the tokenizer's template to messages of "text", "image" and "audio" parts; media on their own lines."""

        def render(part):
            return part["text"] if part["type"] == "text" else f"{_TAGS[part['type']]}\n"

        rendered = [message | {"content": "".join(map(render, message["content"]))} for message in conversation]
        return self.tokenizer.apply_chat_template(rendered, **kwargs)

    def __call__(
        self,
        text: Sequence[str],
        images: Sequence[Image.Image] = (),
        audios: Sequence[np.ndarray] = (),
        return_tensors: str = "pt",
    ) -> BatchFeature:
        """Inputs of MiniCPMOModel.

        text: one conversation from `apply_chat_template`. images, audios: in order of appearance; images are RGB from
        `MiniCPMOImageProcessor.resize`, audios (N,) float32, mono, at the feature extractor's sampling rate, any
        length. return_tensors: only "pt".
        Raises MediaError for audio that is too short, ValueError for more than one conversation.
        """
        if len(text) != 1 or return_tensors != "pt":
            raise ValueError(f"{len(text)} conversations as {return_tensors!r}; expected 1 as 'pt'.")
        image = _enclose(self.image_processor.image_feature_size * PLACEHOLDER, IMAGE_BRACKETS)
        placeholders = {
            _TAGS["image"]: iter([image] * len(images)),
            _TAGS["audio"]: map(self._audio_placeholders, audios),
        }
        expanded = _TAG.sub(lambda tag: next(placeholders[tag.group()]), text[0])
        input_ids = torch.tensor(self.tokenizer([expanded], add_special_tokens=False)["input_ids"])
        inputs = {"input_ids": input_ids}
        if images:
            inputs["image_mask"] = self._inside(input_ids, IMAGE_BRACKETS)
            inputs["pixel_values"] = [self.image_processor.normalize(image) for image in images]
        if audios:
            inputs["audio_mask"] = self._inside(input_ids, AUDIO_BRACKETS)
            inputs |= self._audio_features(audios)
        return BatchFeature(inputs)

    def _audio_placeholders(self, audio: np.ndarray) -> str:
        """Placeholders of a clip, with one pair of brackets per second."""
        hop, rate = self.feature_extractor.hop_length, self.feature_extractor.sampling_rate
        tokens = count_tokens(math.ceil(len(audio) / hop), POOL_STEP)
        if not tokens:
            raise MediaError(
                f"The audio lasts {1000 * len(audio) / rate:.0f} ms, which is too short for MiniCPM-o; "
                f"use one of at least {math.ceil(1000 * (2 * hop + 1) / rate)} ms."
            )
        seconds = (min(_TOKENS_PER_SECOND, tokens - start) for start in range(0, tokens, _TOKENS_PER_SECOND))
        return "".join(_enclose(PLACEHOLDER * count, AUDIO_BRACKETS) for count in seconds)

    def _audio_features(self, audios: Sequence[np.ndarray]) -> dict[str, torch.Tensor]:
        """Mel spectrograms of parts of up to 30 s, padded to the longest, and the length of each in frames."""
        size = self.feature_extractor.n_samples
        extracted = self.feature_extractor(
            [audio[start : start + size] for audio in audios for start in range(0, len(audio), size)],
            sampling_rate=self.feature_extractor.sampling_rate,
            padding="max_length",
            return_attention_mask=True,
            return_tensors="pt",
        )
        lengths = extracted["attention_mask"].sum(dim=1)
        features = extracted["input_features"][:, :, : lengths.max()]
        # The feature extractor pads with silence, whose features are not zero; the original pads with zeros.
        is_audio = torch.arange(features.shape[2]) < lengths[:, None]
        return {"audio_features": features * is_audio[:, None], "audio_lengths": lengths}

    def _inside(self, input_ids: torch.Tensor, brackets: tuple[str, str]) -> torch.Tensor:
        """(1, S) bool: placeholders inside these brackets. Users cannot write brackets, so they are always paired."""
        start, end, placeholder = self.tokenizer.convert_tokens_to_ids([*brackets, PLACEHOLDER])
        depth = (input_ids == start).cumsum(1) - (input_ids == end).cumsum(1)
        return (depth > 0) & (input_ids == placeholder)


def _enclose(text: str, brackets: tuple[str, str]) -> str:
    return f"{brackets[0]}{text}{brackets[1]}"
