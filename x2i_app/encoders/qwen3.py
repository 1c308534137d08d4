"""Qwen3-VL (text, images, video) and the thinker of Qwen3-Omni (text, images, video, audio).

No AlignNet is released for either: `train distill` makes one. The talker of Qwen3-Omni is never loaded.
"""

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from transformers import (
    BatchFeature,
    Qwen3OmniMoeProcessor,
    Qwen3OmniMoeThinkerForConditionalGeneration,
    Qwen3OmniMoeThinkerModel,
    Qwen3VLForConditionalGeneration,
    Qwen3VLModel,
    Qwen3VLProcessor,
)

from x2i_app.encoders.base import Conversation
from x2i_app.encoders.qwen import CHAT_TEMPLATE, QwenEncoder, QwenOmniEncoder, video_metadata
from x2i_app.media import VideoClip

# Qwen3 has no default system prompt.
_CHAT_TEMPLATE = CHAT_TEMPLATE.partition("<|im_start|>system")[0] + CHAT_TEMPLATE.partition("<|im_end|>\n")[2]


class Qwen3VLEncoder(QwenEncoder):
    """Qwen3-VL 2B, 4B, 8B and 32B, and any checkpoint of that architecture; not the mixtures of experts."""

    family = "qwen3-vl"
    base_class = Qwen3VLModel
    answering_class = Qwen3VLForConditionalGeneration
    processor_class = Qwen3VLProcessor
    chat_template = _CHAT_TEMPLATE.replace("IMAGE", "<|vision_start|><|image_pad|><|vision_end|>").replace(
        "VIDEO", "<|vision_start|><|video_pad|><|vision_end|>"
    )

    def _load_video(self, source: Any) -> VideoClip:
        clip = super()._load_video(source)
        if len(clip.frames) > 1:
            return clip
        return replace(clip, frames=np.repeat(clip.frames, 2, axis=0))  # the processor takes two frames or more

    def _media_inputs(self, conversation: Conversation) -> dict[str, Any]:
        inputs = super()._media_inputs(conversation)
        if conversation.videos:
            options = inputs["videos_kwargs"]
            options["video_metadata"] = [video_metadata(clip) for clip in conversation.videos]
            # Here the largest size is that of all frames of a video together; each one has its own limit already.
            most = max(len(clip.frames) for clip in conversation.videos) + 1
            options["size"] = options["size"] | {"longest_edge": most * options["size"]["longest_edge"]}
        return inputs

    def _position_ids(self, inputs: BatchFeature) -> torch.Tensor:
        position_ids, _ = self.base.get_rope_index(
            inputs["input_ids"],
            mm_token_type_ids=inputs["mm_token_type_ids"],
            image_grid_thw=inputs.get("image_grid_thw"),
            video_grid_thw=inputs.get("video_grid_thw"),
            attention_mask=inputs["attention_mask"],
        )
        return position_ids


class Qwen3OmniEncoder(QwenOmniEncoder):
    """The thinker of Qwen3-Omni 30B-A3B, and any checkpoint of that architecture."""

    family = "qwen3-omni"
    base_class = Qwen3OmniMoeThinkerModel
    answering_class = Qwen3OmniMoeThinkerForConditionalGeneration
    processor_class = Qwen3OmniMoeProcessor
    left_out = ("talker.", "code2wav.")
    chat_template = (
        _CHAT_TEMPLATE.replace("IMAGE", "<|vision_start|><|image_pad|><|vision_end|>")
        .replace("VIDEO", "<|vision_start|><|video_pad|><|vision_end|>")
        .replace("<|audio_bos|><|AUDIO|><|audio_eos|>", "<|audio_start|><|audio_pad|><|audio_end|>")
    )
