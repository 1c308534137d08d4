"""Tiny models of the families without a released AlignNet, as on the hub: real classes, processors and tokenizers."""

import json
from pathlib import Path

import torch
from factories import SENTENCES, VL_TOKENS, randomize
from safetensors.torch import load_file, save_file
from transformers import (
    GotOcr2ImageProcessor,
    InternVLConfig,
    InternVLForConditionalGeneration,
    InternVLProcessor,
    InternVLVideoProcessor,
    Qwen2VLImageProcessor,
    Qwen2VLVideoProcessor,
    Qwen3OmniMoeProcessor,
    Qwen3OmniMoeThinkerConfig,
    Qwen3OmniMoeThinkerForConditionalGeneration,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
    Qwen3VLProcessor,
    Qwen3VLVideoProcessor,
    WhisperFeatureExtractor,
)

from x2i_app.encoders.qwen3 import Qwen3OmniEncoder, Qwen3VLEncoder
from x2i_app.miniature import models

OMNI_TOKENS = VL_TOKENS | {
    "audio_token": "<|audio_pad|>",
    "audio_bos_token": "<|audio_start|>",
    "audio_eos_token": "<|audio_end|>",
}
TILE_TOKENS = {"start_image_token": "<img>", "end_image_token": "</img>", "context_image_token": "<IMG_CONTEXT>"}
_TEXT = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 2048,
    "rope_parameters": {"rope_type": "default", "rope_theta": 10_000.0, "mrope_section": [2, 1, 1]},
}
_VISION = {
    "depth": 3,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_heads": 2,
    "patch_size": 16,
    "out_hidden_size": 32,
    "num_position_embeddings": 64,
    "deepstack_visual_indexes": [0, 1, 2],
}


def _text(tokenizer, **changes) -> dict:
    special = {"pad_token_id": tokenizer.pad_token_id, "eos_token_id": tokenizer.eos_token_id}
    return _TEXT | {"vocab_size": len(tokenizer)} | special | changes


def save_qwen3_vl(directory: Path) -> Path:
    """A tiny Qwen3-VL with a tied head, like the 4B."""
    torch.manual_seed(0)
    tokenizer = models.train_tokenizer(SENTENCES * 20, 400, **VL_TOKENS)
    ids = tokenizer.convert_tokens_to_ids
    config = Qwen3VLConfig(
        text_config=_text(tokenizer, tie_word_embeddings=True),
        vision_config=_VISION,
        image_token_id=ids("<|image_pad|>"),
        video_token_id=ids("<|video_pad|>"),
        vision_start_token_id=ids("<|vision_start|>"),
        vision_end_token_id=ids("<|vision_end|>"),
        tie_word_embeddings=True,
    )
    model = Qwen3VLForConditionalGeneration(config)
    randomize(model)
    model.save_pretrained(directory)
    Qwen3VLProcessor(
        image_processor=Qwen2VLImageProcessor(patch_size=16),
        video_processor=Qwen3VLVideoProcessor(),
        tokenizer=tokenizer,
        chat_template=Qwen3VLEncoder.chat_template,
    ).save_pretrained(directory)
    return directory


def save_qwen3_omni(directory: Path) -> Path:
    """The thinker of a tiny Qwen3-Omni: four experts, of which two read a token."""
    torch.manual_seed(0)
    tokenizer = models.train_tokenizer(SENTENCES * 20, 400, **OMNI_TOKENS)
    ids = tokenizer.convert_tokens_to_ids
    experts = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
    config = Qwen3OmniMoeThinkerConfig(
        text_config=_text(tokenizer, **experts),
        vision_config=_VISION,
        audio_config={
            "num_mel_bins": 80,
            "encoder_layers": 2,
            "encoder_attention_heads": 2,
            "encoder_ffn_dim": 32,
            "d_model": 32,
            "output_dim": 32,
            "downsample_hidden_size": 8,
        },
        image_token_id=ids("<|image_pad|>"),
        video_token_id=ids("<|video_pad|>"),
        vision_start_token_id=ids("<|vision_start|>"),
        audio_token_id=ids("<|audio_pad|>"),
        audio_start_token_id=ids("<|audio_start|>"),
        pad_token_id=tokenizer.pad_token_id,
    )
    model = Qwen3OmniMoeThinkerForConditionalGeneration(config)
    randomize(model)
    model.save_pretrained(directory)
    _put_into_thinker(directory)
    Qwen3OmniMoeProcessor(
        image_processor=Qwen2VLImageProcessor(patch_size=16),
        video_processor=Qwen2VLVideoProcessor(patch_size=16),
        feature_extractor=WhisperFeatureExtractor(feature_size=80),
        tokenizer=tokenizer,
        chat_template=Qwen3OmniEncoder.chat_template,
    ).save_pretrained(directory)
    return directory


def _put_into_thinker(directory: Path) -> None:
    """Names of weights and configuration as in the whole model's repository."""
    weights, config = load_file(directory / "model.safetensors"), json.loads((directory / "config.json").read_text())
    save_file({f"thinker.{name}": value for name, value in weights.items()}, directory / "model.safetensors")
    whole = {"model_type": "qwen3_omni_moe", "thinker_config": config}
    (directory / "config.json").write_text(json.dumps(whole))


def save_internvl3(directory: Path, language: str = "qwen3") -> Path:
    """A tiny InternVL3.5 in the form of transformers; with language "qwen2", an InternVL3."""
    torch.manual_seed(0)
    tokenizer = models.train_tokenizer(SENTENCES * 20, 400, video_token="<video>", **TILE_TOKENS)
    text = _text(tokenizer, model_type=language, rope_parameters={"rope_type": "default", "rope_theta": 10_000.0})
    config = InternVLConfig(
        text_config=text,
        vision_config={
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "image_size": 56,
            "patch_size": 14,
        },
        image_token_id=tokenizer.convert_tokens_to_ids("<IMG_CONTEXT>"),
        image_seq_length=4,
    )
    model = InternVLForConditionalGeneration(config)
    randomize(model)
    model.save_pretrained(directory)
    looks = {"size": {"height": 56, "width": 56}}
    InternVLProcessor(
        image_processor=GotOcr2ImageProcessor(**looks),
        video_processor=InternVLVideoProcessor(**looks),
        tokenizer=tokenizer,
        image_seq_length=4,
    ).save_pretrained(directory)
    return directory
