"""Tiny InternVL 2.5 checkpoints as OpenGVLab publishes them: their config.json, names of weights and tokenizer files.

Nothing of the app is used, and all numbers come from NumPy's frozen RandomState, so that another program, on another
version of torch, reads the very same model; see test_internvl_reference.py.
"""

import math
from pathlib import Path

import numpy as np
from encoders.checkpoint_files import save_shards, write_json
from factories import byte_level_vocabulary
from safetensors.numpy import save_file

VISION_WIDTH, VISION_LAYERS = 16, 2
WIDTH, LAYERS = 32, 3
TILE, PATCH = 448, 14

TINY = {
    "vision": {"hidden_size": VISION_WIDTH, "intermediate_size": 24, "num_hidden_layers": VISION_LAYERS, "heads": 2},
    "text": {"hidden_size": WIDTH, "intermediate_size": 48, "num_hidden_layers": LAYERS, "heads": 4, "kv": 2},
}
# As published.
_VISION_300M = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "heads": 16}
REAL = {
    "1b": {
        "vision": _VISION_300M,
        "text": {"hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 24, "heads": 14, "kv": 2},
    },
    "4b": {
        "vision": _VISION_300M,
        "text": {"hidden_size": 2048, "intermediate_size": 11_008, "num_hidden_layers": 36, "heads": 16, "kv": 2},
    },
}
REAL_VOCABULARY = 151_674

QWEN_TOKENS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>"]
# Qwen adds these too, but not as special ones.
QWEN_PLAIN_TOKENS = ["<tool_call>", "</tool_call>", "<|file_sep|>"]
INTERNVL_TOKENS = ["<img>", "</img>", "<IMG_CONTEXT>", "<quad>", "</quad>", "<ref>", "</ref>", "<box>", "</box>"]
ADDED = [*QWEN_TOKENS, *QWEN_PLAIN_TOKENS, *INTERNVL_TOKENS]

# What the merges are made from, one character or word at a time: no training, so nothing can vary.
_CHARACTERS = "你是书生万象英文名由上海人工智能实验室清华大学及多家合作单位联开发的模态语言型，、。雪地房子"
_MERGED = [*_CHARACTERS, "red", "house", "night"]


def save_internvl(directory: Path, *, shards: int = 1, tied: bool = False, seed: int = 0, **config_changes) -> Path:
    """A tiny InternVL 2.5 in OpenGVLab's format. config_changes: at the top level of config.json."""
    save_tokenizer(directory)
    rows = len(byte_level_vocabulary(_MERGED)[0]) + len(ADDED)
    write_config(directory, TINY, rows, tied=tied, **config_changes)
    weights = random_weights(shapes_of(TINY, rows), seed)
    if tied:
        del weights["language_model.lm_head.weight"]
    if shards == 1:
        save_file(weights, directory / "model.safetensors", metadata={"format": "pt"})
        return directory
    save_shards(weights, directory, shards)
    return directory


def write_config(directory: Path, sizes: dict, rows: int, *, tied: bool = False, **changes) -> None:
    """config.json with the fields of the published ones, those included that only their own code reads."""
    vision, text = sizes["vision"], sizes["text"]
    config = {
        "_commit_hash": None,
        "architectures": ["InternVLChatModel"],
        "auto_map": {
            "AutoConfig": "configuration_internvl_chat.InternVLChatConfig",
            "AutoModel": "modeling_internvl_chat.InternVLChatModel",
        },
        "downsample_ratio": 0.5,
        "dynamic_image_size": True,
        "force_image_size": TILE,
        "llm_config": {
            "_attn_implementation_autoset": True,
            "architectures": ["Qwen2ForCausalLM"],
            "attention_dropout": 0.0,
            "attn_implementation": "flash_attention_2",
            "bos_token_id": 151643,
            "eos_token_id": 151645,
            "hidden_act": "silu",
            "hidden_size": text["hidden_size"],
            "initializer_range": 0.02,
            "intermediate_size": text["intermediate_size"],
            "max_position_embeddings": 32768,
            "max_window_layers": text["num_hidden_layers"],
            "model_type": "qwen2",
            "num_attention_heads": text["heads"],
            "num_hidden_layers": text["num_hidden_layers"],
            "num_key_value_heads": text["kv"],
            "rms_norm_eps": 1e-06,
            "rope_scaling": None,
            "rope_theta": 1000000.0,
            "sliding_window": 32768,
            "tie_word_embeddings": tied,
            "torch_dtype": "bfloat16",
            "use_cache": True,
            "use_sliding_window": False,
            "vocab_size": rows,
        },
        "max_dynamic_patch": 12,
        "min_dynamic_patch": 1,
        "model_type": "internvl_chat",
        "ps_version": "v2",
        "select_layer": -1,
        "template": "internvl2_5",
        "torch_dtype": "bfloat16",
        "use_backbone_lora": 0,
        "use_llm_lora": 0,
        "use_thumbnail": True,
        "vision_config": {
            "architectures": ["InternVisionModel"],
            "attention_dropout": 0.0,
            "drop_path_rate": 0.0,
            "dropout": 0.0,
            "hidden_act": "gelu",
            "hidden_size": vision["hidden_size"],
            "image_size": TILE,
            "initializer_factor": 1.0,
            "initializer_range": 0.02,
            "intermediate_size": vision["intermediate_size"],
            "layer_norm_eps": 1e-06,
            "model_type": "intern_vit_6b",
            "norm_type": "layer_norm",
            "num_attention_heads": vision["heads"],
            "num_channels": 3,
            "num_hidden_layers": vision["num_hidden_layers"],
            "patch_size": PATCH,
            "qk_normalization": False,
            "qkv_bias": True,
            "torch_dtype": "bfloat16",
            "use_flash_attn": True,
        },
    }
    write_json(directory / "config.json", config | changes)


def shapes_of(sizes: dict, rows: int) -> dict[str, tuple[int, ...]]:
    """Key and shape of every weight, in OpenGVLab's names."""
    vision, text = sizes["vision"], sizes["text"]
    v, m = vision["hidden_size"], vision["intermediate_size"]
    w, n = text["hidden_size"], text["intermediate_size"]
    kv = w // text["heads"] * text["kv"]
    shapes: dict[str, tuple[int, ...]] = {
        "vision_model.embeddings.class_embedding": (1, 1, v),
        "vision_model.embeddings.position_embedding": (1, (TILE // PATCH) ** 2 + 1, v),
        "vision_model.embeddings.patch_embedding.weight": (v, 3, PATCH, PATCH),
        "vision_model.embeddings.patch_embedding.bias": (v,),
    }
    for i in range(vision["num_hidden_layers"]):
        layer = f"vision_model.encoder.layers.{i}."
        shapes |= {f"{layer}{name}": (v,) for name in ("ls1", "ls2")}
        for name, out, into in (("attn.qkv", 3 * v, v), ("attn.proj", v, v), ("mlp.fc1", m, v), ("mlp.fc2", v, m)):
            shapes |= {f"{layer}{name}.weight": (out, into), f"{layer}{name}.bias": (out,)}
        shapes |= {f"{layer}{name}.{part}": (v,) for name in ("norm1", "norm2") for part in ("weight", "bias")}
    shapes["language_model.model.embed_tokens.weight"] = (rows, w)
    for i in range(text["num_hidden_layers"]):
        layer = f"language_model.model.layers.{i}."
        for name, out in (("q_proj", w), ("k_proj", kv), ("v_proj", kv)):
            shapes |= {f"{layer}self_attn.{name}.weight": (out, w), f"{layer}self_attn.{name}.bias": (out,)}
        shapes[f"{layer}self_attn.o_proj.weight"] = (w, w)
        for name, out, into in (("gate_proj", n, w), ("up_proj", n, w), ("down_proj", w, n)):
            shapes[f"{layer}mlp.{name}.weight"] = (out, into)
        shapes |= {f"{layer}{name}.weight": (w,) for name in ("input_layernorm", "post_attention_layernorm")}
    shapes["language_model.model.norm.weight"] = (w,)
    shapes["language_model.lm_head.weight"] = (rows, w)
    shapes |= {"mlp1.0.weight": (4 * v,), "mlp1.0.bias": (4 * v,)}
    for name, into in (("mlp1.1", 4 * v), ("mlp1.3", w)):
        shapes |= {f"{name}.weight": (w, into), f"{name}.bias": (w,)}
    return shapes


def random_weights(shapes: dict[str, tuple[int, ...]], seed: int) -> dict[str, np.ndarray]:
    """Weights that keep the scale of what flows through; no two norms, biases or layer scales are alike."""
    random = np.random.RandomState(seed)
    weights = {}
    for key, shape in shapes.items():
        noise = random.standard_normal(shape)
        if "embed" in key and "patch" not in key:
            value = noise
        elif len(shape) > 1:
            value = noise / math.sqrt(math.prod(shape[1:]))
        else:
            value = 0.1 * noise + (0 if key.endswith("bias") else 1)
        weights[key] = value.astype(np.float32)
    return weights


def save_tokenizer(directory: Path) -> None:
    """Qwen2's tokenizer files with InternVL's nine tokens at the end of the vocabulary."""
    vocab, merges = byte_level_vocabulary(_MERGED)
    added = {token: len(vocab) + i for i, token in enumerate(ADDED)}
    special = [*QWEN_TOKENS[1:], *INTERNVL_TOKENS]
    flags = {"lstrip": False, "normalized": False, "rstrip": False, "single_word": False}
    named = {"additional_special_tokens": special, "eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"}
    config = {
        "add_bos_token": False,
        "add_eos_token": False,
        "add_prefix_space": False,
        "added_tokens_decoder": {
            str(i): {"content": token, "special": token not in QWEN_PLAIN_TOKENS} | flags for token, i in added.items()
        },
        "bos_token": None,
        "chat_template": "{{ 'Qwen2.5 has its own, which InternVL does not use' }}",
        "clean_up_tokenization_spaces": False,
        "errors": "replace",
        "model_max_length": 8192,
        "split_special_tokens": False,
        "tokenizer_class": "Qwen2Tokenizer",
        "unk_token": None,
    }
    write_json(directory / "vocab.json", vocab)
    merge_rows = ["#version: 0.2", *(" ".join(pair) for pair in merges)]
    (directory / "merges.txt").write_text("\n".join(merge_rows) + "\n", encoding="utf-8")
    write_json(directory / "added_tokens.json", added)
    write_json(directory / "special_tokens_map.json", named)
    write_json(directory / "tokenizer_config.json", config | named)
