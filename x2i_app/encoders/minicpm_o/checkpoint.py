"""Loads openbmb's own MiniCPM-o 2.6 checkpoints without running their code; every key and shape must match."""

import json
from pathlib import Path

import torch

from x2i_app.encoders.minicpm_o.configuration import MiniCPMOConfig
from x2i_app.encoders.minicpm_o.modeling import HEAD_KEY, SPEECH_PREFIX, MiniCPMOModel
from x2i_app.encoders.minicpm_o.processing import REQUIRED_TOKENS, MiniCPMOProcessor
from x2i_app.encoders.native import processor_directory
from x2i_app.encoders.weights import LOADING_ERRORS, load_strictly, short_message
from x2i_app.errors import CheckpointError


def read_config(directory: Path) -> MiniCPMOConfig:
    """Read the model's configuration. Raises CheckpointError if the folder has no MiniCPM-o."""
    try:
        model_type = json.loads((directory / "config.json").read_text(encoding="utf-8"))["model_type"]
        if model_type != MiniCPMOConfig.model_type:
            raise CheckpointError(f"{directory.name} contains a model of type {model_type!r}, not minicpm-o.")
        return MiniCPMOConfig.from_pretrained(directory, local_files_only=True)
    except LOADING_ERRORS as error:
        raise CheckpointError(
            f"{directory} has no readable config.json of minicpm-o ({short_message(error)}); "
            "choose a folder with a minicpm-o model."
        ) from error


def load_model(directory: Path, config: MiniCPMOConfig, dtype: torch.dtype | str) -> MiniCPMOModel:
    """Load the model without its head onto the CPU. dtype: "auto" keeps the files' dtype.

    Not loaded: the head, speech output, and the last vision layer if the configuration drops it.
    Raises CheckpointError, naming a key, if the files and the configuration disagree on any weight or shape.
    """
    left_out = (HEAD_KEY, SPEECH_PREFIX)
    if config.drop_vision_last_layer:
        left_out += (f"vpm.encoder.layers.{config.num_vision_layers}.",)
    return load_strictly(MiniCPMOModel, directory, "minicpm-o", config, dtype, left_out)


def load_processor(directory: Path, config: MiniCPMOConfig) -> MiniCPMOProcessor:
    """Load the tokenizer and media processors. Raises CheckpointError if they are incomplete or do not match."""
    try:
        processor = MiniCPMOProcessor.from_pretrained(processor_directory(directory), local_files_only=True)
    except LOADING_ERRORS as error:
        raise CheckpointError(
            f"{directory.name} has no readable tokenizer or preprocessor_config.json ({short_message(error)}); "
            "use the complete model."
        ) from error
    vocabulary = processor.tokenizer.get_vocab()
    missing = [f"token {token}" for token in REQUIRED_TOKENS if token not in vocabulary]
    if not processor.tokenizer.chat_template:
        missing.append("chat template")
    if missing:
        raise CheckpointError(f"The tokenizer of {directory.name} has no {missing[0]}; use the complete model.")
    if (highest := max(vocabulary.values())) >= config.vocab_size:
        raise CheckpointError(
            f"{directory.name} has embeddings for {config.vocab_size} tokens, but its tokenizer has ids up to "
            f"{highest}; use both from the same model."
        )
    image_processor, vision = processor.image_processor, config.vision_config
    for what, got, expected in (
        ("tokens per image", image_processor.image_feature_size, config.query_num),
        ("pixels per patch", image_processor.patch_size, vision.patch_size),
        ("mel bins", processor.feature_extractor.feature_size, config.audio_config.num_mel_bins),
    ):
        if got != expected:
            raise CheckpointError(
                f"The processor of {directory.name} produces {got} {what}; the model expects {expected}, "
                "so use both from the same model."
            )
    return processor
