"""Qwen2.5-VL: text, images and video."""

from typing import Any

import torch
from transformers import BatchFeature, Qwen2_5_VLForConditionalGeneration, Qwen2_5_VLModel
from transformers.video_utils import VideoMetadata

from x2i_app.encoders.base import Conversation
from x2i_app.encoders.native import NativeEncoder
from x2i_app.media import VideoClip


class QwenVLEncoder(NativeEncoder):
    """Qwen2.5-VL 3B and 7B, and any checkpoint of that architecture."""

    family = "qwen2.5-vl"
    base_class = Qwen2_5_VLModel
    answering_class = Qwen2_5_VLForConditionalGeneration

    def _media_inputs(self, conversation: Conversation) -> dict[str, Any]:
        inputs = {}
        if conversation.images:
            inputs["images"] = conversation.images
        if conversation.videos:
            inputs["videos"] = [clip.frames for clip in conversation.videos]
            inputs["videos_kwargs"] = frame_options(self.processor.video_processor, self.spec.max_video_pixels) | {
                "video_metadata": [metadata(clip) for clip in conversation.videos]
            }
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


def frame_options(video_processor: Any, max_pixels: int) -> dict[str, Any]:
    """Options of Qwen's video processor for frames that `media` has already sampled and capped."""
    smallest = (video_processor.patch_size * video_processor.merge_size) ** 2
    return {
        "do_sample_frames": False,
        "cap_pixels_per_frame": False,
        "size": {"shortest_edge": smallest, "longest_edge": max(smallest, max_pixels)},
    }


def metadata(clip: VideoClip) -> VideoMetadata:
    """What transformers wants to know of sampled frames: they are all of the film, at their own rate."""
    count, height, width = clip.frames.shape[:3]
    return VideoMetadata(
        total_num_frames=count,
        fps=clip.fps,
        width=width,
        height=height,
        duration=count / clip.fps,
        frames_indices=list(range(count)),
    )
