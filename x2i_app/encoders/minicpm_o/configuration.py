"""The original config.json of MiniCPM-o 2.6: Qwen2's fields at the top level, vision and audio below."""

from typing import Any

from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig, Qwen2Config, SiglipVisionConfig, WhisperConfig

# Defaults of the original configuration class: SigLIP so400m at 980 px.
_VISION = {
    "hidden_size": 1152,
    "image_size": 980,
    "intermediate_size": 4304,
    "num_attention_heads": 16,
    "num_hidden_layers": 27,
    "patch_size": 14,
}
POOL_STEP = 2  # the original processor inserts placeholders for this step, whatever the file says


@strict
class MiniCPMOConfig(Qwen2Config):
    """Configuration of the language model (the fields of this class), `vision_config` and `audio_config`.

    query_num: tokens per image after the resampler. drop_vision_last_layer: the last vision layer is not built.
    vision_batch_size: largest number of images in one pass of the vision tower.
    audio_chunk_length: seconds; an audio frame attends to its own chunk and earlier ones; 0 or less turns chunks off.
    audio_pool_step: encoded audio frames averaged into one token; only 2 is supported.

    Fields for speech output are kept but unused. Raises ValueError for another pooling step.
    """

    model_type = "minicpmo"

    vision_config: PreTrainedConfig | dict[str, Any] | None = None
    audio_config: PreTrainedConfig | dict[str, Any] | None = None
    query_num: int = 64
    drop_vision_last_layer: bool = True
    vision_batch_size: int = 16
    audio_chunk_length: float | int = 1.0
    audio_pool_step: int = POOL_STEP

    sub_configs_defaults = {"vision_config": SiglipVisionConfig, "audio_config": WhisperConfig}  # noqa: RUF012

    def __post_init__(self, **kwargs):
        if self.audio_pool_step != POOL_STEP:
            raise ValueError(f"audio_pool_step is {self.audio_pool_step}; it must be {POOL_STEP}")
        if not isinstance(self.vision_config, PreTrainedConfig):
            self.vision_config = SiglipVisionConfig(**_VISION | _without_type(self.vision_config))
        if not isinstance(self.audio_config, PreTrainedConfig):
            self.audio_config = WhisperConfig(**_without_type(self.audio_config))
        super().__post_init__(**kwargs)

    @property
    def num_vision_layers(self) -> int:
        """Number of vision layers that are built."""
        return self.vision_config.num_hidden_layers - int(self.drop_vision_last_layer)


def _without_type(values: dict[str, Any] | None) -> dict[str, Any]:
    # The file's model_type is that of a complete SigLIP or Whisper.
    return {key: value for key, value in (values or {}).items() if key != "model_type"}
