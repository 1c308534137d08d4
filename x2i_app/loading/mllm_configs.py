"""Configurations of the released models, as published, so that a memory plan needs no download."""

from collections.abc import Callable
from typing import Any

from transformers import InternVLConfig, PreTrainedConfig, Qwen2_5_VLConfig, Qwen2_5OmniThinkerConfig

from x2i_app.encoders.minicpm_o.configuration import MiniCPMOConfig
from x2i_app.errors import CheckpointError
from x2i_app.specs import MLLMSpec

# Every FLUX.1 model has this VAE. The transformer has diffusers' default sizes; only dev has guidance embeddings.
FLUX_VAE = {
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "block_out_channels": (128, 256, 512, 512),
    "layers_per_block": 2,
    "latent_channels": 16,
    "sample_size": 1024,
    "use_quant_conv": False,
    "use_post_quant_conv": False,
}

_QWEN_VISION = {
    "depth": 32,
    "hidden_size": 1280,
    "intermediate_size": 3420,
    "num_heads": 16,
    "window_size": 112,
    "fullatt_block_indexes": [7, 15, 23, 31],
}
# Qwen2.5 by size; the other families are built on it, with vocabularies of their own.
_QWEN_TEXT = {
    "0.5b": {
        "vocab_size": 151_936,
        "hidden_size": 896,
        "intermediate_size": 4864,
        "num_hidden_layers": 24,
        "num_attention_heads": 14,
        "num_key_value_heads": 2,
    },
    "3b": {
        "vocab_size": 151_936,
        "hidden_size": 2048,
        "intermediate_size": 11_008,
        "num_hidden_layers": 36,
        "num_attention_heads": 16,
        "num_key_value_heads": 2,
    },
    "7b": {
        "vocab_size": 152_064,
        "hidden_size": 3584,
        "intermediate_size": 18_944,
        "num_hidden_layers": 28,
        "num_attention_heads": 28,
        "num_key_value_heads": 4,
    },
}
_INTERN_VIT_300M = {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "image_size": 448,
    "patch_size": 14,
    "norm_type": "layer_norm",
    "attention_bias": True,
    "use_qk_norm": False,
}
_WHISPER_MEDIUM = {"d_model": 1024, "encoder_layers": 24, "encoder_attention_heads": 16, "encoder_ffn_dim": 4096}


def qwen_vl_config(size: str) -> Qwen2_5_VLConfig:
    """Qwen2.5-VL-Instruct "3b", whose head shares the embedding's weight, or "7b", which has its own head."""
    text = _QWEN_TEXT[size]
    vision = _QWEN_VISION | {"out_hidden_size": text["hidden_size"]}
    return Qwen2_5_VLConfig(text_config=text, vision_config=vision, tie_word_embeddings=size == "3b")


def qwen_omni_config(size: str) -> Qwen2_5OmniThinkerConfig:
    """The thinker of Qwen2.5-Omni "3b" or "7b"; both have their own head."""
    text = _QWEN_TEXT[size] | {"tie_word_embeddings": False}
    return Qwen2_5OmniThinkerConfig(
        text_config=text,
        vision_config=_QWEN_VISION | {"out_hidden_size": text["hidden_size"]},
        audio_config={"output_dim": text["hidden_size"]},
        tie_word_embeddings=False,
    )


def internvl_config(size: str) -> InternVLConfig:
    """InternVL2.5 "1b", on Qwen2.5-0.5B, or "4b", on Qwen2.5-3B; both have their own head."""
    text = _QWEN_TEXT[{"1b": "0.5b", "4b": "3b"}[size]] | {"vocab_size": 151_674, "model_type": "qwen2"}
    return InternVLConfig(vision_config=_INTERN_VIT_300M, text_config=text, tie_word_embeddings=False)


def minicpm_o_config() -> MiniCPMOConfig:
    """MiniCPM-o 2.6 without its speech output."""
    return MiniCPMOConfig(**_QWEN_TEXT["7b"] | {"vocab_size": 151_700}, audio_config=_WHISPER_MEDIUM)


_BY_REPOSITORY: dict[str, tuple[Callable[..., PreTrainedConfig], tuple[Any, ...]]] = {
    "Qwen/Qwen2.5-VL-3B-Instruct": (qwen_vl_config, ("3b",)),
    "Qwen/Qwen2.5-VL-7B-Instruct": (qwen_vl_config, ("7b",)),
    "Qwen/Qwen2.5-Omni-3B": (qwen_omni_config, ("3b",)),
    "Qwen/Qwen2.5-Omni-7B": (qwen_omni_config, ("7b",)),
    "OpenGVLab/InternVL2_5-1B": (internvl_config, ("1b",)),
    "OpenGVLab/InternVL2_5-4B": (internvl_config, ("4b",)),
    "openbmb/MiniCPM-o-2_6": (minicpm_o_config, ()),
}


def released_config(mllm: MLLMSpec) -> PreTrainedConfig:
    """The configuration of a preset's MLLM. Raises CheckpointError for one that is not a released model."""
    if mllm.repo_id not in _BY_REPOSITORY:
        raise CheckpointError(f"The sizes of {mllm.repo_id} are not known; give its folder as `mllm`.")
    build, arguments = _BY_REPOSITORY[mllm.repo_id]
    return build(*arguments)
