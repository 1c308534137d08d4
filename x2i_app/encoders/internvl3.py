"""InternVL3 and InternVL3.5 in the form of transformers (the repositories whose names end in -hf)."""

from pathlib import Path

from transformers import InternVLConfig, InternVLProcessor

from x2i_app.encoders.internvl import CHAT_TEMPLATE, InternVLEncoder
from x2i_app.encoders.native import NativeEncoder
from x2i_app.errors import CheckpointError


class InternVL3Encoder(InternVLEncoder):
    """InternVL3 and InternVL3.5 of any size, with a Qwen2.5 or a Qwen3; images and frames as for InternVL 2.5.

    No AlignNet is released for it: `train distill` makes one.
    """

    family = "internvl3"
    model_type = "internvl"
    head_keys = ("lm_head.weight",)

    _load_model = classmethod(NativeEncoder._load_model.__func__)
    check_weights = classmethod(NativeEncoder.check_weights.__func__)

    @classmethod
    def _read_config(cls, directory: Path) -> InternVLConfig:
        config = NativeEncoder._read_config.__func__(cls, directory)
        if config.model_type != "internvl":
            raise CheckpointError(
                f"{directory.name} contains a model of type {config.model_type!r}; for internvl3 choose a folder "
                "whose name ends in -hf, and for OpenGVLab's own format the family internvl2.5."
            )
        return config

    @classmethod
    def _load_processor(cls, directory: Path, config: InternVLConfig) -> InternVLProcessor:
        processor = NativeEncoder._load_processor.__func__(cls, directory, config)
        processor.chat_template = CHAT_TEMPLATE  # whose labels of images and frames the encoder writes
        return processor
