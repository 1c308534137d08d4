"""Loads OpenGVLab's own InternVL 2.5 checkpoints into transformers' InternVLModel, without running their code.

The config.json (`internvl_chat`), keys and tokenizer files are those of the public release
(github.com/OpenGVLab/InternVL). transformers uses other keys, and separate weights for queries, keys and values of the
vision tower. All keys and shapes are compared before any weight is read.
"""

import json
from pathlib import Path
from typing import Any

import torch
from accelerate import init_empty_weights
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError, safe_open
from transformers import (
    GotOcr2ImageProcessor,
    InternVLConfig,
    InternVLModel,
    InternVLProcessor,
    InternVLVideoProcessor,
    Qwen2Tokenizer,
)

from x2i_app.encoders.weights import refuse_differences
from x2i_app.errors import CheckpointError

# Not part of the base model; read for the first answer.
HEAD_KEY = "language_model.lm_head.weight"

_PAD_TOKEN, _END_OF_TURN = "<|endoftext|>", "<|im_end|>"
# Names of the image tokens in transformers' processor. It also requires a video token, which is unused because frames
# are images here: any token that cannot occur in a text.
_IMAGE_TOKENS = {
    "start_image_token": "<img>",
    "end_image_token": "</img>",
    "context_image_token": "<IMG_CONTEXT>",
    "video_token": _PAD_TOKEN,
}
_TEMPLATE = "internvl2_5"
_TOKENIZER_FILES = (("tokenizer.json",), ("vocab.json", "merges.txt"))

# Mean and standard deviation of ImageNet's colors, with which the vision tower was trained.
_MEAN, _STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]

# transformers' name, OpenGVLab's name, and the default in OpenGVLab's code.
_VISION_FIELDS = (
    ("hidden_size", "hidden_size", 3200),
    ("intermediate_size", "intermediate_size", 12_800),
    ("num_hidden_layers", "num_hidden_layers", 48),
    ("num_attention_heads", "num_attention_heads", 25),
    ("num_channels", "num_channels", 3),
    ("patch_size", "patch_size", 14),
    ("image_size", "image_size", 224),
    ("hidden_act", "hidden_act", "gelu"),
    ("norm_type", "norm_type", "rms_norm"),
    ("layer_norm_eps", "layer_norm_eps", 1e-6),
    ("attention_bias", "qkv_bias", False),
    ("use_qk_norm", "qk_normalization", True),
)
# Fields of the language model's configuration that define its architecture.
_TEXT_FIELDS = [
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "hidden_act",
    "max_position_embeddings",
    "rms_norm_eps",
    "rope_theta",
    "rope_scaling",
    "use_sliding_window",
    "sliding_window",
    "max_window_layers",
]

# Replacements from transformers' keys to OpenGVLab's keys, applied in this order.
_RENAMES = (
    ("vision_tower.embeddings.cls_token", "vision_model.embeddings.class_embedding"),
    ("vision_tower.embeddings.position_embeddings", "vision_model.embeddings.position_embedding"),
    ("vision_tower.embeddings.patch_embeddings.projection.", "vision_model.embeddings.patch_embedding."),
    ("vision_tower.encoder.layer.", "vision_model.encoder.layers."),
    (".attention.projection_layer.", ".attn.proj."),
    (".attention.", ".attn."),
    (".layernorm_before.", ".norm1."),
    (".layernorm_after.", ".norm2."),
    (".lambda_", ".ls"),
    ("multi_modal_projector.layer_norm.", "mlp1.0."),
    ("multi_modal_projector.linear_1.", "mlp1.1."),
    ("multi_modal_projector.linear_2.", "mlp1.3."),
    ("language_model.", "language_model.model."),
)
_FUSED = (".attn.q_proj.", ".attn.k_proj.", ".attn.v_proj.")


