"""Qwen2.5-VL (text, images, video) and the thinker of Qwen2.5-Omni (text, images, video, audio).

The talker of Qwen2.5-Omni, which generates speech, is never loaded.
"""

from typing import Any

import torch
from PIL import Image
from transformers import (
    BatchFeature,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLModel,
    Qwen2_5_VLProcessor,
    Qwen2_5OmniProcessor,
    Qwen2_5OmniThinkerForConditionalGeneration,
    Qwen2_5OmniThinkerModel,
)
from transformers.video_utils import VideoMetadata

from x2i_app.encoders.base import Conversation
from x2i_app.encoders.native import NativeEncoder
from x2i_app.errors import MediaError
from x2i_app.media import VideoClip

_MAX_ASPECT_RATIO = 200  # longer side / shorter side; Qwen's processors refuse more


# ChatML with Qwen's default system prompt, as the released models have it; the tokens of media differ.
CHAT_TEMPLATE = """{%- for message in messages -%}
{%- if loop.first and message.role != 'system' -%}<|im_start|>system
You are a helpful assistant.<|im_end|>
{% endif -%}
<|im_start|>{{ message.role }}
{% if message.content is string -%}{{ message.content }}{%- else -%}
{%- for part in message.content -%}
{%- if part.type == 'image' -%}IMAGE
{%- elif part.type == 'video' -%}VIDEO
{%- elif part.type == 'audio' -%}<|audio_bos|><|AUDIO|><|audio_eos|>
{%- else -%}{{ part.text }}{%- endif -%}
{%- endfor -%}
{%- endif -%}<|im_end|>
{% endfor -%}
{%- if add_generation_prompt -%}<|im_start|>assistant
{% endif -%}"""


class QwenEncoder(NativeEncoder):
    """What Qwen2.5-VL and Qwen2.5-Omni share: the limit on aspect ratios, and how images and videos are passed."""

    def _load_image(self, source: Any) -> Image.Image:
        image = super()._load_image(source)
        check_aspect_ratio("image", *image.size)
        return image

    def _load_video(self, source: Any) -> VideoClip:
        clip = super()._load_video(source)
        height, width = clip.frames.shape[1:3]
        check_aspect_ratio("video", width, height)
        return clip

    def _media_inputs(self, conversation: Conversation) -> dict[str, Any]:
        inputs = {}
        if conversation.images:
            inputs["images"] = conversation.images
        if conversation.videos:
            inputs["videos"] = [clip.frames for clip in conversation.videos]
            inputs["videos_kwargs"] = frame_options(self.processor.video_processor, self.spec.max_video_pixels)
        return inputs


class QwenVLEncoder(QwenEncoder):
    """Qwen2.5-VL 3B and 7B, and any checkpoint of that architecture."""

    family = "qwen2.5-vl"
    base_class = Qwen2_5_VLModel
    answering_class = Qwen2_5_VLForConditionalGeneration
    processor_class = Qwen2_5_VLProcessor
    key_mapping = {r"^model\.visual\.": "visual."}  # noqa: RUF012 (a constant)
    chat_template = CHAT_TEMPLATE.replace("IMAGE", "<|vision_start|><|image_pad|><|vision_end|>").replace(
        "VIDEO", "<|vision_start|><|video_pad|><|vision_end|>"
    )

    def _media_inputs(self, conversation: Conversation) -> dict[str, Any]:
        inputs = super()._media_inputs(conversation)
        if conversation.videos:
            inputs["videos_kwargs"]["video_metadata"] = [video_metadata(clip) for clip in conversation.videos]
        return inputs

    def _position_ids(self, inputs: BatchFeature) -> torch.Tensor:
        position_ids, _ = self.base.get_rope_index(
            inputs["input_ids"],
            mm_token_type_ids=inputs["mm_token_type_ids"],
            image_grid_thw=inputs.get("image_grid_thw"),
            video_grid_thw=inputs.get("video_grid_thw"),
            second_per_grid_ts=inputs.get("second_per_grid_ts"),
            attention_mask=inputs["attention_mask"],
        )
        return position_ids


