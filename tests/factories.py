"""Tiny models in the real on-disk formats of the released ones: real classes, real processors, trained tokenizers."""

from pathlib import Path

import torch
from diffusers import FluxControlNetModel, FluxTransformer2DModel
from transformers import (
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLProcessor,
    Qwen2_5OmniConfig,
    Qwen2_5OmniForConditionalGeneration,
    Qwen2_5OmniThinkerForConditionalGeneration,
    Qwen2VLImageProcessor,
    Qwen2VLVideoProcessor,
)

from x2i_app.miniature import models

SENTENCES = [
    "a red house and a green tree on snow at night",
    "ein rotes Haus und ein grüner Baum im Schnee bei Nacht",
    "雪地上的红房子和绿树，夜晚",
    "une maison rouge et un arbre vert sur la neige, la nuit",
    "夜の雪の上の赤い家と緑の木",
    "ngôi nhà đỏ và cây xanh trên tuyết vào ban đêm",
]

VL_TOKENS = {
    "image_token": "<|image_pad|>",
    "video_token": "<|video_pad|>",
    "vision_bos_token": "<|vision_start|>",
    "vision_eos_token": "<|vision_end|>",
}

# As the released Qwen2.5-VL's file has one, of 1.05: part of how the family answers.
REPETITION_PENALTY = 1.3

VL_CHAT_TEMPLATE = (
    models.CHAT_TEMPLATE.replace("<|vision_bos|>", "<|vision_start|>")
    .replace("<|vision_eos|>", "<|vision_end|>")
    .replace("<|IMAGE|>", "<|image_pad|>")
    .replace("<|VIDEO|>", "<|video_pad|>")
)


# What Omni speaks with: present in its repository, never loaded here.
TALKER_CONFIG = {
    "hidden_size": 32,
    "embedding_size": models.HIDDEN_SIZE,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 64,
    "head_dim": 8,
    "rope_parameters": {"rope_type": "default", "rope_theta": 10_000.0, "mrope_section": [1, 1, 2]},
}
TOKEN2WAV_CONFIG = {
    "dit_config": {
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "head_dim": 8,
        "ff_mult": 1,
        "emb_dim": 8,
        "enc_emb_dim": 8,
        "enc_channels": [8, 8, 8, 8, 8],
        "enc_attention_channels": 8,
        "enc_se_channels": 8,
        "enc_dim": 8,
        "num_embeds": 16,
        "mel_dim": 8,
    },
    "bigvgan_config": {"mel_dim": 8, "upsample_initial_channel": 64},
}


def text_config(tokenizer, **changes) -> dict:
    return {
        "vocab_size": len(tokenizer),
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 2048,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10_000.0, "mrope_section": [1, 1, 2]},
        "bos_token_id": tokenizer.pad_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        "eos_token_id": tokenizer.eos_token_id,
    } | changes


def vision_config(width: int = 32) -> dict:
    return {
        "depth": 2,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_heads": 2,
        "patch_size": 14,
        "window_size": 56,
        "fullatt_block_indexes": [1],
        "out_hidden_size": width,
    }


def save_qwen_vl(directory: Path, *, tied: bool = False, seed: int = 0, **text_changes) -> Path:
    """A tiny Qwen2.5-VL with its processor, as on the hub."""
    torch.manual_seed(seed)
    tokenizer = models.train_tokenizer(SENTENCES * 20, 400, **VL_TOKENS)
    ids = tokenizer.convert_tokens_to_ids
    config = Qwen2_5_VLConfig(
        text_config=text_config(tokenizer, **text_changes),
        vision_config=vision_config(text_changes.get("hidden_size", 32)),
        image_token_id=ids("<|image_pad|>"),
        video_token_id=ids("<|video_pad|>"),
        vision_start_token_id=ids("<|vision_start|>"),
        vision_end_token_id=ids("<|vision_end|>"),
        tie_word_embeddings=tied,
    )
    model = Qwen2_5_VLForConditionalGeneration(config)
    # Initial weights are so small that every token would look the same.
    randomize(model)
    model.generation_config.repetition_penalty = REPETITION_PENALTY
    model.save_pretrained(directory)
    Qwen2_5_VLProcessor(
        image_processor=Qwen2VLImageProcessor(),
        video_processor=Qwen2VLVideoProcessor(),
        tokenizer=tokenizer,
        chat_template=VL_CHAT_TEMPLATE,
    ).save_pretrained(directory)
    return directory


def save_qwen_omni(directory: Path, *, tied: bool = True, seed: int = 0) -> Path:
    """A tiny Qwen2.5-Omni as on the hub: thinker, talker and token2wav in one repository."""
    torch.manual_seed(seed)
    tokenizer = models.train_tokenizer(SENTENCES * 20, 400, **models.MEDIA_TOKENS)
    config = models.build_mllm(tokenizer).config
    config.tie_word_embeddings = config.text_config.tie_word_embeddings = tied
    thinker = Qwen2_5OmniThinkerForConditionalGeneration(config)
    randomize(thinker)
    model = Qwen2_5OmniForConditionalGeneration(
        Qwen2_5OmniConfig(
            thinker_config=config.to_dict(), talker_config=TALKER_CONFIG, token2wav_config=TOKEN2WAV_CONFIG
        )
    )
    model.thinker = thinker
    model.generation_config.repetition_penalty = REPETITION_PENALTY
    model.save_pretrained(directory)
    models.build_processor(tokenizer).save_pretrained(directory)
    return directory


def randomize(model: torch.nn.Module) -> None:
    """Weights that keep the scale of what flows through, and make every token's state its own."""
    for parameter in model.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=parameter[0].numel() ** -0.5)


def save_controlnet(transformer: FluxTransformer2DModel, folder: Path, **sizes: int) -> Path:
    """A ControlNet with random weights: those of a new one have no effect."""
    config = transformer.config
    controlnet = FluxControlNetModel.from_transformer(
        transformer,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=config.attention_head_dim,
        num_attention_heads=config.num_attention_heads,
        load_weights_from_transformer=not sizes,
    )
    if sizes:
        given = {name: value for name, value in controlnet.config.items() if name[0] != "_"}
        controlnet = FluxControlNetModel.from_config(given | sizes)
    for module in (controlnet.controlnet_x_embedder, *controlnet.controlnet_blocks):
        torch.nn.init.normal_(module.weight, std=0.05, generator=torch.Generator().manual_seed(1))
    controlnet.save_pretrained(folder)
    return folder


def byte_level_vocabulary(texts: list[str]) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """A byte-level vocabulary in GPT-2's printable alphabet, and the merges that make each of `texts` one token."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters = {byte: chr(byte) for byte in printable}
    letters |= {byte: chr(256 + i) for i, byte in enumerate(b for b in range(256) if b not in letters)}
    tokens = {letters[byte]: byte for byte in range(256)}
    merges = []
    for text in texts:
        parts = [letters[byte] for byte in text.encode("utf-8")]
        for i in range(1, len(parts)):
            pair = "".join(parts[:i]), parts[i]
            if "".join(pair) not in tokens:
                tokens["".join(pair)] = len(tokens)
                merges.append(pair)
    return tokens, merges