def read_config(directory: Path) -> InternVLConfig:
    """Read the model's configuration. Raises CheckpointError if the folder has no InternVL 2.5 with a Qwen2."""
    try:
        original = json.loads((directory / "config.json").read_text(encoding="utf-8"))
        vision, text = original["vision_config"], original["llm_config"]
        _check_architecture(directory, original)
        tile = original.get("force_image_size") or vision.get("image_size", 224)
        ratio = original.get("downsample_ratio", 0.5)
        config = InternVLConfig(
            vision_config={ours: vision.get(theirs, default) for ours, theirs, default in _VISION_FIELDS},
            text_config={"model_type": "qwen2"} | {key: text[key] for key in _TEXT_FIELDS if key in text},
            downsample_ratio=ratio,
            vision_feature_layer=original.get("select_layer", -1),
            image_seq_length=int((tile // vision.get("patch_size", 14) * ratio) ** 2),
            tie_word_embeddings=text.get("tie_word_embeddings", False),
        )
    except (OSError, ValueError, TypeError, KeyError, AttributeError, StrictDataclassError) as error:
        raise CheckpointError(
            f"{directory} has no readable config.json of internvl2.5 ({type(error).__name__}); "
            "choose a folder with an internvl2.5 model in OpenGVLab's own format."
        ) from error
    config.name_or_path = str(directory)
    return config


def _check_architecture(directory: Path, original: dict[str, Any]) -> None:
    if (model_type := original.get("model_type")) != "internvl_chat":
        raise CheckpointError(f"{directory.name} contains a model of type {model_type!r}, not internvl2.5.")
    language = original["llm_config"]
    architecture = (language.get("architectures") or [language.get("model_type")])[0]
    if architecture not in ("Qwen2ForCausalLM", "qwen2"):
        raise CheckpointError(
            f"The language model of {directory.name} is {architecture!r}; only 'Qwen2ForCausalLM' is supported, "
            "so choose the 1B or 4B."
        )
    # Version 1 of the pixel shuffle transposes the image; other templates use other tokens.
    for key, default, expected in (("ps_version", "v1", "v2"), ("template", _TEMPLATE, _TEMPLATE)):
        if (got := original.get(key, default)) != expected:
            raise CheckpointError(
                f"{key} of {directory.name} is {got!r}; expected {expected!r}, so choose an InternVL 2.5."
            )


def original_key(name: str) -> tuple[str, int | None]:
    """OpenGVLab's key of an InternVLModel weight, and its index among the thirds of a fused weight, else None."""
    for ours, theirs in _RENAMES:
        name = name.replace(ours, theirs)
    for third, fused in enumerate(_FUSED):
        if fused in name:
            return name.replace(fused, ".attn.qkv."), third
    return name, None


def original_shapes(model: InternVLModel) -> dict[str, tuple[int, ...]]:
    """OpenGVLab's key and shape of every weight of `model`, without the head."""
    shapes = {}
    for name, value in model.state_dict().items():
        key, third = original_key(name)
        shapes[key] = tuple(value.shape) if third is None else (3 * value.shape[0], *value.shape[1:])
    return shapes


def load_model(directory: Path, config: InternVLConfig, dtype: torch.dtype | str) -> InternVLModel:
    """Load the model without its head onto the CPU. dtype: "auto" keeps the files' dtype.

    Raises CheckpointError, naming a key, if the files and the configuration disagree on any weight or shape.
    """
    model, found = check_model(directory, config)
    targets: dict[str, list[tuple[str, int | None]]] = {}
    for name in model.state_dict():
        key, third = original_key(name)
        targets.setdefault(key, []).append((name, third))
    state = {}
    for file in sorted({file for file, _ in found.values()}):
        with safe_open(file, framework="pt") as weights:
            for key in targets.keys() & set(weights.keys()):
                tensor = weights.get_tensor(key)
                tensor = tensor if dtype == "auto" else tensor.to(dtype)
                for name, third in targets[key]:
                    # A copy: safetensors refuses to save weights that share memory.
                    state[name] = tensor if third is None else tensor.chunk(3)[third].clone()
    model.load_state_dict(state, assign=True)
    return model


def check_model(
    directory: Path, config: InternVLConfig
) -> tuple[InternVLModel, dict[str, tuple[Path, tuple[int, ...]]]]:
    """The model without weights, and file and shape of every weight, which fit it. Raises CheckpointError."""
    with init_empty_weights():
        model = InternVLModel(config)
    found = _find_weights(directory)
    _check_weights(directory, model, {key: shape for key, (_, shape) in found.items()})
    return model, found


def _find_weights(directory: Path) -> dict[str, tuple[Path, tuple[int, ...]]]:
    """File and shape of every weight in the folder. Raises CheckpointError if there are none, or one twice."""
    found: dict[str, tuple[Path, tuple[int, ...]]] = {}
    for file in sorted(directory.glob("*.safetensors")):
        try:
            with safe_open(file, framework="pt") as weights:
                for key in weights.keys():  # noqa: SIM118 (not a dict)
                    if key in found:
                        raise CheckpointError(
                            f"{directory.name} has {key} in both {found[key][0].name} and {file.name}; delete one."
                        )
                    found[key] = file, tuple(weights.get_slice(key).get_shape())
        except (OSError, SafetensorError) as error:
            raise CheckpointError(f"{file.name} of {directory.name} is damaged; download it again.") from error
    if not found:
        raise CheckpointError(f"{directory.name} has no *.safetensors; use the complete model.")
    return found


def _check_weights(directory: Path, model: InternVLModel, found: dict[str, tuple[int, ...]]) -> None:
    expected = original_shapes(model)
    embedding = model.get_input_embeddings().weight
    refuse_differences(
        directory,
        "internvl2.5",
        missing=expected.keys() - found.keys(),
        unknown=found.keys() - expected.keys() - {HEAD_KEY},
        shapes=[(key, shape, expected.get(key, embedding.shape)) for key, shape in found.items()],
    )


def load_processor(directory: Path, config: InternVLConfig, chat_template: str) -> InternVLProcessor:
    """Build transformers' processor with the folder's tokenizer; sets the token ids of `config`.

    Raises CheckpointError if the tokenizer is missing or damaged, or has more tokens than the model has embeddings.
    """
    tokenizer = _load_tokenizer(directory)
    rows = config.text_config.vocab_size
    if (highest := max(tokenizer.get_vocab().values())) >= rows:
        raise CheckpointError(
            f"{directory.name} has embeddings for {rows} tokens, but its tokenizer has ids up to {highest}; "
            "use both from the same model."
        )
    config.image_token_id = tokenizer.context_image_token_id
    config.text_config.pad_token_id = tokenizer.pad_token_id
    # InternVL ends an answer with the end of a turn, unlike the underlying Qwen2.
    config.text_config.eos_token_id = tokenizer.convert_tokens_to_ids(_END_OF_TURN)
    side = round(config.image_seq_length**0.5 / config.downsample_ratio) * config.vision_config.patch_size[0]
    looks = {"size": {"height": side, "width": side}, "image_mean": _MEAN, "image_std": _STD}
    return InternVLProcessor(
        image_processor=GotOcr2ImageProcessor(**looks),
        video_processor=InternVLVideoProcessor(**looks),
        tokenizer=tokenizer,
        image_seq_length=config.image_seq_length,
        chat_template=chat_template,
    )


def _load_tokenizer(directory: Path) -> Qwen2Tokenizer:
    # Without files, transformers creates an empty tokenizer, and it adds every named token that it does not find.
    is_complete = any(all((directory / name).is_file() for name in names) for names in _TOKENIZER_FILES)
    known = _read_tokenizer(directory).get_vocab() if is_complete else {}
    if missing := sorted({_END_OF_TURN, *_IMAGE_TOKENS.values()} - known.keys()):
        raise CheckpointError(
            f"{directory.name} has no tokenizer with {missing[0]}; use the complete model, with vocab.json, "
            "merges.txt, added_tokens.json and tokenizer_config.json."
        )
    return _read_tokenizer(directory, pad_token=_PAD_TOKEN, extra_special_tokens=_IMAGE_TOKENS)


def _read_tokenizer(directory: Path, **options: Any) -> Qwen2Tokenizer:
    try:
        return Qwen2Tokenizer.from_pretrained(directory, local_files_only=True, **options)
    except Exception as error:  # tokenizers raises a bare Exception for files that it cannot parse
        raise CheckpointError(f"{directory.name} has a damaged tokenizer; download it again.") from error
