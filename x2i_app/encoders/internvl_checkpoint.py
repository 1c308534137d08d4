"""OpenGVLab's own InternVL 2.5 checkpoints, read into transformers' native InternVLModel without running their code.

Their config.json (`internvl_chat`), their names of weights and their tokenizer files are facts of the public release
(github.com/OpenGVLab/InternVL); transformers names the same weights differently and keeps queries, keys and values of
the vision tower apart. Names are compared before a single weight is read: each must be known, and none may be missing.
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

# Left out of the base model; read when an answer is first asked for.
HEAD_KEY = "language_model.lm_head.weight"

_PAD_TOKEN, _END_OF_TURN = "<|endoftext|>", "<|im_end|>"
# What transformers' processor calls the tokens around an image. It also wants one for films, whose frames are images
# here: any that no text contains.
_IMAGE_TOKENS = {
    "start_image_token": "<img>",
    "end_image_token": "</img>",
    "context_image_token": "<IMG_CONTEXT>",
    "video_token": _PAD_TOKEN,
}
_TEMPLATE = "internvl2_5"
_TOKENIZER_FILES = (("tokenizer.json",), ("vocab.json", "merges.txt"))

# Mean and deviation of ImageNet's colours, to which the vision tower was trained.
_MEAN, _STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]

# transformers' name, OpenGVLab's name, and what the latter's code takes where a configuration does not say.
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
# Of the language model's configuration, what a Qwen2 is built from; the rest is how it was trained and saved.
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

# In transformers' names, from, in OpenGVLab's names, to. Applied in this order.
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
    """transformers' configuration of the model in `directory`. Raises CheckpointError for what is not InternVL 2.5."""
    try:
        stated = json.loads((directory / "config.json").read_text(encoding="utf-8"))
        vision, text = stated["vision_config"], stated["llm_config"]
        _refuse_other_kinds(directory, stated)
        tile = stated.get("force_image_size") or vision.get("image_size", 224)
        ratio = stated.get("downsample_ratio", 0.5)
        config = InternVLConfig(
            vision_config={ours: vision.get(theirs, default) for ours, theirs, default in _VISION_FIELDS},
            text_config={"model_type": "qwen2"} | {key: text[key] for key in _TEXT_FIELDS if key in text},
            downsample_ratio=ratio,
            vision_feature_layer=stated.get("select_layer", -1),
            image_seq_length=int((tile // vision.get("patch_size", 14) * ratio) ** 2),
            tie_word_embeddings=text.get("tie_word_embeddings", False),
        )
    except (OSError, ValueError, TypeError, KeyError, AttributeError, StrictDataclassError) as error:
        raise CheckpointError(
            f"{directory} holds no readable config.json of internvl2.5 ({type(error).__name__}); "
            "give the folder of such a model in OpenGVLab's own format."
        ) from error
    config.name_or_path = str(directory)
    return config


def _refuse_other_kinds(directory: Path, stated: dict[str, Any]) -> None:
    if (kind := stated.get("model_type")) != "internvl_chat":
        raise CheckpointError(f"{directory.name} holds a model of the type {kind!r}, not internvl2.5.")
    language = stated["llm_config"]
    kind = (language.get("architectures") or [language.get("model_type")])[0]
    if kind not in ("Qwen2ForCausalLM", "qwen2"):
        raise CheckpointError(
            f"{directory.name} has a language model of the kind {kind!r}; internvl2.5 is read with "
            "'Qwen2ForCausalLM', so choose the 1B or 4B."
        )
    # Version 1 of the pixel shuffle leaves the picture transposed; other templates go with other tokens.
    for key, default, expected in (("ps_version", "v1", "v2"), ("template", _TEMPLATE, _TEMPLATE)):
        if (got := stated.get(key, default)) != expected:
            raise CheckpointError(
                f"{directory.name} says {key} is {got!r}; expected {expected!r}, so choose an InternVL 2.5."
            )


def original_key(name: str) -> tuple[str, int | None]:
    """OpenGVLab's key of a weight of InternVLModel, and which third of it along the first axis, if not all of it."""
    for ours, theirs in _RENAMES:
        name = name.replace(ours, theirs)
    for third, fused in enumerate(_FUSED):
        if fused in name:
            return name.replace(fused, ".attn.qkv."), third
    return name, None


def original_shapes(model: InternVLModel) -> dict[str, tuple[int, ...]]:
    """OpenGVLab's key and shape of every weight that fills `model`, without the head."""
    shapes = {}
    for name, value in model.state_dict().items():
        key, third = original_key(name)
        shapes[key] = tuple(value.shape) if third is None else (3 * value.shape[0], *value.shape[1:])
    return shapes


def load_model(directory: Path, config: InternVLConfig, dtype: torch.dtype | str) -> InternVLModel:
    """The model without its head, on the CPU. dtype: "auto" keeps the files'.

    Raises CheckpointError, naming a key, if the files and the configuration do not agree on every weight and shape.
    """
    with init_empty_weights():
        model = InternVLModel(config)
    found = _find_weights(directory)
    _check_weights(directory, model, {key: shape for key, (_, shape) in found.items()})
    places: dict[str, list[tuple[str, int | None]]] = {}
    for name in model.state_dict():
        key, third = original_key(name)
        places.setdefault(key, []).append((name, third))
    state = {}
    for file in sorted({file for file, _ in found.values()}):
        with safe_open(file, framework="pt") as weights:
            for key in places.keys() & set(weights.keys()):
                tensor = weights.get_tensor(key)
                tensor = tensor if dtype == "auto" else tensor.to(dtype)
                for name, third in places[key]:
                    # A copy, so that no two weights share memory, which safetensors refuses to save.
                    state[name] = tensor if third is None else tensor.chunk(3)[third].clone()
    model.load_state_dict(state, assign=True)
    return model


def _find_weights(directory: Path) -> dict[str, tuple[Path, tuple[int, ...]]]:
    """File and shape of every weight in the folder."""
    found: dict[str, tuple[Path, tuple[int, ...]]] = {}
    for file in sorted(directory.glob("*.safetensors")):
        try:
            with safe_open(file, framework="pt") as weights:
                for key in weights.keys():  # noqa: SIM118 (not a dict)
                    if key in found:
                        raise CheckpointError(f"{directory.name} has {key} in {found[key][0].name} and {file.name}.")
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
    """transformers' own processor around the folder's tokenizer; tells `config` which tokens stand for what.

    Raises CheckpointError if the tokenizer is not there, or knows more words than the model has embeddings.
    """
    tokenizer = _load_tokenizer(directory)
    rows = config.text_config.vocab_size
    if (highest := max(tokenizer.get_vocab().values())) >= rows:
        raise CheckpointError(
            f"{directory.name} has embeddings for {rows} tokens, but its tokenizer counts up to {highest}; "
            "take both from one model."
        )
    config.image_token_id = tokenizer.context_image_token_id
    config.text_config.pad_token_id = tokenizer.pad_token_id
    # InternVL stops at the end of its turn, whatever the Qwen2 it grew from did.
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
    # transformers makes an empty tokenizer of no files, and adds tokens that it is told of and does not find.
    whole = any(all((directory / name).is_file() for name in names) for names in _TOKENIZER_FILES)
    known = _read_tokenizer(directory).get_vocab() if whole else {}
    if lost := sorted({_END_OF_TURN, *_IMAGE_TOKENS.values()} - known.keys()):
        raise CheckpointError(
            f"{directory.name} has no tokenizer that knows {lost[0]}; use the complete model, with vocab.json, "
            "merges.txt, added_tokens.json and tokenizer_config.json."
        )
    return _read_tokenizer(directory, pad_token=_PAD_TOKEN, extra_special_tokens=_IMAGE_TOKENS)


def _read_tokenizer(directory: Path, **options: Any) -> Qwen2Tokenizer:
    try:
        return Qwen2Tokenizer.from_pretrained(directory, local_files_only=True, **options)
    except Exception as error:  # tokenizers reports what it cannot parse as just that
        raise CheckpointError(f"{directory.name} has a damaged tokenizer; download it again.") from error
