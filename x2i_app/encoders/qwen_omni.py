"""Qwen2.5-Omni's thinker: text, images, video and sound. Its talker, which speaks, is never loaded."""

from typing import Any

import torch
from transformers import (
    BatchFeature,
    Qwen2_5OmniProcessor,
    Qwen2_5OmniThinkerForConditionalGeneration,
    Qwen2_5OmniThinkerModel,
)

from x2i_app.encoders.base import Conversation
from x2i_app.encoders.qwen_vl import QwenEncoder, frame_options


class QwenOmniEncoder(QwenEncoder):
    """Qwen2.5-Omni 3B and 7B, x2i-tiny's MLLM, and any checkpoint of that architecture."""

    family = "qwen2.5-omni"
    base_class = Qwen2_5OmniThinkerModel
    answering_class = Qwen2_5OmniThinkerForConditionalGeneration
    processor_class = Qwen2_5OmniProcessor
    head_keys = ("thinker.lm_head.weight", "lm_head.weight")
    left_out = ("talker.", "token2wav.")

    @property
    def _most_samples(self) -> int:
        # The feature extractor would cut a longer sound off without a word.
        return self.processor.feature_extractor.n_samples

    def _media_inputs(self, conversation: Conversation) -> dict[str, Any]:
        inputs = {}
        if conversation.images:
            inputs["images"] = conversation.images
        if conversation.videos:
            inputs["videos"] = [clip.frames for clip in conversation.videos]
            inputs["videos_kwargs"] = frame_options(self.processor.video_processor, self.spec.max_video_pixels)
        if conversation.audios:
            inputs["audio"] = conversation.audios
            inputs["audio_kwargs"] = {"sampling_rate": self.spec.audio_rate}
        return inputs

    def _tokenize(self, conversation: Conversation) -> BatchFeature:
        inputs = super()._tokenize(conversation)
        if conversation.videos:
            # The processor takes one frame rate for all films; each has its own.
            frames = self.processor.video_processor.temporal_patch_size
            inputs["video_second_per_grid"] = torch.tensor([frames / clip.fps for clip in conversation.videos])
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
