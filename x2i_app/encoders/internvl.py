"""InternVL 2.5: text, images, and video as a row of frames."""

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
from x2i_app.encoders.internvl_checkpoint import HEAD_KEY, load_model, load_processor, read_config
from x2i_app.encoders.native import NativeEncoder
from x2i_app.specs import Padding

# What the template `internvl2_5` of the public release tells every InternVL 2.5 about itself.
SYSTEM_PROMPT = (
    "你是书生·万象，英文名是InternVL，是由上海人工智能实验室、清华大学及多家合作单位联合开发的多模态大语言模型。"
)

# ChatML with that system turn. An image takes a line of its own, with a label in front where there are several.
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

    Every image and every frame is one tile (448 px, 256 tokens), as X2I shows them; larger images are not cut up.
    """

    family = "internvl2.5"
    base_class = InternVLModel
    answering_class = InternVLForConditionalGeneration
    processor_class = InternVLProcessor
    # OpenGVLab's name, and the name that a saved pipeline has.
    head_keys = (HEAD_KEY, "lm_head.weight")
    # It stops at the end of its turn, whatever the file of the Qwen2 that it grew from says.
    generation_fields = tuple(name for name in NativeEncoder.generation_fields if not name.endswith("_token_id"))

    _read_config = staticmethod(read_config)
    _load_model = staticmethod(load_model)

    @classmethod
    def _load_processor(cls, directory: Path, config: InternVLConfig) -> InternVLProcessor:
        return load_processor(directory, config, CHAT_TEMPLATE)

    def _tokenize(self, conversation: Conversation) -> BatchFeature:
        return super()._tokenize(self._lay_out(conversation))

    def _lay_out(self, conversation: Conversation) -> Conversation:
        """The same conversation with films as rows of frames, and every picture a labelled tile.

        Labels are InternVL's own: "Image-1: " counts through the whole conversation where it has several images,
        "Frame1: " through a film.
        """
        images, videos = iter(conversation.images), iter(conversation.videos)
        laid_out = Conversation()
        shown = 0
        for message in conversation.messages:
            content = []
            for part in message["content"]:
                if part["type"] == "image":
                    shown += 1
                    labelled = {f"Image-{shown}: " if len(conversation.images) > 1 else "": next(images)}
                elif part["type"] == "video":
                    labelled = {f"Frame{i}: ": Image.fromarray(f) for i, f in enumerate(next(videos).frames, start=1)}
                else:
                    content.append(part)
                    continue
                content += [{"type": "image", "label": label} for label in labelled]
                laid_out.images += [self._tile(tile) for tile in labelled.values()]
            laid_out.messages.append(message | {"content": content})
        return laid_out

    def _tile(self, image: Image.Image) -> Image.Image:
        # Pillow's bicubic filter is the reference's; the processor's own differs by up to two levels of 255.
        size = self.processor.image_processor.size
        return image.resize((size["width"], size["height"]), Image.Resampling.BICUBIC)

    def _media_inputs(self, conversation: Conversation) -> dict[str, Any]:
        if not conversation.images:
            return {}
        return {"images": conversation.images, "images_kwargs": {"crop_to_patches": False}}

    def _position_ids(self, inputs: BatchFeature) -> torch.Tensor:
        """(B, S): InternVL counts on through images and padding alike."""
        count, length = inputs["input_ids"].shape
        return torch.arange(length, device=inputs["input_ids"].device).expand(count, -1)

    def _prefill_group(self, inputs: BatchFeature, padding: Padding) -> list[HiddenStates]:
        if padding == "padded":
            # Each pad row has a position of its own and differs from the others, so all are computed.
            inputs = self._append_pads(inputs, max(0, self.spec.pad_length - inputs["input_ids"].shape[1]))
        output = self.base(
            **inputs, position_ids=self._position_ids(inputs), output_hidden_states=True, use_cache=False
        )
        states, mask = torch.stack(output.hidden_states, dim=1), inputs["attention_mask"].bool()
        return list(map(HiddenStates, states.split(1), mask.split(1)))
