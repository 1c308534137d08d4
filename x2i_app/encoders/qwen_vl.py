"""Qwen2.5-VL: text, images and video."""

from typing import Any

import torch
from PIL import Image
from transformers import BatchFeature, Qwen2_5_VLForConditionalGeneration, Qwen2_5_VLModel, Qwen2_5_VLProcessor
from transformers.video_utils import VideoMetadata

from x2i_app.encoders.base import Conversation
from x2i_app.encoders.native import NativeEncoder
from x2i_app.errors import MediaError
from x2i_app.media import VideoClip

# Longer to shorter side, the most that Qwen's processors take.
_MAX_ASPECT_RATIO = 200


class QwenEncoder(NativeEncoder):
    """What Qwen2.5-VL and Omni have in common: pictures and films must not be too long and thin."""

    def _load_image(self, source: Any) -> Image.Image:
        image = super()._load_image(source)
        refuse_strips("image", *image.size)
        return image

    def _load_video(self, source: Any) -> VideoClip:
        clip = super()._load_video(source)
        height, width = clip.frames.shape[1:3]
        refuse_strips("video", width, height)
        return clip


class QwenVLEncoder(QwenEncoder):
    """Qwen2.5-VL 3B and 7B, and any checkpoint of that architecture."""

    family = "qwen2.5-vl"
    base_class = Qwen2_5_VLModel
    answering_class = Qwen2_5_VLForConditionalGeneration
    processor_class = Qwen2_5_VLProcessor

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


def refuse_strips(what: str, width: int, height: int) -> None:
    """Raise MediaError for a shape that Qwen's processors refuse. width, height: pixels, as they will be shown."""
    if max(width, height) > _MAX_ASPECT_RATIO * min(width, height):
        raise MediaError(
            f"The {what} is {width} x {height} pixels; this MLLM takes up to {_MAX_ASPECT_RATIO} : 1, so crop it."
        )


def frame_options(video_processor: Any, max_pixels: int) -> dict[str, Any]:
    """Options of Qwen's video processor for frames that `media` has already sampled and capped."""
    smallest = (video_processor.patch_size * video_processor.merge_size) ** 2
    return {
        "do_sample_frames": False,
        "cap_pixels_per_frame": False,
        "input_data_format": "channels_last",  # not to be guessed: a film may be as low as 3 px
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
