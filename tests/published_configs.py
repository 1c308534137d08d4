"""Configurations of released models, as their publishers state them."""

from transformers import Qwen2_5_VLConfig, Qwen2_5OmniThinkerConfig

_VISION = {
    "depth": 32,
    "hidden_size": 1280,
    "intermediate_size": 3420,
    "num_heads": 16,
    "window_size": 112,
    "fullatt_block_indexes": [7, 15, 23, 31],
}
_TEXT = {
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


def qwen_vl_config(size: str) -> Qwen2_5_VLConfig:
    """Qwen2.5-VL-Instruct "3b", whose head is its embedding, or "7b", whose head is its own."""
    text = _TEXT[size]
    vision = _VISION | {"out_hidden_size": text["hidden_size"]}
    return Qwen2_5_VLConfig(text_config=text, vision_config=vision, tie_word_embeddings=size == "3b")


def qwen_omni_config(size: str) -> Qwen2_5OmniThinkerConfig:
    """The thinker of Qwen2.5-Omni "3b" or "7b"; both have a head of their own."""
    text = _TEXT[size] | {"tie_word_embeddings": False}
    return Qwen2_5OmniThinkerConfig(
        text_config=text,
        vision_config=_VISION | {"out_hidden_size": text["hidden_size"]},
        audio_config={"output_dim": text["hidden_size"]},
        tie_word_embeddings=False,
    )
