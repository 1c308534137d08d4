"""InternVL 2.5: text, images, and videos as sequences of frames."""

from pathlib import Path
from typing import Any

import torch
from PIL import Image
from transformers import (
    BatchFeature,
    InternVLConfig,
    InternVLForConditionalGeneration,
    InternVLModel,
    InternVLProcessor,
)

from x2i_app.encoders.base import Conversation, HiddenStates
from x2i_app.encoders.internvl_checkpoint import HEAD_KEY, check_model, load_model, load_processor, read_config
from x2i_app.encoders.native import NativeEncoder
from x2i_app.specs import Padding

# The system prompt of the template `internvl2_5` in the public release.
SYSTEM_PROMPT = (
    "你是书生·万象，英文名是InternVL，是由上海人工智能实验室、清华大学及多家合作单位联合开发的多模态大语言模型。"
)

# ChatML with that system prompt. Each image is on its own line, after a label if there are several.
CHAT_TEMPLATE = (
    "<|im_start|>system\n"
    + SYSTEM_PROMPT
    + """<|im_end|>
{% for message in messages -%}
<|im_start|>{{ message.role }}
{% for part in message.content -%}
{%- if part.type == 'image' -%}{{ part.label }}<IMG_CONTEXT>
{% else -%}{{ part.text }}{%- endif -%}
{%- endfor -%}<|im_end|>
{% endfor -%}
{%- if add_generation_prompt -%}<|im_start|>assistant
{% endif -%}"""
)


class InternVLEncoder(NativeEncoder):
    """InternVL 2.5 1B and 4B in OpenGVLab's own on-disk format, and any checkpoint of that architecture.

    As in X2I, every image and every frame is one tile (448 x 448 pixels, 256 tokens); large images are not split.
    """

    family = "internvl2.5"
    base_class = InternVLModel
    answering_class = InternVLForConditionalGeneration
    processor_class = InternVLProcessor
    chat_template = CHAT_TEMPLATE
    # OpenGVLab's key, and the key in a saved pipeline.
    head_keys = (HEAD_KEY, "lm_head.weight")
    # Answers end with the end of a turn, whatever the file, which comes from the underlying Qwen2, says.
    generation_fields = tuple(name for name in NativeEncoder.generation_fields if not name.endswith("_token_id"))

    _read_config = staticmethod(read_config)
    _load_model = staticmethod(load_model)

    @classmethod
    def check_weights(cls, directory: Path) -> None:
        check_model(directory, cls._read_config(directory))

    @classmethod
    def _load_processor(cls, directory: Path, config: InternVLConfig) -> InternVLProcessor:
        return load_processor(directory, config, CHAT_TEMPLATE)

    def _tokenize(self, conversation: Conversation) -> BatchFeature:
        return super()._tokenize(self._as_tiles(conversation))

    def _as_tiles(self, conversation: Conversation) -> Conversation:
        """The conversation with every image and every video frame as a labeled tile.

        The labels are InternVL's own: "Image-1: " counts the images of the whole conversation if there are several,
        "Frame1: " counts the frames of a video.
        """
        images, videos = iter(conversation.images), iter(conversation.videos)
        tiled = Conversation()
        count = 0
        for message in conversation.messages:
            content = []
            for part in message["content"]:
                if part["type"] == "image":
                    count += 1
                    labeled = {f"Image-{count}: " if len(conversation.images) > 1 else "": next(images)}
                elif part["type"] == "video":
                    labeled = {f"Frame{i}: ": Image.fromarray(f) for i, f in enumerate(next(videos).frames, start=1)}
                else:
                    content.append(part)
                    continue
                content += [{"type": "image", "label": label} for label in labeled]
                tiled.images += [self._resize(image) for image in labeled.values()]
            tiled.messages.append(message | {"content": content})
        return tiled

    def _resize(self, image: Image.Image) -> Image.Image:
        # The reference uses Pillow's bicubic filter; the processor's own differs by up to 2 of 255 levels.
        size = self.processor.image_processor.size
        return image.resize((size["width"], size["height"]), Image.Resampling.BICUBIC)

    def _media_inputs(self, conversation: Conversation) -> dict[str, Any]:
        if not conversation.images:
            return {}
        return {"images": conversation.images, "images_kwargs": {"crop_to_patches": False}}

    def _position_ids(self, inputs: BatchFeature) -> torch.Tensor:
        """(B, S): InternVL counts positions through text, images and padding alike."""
        count, length = inputs["input_ids"].shape
        return torch.arange(length, device=inputs["input_ids"].device).expand(count, -1)

    def _prefill_group(self, inputs: BatchFeature, padding: Padding) -> list[HiddenStates]:
        if padding == "padded":
            # Every pad token has its own position and state, so all of them are computed.
            inputs = self._append_pads(inputs, max(0, self.spec.pad_length - inputs["input_ids"].shape[1]))
        output = self.base(
            **inputs, position_ids=self._position_ids(inputs), output_hidden_states=True, use_cache=False
        )
        states, mask = torch.stack(output.hidden_states, dim=1), inputs["attention_mask"].bool()
        return list(map(HiddenStates, states.split(1), mask.split(1)))
