"""Tiny MiniCPM-o 2.6 checkpoints as openbmb publishes the large one.

Nothing of the app is used and all numbers come from NumPy's frozen RandomState, so that another program, on another
version of torch, reads the very same model; see test_minicpm_o_reference.py.
"""

import math
import zlib
from pathlib import Path

import numpy as np
from encoders.checkpoint_files import save_shards, write_json
from factories import byte_level_vocabulary

HIDDEN, LAYERS = 256, 2  # two heads in the resampler
QUERIES = 8
TEXT = {"hidden_size": HIDDEN, "intermediate_size": 64, "num_hidden_layers": LAYERS, "heads": 4, "kv": 2}
VISION = {"hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 3, "num_attention_heads": 2}
AUDIO = {"d_model": 16, "encoder_layers": 2, "encoder_attention_heads": 2, "encoder_ffn_dim": 64}

# As published.
REAL_TEXT = {"hidden_size": 3584, "intermediate_size": 18_944, "num_hidden_layers": 28, "heads": 28, "kv": 4}
REAL_VISION = {"hidden_size": 1152, "intermediate_size": 4304, "num_hidden_layers": 27, "num_attention_heads": 16}
REAL_AUDIO = {"d_model": 1024, "encoder_layers": 24, "encoder_attention_heads": 16, "encoder_ffn_dim": 4096}

QWEN_TOKENS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
_PAIRED = ("image", "ref", "box", "quad", "point", "slice", "image_id")
_SPOKEN = ("audio_start", "audio", "audio_end", "spk_bos", "spk", "spk_eos", "tts_bos", "tts_eos")
MINICPM_TOKENS = ["<unk>", *(f"<{slash}{name}>" for name in _PAIRED for slash in ("", "/"))]
ADDED = [*QWEN_TOKENS, *MINICPM_TOKENS, *(f"<|{name}|>" for name in _SPOKEN)]

CHAT_TEMPLATE = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n' }}{% endif %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
# What the merges are made from, one word at a time: no training, so nothing can vary.
_MERGED = ["system", "You", " are", " a", " helpful", " assistant", "user", "assistant"]
_MERGED += [" red", " house", " night", "make", " it", "雪", "夜"]
# Qwen2's rule for splitting text into words.
_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def save_minicpm_o(directory: Path, *, seed: int = 0, shards: int = 2, **config_changes) -> Path:
    """A tiny MiniCPM-o 2.6 in openbmb's format. config_changes: at the top level of config.json."""
    directory.mkdir(parents=True, exist_ok=True)
    save_tokenizer(directory)
    save_preprocessor(directory)
    rows = len(byte_level_vocabulary(_MERGED)[0]) + len(ADDED)
    config = config_of(TEXT, VISION, AUDIO, rows, query_num=QUERIES) | config_changes
    write_json(directory / "config.json", config)
    weights = {key: random_weight(key, shape, seed) for key, shape in sorted(shapes_of(config).items())}
    save_shards(weights, directory, shards)
    return directory


def config_of(text: dict, vision: dict, audio: dict, rows: int, **changes) -> dict:
    """config.json with the fields of the published one, those included that only its own code reads."""
    return {
        "_name_or_path": "openbmb/MiniCPM-o-2_6",
        "architectures": ["MiniCPMO"],
        "attention_dropout": 0.0,
        "audio_chunk_length": 1.0,
        "audio_config": {
            "architectures": ["MiniCPMWhisperEncoder"],
            "decoder_layers": 2,
            "max_source_positions": 1500,
            "model_type": "whisper",
            "num_mel_bins": 80,
            "torch_dtype": "float32",
            **audio,
        },
        "audio_pool_step": 2,
        "auto_map": {
            "AutoConfig": "configuration_minicpm.MiniCPMOConfig",
            "AutoModel": "modeling_minicpmo.MiniCPMO",
            "AutoModelForCausalLM": "modeling_minicpmo.MiniCPMO",
        },
        "batch_vision_input": True,
        "bos_token_id": rows - len(ADDED),
        "chunk_input": True,
        "drop_vision_last_layer": True,
        "eos_token_id": rows - len(ADDED) + 2,
        "hidden_act": "silu",
        "hidden_size": text["hidden_size"],
        "image_size": 448,
        "initializer_range": 0.02,
        "intermediate_size": text["intermediate_size"],
        "listen_speak_type": "asr",
        "max_position_embeddings": 32768,
        "max_window_layers": text["num_hidden_layers"],
        "model_type": "minicpmo",
        "num_attention_heads": text["heads"],
        "num_hidden_layers": text["num_hidden_layers"],
        "num_key_value_heads": text["kv"],
        "patch_size": 14,
        "query_num": 64,
        "rms_norm_eps": 1e-06,
        "rope_theta": 1000000.0,
        "slice_config": {"max_slice_nums": 9, "model_type": "minicpmv"},
        "slice_mode": True,
        "sliding_window": 131072,
        "tie_word_embeddings": False,
        "torch_dtype": "float32",
        "transformers_version": "4.44.2",
        "tts_config": {"llm_dim": text["hidden_size"], "model_type": "conditional_chattts"},
        "use_cache": True,
        "use_image_id": True,
        "use_sliding_window": False,
        "version": "2.6",
        "vision_batch_size": 16,
        "vision_config": {"image_size": 980, "model_type": "siglip_vision_model", "patch_size": 14, **vision},
        "vocab_size": rows,
        **changes,
    }


def shapes_of(config: dict) -> dict[str, tuple[int, ...]]:
    """Key and shape of every weight, two of speech output among them."""
    w, n, rows = config["hidden_size"], config["intermediate_size"], config["vocab_size"]
    kv = w // config["num_attention_heads"] * config["num_key_value_heads"]
    vision, audio = config["vision_config"], config["audio_config"]
    v, a = vision["hidden_size"], audio["d_model"]
    patch, mels = vision["patch_size"], audio["num_mel_bins"]
    shapes = {f"llm.{name}.weight": (rows, w) for name in ("model.embed_tokens", "lm_head")}
    for i in range(config["num_hidden_layers"]):
        layer = f"llm.model.layers.{i}."
        for name, out in (("q_proj", w), ("k_proj", kv), ("v_proj", kv)):
            shapes |= _linear(f"{layer}self_attn.{name}", out, w)
        shapes |= _linear(f"{layer}self_attn.o_proj", w, w, bias=False)
        for name, out, into in (("gate_proj", n, w), ("up_proj", n, w), ("down_proj", w, n)):
            shapes |= _linear(f"{layer}mlp.{name}", out, into, bias=False)
        shapes |= {f"{layer}{name}.weight": (w,) for name in ("input_layernorm", "post_attention_layernorm")}
    shapes["llm.model.norm.weight"] = (w,)
    shapes |= {
        "vpm.embeddings.patch_embedding.weight": (v, 3, patch, patch),
        "vpm.embeddings.patch_embedding.bias": (v,),
        "vpm.embeddings.position_embedding.weight": ((vision["image_size"] // patch) ** 2, v),
    }
    for i in range(vision["num_hidden_layers"] - config["drop_vision_last_layer"]):
        layer = f"vpm.encoder.layers.{i}."
        for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
            shapes |= _linear(f"{layer}self_attn.{name}", v, v)
        shapes |= _linear(f"{layer}mlp.fc1", vision["intermediate_size"], v)
        shapes |= _linear(f"{layer}mlp.fc2", v, vision["intermediate_size"])
        shapes |= _norm(f"{layer}layer_norm1", v) | _norm(f"{layer}layer_norm2", v)
    shapes |= _norm("vpm.post_layernorm", v)
    shapes |= {"resampler.query": (config["query_num"], w), "resampler.proj": (w, w)}
    shapes |= _linear("resampler.kv_proj", w, v, bias=False) | _linear("resampler.attn.out_proj", w, w)
    shapes |= {"resampler.attn.in_proj_weight": (3 * w, w), "resampler.attn.in_proj_bias": (3 * w,)}
    for name in ("ln_q", "ln_kv", "ln_post"):
        shapes |= _norm(f"resampler.{name}", w)
    shapes |= {"apm.conv1.weight": (a, mels, 3), "apm.conv1.bias": (a,)}
    shapes |= {"apm.conv2.weight": (a, a, 3), "apm.conv2.bias": (a,)}
    shapes["apm.embed_positions.weight"] = (audio["max_source_positions"], a)
    for i in range(audio["encoder_layers"]):
        layer = f"apm.layers.{i}."
        for name in ("q_proj", "v_proj", "out_proj"):
            shapes |= _linear(f"{layer}self_attn.{name}", a, a)
        shapes |= _linear(f"{layer}self_attn.k_proj", a, a, bias=False)
        shapes |= _linear(f"{layer}fc1", audio["encoder_ffn_dim"], a)
        shapes |= _linear(f"{layer}fc2", a, audio["encoder_ffn_dim"])
        shapes |= _norm(f"{layer}self_attn_layer_norm", a) | _norm(f"{layer}final_layer_norm", a)
    shapes |= _norm("apm.layer_norm", a)
    shapes |= _linear("audio_projection_layer.linear1", w, a) | _linear("audio_projection_layer.linear2", w, w)
    return shapes | {"tts.projector.linear1.weight": (12, w), "tts.dvae.coef": (1, 100, 1)}


def _linear(name: str, out: int, into: int, bias: bool = True) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (out, into)} | ({f"{name}.bias": (out,)} if bias else {})


def _norm(name: str, width: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def random_weight(key: str, shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    """A weight that keeps the scale of what flows through; no two norms or biases are alike."""
    noise = np.random.RandomState(zlib.crc32(key.encode()) ^ seed).standard_normal(shape)
    if key.endswith(("embed_tokens.weight", "position_embedding.weight", "embed_positions.weight", ".query")):
        value = noise
    elif len(shape) > 1:
        value = noise / math.sqrt(math.prod(shape[1:]))
    else:
        value = 0.1 * noise + (0 if key.endswith("bias") else 1)
    return value.astype(np.float32)


def save_tokenizer(directory: Path) -> None:
    """Qwen2's tokenizer files, with MiniCPM-o's tokens at the end of the vocabulary."""
    vocab, merges = byte_level_vocabulary(_MERGED)
    added = {token: len(vocab) + i for i, token in enumerate(ADDED)}
    flags = {"lstrip": False, "normalized": False, "rstrip": False, "single_word": False}
    named = {
        "additional_special_tokens": ADDED[1:],
        "bos_token": "<|im_start|>",
        "eos_token": "<|im_end|>",
        "pad_token": "<|endoftext|>",
        "unk_token": "<unk>",
    }
    config = {
        "add_prefix_space": False,
        "added_tokens_decoder": {str(i): {"content": token, "special": True} | flags for token, i in added.items()},
        "auto_map": {"AutoTokenizer": ["tokenization_minicpmo_fast.MiniCPMOTokenizerFast", None]},
        "chat_template": CHAT_TEMPLATE,
        "clean_up_tokenization_spaces": False,
        "errors": "replace",
        "model_max_length": 131072,
        "split_special_tokens": False,
        "tokenizer_class": "MiniCPMOTokenizer",
    }
    bytes_only = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}
    split = {"type": "Split", "pattern": {"Regex": _SPLIT}, "behavior": "Isolated", "invert": False}
    backend = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": i, "content": token, "special": True} | flags for token, i in added.items()],
        "normalizer": {"type": "NFC"},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, bytes_only]},
        "post_processor": bytes_only,
        "decoder": bytes_only,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": "",
            "end_of_word_suffix": "",
            "fuse_unk": False,
            "byte_fallback": False,
            "vocab": vocab,
            "merges": [" ".join(pair) for pair in merges],
        },
    }
    merge_rows = ["#version: 0.2", *(" ".join(pair) for pair in merges)]
    (directory / "merges.txt").write_text("\n".join(merge_rows) + "\n", encoding="utf-8")
    write_json(directory / "vocab.json", vocab)
    write_json(directory / "added_tokens.json", added)
    write_json(directory / "special_tokens_map.json", named)
    write_json(directory / "tokenizer.json", backend)
    write_json(directory / "tokenizer_config.json", config | named)


def save_preprocessor(directory: Path) -> None:
    config = {
        "auto_map": {
            "AutoImageProcessor": "image_processing_minicpmv.MiniCPMVImageProcessor",
            "AutoProcessor": "processing_minicpmo.MiniCPMOProcessor",
        },
        "feature_extractor_type": "WhisperFeatureExtractor",
        "image_feature_size": QUERIES,
        "image_processor_type": "MiniCPMVImageProcessor",
        "max_slice_nums": 9,
        "norm_mean": [0.5, 0.5, 0.5],
        "norm_std": [0.5, 0.5, 0.5],
        "patch_size": 14,
        "processor_class": "MiniCPMOProcessor",
        "scale_resolution": 448,
        "slice_mode": True,
        "unk": "<unk>",
        "use_image_id": True,
        "version": 2.6,
    }
    for name, token in (("im", "image"), ("slice", "slice"), ("im_id", "image_id")):
        config |= {f"{name}_start": f"<{token}>", f"{name}_end": f"</{token}>"}
    write_json(directory / "preprocessor_config.json", config)
