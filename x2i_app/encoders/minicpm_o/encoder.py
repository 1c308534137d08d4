"""MiniCPM-o 2.6 as an encoder: text, images, videos as sequences of images, and audio."""

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers import BatchFeature

from x2i_app.encoders.base import Conversation, HiddenStates
from x2i_app.encoders.minicpm_o.checkpoint import load_model, load_processor, read_config
from x2i_app.encoders.minicpm_o.modeling import MiniCPMOModel
from x2i_app.encoders.minicpm_o.processing import STOP_TOKENS, MiniCPMOProcessor
from x2i_app.encoders.native import NativeEncoder
from x2i_app.media import VideoClip, load_image, load_video
from x2i_app.specs import Padding


class MiniCPMOEncoder(NativeEncoder):
    """openbmb/MiniCPM-o-2_6 in its own on-disk format, and any checkpoint of that architecture.

    The reference does not pad this family, so `padding="padded"` and `"compact"` are the same.
    """

    family = "minicpm-o"
    max_group_size = 1  # MiniCPMOModel processes one conversation at a time
    base_class = MiniCPMOModel
    processor_class = MiniCPMOProcessor
    model: MiniCPMOModel
    processor: MiniCPMOProcessor

    _read_config = staticmethod(read_config)
    _load_processor = staticmethod(load_processor)
    _load_model = staticmethod(load_model)

    @property
    def base(self) -> MiniCPMOModel:
        return self.model

    def add_head(self) -> None:
        self.model.add_head()

    def _load_image(self, source: Any) -> Image.Image:
        image = load_image(source)
        if self.spec.image_size:
            image = image.resize(self.spec.image_size)
        return self.processor.image_processor.resize(image, self.spec.max_image_pixels)

    def _load_video(self, source: Any) -> VideoClip:
        spec, resize = self.spec, self.processor.image_processor.resize
        # Frames are loaded at full size and scaled only here, as images are, so that sizes are rounded once.
        clip = load_video(source, fps=spec.video_fps, max_frames=spec.max_video_frames)
        frames = [np.asarray(resize(Image.fromarray(frame), spec.max_video_pixels)) for frame in clip.frames]
        return replace(clip, frames=np.stack(frames))

    def _tokenize(self, conversation: Conversation) -> BatchFeature:
        return super()._tokenize(_frames_as_images(conversation))

    def _media_inputs(self, conversation: Conversation) -> dict[str, Any]:
        return {"images": conversation.images, "audios": conversation.audios}

    def _position_ids(self, inputs: BatchFeature) -> torch.Tensor:
        """(1, S): consecutive positions."""
        return torch.arange(inputs["input_ids"].shape[1], device=inputs["input_ids"].device)[None]

    def _prefill_group(self, inputs: BatchFeature, padding: Padding) -> list[HiddenStates]:
        return super()._prefill_group(inputs, "compact")

    def _answer_group(self, inputs: BatchFeature) -> list[HiddenStates]:
        tokenizer = self.processor.tokenizer
        stops = set(tokenizer.convert_tokens_to_ids(list(STOP_TOKENS)))
        output = self.model(**inputs, use_cache=True, output_logits=True)
        prompt = torch.stack(output.hidden_states, dim=1)
        answer_ids, states = [], []
        # Greedy, as in the reference. The last token is never processed, so it has no states.
        while True:
            answer_ids.append(output.logits[0, -1].argmax().item())
            if answer_ids[-1] in stops or len(answer_ids) == self.spec.max_new_tokens:
                break
            output = self.model(
                torch.tensor([answer_ids[-1:]], device=prompt.device),
                past_key_values=output.past_key_values,
                use_cache=True,
                output_logits=True,
            )
            states.append(torch.stack(output.hidden_states, dim=1))
        answer = torch.cat(states, dim=2) if states else prompt[:, :, :0]
        return [self._pair_states(prompt, answer, answer_ids)]


def _frames_as_images(conversation: Conversation) -> Conversation:
    """The conversation with every video frame as an image."""
    images, videos = iter(conversation.images), iter(conversation.videos)
    messages, all_images = [], []
    for message in conversation.messages:
        content = []
        for part in message["content"]:
            part_images = []
            if part["type"] == "image":
                part_images = [next(images)]
            elif part["type"] == "video":
                part_images = [Image.fromarray(frame) for frame in next(videos).frames]
            content += [{"type": "image"}] * len(part_images) or [part]
            all_images += part_images
        messages.append(message | {"content": content})
    return replace(conversation, messages=messages, images=all_images, videos=[])