class QwenOmniEncoder(QwenEncoder):
    """Qwen2.5-Omni 3B and 7B, the MLLM of x2i-tiny, and any checkpoint of that architecture."""

    family = "qwen2.5-omni"
    base_class = Qwen2_5OmniThinkerModel
    answering_class = Qwen2_5OmniThinkerForConditionalGeneration
    processor_class = Qwen2_5OmniProcessor
    head_keys = ("thinker.lm_head.weight", "lm_head.weight")
    left_out = ("talker.", "token2wav.")
    chat_template = CHAT_TEMPLATE.replace("IMAGE", "<|vision_bos|><|IMAGE|><|vision_eos|>").replace(
        "VIDEO", "<|vision_bos|><|VIDEO|><|vision_eos|>"
    )

    @property
    def _max_samples(self) -> int:
        # The feature extractor would cut longer audio off without any warning.
        return self.processor.feature_extractor.n_samples

    def _media_inputs(self, conversation: Conversation) -> dict[str, Any]:
        inputs = super()._media_inputs(conversation)
        if conversation.audios:
            inputs["audio"] = conversation.audios
            inputs["audio_kwargs"] = {"sampling_rate": self.spec.audio_rate}
        return inputs

    def _tokenize(self, conversation: Conversation) -> BatchFeature:
        inputs = super()._tokenize(conversation)
        if conversation.videos:
            # The processor accepts one frame rate for all videos; here each video has its own.
            frames = self.processor.video_processor.temporal_patch_size
            seconds = [frames / clip.fps for clip in conversation.videos]
            inputs["video_second_per_grid"] = torch.tensor(seconds, dtype=torch.float32)
        return inputs

    def _position_ids(self, inputs: BatchFeature) -> torch.Tensor:
        lengths = inputs["feature_attention_mask"].sum(-1) if "feature_attention_mask" in inputs else None
        position_ids, _ = self.base.get_rope_index(
            inputs["input_ids"],
            image_grid_thw=inputs.get("image_grid_thw"),
            video_grid_thw=inputs.get("video_grid_thw"),
            attention_mask=inputs["attention_mask"],
            audio_seqlens=lengths,
            second_per_grids=inputs.get("video_second_per_grid"),
        )
        return position_ids


def check_aspect_ratio(what: str, width: int, height: int) -> None:
    """Raise MediaError for an aspect ratio that Qwen's processors refuse.

    what: "image" or "video", for the message. width, height: size in pixels after scaling for the MLLM.
    """
    if max(width, height) > _MAX_ASPECT_RATIO * min(width, height):
        raise MediaError(
            f"The {what} is {width} x {height} pixels; this MLLM accepts aspect ratios up to {_MAX_ASPECT_RATIO} : 1, "
            "so crop it."
        )


def frame_options(video_processor: Any, max_pixels: int) -> dict[str, Any]:
    """Options of Qwen's video processor for frames that `media` has already sampled and scaled down.

    max_pixels: largest area of a frame in pixels.
    """
    smallest = (video_processor.patch_size * video_processor.merge_size) ** 2
    return {
        "do_sample_frames": False,
        "cap_pixels_per_frame": False,
        "input_data_format": "channels_last",  # never inferred from the shape: a frame may be only 3 pixels high
        "size": {"shortest_edge": smallest, "longest_edge": max(smallest, max_pixels)},
    }


def video_metadata(clip: VideoClip) -> VideoMetadata:
    """What transformers needs to know about sampled frames: they are the whole video, at their own frame rate."""
    count, height, width = clip.frames.shape[:3]
    return VideoMetadata(
        total_num_frames=count,
        fps=clip.fps,
        width=width,
        height=height,
        duration=count / clip.fps,
        frames_indices=list(range(count)),
    )
